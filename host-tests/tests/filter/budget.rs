//! What a request may cost in hostcalls.

use std::collections::BTreeMap;

use serde_json::json;

use crate::world::{ACCOUNTS, World, world};

/// The most hostcalls of a warm request: tenant header set, two keys scoped.
const WARM: u64 = 8;

/// The most hostcalls of a request to a public path.
const PUBLIC: u64 = 4;

#[track_caller]
fn assert_within(calls: &BTreeMap<&'static str, u64>, budget: u64) {
    let made: u64 = calls.values().sum();
    assert!(made > 0, "somebody must read the headers");
    assert!(made <= budget, "{made} hostcalls, {budget} allowed: {calls:#?}");
}

#[test]
fn a_warm_request_stays_within_its_hostcalls() {
    let mut world = world(json!({}));
    world.run("acme").forwarded();
    // The first hit of a second asks for the tick at which all of them are counted.
    world.run("acme").forwarded();
    let stream = world
        .request("GET", "acme")
        .header("x-routing-key", "orders.created")
        .header("x-redis-key", "session")
        .send();
    let request = world.envoy.outcome(stream).forwarded();
    assert_eq!(request.headers.get_all("x-tenant-id"), [b"acme"]);
    assert_eq!(
        request.headers.get_all("x-routing-key"),
        [b"orders.created.acme".as_slice()]
    );
    assert_eq!(
        request.headers.get_all("x-redis-key"),
        [b"tenant:acme:session".as_slice()]
    );
    assert_within(&world.envoy.hostcalls_of(stream), WARM);
}

#[test]
fn a_public_path_stays_within_its_hostcalls() {
    let mut world = world(json!({}));
    let stream = world.envoy.get("/health").header("x-tenant-id", "acme").send();
    let request = world.envoy.outcome(stream).forwarded();
    assert!(request.headers.get("x-tenant-id").is_none());
    assert_within(&world.envoy.hostcalls_of(stream), PUBLIC);
}

#[test]
fn single_tenant_mode_costs_nothing_and_counts_nothing() {
    for config in [json!({ "version": "v1" }), json!({ "version": "v1", "enabled": false })] {
        let mut world = World::start(&config, |builder| builder);
        let stream = world
            .envoy
            .post(ACCOUNTS)
            .header("x-tenant-id", "anybody")
            .header("x-redis-key", "k")
            .body("body")
            .trailer("x-tenant-id", "anybody")
            .send();
        world.envoy.settle();
        let request = world.envoy.outcome(stream).forwarded();
        assert_eq!(request.headers.get_all("x-tenant-id"), [b"anybody"]);
        assert_eq!(request.headers.get_all("x-redis-key"), [b"k"]);
        assert_eq!(request.trailers.get_all("x-tenant-id"), [b"anybody"]);
        assert_eq!(world.envoy.hostcalls_of(stream), BTreeMap::new());
        assert_eq!(world.envoy.metrics(), BTreeMap::new());
        assert_eq!(world.envoy.callouts().len(), 0);
        assert_eq!(world.envoy.shared_data(), BTreeMap::new());
        world.assert_quiet();
        world.assert_healthy();
    }
}
