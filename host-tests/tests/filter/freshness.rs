//! Records that are a little too old: who asks for them anew, and how often.

use std::time::Duration;

use serde_json::json;
use tiny_envoy::StreamId;

use crate::world::{World, forwarded_for, ms, record, slug};

/// Fresh for 90 to 110 s, stale for 100 s more, a fallback for 300 s more.
fn four_workers() -> World {
    let cache = json!({ "ttl_seconds": 100, "stale_while_revalidate_seconds": 100 });
    let patch = json!({ "tenant_manager": { "cache": cache } });
    let mut world = World::with_workers(4, patch);
    world.record("acme", "first");
    for worker in 0..4 {
        assert_eq!(slug(world.run_on("acme", worker)), "first");
    }
    assert_eq!(world.asked(), 1);
    world
}

/// A request to each worker, all at once.
fn everywhere(world: &mut World) -> Vec<StreamId> {
    (0..4).map(|worker| world.ask("acme", worker)).collect()
}

#[track_caller]
fn assert_served_at_once(world: &mut World, slug: &str) {
    for stream in everywhere(world) {
        assert_eq!(self::slug(world.envoy.outcome(stream)), slug);
    }
}

#[test]
fn a_stale_record_is_served_everywhere_while_one_worker_of_the_node_refreshes_it() {
    let mut world = four_workers();
    world.slow_record("acme", "second", 300);
    world.envoy.advance(Duration::from_secs(120));
    for _ in 0..20 {
        assert_served_at_once(&mut world, "first");
        world.envoy.advance(ms(10));
    }
    assert_eq!(world.asked(), 1, "80 requests, one question");
    world.envoy.advance(ms(200));
    assert_served_at_once(&mut world, "second");
    assert_eq!(world.asked(), 0);
    world.envoy.advance(Duration::from_secs(80));
    assert_served_at_once(&mut world, "second");
    assert_eq!(world.asked(), 0, "fresh again");
    world.assert_healthy();
}

#[test]
fn a_refresh_that_fails_is_tried_again_when_its_lease_has_ended() {
    let mut world = four_workers();
    world.answer("acme", json!({ "status": 500 }));
    world.envoy.advance(Duration::from_secs(120));
    // The lease is timeout_ms + 500 ms; four failures leave the circuit closed.
    for refresh in 1..=4 {
        assert_served_at_once(&mut world, "first");
        assert_eq!(world.asked(), 1, "refresh {refresh}");
        for _ in 0..9 {
            world.envoy.advance(ms(100));
            assert_served_at_once(&mut world, "first");
        }
        assert_eq!(world.asked(), 0, "after refresh {refresh}");
        world.envoy.advance(ms(100));
    }
    world.record("acme", "second");
    assert_served_at_once(&mut world, "first");
    assert_eq!(world.asked(), 1);
    world.envoy.advance(ms(100));
    assert_served_at_once(&mut world, "second");
    world.assert_healthy();
}

#[test]
fn a_refresh_that_dies_with_its_worker_is_taken_over() {
    let cache = json!({ "ttl_seconds": 100, "stale_while_revalidate_seconds": 100 });
    let mut world = World::of_mortals(2, json!({ "tenant_manager": { "cache": cache } }));
    world.record("acme", "first");
    for worker in 0..2 {
        world.run_on("acme", worker).forwarded();
    }
    world.slow_record("acme", "second", 200);
    world.envoy.advance(Duration::from_secs(120));
    world.asked();
    assert_eq!(slug(world.ask_now("acme", 0)), "first");
    assert_eq!(world.asked(), 1);
    world.kill(0);
    world.envoy.advance(ms(999));
    assert_eq!(slug(world.ask_now("acme", 1)), "first");
    assert_eq!(world.asked(), 0, "somebody has the lease");
    // A worker looks at the lease again after 50 ms at the latest.
    world.envoy.advance(ms(51));
    assert_eq!(slug(world.ask_now("acme", 1)), "first");
    assert_eq!(world.asked(), 1);
    world.envoy.advance(ms(200));
    assert_eq!(slug(world.ask_now("acme", 1)), "second");
}

#[test]
fn what_is_too_old_is_served_only_where_the_tenant_manager_is_unavailable() {
    let mut world = four_workers();
    world.envoy.advance(Duration::from_secs(215));
    for answer in [
        json!({ "status": 500 }),
        json!({ "fault": "silence" }),
        json!({ "fault": "reset_mid_body" }),
        json!({ "body": "not json" }),
    ] {
        world.answer("acme", answer.clone());
        assert_eq!(slug(world.run_on("acme", 1)), "first", "{answer}");
        assert_eq!(world.asked(), 1, "{answer}: not before it was asked");
        world.envoy.advance(ms(1_000));
    }
    world.slow_record("acme", "second", 100);
    let streams = everywhere(&mut world);
    assert_eq!(world.undecided(&streams).len(), 4, "all of them wait");
    world.envoy.advance(ms(100));
    for stream in streams {
        assert_eq!(slug(world.envoy.outcome(stream)), "second");
    }
    world.assert_healthy();
}

#[test]
fn a_fallback_ends() {
    let mut world = four_workers();
    world.answer("acme", json!({ "status": 500 }));
    // 90 + 100 + 300 at the earliest, 110 + 100 + 300 at the latest.
    world.envoy.advance(Duration::from_secs(489));
    assert_eq!(slug(world.run_on("acme", 2)), "first");
    world.envoy.advance(Duration::from_secs(21));
    for worker in 0..4 {
        assert_eq!(world.run_on("acme", worker).replied().status, 503);
    }
}

#[test]
fn tenants_learned_together_do_not_grow_old_together() {
    let patch = json!({ "tenant_manager": { "cache": { "ttl_seconds": 100 } } });
    let mut world = World::with_workers(1, patch);
    let tenants: Vec<String> = (0..200).map(|n| format!("t{n}")).collect();
    for tenant in &tenants {
        world.answer(tenant, json!({ "record": record(tenant, "s") }));
        world.run(tenant).forwarded();
    }
    world.asked();
    world.envoy.advance(Duration::from_secs(89));
    for tenant in &tenants {
        assert_eq!(forwarded_for(world.ask_now(tenant, 0)), *tenant);
    }
    assert_eq!(world.asked(), 0, "none before 90 s");
    let mut asked = 0;
    for second in 0..22 {
        world.envoy.advance(Duration::from_secs(1));
        for tenant in &tenants {
            world.ask_now(tenant, 0).forwarded();
        }
        let now = world.asked();
        asked += now;
        assert!(now < 40, "{now} of 200 in second {second}");
    }
    assert_eq!(asked, 200, "all of them by 110 s, each once");
}
