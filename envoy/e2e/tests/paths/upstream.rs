//! An upstream that says what it got, before an HTTP library has an opinion of the target.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// The largest head of a request.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// How many field lines one may have.
const MAX_HEADERS: usize = 64;

/// Answers every request with 200: the body is the request target as it stood in the request line,
/// `x-seen-tenant` and `x-seen-module` say whose request it was. It ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Upstream {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Upstream {
    /// Starts on a free port of loopback.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                // What is wrong with a connection breaks it, and then Envoy answers 503.
                connections.spawn(serve(stream));
            }
        });
        Ok(Self { address, task })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream) -> anyhow::Result<()> {
    let mut received = Vec::new();
    loop {
        while let Some((length, reply)) = reply(&received)? {
            stream.write_all(&reply).await?;
            received.drain(..length);
        }
        ensure!(received.len() < MAX_HEAD_BYTES, "a head without end");
        if stream.read_buf(&mut received).await? == 0 {
            return Ok(());
        }
    }
}

/// How long the first request is, and the reply to it; `None` while it is not complete.
fn reply(received: &[u8]) -> anyhow::Result<Option<(usize, Vec<u8>)>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(length) = request.parse(received)? else {
        return Ok(None);
    };
    let target = request.path.context("a request line has a target")?;
    let value = |name: &str| {
        let line = request.headers.iter().find(|line| line.name.eq_ignore_ascii_case(name));
        line.map_or(&b""[..], |line| line.value)
    };
    let (tenant, module) = (value("x-tenant-id"), value("x-tenant-module"));
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n", target.len());
    let lines = [b"x-seen-tenant: ", tenant, b"\r\nx-seen-module: ", module, b"\r\n\r\n"].concat();
    Ok(Some((length, [head.as_bytes(), &lines, target.as_bytes()].concat())))
}
