//! Every counter and gauge: there from the start, moved when it should be.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tiny_envoy::{Answer, PeerRequest};

use crate::world::{ACCOUNTS, World, config, world};

/// All names. They are what dashboards are made of: a new name stands here too, an old one stays.
const NAMES: [&str; 55] = [
    "tenant_connection_errors_total.reason=bad_record~",
    "tenant_connection_errors_total.reason=server_error~",
    "tenant_connection_errors_total.reason=unauthorized~",
    "tenant_connection_errors_total.reason=unexpected_status~",
    "tenant_connection_errors_total.reason=unreachable~",
    "tenant_connections_total",
    "tenant_consumers_active",
    "tenant_messages_processed_total",
    "tenantgate_auth_refusals_total.reason=algorithm~",
    "tenantgate_auth_refusals_total.reason=audience~",
    "tenantgate_auth_refusals_total.reason=claims~",
    "tenantgate_auth_refusals_total.reason=critical~",
    "tenantgate_auth_refusals_total.reason=exp_missing~",
    "tenantgate_auth_refusals_total.reason=expired~",
    "tenantgate_auth_refusals_total.reason=header~",
    "tenantgate_auth_refusals_total.reason=issuer~",
    "tenantgate_auth_refusals_total.reason=key_ambiguous~",
    "tenantgate_auth_refusals_total.reason=key_unknown~",
    "tenantgate_auth_refusals_total.reason=key_wait_overloaded~",
    "tenantgate_auth_refusals_total.reason=malformed~",
    "tenantgate_auth_refusals_total.reason=no_credential~",
    "tenantgate_auth_refusals_total.reason=not_yet_valid~",
    "tenantgate_auth_refusals_total.reason=signature~",
    "tenantgate_auth_refusals_total.reason=tenant_claim~",
    "tenantgate_auth_refusals_total.reason=tenant_id~",
    "tenantgate_auth_refusals_total.reason=tenant_of_other_issuer~",
    "tenantgate_auth_refusals_total.reason=too_long~",
    "tenantgate_auth_refusals_total.reason=type~",
    "tenantgate_cache_evictions_total",
    "tenantgate_denials_total.code=INTERNAL_ERROR~",
    "tenantgate_denials_total.code=KEYS_UNAVAILABLE~",
    "tenantgate_denials_total.code=KEY_REJECTED~",
    "tenantgate_denials_total.code=PATH_REJECTED~",
    "tenantgate_denials_total.code=ROUTE_NOT_FOUND~",
    "tenantgate_denials_total.code=SERVICE_NOT_CONFIGURED~",
    "tenantgate_denials_total.code=TENANT_ACCESS_DENIED~",
    "tenantgate_denials_total.code=TENANT_ID_INVALID~",
    "tenantgate_denials_total.code=TENANT_ID_REQUIRED~",
    "tenantgate_denials_total.code=TENANT_LOOKUP_OVERLOADED~",
    "tenantgate_denials_total.code=TENANT_MANAGER_UNAVAILABLE~",
    "tenantgate_denials_total.code=TENANT_NOT_FOUND~",
    "tenantgate_denials_total.code=TENANT_NOT_PROVISIONED~",
    "tenantgate_denials_total.code=TENANT_SCHEMA_INVALID~",
    "tenantgate_denials_total.code=TENANT_SUSPENDED~",
    "tenantgate_denials_total.code=TOKEN_INVALID~",
    "tenantgate_jwks_fetch_errors_total.reason=bad_set~",
    "tenantgate_jwks_fetch_errors_total.reason=server_error~",
    "tenantgate_jwks_fetch_errors_total.reason=too_large~",
    "tenantgate_jwks_fetch_errors_total.reason=unexpected_status~",
    "tenantgate_jwks_fetch_errors_total.reason=unreachable~",
    "tenantgate_jwks_fetches_total",
    "tenantgate_keys_refused_total",
    "tenantgate_lookups_overloaded_total",
    "tenantgate_token_cache_evictions_total",
    "tenantgate_tokens_verified_total",
];

const CONSUMERS: &str = "tenant_consumers_active";
const VERIFIED: &str = "tenantgate_tokens_verified_total";

