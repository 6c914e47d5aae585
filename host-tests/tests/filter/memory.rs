//! What the caches may take, however many tenants come.

use std::time::Duration;

use serde_json::json;
use tiny_envoy::{Answer, PeerRequest};

use crate::world::{World, record, slug, with_events};

const TENANTS: usize = 100_000;
const MIB: usize = 1024 * 1024;
/// What a memory grows by.
const PAGE: usize = 64 * 1024;
/// `design.md`: the most linear memory of a worker with 10 000 tenants and 10 000 tokens cached.
const MOST_BYTES: usize = 32 * MIB;
/// Sets of the table, and what there is besides: the log, the queue's number, the sweep, the Tenant
/// Manager.
const MOST_KEYS: usize = 16_384 / 8 + 8;

/// Everybody is a tenant, and has the longest texts there may be.
fn everybody(slug_bytes: usize) -> impl FnMut(&PeerRequest) -> Answer + Send {
    move |request: &PeerRequest| {
        let path = request.path();
        let id = path.split('/').nth(2).unwrap_or_default();
        let mut record = record(id, &"s".repeat(slug_bytes));
        record["messaging"] = json!({ "rabbitmq": { "vhost": "v".repeat(200) } });
        Answer::json(200, record.to_string())
    }
}

#[test]
fn a_hundred_thousand_tenants_leave_a_worker_within_its_memory_and_the_node_within_its_keys() {
    let config = with_events(json!({ "tenant_manager": { "cache": { "max_entries": 10_000 } } }));
    let mut world = World::start(&config, |builder| builder.cluster("tenant-manager", everybody(64)));
    let mut half = 0;
    for n in 0..TENANTS {
        let stream = world.ask(&format!("tenant-with-a-name-of-usual-length-{n}"), 0);
        world.envoy.settle();
        world.envoy.outcome(stream).forwarded();
        if n == TENANTS / 2 {
            half = world.envoy.memory(0).len();
        }
    }
    let bytes = world.envoy.memory(0).len();
    assert!(bytes <= MOST_BYTES, "{} KiB", bytes / 1024);
    // No allocation takes less than 16 bytes: one that is left behind for each tenant would be a dozen
    // pages. Hashes are seeded at random, and with them the holes between what comes and goes: some runs
    // need a page or two more in the second half, and stay there.
    assert!(
        bytes <= half + 4 * PAGE,
        "the second half of them took {} more",
        bytes - half
    );
    let shared = world.envoy.shared_data();
    assert!(shared.len() <= MOST_KEYS, "{} keys", shared.len());
    let largest = shared.values().map(|entry| entry.value.len()).max();
    assert!(largest <= Some(16 * 1024), "{largest:?} bytes");
    let held = world.envoy.metric("tenant_consumers_active");
    assert!(held <= Some(16_384), "{held:?}");
    assert!(held >= Some(16_000), "{held:?}: and it is used");
    // All of it is given back.
    world.envoy.advance(Duration::from_secs(700));
    assert_eq!(world.envoy.metric("tenant_consumers_active"), Some(0));
    let left: usize = world.envoy.shared_data().values().map(|entry| entry.value.len()).sum();
    assert!(left <= 256 * 1024, "{left} bytes");
    world.assert_healthy();
}

#[test]
fn bytes_bound_a_workers_cache_where_entries_do_not() {
    let cache = json!({ "max_entries": 10_000, "max_bytes": 65_536 });
    let config = with_events(json!({ "tenant_manager": { "cache": cache } }));
    let mut world = World::start(&config, |builder| builder.cluster("tenant-manager", everybody(250)));
    for n in 0..300 {
        assert_eq!(slug(world.run_on(&format!("t{n}"), 0)).len(), 250);
    }
    let evictions = world.envoy.metric("tenantgate_cache_evictions_total");
    assert!(evictions >= Some(150), "{evictions:?}");
    world.assert_healthy();
}
