//! What goes on after the headers: once a request is admitted, a WebSocket and a stream of events pass
//! through the filter as they are, byte by byte and at once; until, with `enforce.cut_streams`, their tenant is
//! refused.

use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use envoy_e2e::live::{GREETING, Upstream, authorization, handshake};
use envoy_e2e::{Feature, Setup, World, live};
use envoy_run::Bootstrap;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper::header::{HeaderValue, UPGRADE};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, split};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// How long anything may take that is waited for here.
const SOON: Duration = Duration::from_secs(10);

/// Sends a request on a connection of its own, which can switch protocols.
async fn send(world: &World, request: Request<Empty<Bytes>>) -> anyhow::Result<Response<Incoming>> {
    live::send(world.envoy.address(), request).await
}

async fn world(upstream: &Upstream) -> anyhow::Result<World> {
    Setup::of_corpus(json!({}))?.upstream(upstream.address()).start().await
}

#[tokio::test]
async fn a_websocket_of_a_tenant_carries_bytes_both_ways() -> anyhow::Result<()> {
    let upstream = Upstream::start(None).await?;
    let world = world(&upstream).await?;
    // The second is let through by what is remembered, without a lookup to wait for.
    for _ in 0..2 {
        let reply = send(&world, handshake(Some("acme"))?).await?;
        ensure!(reply.status() == 101, "{reply:?}");
        let mut socket = TokioIo::new(hyper::upgrade::on(reply).await?);
        let mut greeting = [0; GREETING.len()];
        timeout(SOON, socket.read_exact(&mut greeting)).await??;
        ensure!(greeting == GREETING);
        for length in [1, 2, 100, 70_000, 3] {
            let said: Vec<u8> = (0..=u8::MAX).rev().cycle().take(length).collect();
            let mut heard = vec![0; length];
            let (mut reader, mut writer) = split(&mut socket);
            let both = async { tokio::try_join!(writer.write_all(&said), reader.read_exact(&mut heard)) };
            timeout(SOON, both).await.with_context(|| format!("{length} bytes"))??;
            ensure!(heard == said, "{length} bytes have changed");
        }
        let seen = upstream.seen().pop().context("a handshake")?;
        let tenants: Vec<_> = seen.get_all("x-tenant-id").iter().collect();
        ensure!(tenants == ["acme"], "{seen:?}");
        ensure!(seen["sec-websocket-key"] == "dGhlIHNhbXBsZSBub25jZQ==", "{seen:?}");
    }
    world.check_workers_live().await?;
    world.stop().await
}

fn takes_connect(bootstrap: &mut Bootstrap) {
    bootstrap.hcm()["http2_protocol_options"]["allow_connect"] = true.into();
}

#[tokio::test]
async fn a_websocket_over_http2_is_one_too() -> anyhow::Result<()> {
    let upstream = Upstream::start(None).await?;
    let setup = Setup::of_corpus(json!({}))?
        .upstream(upstream.address())
        .change(takes_connect);
    let world = setup.start().await?;
    let stream = TokioIo::new(TcpStream::connect(world.envoy.address()).await?);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await?;
    let connection = tokio::spawn(connection);
    let request = |method: &str, path: &str| {
        Request::builder()
            .method(method)
            .uri(format!("http://ledger.example.com{path}"))
            .header("x-tenant-id", "victim")
    };
    // With its answer the client knows that such requests are taken.
    let first = timeout(
        SOON,
        sender.send_request(request("GET", "/v1/first").body(Empty::new())?),
    )
    .await??;
    ensure!(first.status() == 401, "{first:?}");
    let socket = |authorization: Option<HeaderValue>| {
        let mut socket = request("CONNECT", "/health").header("sec-websocket-version", "13");
        if let Some(authorization) = authorization {
            socket = socket.header("authorization", authorization);
        }
        socket
            .extension(Protocol::from_static("websocket"))
            .body(Empty::<Bytes>::new())
    };
    // Not even on a public path.
    let refused = timeout(SOON, sender.send_request(socket(None)?)).await??;
    ensure!(refused.status() == 401 && upstream.seen().is_empty(), "{refused:?}");
    let reply = timeout(SOON, sender.send_request(socket(Some(authorization("acme")?))?)).await??;
    ensure!(reply.status() == 200, "{reply:?}");
    let mut socket = TokioIo::new(hyper::upgrade::on(reply).await?);
    let mut heard = [0; GREETING.len()];
    for said in [GREETING, &[0xff; GREETING.len()]] {
        timeout(SOON, socket.read_exact(&mut heard)).await??;
        ensure!(heard == said);
        socket.write_all(&[0xff; GREETING.len()]).await?;
    }
    let seen = upstream.seen().pop().context("a handshake")?;
    let tenants: Vec<_> = seen.get_all("x-tenant-id").iter().collect();
    ensure!(tenants == ["acme"] && seen[UPGRADE] == "websocket", "{seen:?}");
    connection.abort();
    world.check_workers_live().await?;
    world.stop().await
}

