//! Requests while the Tenant Manager is down, and while events arrive.

use super::*;
use crate::events::Delivery;

const EVENTS_KEY: &str = "0123456789abcdef";

/// A plugin that takes events; `on_unavailable` as it says.
fn engine_that(on_unavailable: &str) -> Engine {
    engine(&json!({
        "environment": "staging",
        "events": { "path": "/internal/events", "api_keys": [{ "value": EVENTS_KEY }] },
        "tenant_manager": { "cluster": "tm", "authority": "tm", "api_keys": [{ "value": "k" }], "timeout_ms": 1000,
            "max_waiters": 16, "on_unavailable": on_unavailable },
    }))
}

fn answered(engine: &mut Engine, world: &World, flow: RequestFlow, status: u16) -> Step {
    let errand = errand(&flow);
    engine.question(errand, world).expect("begins");
    let answer = Answer::Http {
        status,
        retry_after_seconds: None,
        body: Some(b"{}"),
    };
    match engine.answered(errand, answer, world) {
        Answered::Over {
            news: Some((_, learned)),
            ..
        } => flow.resume(engine, Resumption::Learned(&learned), world),
        other => panic!("{other:?}"),
    }
}

fn ask(engine: &mut Engine, world: &World, headers: &[(&str, &str)], status: u16) -> Step {
    match start(engine, world, headers) {
        Step::Wait { flow, .. } => answered(engine, world, flow, status),
        step => step,
    }
}

fn tell(engine: &mut Engine, world: &World, kind: &str) {
    let mut delivery = Delivery::default();
    let event = json!({ "type": kind, "tenantId": "acme" });
    delivery.push(event.to_string().as_bytes()).unwrap();
    assert_eq!(engine.receive(&delivery, world).unwrap().reply.status, 200);
}

#[test]
fn with_allow_a_tenant_that_cannot_be_looked_up_passes_and_the_upstream_is_told() {
    let (mut engine, world) = (engine_that("allow"), World::default());
    let token = bearer("acme");
    let headers = [
        ("authorization", token.as_str()),
        ("x-tenant-resolution", "verified"),
        ("x_tenant_resolution", "verified"),
        ("x-routing-key", "a"),
    ];
    let Step::Wait { edits, flow, .. } = start(&mut engine, &world, &headers) else {
        panic!("waits")
    };
    let removed: Vec<&[u8]> = edits.iter().map(Edit::name).collect();
    assert_eq!(removed, [&b"x-tenant-resolution"[..], b"x_tenant_resolution"]);
    let Step::Forward(Forward { edits, counters, .. }) = answered(&mut engine, &world, flow, 500) else {
        panic!("forwarded")
    };
    let set = |name: &str, value: &str| Edit::Set(name.as_bytes().to_vec(), value.as_bytes().to_vec());
    for edit in [
        set("x-tenant-resolution", "unverified"),
        set("x-tenant-id", "acme"),
        set("x-routing-key", "a.acme"),
    ] {
        assert!(edits.contains(&edit), "{edit:?} {edits:?}");
    }
    assert_eq!(
        counters,
        [Counter::TenantMessagesProcessed, Counter::UnverifiedRequests]
    );
}

#[test]
fn with_allow_whoever_waited_too_long_or_meets_an_open_circuit_passes_too() {
    let (mut engine, world) = (engine_that("allow"), World::default());
    let token = bearer("acme");
    let headers = [("authorization", token.as_str())];
    let (flow, _) = waiting(start(&mut engine, &world, &headers));
    assert_eq!(
        code(&flow.resume(&mut engine, Resumption::DeadlinePassed, &world)),
        "forwarded"
    );
    world.pass(1_500);
    for _ in 0..5 {
        assert_eq!(code(&ask(&mut engine, &world, &headers, 500)), "forwarded");
    }
    let step = start(&mut engine, &world, &headers);
    assert!(matches!(step, Step::Forward(Forward { counters, .. }) if counters.contains(&Counter::UnverifiedRequests)));
}

