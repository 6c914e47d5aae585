//! Many requests on one connection, each as bytes.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as TaskContext, Poll, ready};
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::Reply;
use crate::message::Message;

/// How long a reply may take.
const REPLY_DEADLINE: Duration = Duration::from_secs(30);

/// The largest body of a reply.
const MAX_BODY_BYTES: usize = 1024 * 1024;

/// A client that keeps its connection as long as the other side does. For requests without bodies
/// to which a `GET` could get the reply.
#[derive(Debug)]
pub struct KeepAlive {
    address: SocketAddr,
    next: Arc<Mutex<Vec<u8>>>,
    sender: Option<http1::SendRequest<Empty<Bytes>>>,
}

impl KeepAlive {
    /// A client of a server there. Nothing is connected yet.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            next: Arc::default(),
            sender: None,
        }
    }

    /// Sends a message and returns the reply.
    ///
    /// # Errors
    /// When none comes in half a minute, on the connection that was open or else on a new one, or when
    /// what comes is not HTTP.
    pub async fn send(&mut self, message: &Message) -> anyhow::Result<Reply> {
        let bytes = message.bytes();
        if let Some(mut sender) = self.sender.take_if(|sender| sender.is_ready()) {
            // Who keeps a connection may find it closed; then nothing has been answered on it.
            if let Ok(reply) = self.exchange(&mut sender, &bytes).await {
                self.sender = Some(sender);
                return Ok(reply);
            }
        }
        let mut sender = self.connect().await?;
        let reply = self.exchange(&mut sender, &bytes).await?;
        self.sender = Some(sender);
        Ok(reply)
    }

    async fn connect(&self) -> anyhow::Result<http1::SendRequest<Empty<Bytes>>> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let substituting = Substituting {
            stream,
            next: Arc::clone(&self.next),
            unsent: Vec::new(),
        };
        let (sender, connection) = http1::handshake(TokioIo::new(substituting)).await?;
        // It ends with the sender or with the connection, and what breaks it breaks the exchange too.
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn exchange(&self, sender: &mut http1::SendRequest<Empty<Bytes>>, bytes: &[u8]) -> anyhow::Result<Reply> {
        let started = Instant::now();
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = bytes.to_vec();
        let request = hyper::Request::new(Empty::new());
        let reply = async { Reply::read(sender.send_request(request).await?, MAX_BODY_BYTES).await };
        let mut reply = timeout(REPLY_DEADLINE, reply).await.context("no reply in time")??;
        reply.took = started.elapsed();
        // So that the connection is ready again, or known to be closed.
        let _ = sender.ready().await;
        Ok(reply)
    }
}

/// A connection on which the HTTP library believes that it sends its requests. What goes out instead,
/// once per request, are the bytes that a test wants sent.
struct Substituting {
    stream: TcpStream,
    next: Arc<Mutex<Vec<u8>>>,
    unsent: Vec<u8>,
}

impl AsyncRead for Substituting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Substituting {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut TaskContext<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let next = std::mem::take(&mut *self.next.lock().unwrap_or_else(PoisonError::into_inner));
        self.unsent.extend(next);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        let Self { stream, unsent, .. } = &mut *self;
        while !unsent.is_empty() {
            let sent = ready!(Pin::new(&mut *stream).poll_write(context, unsent))?;
            unsent.drain(..sent);
        }
        Pin::new(stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
