use serde_json::json;

use super::*;
use crate::config::{Environment, Plugin, compile};
use crate::node::Now;
use crate::resolve::{Outcome, Resolution};
use crate::world::{NOW, World};

mod head;

const KEYS: [&str; 2] = ["0123456789abcdef", "fedcba9876543210"];

fn engine(patch: &Value) -> Engine {
    let mut document = json!({
        "version": "v1", "enabled": true, "service": "ledger", "environment": "staging",
        "auth": { "issuers": [{ "issuer": "i", "algorithms": ["HS256"], "jwks": { "inline": { "keys": [
            { "kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2Vj" }] } } }] },
        "tenant_manager": { "cluster": "tm", "authority": "tm", "api_keys": [{ "value": "k" }] },
        "events": { "path": "/internal/events", "api_keys": [{ "value": KEYS[0] }, { "value": KEYS[1] }] },
    });
    json_patch::merge(&mut document, patch);
    match compile(document.to_string().as_bytes(), &Environment::default()).map(|compiled| compiled.plugin) {
        Ok(Plugin::MultiTenant(config)) => Engine::new(*config),
        other => panic!("{other:?}"),
    }
}

fn deliver(engine: &mut Engine, world: &World, body: &[u8]) -> Result<Value, Denial> {
    let mut delivery = Delivery::default();
    delivery.push(body).unwrap();
    let tally = |received: Received| serde_json::from_slice(&received.reply.body).unwrap();
    engine.receive(&delivery, world).map(tally)
}

fn send(engine: &mut Engine, world: &World, event: &Value) -> Result<Value, Denial> {
    deliver(engine, world, event.to_string().as_bytes())
}

/// How the only event of a delivery was counted.
fn became(engine: &mut Engine, world: &World, event: &Value) -> Option<String> {
    let tally = send(engine, world, event).ok()?;
    let counts = tally.as_object().unwrap().iter().filter(|(_, count)| **count != 0);
    let counted: Vec<_> = counts.map(|(name, count)| (name.clone(), count.clone())).collect();
    let [(name, count)] = counted.as_slice() else {
        panic!("{counted:?}")
    };
    assert_eq!(*count, 1);
    Some(name.clone())
}

/// What is known of `acme`; `None`: it is asked about.
fn known(engine: &mut Engine, world: &World) -> Option<Outcome> {
    let manager = engine.config.tenant_manager.as_ref().unwrap();
    let acme = TenantId::parse("acme", false).unwrap();
    let resolver = engine.resolver.as_mut().unwrap();
    match resolver.resolve(manager, &acme, None, Now::of(world), world) {
        Resolution::Known(outcome) => Some(Outcome::clone(&outcome)),
        Resolution::Wait(wait) => {
            if let Some(errand) = wait.begins {
                assert!(engine.question(errand, world).is_some());
                // It gets lost.
                world.pass(2_500);
            }
            None
        }
    }
}

