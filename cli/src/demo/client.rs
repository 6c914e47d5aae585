//! A client that sends what it is told, byte for byte: no normalising, no redirects, no reuse.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use corpus::expect::Observed;
use corpus::wire::Field;
use http::{HeaderName, HeaderValue, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a request may take from connecting to the last byte of the reply.
const DEADLINE: Duration = Duration::from_secs(10);

/// How much of a reply is read.
const MAX_REPLY_BYTES: usize = 1024 * 1024;

/// A reply.
#[derive(Debug)]
pub(crate) struct Reply {
    /// HTTP status.
    pub(crate) status: u16,
    /// Every field line in order.
    pub(crate) headers: Vec<Field>,
    /// The whole body.
    pub(crate) body: Vec<u8>,
    /// Every trailer line in order.
    pub(crate) trailers: Vec<Field>,
}

impl Reply {
    /// The reply as the corpus judges it.
    pub(crate) fn observed(&self) -> Observed {
        Observed::Replied {
            status: self.status,
            headers: self.headers.clone(),
            body: self.body.clone(),
            trailers: self.trailers.clone(),
        }
    }
}

/// Sends a request on a connection of its own.
///
/// # Errors
/// When there is no reply of at most a megabyte within ten seconds.
pub(crate) async fn send(
    to: SocketAddr,
    (method, target): (&str, &str),
    fields: &[Field],
    body: impl Into<Bytes>,
) -> Result<Reply> {
    let mut request = Request::builder()
        .method(method)
        .uri(target)
        .header(http::header::HOST, to.to_string());
    for (name, value) in fields {
        request = request.header(HeaderName::from_bytes(name)?, HeaderValue::from_bytes(value)?);
    }
    let request = request.body(Full::new(body.into()))?;
    timeout(DEADLINE, exchange(to, request))
        .await
        .with_context(|| format!("no reply within {DEADLINE:?}"))?
}

async fn exchange(to: SocketAddr, request: Request<Full<Bytes>>) -> Result<Reply> {
    let stream = TcpStream::connect(to)
        .await
        .with_context(|| format!("cannot connect to {to}"))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let reply = async {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, MAX_REPLY_BYTES).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!(error))?;
        Ok(Reply {
            status: head.status.as_u16(),
            headers: lines(&head.headers),
            trailers: body.trailers().map(lines).unwrap_or_default(),
            body: body.to_bytes().to_vec(),
        })
    };
    // The connection makes progress only while it is polled. It may end (`connection: close`) when
    // the reply is here, but not yet read.
    tokio::pin!(reply);
    tokio::select! {
        reply = &mut reply => reply,
        ended = connection => match ended {
            Ok(()) => reply.await,
            Err(error) => Err(error).context("the connection broke"),
        },
    }
}

fn lines(headers: &http::HeaderMap) -> Vec<Field> {
    let line = |(name, value): (&HeaderName, &HeaderValue)| (name.as_str().into(), value.as_bytes().into());
    headers.iter().map(line).collect()
}
