//! Every counter and gauge: there from the start, moved when it should be.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tiny_envoy::{Answer, PeerRequest};

use crate::world::{ACCOUNTS, World, config, world};

/// All names. They are what dashboards are made of: a new name stands here too, an old one stays.
const NAMES: [&str; 88] = [
    "tenant_connection_errors_total.reason=bad_record~",
    "tenant_connection_errors_total.reason=rate_limited~",
    "tenant_connection_errors_total.reason=rejected~",
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
    "tenantgate_auth_refusals_total.reason=no_metadata~",
    "tenantgate_auth_refusals_total.reason=not_yet_valid~",
    "tenantgate_auth_refusals_total.reason=signature~",
    "tenantgate_auth_refusals_total.reason=tenant_claim~",
    "tenantgate_auth_refusals_total.reason=tenant_id~",
    "tenantgate_auth_refusals_total.reason=tenant_of_other_issuer~",
    "tenantgate_auth_refusals_total.reason=too_long~",
    "tenantgate_auth_refusals_total.reason=type~",
    "tenantgate_breaker_state",
    "tenantgate_cache_evictions_total",
    "tenantgate_shared_evictions_total",
    "tenantgate_rate_limit_fallbacks_total",
    "tenantgate_response_leaks_total",
    "tenantgate_streams_cut_total",
    "tenantgate_tenant_labels_aggregated_total",
    "tenantgate_background_dropped_total",
    "tenantgate_cache_lookups_total.level=local~.outcome=fallback~",
    "tenantgate_cache_lookups_total.level=local~.outcome=hit~",
    "tenantgate_cache_lookups_total.level=local~.outcome=miss~",
    "tenantgate_cache_lookups_total.level=local~.outcome=negative~",
    "tenantgate_cache_lookups_total.level=local~.outcome=stale~",
    "tenantgate_cache_lookups_total.level=shared~.outcome=fallback~",
    "tenantgate_cache_lookups_total.level=shared~.outcome=hit~",
    "tenantgate_cache_lookups_total.level=shared~.outcome=miss~",
    "tenantgate_cache_lookups_total.level=shared~.outcome=negative~",
    "tenantgate_cache_lookups_total.level=shared~.outcome=stale~",
    "tenantgate_callout_response_bytes_total",
    "tenantgate_circuit_opened_total",
    "tenantgate_denials_total.code=CIRCUIT_OPEN~",
    "tenantgate_denials_total.code=EVENTS_MALFORMED~",
    "tenantgate_denials_total.code=EVENTS_NOT_TAKEN~",
    "tenantgate_denials_total.code=EVENTS_UNAUTHORIZED~",
    "tenantgate_denials_total.code=INTERNAL_ERROR~",
    "tenantgate_denials_total.code=KEYS_UNAVAILABLE~",
    "tenantgate_denials_total.code=KEY_REJECTED~",
    "tenantgate_denials_total.code=PATH_REJECTED~",
    "tenantgate_denials_total.code=ROUTE_NOT_FOUND~",
    "tenantgate_denials_total.code=SERVICE_NOT_CONFIGURED~",
    "tenantgate_denials_total.code=TENANT_ACCESS_DENIED~",
    "tenantgate_denials_total.code=TENANT_ID_INVALID~",
    "tenantgate_denials_total.code=TENANT_ID_REQUIRED~",
    "tenantgate_denials_total.code=TENANT_RATE_LIMITED~",
    "tenantgate_denials_total.code=TENANT_LEAK_BLOCKED~",
    "tenantgate_denials_total.code=TENANT_LOOKUP_OVERLOADED~",
    "tenantgate_denials_total.code=TENANT_MANAGER_UNAVAILABLE~",
    "tenantgate_denials_total.code=TENANT_NOT_FOUND~",
    "tenantgate_denials_total.code=TENANT_NOT_PROVISIONED~",
    "tenantgate_denials_total.code=TENANT_SCHEMA_INVALID~",
    "tenantgate_denials_total.code=TENANT_SUSPENDED~",
    "tenantgate_denials_total.code=TOKEN_INVALID~",
    "tenantgate_discovery_errors_total",
    "tenantgate_discovery_gone_total",
    "tenantgate_jwks_fetch_errors_total.reason=bad_set~",
    "tenantgate_jwks_fetch_errors_total.reason=no_usable_key~",
    "tenantgate_jwks_fetch_errors_total.reason=server_error~",
    "tenantgate_jwks_fetch_errors_total.reason=too_large~",
    "tenantgate_jwks_fetch_errors_total.reason=unexpected_status~",
    "tenantgate_jwks_fetch_errors_total.reason=unreachable~",
    "tenantgate_jwks_fetches_total",
    "tenantgate_keys_refused_total",
    "tenantgate_lookups_overloaded_total",
    "tenantgate_token_cache_evictions_total",
    "tenantgate_tokens_verified_total",
    "tenantgate_unverified_requests_total",
    "tenantgate_waiters",
];

