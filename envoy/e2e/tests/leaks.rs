//! The guard on the way back: a response with another tenant's key in it does not reach the caller.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::ensure;
use bytes::Bytes;
use corpus::answer::Answer;
use envoy_e2e::{Message, Reply, Setup, World};
use envoy_run::Bootstrap;
use futures_util::{StreamExt, stream};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long a response may take.
const SOON: Duration = Duration::from_secs(10);

const LEAKS: &str = "wasmcustom.tenantgate_response_leaks_total";

/// What must not be seen of a response that was blocked.
const SECRET: &str = "another tenant's secret";

fn guarded() -> Value {
    json!({ "scope": { "response": [
        { "name": "x-storage-key", "kind": "storage_key" },
        { "name": "x-redis-key", "kind": "redis_key" },
        { "name": "x-routing-key", "kind": "routing_key" },
    ] } })
}

fn with(lines: &[(&str, &str)]) -> Answer {
    let lines = lines.iter().chain(&[("x-secret", SECRET)]);
    Answer {
        headers: lines
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        body: Some(SECRET.into()),
        ..Answer::default()
    }
}

fn get() -> Message {
    Message::of_tenant("acme", "/v1/accounts")
}

fn ensure_blocked(reply: &Reply) -> anyhow::Result<()> {
    ensure!(reply.status == 502, "{} {}", reply.status, reply.text());
    ensure!(!reply.text().contains(SECRET), "{}", reply.text());
    for (name, value) in &reply.headers {
        let is_the_upstreams = name.starts_with(b"x-s") || name.starts_with(b"x-r") && !name.starts_with(b"x-request");
        ensure!(!is_the_upstreams, "{}: {}", name.escape_ascii(), value.escape_ascii());
    }
    Ok(())
}

async fn ensure_leaks(world: &World, count: u64) -> anyhow::Result<()> {
    let leaks = world.envoy.stat(LEAKS).await?;
    let denials = world
        .envoy
        .stat("wasmcustom.tenantgate_denials_total.code=TENANT_LEAK_BLOCKED~")
        .await?;
    ensure!(
        leaks == count && denials == count,
        "{leaks} leaks and {denials} denials, not {count}"
    );
    Ok(())
}

#[tokio::test]
async fn a_response_with_another_tenants_key_is_withheld_and_counted() -> anyhow::Result<()> {
    let world = Setup::of_corpus(guarded())?.start().await?;
    let rows: [&[(&str, &str)]; 7] = [
        &[("x-storage-key", "globex/a")],
        &[("X-Storage-Key", "acme/a"), ("x-storage-key", "globex/a")],
        &[("x-storage-key", "acme/../globex/a")],
        &[("x-redis-key", "tenant:globex:a")],
        &[("x-redis-key", "tenant:acme2:a")],
        &[("x-routing-key", "orders.created.globex"), ("x-storage-key", "acme/a")],
        &[("x-storage-key", "ACME/a")],
    ];
    for (number, lines) in rows.into_iter().enumerate() {
        world.echo.will_answer([with(lines)]);
        let reply = world.send(&get()).await?;
        ensure_blocked(&reply)?;
        ensure!(reply.code() == "TENANT_LEAK_BLOCKED", "{lines:?}: {}", reply.text());
        ensure_leaks(&world, number as u64 + 1).await?;
    }
    let log = world.envoy.logged_since(0).await?;
    let told = log
        .iter()
        .filter(|line| line.contains("denied 502 TENANT_LEAK_BLOCKED tenant=acme"));
    ensure!(told.count() == rows.len());
    world.check_workers_live().await?;
    world.stop().await
}

#[tokio::test]
async fn a_response_to_head_is_withheld_too() -> anyhow::Result<()> {
    let world = Setup::of_corpus(guarded())?.start().await?;
    world.echo.will_answer([with(&[("x-storage-key", "globex/a")])]);
    let reply = world.send(&get().method("HEAD")).await?;
    ensure_blocked(&reply)?;
    ensure!(reply.body.is_empty(), "{}", reply.text());
    ensure_leaks(&world, 1).await?;
    world.stop().await
}

