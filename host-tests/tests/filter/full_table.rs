//! A node's table that is far too small: what has no place there is still nobody's mistake.

use std::time::Duration;

use serde_json::{Value, json};
use tiny_envoy::Outcome;

use crate::world::{World, denied, forwarded_for, slug};

const WORKERS: usize = 3;
const SLOTS: usize = 8;
const TENANTS: usize = 24;

fn tenant(n: usize) -> String {
    format!("t{n}")
}

/// Every worker holds a record of everybody; the node has place for one in three.
fn crowded() -> World {
    let patch = json!({ "tenant_manager": { "cache": { "shared_slots": SLOTS } } });
    let mut world = World::with_workers(WORKERS, patch);
    for n in 0..TENANTS {
        world.record(&tenant(n), "old");
        for worker in 0..WORKERS {
            assert_eq!(slug(world.run_on(&tenant(n), worker)), "old");
        }
    }
    assert_eq!(world.envoy.metric("tenant_consumers_active"), Some(8));
    world.asked();
    for n in 0..TENANTS {
        for worker in 0..WORKERS {
            assert_eq!(slug(world.ask_now(&tenant(n), worker)), "old", "each worker for itself");
        }
    }
    assert_eq!(world.asked(), 0);
    world
}

fn event(kind: &str, n: usize) -> Value {
    json!({ "event_type": kind, "tenant_id": tenant(n), "payload": { "service_name": "ledger" } })
}

#[test]
fn an_update_reaches_workers_that_hold_what_the_node_has_no_place_for() {
    let mut world = crowded();
    for n in 0..TENANTS {
        world.record(&tenant(n), "new");
        world.told(n % WORKERS, &event("tenant.updated", n));
        for worker in 0..WORKERS {
            assert_eq!(slug(world.run_on(&tenant(n), worker)), "new", "{n} on worker {worker}");
        }
    }
    world.assert_healthy();
}

#[test]
fn whoever_is_refused_by_an_event_is_not_served_wherever_the_refusal_found_no_place() {
    let mut world = crowded();
    for n in 0..TENANTS {
        world.answer(
            &tenant(n),
            json!({ "status": 403, "body": { "status": "suspended" }, "delay_ms": 100 }),
        );
    }
    for n in 0..TENANTS {
        world.told(n % WORKERS, &event("tenant.suspended", n));
        for earlier in 0..=n {
            for worker in 0..WORKERS {
                let outcome = world.ask_now(&tenant(earlier), worker);
                let is_served = matches!(outcome, Outcome::Forwarded(_));
                assert!(!is_served, "{earlier} after {n} on worker {worker}");
            }
        }
        world.envoy.advance(Duration::from_millis(100));
    }
    for n in 0..TENANTS {
        for worker in 0..WORKERS {
            assert_eq!(denied(world.run_on(&tenant(n), worker)).1, "TENANT_SUSPENDED");
        }
    }
    world.assert_healthy();
}

#[test]
fn a_refusal_learned_on_one_worker_ends_what_others_hold_though_the_node_had_no_place_for_it() {
    for answer in [
        json!({ "status": 403, "body": { "status": "suspended" } }),
        json!({ "status": 404 }),
        json!({ "status": 422 }),
    ] {
        let mut world = crowded();
        world.envoy.advance(Duration::from_secs(135));
        for n in 0..TENANTS {
            world.answer(&tenant(n), answer.clone());
            // It is stale: served, and asked for anew by whoever holds it.
            assert_eq!(slug(world.ask_now(&tenant(n), 0)), "old");
            world.envoy.settle();
            for worker in 0..WORKERS {
                let outcome = world.run_on(&tenant(n), worker);
                assert!(matches!(outcome, Outcome::Replied(_)), "{answer}: {n} on {worker}");
            }
        }
        world.assert_healthy();
    }
}

#[test]
fn a_full_table_is_used_again_when_what_it_held_has_ended() {
    let mut world = crowded();
    for n in 0..TENANTS {
        world.told(0, &event("tenant.deleted", n));
    }
    world.envoy.advance(Duration::from_secs(600));
    assert_eq!(world.envoy.metric("tenant_consumers_active"), Some(0));
    for n in 0..SLOTS {
        assert_eq!(forwarded_for(world.run_on(&tenant(n), 0)), tenant(n));
    }
    assert_eq!(world.envoy.metric("tenant_consumers_active"), Some(8));
    world.asked();
    for n in 0..SLOTS {
        assert_eq!(forwarded_for(world.ask_now(&tenant(n), 2)), tenant(n));
    }
    assert_eq!(world.asked(), 0);
}
