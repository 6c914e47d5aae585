//! Sends requests as they are, and hears answers as they are.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http2;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::http::uri::PathAndQuery;
use hyper::{Request, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use crate::answers::{self, Answer, GREETING};
use crate::requests::Spec;
use crate::wire::{Framing, Heard, Reader, fields, framing, value};

/// How long everything on one connection may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// What a client says after a switch of protocols, and wants to hear again before it says the next.
const SAID: [&[u8]; 3] = [b"\x81\x85one", b"\xff\x00\r\n\r\n", b"x-tenant-id: a\r\n"];

/// Sends requests one after the other on one connection, and gives all that was answered. It ends with
/// what ends the connection.
///
/// # Errors
/// When an answer is none of HTTP or does not come.
pub(crate) async fn over_http1(address: SocketAddr, specs: &[Spec]) -> anyhow::Result<Vec<Heard>> {
    timeout(DEADLINE, converse(address, specs))
        .await
        .context("no answer in time")?
}

async fn converse(address: SocketAddr, specs: &[Spec]) -> anyhow::Result<Vec<Heard>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (reader, mut writer) = stream.into_split();
    let mut reader = Reader::new(reader);
    let mut heard = Vec::new();
    for spec in specs {
        // Who refuses a request may close on the rest of it.
        let _ = writer.write_all(&spec.message().bytes()).await;
        loop {
            let Some(head) = reader.head().await? else {
                return Ok(heard);
            };
            let status = status(&head)?;
            if status == 101 {
                heard.push(Heard::head_only(head));
                heard.push(talk(reader, writer).await?);
                return Ok(heard);
            }
            if status < 200 {
                heard.push(Heard::head_only(head));
                continue;
            }
            let fields = fields(&head)?;
            let has_body = spec.method != "HEAD" && status != 204 && status != 304;
            let framing = if has_body {
                framing(&fields, Framing::Connection)?
            } else {
                Framing::Absent
            };
            heard.push(reader.body(head, framing).await?);
            let closes = value(&fields, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
            let is_cut = heard.last().is_some_and(|message| !message.complete);
            if closes || is_cut || matches!(spec.answer(), Answer::Early(_)) {
                // Envoy closes, and what else it says is not lost.
                heard.push(Heard {
                    body: reader.rest().await?,
                    framing: Framing::Connection,
                    ..Heard::head_only(Vec::new())
                });
                return Ok(heard);
            }
            break;
        }
    }
    Ok(heard)
}

/// What comes both ways after a switch of protocols.
async fn talk(mut reader: Reader<OwnedReadHalf>, mut writer: OwnedWriteHalf) -> anyhow::Result<Heard> {
    let mut body = reader.bytes(GREETING.len()).await?;
    for said in SAID {
        writer.write_all(said).await?;
        body.extend(reader.bytes(said.len()).await?);
    }
    Ok(Heard {
        body,
        framing: Framing::Connection,
        ..Heard::head_only(Vec::new())
    })
}

fn status(head: &[u8]) -> anyhow::Result<u16> {
    let code = head.get(b"HTTP/1.1 ".len()..).and_then(|rest| rest.get(..3));
    let code = std::str::from_utf8(code.context("half a status line")?)?;
    code.parse().with_context(|| head.escape_ascii().to_string())
}

/// Sends requests one after the other on one connection over HTTP/2, and gives all that was answered;
/// the heads are as the HTTP library tells them. What cannot be said in HTTP/2 is left out.
///
/// # Errors
/// When the connection cannot be had, or no answer comes.
pub(crate) async fn over_http2(address: SocketAddr, specs: &[Spec]) -> anyhow::Result<Vec<Heard>> {
    timeout(DEADLINE, converse2(address, specs))
        .await
        .context("no answer in time")?
}

async fn converse2(address: SocketAddr, specs: &[Spec]) -> anyhow::Result<Vec<Heard>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let mut heard = Vec::new();
    for request in specs.iter().filter_map(of_http2) {
        sender.ready().await?;
        heard.push(match sender.send_request(request).await {
            Ok(reply) => read(reply).await,
            Err(error) => Heard::head_only(format!("no reply: {}", told(&error)).into()),
        });
    }
    drop(sender);
    // It says goodbye before it ends.
    connection.await??;
    Ok(heard)
}

type Sent = Request<StreamBody<stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>>;

fn of_http2(spec: &Spec) -> Option<Sent> {
    if matches!(spec.answer(), Answer::Early(_) | Answer::Switched) {
        return None;
    }
    let path = PathAndQuery::try_from(spec.target.as_slice()).ok()?;
    let is_as_written = path.as_str().as_bytes() == spec.target && spec.target.starts_with(b"/");
    if !is_as_written || spec.method == "CONNECT" {
        return None;
    }
    let uri = Uri::builder()
        .scheme("http")
        .authority("ledger.example.com")
        .path_and_query(path);
    let mut request = Request::builder().method(spec.method).uri(uri.build().ok()?);
    *request.headers_mut()? = map(&spec.lines)?;
    let mut frames = Vec::new();
    if !spec.body.is_empty() {
        frames.push(Ok(Frame::data(Bytes::from(spec.body.clone()))));
    }
    if !spec.trailers.is_empty() {
        frames.push(Ok(Frame::trailers(map(&spec.trailers)?)));
    }
    request = request.header(answers::NAME, spec.answer);
    request.body(StreamBody::new(stream::iter(frames))).ok()
}

/// What belongs to one connection of HTTP/1.1 is left out.
fn map(lines: &[corpus::wire::Field]) -> Option<HeaderMap> {
    let mut map = HeaderMap::new();
    for (name, value) in lines {
        let name = HeaderName::from_bytes(name).ok()?;
        if !["connection", "upgrade", "host", "transfer-encoding", "te", "expect"].contains(&name.as_str()) {
            map.append(name, HeaderValue::from_bytes(value.trim_ascii()).ok()?);
        }
    }
    Some(map)
}

async fn read(reply: hyper::Response<hyper::body::Incoming>) -> Heard {
    let (head, mut body) = reply.into_parts();
    let mut heard = Heard::head_only(format!("{}\r\n", head.status).into());
    push_lines(&mut heard.head, &head.headers);
    while let Some(frame) = body.frame().await {
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) => heard.body.extend(data),
            Ok(Err(frame)) => push_lines(&mut heard.trailers, &frame.into_trailers().unwrap_or_default()),
            Err(error) => {
                heard.complete = false;
                heard.trailers = told(&error).into();
                break;
            }
        }
    }
    heard
}

fn push_lines(to: &mut Vec<u8>, lines: &HeaderMap) {
    for (name, value) in lines {
        to.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
}

/// An error with what is behind it.
fn told(error: &hyper::Error) -> String {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    format!("{error}: {}", cause.unwrap_or_default())
}
