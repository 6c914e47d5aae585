//! Requests that wait for the Tenant Manager, on the real Envoy: who is answered, when, and that
//! nothing of them gets past the wait.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::ensure;
use corpus::answer::Answer;
use envoy_e2e::{Message, Setup, World};
use serde_json::json;
use tokio::task::JoinSet;

/// How long anything may take that is waited for here.
const SOON: Duration = Duration::from_secs(10);

/// Streams that Envoy has begun and not ended.
const ACTIVE: &str = "http.ingress.downstream_rq_active";

/// The `timeout_ms` of lookups that are held on purpose: longer than a test holds them, shorter than
/// the stream timers.
const PATIENT: Duration = Duration::from_secs(12);

fn patient() -> anyhow::Result<Setup> {
    Setup::of_corpus(json!({ "tenant_manager": { "timeout_ms": PATIENT.as_millis() as u64 } }))
}

fn record(tenant: &str) -> Answer {
    Answer {
        record: Some(json!({ "id": tenant, "databases": { "onboarding": {} } })),
        ..Answer::default()
    }
}

fn refusal() -> Answer {
    Answer {
        status: Some(403),
        body: Some(json!({ "status": "suspended" })),
        ..Answer::default()
    }
}

#[tokio::test]
async fn others_are_answered_when_the_client_that_began_the_lookup_leaves() -> anyhow::Result<()> {
    let world = patient()?.start().await?;
    world.tenant_manager.hold();

    let mut leader = world.connect().await?;
    leader.write(&Message::of_tenant("acme", "/v1/leader").bytes()).await?;
    world.tenant_manager.wait_for(1, SOON).await?;
    let follower = Message::of_tenant("acme", "/v1/follower");
    let followers = async {
        let (first, second) = tokio::try_join!(world.send(&follower), world.send(&follower))?;
        anyhow::Ok([first, second])
    };
    let departure = async {
        world.envoy.wait_for_stat(ACTIVE, SOON, |active| active == 3).await?;
        drop(leader);
        world.envoy.wait_for_stat(ACTIVE, SOON, |active| active == 2).await?;
        world.tenant_manager.release();
        anyhow::Ok(())
    };
    let (replies, ()) = tokio::try_join!(followers, departure)?;

    for reply in replies {
        ensure!(reply.status == 200, "a follower got {} {}", reply.status, reply.text());
    }
    ensure!(
        world.tenant_manager.total() == 1,
        "{} lookups for one worker",
        world.tenant_manager.total()
    );
    let forwarded: Vec<_> = world
        .echo
        .requests()
        .into_iter()
        .map(|request| request.target)
        .collect();
    ensure!(
        forwarded == ["/v1/follower", "/v1/follower"],
        "the upstream saw {forwarded:?}"
    );
    world.check_workers_live().await?;
    world.stop().await
}

#[tokio::test]
async fn more_than_one_call_into_the_vm_could_answer_are_answered_and_the_vm_lives() -> anyhow::Result<()> {
    // Envoy answers each within the end of the call that answers the one before: 300 exhaust its stack.
    const WAITERS: usize = 700;
    let patch = json!({ "tenant_manager": { "timeout_ms": PATIENT.as_millis() as u64, "max_waiters": 65_536 } });
    let world = Setup::of_corpus(patch)?.start().await?;
    world.tenant_manager.hold();
    world
        .tenant_manager
        .merge(BTreeMap::from([("acme".to_owned(), refusal())]));
    let mut waiting = JoinSet::new();
    for _ in 0..WAITERS {
        let connection = world.connect().await?;
        waiting.spawn(async move { connection.reply_to(&Message::of_tenant("acme", "/v1/accounts")).await });
    }
    let all = |active| active == WAITERS as u64;
    world.envoy.wait_for_stat(ACTIVE, SOON, all).await?;
    world.tenant_manager.release();
    while let Some(reply) = waiting.join_next().await {
        let reply = reply??;
        ensure!(reply.status == 403, "{} {}", reply.status, reply.text());
    }
    world.check_workers_live().await?;
    world.stop().await
}

