//! `environment`, `tenant_manager` beyond its address, `events`, and the canonical texts.

use super::*;

/// A document with everything that resolution needs, changed by `patch`.
fn resolving(patch: &Value) -> Value {
    let mut document = patched(&json!({
        "environment": "staging",
        "tenant_manager": { "cluster": "tm", "authority": "tm.internal", "api_keys": [{ "value": "k" }] },
        "events": { "path": "/-/tenantgate/events", "api_keys": [{ "value": "0123456789abcdef" }] },
    }));
    json_patch::merge(&mut document, patch);
    document
}

#[test]
fn defaults_of_resolution_are_those_of_the_reference() {
    let config = config(&resolving(&json!({
        "environment": null,
        "events": null,
        "tenant_manager": { "discovery": {} },
    })));
    assert!(config.environment.is_none() && config.events.is_none());
    let manager = config.tenant_manager.expect("configured");
    assert_eq!(manager.on_unavailable, OnUnavailable::Deny);
    let cache = manager.cache;
    assert_eq!(
        (cache.stale_while_revalidate_ms, cache.stale_if_error_ms),
        (30_000, 300_000)
    );
    assert_eq!((cache.max_bytes, cache.shared_slots), (8_388_608, 16_384));
    assert_eq!((manager.breaker.threshold, manager.breaker.open_ms), (5, 30_000));
    let discovery = manager.discovery.expect("configured");
    assert_eq!(
        (discovery.path.as_str(), discovery.interval_ms),
        ("/tenants/active", 60_000)
    );
}

#[test]
fn without_its_block_nothing_is_discovered() {
    let manager = config(&resolving(&json!({}))).tenant_manager.expect("configured");
    assert!(manager.discovery.is_none());
}

#[test]
fn what_is_written_is_what_counts() {
    let config = config(&resolving(&json!({
        "tenant_manager": {
            "on_unavailable": "allow",
            "cache": {
                "stale_while_revalidate_seconds": 0,
                "stale_if_error_seconds": 86_400,
                "max_bytes": 1_024,
                "shared_slots": 1_048_576,
            },
            "breaker": { "threshold": 1_000, "open_seconds": 1 },
            "discovery": { "path": "/v1/tenants/active", "interval_seconds": 86_400 },
        },
        "scope": { "emit": { "vhost": "x-tenant-vhost" } },
    })));
    assert_eq!(config.environment.as_ref().map(Name::as_str), Some("staging"));
    let events = config.events.as_ref().expect("configured");
    assert_eq!(events.path, "/-/tenantgate/events");
    let keys: Vec<_> = events.api_keys.iter().map(Secret::expose).collect();
    assert_eq!(keys, ["0123456789abcdef"]);
    assert_eq!(
        config.scope.emit.vhost.as_ref().map(HeaderName::as_str),
        Some("x-tenant-vhost")
    );
    assert!(config.scope.emit.tells_places());
    let manager = config.tenant_manager.expect("configured");
    assert_eq!(manager.on_unavailable, OnUnavailable::Allow);
    let cache = manager.cache;
    assert_eq!(
        (cache.stale_while_revalidate_ms, cache.stale_if_error_ms),
        (0, 86_400_000)
    );
    assert_eq!((cache.max_bytes, cache.shared_slots), (1_024, 1_048_576));
    assert_eq!((manager.breaker.threshold, manager.breaker.open_ms), (1_000, 1_000));
    let discovery = manager.discovery.expect("configured");
    assert_eq!(
        (discovery.path.as_str(), discovery.interval_ms),
        ("/v1/tenants/active", 86_400_000)
    );
}

#[test]
fn shared_slots_come_in_sets_of_eight() {
    for (written, slots) in [(8, 8), (9, 16), (16, 16), (1_000, 1_000), (1_048_575, 1_048_576)] {
        let document = resolving(&json!({ "tenant_manager": { "cache": { "shared_slots": written } } }));
        let manager = config(&document).tenant_manager.expect("configured");
        assert_eq!(manager.cache.shared_slots, slots, "{written}");
    }
}

