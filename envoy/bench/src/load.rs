//! Requests over connections that stay open, as fast as they are answered.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long one request may take. It ends a run that hangs; nothing is measured by it.
const DEADLINE: Duration = Duration::from_secs(30);

/// A client with some connections.
#[derive(Debug)]
pub(crate) struct Client {
    connections: Vec<Connection>,
}

#[derive(Debug)]
struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    authority: HeaderValue,
}

impl Client {
    /// Connects that often.
    ///
    /// # Errors
    /// When the server refuses.
    pub(crate) async fn connect(to: SocketAddr, connections: usize) -> Result<Self> {
        let authority = HeaderValue::from_str(&to.to_string())?;
        let mut connected = Vec::new();
        for _ in 0..connections {
            let stream = TcpStream::connect(to).await;
            let stream = stream.with_context(|| format!("cannot connect to {to}"))?;
            stream.set_nodelay(true)?;
            let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            // Its error is also the error of the request on it.
            tokio::spawn(async move { drop(connection.await) });
            let authority = authority.clone();
            connected.push(Connection { sender, authority });
        }
        Ok(Self { connections: connected })
    }

    /// Sends one request for each credential, spread over all connections, and returns when all have
    /// been answered with 200.
    ///
    /// # Errors
    /// When one is answered with anything else, or not at all.
    pub(crate) async fn send_all(&mut self, credentials: impl Iterator<Item = HeaderValue>) -> Result<()> {
        let credentials: Arc<[HeaderValue]> = credentials.collect();
        let next = Arc::new(AtomicUsize::new(0));
        let mut sending = JoinSet::new();
        for mut connection in self.connections.drain(..) {
            let (credentials, next) = (Arc::clone(&credentials), Arc::clone(&next));
            sending.spawn(async move {
                while let Some(credential) = credentials.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (status, _) = connection.send("/v1/accounts?limit=10", credential).await?;
                    ensure!(status == StatusCode::OK, "a request was answered with {status}");
                }
                Ok(connection)
            });
        }
        while let Some(sent) = sending.join_next().await {
            let connection = sent.map_err(|_| anyhow!("a connection has panicked"))??;
            self.connections.push(connection);
        }
        Ok(())
    }

    /// Sends one request to this path.
    ///
    /// # Errors
    /// When it is not answered.
    pub(crate) async fn send(&mut self, path: &str, credential: &HeaderValue) -> Result<(StatusCode, HeaderMap)> {
        let connection = self.connections.first_mut().context("there is no connection")?;
        connection.send(path, credential).await
    }
}

impl Connection {
    async fn send(&mut self, target: &str, credential: &HeaderValue) -> Result<(StatusCode, HeaderMap)> {
        let request = Request::get(target)
            .header(header::HOST, &self.authority)
            .header(header::USER_AGENT, "ledger-client/1.4")
            .header(header::ACCEPT, "application/json")
            .header(header::ACCEPT_ENCODING, "gzip")
            .header(header::AUTHORIZATION, credential)
            .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
            .header("x-routing-key", ROUTING_KEY)
            .header("x-redis-key", REDIS_KEY)
            .body(Empty::new())?;
        let exchange = async {
            self.sender.ready().await?;
            let (head, body) = self.sender.send_request(request).await?.into_parts();
            body.collect().await?;
            Ok((head.status, head.headers))
        };
        timeout(DEADLINE, exchange)
            .await
            .with_context(|| format!("no answer within {DEADLINE:?}"))?
    }
}

/// What every request says in `x-routing-key`.
pub(crate) const ROUTING_KEY: &str = "orders.created";

/// What every request says in `x-redis-key`.
pub(crate) const REDIS_KEY: &str = "session:42";