/// Learns what the Tenant Manager says of `acme`.
fn learn(engine: &mut Engine, world: &World, status: u16) {
    let manager = engine.config.tenant_manager.as_ref().unwrap();
    let acme = TenantId::parse("acme", false).unwrap();
    let resolver = engine.resolver.as_mut().unwrap();
    let errand = match resolver.resolve(manager, &acme, None, Now::of(world), world) {
        Resolution::Wait(wait) => wait.begins.unwrap(),
        known @ Resolution::Known(_) => panic!("{known:?}"),
    };
    engine.question(errand, world).unwrap();
    let answer = crate::errand::Answer::Http {
        status,
        retry_after_seconds: None,
        body: Some(b"{}"),
    };
    engine.answered(errand, answer, world);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    Nothing,
    /// It is asked about, and what was refused is not any more.
    Lift,
    /// It is asked about.
    Forget,
    Refuse(&'static str),
}

/// Every row of the table: type, whether it is about a service, effect.
const TABLE: [(&str, bool, Effect); 15] = [
    ("tenant.created", false, Effect::Lift),
    ("tenant.activated", false, Effect::Lift),
    ("tenant.updated", false, Effect::Forget),
    ("tenant.suspended", false, Effect::Refuse("suspended")),
    ("tenant.deleted", false, Effect::Refuse("deleted")),
    ("tenant.service.associated", true, Effect::Lift),
    ("tenant.service.reactivated", true, Effect::Lift),
    ("tenant.service.disassociated", true, Effect::Refuse("disassociated")),
    ("tenant.service.suspended", true, Effect::Refuse("suspended")),
    ("tenant.service.purged", true, Effect::Refuse("purged")),
    ("tenant.credentials.rotated", true, Effect::Forget),
    ("tenant.connections.updated", true, Effect::Forget),
    ("tenant.cache.invalidate", true, Effect::Forget),
    ("tenant.something.else", false, Effect::Nothing),
    ("tenant.Suspended", false, Effect::Nothing),
];

fn envelope(kind: &str, service: Option<&str>) -> Value {
    let payload = service.map(|service| json!({ "service_name": service, "more": [1, { "a": null }] }));
    json!({
        "event_id": "e1", "event_type": kind, "timestamp": "2027-01-15T08:00:00Z", "tenant_id": "acme",
        "tenant_slug": "acme-inc", "environment": "staging", "payload": payload,
    })
}

fn refused(status: &str) -> Option<Outcome> {
    Some(Outcome::Refused { status: status.into() })
}

#[test]
fn every_event_has_its_effect_on_a_known_tenant() {
    for (kind, is_about_a_service, effect) in TABLE {
        let (mut engine, world) = (engine(&json!({})), World::default());
        learn(&mut engine, &world, 200);
        let event = envelope(kind, is_about_a_service.then_some("ledger"));
        for _ in 0..2 {
            let expected = if effect == Effect::Nothing {
                "unknown"
            } else {
                "applied"
            };
            assert_eq!(became(&mut engine, &world, &event).as_deref(), Some(expected), "{kind}");
        }
        let asks = engine.take_errands().len();
        match (effect, known(&mut engine, &world)) {
            (Effect::Nothing, Some(Outcome::Found(_))) => assert_eq!(asks, 0, "{kind}"),
            (Effect::Lift | Effect::Forget, None) => assert_eq!(asks, 1, "{kind}: refreshed in the background"),
            (Effect::Refuse(status), known) => {
                assert_eq!((known, asks), (refused(status), 0), "{kind}");
                // Until ttl, and not longer.
                world.pass(119_999);
                assert_eq!(self::known(&mut engine, &world), refused(status), "{kind}");
                world.pass(1);
                assert_eq!(self::known(&mut engine, &world), None, "{kind}");
            }
            (effect, known) => panic!("{kind}: {effect:?} {known:?}"),
        }
    }
}

#[test]
fn what_was_not_cached_is_not_asked_about() {
    for (kind, is_about_a_service, _) in TABLE {
        let (mut engine, world) = (engine(&json!({})), World::default());
        send(
            &mut engine,
            &world,
            &envelope(kind, is_about_a_service.then_some("ledger")),
        )
        .unwrap();
        assert_eq!(engine.take_errands(), [], "{kind}");
    }
}

#[test]
fn a_refusal_is_lifted_by_activating_events_only_and_a_negative_entry_by_all() {
    for (kind, is_about_a_service, effect) in TABLE {
        let event = envelope(kind, is_about_a_service.then_some("ledger"));
        let (mut engine, world) = (engine(&json!({})), World::default());
        send(
            &mut engine,
            &world,
            &json!({ "type": "tenant.suspended", "tenantId": "acme" }),
        )
        .unwrap();
        send(&mut engine, &world, &event).unwrap();
        match (effect, known(&mut engine, &world)) {
            (Effect::Lift, None) => {}
            (Effect::Forget | Effect::Nothing, known) => assert_eq!(known, refused("suspended"), "{kind}"),
            (Effect::Refuse(_), Some(Outcome::Refused { .. })) => {}
            (effect, known) => panic!("{kind}: {effect:?} {known:?}"),
        }
        for status in [403, 404, 422] {
            let (mut engine, world) = (self::engine(&json!({})), World::default());
            learn(&mut engine, &world, status);
            send(&mut engine, &world, &event).unwrap();
            let is_known = known(&mut engine, &world).is_some();
            assert_eq!(
                is_known,
                matches!(effect, Effect::Nothing | Effect::Refuse(_)),
                "{kind} {status}"
            );
        }
    }
}

#[test]
fn everything_is_forgotten_at_once() {
    for event in [
        json!({ "type": "cache.invalidate_all" }),
        json!({ "event_type": "cache.invalidate_all", "environment": "STAGING", "tenant_id": 7 }),
        json!({ "event_type": "cache.invalidate_all", "environment": "" }),
    ] {
        let (mut engine, world) = (engine(&json!({})), World::default());
        learn(&mut engine, &world, 200);
        assert_eq!(
            became(&mut engine, &world, &event).as_deref(),
            Some("applied"),
            "{event}"
        );
        assert_eq!(known(&mut engine, &world), None);
    }
}

#[test]
fn the_short_form_has_no_service_to_name() {
    for (kind, is_about_a_service, effect) in TABLE {
        let (mut engine, world) = (engine(&json!({})), World::default());
        let short = json!({ "type": kind, "tenantId": "acme" });
        let expected = match (effect, is_about_a_service) {
            (Effect::Nothing, _) => "unknown",
            (Effect::Lift | Effect::Refuse(_), true) => "other_service",
            _ => "applied",
        };
        assert_eq!(became(&mut engine, &world, &short).as_deref(), Some(expected), "{kind}");
    }
}

#[test]
fn events_about_a_service_are_for_the_configured_one() {
    for (kind, is_about_a_service, effect) in TABLE {
        for service in [None, Some("other"), Some("Ledger"), Some("ledger "), Some("")] {
            let (mut engine, world) = (engine(&json!({})), World::default());
            let expected = match (effect, is_about_a_service) {
                (Effect::Nothing, _) => "unknown",
                (_, true) => "other_service",
                (_, false) => "applied",
            };
            let event = envelope(kind, service);
            assert_eq!(
                became(&mut engine, &world, &event).as_deref(),
                Some(expected),
                "{kind} {service:?}"
            );
        }
    }
}

#[test]
fn events_of_another_environment_are_passed_over() {
    for (environment, expected) in [
        (json!("staging"), Some("applied")),
        (json!("Staging"), Some("applied")),
        (json!(""), Some("applied")),
        (json!(null), Some("applied")),
        (json!("production"), Some("other_environment")),
        (json!("staging "), Some("other_environment")),
        (json!(7), None),
    ] {
        for kind in ["tenant.suspended", "cache.invalidate_all"] {
            let (mut engine, world) = (engine(&json!({})), World::default());
            let mut event = envelope(kind, None);
            event["environment"] = environment.clone();
            assert_eq!(
                became(&mut engine, &world, &event).as_deref(),
                expected,
                "{environment} {kind}"
            );
        }
    }
}

fn at(seconds: i64, millis: i64) -> String {
    let unix = i64::try_from(NOW).unwrap() + seconds;
    let nanos = i128::from(unix) * 1_000_000_000 + i128::from(millis) * 1_000_000;
    let at = OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap();
    format!(
        "{}T{:02}:{:02}:{:02}.{:03}Z",
        at.date(),
        at.hour(),
        at.minute(),
        at.second(),
        at.millisecond()
    )
}

#[test]
fn an_event_that_is_older_than_the_last_by_more_than_5_s_has_no_effect() {
    let (mut engine, world) = (engine(&json!({})), World::default());
    let mut send = |kind: &str, timestamp: String| {
        let mut event = envelope(kind, None);
        event["timestamp"] = timestamp.into();
        let became = became(&mut engine, &world, &event);
        (became.unwrap(), known(&mut engine, &world).is_some())
    };
    let applied = |refused| ("applied".to_owned(), refused);
    assert_eq!(send("tenant.suspended", at(-100, 0)), applied(true));
    assert_eq!(send("tenant.activated", at(-106, 0)), ("outdated".to_owned(), true));
    assert_eq!(send("tenant.activated", at(-105, -1)), ("outdated".to_owned(), true));
    assert_eq!(send("tenant.activated", at(-105, 0)), applied(false));
    assert_eq!(send("tenant.suspended", at(0, 0)), applied(true));
    assert_eq!(send("tenant.activated", at(1, 0)), applied(false));
}

#[test]
fn a_time_to_come_silences_nothing() {
    let (mut engine, world) = (engine(&json!({})), World::default());
    for timestamp in ["9999-12-31T23:59:59Z".to_owned(), at(1_000_000, 0)] {
        let mut event = envelope("tenant.activated", None);
        event["timestamp"] = timestamp.into();
        send(&mut engine, &world, &event).unwrap();
        event["event_type"] = "tenant.suspended".into();
        event["timestamp"] = at(0, i64::try_from(world.now_ms.get()).unwrap()).into();
        assert_eq!(became(&mut engine, &world, &event).as_deref(), Some("applied"));
        assert_eq!(known(&mut engine, &world), refused("suspended"));
    }
}

#[test]
fn what_cannot_be_read_is_refused_and_the_rest_is_carried_out() {
    let good = json!({ "type": "tenant.suspended", "tenantId": "acme" });
    for bad in [
        json!(7),
        json!("tenant.suspended"),
        json!(null),
        json!([]),
        json!({}),
        json!({ "type": 7, "tenantId": "acme" }),
        json!({ "type": "", "tenantId": "acme" }),
        json!({ "type": "tenant.suspended" }),
        json!({ "type": "tenant.suspended", "tenantId": "" }),
        json!({ "type": "tenant.suspended", "tenantId": " acme" }),
        json!({ "type": "tenant.suspended", "tenantId": 7 }),
        json!({ "type": "tenant.suspended", "tenant_id": "acme" }),
        json!({ "event_type": "tenant.suspended", "tenantId": "acme" }),
        json!({ "event_type": "tenant.suspended", "tenant_id": "a".repeat(257) }),
        json!({ "event_type": "tenant.suspended", "tenant_id": "acme", "timestamp": "yesterday" }),
        json!({ "event_type": "tenant.suspended", "tenant_id": "acme", "timestamp": 1_700_000_000 }),
        json!({ "event_type": "tenant.service.suspended", "tenant_id": "acme", "payload": ["ledger"] }),
        json!({ "event_type": null, "type": "tenant.suspended", "tenantId": "acme" }),
    ] {
        let (mut engine, world) = (engine(&json!({})), World::default());
        let sent = send(&mut engine, &world, &json!([bad, good, bad]));
        assert!(matches!(sent, Err(Denial::EventsMalformed(_))), "{bad}: {sent:?}");
        assert_eq!(known(&mut engine, &world), refused("suspended"), "{bad}");
        assert!(send(&mut engine, &world, &json!([bad])).is_err(), "{bad}");
    }
}

#[test]
fn a_body_that_is_no_strict_json_changes_nothing() {
    let (mut engine, world) = (engine(&json!({})), World::default());
    for body in [
        "",
        " ",
        "7",
        "null",
        "\"x\"",
        "{",
        "[{]",
        r#"{"type":"tenant.suspended","tenantId":"acme"} x"#,
        r#"{"type":"tenant.activated","type":"tenant.suspended","tenantId":"acme"}"#,
        r#"{"type":"tenant.suspended","tenantId":"other","tenantId":"acme"}"#,
        r#"[{"type":"tenant.suspended","tenantId":"acme"},{"a":{"b":1,"b":2}}]"#,
    ] {
        let sent = deliver(&mut engine, &world, body.as_bytes());
        assert!(matches!(sent, Err(Denial::EventsMalformed(_))), "{body}");
    }
    assert!(deliver(&mut engine, &world, b"{\"type\":\"\xff\"}").is_err());
    assert!(world.store.borrow().is_empty());
    assert_eq!(deliver(&mut engine, &world, b"[]").unwrap()["applied"], 0);
}

#[test]
fn a_list_is_carried_out_in_its_order_and_counted() {
    let (mut engine, world) = (engine(&json!({})), World::default());
    let short = |kind: &str| json!({ "type": kind, "tenantId": "acme" });
    let events = json!([
        short("tenant.activated"), short("tenant.suspended"), short("x"), short("tenant.service.purged"),
        { "type": "tenant.activated", "tenantId": "acme", "environment": "production" },
    ]);
    let expected = json!({ "applied": 2, "outdated": 0, "other_service": 1, "other_environment": 1, "unknown": 1, "malformed": 0 });
    assert_eq!(send(&mut engine, &world, &events), Ok(expected));
    assert_eq!(known(&mut engine, &world), refused("suspended"));
    for (kind, outcome) in [
        (EventType::TenantActivated, EventOutcome::Applied),
        (EventType::TenantSuspended, EventOutcome::Applied),
        (EventType::Unknown, EventOutcome::Unknown),
        (EventType::ServicePurged, EventOutcome::OtherService),
        (EventType::TenantActivated, EventOutcome::OtherEnvironment),
    ] {
        assert_eq!(world.counts(Counter::Events(kind, outcome)), 1, "{kind:?}");
    }
    send(
        &mut engine,
        &world,
        &json!([short("tenant.suspended"), { "type": "cache.invalidate_all" }]),
    )
    .unwrap();
    assert_eq!(known(&mut engine, &world), None);
    send(
        &mut engine,
        &world,
        &json!([{ "type": "cache.invalidate_all" }, short("tenant.suspended")]),
    )
    .unwrap();
    assert_eq!(known(&mut engine, &world), refused("suspended"));
}

#[test]
fn more_tenants_at_once_than_the_log_names_are_all_heard_of() {
    let (mut engine, world) = (engine(&json!({})), World::default());
    learn(&mut engine, &world, 200);
    let mut events: Vec<Value> = (0..200)
        .map(|n| json!({ "type": "tenant.updated", "tenantId": format!("t{n}") }))
        .collect();
    events.insert(0, json!({ "type": "tenant.suspended", "tenantId": "acme" }));
    assert_eq!(send(&mut engine, &world, &events.into()).unwrap()["applied"], 201);
    assert_eq!(known(&mut engine, &world), refused("suspended"));
}

#[test]
fn ids_of_events_are_folded_where_folding_is_on() {
    let (mut engine, world) = (engine(&json!({ "tenant_id": { "fold_uuid": true } })), World::default());
    let event = json!({ "type": "tenant.suspended", "tenantId": "0F8FAD5B-D9CB-469F-A165-70867728950E" });
    send(&mut engine, &world, &event).unwrap();
    let manager = engine.config.tenant_manager.as_ref().unwrap();
    let folded = TenantId::parse("0f8fad5bd9cb469fa16570867728950e", true).unwrap();
    let resolver = engine.resolver.as_mut().unwrap();
    assert!(matches!(
        resolver.resolve(manager, &folded, None, Now::of(&world), &world),
        Resolution::Known(outcome) if *outcome == Outcome::Refused { status: "suspended".into() }
    ));
}

#[test]
fn events_that_the_node_does_not_take_are_not_acknowledged() {
    let (mut engine, world) = (engine(&json!({})), World::default());
    world.refuses_writes.set(true);
    let event = json!({ "type": "tenant.suspended", "tenantId": "acme" });
    assert_eq!(send(&mut engine, &world, &event), Err(Denial::EventsNotTaken));
    assert_eq!(Denial::EventsNotTaken.code().status(), 503);
    assert_eq!(
        world.counts(Counter::Events(EventType::TenantSuspended, EventOutcome::Applied)),
        0
    );
}

#[test]
fn a_body_has_at_most_256_kib_however_it_comes() {
    let mut delivery = Delivery::default();
    for _ in 0..256 {
        assert_eq!(delivery.push(&[b' '; 1_024]), Ok(()));
    }
    assert_eq!(delivery.push(b" "), Err(TooLong));
    assert_eq!(delivery.push(b""), Ok(()));
    assert_eq!(Delivery::default().push(&[0; 262_145]), Err(TooLong));
    assert_eq!(Delivery::too_long().code().status(), 400);
}

#[test]
fn what_is_wrong_with_an_event_is_said_and_nothing_of_its_value() {
    let (mut engine, world) = (engine(&json!({})), World::default());
    for (event, why) in [
        (json!({}), "`event_type` or `type` is missing"),
        (
            json!({ "event_type": "tenant.suspended", "tenantId": "acme" }),
            "`tenant_id` is missing or no tenant id",
        ),
        (
            json!({ "type": "tenant.suspended", "tenantId": "s3cret!" }),
            "`tenantId` is missing or no tenant id",
        ),
        (
            json!({ "event_type": "tenant.suspended", "tenant_id": "acme", "timestamp": "2026-11-21T10:00:00" }),
            NO_TIME,
        ),
        (
            json!({ "event_type": "tenant.service.purged", "tenant_id": "acme", "payload": ["s3cret!"] }),
            "`payload` is no object",
        ),
    ] {
        let fine = json!({ "type": "tenant.updated", "tenantId": "acme" });
        let body = json!([fine, event]).to_string();
        let Err(Denial::EventsMalformed(told)) = deliver(&mut engine, &world, body.as_bytes()) else {
            panic!("{event}")
        };
        assert!(
            told.contains(&format!("1 of 2 events cannot be read, the first at /1: {why};")),
            "{told}"
        );
        assert!(!told.contains("s3cret"), "{told}");
    }
}

#[test]
fn the_log_hears_of_each_event_up_to_a_bound() {
    let (mut engine, world) = (engine(&json!({})), World::default());
    let events: Vec<Value> = (0..60)
        .map(|n| json!({ "type": "tenant.suspended", "tenantId": format!("t{n}") }))
        .chain([json!({ "type": "tenant.foo\n", "tenantId": "acme" })])
        .collect();
    let mut delivery = Delivery::default();
    delivery.push(Value::from(events).to_string().as_bytes()).unwrap();
    let received = engine.receive(&delivery, &world).unwrap();
    assert_eq!(received.carried_out.len(), MAX_LINES);
    assert_eq!(received.carried_out[0], "event tenant_suspended applied tenant=t0");
    assert_eq!(received.unknown.len(), 1);
    assert!(!received.unknown[0].contains('\n'), "{:?}", received.unknown);
}