#[test]
fn every_fault_of_resolution_is_found_and_its_place_named() {
    for (patch, expected) in [
        (
            json!({ "environment": "a b" }),
            "/environment: found `a b`, accepted: a letter or digit",
        ),
        (
            json!({ "environment": null }),
            "/environment: missing, accepted: a name: `events` takes",
        ),
        (
            json!({ "tenant_manager": { "on_unavailable": "pass" } }),
            "/tenant_manager/on_unavailable: found `pass`, accepted: `deny`, `allow`",
        ),
        (
            json!({ "tenant_manager": { "cache": { "stale_while_revalidate_seconds": 3_601 } } }),
            "/tenant_manager/cache/stale_while_revalidate_seconds: found `3601`, accepted: a whole number from 0 to 3600",
        ),
        (
            json!({ "tenant_manager": { "cache": { "stale_if_error_seconds": 86_401 } } }),
            "/tenant_manager/cache/stale_if_error_seconds: found `86401`, accepted: a whole number from 0 to 86400",
        ),
        (
            json!({ "tenant_manager": { "cache": { "max_bytes": 1_023 } } }),
            "/tenant_manager/cache/max_bytes: found `1023`, accepted: a whole number from 1024 to 268435456",
        ),
        (
            json!({ "tenant_manager": { "cache": { "shared_slots": 7 } } }),
            "/tenant_manager/cache/shared_slots: found `7`, accepted: a whole number from 8 to 1048576",
        ),
        (
            json!({ "tenant_manager": { "cache": { "shared_slots": 1_048_577 } } }),
            "/tenant_manager/cache/shared_slots: found `1048577`",
        ),
        (
            json!({ "tenant_manager": { "breaker": { "threshold": 0 } } }),
            "/tenant_manager/breaker/threshold: found `0`, accepted: a whole number from 1 to 1000",
        ),
        (
            json!({ "tenant_manager": { "breaker": { "open_seconds": 3_601 } } }),
            "/tenant_manager/breaker/open_seconds: found `3601`, accepted: a whole number from 1 to 3600",
        ),
        (
            json!({ "tenant_manager": { "breaker": 5 } }),
            "/tenant_manager/breaker: found a number, accepted: an object",
        ),
        (
            json!({ "tenant_manager": { "discovery": { "interval_seconds": 0 } } }),
            "/tenant_manager/discovery/interval_seconds: found `0`, accepted: a whole number from 1 to 86400",
        ),
        (
            json!({ "tenant_manager": null }),
            "/tenant_manager: missing, accepted: a block: without one there is nothing that `events`",
        ),
        (
            json!({ "events": { "path": null } }),
            "/events/path: missing, accepted: one or more `/`-separated segments",
        ),
        (
            json!({ "events": { "path": "/a/../b" } }),
            "/events/path: found `/a/../b`",
        ),
        (json!({ "events": { "api_keys": null } }), "/events/api_keys: missing"),
        (
            json!({ "events": { "api_keys": [] } }),
            "/events/api_keys: found 0 keys, accepted: one or two",
        ),
        (
            json!({ "events": { "api_keys": [{ "value": "two words" }] } }),
            "/events/api_keys/0/value: found an unusable value, accepted: either `value` or `env`, giving 1 to 4096",
        ),
        (
            json!({ "events": { "api_keys": [{ "env": "NO_SUCH" }] } }),
            "/events/api_keys/0/env: found a variable that the VM does not have",
        ),
        (json!({ "events": [] }), "/events: found a list, accepted: an object"),
        (
            json!({ "events": { "listener": "x" } }),
            "/events/listener: found an unknown member, accepted: `path` or `api_keys`",
        ),
        (
            json!({ "scope": { "emit": { "vhost": "x-org" }, "headers": [{ "name": "x_org", "kind": "redis_key" }] } }),
            "/scope/headers/0/name: found `x_org`, accepted: a header that nothing else",
        ),
        (
            json!({ "events": null, "tenant_manager": null, "scope": { "emit": { "vhost": "x-tenant-vhost" } } }),
            "/scope/emit/vhost: found a field of the tenant record, accepted: nothing without `tenant_manager`",
        ),
    ] {
        let found = faults(&resolving(&patch));
        assert!(
            found.iter().any(|fault| fault.starts_with(expected)),
            "{expected}\n{found:#?}"
        );
        assert_eq!(found.len(), 1, "one cause, one fault: {found:#?}");
    }
}

#[test]
fn switched_off_a_block_of_events_asks_for_nothing() {
    for patch in [
        json!({ "tenant_manager": null }),
        json!({ "environment": null }),
        json!({ "events": { "path": null, "api_keys": [{ "env": "NO_SUCH" }] } }),
    ] {
        let mut document = resolving(&patch);
        document["enabled"] = json!(false);
        assert_eq!(faults(&document), Vec::<String>::new(), "{patch}");
    }
}