#[tokio::test]
async fn the_callers_own_keys_lose_their_scope_and_others_stay() -> anyhow::Result<()> {
    let world = Setup::of_corpus(guarded())?.start().await?;
    world.echo.will_answer([with(&[
        ("x-storage-key", "acme/a/b"),
        ("x-redis-key", "tenant:acme:balance"),
        ("x-redis-key", "tenant:acme:other"),
        ("x-other", "globex/a"),
        ("x-routing-key", "orders.created.acme"),
    ])]);
    let reply = world.send(&get()).await?;
    ensure!(
        reply.status == 200 && reply.text() == SECRET,
        "{} {}",
        reply.status,
        reply.text()
    );
    let lines = |name: &str| -> Vec<String> {
        let lines = reply.headers.iter().filter(|(found, _)| found == name.as_bytes());
        lines
            .map(|(_, value)| String::from_utf8_lossy(value).into_owned())
            .collect()
    };
    ensure!(lines("x-storage-key") == ["a/b"], "{reply:?}");
    ensure!(lines("x-redis-key") == ["balance", "other"], "{reply:?}");
    ensure!(lines("x-routing-key") == ["orders.created"], "{reply:?}");
    ensure!(lines("x-other") == ["globex/a"], "{reply:?}");
    // On a public path nobody is a tenant, and nothing is anybody's.
    world.echo.will_answer([with(&[("x-storage-key", "globex/a")])]);
    let reply = world.send(&Message::new("GET", "/health")).await?;
    ensure!(
        reply.status == 200 && reply.header("x-storage-key").as_deref() == Some("globex/a"),
        "{reply:?}"
    );
    ensure_leaks(&world, 0).await?;
    world.stop().await
}

#[tokio::test]
async fn what_envoy_and_the_filter_answer_themselves_is_nobodys_leak() -> anyhow::Result<()> {
    let world = Setup::of_corpus(guarded())?.start().await?;
    let refused = world.send(&Message::of_tenant("frozen", "/v1/accounts")).await?;
    ensure!(refused.code() == "TENANT_SUSPENDED", "{}", refused.text());
    // Nobody is there any more.
    let nowhere = Setup::of_corpus(guarded())?.upstream(nowhere().await?).start().await?;
    let unreachable = nowhere.send(&get()).await?;
    ensure!(
        unreachable.status == 503 && unreachable.code().is_empty(),
        "{}",
        unreachable.text()
    );
    ensure_leaks(&nowhere, 0).await?;
    nowhere.stop().await?;
    ensure_leaks(&world, 0).await?;
    world.stop().await
}

/// Where nobody listens.
async fn nowhere() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    Ok(listener.local_addr()?)
}

/// An HTTP/2 upstream with one head for all requests, a stream of bodies that never ends when there are no
/// trailers, and these trailers else. It ends when it is dropped.
#[derive(Debug)]
struct Streaming {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Streaming {
    async fn start(head: HeaderMap, trailers: Option<HeaderMap>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (head, trailers) = (head.clone(), trailers.clone());
                let answer = hyper::service::service_fn(move |_: Request<hyper::body::Incoming>| {
                    let reply = reply(head.clone(), trailers.clone());
                    async move { Ok::<_, Infallible>(reply) }
                });
                let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(serving.serve_connection(TokioIo::new(stream), answer));
            }
        });
        Ok(Self { address, task })
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn reply(head: HeaderMap, trailers: Option<HeaderMap>) -> Response<BoxBody<Bytes, Infallible>> {
    let first = [Ok(Frame::data(Bytes::from_static(SECRET.as_bytes())))];
    let mut reply = Response::new(match trailers {
        Some(trailers) => {
            let frames = first.into_iter().chain([Ok(Frame::trailers(trailers))]);
            BodyExt::boxed(StreamBody::new(stream::iter(frames)))
        }
        None => BodyExt::boxed(StreamBody::new(stream::iter(first).chain(stream::pending()))),
    });
    *reply.headers_mut() = head;
    reply
}

fn lines(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let line = |(name, value): &(&'static str, &'static str)| {
        let name = hyper::header::HeaderName::from_static(name);
        (name, hyper::header::HeaderValue::from_static(value))
    };
    lines.iter().map(line).collect()
}

fn speaks_http2(bootstrap: &mut Bootstrap) {
    let changed = bootstrap.clone().http2("upstream");
    *bootstrap = changed.expect("the shipped bootstrap has an upstream");
}

async fn world_before(upstream: &Streaming) -> anyhow::Result<World> {
    let setup = Setup::of_corpus(guarded())?.upstream(upstream.address);
    setup.change(speaks_http2).start().await
}

