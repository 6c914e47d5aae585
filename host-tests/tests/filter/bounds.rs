//! How many requests may wait, and that a place is free again when its request is gone.

use serde_json::json;
use tiny_envoy::StreamId;

use crate::world::{World, assert_unavailable, config, forwarded_for, ms};

/// Two places for one tenant, sixteen in all, and a Tenant Manager that takes 100 ms.
fn sixteen_places() -> World {
    // However many lookups fail here, the circuit stays closed.
    let patch = json!({ "tenant_manager": { "max_waiters": 16, "breaker": { "threshold": 1000 } } });
    let world = World::start(&config(patch), |builder| builder.workers(2));
    for tenant in (0..20).map(name) {
        world.answer(
            &tenant,
            json!({ "record": { "databases": { "onboarding": {} } }, "delay_ms": 100 }),
        );
    }
    world
}

fn name(n: usize) -> String {
    format!("tenant-{n}")
}

#[track_caller]
fn assert_waits(world: &mut World, stream: StreamId) {
    world.envoy.settle();
    assert_eq!(
        world.undecided(&[stream]),
        [stream],
        "{:?}",
        world.envoy.outcome(stream)
    );
}

/// It is refused at once, and nobody is asked.
#[track_caller]
fn assert_overloaded(world: &mut World, tenant: &str, worker: usize) {
    // The lookups of those who wait are under way before anything is counted.
    world.envoy.settle();
    let (callouts, now) = (world.envoy.callouts().len(), world.envoy.elapsed());
    let stream = world.ask(tenant, worker);
    let outcome = world.envoy.decide(stream);
    assert_eq!(world.envoy.elapsed(), now, "at once");
    assert_unavailable(outcome, "TENANT_LOOKUP_OVERLOADED");
    assert!(world.envoy.upstream_saw(stream).is_none());
    assert_eq!(world.envoy.callouts().len(), callouts);
}

#[test]
fn one_tenant_gets_an_eighth_of_the_places() {
    let mut world = sixteen_places();
    let waiting = [world.ask("tenant-0", 0), world.ask("tenant-0", 0)];
    assert_waits(&mut world, waiting[1]);
    assert_overloaded(&mut world, "tenant-0", 0);
    let other = world.ask("tenant-1", 0);
    assert_waits(&mut world, other);
    let other_worker = world.ask("tenant-0", 1);
    assert_waits(&mut world, other_worker);
    world.envoy.advance(ms(100));
    for stream in waiting.into_iter().chain([other_worker]) {
        assert_eq!(forwarded_for(world.envoy.outcome(stream)), "tenant-0");
    }
    assert_eq!(forwarded_for(world.envoy.outcome(other)), "tenant-1");
    world.assert_healthy();
}

#[test]
fn places_are_bounded_in_all() {
    let mut world = sixteen_places();
    let waiting: Vec<_> = (0..8)
        .flat_map(|n| [world.ask(&name(n), 0), world.ask(&name(n), 0)])
        .collect();
    world.envoy.settle();
    assert_eq!(world.undecided(&waiting).len(), 16);
    assert_overloaded(&mut world, "tenant-8", 0);
    assert_overloaded(&mut world, "tenant-0", 0);
    let other_worker = world.ask("tenant-8", 1);
    assert_waits(&mut world, other_worker);
    world.envoy.advance(ms(100));
    for (n, stream) in waiting.into_iter().enumerate() {
        assert_eq!(forwarded_for(world.envoy.outcome(stream)), name(n / 2));
    }
    world.assert_healthy();
}

#[test]
fn whoever_leaves_makes_room() {
    let mut world = sixteen_places();
    let leaves = world.ask("tenant-0", 0);
    let stays = world.ask("tenant-0", 0);
    assert_overloaded(&mut world, "tenant-0", 0);
    world.envoy.disconnect(leaves);
    let comes = world.ask("tenant-0", 0);
    assert_waits(&mut world, comes);
    assert_overloaded(&mut world, "tenant-0", 0);
    world.envoy.advance(ms(100));
    for stream in [stays, comes] {
        assert_eq!(forwarded_for(world.envoy.outcome(stream)), "tenant-0");
    }
}

#[test]
fn leaving_makes_room_in_the_whole_too() {
    let mut world = sixteen_places();
    let waiting: Vec<_> = (0..16).map(|n| world.ask(&name(n / 2), 0)).collect();
    assert_overloaded(&mut world, "tenant-16", 0);
    world.envoy.disconnect(waiting[3]);
    let comes = world.ask("tenant-16", 0);
    assert_waits(&mut world, comes);
    assert_overloaded(&mut world, "tenant-17", 0);
    world.envoy.advance(ms(100));
    assert_eq!(forwarded_for(world.envoy.outcome(comes)), "tenant-16");
    world.assert_healthy();
}

#[test]
fn lookups_that_everybody_has_left_are_bounded_as_well() {
    let mut world = sixteen_places();
    for n in 0..16 {
        let stream = world.ask(&name(n), 0);
        world.envoy.settle();
        world.envoy.disconnect(stream);
    }
    assert_overloaded(&mut world, "tenant-16", 0);
    let joins = world.ask("tenant-3", 0);
    assert_waits(&mut world, joins);
    world.envoy.advance(ms(100));
    assert_eq!(forwarded_for(world.envoy.outcome(joins)), "tenant-3");
    assert_eq!(forwarded_for(world.run("tenant-16")), "tenant-16");
    world.assert_healthy();
}

#[test]
fn whoever_is_answered_or_refused_makes_room() {
    let mut world = sixteen_places();
    for answer in [
        json!({ "status": 500, "delay_ms": 10 }),
        json!({ "fault": "reset_mid_body", "delay_ms": 10 }),
        json!({ "fault": "silence" }),
    ] {
        world.answer("tenant-0", answer.clone());
        // Nothing of it is cached, so each round waits anew; a place that leaked would be missed.
        for _ in 0..20 {
            let waiting = [world.ask("tenant-0", 0), world.ask("tenant-0", 0)];
            assert_overloaded(&mut world, "tenant-0", 0);
            for stream in waiting {
                assert_unavailable(world.envoy.decide(stream), "TENANT_MANAGER_UNAVAILABLE");
            }
        }
    }
    world.assert_healthy();
}

#[test]
fn a_known_tenant_needs_no_place() {
    let mut world = sixteen_places();
    assert_eq!(forwarded_for(world.run("tenant-19")), "tenant-19");
    for n in 0..16 {
        world.ask(&name(n), 0);
    }
    assert_overloaded(&mut world, "tenant-16", 0);
    assert_eq!(forwarded_for(world.run("tenant-19")), "tenant-19");
    world.envoy.get("/health").run().forwarded();
}
