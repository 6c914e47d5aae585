//! Lookups whose ends and beginnings cross: streams gone, tenants mixed, hosts that refuse.

use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::json;
use tiny_envoy::{Answer, Outcome, PeerRequest};

use crate::world::{World, assert_unavailable, config, denied, forwarded_for, ms, world};

const RECORD: &str = r#"{ "databases": { "onboarding": {} } }"#;

#[test]
fn an_answer_finds_its_stream_gone_and_the_worker_lives() {
    for answer in [
        json!({ "record": { "databases": { "onboarding": {} } }, "delay_ms": 100 }),
        json!({ "status": 500, "delay_ms": 100 }),
    ] {
        let mut world = world(json!({}));
        world.answer("acme", answer);
        let stream = world.ask("acme", 0);
        world.envoy.advance(ms(10));
        world.envoy.disconnect(stream);
        world.envoy.advance(ms(1_000));
        assert_eq!(world.envoy.outcome(stream), Outcome::Gone);
        assert!(world.envoy.response(stream).is_none());
        assert_eq!(forwarded_for(world.run("globex")), "globex");
        world.assert_healthy();
    }
}

#[test]
fn a_tenant_asked_about_again_while_its_first_client_is_gone_is_looked_up_once() {
    let mut world = world(json!({}));
    world.answer(
        "acme",
        json!({ "record": { "databases": { "onboarding": {} } }, "delay_ms": 100 }),
    );
    let first = world.ask("acme", 0);
    world.envoy.advance(ms(10));
    world.envoy.disconnect(first);
    let second = world.ask("acme", 0);
    world.envoy.advance(ms(90));
    assert_eq!(forwarded_for(world.envoy.outcome(second)), "acme");
    assert_eq!(world.envoy.callouts().len(), 1);
    world.assert_healthy();
}

#[test]
fn two_lookups_at_once_answer_each_their_own() {
    let mut world = world(json!({}));
    // The one that is asked later is answered earlier.
    world.answer(
        "acme",
        json!({ "record": { "id": "acme", "databases": { "onboarding": {} } }, "delay_ms": 200 }),
    );
    world.answer("globex", json!({ "status": 404, "delay_ms": 50 }));
    let acme = [world.ask("acme", 0), world.ask("acme", 0)];
    let globex = [world.ask("globex", 0), world.ask("globex", 0)];
    world.envoy.advance(ms(50));
    for stream in globex {
        assert_eq!(
            denied(world.envoy.outcome(stream)),
            (404, "TENANT_NOT_FOUND".to_owned())
        );
    }
    assert_eq!(world.undecided(&acme), acme);
    world.envoy.advance(ms(150));
    for stream in acme {
        assert_eq!(forwarded_for(world.envoy.outcome(stream)), "acme");
    }
    assert_eq!(world.envoy.callouts().len(), 2);
    world.assert_healthy();
}

#[test]
fn lookups_of_the_same_tenant_on_two_workers_do_not_mix() {
    let mut world = World::start(&config(json!({})), |builder| builder.workers(2));
    world.answer(
        "acme",
        json!({ "record": { "databases": { "onboarding": {} } }, "delay_ms": 100 }),
    );
    let on_first = world.ask("acme", 0);
    world.envoy.advance(ms(50));
    world.answer("acme", json!({ "status": 500, "delay_ms": 10 }));
    let on_second = world.ask("acme", 1);
    world.envoy.advance(ms(10));
    assert_eq!(denied(world.envoy.outcome(on_second)).0, 503);
    assert_eq!(world.undecided(&[on_first]), [on_first]);
    world.envoy.advance(ms(40));
    assert_eq!(forwarded_for(world.envoy.outcome(on_first)), "acme");
    world.assert_healthy();
}

#[test]
fn a_record_on_its_way_while_another_worker_learns_that_the_tenant_is_gone_is_asked_for_anew() {
    let mut world = World::start(&config(json!({})), |builder| builder.workers(2));
    world.answer(
        "acme",
        json!({ "record": { "databases": { "onboarding": {} } }, "delay_ms": 100 }),
    );
    let on_first = world.ask("acme", 0);
    world.envoy.advance(ms(50));
    world.answer("acme", json!({ "status": 404, "delay_ms": 10 }));
    let on_second = world.ask("acme", 1);
    world.envoy.advance(ms(10));
    assert_eq!(denied(world.envoy.outcome(on_second)).0, 404);
    world.envoy.advance(ms(40));
    assert_eq!(world.undecided(&[on_first]), [on_first]);
    world.envoy.advance(ms(10));
    assert_eq!(denied(world.envoy.outcome(on_first)).0, 404);
    assert_eq!(world.envoy.callouts().len(), 3);
    world.assert_healthy();
}

