//! `enforce.cut_streams`: streams that were let go end when their tenant is refused.

use std::time::Duration;

use serde_json::json;
use tiny_envoy::{Answer, Cut, StreamId};

use crate::world::{World, ms, with_events};

/// How long a stream may outlive the refusal of its tenant.
const CUT_WITHIN: Duration = ms(250);

/// Workers in front of a service whose responses begin at once and do not end.
fn world(workers: usize, cuts: bool) -> World {
    let config = with_events(json!({ "enforce": { "cut_streams": cuts } }));
    World::start(&config, |builder| {
        builder
            .workers(workers)
            .upstream(|_: &_| Answer::status(200).unending())
    })
}

/// A stream of this tenant that has been let go and stays open.
#[track_caller]
fn open(world: &mut World, tenant: &str, worker: usize) -> StreamId {
    let stream = world.ask(tenant, worker);
    world.envoy.advance(ms(20));
    assert!(world.envoy.upstream_saw(stream).is_some(), "{tenant} is let go");
    stream
}

fn suspended(tenant: &str) -> serde_json::Value {
    json!({ "type": "tenant.suspended", "tenantId": tenant })
}

#[test]
fn a_suspension_cuts_the_streams_of_its_tenant_on_every_worker_and_no_others() {
    let mut world = world(3, true);
    let of_acme = [0, 1, 2, 2].map(|worker| open(&mut world, "acme", worker));
    let of_globex = [0, 1, 2].map(|worker| open(&mut world, "globex", worker));
    world.told(1, &suspended("acme"));
    world.envoy.advance(CUT_WITHIN);
    for stream in of_acme {
        assert_eq!(world.envoy.cut(stream), Some(Cut::AfterResponse), "{stream:?}");
    }
    world.envoy.advance(ms(10_000));
    for stream in of_globex {
        assert_eq!(world.envoy.cut(stream), None, "{stream:?}");
    }
    assert_eq!(world.envoy.metric("tenantgate_streams_cut_total"), Some(4));
    world.assert_healthy();
}

#[test]
fn what_a_request_has_heard_of_in_between_is_cut_none_the_less() {
    let mut world = world(1, true);
    let stream = open(&mut world, "acme", 0);
    world.told(0, &suspended("acme"));
    assert_eq!(world.run("acme").replied().status, 403);
    assert_eq!(world.envoy.cut(stream), None, "not before it is looked");
    world.envoy.advance(CUT_WITHIN);
    assert!(world.envoy.cut(stream).is_some());
}

#[test]
fn a_request_whose_response_has_not_begun_is_cut_and_not_answered() {
    let config = with_events(json!({ "enforce": { "cut_streams": true } }));
    let mut world = World::start(&config, |builder| {
        builder.upstream(|_: &_| Answer::status(200).after(ms(60_000)))
    });
    let stream = open(&mut world, "acme", 0);
    world.told(0, &suspended("acme"));
    world.envoy.advance(CUT_WITHIN);
    assert_eq!(world.envoy.cut(stream), Some(Cut::BeforeResponse));
}

#[test]
fn a_refusal_that_a_lookup_learns_cuts_too_and_on_every_worker() {
    let mut world = world(2, true);
    let streams = [0, 1].map(|worker| open(&mut world, "acme", worker));
    world.answer("acme", json!({ "status": 403, "body": { "status": "suspended" } }));
    // Longer than any record holds.
    world.envoy.advance(ms(600_000));
    assert_eq!(world.run_on("acme", 0).replied().status, 403);
    world.envoy.advance(CUT_WITHIN);
    for stream in streams {
        assert!(world.envoy.cut(stream).is_some(), "{stream:?}");
    }
}

#[test]
fn a_tenant_that_is_served_again_before_anybody_has_looked_keeps_its_streams() {
    let mut world = world(1, true);
    let stream = open(&mut world, "acme", 0);
    world.told(0, &suspended("acme"));
    world.told(0, &json!({ "type": "tenant.activated", "tenantId": "acme" }));
    world.told(0, &json!({ "type": "cache.invalidate_all" }));
    world.envoy.advance(ms(10_000));
    assert_eq!(world.envoy.cut(stream), None);
}

#[test]
fn streams_that_have_ended_are_forgotten_and_without_any_nobody_looks() {
    let mut world = world(1, true);
    let stream = open(&mut world, "acme", 0);
    world.envoy.upstream_ends(stream);
    world.told(0, &suspended("acme"));
    world.envoy.advance(ms(600_000));
    assert_eq!(world.envoy.cut(stream), None);
    assert_eq!(world.envoy.metric("tenantgate_streams_cut_total"), Some(0));
    world.assert_quiet();
}

#[test]
fn unless_it_is_asked_for_a_stream_goes_on() {
    let mut world = world(1, false);
    let stream = open(&mut world, "acme", 0);
    world.told(0, &suspended("acme"));
    world.envoy.advance(ms(10_000));
    assert_eq!(world.envoy.cut(stream), None);
    world.envoy.upstream_sends(stream, b"more");
    world.assert_healthy();
}