#[test]
fn with_allow_a_known_tenant_is_not_unverified() {
    let (mut engine, world) = (engine_that("allow"), World::default());
    let token = bearer("acme");
    let headers = [("authorization", token.as_str()), ("x-tenant-resolution", "x")];
    let (flow, _) = waiting(start(&mut engine, &world, &headers));
    let learned = learn(&mut engine, &world, &flow, GRANTED);
    flow.resume(&mut engine, Resumption::Learned(&learned), &world);
    let Step::Forward(Forward { edits, counters, .. }) = start(&mut engine, &world, &headers) else {
        panic!("forwarded")
    };
    assert_eq!(edits[0], Edit::Remove(b"x-tenant-resolution".to_vec()));
    assert!(
        !edits
            .iter()
            .any(|edit| matches!(edit, Edit::Set(name, _) if name == b"x-tenant-resolution"))
    );
    assert_eq!(counters, [Counter::TenantMessagesProcessed]);
}

#[test]
fn with_allow_nobody_passes_without_authentication_nor_a_refused_tenant() {
    let (mut engine, world) = (engine_that("allow"), World::default());
    for (header, expected) in [("", "TENANT_ID_REQUIRED"), ("Bearer a.b.c", "TOKEN_INVALID")] {
        assert_eq!(
            code(&start(&mut engine, &world, &[("authorization", header)])),
            expected
        );
    }
    let token = bearer("acme");
    let headers = [("authorization", token.as_str())];
    assert_eq!(code(&ask(&mut engine, &world, &headers, 403)), "TENANT_ACCESS_DENIED");
    // Past negative_ttl.
    world.pass(20_000);
    assert_eq!(code(&ask(&mut engine, &world, &headers, 500)), "TENANT_ACCESS_DENIED");
    tell(&mut engine, &world, "tenant.suspended");
    assert_eq!(code(&start(&mut engine, &world, &headers)), "TENANT_SUSPENDED");
}

#[test]
fn by_default_a_tenant_that_cannot_be_looked_up_is_denied_with_the_time_to_come_again() {
    let (mut engine, world) = (engine_that("deny"), World::default());
    let token = bearer("acme");
    let headers = [("authorization", token.as_str())];
    for _ in 0..5 {
        assert_eq!(
            code(&ask(&mut engine, &world, &headers, 500)),
            "TENANT_MANAGER_UNAVAILABLE"
        );
    }
    for (pass_ms, seconds) in [(0, "30"), (1, "30"), (999, "29"), (28_999, "1")] {
        world.pass(pass_ms);
        let Step::Reply(refused) = start(&mut engine, &world, &headers) else {
            panic!("refused")
        };
        assert_eq!((refused.reply.status, refused.reply.details), (503, "CIRCUIT_OPEN"));
        let retry_after = refused.reply.headers.iter().find(|(name, _)| *name == "retry-after");
        assert_eq!(retry_after.map(|(_, value)| value.as_str()), Some(seconds));
    }
    world.pass(1);
    assert_eq!(code(&start(&mut engine, &world, &headers)), "waits", "the probe");
}

#[test]
fn a_request_that_waits_while_its_tenant_is_suspended_is_refused() {
    let token = bearer("acme");
    let headers = [("authorization", token.as_str())];
    // Before the answer, and between the answer and the moment at which it is taken in.
    let (mut engine, world) = (engine_that("deny"), World::default());
    let (flow, _) = waiting(start(&mut engine, &world, &headers));
    tell(&mut engine, &world, "tenant.suspended");
    let learned = learn(&mut engine, &world, &flow, GRANTED);
    assert_eq!(
        code(&flow.resume(&mut engine, Resumption::Learned(&learned), &world)),
        "TENANT_SUSPENDED"
    );

    let (mut engine, world) = (engine_that("deny"), World::default());
    let (flow, _) = waiting(start(&mut engine, &world, &headers));
    let learned = learn(&mut engine, &world, &flow, GRANTED);
    tell(&mut engine, &world, "tenant.suspended");
    assert_eq!(
        code(&flow.resume(&mut engine, Resumption::Learned(&learned), &world)),
        "TENANT_SUSPENDED"
    );
}

