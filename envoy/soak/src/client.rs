//! A client: one connection that stays open, one request on it at a time.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use envoy_e2e::Message;
use http::{HeaderValue, Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::judge::Got;
use crate::plan::Plan;
use crate::upstream::{MARK, Seen};

/// How long an answer may take: longer than the stream timers of the shipped bootstrap.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// The largest body of an answer.
const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;

/// What came of a request.
#[derive(Debug)]
pub(crate) enum Came {
    /// An answer.
    Answer(Got),
    /// None in [`PATIENCE`].
    Hung,
    /// The connection broke, a new one too.
    Broken(String),
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Client {
    to: SocketAddr,
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl Client {
    /// A client that has not connected yet.
    pub(crate) fn new(to: SocketAddr) -> Self {
        Self { to, connection: None }
    }

    /// Sends a request and waits for the answer. Gives also when it was sent.
    pub(crate) async fn send(&mut self, plan: &Plan) -> (Came, Instant) {
        // Who keeps a connection may find it closed: then nothing was answered on it.
        if let Some(connection) = self.connection.take() {
            let began = Instant::now();
            match self.exchange(connection, plan).await {
                Ok(Ok(got)) => return (Came::Answer(got), began),
                Err(_) => return (Came::Hung, began),
                Ok(Err(_)) => {}
            }
        }
        let began = Instant::now();
        let fresh = async {
            let connection = self.connect().await?;
            self.exchange(connection, plan).await.context("hung")
        };
        match fresh.await {
            Ok(Ok(got)) => (Came::Answer(got), began),
            Ok(Err(error)) => (Came::Broken(format!("{error:#}")), began),
            Err(error) if began.elapsed() >= PATIENCE => (Came::Hung, {
                drop(error);
                began
            }),
            Err(error) => (Came::Broken(format!("{error:#}")), began),
        }
    }

    /// Sends a part of a request, waits a moment and leaves.
    ///
    /// # Errors
    /// When nobody listens.
    pub(crate) async fn leave(&self, plan: &Plan, part: f64, moment: Duration) -> Result<()> {
        let mut message = Message::new(plan.method, plan.target.as_bytes());
        for (name, value) in &plan.lines {
            message = message.line(name.as_bytes(), value.clone());
        }
        message = message.body(plan.body.clone());
        if plan.is_chunked {
            message = message.chunked();
        }
        let bytes = message.bytes();
        let head = bytes
            .windows(4)
            .position(|end| end == b"\r\n\r\n")
            .map_or(bytes.len(), |at| at + 4);
        let rest = (bytes.len() - head) as f64 * part;
        let mut stream = TcpStream::connect(self.to).await?;
        // It may be answered and closed before it is whole.
        let _ = stream.write_all(&bytes[..head + rest as usize]).await;
        tokio::time::sleep(moment).await;
        Ok(())
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>> {
        let stream = TcpStream::connect(self.to).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // It ends with the sender or with the connection, and what breaks it breaks the exchange too.
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn exchange(
        &mut self,
        mut connection: SendRequest<Full<Bytes>>,
        plan: &Plan,
    ) -> Result<Result<Got>, tokio::time::error::Elapsed> {
        let exchange = async {
            let request = request(plan)?;
            connection.ready().await?;
            let (head, body) = connection.send_request(request).await?.into_parts();
            let body = Limited::new(body, MAX_BODY_BYTES).collect().await;
            let body = body
                .map_err(|error| anyhow::anyhow!("the answer broke off: {error}"))?
                .to_bytes();
            if !head.headers.contains_key(MARK) {
                let body: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
                let code = body["code"].as_str().unwrap_or_default().to_owned();
                return Ok(Got::Refused(head.status.as_u16(), code));
            }
            let seen: Seen = serde_json::from_slice(&body).context("the upstream's answer")?;
            let told = head.headers.get_all("x-redis-key").iter();
            Ok(Got::Forwarded(
                Box::new(seen),
                told.map(|value| value.as_bytes().to_vec()).collect(),
            ))
        };
        let got = timeout(PATIENCE, exchange).await;
        if matches!(&got, Ok(Ok(_))) && !connection.is_closed() {
            self.connection = Some(connection);
        }
        got
    }
}

fn request(plan: &Plan) -> Result<Request<Full<Bytes>>> {
    let mut request = Request::builder()
        .method(plan.method)
        .uri(&plan.target)
        .header(header::HOST, "ledger.example.com");
    for (name, value) in &plan.lines {
        request = request.header(name, HeaderValue::from_bytes(value)?);
    }
    if plan.is_chunked && !plan.body.is_empty() {
        request = request.header(header::TRANSFER_ENCODING, "chunked");
    }
    Ok(request.body(Full::from(plan.body.clone()))?)
}
