//! Each waiting request has a deadline of its own, and nothing ticks when nothing is due.

use std::time::Duration;

use serde_json::json;
use tiny_envoy::StreamId;

use crate::world::{ACCOUNTS, GRACE, TIMEOUT, World, assert_unavailable, forwarded_for, ms, world};

/// Where the filter numbers the queues of a node's VMs.
const QUEUE_NUMBER: &str = "tenantgate.queue.number";

/// A world whose worker 1 never gets a lookup going: what it puts on its queue goes to the VM of
/// worker 0. Hosts end every callout at its timeout, so this is how an answer is lost for good.
fn lookups_get_lost() -> World {
    let mut world = World::of_mortals(2, json!({}));
    // Queues are numbered in the order of loading: the canary has 1, the main thread 2, worker 0 has 3.
    let last = u64::try_from(world.envoy.workers()).expect("few workers") + 2;
    let counted = world.envoy.shared_data()[QUEUE_NUMBER.as_bytes()].value.clone();
    assert_eq!(counted, last.to_le_bytes(), "worker 1 has the last number");
    world.kill(0);
    world.envoy.set_shared_data(QUEUE_NUMBER, 3_u64.to_le_bytes());
    world.envoy.get("/health").run().forwarded();
    world
}

/// Lets time pass up to the last millisecond before `at`, then to it; the stream must be answered
/// exactly then.
#[track_caller]
fn assert_refused_at(world: &mut World, stream: StreamId, at: Duration) {
    world.envoy.advance(at - ms(1) - world.envoy.elapsed());
    assert_eq!(
        world.undecided(&[stream]),
        [stream],
        "{:?}",
        world.envoy.outcome(stream)
    );
    world.envoy.advance(ms(1));
    assert_unavailable(world.envoy.outcome(stream), "TENANT_MANAGER_UNAVAILABLE");
    assert!(world.envoy.upstream_saw(stream).is_none());
}

#[test]
fn every_waiter_of_a_lost_lookup_is_answered_at_its_own_deadline() {
    let mut world = lookups_get_lost();
    let start = world.envoy.elapsed();
    let longest = TIMEOUT + GRACE;
    let first = world.ask("acme", 1);
    world.envoy.advance(ms(200));
    let second = world.ask("acme", 1);
    let twin = world.ask("acme", 1);
    let elsewhere = world.ask("globex", 1);
    world.envoy.advance(ms(799));
    let last_to_join = world.ask("acme", 1);
    assert_refused_at(&mut world, first, start + longest);
    let begins_anew = world.ask("acme", 1);
    assert_refused_at(&mut world, second, start + ms(200) + longest);
    for stream in [twin, elsewhere] {
        assert_unavailable(world.envoy.outcome(stream), "TENANT_MANAGER_UNAVAILABLE");
    }
    assert_refused_at(&mut world, last_to_join, start + ms(999) + longest);
    assert_refused_at(&mut world, begins_anew, start + longest + longest);
    assert_eq!(world.envoy.callouts().len(), 0, "all of them got lost");
    assert_eq!(world.envoy.deaths().len(), 1, "and nobody died of it");
}

#[test]
fn deadlines_that_have_been_met_leave_no_ticks_behind() {
    let mut world = lookups_get_lost();
    let stream = world.ask("acme", 1);
    let at = world.envoy.elapsed() + TIMEOUT + GRACE;
    assert_refused_at(&mut world, stream, at);
    // What is left of the lost lookup is swept out some time later.
    world.envoy.advance(Duration::from_secs(60));
    world.assert_quiet();
}

#[test]
fn deadlines_of_clients_that_have_left_wake_nobody() {
    let mut world = lookups_get_lost();
    let (gone, stays) = (world.ask("acme", 1), world.ask("acme", 1));
    let at = world.envoy.elapsed() + TIMEOUT + GRACE;
    world.envoy.disconnect(gone);
    assert_refused_at(&mut world, stays, at);
    assert!(world.envoy.response(gone).is_none());
}

#[test]
fn a_silent_tenant_manager_is_given_up_within_the_time_of_every_waiter() {
    let mut world = world(json!({}));
    world.answer("acme", json!({ "fault": "silence" }));
    let mut streams = Vec::new();
    for _ in 0..5 {
        streams.push((world.ask("acme", 0), world.envoy.elapsed()));
        world.envoy.advance(ms(100));
    }
    for (stream, arrived) in streams {
        assert_unavailable(world.envoy.outcome(stream), "TENANT_MANAGER_UNAVAILABLE");
        assert!(world.envoy.elapsed() - arrived <= TIMEOUT + GRACE);
    }
    assert_eq!(world.manager.take_received().len(), 1);
    world.assert_healthy();
}

#[test]
fn an_answer_after_the_timeout_is_no_answer_and_is_not_cached() {
    let mut world = world(json!({}));
    world.answer(
        "acme",
        json!({ "record": { "databases": { "onboarding": {} } }, "delay_ms": 10_000 }),
    );
    let stream = world.ask("acme", 0);
    assert_refused_at(&mut world, stream, TIMEOUT);
    world.envoy.advance(Duration::from_secs(20));
    world.answer("acme", json!({ "status": 404 }));
    assert_eq!(world.run("acme").replied().status, 404);
    assert_eq!(world.envoy.callouts().len(), 2);
    world.assert_healthy();
}

#[test]
fn both_api_keys_share_one_deadline() {
    let keys = json!({ "tenant_manager": { "api_keys": [{ "value": "old-key" }, { "value": "new-key" }] } });
    let mut world = world(keys);
    world.answer("acme", json!({ "status": 401, "delay_ms": 300 }));
    let stream = world.ask("acme", 0);
    world.envoy.advance(ms(300));
    world.answer("acme", json!({ "fault": "silence" }));
    let callouts = world.envoy.callouts();
    assert_eq!(callouts.len(), 2);
    assert_eq!(callouts[0].timeout, Some(TIMEOUT));
    assert_eq!(callouts[1].timeout, Some(TIMEOUT - ms(300)));
    // The second call was answered by the first script: 401 after another 300 ms, too late.
    assert_refused_at(&mut world, stream, TIMEOUT);
    assert_eq!(world.envoy.callouts().len(), 2);
    world.assert_healthy();
}

#[test]
fn an_idle_filter_does_not_tick() {
    let mut world = world(json!({}));
    world.assert_quiet();
    world.envoy.get("/health").run().forwarded();
    assert_eq!(world.envoy.get(ACCOUNTS).run().replied().status, 401);
    world.assert_quiet();
}

#[test]
fn ticks_stop_when_the_last_cached_outcome_has_expired() {
    let mut world = world(json!({}));
    assert_eq!(forwarded_for(world.run("acme")), "acme");
    assert_eq!(world.run("nobody").replied().status, 404);
    world.envoy.advance(Duration::from_secs(600));
    assert_eq!(world.envoy.metric("tenant_consumers_active"), Some(0));
    world.assert_quiet();
}

#[test]
fn ticks_stop_after_a_lookup_that_left_nothing_behind() {
    let mut world = world(json!({}));
    world.answer("acme", json!({ "status": 500 }));
    assert_unavailable(world.run("acme"), "TENANT_MANAGER_UNAVAILABLE");
    world.envoy.advance(Duration::from_secs(60));
    world.assert_quiet();
}
