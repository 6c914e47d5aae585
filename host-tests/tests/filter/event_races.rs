//! Events that come while requests wait and lookups are under way.

use serde_json::{Value, json};
use tiny_envoy::StreamId;

use crate::world::{World, denied, ms, slug};

const WORKERS: usize = 3;

/// Requests wait on every worker for the record `old`, which comes in 100 ms.
fn waiting() -> (World, Vec<StreamId>) {
    let mut world = World::with_workers(WORKERS, json!({}));
    world.slow_record("acme", "old", 100);
    let streams = (0..WORKERS * 3).map(|n| world.ask("acme", n % WORKERS)).collect();
    assert_eq!(world.asked(), WORKERS);
    world.envoy.advance(ms(50));
    (world, streams)
}

fn event(kind: &str) -> Value {
    json!({ "event_type": kind, "tenant_id": "acme", "payload": { "service_name": "ledger" } })
}

#[test]
fn whoever_waits_when_the_tenant_is_refused_is_refused_when_the_answer_comes() {
    for kind in [
        "tenant.suspended",
        "tenant.deleted",
        "tenant.service.disassociated",
        "tenant.service.suspended",
        "tenant.service.purged",
    ] {
        for teller in 0..WORKERS {
            let (mut world, streams) = waiting();
            assert_eq!(world.told(teller, &event(kind))["applied"], 1);
            world.envoy.advance(ms(50));
            for stream in streams {
                let expected = (403, "TENANT_SUSPENDED".to_owned());
                assert_eq!(denied(world.envoy.outcome(stream)), expected, "{kind}");
                assert!(world.envoy.upstream_saw(stream).is_none());
            }
            for worker in 0..WORKERS {
                assert_eq!(denied(world.ask_now("acme", worker)).0, 403);
            }
            assert_eq!(world.asked(), 0, "{kind}");
            world.assert_healthy();
        }
    }
}

#[test]
fn whoever_waits_when_the_tenant_is_updated_gets_the_new_record_and_never_the_old() {
    for kind in [
        "tenant.created",
        "tenant.activated",
        "tenant.updated",
        "tenant.service.associated",
        "tenant.service.reactivated",
        "tenant.connections.updated",
        "tenant.credentials.rotated",
        "tenant.cache.invalidate",
        "cache.invalidate_all",
    ] {
        for teller in 0..WORKERS {
            let (mut world, streams) = waiting();
            world.slow_record("acme", "new", 100);
            assert_eq!(world.told(teller, &event(kind))["applied"], 1);
            world.envoy.advance(ms(50));
            assert_eq!(world.undecided(&streams).len(), streams.len(), "{kind}: asked anew");
            assert!(world.asked() <= WORKERS, "{kind}");
            world.envoy.advance(ms(100));
            for stream in streams {
                assert_eq!(slug(world.envoy.outcome(stream)), "new", "{kind}");
            }
            for worker in 0..WORKERS {
                assert_eq!(slug(world.ask_now("acme", worker)), "new", "{kind}");
            }
            assert_eq!(world.asked(), 0, "{kind}: and the old answer is in no cache");
            world.assert_healthy();
        }
    }
}

#[test]
fn a_tenant_that_is_updated_again_and_again_is_answered_in_time() {
    let (mut world, streams) = waiting();
    // Each answer is outdated when it comes.
    for n in 0..20 {
        world.slow_record("acme", &format!("at-{n}"), 100);
        world.told(n % WORKERS, &event("tenant.updated"));
        world.envoy.advance(ms(60));
        assert!(world.asked() <= 3 * WORKERS);
    }
    // Each waits for timeout_ms + 500 ms in all, however often it has to ask anew.
    assert_eq!(world.undecided(&streams), []);
    for stream in streams {
        assert_eq!(denied(world.envoy.outcome(stream)).0, 503);
    }
    world.envoy.advance(ms(1_000));
    for worker in 0..WORKERS {
        assert_eq!(slug(world.run_on("acme", worker)), "at-19");
    }
    world.assert_healthy();
}

#[test]
fn an_event_about_somebody_else_makes_nobody_wait_longer() {
    let (mut world, streams) = waiting();
    let other = json!({ "event_type": "tenant.suspended", "tenant_id": "globex" });
    assert_eq!(world.told(1, &other)["applied"], 1);
    world.envoy.advance(ms(50));
    for stream in streams {
        assert_eq!(slug(world.envoy.outcome(stream)), "old");
    }
    assert_eq!(world.asked(), 0);
}

#[test]
fn a_404_on_its_way_is_not_remembered_when_the_tenant_is_created_meanwhile() {
    let mut world = World::with_workers(WORKERS, json!({}));
    world.answer("acme", json!({ "status": 404, "delay_ms": 100 }));
    let streams: Vec<_> = (0..WORKERS).map(|worker| world.ask("acme", worker)).collect();
    world.envoy.advance(ms(50));
    world.record("acme", "here");
    assert_eq!(world.told(0, &event("tenant.created"))["applied"], 1);
    world.envoy.advance(ms(50));
    for stream in streams {
        assert_eq!(slug(world.envoy.decide(stream)), "here");
    }
    for worker in 0..WORKERS {
        assert_eq!(slug(world.ask_now("acme", worker)), "here");
    }
}

#[test]
fn a_refusal_on_its_way_is_not_remembered_when_the_tenant_is_activated_meanwhile() {
    let mut world = World::with_workers(WORKERS, json!({}));
    world.answer(
        "acme",
        json!({ "status": 403, "body": { "status": "suspended" }, "delay_ms": 100 }),
    );
    let streams: Vec<_> = (0..WORKERS).map(|worker| world.ask("acme", worker)).collect();
    world.envoy.advance(ms(50));
    world.record("acme", "active");
    assert_eq!(world.told(0, &event("tenant.activated"))["applied"], 1);
    world.envoy.advance(ms(50));
    for stream in streams {
        assert_eq!(slug(world.envoy.decide(stream)), "active");
    }
}

#[test]
fn a_suspension_whose_worker_dies_right_after_its_200_holds() {
    let mut world = World::of_mortals(2, json!({}));
    world.slow_record("acme", "old", 100);
    let waits = world.ask("acme", 1);
    world.envoy.advance(ms(50));
    assert_eq!(world.told(0, &event("tenant.suspended"))["applied"], 1);
    world.kill(0);
    world.envoy.advance(ms(50));
    assert_eq!(denied(world.envoy.outcome(waits)).0, 403);
    for worker in 0..2 {
        assert_eq!(denied(world.ask_now("acme", worker)).0, 403);
    }
}
