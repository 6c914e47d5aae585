//! A host that refuses what forwarding needs: the request is answered, nothing of it passes, and
//! nobody else suffers.

use serde_json::json;

use crate::world::{World, config, denied, ms};

const REMOVE: &str = "proxy_remove_header_map_value";
const SET: &str = "proxy_replace_header_map_value";
const REPLY: &str = "proxy_send_local_response";

const MESSAGES: &str = "tenant_messages_processed_total";
const INTERNAL_ERRORS: &str = "tenantgate_denials_total.code=INTERNAL_ERROR~";

fn without(capability: &str) -> World {
    let mut world = World::start(&config(json!({})), |builder| {
        builder
            .allow_on_headers_stop_iteration(true)
            .restrict_capability(capability)
    });
    world.answer(
        "acme",
        json!({ "record": { "databases": { "onboarding": {} } }, "delay_ms": 100 }),
    );
    world.envoy.settle();
    world
}

fn internal_error() -> (u16, String) {
    (500, "INTERNAL_ERROR".to_owned())
}

#[test]
fn half_an_edited_head_is_answered_and_counted_as_what_it_is() {
    let mut world = without(SET);
    let stream = world.ask("acme", 0);
    let outcome = world.envoy.decide(stream);
    assert_eq!(denied(outcome), internal_error());
    assert!(world.envoy.upstream_saw(stream).is_none());
    assert_eq!(world.envoy.metric(INTERNAL_ERRORS), Some(1));
    assert_eq!(world.envoy.metric(MESSAGES), Some(0), "it was not let go");
    world.assert_healthy();
}

#[test]
fn a_lookup_whose_first_waiter_cannot_be_sanitized_serves_the_others() {
    let mut world = without(REMOVE);
    let leader = world.request("GET", "acme").header("x-tenant-id", "globex").send();
    let follower = world.ask("acme", 0);
    let outcome = world.envoy.decide(leader);
    assert_eq!(denied(outcome), internal_error());
    world.envoy.decide(follower).forwarded();
    assert_eq!(world.envoy.callouts().len(), 1);
    assert!(world.envoy.upstream_saw(leader).is_none());
    world.assert_healthy();
}

#[test]
fn trailers_that_cannot_be_sanitized_end_a_waiting_request_for_good() {
    let mut world = without(REMOVE);
    let stream = world.request("POST", "acme").open();
    world.envoy.send_body(stream, "body");
    world.envoy.send_trailers(stream, &[("x-tenant-id", b"globex")]);
    world.envoy.advance(ms(1_000));
    assert!(world.envoy.upstream_saw(stream).is_none());
    assert_eq!(denied(world.envoy.outcome(stream)), internal_error());
    assert_eq!(world.envoy.metric(MESSAGES), Some(0));
    world.assert_healthy();
}

#[test]
fn a_refusal_that_cannot_be_sent_holds_the_request() {
    for (credential, about) in [(false, "refused at once"), (true, "refused after a lookup")] {
        let mut world = without(REPLY);
        world.answer("acme", json!({ "status": 404, "delay_ms": 100 }));
        let stream = if credential {
            world.request("POST", "acme").open()
        } else {
            world.envoy.post("/v1/accounts").open()
        };
        world.envoy.send_body(stream, "before");
        world.envoy.advance(ms(1_000));
        world.envoy.send_body(stream, "after");
        world.envoy.send_trailers(stream, &[("x-checksum", b"1")]);
        world.envoy.advance(ms(1_000));
        assert!(world.envoy.upstream_saw(stream).is_none(), "{about}");
        world.assert_healthy();
    }
}
