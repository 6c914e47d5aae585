//! One lookup per worker, however many requests wait for it and whichever of them leave.

use serde_json::{Value, json};
use tiny_envoy::{Outcome, StreamId};

use crate::world::{World, config, denied, forwarded_for, ms, world};

fn two_workers(patch: Value) -> World {
    World::start(&config(patch), |builder| builder.workers(2))
}

fn fifty(world: &mut World, tenant: &str) -> Vec<StreamId> {
    (0..50).map(|n| world.ask(tenant, n % 2)).collect()
}

#[test]
fn fifty_waiters_on_two_workers_make_two_lookups_and_are_answered_alike() {
    for (answer, expected) in [
        (
            json!({ "record": { "id": "acme", "databases": { "onboarding": {} } } }),
            None,
        ),
        (
            json!({ "status": 403, "body": { "status": "suspended" } }),
            Some((403, "TENANT_SUSPENDED")),
        ),
        (json!({ "status": 404 }), Some((404, "TENANT_NOT_FOUND"))),
        (json!({ "status": 422 }), Some((422, "TENANT_NOT_PROVISIONED"))),
        (json!({ "status": 500 }), Some((503, "TENANT_MANAGER_UNAVAILABLE"))),
    ] {
        let mut world = two_workers(json!({}));
        let mut slow = answer.clone();
        slow["delay_ms"] = json!(100);
        world.answer("acme", slow);
        let streams = fifty(&mut world, "acme");
        world.envoy.advance(ms(99));
        assert_eq!(
            world.undecided(&streams).len(),
            50,
            "{answer}: nobody is answered before the lookup is"
        );
        let callouts = world.envoy.callouts();
        assert_eq!(callouts.len(), 2, "{answer}: {callouts:#?}");
        assert_ne!(callouts[0].worker, callouts[1].worker, "one per worker");
        world.envoy.advance(ms(1));
        for stream in streams {
            let outcome = world.envoy.outcome(stream);
            match expected {
                None => assert_eq!(forwarded_for(outcome), "acme"),
                Some((status, code)) => assert_eq!(denied(outcome), (status, code.to_owned())),
            }
        }
        assert_eq!(world.envoy.callouts().len(), 2, "{answer}");
        world.assert_healthy();
    }
}

#[test]
fn when_the_leader_leaves_the_others_are_answered_by_its_lookup() {
    // Before the callout is made, and while it is under way.
    for leaves_after in [None, Some(ms(0)), Some(ms(40))] {
        let mut world = world(json!({}));
        world.answer(
            "acme",
            json!({ "record": { "databases": { "onboarding": {} } }, "delay_ms": 100 }),
        );
        let leader = world.ask("acme", 0);
        let others = [world.ask("acme", 0), world.ask("acme", 0)];
        if let Some(after) = leaves_after {
            world.envoy.advance(after);
        }
        world.envoy.disconnect(leader);
        let late = world.ask("acme", 0);
        world.envoy.advance(ms(100));
        for stream in others.into_iter().chain([late]) {
            assert_eq!(forwarded_for(world.envoy.outcome(stream)), "acme", "{leaves_after:?}");
        }
        assert_eq!(world.envoy.outcome(leader), Outcome::Gone);
        assert!(world.envoy.upstream_saw(leader).is_none());
        assert_eq!(world.manager.take_received().len(), 1, "{leaves_after:?}");
        world.assert_healthy();
    }
}

#[test]
fn a_follower_that_leaves_takes_nobody_along() {
    let mut world = world(json!({}));
    world.answer(
        "acme",
        json!({ "record": { "databases": { "onboarding": {} } }, "delay_ms": 100 }),
    );
    let leader = world.ask("acme", 0);
    let followers: Vec<_> = (0..10).map(|_| world.ask("acme", 0)).collect();
    world.envoy.advance(ms(50));
    for follower in &followers[..9] {
        world.envoy.disconnect(*follower);
    }
    world.envoy.advance(ms(50));
    assert_eq!(forwarded_for(world.envoy.outcome(leader)), "acme");
    assert_eq!(forwarded_for(world.envoy.outcome(followers[9])), "acme");
    assert_eq!(world.envoy.callouts().len(), 1);
}

#[test]
fn a_lookup_that_everybody_has_left_fills_the_cache_all_the_same() {
    for answer in [
        json!({ "record": { "databases": { "onboarding": {} } }, "delay_ms": 100 }),
        json!({ "status": 404, "delay_ms": 100 }),
    ] {
        let mut world = world(json!({}));
        world.answer("acme", answer.clone());
        for stream in [world.ask("acme", 0), world.ask("acme", 0), world.ask("acme", 0)] {
            world.envoy.settle();
            world.envoy.disconnect(stream);
        }
        world.envoy.advance(ms(100));
        assert_eq!(world.manager.take_received().len(), 1);
        // The Tenant Manager would say something else by now, but nobody asks it.
        world.answer("acme", json!({ "status": 500 }));
        let outcome = world.run("acme");
        assert_eq!(world.manager.take_received().len(), 0, "{answer}");
        match answer.get("status") {
            None => assert_eq!(forwarded_for(outcome), "acme"),
            Some(_) => assert_eq!(denied(outcome), (404, "TENANT_NOT_FOUND".to_owned())),
        }
        world.assert_healthy();
    }
}