#[test]
fn a_cluster_without_endpoints_is_unavailable_and_nothing_is_remembered() {
    let asked = Arc::new(AtomicI32::new(0));
    let has_endpoints = Arc::new(AtomicBool::new(false));
    let (count, up) = (Arc::clone(&asked), Arc::clone(&has_endpoints));
    let mut world = World::start(&config(json!({})), |builder| {
        builder.cluster("tenant-manager", move |_: &PeerRequest| {
            count.fetch_add(1, Ordering::Relaxed);
            if up.load(Ordering::Relaxed) {
                Answer::json(200, RECORD)
            } else {
                Answer::no_endpoints()
            }
        })
    });
    for times in 1..=3 {
        let now = world.envoy.elapsed();
        let streams = [world.ask("acme", 0), world.ask("acme", 0)];
        world.envoy.settle();
        for stream in streams {
            assert_unavailable(world.envoy.outcome(stream), "TENANT_MANAGER_UNAVAILABLE");
            assert!(world.envoy.upstream_saw(stream).is_none());
        }
        assert_eq!(world.envoy.elapsed(), now, "at once");
        assert_eq!(asked.load(Ordering::Relaxed), times);
    }
    has_endpoints.store(true, Ordering::Relaxed);
    assert_eq!(forwarded_for(world.run("acme")), "acme");
    let unreachable = world.envoy.metric("tenant_connection_errors_total.reason=unreachable~");
    assert_eq!(unreachable, Some(3));
    world.assert_healthy();
}

#[test]
fn an_unknown_cluster_is_unavailable_and_nothing_is_remembered() {
    let mut world = world(json!({ "tenant_manager": { "cluster": "nowhere" } }));
    for times in 1..=3 {
        assert_unavailable(world.run("acme"), "TENANT_MANAGER_UNAVAILABLE");
        let unreachable = world.envoy.metric("tenant_connection_errors_total.reason=unreachable~");
        assert_eq!(unreachable, Some(times));
    }
    assert_eq!(world.envoy.callouts().len(), 0);
    world.envoy.get("/health").run().forwarded();
    world.assert_healthy();
}

#[test]
fn the_api_key_that_worked_last_is_tried_first() {
    let keys = json!({ "tenant_manager": { "api_keys": [{ "value": "old-key" }, { "value": "new-key" }] } });
    let valid = Arc::new(Mutex::new("new-key"));
    let accepted = Arc::clone(&valid);
    let mut world = World::start(&config(keys), |builder| {
        builder.cluster("tenant-manager", move |request: &PeerRequest| {
            let accepted = accepted.lock().unwrap_or_else(PoisonError::into_inner);
            if request.headers.get("x-api-key") == Some(accepted.as_bytes()) {
                Answer::json(200, RECORD)
            } else {
                Answer::status(401)
            }
        })
    });
    let tried = |world: &mut World, tenant: &str| {
        let before = world.envoy.callouts().len();
        assert_eq!(forwarded_for(world.run(tenant)), tenant);
        let callouts = world.envoy.callouts();
        let keys = callouts[before..]
            .iter()
            .map(|callout| callout.request.headers.text("x-api-key"));
        keys.map(Option::unwrap_or_default).collect::<Vec<_>>()
    };
    assert_eq!(tried(&mut world, "tenant-1"), ["old-key", "new-key"]);
    assert_eq!(tried(&mut world, "tenant-2"), ["new-key"]);
    *valid.lock().unwrap_or_else(PoisonError::into_inner) = "old-key";
    assert_eq!(tried(&mut world, "tenant-3"), ["new-key", "old-key"]);
    assert_eq!(tried(&mut world, "tenant-4"), ["old-key"]);
    *valid.lock().unwrap_or_else(PoisonError::into_inner) = "none-of-them";
    let before = world.envoy.callouts().len();
    assert_unavailable(world.run("tenant-5"), "TENANT_MANAGER_UNAVAILABLE");
    assert_eq!(world.envoy.callouts().len(), before + 2, "each key once");
    *valid.lock().unwrap_or_else(PoisonError::into_inner) = "new-key";
    assert_unavailable(world.run("tenant-6"), "TENANT_MANAGER_UNAVAILABLE");
    assert_eq!(world.envoy.callouts().len(), before + 2, "nobody asks for a second");
    world.envoy.advance(ms(1_000));
    assert_eq!(tried(&mut world, "tenant-5"), ["old-key", "new-key"]);
    world.assert_healthy();
}