#[tokio::test]
async fn a_websocket_of_nobody_or_of_a_suspended_tenant_is_refused_before_it_is_one() -> anyhow::Result<()> {
    let upstream = Upstream::start(None).await?;
    let world = world(&upstream).await?;
    for (tenant, status, code) in [
        (None, 401, "TENANT_ID_REQUIRED"),
        (Some("frozen"), 403, "TENANT_SUSPENDED"),
    ] {
        let reply = send(&world, handshake(tenant)?).await?;
        ensure!(reply.status() == status, "{reply:?}");
        let body = reply.into_body().collect().await?.to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body)?;
        ensure!(body["code"] == code, "{body}");
    }
    ensure!(upstream.seen().is_empty(), "{:?}", upstream.seen());
    world.stop().await
}

#[tokio::test]
async fn events_of_a_server_come_one_by_one_while_their_stream_is_open() -> anyhow::Result<()> {
    let (tell, events) = mpsc::unbounded_channel();
    let upstream = Upstream::start(Some(events)).await?;
    let world = world(&upstream).await?;
    let request = Request::get("/v1/events")
        .header("host", "ledger.example.com")
        .header("accept", "text/event-stream")
        .header("authorization", authorization("acme")?)
        .body(Empty::new())?;
    tell.send("retry: 1000\n\n")?;
    let reply = send(&world, request).await?;
    ensure!(reply.headers()["content-type"] == "text/event-stream", "{reply:?}");
    let mut body = reply.into_body();
    let told = [
        "data: 1\n\n",
        ": comment\n\n",
        "id: 2\nevent: x\ndata: \u{e4}\n\n",
        "data: last\n\n",
    ];
    let mut expected = "retry: 1000\n\n";
    for next in told {
        let mut heard = Vec::new();
        while heard.len() < expected.len() {
            let frame = timeout(SOON, body.frame()).await?.context("the stream has ended")??;
            heard.extend(frame.into_data().unwrap_or_default());
        }
        ensure!(heard == expected.as_bytes(), "{}", heard.escape_ascii());
        // Only now the next one: nobody may have held the last one back.
        tell.send(next)?;
        expected = next;
    }
    drop(tell);
    let rest = timeout(SOON, body.collect()).await??.to_bytes();
    ensure!(rest == expected.as_bytes(), "{}", rest.escape_ascii());
    world.check_workers_live().await?;
    world.stop().await
}

