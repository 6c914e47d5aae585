//! Sends bytes, reads an HTTP reply.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use corpus::wire::Field;
use envoy_run::latin1;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::time::timeout;

use crate::message::Message;

/// How long a reply may take. Every stream of the shipped bootstrap ends before.
const REPLY_DEADLINE: Duration = Duration::from_secs(30);

/// The largest body of a reply.
const MAX_BODY_BYTES: usize = 32 * 1024 * 1024;

/// One connection to Envoy. Dropping it closes it, as a client does that leaves.
#[derive(Debug)]
pub struct Connection(TcpStream);

/// A reply.
#[derive(Debug, Clone)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Field lines, names in lower case.
    pub headers: Vec<Field>,
    /// The body.
    pub body: Vec<u8>,
    /// Trailer field lines, as `headers`.
    pub trailers: Vec<Field>,
    /// From when the reply was first waited for to its last byte.
    pub took: Duration,
}

impl Reply {
    /// Reads what an HTTP library has got, with a body of at most so many bytes. `took` is the time that
    /// this takes.
    ///
    /// # Errors
    /// When it breaks off or is too large.
    pub async fn read(reply: hyper::Response<Incoming>, max_body_bytes: usize) -> anyhow::Result<Self> {
        let started = Instant::now();
        let (head, body) = reply.into_parts();
        let body = Limited::new(body, max_body_bytes).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("the reply broke off: {error}"))?;
        Ok(Self {
            status: head.status.as_u16(),
            headers: fields(&head.headers),
            trailers: body.trailers().map(fields).unwrap_or_default(),
            body: body.to_bytes().to_vec(),
            took: started.elapsed(),
        })
    }

    /// The value of the first field line of a header, as text. `name` is in lower case.
    pub fn header(&self, name: &str) -> Option<String> {
        let line = self.headers.iter().find(|(found, _)| found == name.as_bytes());
        line.map(|(_, value)| latin1(value))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        latin1(&self.body)
    }

    /// The member `code` of a denial; empty when the body is none.
    pub fn code(&self) -> String {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        body["code"].as_str().unwrap_or_default().to_owned()
    }
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens there.
    pub async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)
            .await
            .with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self(stream))
    }

    /// Sends a message on a connection of its own and returns the reply.
    ///
    /// # Errors
    /// When none comes, or what comes is not HTTP.
    pub async fn exchange(address: SocketAddr, message: &Message) -> anyhow::Result<Reply> {
        Self::open(address).await?.reply_to(message).await
    }

    /// Writes all of these bytes.
    ///
    /// # Errors
    /// When the peer has closed the connection.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes).await
    }

    /// Sends a message and returns the reply.
    ///
    /// # Errors
    /// As [`Connection::exchange`].
    pub async fn reply_to(self, message: &Message) -> anyhow::Result<Reply> {
        self.finish(message.method_name(), &message.bytes()).await
    }

    /// Sends the last bytes of a request with this method, if any are left, and returns the reply.
    /// It is read while bytes are still being sent: a denial need not wait for the body.
    ///
    /// # Errors
    /// As [`Connection::exchange`].
    pub async fn finish(self, method: &[u8], rest: &[u8]) -> anyhow::Result<Reply> {
        let started = Instant::now();
        let (reader, mut writer) = self.0.into_split();
        let sending = async {
            // Whoever refuses a request may close on the rest of it. What then counts is the reply.
            let _ = writer.write_all(rest).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            reply = timeout(REPLY_DEADLINE, read_reply(reader, method, started)) => reply.context("no reply in time")?,
            () = sending => anyhow::bail!("sending has no end"),
        }
    }
}

fn fields(map: &hyper::HeaderMap) -> Vec<Field> {
    map.iter()
        .map(|(name, value)| (name.as_str().into(), value.as_bytes().into()))
        .collect()
}

async fn read_reply(reader: OwnedReadHalf, method: &[u8], started: Instant) -> anyhow::Result<Reply> {
    let half = ReplyOnly {
        reader,
        asked: false,
        waiting: None,
    };
    let (mut asking, connection) = http1::handshake(TokioIo::new(half)).await?;
    let connection = tokio::spawn(connection);
    // Only the method counts: a reply to HEAD has no body.
    let method = hyper::Method::from_bytes(method).unwrap_or_default();
    let request = hyper::Request::builder()
        .method(method)
        .uri("/")
        .body(Empty::<Bytes>::new())?;
    let reply = asking.send_request(request).await.context("no reply")?;
    let mut reply = Reply::read(reply, MAX_BODY_BYTES).await?;
    connection.abort();
    reply.took = started.elapsed();
    Ok(reply)
}

/// The reading half of a connection on which somebody else writes. The HTTP library believes that
/// it has sent a request, which goes nowhere, and parses the reply.
struct ReplyOnly {
    reader: OwnedReadHalf,
    /// Whether the library has "sent" its request. A reply that it saw earlier would be a fault to it.
    asked: bool,
    waiting: Option<Waker>,
}

impl AsyncRead for ReplyOnly {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.asked {
            return Pin::new(&mut self.reader).poll_read(context, buffer);
        }
        self.waiting = Some(context.waker().clone());
        Poll::Pending
    }
}

impl AsyncWrite for ReplyOnly {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut TaskContext<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.asked = true;
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
