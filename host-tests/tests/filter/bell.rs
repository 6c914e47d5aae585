//! Hosts whose statistics leave the filter's gauge out: the shared data say that something changed.

use std::time::Duration;

use serde_json::{Value, json};
use tiny_envoy::Level;

use crate::world::{World, denied, ms, slug, with_events};

const WORKERS: usize = 3;
const BELL: &str = "tenantgate_epoch";

/// A `stats_matcher` rejects these.
fn rejecting(prefix: &str) -> World {
    World::start(&with_events(json!({})), |builder| {
        builder.workers(WORKERS).reject_stats(prefix)
    })
}

fn event(kind: &str, tenant: &str) -> Value {
    json!({ "event_type": kind, "tenant_id": tenant, "payload": { "service_name": "ledger" } })
}

#[test]
fn that_the_gauge_does_not_move_is_said_as_a_warning() {
    for (prefix, is_said) in [(BELL, true), ("tenant", true), ("", true), ("unrelated", false)] {
        let world = rejecting(prefix);
        let logs = world.envoy.logs();
        let said: Vec<_> = logs.iter().filter(|line| line.message.contains(BELL)).collect();
        assert_eq!(!said.is_empty(), is_said, "{prefix:?}: {said:?}");
        assert!(said.iter().all(|line| line.level == Level::Warn), "{said:?}");
        let shows = world.envoy.metrics().keys().any(|name| name.starts_with(BELL));
        assert_eq!(shows, !is_said);
    }
}

#[test]
fn a_host_that_refuses_the_hostcalls_of_the_gauge_is_one_without_it() {
    for capability in ["proxy_get_metric", "proxy_increment_metric", "proxy_define_metric"] {
        let mut world = World::start(&with_events(json!({})), |builder| {
            builder.workers(WORKERS).restrict_capability(capability)
        });
        assert!(
            world
                .envoy
                .logs()
                .iter()
                .any(|line| line.level == Level::Warn && line.message.contains(BELL))
        );
        world.record("acme", "old");
        for worker in 0..WORKERS {
            assert_eq!(slug(world.run_on("acme", worker)), "old");
        }
        world.told(0, &event("tenant.suspended", "acme"));
        for worker in 0..WORKERS {
            assert_eq!(
                denied(world.ask_now("acme", worker)).1,
                "TENANT_SUSPENDED",
                "{capability}"
            );
        }
        world.assert_healthy();
    }
}

#[test]
fn without_the_gauge_what_one_worker_knows_all_know() {
    let mut world = rejecting(BELL);
    world.record("acme", "first");
    world.run_on("acme", 0).forwarded();
    for worker in 0..WORKERS {
        assert_eq!(slug(world.ask_now("acme", worker)), "first");
    }
    assert_eq!(world.asked(), 1);
    world.assert_healthy();
}

#[test]
fn without_the_gauge_an_event_holds_on_every_worker_when_its_200_is_out() {
    for prefix in [BELL, ""] {
        let mut world = rejecting(prefix);
        world.record("acme", "old");
        for worker in 0..WORKERS {
            assert_eq!(slug(world.run_on("acme", worker)), "old");
        }
        world.slow_record("acme", "new", 100);
        world.told(0, &event("tenant.updated", "acme"));
        for worker in 0..WORKERS {
            assert_eq!(slug(world.run_on("acme", worker)), "new", "worker {worker}");
        }
        world.asked();
        world.told(1, &event("tenant.suspended", "acme"));
        for worker in 0..WORKERS {
            assert_eq!(denied(world.ask_now("acme", worker)).1, "TENANT_SUSPENDED");
        }
        assert_eq!(world.asked(), 0);
        world.told(2, &json!({ "type": "cache.invalidate_all" }));
        for worker in 0..WORKERS {
            assert_eq!(slug(world.run_on("acme", worker)), "new");
        }
        world.assert_healthy();
    }
}

#[test]
fn without_the_gauge_whoever_waits_is_refused_all_the_same() {
    let mut world = rejecting(BELL);
    world.slow_record("acme", "old", 100);
    let streams: Vec<_> = (0..WORKERS).map(|worker| world.ask("acme", worker)).collect();
    world.envoy.advance(ms(50));
    world.told(0, &event("tenant.suspended", "acme"));
    world.envoy.advance(ms(50));
    for stream in streams {
        assert_eq!(denied(world.envoy.outcome(stream)).1, "TENANT_SUSPENDED");
        assert!(world.envoy.upstream_saw(stream).is_none());
    }
}

#[test]
fn without_the_gauge_whoever_waits_for_an_updated_tenant_gets_the_new_record() {
    let mut world = rejecting(BELL);
    world.slow_record("acme", "old", 100);
    let streams: Vec<_> = (0..WORKERS).map(|worker| world.ask("acme", worker)).collect();
    world.envoy.advance(ms(50));
    world.slow_record("acme", "new", 100);
    world.told(0, &event("tenant.updated", "acme"));
    world.envoy.advance(ms(200));
    for stream in streams {
        assert_eq!(slug(world.envoy.outcome(stream)), "new");
    }
}

#[test]
fn without_the_gauge_refresh_and_breaker_are_the_nodes() {
    let mut world = rejecting(BELL);
    world.record("acme", "first");
    for worker in 0..WORKERS {
        world.run_on("acme", worker).forwarded();
    }
    world.answer("acme", json!({ "status": 500 }));
    world.envoy.advance(Duration::from_secs(135));
    world.asked();
    for worker in 0..WORKERS {
        assert_eq!(slug(world.ask_now("acme", worker)), "first");
    }
    assert_eq!(world.asked(), 1);
    for n in 0..4 {
        let tenant = format!("failing-{n}");
        world.answer(&tenant, json!({ "status": 500 }));
        world.run_on(&tenant, n % WORKERS).replied();
    }
    for worker in 0..WORKERS {
        assert_eq!(denied(world.ask_now("globex", worker)).1, "CIRCUIT_OPEN");
    }
}

#[test]
fn a_warm_request_reads_the_gauge_or_the_shared_data_and_never_both() {
    for (prefix, gauge, data) in [("unrelated", 1, 0), (BELL, 0, 1)] {
        let mut world = rejecting(prefix);
        world.run_on("acme", 0).forwarded();
        let stream = world.ask("acme", 0);
        let calls = world.envoy.hostcalls_of(stream);
        let made = |name: &str| calls.get(name).copied().unwrap_or_default();
        assert_eq!((made("proxy_get_metric"), made("proxy_get_shared_data")), (gauge, data));
        assert_eq!(made("proxy_set_shared_data"), 0);
        assert!(calls.values().sum::<u64>() <= 8, "{calls:?}");
    }
}
