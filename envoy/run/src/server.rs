//! The accept loop under both servers.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

/// How many connections a server holds open; further ones wait to be accepted.
const MAX_CONNECTIONS: usize = 2_000;

/// How many field lines a request may have, above all that Envoy lets through in a test.
const MAX_HEADERS: usize = 5_000;

/// The largest head of a request. 8 KiB is the least that the HTTP library accepts.
const MAX_HEAD_BYTES: usize = 4 * 1024 * 1024;

/// The connection is to be broken here and now.
#[derive(Debug, thiserror::Error)]
#[error("the connection is broken on purpose")]
pub(crate) struct Broken;

pub(crate) type Body = BoxBody<Bytes, Broken>;

/// A body that is there already.
pub(crate) fn whole(bytes: impl Into<Bytes>) -> Body {
    use http_body_util::BodyExt;
    http_body_util::Full::new(bytes.into())
        .map_err(|never: Infallible| match never {})
        .boxed()
}

/// An HTTP/1.1 server on loopback. Its connections end with it.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Server {
    /// Listens on a free port and answers with `respond`; its error breaks the connection.
    pub(crate) async fn start<R, F>(respond: R) -> io::Result<Self>
    where
        R: Fn(http::Request<Incoming>) -> F + Clone + Send + 'static,
        F: Future<Output = Result<http::Response<Body>, Broken>> + Send + 'static,
    {
        Self::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), respond)
    }

    /// As [`Server::start`], on a given address.
    pub(crate) fn start_at<R, F>(address: SocketAddr, respond: R) -> io::Result<Self>
    where
        R: Fn(http::Request<Incoming>) -> F + Clone + Send + 'static,
        F: Future<Output = Result<http::Response<Body>, Broken>> + Send + 'static,
    {
        let socket = TcpSocket::new_v4()?;
        // So that a server can come back on its port while old connections linger in TIME_WAIT.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(1024)?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(serve(listener, respond, stopped));
        Ok(Self {
            address,
            stop: Some(stop),
            task,
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the listener and every connection, and returns when they are closed.
    pub(crate) async fn stop(mut self) {
        drop(self.stop.take());
        // Only a panic in the accept loop could be reported here, and then it is stopped as well.
        let _ = (&mut self.task).await;
    }
}

async fn serve<R, F>(listener: TcpListener, respond: R, mut stopped: oneshot::Receiver<()>)
where
    R: Fn(http::Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Result<http::Response<Body>, Broken>> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut stopped => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => {
                // A connection that was gone before it was accepted is not worth more.
                let Ok((stream, _)) = accepted else { continue };
                let respond = respond.clone();
                connections.spawn(async move {
                    // The error is the broken connection itself, wanted or not.
                    let _ = http1::Builder::new()
                        .timer(TokioTimer::new())
                        .max_headers(MAX_HEADERS)
                        .max_buf_size(MAX_HEAD_BYTES)
                        .serve_connection(TokioIo::new(stream), service_fn(respond))
                        .await;
                });
            }
        }
    }
    drop(listener);
    connections.shutdown().await;
}
