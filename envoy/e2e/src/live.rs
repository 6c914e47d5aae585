//! Streams that stay open: an upstream that has them, and a client of it.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONNECTION, HeaderValue, UPGRADE};
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::message::Message;

/// How long anything may take that is waited for here.
const SOON: Duration = Duration::from_secs(10);

/// What the upstream says first when it has switched protocols.
pub const GREETING: &[u8] = b"\x81\x05hello";

type Reply = Response<BoxBody<Bytes, Infallible>>;

/// Events that an upstream streams, as they come.
type Events = mpsc::UnboundedReceiver<&'static str>;

/// An upstream that switches protocols and echoes, or streams the events that it is given. It ends when
/// it is dropped.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    seen: watch::Receiver<Vec<hyper::HeaderMap>>,
    task: JoinHandle<()>,
}

impl Upstream {
    /// Starts on a free loopback port. The first request gets the events, if there are any; every other one
    /// switches protocols.
    ///
    /// # Errors
    /// When the system has no port for it.
    pub async fn start(events: Option<Events>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (see, seen) = watch::channel(Vec::new());
        let events = Arc::new(Mutex::new(events));
        let see = Arc::new(see);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (events, see) = (events.clone(), see.clone());
                let answer = service_fn(move |request: Request<Incoming>| {
                    see.send_modify(|all| all.push(request.headers().clone()));
                    let events = events.lock().unwrap_or_else(PoisonError::into_inner).take();
                    async move { answer(request, events) }
                });
                let serving = hyper::server::conn::http1::Builder::new();
                connections.spawn(serving.serve_connection(TokioIo::new(stream), answer).with_upgrades());
            }
        });
        Ok(Self { address, seen, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The headers of all requests so far.
    pub fn seen(&self) -> Vec<hyper::HeaderMap> {
        self.seen.borrow().clone()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn answer(mut request: Request<Incoming>, events: Option<Events>) -> Result<Reply, hyper::http::Error> {
    if let Some(events) = events {
        let events = UnboundedReceiverStream::new(events);
        let frames = events.map(|event| Ok(Frame::data(Bytes::from_static(event.as_bytes()))));
        let reply = Response::builder().header("content-type", "text/event-stream");
        return reply.body(StreamBody::new(frames).boxed());
    }
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let (mut reader, mut writer) = split(TokioIo::new(upgraded.await?));
        writer.write_all(GREETING).await?;
        copy(&mut reader, &mut writer).await?;
        anyhow::Ok(())
    });
    let reply = Response::builder().status(101).header(CONNECTION, "Upgrade");
    reply.header(UPGRADE, "websocket").body(Empty::new().boxed())
}

/// A WebSocket handshake of this tenant, if of any, that nominates a header of the filter's for removal.
///
/// # Errors
/// When no token can be made.
pub fn handshake(tenant: Option<&str>) -> anyhow::Result<Request<Empty<Bytes>>> {
    let mut request = Request::get("/v1/socket?x=1")
        .header("host", "ledger.example.com")
        .header(CONNECTION, "x-tenant-id, Upgrade")
        .header(UPGRADE, "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("x-tenant-id", "victim");
    if let Some(tenant) = tenant {
        request = request.header("authorization", authorization(tenant)?);
    }
    Ok(request.body(Empty::new())?)
}

/// A credential of this tenant.
///
/// # Errors
/// When no token can be made.
pub fn authorization(tenant: &str) -> anyhow::Result<HeaderValue> {
    let message = Message::of_tenant(tenant, "/").bytes();
    let text = String::from_utf8(message)?;
    let token = text.lines().find_map(|line| line.strip_prefix("authorization: "));
    Ok(HeaderValue::from_str(token.context("a token")?)?)
}

/// Sends a request on a connection of its own, which can switch protocols.
///
/// # Errors
/// When no reply comes in ten seconds.
pub async fn send(address: SocketAddr, request: Request<Empty<Bytes>>) -> anyhow::Result<Response<Incoming>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection.with_upgrades());
    Ok(timeout(SOON, sender.send_request(request)).await??)
}

/// An open WebSocket to an [`Upstream`] behind Envoy.
#[derive(Debug)]
pub struct Socket(TokioIo<Upgraded>);

impl Socket {
    /// Opens one of this tenant.
    ///
    /// # Errors
    /// When it is refused, or does not greet.
    pub async fn open(address: SocketAddr, tenant: &str) -> anyhow::Result<Self> {
        let reply = send(address, handshake(Some(tenant))?).await?;
        ensure!(reply.status() == 101, "{reply:?}");
        let mut socket = TokioIo::new(hyper::upgrade::on(reply).await?);
        let mut heard = [0; GREETING.len()];
        timeout(SOON, socket.read_exact(&mut heard)).await??;
        ensure!(heard == GREETING, "{}", heard.escape_ascii());
        Ok(Self(socket))
    }

    /// Says something and hears it back.
    ///
    /// # Errors
    /// When the stream has ended or is silent, or something else comes.
    pub async fn is_open(&mut self) -> anyhow::Result<()> {
        let said = b"\x81\x03abc";
        let mut heard = [0; 5];
        timeout(SOON, self.0.write_all(said))
            .await
            .context("it does not read")??;
        timeout(SOON, self.0.read_exact(&mut heard))
            .await
            .context("it is silent")??;
        ensure!(heard == *said, "{}", heard.escape_ascii());
        Ok(())
    }
}