fn error(reason: &str) -> String {
    format!("tenant_connection_errors_total.reason={reason}~")
}

fn denied(code: &str) -> String {
    format!("tenantgate_denials_total.code={code}~")
}

/// What has moved, and by how much. Signatures checked are left out: each test below would have to
/// know which of its tokens are one.
fn moved(world: &World, before: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let change = |(name, now): (String, u64)| (name.clone(), now - before.get(&name).copied().unwrap_or_default());
    world
        .envoy
        .metrics()
        .into_iter()
        .map(change)
        .filter(|(name, by)| *by != 0 && name != VERIFIED)
        .collect()
}

fn one_each(names: &[&str]) -> BTreeMap<String, u64> {
    names.iter().map(|name| ((*name).to_owned(), 1)).collect()
}

#[test]
fn all_of_them_show_before_they_move() {
    let world = World::start(&config(json!({})), |builder| builder.workers(3));
    let expected: BTreeMap<_, _> = NAMES.iter().map(|name| ((*name).to_owned(), 0)).collect();
    assert_eq!(world.envoy.metrics(), expected);
}

#[test]
fn a_record_counts_as_a_connection_and_each_forwarded_request_as_a_message() {
    let mut world = world(json!({}));
    let before = world.envoy.metrics();
    world.run("acme").forwarded();
    let cold = ["tenant_connections_total", CONSUMERS, "tenant_messages_processed_total"];
    assert_eq!(moved(&world, &before), one_each(&cold));
    let before = world.envoy.metrics();
    world.run("acme").forwarded();
    assert_eq!(moved(&world, &before), one_each(&["tenant_messages_processed_total"]));
}

#[test]
fn what_is_not_forwarded_in_a_tenants_name_is_no_message() {
    let mut world = world(json!({}));
    let before = world.envoy.metrics();
    world.envoy.get("/health").run().forwarded();
    world.envoy.get(ACCOUNTS).run().replied();
    world.run("frozen").replied();
    world.run("barred").replied();
    world.run("empty").replied();
    world.run("nobody").replied();
    let codes = [
        "TENANT_ID_REQUIRED",
        "TENANT_SUSPENDED",
        "TENANT_ACCESS_DENIED",
        "TENANT_NOT_PROVISIONED",
        "TENANT_NOT_FOUND",
    ];
    let mut expected: BTreeMap<String, u64> = codes.iter().map(|code| (denied(code), 1)).collect();
    expected.insert("tenantgate_auth_refusals_total.reason=no_credential~".to_owned(), 1);
    assert_eq!(
        moved(&world, &before),
        expected,
        "refusals are answers, and none of these is a record"
    );
}

#[test]
fn a_token_is_verified_once_and_then_remembered() {
    let mut world = World::start(&config(json!({})), |builder| builder.workers(2));
    let verified = |world: &World| world.envoy.metric(VERIFIED).unwrap();
    for (worker, expected) in [(0, 1), (0, 1), (1, 2), (1, 2), (0, 2)] {
        let stream = world.ask("acme", worker);
        world.envoy.decide(stream);
        assert_eq!(verified(&world), expected, "each worker for itself");
    }
}

#[test]
fn a_failed_lookup_counts_once_under_its_reason() {
    let cases: [(Value, &str); 15] = [
        (json!({ "fault": "reset_mid_body", "body": "{}" }), "unreachable"),
        (json!({ "fault": "close_before_headers" }), "server_error"),
        (json!({ "fault": "silence" }), "server_error"),
        (json!({ "status": 500 }), "server_error"),
        (json!({ "status": 599 }), "server_error"),
        (json!({ "status": 401 }), "unauthorized"),
        (json!({ "status": 400 }), "unexpected_status"),
        (json!({ "status": 429 }), "unexpected_status"),
        (json!({ "status": 204 }), "unexpected_status"),
        (
            json!({ "status": 302, "headers": [["location", "/elsewhere"]] }),
            "unexpected_status",
        ),
        (json!({ "body": "not json" }), "bad_record"),
        (json!({ "body": "" }), "bad_record"),
        (json!({ "record": { "id": "globex" } }), "bad_record"),
        (json!({ "record": { "isolationMode": "none" } }), "bad_record"),
        (json!({ "record": {}, "pad_to_bytes": 1_048_577 }), "bad_record"),
    ];
    for (answer, reason) in cases {
        let mut world = world(json!({}));
        world.answer("acme", answer.clone());
        let before = world.envoy.metrics();
        // All who wait share one lookup, and with it one failure.
        let streams = [world.ask("acme", 0), world.ask("acme", 0)];
        for stream in streams {
            assert_eq!(world.envoy.decide(stream).replied().status, 503, "{answer}");
        }
        let expected = [(error(reason), 1), (denied("TENANT_MANAGER_UNAVAILABLE"), 2)];
        assert_eq!(moved(&world, &before), BTreeMap::from(expected), "{answer}");
        world.assert_healthy();
    }
}

