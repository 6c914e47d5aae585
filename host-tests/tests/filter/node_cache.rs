//! What one worker has learned of a tenant all workers of the node know, and VMs that come later.

use serde_json::{Value, json};

use crate::world::{World, config, denied, forwarded_for, ms, slug};

/// What stands behind the filter's own keys is nobody else's.
const OURS: &[u8] = b"tenantgate.";

/// A world with another configuration in the same node: what the workers of the first share, the
/// second finds. Clocks agree, since neither has moved.
fn next_configuration(first: &World, patch: Value) -> World {
    let mut next = World::start(&config(patch), |builder| builder.workers(2));
    for (key, entry) in first.envoy.shared_data() {
        if key.starts_with(OURS) && !key.starts_with(b"tenantgate.queue") {
            next.envoy.set_shared_data(key, entry.value);
        }
    }
    next
}

#[test]
fn a_tenant_that_one_worker_knows_is_served_by_all_without_a_question() {
    let mut world = World::with_workers(4, json!({}));
    world.record("acme", "first");
    assert_eq!(slug(world.run_on("acme", 0)), "first");
    assert_eq!(world.asked(), 1);
    // It would say something else by now.
    world.record("acme", "second");
    for worker in 0..4 {
        assert_eq!(slug(world.ask_now("acme", worker)), "first", "worker {worker}");
    }
    assert_eq!(world.asked(), 0);
    world.assert_healthy();
}

#[test]
fn a_refusal_that_one_worker_knows_is_given_by_all_without_a_question() {
    for (tenant, expected) in [
        ("frozen", (403, "TENANT_SUSPENDED")),
        ("purged", (403, "TENANT_SUSPENDED")),
        ("barred", (403, "TENANT_ACCESS_DENIED")),
        ("empty", (422, "TENANT_NOT_PROVISIONED")),
    ] {
        let mut world = World::with_workers(4, json!({}));
        world.run_on(tenant, 0).replied();
        assert_eq!(world.asked(), 1);
        world.record(tenant, "again");
        for worker in 0..4 {
            let (status, code) = denied(world.ask_now(tenant, worker));
            assert_eq!((status, code.as_str()), expected, "{tenant} on worker {worker}");
        }
        assert_eq!(world.asked(), 0, "{tenant}");
        world.envoy.advance(ms(10_000));
        assert_eq!(slug(world.run_on(tenant, 3)), "again", "{tenant} after negative_ttl");
    }
}

#[test]
fn an_unknown_tenant_is_not_shared() {
    let mut world = World::with_workers(2, json!({}));
    world.run_on("nobody", 0).replied();
    world.record("nobody", "somebody");
    assert_eq!(slug(world.run_on("nobody", 1)), "somebody");
    // Learning that there is a record is no invalidation: the other worker's time runs out by itself.
    assert_eq!(denied(world.ask_now("nobody", 0)).0, 404);
    world.envoy.advance(ms(10_000));
    assert_eq!(slug(world.ask_now("nobody", 0)), "somebody");
}

#[test]
fn a_refusal_learned_on_one_worker_ends_the_record_of_all() {
    for answer in [
        json!({ "status": 403, "body": { "status": "suspended" } }),
        json!({ "status": 403, "body": {} }),
        json!({ "status": 404 }),
        json!({ "status": 422 }),
        json!({ "record": { "id": "acme", "status": "suspended", "databases": { "onboarding": {} } } }),
    ] {
        let mut world = World::with_workers(3, json!({}));
        for worker in 0..3 {
            assert_eq!(forwarded_for(world.run_on("acme", worker)), "acme");
        }
        world.answer("acme", answer.clone());
        // In the stale window: the first is served, and has it asked for anew.
        world.envoy.advance(ms(135_000));
        assert_eq!(forwarded_for(world.ask_now("acme", 0)), "acme");
        world.envoy.settle();
        for worker in 0..3 {
            assert!(world.run_on("acme", worker).replied().status >= 403, "{answer} on {worker}");
        }
        // And not as a fallback either. What a record itself says holds for as long as a record.
        let after = if answer.get("record").is_some() { 403 } else { 503 };
        world.answer("acme", json!({ "status": 500 }));
        world.envoy.advance(ms(15_000));
        for worker in 0..3 {
            let status = world.run_on("acme", worker).replied().status;
            assert_eq!(status, after, "{answer} on {worker}");
        }
    }
}

#[test]
fn what_the_node_knows_survives_the_death_of_every_worker() {
    let mut world = World::of_mortals(2, json!({}));
    world.record("acme", "first");
    assert_eq!(slug(world.run_on("acme", 0)), "first");
    world.told(
        1,
        &json!({ "event_type": "tenant.suspended", "tenant_id": "globex", "environment": "staging" }),
    );
    for worker in 0..2 {
        world.kill(worker);
    }
    world.record("acme", "second");
    world.asked();
    for worker in 0..2 {
        assert_eq!(slug(world.ask_now("acme", worker)), "first", "worker {worker}");
        let expected = (403, "TENANT_SUSPENDED".to_owned());
        assert_eq!(denied(world.ask_now("globex", worker)), expected, "worker {worker}");
    }
    assert_eq!(world.asked(), 0);
}

#[test]
fn what_the_node_knows_survives_a_configuration_that_resolves_alike() {
    for patch in [
        json!({}),
        json!({ "scope": { "headers": [{ "name": "x-other", "kind": "redis_key" }] } }),
        json!({ "paths": { "public": [{ "prefix": "/ping" }] } }),
        json!({ "auth": { "leeway_seconds": 5 } }),
        json!({ "tenant_manager": { "api_keys": [{ "value": "rotated" }] } }),
        json!({ "tenant_manager": { "timeout_ms": 700, "max_waiters": 64 } }),
        json!({ "tenant_manager": { "cache": { "max_entries": 5 } } }),
        json!({ "tenant_manager": { "breaker": { "threshold": 9 } } }),
    ] {
        let mut first = World::start(&config(json!({})), |builder| builder);
        first.run("acme").forwarded();
        first.run("frozen").replied();
        let mut next = next_configuration(&first, patch.clone());
        assert_eq!(forwarded_for(next.run_on("acme", 1)), "acme");
        assert_eq!(denied(next.run_on("frozen", 0)).1, "TENANT_SUSPENDED");
        assert_eq!(next.asked(), 0, "{patch}");
    }
}

#[test]
fn what_the_node_knows_is_void_for_a_configuration_that_resolves_otherwise() {
    for patch in [
        json!({ "service": "other" }),
        json!({ "environment": "production" }),
        json!({ "tenant_id": { "fold_uuid": true } }),
        json!({ "tenant_manager": { "path": "/v1/tenants/{tenantId}/associations/{service}/connections" } }),
        json!({ "tenant_manager": { "authority": "elsewhere.internal" } }),
        json!({ "tenant_manager": { "cache": { "ttl_seconds": 60 } } }),
        json!({ "tenant_manager": { "cache": { "shared_slots": 64 } } }),
        json!({ "modules": { "default": "transaction" } }),
        json!({ "scope": { "emit": { "schema": "x-tenant-schema" } } }),
    ] {
        let mut first = World::start(&config(json!({})), |builder| builder);
        first.run("acme").forwarded();
        let mut next = next_configuration(&first, patch.clone());
        assert_eq!(forwarded_for(next.run_on("acme", 1)), "acme");
        assert_eq!(next.asked(), 1, "{patch}");
        next.assert_healthy();
    }
}