/// What a client of HTTP/2 gets: head, and then body and trailers when the response ends.
async fn over_http2(world: &World, grpc: bool) -> anyhow::Result<(HeaderMap, Bytes, Option<HeaderMap>)> {
    let stream = TokioIo::new(TcpStream::connect(world.envoy.address()).await?);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await?;
    let connection = tokio::spawn(connection);
    let text = String::from_utf8(get().bytes())?;
    let token = text.lines().find_map(|line| line.strip_prefix("authorization: "));
    let mut request = Request::post("http://ledger.example.com/tenantgate.test.Chat/Tell")
        .header("authorization", token.unwrap_or_default());
    if grpc {
        request = request
            .header("content-type", "application/grpc")
            .header("te", "trailers");
    }
    let request = request.body(http_body_util::Full::new(Bytes::from_static(&[0; 5])))?;
    let (head, body) = timeout(SOON, sender.send_request(request)).await??.into_parts();
    let mut headers = head.headers;
    headers.insert("status", hyper::header::HeaderValue::from_str(head.status.as_str())?);
    let body = timeout(SOON, body.collect()).await??;
    let trailers = body.trailers().cloned();
    connection.abort();
    Ok((headers, body.to_bytes(), trailers))
}

#[tokio::test]
async fn a_stream_that_has_no_end_is_withheld_from_its_first_byte_on() -> anyhow::Result<()> {
    let upstream = Streaming::start(lines(&[("x-storage-key", "globex/a"), ("x-secret", SECRET)]), None).await?;
    let world = world_before(&upstream).await?;
    let (head, body, trailers) = over_http2(&world, false).await?;
    ensure!(head["status"] == "502" && !head.contains_key("x-secret"), "{head:?}");
    let body: Value = serde_json::from_slice(&body)?;
    ensure!(body["code"] == "TENANT_LEAK_BLOCKED" && trailers.is_none(), "{body}");
    ensure_leaks(&world, 1).await?;
    // The upstream is told to stop, too.
    let ended = "cluster.upstream.upstream_rq_active";
    world.envoy.wait_for_stat(ended, SOON, |active| active == 0).await?;
    world.check_workers_live().await?;
    world.stop().await
}

#[tokio::test]
async fn a_response_of_grpc_is_withheld_as_an_error_of_grpc() -> anyhow::Result<()> {
    let head = lines(&[
        ("content-type", "application/grpc"),
        ("x-redis-key", "tenant:globex:a"),
        ("x-secret", SECRET),
    ]);
    let upstream = Streaming::start(head, Some(lines(&[("grpc-status", "0")]))).await?;
    let world = world_before(&upstream).await?;
    let (head, body, trailers) = over_http2(&world, true).await?;
    let status = head.get("grpc-status").map(|status| status.as_bytes().to_vec());
    ensure!(head["status"] == "200" && !head.contains_key("x-secret"), "{head:?}");
    ensure!(status.is_some_and(|status| status != b"0"), "{head:?}");
    ensure!(body.is_empty() && trailers.is_none(), "{body:?} {trailers:?}");
    ensure_leaks(&world, 1).await?;
    world.stop().await
}

#[tokio::test]
async fn a_key_in_trailers_is_taken_out_and_counted() -> anyhow::Result<()> {
    let head = lines(&[("content-type", "application/grpc"), ("x-storage-key", "acme/a")]);
    let trailers = lines(&[
        ("grpc-status", "0"),
        ("x-storage-key", "globex/a"),
        ("x-redis-key", "tenant:acme:b"),
    ]);
    let upstream = Streaming::start(head, Some(trailers)).await?;
    let world = world_before(&upstream).await?;
    let (head, body, trailers) = over_http2(&world, true).await?;
    ensure!(
        head["status"] == "200" && head["x-storage-key"] == "a" && body == SECRET,
        "{head:?} {body:?}"
    );
    let trailers = trailers.unwrap_or_default();
    ensure!(
        trailers["grpc-status"] == "0" && !trailers.contains_key("x-storage-key"),
        "{trailers:?}"
    );
    ensure!(trailers["x-redis-key"] == "b", "{trailers:?}");
    ensure!(world.envoy.stat(LEAKS).await? == 1);
    world.stop().await
}