#[tokio::test]
async fn a_lookup_outlives_the_only_client_that_waited_for_it() -> anyhow::Result<()> {
    let world = patient()?.start().await?;
    world.tenant_manager.hold();
    let mut leaver = world.connect().await?;
    leaver.write(&Message::of_tenant("acme", "/v1/leaver").bytes()).await?;
    world.tenant_manager.wait_for(1, SOON).await?;
    drop(leaver);
    world.envoy.wait_for_stat(ACTIVE, SOON, |active| active == 0).await?;

    // One that comes while the lookup is still out joins it.
    let joiner = Message::of_tenant("acme", "/v1/joiner");
    let release = async {
        world.envoy.wait_for_stat(ACTIVE, SOON, |active| active == 1).await?;
        world.tenant_manager.release();
        anyhow::Ok(())
    };
    let (reply, ()) = tokio::try_join!(world.send(&joiner), release)?;
    ensure!(reply.status == 200);
    let reply = world.send(&Message::of_tenant("acme", "/v1/later")).await?;
    ensure!(reply.status == 200);
    ensure!(
        world.tenant_manager.total() == 1,
        "{} lookups",
        world.tenant_manager.total()
    );
    world.check_workers_live().await?;
    world.stop().await
}

#[tokio::test]
async fn nothing_of_a_refused_request_passes_its_lookup() -> anyhow::Result<()> {
    a_wait_is_a_barrier(false).await
}

#[tokio::test]
async fn nothing_of_a_refused_request_passes_its_lookup_where_bodies_reach_the_filter() -> anyhow::Result<()> {
    a_wait_is_a_barrier(true).await
}

#[tokio::test]
async fn what_waited_arrives_whole_once_it_is_allowed() -> anyhow::Result<()> {
    what_waited_arrives(false).await
}

#[tokio::test]
async fn what_waited_arrives_whole_once_it_is_allowed_where_bodies_reach_the_filter() -> anyhow::Result<()> {
    what_waited_arrives(true).await
}

/// A `POST` as it can come: with a length, in chunks, in chunks with trailers.
fn posts(tenant: &str) -> [Message; 3] {
    let post = |target: &str| Message::of_tenant(tenant, target).method("POST").body(BODY);
    let trailers = [
        (b"x-checksum".to_vec(), b"abc".to_vec()),
        (b"x-tenant-id".to_vec(), b"globex".to_vec()),
    ];
    [
        post("/v1/length"),
        post("/v1/chunked").chunked(),
        post("/v1/trailers").trailers(trailers),
    ]
}

const BODY: &[u8] = &[b'b'; 3000];

async fn a_wait_is_a_barrier(allow_on_headers_stop_iteration: bool) -> anyhow::Result<()> {
    let tenants: BTreeMap<_, _> = (0..3).map(|number| (format!("frozen-{number}"), refusal())).collect();
    let setup = patient()?.tenants(tenants);
    let world = setup
        .allow_on_headers_stop_iteration(allow_on_headers_stop_iteration)
        .start()
        .await?;
    for number in 0..3 {
        // A tenant of its own for each, since refusals are cached.
        let message = &posts(&format!("frozen-{number}"))[number];
        let reply = held_until_read(&world, message).await?;
        ensure!(
            reply.status == 403 && reply.code() == "TENANT_SUSPENDED",
            "{} {}",
            reply.status,
            reply.text()
        );
    }
    ensure!(world.echo.total() == 0, "the upstream saw {:?}", world.echo.requests());
    let connections = world.envoy.stat("cluster.upstream.upstream_cx_total").await?;
    ensure!(
        connections == 0,
        "{connections} connections were opened to the upstream"
    );
    world.check_workers_live().await?;
    world.stop().await
}

