//! What a request may cost in hostcalls.

use std::collections::BTreeMap;

use serde_json::json;
use tiny_envoy::{Answer, PeerRequest};

use crate::world::{ACCOUNTS, World, config, world};

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
fn what_others_are_told_costs_a_hostcall_each_and_nothing_where_they_are_not() {
    let cost = |properties: bool| {
        let mut world = world(json!({ "scope": { "properties": properties } }));
        for _ in 0..2 {
            world.run("acme").forwarded();
        }
        let stream = world.ask("acme", 0);
        world.envoy.outcome(stream).forwarded();
        world.envoy.hostcalls_of(stream)
    };
    let (without, with) = (cost(false), cost(true));
    let sum = |calls: &BTreeMap<&'static str, u64>| calls.values().sum::<u64>();
    assert_eq!(with.get("proxy_set_property"), Some(&3));
    assert_eq!(without.get("proxy_set_property"), None);
    assert_eq!(sum(&with), sum(&without) + 3, "{with:#?} {without:#?}");
}

/// The hostcalls that a warm request makes for its response.
fn for_the_response(patch: serde_json::Value, path: &str) -> BTreeMap<&'static str, u64> {
    let config = config(patch);
    let mut world = World::start(&config, |builder| {
        builder.upstream(|_: &PeerRequest| {
            Answer::json(200, "{}")
                .header("x-storage-key", "acme/a")
                .trailer("x-storage-key", "acme/b")
        })
    });
    for _ in 0..2 {
        world.run("acme").forwarded();
    }
    let bearer = world.bearer("acme");
    let stream = world.envoy.get(path).header("authorization", bearer).send();
    world.envoy.outcome(stream).forwarded();
    let before = world.envoy.hostcalls_of(stream);
    world.envoy.settle();
    assert!(world.envoy.is_finished(stream));
    let mut calls = world.envoy.hostcalls_of(stream);
    calls.retain(|name, made| {
        *made -= before.get(name).copied().unwrap_or_default();
        *made > 0
    });
    calls
}

#[test]
fn a_response_costs_nothing_where_nothing_is_done_to_it() {
    let guard = json!([{ "name": "x-storage-key", "kind": "storage_key" }]);
    assert_eq!(for_the_response(json!({}), ACCOUNTS), BTreeMap::new());
    let limited = json!({ "rate_limit": { "requests_per_second": 100 } });
    assert_eq!(for_the_response(limited, ACCOUNTS), BTreeMap::new());
    let guarded = json!({ "scope": { "response": guard } });
    assert_eq!(for_the_response(guarded.clone(), "/health"), BTreeMap::new());
    // Head and trailers are read and edited once.
    let expected = BTreeMap::from([("proxy_get_header_map_pairs", 2), ("proxy_replace_header_map_value", 2)]);
    assert_eq!(for_the_response(guarded, ACCOUNTS), expected);
}

#[test]
fn a_limited_request_reads_and_writes_its_bucket_once() {
    let mut world = world(json!({ "rate_limit": { "requests_per_second": 1000, "burst": 100 } }));
    for _ in 0..2 {
        world.run("acme").forwarded();
    }
    let stream = world.ask("acme", 0);
    world.envoy.outcome(stream).forwarded();
    let calls = world.envoy.hostcalls_of(stream);
    assert_eq!(calls.get("proxy_get_shared_data"), Some(&1));
    assert_eq!(calls.get("proxy_set_shared_data"), Some(&1));
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