/// Sockets of these tenants, each on a connection of its own and greeted.
async fn sockets(
    world: &World,
    tenants: &[&'static str],
) -> anyhow::Result<Vec<(&'static str, TokioIo<hyper::upgrade::Upgraded>)>> {
    let mut sockets = Vec::new();
    for tenant in tenants.iter().copied() {
        let reply = send(world, handshake(Some(tenant))?).await?;
        ensure!(reply.status() == 101, "{reply:?}");
        let mut socket = TokioIo::new(hyper::upgrade::on(reply).await?);
        timeout(SOON, socket.read_exact(&mut [0; GREETING.len()])).await??;
        sockets.push((tenant, socket));
    }
    Ok(sockets)
}

/// Whether the socket still carries bytes both ways; otherwise whether it has ended.
async fn carries(socket: &mut TokioIo<hyper::upgrade::Upgraded>) -> anyhow::Result<()> {
    socket.write_all(b"x").await?;
    timeout(SOON, socket.read_exact(&mut [0])).await??;
    Ok(())
}

async fn ended(socket: &mut TokioIo<hyper::upgrade::Upgraded>) -> anyhow::Result<()> {
    let read = timeout(SOON, socket.read(&mut [0])).await.context("it stays open")?;
    ensure!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    Ok(())
}

#[tokio::test]
async fn streams_of_a_suspended_tenant_are_cut_where_that_is_asked_for_and_no_others() -> anyhow::Result<()> {
    let suspended =
        json!({ "event_id": "1", "event_type": "tenant.suspended", "tenant_id": "acme", "environment": "staging" });
    for cuts in [true, false] {
        let upstream = Upstream::start(None).await?;
        let setup = Setup::of_corpus(json!({ "enforce": { "cut_streams": cuts } }))?;
        let world = setup
            .upstream(upstream.address())
            .workers(2)
            .tenant_events()?
            .start()
            .await?;
        // So many that every worker has some of both.
        let mut sockets = sockets(&world, &["acme", "globex"].repeat(8)).await?;
        ensure!(world.tell(&suspended).await?.status == 200);
        let (mut of_acme, mut of_globex): (Vec<_>, Vec<_>) =
            sockets.iter_mut().partition(|(tenant, _)| *tenant == "acme");
        if cuts {
            for (_, socket) in &mut of_acme {
                ended(socket).await?;
            }
            let cut = world.envoy.stat("wasmcustom.tenantgate_streams_cut_total").await?;
            ensure!(cut == 8, "{cut} are counted");
        } else {
            of_globex.append(&mut of_acme);
        }
        for (tenant, socket) in &mut of_globex {
            carries(socket)
                .await
                .with_context(|| format!("of {tenant}, cuts {cuts}"))?;
        }
        world.check_workers_live().await?;
        world.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_response_that_has_begun_does_not_end_as_if_it_were_whole_and_its_connection_serves_others()
-> anyhow::Result<()> {
    let (tell, events) = mpsc::unbounded_channel();
    let upstream = Upstream::start(Some(events)).await?;
    let setup = Setup::of_corpus(json!({ "enforce": { "cut_streams": true } }))?;
    let world = setup.upstream(upstream.address()).tenant_events()?.start().await?;
    let stream = TokioIo::new(TcpStream::connect(world.envoy.address()).await?);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await?;
    let connection = tokio::spawn(connection);
    let request = |tenant| {
        let request =
            Request::get("http://ledger.example.com/v1/events").header("authorization", authorization(tenant)?);
        anyhow::Ok(request.body(Empty::<Bytes>::new())?)
    };
    tell.send("data: 1\n\n")?;
    let reply = timeout(SOON, sender.send_request(request("acme")?)).await??;
    let mut body = reply.into_body();
    let first = timeout(SOON, body.frame()).await?.context("the stream has ended")??;
    ensure!(first.into_data().is_ok_and(|data| data == "data: 1\n\n"));
    let suspended =
        json!({ "event_id": "1", "event_type": "tenant.suspended", "tenant_id": "acme", "environment": "staging" });
    ensure!(world.tell(&suspended).await?.status == 200);
    let next = timeout(SOON, body.frame()).await.context("it stays open")?;
    if Feature::ResetsThatTell.is_there()? {
        ensure!(
            matches!(next, Some(Err(_))),
            "it has not ended as if it were complete: {next:?}"
        );
    }
    // The connection serves others.
    let refused = timeout(SOON, sender.send_request(request("acme")?)).await??;
    ensure!(refused.status() == 403, "{refused:?}");
    connection.abort();
    world.check_workers_live().await?;
    world.stop().await
}

fn takes_many(bootstrap: &mut Bootstrap) {
    let many = json!({ "max_connections": 10_000, "max_pending_requests": 10_000, "max_requests": 10_000 });
    let upstream = bootstrap.cluster("upstream").expect("the shipped bootstrap has one");
    upstream["circuit_breakers"] = json!({ "thresholds": [many] });
}

#[tokio::test]
async fn more_streams_than_one_call_into_the_vm_could_cut_are_cut_and_the_neighbours_stay() -> anyhow::Result<()> {
    // Envoy resets each within the end of the call that resets the one before: 1100 exhaust its stack.
    const STREAMS: usize = 1_500;
    let upstream = Upstream::start(None).await?;
    let setup = Setup::of_corpus(json!({ "enforce": { "cut_streams": true } }))?;
    let setup = setup.upstream(upstream.address()).tenant_events()?.change(takes_many);
    let world = setup.start().await?;
    let mut tenants = vec!["acme"; STREAMS];
    tenants.extend(["globex"; 4]);
    let mut sockets = sockets(&world, &tenants).await?;
    let suspended =
        json!({ "event_id": "1", "event_type": "tenant.suspended", "tenant_id": "acme", "environment": "staging" });
    ensure!(world.tell(&suspended).await?.status == 200);
    let (of_acme, of_globex) = sockets.split_at_mut(STREAMS);
    for (_, socket) in of_acme {
        ended(socket).await?;
    }
    for (_, socket) in of_globex {
        carries(socket).await?;
    }
    world.check_workers_live().await?;
    world.stop().await
}
