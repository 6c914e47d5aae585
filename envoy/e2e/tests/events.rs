//! Tenant events on the real Envoy: what is told on one listener holds on every worker of the other.

use anyhow::ensure;
use envoy_e2e::{Connection, EVENTS_KEY, EVENTS_PATH, Message, Setup, Traffic, World};
use envoy_run::TENANT_EVENTS;
use serde_json::{Value, json};
use tokio::time::{Duration, Instant, sleep};

/// Enough connections that every worker has some: the kernel deals them out.
const CONNECTIONS: usize = 32;

async fn world() -> anyhow::Result<World> {
    Setup::of_corpus(json!({}))?.workers(4).tenant_events()?.start().await
}

/// The statuses of a request on each of many connections.
async fn statuses(world: &World, tenant: &str) -> anyhow::Result<Vec<u16>> {
    let mut statuses = Vec::new();
    for _ in 0..CONNECTIONS {
        statuses.push(world.send(&Message::of_tenant(tenant, "/v1/accounts")).await?.status);
    }
    statuses.dedup();
    Ok(statuses)
}

fn event(kind: &str, tenant: &str) -> Value {
    json!({ "event_id": "1", "event_type": kind, "tenant_id": tenant, "environment": "staging" })
}

#[tokio::test]
async fn a_suspension_holds_on_every_worker_until_the_activation() -> anyhow::Result<()> {
    let world = world().await?;
    ensure!(statuses(&world, "acme").await? == [200], "everybody knows acme");
    ensure!(statuses(&world, "globex").await? == [200], "everybody knows globex");
    let asked = world.tenant_manager.total();

    let reply = world.tell(&event("tenant.suspended", "acme")).await?;
    ensure!(reply.status == 200, "{} {}", reply.status, reply.text());
    let told: Value = serde_json::from_slice(&reply.body)?;
    ensure!(told["applied"] == 1, "{told}");
    ensure!(statuses(&world, "acme").await? == [403], "nobody serves it any more");
    ensure!(statuses(&world, "globex").await? == [200], "nobody else is disturbed");
    ensure!(world.tenant_manager.total() == asked, "and nobody has asked");

    let reply = world.tell(&event("tenant.activated", "acme")).await?;
    ensure!(reply.status == 200, "{} {}", reply.status, reply.text());
    ensure!(statuses(&world, "acme").await? == [200], "served again");
    ensure!(world.tenant_manager.total() > asked, "having asked anew");
    world.check_workers_live().await?;
    world.stop().await
}

#[tokio::test]
async fn only_whoever_has_the_key_is_heard_and_nothing_goes_on_from_there() -> anyhow::Result<()> {
    let world = world().await?;
    ensure!(statuses(&world, "acme").await? == [200]);
    let forwarded = world.echo.total();
    let body = event("tenant.suspended", "acme").to_string();
    let to_events = || Message::new("POST", EVENTS_PATH).body(body.clone());
    let listener = world.envoy.listener(TENANT_EVENTS).expect("it is there");
    for (message, status, code) in [
        (to_events(), 401, "EVENTS_UNAUTHORIZED"),
        (
            to_events().line("x-api-key", "events-key-of-the-test"),
            401,
            "EVENTS_UNAUTHORIZED",
        ),
        (
            to_events().line("x-api-key", EVENTS_KEY).line("x-api-key", EVENTS_KEY),
            401,
            "EVENTS_UNAUTHORIZED",
        ),
        (
            Message::new("GET", EVENTS_PATH).line("x-api-key", EVENTS_KEY),
            400,
            "EVENTS_MALFORMED",
        ),
        (
            Message::new("POST", EVENTS_PATH).line("x-api-key", EVENTS_KEY),
            400,
            "EVENTS_MALFORMED",
        ),
        (
            Message::new("POST", EVENTS_PATH)
                .line("x-api-key", EVENTS_KEY)
                .body("[{]"),
            400,
            "EVENTS_MALFORMED",
        ),
        (
            Message::new("POST", EVENTS_PATH)
                .line("x-api-key", EVENTS_KEY)
                .body(vec![b' '; 262_145]),
            400,
            "EVENTS_MALFORMED",
        ),
        (
            Message::new("POST", format!("{EVENTS_PATH}/")).line("x-api-key", EVENTS_KEY),
            401,
            "TENANT_ID_REQUIRED",
        ),
    ] {
        let reply = Connection::exchange(listener, &message).await?;
        ensure!(
            (reply.status, reply.code().as_str()) == (status, code),
            "{status} {code}, not {} {}",
            reply.status,
            reply.text()
        );
    }
    ensure!(statuses(&world, "acme").await? == [200], "nothing has happened");
    let chunked = to_events().line("x-api-key", EVENTS_KEY).chunked();
    let reply = Connection::exchange(listener, &chunked).await?;
    ensure!(reply.status == 200, "{} {}", reply.status, reply.text());
    ensure!(statuses(&world, "acme").await? == [403]);
    ensure!(
        world.echo.total() == forwarded + CONNECTIONS,
        "no event reached the upstream"
    );
    world.check_workers_live().await?;
    world.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_not_one_request_is_served_once_the_suspension_is_answered() -> anyhow::Result<()> {
    const CLIENTS: usize = 16;
    const OBSERVED: usize = 10_000;
    let world = world().await?;
    let messages = [
        Message::of_tenant("acme", "/v1/accounts"),
        Message::of_tenant("acme", "/v1/transactions"),
        Message::of_tenant("globex", "/v1/accounts"),
    ];
    let traffic = Traffic::start(world.envoy.address(), CLIENTS, &messages);
    let forwarded = world.echo.total();
    let deadline = Instant::now() + Duration::from_secs(120);
    while world.echo.total() < forwarded + 2_000 {
        ensure!(Instant::now() < deadline, "too slow to see anything");
        sleep(Duration::from_millis(10)).await;
    }
    let reply = world.tell(&event("tenant.suspended", "acme")).await?;
    let told = Instant::now();
    ensure!(reply.status == 200, "{} {}", reply.status, reply.text());
    // Of three requests one is of globex and goes on: as many tell how many there have been.
    let forwarded = world.echo.total();
    while world.echo.total() < forwarded + OBSERVED / 2 + 500 {
        ensure!(Instant::now() < deadline, "too slow to see anything");
        sleep(Duration::from_millis(10)).await;
    }
    let samples = traffic.stop().await?;
    let of_acme = || samples.iter().filter(|sample| sample.message < 2);
    let after: Vec<_> = of_acme().filter(|sample| sample.began > told).collect();
    ensure!(after.len() >= OBSERVED, "{} requests", after.len());
    let served = after.iter().filter(|sample| sample.status != 403).count();
    ensure!(served == 0, "{served} of {} were not refused", after.len());
    let before = of_acme().filter(|sample| sample.began + sample.took < told);
    ensure!(
        before.filter(|sample| sample.status == 200).count() > 500,
        "it was served before"
    );
    let disturbed = samples
        .iter()
        .filter(|sample| sample.message == 2 && sample.status != 200);
    ensure!(disturbed.count() == 0, "globex was disturbed");
    world.check_workers_live().await?;
    world.stop().await
}
