mod environment;
mod errors;
mod resolution;

use serde_json::{Value, json};

use super::*;

/// An environment of these variables.
fn env(variables: &[(&str, &str)]) -> Environment {
    Environment::of(variables.iter().copied())
}

/// A document that compiles: the smallest that enforces anything.
fn smallest() -> Value {
    json!({
        "version": "v1",
        "enabled": true,
        "service": "ledger",
        "auth": { "issuers": [{
            "issuer": "https://id.example.com",
            "algorithms": ["HS256"],
            "jwks": { "inline": { "keys": [{ "kty": "oct", "kid": "k", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2Vj" }] } },
        }] },
    })
}

fn patched(patch: &Value) -> Value {
    fn merge(target: &mut Value, patch: &Value) {
        match (target, patch) {
            (Value::Object(target), Value::Object(patch)) => {
                for (name, value) in patch {
                    merge(target.entry(name).or_insert(Value::Null), value);
                }
            }
            (target, patch) => *target = patch.clone(),
        }
    }
    let mut document = smallest();
    merge(&mut document, patch);
    document
}

fn faults(document: &Value) -> Vec<String> {
    match compile(document.to_string().as_bytes(), &Environment::default()) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.iter().map(ToString::to_string).collect(),
    }
}

fn config(document: &Value) -> Config {
    let compiled = compile(document.to_string().as_bytes(), &Environment::default()).expect("compiles");
    match compiled.plugin {
        Plugin::MultiTenant(config) => *config,
        Plugin::SingleTenant => panic!("not enabled"),
    }
}

#[test]
fn defaults_are_those_of_the_reference() {
    let config = config(&patched(&json!({
        "tenant_manager": { "cluster": "tm", "authority": "tm.internal", "api_keys": [{ "value": "k" }] },
    })));
    assert_eq!(config.paths.public.len(), 3);
    assert!(config.paths.reject_hazardous && !config.paths.allow_connect);
    assert_eq!((config.auth.max_token_bytes, config.auth.leeway_seconds), (16_384, 60));
    assert!(config.auth.require_exp && config.auth.forward_token);
    assert_eq!(config.tenant_id.claim, "tenantId");
    assert_eq!(config.modules.default.as_ref().map(Name::as_str), Some("ledger"));
    assert_eq!(config.scope.emit.tenant_id.as_str(), "x-tenant-id");
    let manager = config.tenant_manager.expect("configured");
    assert_eq!(
        (manager.timeout_ms, manager.max_body_bytes, manager.max_waiters),
        (2_000, 1_048_576, 1_024)
    );
    assert_eq!((manager.cache.ttl_ms, manager.cache.negative_ttl_ms), (120_000, 10_000));
    assert_eq!(manager.cache.max_entries.get(), 10_000);
    let path = manager.path.expand("acme", &config.service);
    assert_eq!(path, "/tenants/acme/services/ledger/settings");
}

#[test]
fn every_fault_is_found_and_its_place_named() {
    for (patch, expected) in [
        (json!({ "version": null }), "/version: found null, accepted: a value"),
        (
            json!({ "enabled": "yes" }),
            "/enabled: found a string, accepted: a boolean",
        ),
        (
            json!({ "service": "a b" }),
            "/service: found `a b`, accepted: a letter or digit",
        ),
        (
            json!({ "tenant_manger": {} }),
            "/tenant_manger: found an unknown member, accepted: `version`",
        ),
        (
            json!({ "paths": { "public": "all" } }),
            "/paths/public: found a string, accepted: a list",
        ),
        (
            json!({ "paths": { "public": [{ "prefix": "/x/../y" }] } }),
            "/paths/public/0/prefix: found `/x/../y`",
        ),
        (
            json!({ "paths": { "public": [{}] } }),
            "/paths/public/0/prefix: missing",
        ),
        (
            json!({ "paths": { "public": [{ "prefix": "/x", "methods": [] }] } }),
            "/paths/public/0/methods: found an empty list",
        ),
        (
            json!({ "paths": { "public": [{ "prefix": "/x", "methods": ["TRACE"] }] } }),
            "/paths/public/0/methods/0: found `TRACE`",
        ),
        (
            json!({ "auth": { "max_token_bytes": 65_537 } }),
            "/auth/max_token_bytes: found `65537`, accepted: a whole number from 64 to 65536",
        ),
        (
            json!({ "auth": { "leeway_seconds": -1 } }),
            "/auth/leeway_seconds: found `-1`, accepted: a whole number from 0 to 600",
        ),
        (json!({ "auth": { "header": ":path" } }), "/auth/header: found `:path`"),
        (json!({ "auth": { "issuers": [] } }), "/auth/issuers: missing"),
        (
            json!({ "auth": { "issuers": [7] } }),
            "/auth/issuers/0: found a number, accepted: an object",
        ),
        (
            json!({ "auth": { "mode": "trust" } }),
            "/auth/mode: found `trust`, accepted: `verify`",
        ),
        (json!({ "tenant_id": { "claim": "" } }), "/tenant_id/claim: found ``"),
        (
            json!({ "tenant_manager": { "cluster": "tm", "authority": "a", "api_keys": [] } }),
            "/tenant_manager/api_keys: found 0 keys",
        ),
        (
            json!({ "tenant_manager": { "cluster": "tm", "authority": "a", "api_keys": [{ "env": "NO_SUCH" }] } }),
            "/tenant_manager/api_keys/0/env: found a variable that the VM does not have",
        ),
        (
            json!({ "tenant_manager": { "cluster": "tm", "authority": "a", "api_keys": [{ "value": "k", "env": "E" }] } }),
            "/tenant_manager/api_keys/0: found both",
        ),
        (json!({ "modules": {} }), "/modules: missing"),
        (
            json!({ "scope": { "headers": [{ "name": "x-a", "kind": "routing_key", "pattern": true }] } }),
            "/scope/headers/0/pattern",
        ),
        (
            json!({ "scope": { "headers": [{ "name": "x-a", "kind": "redis_key" }, { "name": "x_a", "kind": "redis_key" }] } }),
            "/scope/headers/1/name: found `x_a`",
        ),
        (
            json!({ "scope": { "emit": { "tenant_id": "host" } } }),
            "/scope/emit/tenant_id: found `host`",
        ),
    ] {
        let found = faults(&patched(&patch));
        assert!(
            found.iter().any(|fault| fault.starts_with(expected)),
            "{expected}\n{found:#?}"
        );
        assert_eq!(found.len(), 1, "one cause, one fault: {found:#?}");
    }
}

#[test]
fn one_faulty_place_hides_no_other() {
    let found = faults(&patched(&json!({
        "auth": {
            "header": "x-token",
            "issuers": [
                { "issuer": "a", "algorithms": ["HS256", "RS256", "none"], "tenants": { "idz": [] } },
                { "issuer": "a", "algorithms": ["RS256"], "tenants": "any", "jwks": { "inline": { "keys": [] } } },
            ],
        },
        "paths": { "hazardous": { "reject": 1 } },
        "scope": {
            "emit": { "tenant_id": "host", "module": "x-a", "slug": "x_a" },
            "headers": [{ "name": "x_token", "kind": "redis_key" }, { "name": "BAD", "kind": "redis_key" }, { "name": "x-a", "kind": "other" }],
        },
    })));
    for expected in [
        "/paths/hazardous: found an object, accepted: `reject`, `protect`",
        "/auth/issuers/0/algorithms/2: found `none`",
        "/auth/issuers/0/tenants/idz: found an unknown member, accepted: `ids` or `prefixes`",
        "/auth/issuers/0/jwks/inline/keys: missing",
        "/auth/issuers/1/issuer: found `a`, accepted: each issuer once",
        "/auth/issuers/1/jwks/inline/keys: found no usable key",
        "/scope/emit/tenant_id: found `host`",
        "/scope/emit/slug: found a field of the tenant record",
        "/scope/headers/0/name: found `x_token`, accepted: a header that nothing else",
        "/scope/headers/1/name: found `BAD`",
        "/scope/headers/2/name: found `x-a`, accepted: a header that nothing else",
        "/scope/headers/2/kind: found `other`, accepted: `routing_key`, `binding_key`, `redis_key`, `idempotency_key`, `storage_key`, `storage_path`",
    ] {
        assert!(
            found.iter().any(|fault| fault.starts_with(expected)),
            "{expected}\n{found:#?}"
        );
    }
    assert_eq!(found.len(), 12, "{found:#?}");
}

#[test]
fn faults_in_lists_keep_their_places() {
    let found = faults(&patched(&json!({
        "paths": { "public": [1, { "prefix": "/ok" }, 2, { "prefix": "bad" }, { "prefix": 3 }, { "prefx": "/x" }] },
        "auth": { "accepted_types": [1, "JWT", null] },
    })));
    for place in [
        "/paths/public/0:",
        "/paths/public/2:",
        "/paths/public/3/prefix:",
        "/paths/public/4/prefix:",
        "/paths/public/5/prefx:",
        "/auth/accepted_types/0:",
        "/auth/accepted_types/2:",
    ] {
        assert_eq!(
            found.iter().filter(|fault| fault.starts_with(place)).count(),
            1,
            "{place} {found:#?}"
        );
    }
    assert_eq!(
        found
            .iter()
            .filter(|fault| fault.starts_with("/paths/public/5/prefix: missing"))
            .count(),
        1
    );
    assert_eq!(found.len(), 8, "{found:#?}");
}

#[test]
fn a_value_in_the_wrong_place_is_never_shown() {
    let found = faults(&patched(&json!({
        "tenant_manager": { "cluster": "tm", "authority": "a", "api_keys": ["hunter2", { "value": 4711 }, { "hunter5": 1 }], "api_key": "hunter3", "path": "x?key=hunter6", "authority": "u:hunter7 @h" },
    })));
    assert!(!found.is_empty());
    for fault in &found {
        assert!(!fault.contains("hunter") && !fault.contains("4711"), "{fault}");
    }
}

#[test]
fn faults_are_bounded() {
    let public: Vec<_> = (0..1_000).map(|_| json!(1)).collect();
    let found = faults(&patched(&json!({ "paths": { "public": public } })));
    assert!(found.len() <= 66, "{}", found.len());
    assert!(found.iter().any(|fault| fault.contains("more faults follow")));
}

#[test]
fn a_fault_cannot_forge_a_log_line() {
    let found = faults(&patched(&json!({ "service": "a\nb\u{1b}[2J", "x\ny\u{1b}": 1 })));
    assert!(
        found
            .iter()
            .all(|fault| !fault.contains('\n') && !fault.contains('\u{1b}')),
        "{found:?}"
    );
}

#[test]
fn switched_off_only_shapes_and_values_count() {
    for document in [
        json!({ "version": "v1" }),
        json!({ "version": "v1", "enabled": false, "tenant_manager": {}, "auth": {} }),
    ] {
        let compiled = compile(document.to_string().as_bytes(), &Environment::default()).expect("compiles");
        assert!(matches!(compiled.plugin, Plugin::SingleTenant));
    }
    assert_eq!(faults(&json!({ "version": "v1", "auth": 7 })).len(), 1);
    assert_eq!(faults(&json!({ "version": "v1", "service": "a b" })).len(), 1);
}

#[test]
fn null_is_no_way_to_leave_a_member_out() {
    let mut document = smallest();
    document["enabled"] = Value::Null;
    document["tenant_manager"] = Value::Null;
    document["auth"]["issuers"][0]["audiences"] = Value::Null;
    document["auth"]["issuers"][0]["tenants"] = Value::Null;
    document["auth"]["accepted_types"] = json!([null]);
    let found = faults(&document);
    for place in [
        "/enabled:",
        "/tenant_manager:",
        "/auth/issuers/0/audiences:",
        "/auth/issuers/0/tenants:",
        "/auth/accepted_types/0:",
    ] {
        assert_eq!(
            found.iter().filter(|fault| fault.starts_with(place)).count(),
            1,
            "{place} {found:#?}"
        );
    }
    assert_eq!(found.len(), 5, "{found:#?}");
    let mut document = smallest();
    document["auth"]["issuers"][0]["jwks"]["inline"]["keys"][0]["x5c"] = Value::Null;
    assert_eq!(
        faults(&document),
        Vec::<String>::new(),
        "a key is somebody else's document"
    );
}

#[test]
fn a_name_among_secrets_is_never_shown_and_a_count_hides_no_element() {
    let found = faults(&patched(&json!({
        "tenant_manager": { "cluster": "tm", "authority": "a", "api_keys": [{ "hunter2": null }, { "value": "" }, { "hunter3": 1 }] },
        "scope": { "emit": { "slug": "x-slug" } },
        "auth": { "header": "x-tenant-token" },
    })));
    assert!(found.iter().all(|fault| !fault.contains("hunter")), "{found:#?}");
    for expected in [
        "/tenant_manager/api_keys/0: found null",
        "/tenant_manager/api_keys/1/value: found an unusable value",
        "/tenant_manager/api_keys/2: found an unknown member",
        "/tenant_manager/api_keys: found 3 keys",
        "/auth/header: found `x-tenant-token`",
    ] {
        assert!(
            found.iter().any(|fault| fault.starts_with(expected)),
            "{expected}\n{found:#?}"
        );
    }
    let found = faults(&patched(
        &json!({ "tenant_manager": "x", "scope": { "emit": { "slug": "x-slug" } } }),
    ));
    assert_eq!(found.len(), 1, "the record is there, only broken: {found:#?}");
}

#[test]
fn secrets_may_come_from_the_environment() {
    let document = patched(&json!({
        "tenant_manager": { "cluster": "tm", "authority": "a", "api_keys": [{ "env": "KEY" }] },
    }));
    let compiled = compile(document.to_string().as_bytes(), &env(&[("KEY", "from-env")])).expect("compiles");
    let Plugin::MultiTenant(config) = compiled.plugin else {
        panic!("enabled")
    };
    let keys = config.tenant_manager.expect("configured").api_keys;
    assert_eq!(keys.first().map(Secret::expose), Some("from-env"));
    assert_eq!(format!("{keys:?}"), "[Secret(…)]");
}

#[test]
fn path_templates_name_the_tenant_once() {
    for good in [
        "/tenants/{tenantId}",
        "/v1/tenants/{tenantId}/associations/{service}/connections",
        "/t?id={tenantId}&s={service}",
    ] {
        assert!(PathTemplate::parse(good).is_some(), "{good}");
    }
    for bad in [
        "",
        "tenants/{tenantId}",
        "/tenants",
        "/{tenantId}/{tenantId}",
        "/{tenantId}/{other}",
        "/{tenantId} x",
        "/{tenantId}#x",
    ] {
        assert!(PathTemplate::parse(bad).is_none(), "{bad}");
    }
}