const CONSUMERS: &str = "tenant_consumers_active";
const VERIFIED: &str = "tenantgate_tokens_verified_total";
const BYTES: &str = "tenantgate_callout_response_bytes_total";
/// Moves with whatever workers must hear of; its value means nothing.
const BELL: &str = "tenantgate_epoch";

const COLD: [&str; 2] = [
    "tenantgate_cache_lookups_total.level=local~.outcome=miss~",
    "tenantgate_cache_lookups_total.level=shared~.outcome=miss~",
];

fn error(reason: &str) -> String {
    format!("tenant_connection_errors_total.reason={reason}~")
}

fn denied(code: &str) -> String {
    format!("tenantgate_denials_total.code={code}~")
}

/// What has moved, and by how much. Left out are the bell, and what each test below would have to
/// count for itself: signatures checked, and bytes.
fn moved(world: &World, before: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let change = |(name, now): (String, u64)| (name.clone(), now - before.get(&name).copied().unwrap_or_default());
    world
        .envoy
        .metrics()
        .into_iter()
        .map(change)
        .filter(|(name, by)| *by != 0 && ![VERIFIED, BYTES].contains(&name.as_str()) && !name.starts_with(BELL))
        .collect()
}

fn one_each(names: &[&str]) -> BTreeMap<String, u64> {
    names.iter().map(|name| ((*name).to_owned(), 1)).collect()
}

#[test]
fn all_of_them_show_before_they_move() {
    let world = World::start(&config(json!({})), |builder| builder.workers(3));
    let mut metrics = world.envoy.metrics();
    let bell = metrics.keys().find(|name| name.starts_with(BELL)).cloned();
    let bell = bell.and_then(|name| metrics.remove(&name));
    assert_eq!(
        bell,
        Some(5),
        "each VM has tried it: three workers, the main thread, the canary"
    );
    let expected: BTreeMap<_, _> = NAMES.iter().map(|name| ((*name).to_owned(), 0)).collect();
    assert_eq!(metrics, expected);
}