async fn what_waited_arrives(allow_on_headers_stop_iteration: bool) -> anyhow::Result<()> {
    let tenants: BTreeMap<_, _> = (0..3)
        .map(|number| format!("open-{number}"))
        .map(|tenant| (tenant.clone(), record(&tenant)))
        .collect();
    let setup = patient()?.tenants(tenants);
    let world = setup
        .allow_on_headers_stop_iteration(allow_on_headers_stop_iteration)
        .start()
        .await?;
    for number in 0..3 {
        let tenant = format!("open-{number}");
        let reply = held_until_read(&world, &posts(&tenant)[number]).await?;
        ensure!(reply.status == 200, "{} {}", reply.status, reply.text());
        let seen = world.last_forwarded()?;
        ensure!(
            seen.complete && seen.body == BODY,
            "{} bytes of the body arrived",
            seen.body.len()
        );
        ensure!(seen.values("x-tenant-id") == [tenant.as_bytes()], "{:?}", seen.headers);
        if number == 2 {
            ensure!(
                seen.trailer_values("x-checksum") == [b"abc"],
                "trailers {:?}",
                seen.trailers
            );
            ensure!(
                seen.trailer_values("x-tenant-id").is_empty(),
                "an owned trailer passed: {:?}",
                seen.trailers
            );
        }
    }
    ensure!(
        world.echo.total() == 3,
        "the upstream saw {} requests",
        world.echo.total()
    );
    world.check_workers_live().await?;
    world.stop().await
}

/// Sends a message whose lookup is answered only when Envoy has read the message to its end.
async fn held_until_read(world: &World, message: &Message) -> anyhow::Result<envoy_e2e::Reply> {
    const RECEIVED: &str = "http.ingress.downstream_cx_rx_bytes_total";
    let received = world.envoy.stat(RECEIVED).await?;
    let (lookups, forwarded) = (world.tenant_manager.total(), world.echo.total());
    world.tenant_manager.hold();
    let release = async {
        world.tenant_manager.wait_for(lookups + 1, SOON).await?;
        let end = received + message.bytes().len() as u64;
        world
            .envoy
            .wait_for_stat(RECEIVED, SOON, |received| received >= end)
            .await?;
        ensure!(
            world.echo.total() == forwarded,
            "the upstream saw it early: {:?}",
            world.last_forwarded()?
        );
        world.tenant_manager.release();
        anyhow::Ok(())
    };
    let (reply, ()) = tokio::try_join!(world.send(message), release)?;
    Ok(reply)
}

#[tokio::test]
async fn large_body_is_held_back_and_nothing_of_it_passes_a_refusal() -> anyhow::Result<()> {
    let world = patient()?
        .tenants(BTreeMap::from([("frozen-big".to_owned(), refusal())]))
        .start()
        .await?;
    world.tenant_manager.hold();
    let message = Message::of_tenant("frozen-big", "/v1/upload")
        .method("POST")
        .body(vec![b'b'; 5_000_000]);
    let release = async {
        world.tenant_manager.wait_for(1, SOON).await?;
        // Envoy has stopped reading: it takes in no more than its buffers hold.
        let paused = "http.ingress.downstream_flow_control_paused_reading_total";
        world.envoy.wait_for_stat(paused, SOON, |paused| paused > 0).await?;
        let read = world.envoy.stat("http.ingress.downstream_cx_rx_bytes_total").await?;
        ensure!(read < 1_000_000, "{read} bytes were read while the lookup was out");
        world.tenant_manager.release();
        anyhow::Ok(())
    };
    let (reply, ()) = tokio::try_join!(world.send(&message), release)?;
    ensure!(reply.code() == "TENANT_SUSPENDED");
    ensure!(world.echo.total() == 0);
    world.check_workers_live().await?;
    world.stop().await
}

#[tokio::test]
async fn a_cold_tenant_costs_one_lookup_per_worker() -> anyhow::Result<()> {
    const REQUESTS: u64 = 60;
    const WORKERS: u32 = 2;
    let world = patient()?.workers(WORKERS).start().await?;
    world.tenant_manager.hold();
    let mut requests = JoinSet::new();
    for _ in 0..REQUESTS {
        let connection = world.connect().await?;
        requests.spawn(async move { connection.reply_to(&Message::of_tenant("acme", "/v1/accounts")).await });
    }
    world
        .envoy
        .wait_for_stat(ACTIVE, SOON, |active| active == REQUESTS)
        .await?;
    world.tenant_manager.wait_for(1, SOON).await?;
    world.tenant_manager.release();
    for reply in requests.join_all().await {
        let reply = reply?;
        ensure!(reply.status == 200, "{} {}", reply.status, reply.text());
    }
    let lookups = world.tenant_manager.total();
    ensure!(
        (1..=WORKERS as usize).contains(&lookups),
        "{lookups} lookups by {WORKERS} workers"
    );
    ensure!(world.echo.total() as u64 == REQUESTS);
    world.check_workers_live().await?;
    world.stop().await
}
