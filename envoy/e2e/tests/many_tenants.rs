//! A hundred thousand tenants on one node, made known by the list of active tenants.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::ensure;
use corpus::answer::Answer;
use envoy_e2e::{Message, Setup};
use serde_json::{Value, json};

const TENANTS: usize = 100_000;
/// With that many slots in sets of eight, some sets have more tenants than places: about one tenant in
/// eighteen finds none, and is looked up when it is asked for.
const PLACED: u64 = 92_000;
/// What the node may take for all of it: the node's table and one worker's cache, generously.
const MEMORY: u64 = 256 << 20;
const CONSUMERS: &str = "wasmcustom.tenant_consumers_active";
/// Requests for whose tenant the node had nothing.
const MISSES: &str = "wasmcustom.tenantgate_cache_lookups_total.level=shared~.outcome=miss~";
/// How long it may take to ask about all of them, four at a time.
const SOON: Duration = Duration::from_secs(300);

fn name(number: usize) -> String {
    format!("tenant-{number:06}")
}

fn answers() -> BTreeMap<String, Answer> {
    let record = |id: &str| Answer {
        body: Some(json!({ "id": id, "tenantSlug": id, "databases": { "onboarding": {}, "transaction": {} } })),
        ..Answer::default()
    };
    let listed: Vec<Value> = (0..TENANTS).map(|number| json!({ "id": name(number) })).collect();
    let list = Answer {
        body: Some(listed.into()),
        ..Answer::default()
    };
    let mut answers: BTreeMap<_, _> = (0..TENANTS).map(name).map(|id| (id.clone(), record(&id))).collect();
    answers.insert("active".to_owned(), list);
    answers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_tenants_are_known_within_bounds_and_served_without_a_question() -> anyhow::Result<()> {
    let manager = json!({
        "max_body_bytes": 16_777_216,
        "timeout_ms": 10_000,
        "cache": {
            "ttl_seconds": 3600,
            "max_entries": TENANTS,
            "max_bytes": 134_217_728,
            "shared_slots": 131_072,
        },
        "discovery": { "interval_seconds": 3600 },
    });
    let world = Setup::of_corpus(json!({ "tenant_manager": manager }))?
        .tenants(answers())
        .workers(2)
        .start()
        .await?;
    let before = world.resident_bytes()?;
    world
        .envoy
        .wait_for_stat(CONSUMERS, SOON, |records| records >= PLACED)
        .await?;
    let grown = world.resident_bytes()?.saturating_sub(before);
    println!("{TENANTS} tenants took {} KiB", grown >> 10);
    ensure!(grown < MEMORY, "{TENANTS} tenants took {grown} bytes");

    let before = world.envoy.stat(MISSES).await?;
    for number in (0..TENANTS).step_by(TENANTS / 200) {
        let reply = world.send(&Message::of_tenant(&name(number), "/v1/accounts")).await?;
        ensure!(reply.status == 200, "{} {}", reply.status, reply.text());
    }
    let missed = world.envoy.stat(MISSES).await? - before;
    ensure!(missed <= 200 / 5, "{missed} of 200 tenants were asked about again");
    world.check_workers_live().await?;
    world.stop().await
}