#[test]
fn a_record_counts_as_a_connection_and_each_forwarded_request_as_a_message() {
    let mut world = world(json!({}));
    let before = world.envoy.metrics();
    world.run("acme").forwarded();
    let messages = "tenant_messages_processed_total";
    let cold = ["tenant_connections_total", CONSUMERS, messages, COLD[0], COLD[1]];
    assert_eq!(moved(&world, &before), one_each(&cold));
    let before = world.envoy.metrics();
    world.run("acme").forwarded();
    assert_eq!(moved(&world, &before), one_each(&[messages]));
    world.envoy.advance(Duration::from_secs(1));
    let warm = [messages, "tenantgate_cache_lookups_total.level=local~.outcome=hit~"];
    assert_eq!(
        moved(&world, &before),
        one_each(&warm),
        "hits are counted once in a second"
    );
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
    expected.extend(COLD.map(|name| (name.to_owned(), 4)));
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
    let cases: [(Value, &str); 16] = [
        (json!({ "fault": "reset_mid_body", "body": "{}" }), "unreachable"),
        (json!({ "fault": "close_before_headers" }), "server_error"),
        (json!({ "fault": "silence" }), "server_error"),
        (json!({ "status": 500 }), "server_error"),
        (json!({ "status": 599 }), "server_error"),
        (json!({ "status": 401 }), "unauthorized"),
        (json!({ "status": 400 }), "rejected"),
        (json!({ "status": 418 }), "rejected"),
        (json!({ "status": 429 }), "rate_limited"),
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
        let mut expected = BTreeMap::from([(error(reason), 1), (denied("TENANT_MANAGER_UNAVAILABLE"), 2)]);
        expected.extend(COLD.map(|name| (name.to_owned(), 2)));
        assert_eq!(moved(&world, &before), expected, "{answer}");
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
    let unavailable = denied("TENANT_MANAGER_UNAVAILABLE");
    let expected = [&error("unreachable"), &unavailable, COLD[0], COLD[1]];
    assert_eq!(moved(&world, &before), one_each(&expected));
}

#[test]
fn the_gauge_counts_what_the_node_holds_and_returns_to_nothing() {
    let mut world = World::start(&config(json!({})), |builder| builder.workers(2));
    let held = |world: &World| world.envoy.metric(CONSUMERS);
    for (tenant, worker, expected) in [
        ("acme", 0, 1),
        ("acme", 1, 1),
        ("globex", 0, 2),
        ("frozen", 0, 2),
        ("acme", 0, 2),
    ] {
        let stream = world.ask(tenant, worker);
        world.envoy.decide(stream);
        assert_eq!(held(&world), Some(expected), "{tenant} on worker {worker}");
    }
    world.envoy.advance(Duration::from_secs(400));
    assert_eq!(
        held(&world),
        Some(2),
        "a record may serve for 120 s give or take a tenth, and 30 s, and 300 s"
    );
    world.envoy.advance(Duration::from_secs(200));
    assert_eq!(held(&world), Some(0), "swept out");
    world.run("acme").forwarded();
    assert_eq!(held(&world), Some(1), "and it starts again");
    world.envoy.advance(Duration::from_secs(600));
    assert_eq!(held(&world), Some(0));
}

#[test]
fn a_record_that_is_refuted_leaves_the_gauge() {
    let mut world = World::start(&config(json!({})), |builder| builder.workers(2));
    for tenant in ["acme", "globex"] {
        world.run(tenant).forwarded();
    }
    world.answer("acme", json!({ "status": 403, "body": { "status": "suspended" } }));
    world.answer("globex", json!({ "status": 404 }));
    world.envoy.advance(Duration::from_secs(200));
    for (tenant, left) in [("acme", 1), ("globex", 0)] {
        world.run(tenant).replied();
        assert_eq!(world.envoy.metric(CONSUMERS), Some(left), "{tenant}");
    }
}

#[test]
fn what_is_pushed_out_of_a_workers_cache_is_counted_and_stays_with_the_node() {
    let mut world = world(json!({ "tenant_manager": { "cache": { "max_entries": 2 } } }));
    let evictions = |world: &World| world.envoy.metric("tenantgate_cache_evictions_total");
    for (tenant, evicted) in [("a", 0), ("b", 0), ("c", 1), ("d", 2)] {
        world.answer(tenant, json!({ "record": { "databases": { "onboarding": {} } } }));
        world.run(tenant).forwarded();
        assert_eq!(evictions(&world), Some(evicted), "after {tenant}");
    }
    assert_eq!(world.envoy.metric(CONSUMERS), Some(4));
    // A refusal pushes a record out as well.
    world.run("frozen").replied();
    assert_eq!(evictions(&world), Some(3));
    let asked = world.envoy.callouts().len();
    world.run("a").forwarded();
    assert_eq!(world.envoy.callouts().len(), asked, "the node knows it still");
    world.envoy.advance(Duration::from_secs(600));
    assert_eq!(world.envoy.metric(CONSUMERS), Some(0));
    assert_eq!(evictions(&world), Some(4), "what has expired is not pushed out");
}

#[test]
fn each_request_that_finds_no_place_is_counted() {
    let mut world = world(json!({ "tenant_manager": { "max_waiters": 8 } }));
    world.answer(
        "acme",
        json!({ "record": { "databases": { "onboarding": {} } }, "delay_ms": 100 }),
    );
    let waits = world.ask("acme", 0);
    world.envoy.settle();
    let before = world.envoy.metrics();
    for times in 1..=3 {
        world.run("acme").replied();
        let overloaded = "tenantgate_lookups_overloaded_total";
        let denials = denied("TENANT_LOOKUP_OVERLOADED");
        let expected = [overloaded, &denials, COLD[0], COLD[1]].map(|name| (name.to_owned(), times));
        assert_eq!(moved(&world, &before), BTreeMap::from(expected));
    }
    world.envoy.decide(waits).forwarded();
}

#[test]
fn the_gauge_of_waiters_follows_them_on_all_workers_and_returns_to_nothing() {
    let mut world = World::start(&config(json!({})), |builder| builder.workers(2));
    let waiters = |world: &World| world.envoy.metric("tenantgate_waiters");
    for (tenant, status) in [("acme", 200), ("globex", 404), ("initech", 500)] {
        world.answer(
            tenant,
            json!({ "status": status, "body": { "databases": { "onboarding": {} } }, "delay_ms": 100 }),
        );
    }
    let mut streams = Vec::new();
    for (tenant, worker) in [("acme", 0), ("acme", 1), ("acme", 0), ("globex", 1), ("initech", 0)] {
        streams.push(world.ask(tenant, worker));
        let waiting = u64::try_from(streams.len()).expect("few");
        assert_eq!(waiters(&world), Some(waiting), "{tenant} on worker {worker}");
    }
    world.envoy.disconnect(streams[0]);
    assert_eq!(waiters(&world), Some(4));
    world.envoy.advance(Duration::from_secs(1));
    assert_eq!(world.undecided(&streams), []);
    assert_eq!(waiters(&world), Some(0));
}

#[test]
fn lookups_are_timed_and_the_bytes_of_their_answers_counted() {
    let mut world = world(json!({}));
    let body = r#"{"databases":{"onboarding":{}}}"#;
    world.answer("acme", json!({ "body": body, "delay_ms": 120 }));
    world.answer("globex", json!({ "status": 500, "body": "down", "delay_ms": 30 }));
    world.run("acme").forwarded();
    world.run("globex").replied();
    let bytes = u64::try_from(body.len() + "down".len()).expect("few");
    assert_eq!(world.envoy.metric(BYTES), Some(bytes));
    assert_eq!(
        world.envoy.histogram("tenantgate_lookup_duration_ms"),
        Some(vec![120, 30])
    );
}