#[test]
fn a_request_whose_tenant_was_invalidated_meanwhile_waits_again_and_not_for_longer() {
    let (mut engine, world) = (engine_that("deny"), World::default());
    let token = bearer("acme");
    let headers = [("authorization", token.as_str())];
    let (flow, _) = waiting(start(&mut engine, &world, &headers));
    let deadline_ms = flow.deadline_ms();
    world.pass(400);
    tell(&mut engine, &world, "tenant.updated");
    let learned = learn(&mut engine, &world, &flow, GRANTED);
    let (flow, begins) = waiting(flow.resume(&mut engine, Resumption::Learned(&learned), &world));
    assert!(begins, "it asks anew");
    assert_eq!(flow.deadline_ms(), deadline_ms);
    let learned = learn(&mut engine, &world, &flow, GRANTED);
    assert_eq!(
        code(&flow.resume(&mut engine, Resumption::Learned(&learned), &world)),
        "forwarded"
    );
}

#[test]
fn events_are_received_only_with_their_key_and_nothing_of_the_key_goes_on() {
    let (mut engine, world) = (engine_that("deny"), World::default());
    let send = |engine: &mut Engine, key: &str| {
        let fields: [(&[u8], &[u8]); 4] = [
            (b":method", b"POST"),
            (b":path", b"/internal/events"),
            (b"x-tenant-id", b"victim"),
            (b"x-api-key", key.as_bytes()),
        ];
        RequestFlow::start(engine, &RequestHead::new(&fields), &world)
    };
    let Step::Receive { edits, .. } = send(&mut engine, EVENTS_KEY) else {
        panic!("received")
    };
    let removed: Vec<&[u8]> = edits.iter().map(Edit::name).collect();
    assert_eq!(removed, [&b"x-tenant-id"[..], b"x-api-key"]);
    let step = send(&mut engine, "wrong");
    assert_eq!(code(&step), "EVENTS_UNAUTHORIZED");
    assert!(matches!(step, Step::Reply(refused) if refused.reply.status == 401));
    let fields: [(&[u8], &[u8]); 3] = [
        (b":method", b"POST"),
        (b":path", b"/internal/events/"),
        (b"x-api-key", EVENTS_KEY.as_bytes()),
    ];
    let step = RequestFlow::start(&mut engine, &RequestHead::new(&fields), &world);
    assert_eq!(code(&step), "TENANT_ID_REQUIRED", "a request like any other");
}

#[test]
fn a_refusal_is_a_refusal_whatever_is_to_be_done_while_nobody_can_be_asked() {
    for (status, expected) in [
        (404, "TENANT_NOT_FOUND"),
        (422, "TENANT_NOT_PROVISIONED"),
        (403, "TENANT_ACCESS_DENIED"),
    ] {
        for on_unavailable in ["allow", "deny"] {
            let (mut engine, world) = (engine_that(on_unavailable), World::default());
            let token = bearer("acme");
            let step = ask(&mut engine, &world, &[("authorization", token.as_str())], status);
            assert_eq!(code(&step), expected, "{on_unavailable}");
        }
    }
}

#[test]
fn a_stream_ends_with_its_tenant_where_that_is_asked_for_and_not_where_nothing_is_denied() {
    for (patch, ends) in [
        (json!({}), None),
        (json!({ "enforce": { "cut_streams": false } }), None),
        (json!({ "enforce": { "cut_streams": true } }), Some("acme")),
        (
            json!({ "enforce": { "cut_streams": true }, "enforcement": "report" }),
            None,
        ),
    ] {
        let (mut engine, world) = (engine(&patch), World::default());
        let (flow, _) = waiting(start(&mut engine, &world, &[("authorization", &bearer("acme"))]));
        let learned = learn(&mut engine, &world, &flow, GRANTED);
        let step = flow.resume(&mut engine, Resumption::Learned(&learned), &world);
        let Step::Forward(forward) = step else {
            panic!("{step:?}")
        };
        assert_eq!(forward.ends_with.as_ref().map(TenantId::as_str), ends, "{patch}");
    }
}
