//! What the node asks of its Tenant Manager under load, and what it does when there is no answer.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use corpus::answer::Answer;
use envoy_e2e::{Message, Sample, Setup, Traffic, World};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

const WORKERS: u32 = 4;
/// Clients that send as fast as they are answered.
const CLIENTS: usize = 16;
/// What a busy machine may add to a deadline. The exact bound is shown in virtual time, by the corpus.
const SCHEDULING: Duration = Duration::from_secs(4);
/// How long anything may take that is waited for here.
const SOON: Duration = Duration::from_secs(30);
/// How long the Tenant Manager is away, in seconds; more where somebody wants to see more.
const OUTAGE_SECONDS: &str = "OUTAGE_SECONDS";

const BREAKER: &str = "wasmcustom.tenantgate_breaker_state";

fn accounts(tenants: &[&str]) -> Vec<Message> {
    tenants
        .iter()
        .map(|tenant| Message::of_tenant(tenant, "/v1/accounts"))
        .collect()
}

async fn world(manager: Value) -> anyhow::Result<World> {
    Setup::of_corpus(json!({ "tenant_manager": manager }))?
        .workers(WORKERS)
        .start()
        .await
}

/// Lets traffic run for that long.
async fn run(world: &World, messages: &[Message], time: Duration) -> anyhow::Result<Vec<Sample>> {
    let until = Instant::now() + time;
    let traffic = Traffic::start(world.envoy.address(), CLIENTS, messages);
    sleep_until(until).await;
    traffic.stop().await
}

/// Every sample that was not served, by status and code.
fn refused(samples: &[Sample]) -> BTreeMap<(u16, &str), usize> {
    let mut refused = BTreeMap::new();
    for sample in samples.iter().filter(|sample| sample.status != 200) {
        *refused.entry((sample.status, sample.code.as_str())).or_default() += 1;
    }
    refused
}

fn delayed(answer: &Answer, delay_ms: u64) -> Answer {
    Answer {
        delay_ms,
        ..answer.clone()
    }
}

fn corpus_answer(tenant: &str) -> anyhow::Result<Answer> {
    let tenants = corpus::load(&corpus::cases_dir())?.base.tenants;
    tenants.get(tenant).cloned().context("the corpus has no such tenant")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_is_asked_about_once_per_worker_when_cold_and_once_per_node_and_ttl_when_warm() -> anyhow::Result<()> {
    const TTL: u64 = 2;
    let cache = json!({ "ttl_seconds": TTL, "stale_while_revalidate_seconds": 5 });
    let world = world(json!({ "cache": cache })).await?;
    // While the first answers are under way every worker has somebody who waits.
    world.tenant_manager.merge(BTreeMap::from([(
        "acme".to_owned(),
        delayed(&corpus_answer("acme")?, 100),
    )]));
    let time = Duration::from_secs(4 * TTL);
    let samples = run(&world, &accounts(&["acme"]), time).await?;
    ensure!(refused(&samples).is_empty(), "{:?}", refused(&samples));
    let asked = world.tenant_manager.total();
    // Jitter makes a time to live up to a tenth shorter; a refresh begins when it is over.
    let refreshes = time.as_millis().div_ceil(u128::from(TTL) * 900);
    ensure!(
        asked <= WORKERS as usize + usize::try_from(refreshes)?,
        "{asked} questions for {} requests",
        samples.len()
    );
    ensure!(asked > 2, "{asked} questions: it was refreshed");
    world.check_workers_live().await?;
    world.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn known_tenants_are_served_while_the_tenant_manager_is_away() -> anyhow::Result<()> {
    const OPEN: u64 = 2;
    const THRESHOLD: usize = 5;
    let seconds = match std::env::var(OUTAGE_SECONDS) {
        Ok(text) => text.parse().context(OUTAGE_SECONDS)?,
        Err(_) => 8,
    };
    let outage = Duration::from_secs(seconds);
    let mut world = world(json!({
        "timeout_ms": 1000,
        "cache": { "ttl_seconds": 1, "stale_while_revalidate_seconds": 1, "stale_if_error_seconds": 3600 },
        "breaker": { "threshold": THRESHOLD, "open_seconds": OPEN },
    }))
    .await?;
    let messages = accounts(&["acme", "globex"]);
    let samples = run(&world, &messages, Duration::from_millis(500)).await?;
    ensure!(refused(&samples).is_empty(), "{:?}", refused(&samples));

    // Nobody listens.
    world.tenant_manager.pause().await;
    let samples = run(&world, &messages, outage).await?;
    ensure!(refused(&samples).is_empty(), "{:?}", refused(&samples));
    ensure!(world.envoy.stat(BREAKER).await? > 0, "the circuit is not closed");

    // Somebody listens and has nothing to say; now it can be counted who comes.
    let down = Answer {
        status: Some(503),
        ..Answer::default()
    };
    let before = world.tenant_manager.total();
    world.tenant_manager.merge(BTreeMap::from([
        ("acme".to_owned(), down.clone()),
        ("globex".to_owned(), down),
    ]));
    world.tenant_manager.resume().await?;
    let samples = run(&world, &messages, outage).await?;
    ensure!(refused(&samples).is_empty(), "{:?}", refused(&samples));
    let probes = world.tenant_manager.total() - before;
    let most = usize::try_from(outage.as_secs().div_ceil(OPEN) + 1)?;
    ensure!(probes <= most, "{probes} probes, not {most}");
    ensure!(probes > 0, "nobody has tried");

    // It is back.
    world.tenant_manager.merge(BTreeMap::from([
        ("acme".to_owned(), corpus_answer("acme")?),
        ("globex".to_owned(), corpus_answer("globex")?),
    ]));
    let traffic = Traffic::start(world.envoy.address(), CLIENTS, &messages);
    let closed = world.envoy.wait_for_stat(BREAKER, SOON, |state| state == 0).await;
    let samples = traffic.stop().await?;
    closed?;
    ensure!(refused(&samples).is_empty(), "{:?}", refused(&samples));
    world.check_workers_live().await?;
    world.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_longer_than_its_deadline_for_a_slow_tenant_manager() -> anyhow::Result<()> {
    const TENANTS: usize = 24;
    let world = world(json!({ "timeout_ms": 1000, "breaker": { "threshold": 1000 } })).await?;
    let names: Vec<String> = (0..TENANTS).map(|number| format!("slow-{number}")).collect();
    let slow = delayed(&corpus_answer("acme")?, 5_000);
    let answers = names.iter().map(|name| (name.clone(), slow.clone())).collect();
    world.tenant_manager.merge(answers);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let memory_before = world.resident_bytes()?;
    let samples = run(&world, &accounts(&names), Duration::from_secs(6)).await?;
    for sample in &samples {
        ensure!(
            (sample.status, sample.code.as_str()) == (503, "TENANT_MANAGER_UNAVAILABLE"),
            "{sample:?}"
        );
        ensure!(sample.took <= Duration::from_millis(1500) + SCHEDULING, "{sample:?}");
    }
    ensure!(samples.len() >= CLIENTS * 2, "{} answers", samples.len());
    let grown = world.resident_bytes()?.saturating_sub(memory_before);
    ensure!(grown < 32 << 20, "{} requests took {grown} bytes", samples.len());
    world
        .envoy
        .wait_for_stat("wasmcustom.tenantgate_waiters", SOON, |waiters| waiters == 0)
        .await?;
    world.check_workers_live().await?;
    world.stop().await
}