#[test]
fn the_path_of_events_has_no_other_meaning() {
    for (public, path, is_free) in [
        ("/health", "/health", false),
        ("/health", "/health/events", false),
        ("/-/tenantgate/events/status", "/-/tenantgate/events", false),
        ("/health", "/healthz", true),
        ("/-/tenantgate/event", "/-/tenantgate/events", true),
        ("/-/tenantgate/events-status", "/-/tenantgate/events", true),
        ("/-/status", "/-/tenantgate/events", true),
    ] {
        let found = faults(&resolving(&json!({
            "paths": { "public": [{ "prefix": public, "methods": ["GET"] }] },
            "events": { "path": path },
        })));
        if is_free {
            assert_eq!(found, Vec::<String>::new(), "{public} {path}");
        } else {
            let expected = format!("/events/path: found `{path}`, accepted: a path that no public prefix covers");
            assert!(
                matches!(found.as_slice(), [fault] if fault.starts_with(&expected)),
                "{found:#?}"
            );
        }
    }
    let found = faults(&resolving(&json!({ "events": { "path": "/swagger/events" } })));
    assert_eq!(found.len(), 1, "the default prefixes count as well: {found:#?}");
}

#[test]
fn the_path_of_discovery_has_room_for_a_query_and_shows_nothing() {
    let with = |path: &str| {
        faults(&resolving(
            &json!({ "tenant_manager": { "discovery": { "path": path } } }),
        ))
    };
    for good in [
        "/",
        "/v1/tenants/active",
        "/a;b=c/d",
        &format!("/{}", "a".repeat(2_047)),
    ] {
        assert_eq!(with(good), Vec::<String>::new(), "{good}");
    }
    for bad in [
        "",
        "tenants",
        "/a?key=hunter2",
        "/{tenantId}",
        "/{service}",
        "/a#b",
        "/a\\b",
        "/a b",
        "/ä",
        &format!("/{}", "a".repeat(2_048)),
    ] {
        let found = with(bad);
        assert!(
            matches!(found.as_slice(), [fault] if fault.starts_with("/tenant_manager/discovery/path: found an unusable text")),
            "{bad} {found:#?}"
        );
    }
}

#[test]
fn keys_of_events_are_shown_nowhere() {
    let found = faults(&resolving(&json!({
        "events": { "api_keys": ["hunter2", { "value": "hunter 3" }, { "hunter4": 1 }], "path": 4711 },
    })));
    assert_eq!(found.len(), 5, "{found:#?}");
    for fault in &found {
        assert!(!fault.contains("hunter") && !fault.contains("4711"), "{fault}");
    }
    let config = config(&resolving(&json!({})));
    assert!(!format!("{config:?}").contains("0123456789abcdef"));
}

#[test]
fn two_keys_of_events_may_come_from_the_environment() {
    let document = resolving(&json!({ "events": { "api_keys": [{ "env": "OLD" }, { "env": "NEW" }] } }));
    let env = env(&[("OLD", "OLDOLDOLDOLDOLDOLD"), ("NEW", "NEWNEWNEWNEWNEWNEW")]);
    let compiled = compile(document.to_string().as_bytes(), &env).expect("compiles");
    let Plugin::MultiTenant(config) = compiled.plugin else {
        panic!("enabled")
    };
    let events = config.events.expect("configured");
    let keys: Vec<_> = events.api_keys.iter().map(Secret::expose).collect();
    assert_eq!(keys, ["OLDOLDOLDOLDOLDOLD", "NEWNEWNEWNEWNEWNEW"]);
}

#[test]
fn the_summary_names_the_environment_and_the_path_of_events() {
    let full = config(&resolving(&json!({}))).summary("pure-rust");
    assert!(
        full.starts_with("service=ledger environment=staging auth=verify"),
        "{full}"
    );
    assert!(
        full.ends_with("tenant_manager=tm events=/-/tenantgate/events"),
        "{full}"
    );
    let bare = config(&smallest()).summary("pure-rust");
    assert!(bare.starts_with("service=ledger environment=none "), "{bare}");
    assert!(bare.ends_with("tenant_manager=none events=off"), "{bare}");
}