#[test]
fn a_refused_callout_counts_as_unreachable() {
    let mut world = World::start(&config(json!({})), |builder| {
        builder.cluster("tenant-manager", |_: &PeerRequest| Answer::no_endpoints())
    });
    let before = world.envoy.metrics();
    world.run("acme").replied();
    let expected = [error("unreachable"), denied("TENANT_MANAGER_UNAVAILABLE")];
    assert_eq!(moved(&world, &before), BTreeMap::from(expected.map(|name| (name, 1))));
}

#[test]
fn the_gauge_follows_what_workers_hold_and_returns_to_nothing() {
    let mut world = World::start(&config(json!({})), |builder| builder.workers(2));
    let held = |world: &World| world.envoy.metric(CONSUMERS);
    for (tenant, worker, expected) in [
        ("acme", 0, 1),
        ("acme", 1, 2),
        ("globex", 0, 3),
        ("frozen", 0, 3),
        ("acme", 0, 3),
    ] {
        let stream = world.ask(tenant, worker);
        world.envoy.decide(stream);
        assert_eq!(held(&world), Some(expected), "{tenant} on worker {worker}");
    }
    world.envoy.advance(Duration::from_secs(119));
    assert_eq!(held(&world), Some(3), "records live for 120 s");
    world.envoy.advance(Duration::from_secs(600));
    assert_eq!(held(&world), Some(0));
    world.run("acme").forwarded();
    assert_eq!(held(&world), Some(1), "and it starts again");
    world.envoy.advance(Duration::from_secs(600));
    assert_eq!(held(&world), Some(0));
}

#[test]
fn what_is_pushed_out_of_the_cache_leaves_the_gauge_and_is_counted() {
    let mut world = world(json!({ "tenant_manager": { "cache": { "max_entries": 2 } } }));
    let evictions = |world: &World| world.envoy.metric("tenantgate_cache_evictions_total");
    for (tenant, evicted) in [("a", 0), ("b", 0), ("c", 1), ("d", 2)] {
        world.answer(tenant, json!({ "record": { "databases": { "onboarding": {} } } }));
        world.run(tenant).forwarded();
        assert_eq!(evictions(&world), Some(evicted), "after {tenant}");
    }
    assert_eq!(world.envoy.metric(CONSUMERS), Some(2));
    // A refusal pushes a record out as well.
    world.run("frozen").replied();
    assert_eq!(world.envoy.metric(CONSUMERS), Some(1));
    assert_eq!(evictions(&world), Some(3));
    world.envoy.advance(Duration::from_secs(600));
    assert_eq!(world.envoy.metric(CONSUMERS), Some(0));
    assert_eq!(evictions(&world), Some(3), "what has expired is not pushed out");
}

#[test]
fn each_request_that_finds_no_place_is_counted() {
    let mut world = world(json!({ "tenant_manager": { "max_waiters": 8 } }));
    world.answer(
        "acme",
        json!({ "record": { "databases": { "onboarding": {} } }, "delay_ms": 100 }),
    );
    let before = world.envoy.metrics();
    let waits = world.ask("acme", 0);
    for times in 1..=3 {
        world.run("acme").replied();
        let expected = [
            "tenantgate_lookups_overloaded_total".to_owned(),
            denied("TENANT_LOOKUP_OVERLOADED"),
        ];
        assert_eq!(
            moved(&world, &before),
            BTreeMap::from(expected.map(|name| (name, times)))
        );
    }
    world.envoy.decide(waits).forwarded();
}