#[test]
fn whatever_changes_the_meaning_of_a_record_changes_the_fingerprint() {
    let text = |patch: &Value| config(&resolving(patch)).resolution_fingerprint_text();
    let base = text(&json!({}));
    let changes = [
        json!({ "service": "payments" }),
        json!({ "environment": "production" }),
        json!({ "tenant_id": { "fold_uuid": true } }),
        json!({ "modules": { "default": "onboarding" } }),
        json!({ "modules": { "default": "ledger", "routes": [{ "prefix": "/b", "module": "b" }] } }),
        json!({ "scope": { "emit": { "schema": "x-tenant-schema" } } }),
        json!({ "scope": { "emit": { "vhost": "x-tenant-vhost" } } }),
        json!({ "tenant_manager": { "cluster": "other" } }),
        json!({ "tenant_manager": { "authority": "other" } }),
        json!({ "tenant_manager": { "path": "/v1/tenants/{tenantId}/associations/{service}/connections" } }),
        json!({ "tenant_manager": { "max_body_bytes": 1_000 } }),
        json!({ "tenant_manager": { "cache": { "ttl_seconds": 121 } } }),
        json!({ "tenant_manager": { "cache": { "stale_while_revalidate_seconds": 31 } } }),
        json!({ "tenant_manager": { "cache": { "stale_if_error_seconds": 301 } } }),
        json!({ "tenant_manager": { "cache": { "negative_ttl_seconds": 11 } } }),
        json!({ "events": null, "tenant_manager": null }),
        // The same modules, but routes of the host may name others.
        json!({ "modules": { "default": "ledger" } }),
    ];
    let mut seen = std::collections::BTreeSet::from([base.clone()]);
    for change in &changes {
        assert!(seen.insert(text(change)), "{change} is not told apart");
    }
    for nothing in [
        json!({ "tenant_manager": { "api_keys": [{ "value": "other" }, { "value": "k" }] } }),
        json!({ "tenant_manager": { "timeout_ms": 1_000, "max_waiters": 9, "on_unavailable": "allow" } }),
        json!({ "tenant_manager": { "cache": { "max_entries": 9, "max_bytes": 4_096, "shared_slots": 8 } } }),
        json!({ "tenant_manager": { "breaker": { "threshold": 9, "open_seconds": 9 }, "discovery": {} } }),
        json!({ "events": { "api_keys": [{ "value": "fedcba9876543210" }] } }),
        json!({ "events": null }),
        json!({ "paths": { "public": [] }, "auth": { "leeway_seconds": 1 } }),
        json!({ "scope": { "emit": { "slug": "x-slug", "module": "x-module" } } }),
    ] {
        assert_eq!(text(&nothing), base, "{nothing}");
    }
    assert!(!base.contains("0123456789abcdef"), "no secret: {base}");
}

#[test]
fn the_order_of_modules_does_not_change_the_fingerprint() {
    let text = |modules: &Value| config(&resolving(&json!({ "modules": modules }))).resolution_fingerprint_text();
    assert_eq!(
        text(&json!({ "default": "a", "routes": [{ "prefix": "/b", "module": "b" }] })),
        text(&json!({ "routes": [{ "prefix": "/x", "module": "b" }, { "prefix": "/y", "module": "a" }] })),
    );
}

#[test]
fn a_tenant_manager_is_its_cluster_and_its_authority() {
    let text = |patch: &Value| {
        let manager = config(&resolving(patch)).tenant_manager.expect("configured");
        manager.identity_text()
    };
    let base = text(&json!({}));
    for same in [
        json!({ "service": "payments" }),
        json!({ "tenant_manager": { "path": "/t/{tenantId}", "timeout_ms": 1, "api_keys": [{ "value": "x" }] } }),
    ] {
        assert_eq!(text(&same), base, "{same}");
    }
    for other in [
        json!({ "tenant_manager": { "cluster": "other" } }),
        json!({ "tenant_manager": { "authority": "other" } }),
    ] {
        assert_ne!(text(&other), base, "{other}");
    }
}

#[test]
fn streams_are_cut_only_where_that_is_asked_for_and_somebody_could_refuse() {
    for (patch, cuts) in [
        (json!({}), false),
        (json!({ "enforce": {} }), false),
        (json!({ "enforce": { "cut_streams": true } }), true),
        (
            json!({ "enforce": { "cut_streams": true }, "enforcement": "report" }),
            false,
        ),
    ] {
        assert_eq!(config(&resolving(&patch)).cuts_streams(), cuts, "{patch}");
    }
    let found = faults(&patched(&json!({ "enforce": { "cut_streams": true } })));
    assert!(found[0].starts_with("/enforce/cut_streams: "), "{found:?}");
    let found = faults(&resolving(&json!({ "enforce": { "cut_streams": "yes", "cut": 1 } })));
    assert_eq!(found.len(), 2, "{found:?}");
}
