//! Configurations. The first byte chooses what the rest is:
//!
//! * a document;
//! * a JSON merge patch (RFC 7396) of a document that uses everything;
//! * which number of that document becomes which.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use tenant_policy::config::{Compiled, ConfigError, Environment, Plugin, Problem, compile};
use tenant_policy::engine::Engine;
use tenant_policy::flow::{RequestFlow, Step};
use tenant_policy::request::RequestHead;
use tenant_policy_fuzz::{World, claims};

/// Every number of the reference, and its bounds there.
const NUMBERS: [(&str, u64, u64); 30] = [
    ("/auth/max_token_bytes", 64, 65_536),
    ("/auth/leeway_seconds", 0, 600),
    ("/auth/token_cache/max_entries", 0, 1_000_000),
    ("/auth/token_cache/max_bytes", 1_024, 268_435_456),
    ("/auth/token_cache/ttl_seconds", 1, 86_400),
    ("/auth/issuers/1/jwks/remote/timeout_ms", 1, 60_000),
    ("/auth/issuers/1/jwks/remote/refresh_seconds", 1, 86_400),
    ("/auth/issuers/1/jwks/remote/max_stale_seconds", 0, 604_800),
    ("/auth/issuers/1/jwks/remote/unknown_kid_cooldown_seconds", 1, 3_600),
    ("/tenant_manager/timeout_ms", 1, 60_000),
    ("/tenant_manager/max_body_bytes", 1, 16_777_216),
    ("/tenant_manager/max_waiters", 1, 65_536),
    ("/tenant_manager/cache/ttl_seconds", 1, 86_400),
    ("/tenant_manager/cache/stale_while_revalidate_seconds", 0, 3_600),
    ("/tenant_manager/cache/stale_if_error_seconds", 0, 86_400),
    ("/tenant_manager/cache/negative_ttl_seconds", 1, 3_600),
    ("/tenant_manager/cache/max_entries", 1, 1_000_000),
    ("/tenant_manager/cache/max_bytes", 1_024, 268_435_456),
    ("/tenant_manager/cache/shared_slots", 8, 1_048_576),
    ("/tenant_manager/breaker/threshold", 1, 1_000),
    ("/tenant_manager/breaker/open_seconds", 1, 3_600),
    ("/tenant_manager/discovery/interval_seconds", 1, 86_400),
    ("/rate_limit/requests_per_second", 1, 1_000_000),
    ("/rate_limit/burst", 1, 1_000_000),
    ("/rate_limit/shared_slots", 8, 1_048_576),
    ("/rate_limit/overrides/acme/requests_per_second", 1, 1_000_000),
    ("/rate_limit/overrides/acme/burst", 1, 1_000_000),
    ("/telemetry/max_tenants", 1, 10_000),
    ("/errors/overrides/TENANT_ID_REQUIRED/status", 400, 599),
    ("/auth/issuers/0/jwks/remote/timeout_ms", 1, 60_000),
];

/// What must stand in no message.
const SECRETS: [&str; 3] = [
    "s3cret-of-the-manager",
    "s3cret-of-the-events",
    "c2VjcmV0LW9mLXRoZS1pc3N1ZXItMzItYnl0ZXMtbG9uZw",
];

/// Most faults that are told at once, and the longest of them.
const MAX_FAULTS: usize = 1_000;
const MAX_MESSAGE: usize = 2_048;

fn whole() -> Value {
    let remote = |cluster: &str| {
        json!({ "remote": {
            "cluster": cluster, "authority": "id.example.com", "path": "/keys", "timeout_ms": 2000,
            "refresh_seconds": 300, "max_stale_seconds": 3600, "unknown_kid_cooldown_seconds": 30,
        } })
    };
    let secret = json!({ "kty": "oct", "kid": "k", "alg": "HS256", "k": SECRETS[2] });
    json!({
        "version": "v1",
        "enabled": true,
        "service": "ledger",
        "environment": "staging",
        "enforcement": "enforce",
        "paths": { "public": [{ "prefix": "/health", "methods": ["GET"] }], "hazardous": "reject", "connect": "deny" },
        "auth": {
            "mode": "verify", "max_token_bytes": 16384, "require_exp": true, "leeway_seconds": 60,
            "accepted_types": ["JWT"], "forward_token": true, "header": "authorization",
            "token_cache": { "max_entries": 10, "max_bytes": 65536, "ttl_seconds": 300 },
            "issuers": [
                { "issuer": "https://a", "algorithms": ["RS256"], "tenants": "any", "jwks": remote("a") },
                { "issuer": "https://b", "algorithms": ["ES256"], "tenants": { "prefixes": ["b-"] }, "jwks": remote("b") },
                {
                    "issuer": "https://c", "audiences": ["api"], "algorithms": ["HS256"], "tenants": { "ids": ["c"] },
                    "jwks": { "inline": { "keys": [secret] } },
                },
            ],
        },
        "tenant_id": { "claim": "tenantId", "fold_uuid": false },
        "tenant_manager": {
            "cluster": "tm", "authority": "tm.internal", "path": "/tenants/{tenantId}/services/{service}/settings",
            "api_keys": [{ "value": SECRETS[0] }], "timeout_ms": 2000, "max_body_bytes": 65536, "max_waiters": 16,
            "on_unavailable": "deny",
            "cache": {
                "ttl_seconds": 120, "stale_while_revalidate_seconds": 30, "stale_if_error_seconds": 300,
                "negative_ttl_seconds": 10, "max_entries": 16, "max_bytes": 65536, "shared_slots": 64,
            },
            "breaker": { "threshold": 5, "open_seconds": 30 },
            "discovery": { "path": "/tenants/active", "interval_seconds": 60 },
        },
        "modules": { "default": "ledger", "routes": [{ "prefix": "/v1/t", "module": "t" }] },
        "scope": {
            "emit": { "tenant_id": "x-tenant-id", "slug": "x-slug", "schema": "x-schema" },
            "headers": [{ "name": "x-redis-key", "kind": "redis_key", "pattern": true, "required": false }],
            "path": [{ "prefix": "/storage", "kind": "storage_path" }],
            "response": [{ "name": "x-storage-key", "kind": "storage_key" }],
            "emit_claims": { "sub": "x-user-id" },
            "properties": true,
        },
        "rate_limit": {
            "requests_per_second": 100, "burst": 200, "shared_slots": 64, "headers": true,
            "overrides": { "acme": { "requests_per_second": 1, "burst": 1 } },
        },
        "enforce": { "cut_streams": true },
        "events": { "path": "/-/events", "api_keys": [{ "value": SECRETS[1] }] },
        "errors": { "overrides": { "TENANT_ID_REQUIRED": { "status": 401, "code": "NO_TENANT", "title": "t", "message": "m" } } },
        "telemetry": { "tenant_label": true, "max_tenants": 10 },
    })
}

fuzz_target!(|input: &[u8]| {
    let Some((choice, rest)) = input.split_first() else {
        return;
    };
    match choice % 3 {
        0 => judged(rest, rest),
        1 => {
            if let Some(patch) = claims::document(rest) {
                let mut document = whole();
                merge(&mut document, patch);
                judged(document.to_string().as_bytes(), rest);
            }
        }
        _ => number(rest),
    }
});

fn merge(document: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *document = patch;
        return;
    };
    // RFC 7396 has no way into a list: here members that are numbers lead to its elements.
    if let Value::Array(list) = document {
        for (place, patch) in patch {
            if let Some(element) = place.parse::<usize>().ok().and_then(|place| list.get_mut(place)) {
                merge(element, patch);
            }
        }
        return;
    }
    if !document.is_object() {
        *document = json!({});
    }
    let Some(members) = document.as_object_mut() else {
        return;
    };
    for (name, patch) in patch {
        if patch.is_null() {
            members.remove(&name);
        } else {
            merge(members.entry(name).or_insert(Value::Null), patch);
        }
    }
}

/// What a document comes to. A secret that the author has written elsewhere as well, in `written`, is none.
fn judged(text: &[u8], written: &[u8]) {
    let written = String::from_utf8_lossy(written);
    let secrets: Vec<&str> = SECRETS.into_iter().filter(|secret| !written.contains(secret)).collect();
    let document = claims::document(text);
    match compile(text, &Environment::default()) {
        Err(faults) => refused(&faults, document.as_ref(), &secrets),
        Ok(compiled) => accepted(&compiled, document.as_ref(), &secrets),
    }
}

/// Whoever must mend it is told where, in lines that may stand in a log.
fn refused(faults: &[ConfigError], document: Option<&Value>, secrets: &[&str]) {
    assert!((1..=MAX_FAULTS).contains(&faults.len()), "{} faults", faults.len());
    for fault in faults {
        told(fault, secrets);
        let pointer = fault.pointer.as_str();
        match document {
            None => assert!(matches!(fault.problem, Problem::NotJson { .. }), "{fault}"),
            Some(document) => {
                assert!(
                    pointer.is_empty() || pointer.starts_with('/'),
                    "{pointer} is no pointer"
                );
                leads_somewhere(pointer, document);
            }
        }
    }
}

fn told(fault: &ConfigError, secrets: &[&str]) {
    let message = fault.to_string();
    assert!(message.len() <= MAX_MESSAGE, "{message}");
    assert!(!message.chars().any(char::is_control), "{message}");
    for secret in secrets {
        assert!(!message.contains(secret), "{message}");
    }
}

/// Every step of a pointer but the last ones, which may be what is missing, is there.
fn leads_somewhere(pointer: &str, document: &Value) {
    let mut at = document;
    for step in pointer.split('/').skip(1) {
        // Long names and unusual ones are not told as they are.
        if step.contains('\\') || step.contains('…') {
            return;
        }
        let name = step.replace("~1", "/").replace("~0", "~");
        let next = match at {
            Value::Object(members) => members.get(&name),
            Value::Array(list) => {
                let element = name.parse::<usize>().ok().and_then(|place| list.get(place));
                assert!(element.is_some(), "{pointer}: a list of {} has no {name}", list.len());
                element
            }
            _ => panic!("{pointer}: nothing is below {at}"),
        };
        match next {
            Some(next) => at = next,
            None => return,
        }
    }
}

fn accepted(compiled: &Compiled, document: Option<&Value>, secrets: &[&str]) {
    let document = document.expect("what is accepted is strict JSON");
    for warning in &compiled.warnings {
        told(warning, secrets);
    }
    for (pointer, least, most) in NUMBERS {
        if let Some(value) = document.pointer(pointer) {
            let number = value.as_u64();
            assert!(
                number.is_some_and(|number| (least..=most).contains(&number)),
                "{pointer}: {value}"
            );
        }
    }
    assert_eq!(document.get("version"), Some(&json!("v1")));
    // However it is written, it means the same.
    let again = compile(format!(" {document:#}\n").as_bytes(), &Environment::default()).expect("the same document");
    match (&compiled.plugin, again.plugin) {
        (Plugin::SingleTenant, Plugin::SingleTenant) => {
            assert_ne!(document.get("enabled"), Some(&Value::Bool(true)));
        }
        (Plugin::MultiTenant(one), Plugin::MultiTenant(mut other)) => {
            assert_eq!(document.get("enabled"), Some(&Value::Bool(true)));
            other.fingerprint = one.fingerprint;
            assert_eq!(format!("{one:?}"), format!("{other:?}"));
            nobody_passes(Engine::new(*other), document);
        }
        (one, other) => panic!("{one:?} and {other:?}"),
    }
    strict(document);
    // Switched off it is as good.
    let mut off = document.clone();
    off["enabled"] = json!(false);
    assert!(
        compile(off.to_string().as_bytes(), &Environment::default()).is_ok(),
        "{off}"
    );
}

/// A member that nobody knows is a fault that names it.
fn strict(document: &Value) {
    const KNOWN: [&str; 9] = [
        "",
        "/paths",
        "/auth",
        "/tenant_manager",
        "/tenant_manager/cache",
        "/scope",
        "/rate_limit",
        "/enforce",
        "/events",
    ];
    for place in KNOWN {
        let mut wrong = document.clone();
        let Some(Value::Object(members)) = wrong.pointer_mut(place) else {
            continue;
        };
        members.insert("unheard_of".to_owned(), json!(1));
        let faults = compile(wrong.to_string().as_bytes(), &Environment::default()).expect_err("an unknown member");
        let expected = format!("{place}/unheard_of");
        assert!(
            faults.iter().any(|fault| fault.pointer.as_str() == expected),
            "{faults:?}"
        );
    }
}

/// Whatever is configured, nobody passes who proves nothing, but on public paths or where nothing is enforced.
fn nobody_passes(mut engine: Engine, document: &Value) {
    let world = World::default();
    let fields = [
        (&b":method"[..], &b"GET"[..]),
        (b":path", b"/v1/x"),
        (b"x-tenant-id", b"acme"),
    ];
    let public = document.pointer("/paths/public").and_then(Value::as_array);
    let is_public = public
        .into_iter()
        .flatten()
        .any(|rule| rule["prefix"] == "/v1" || rule["prefix"] == "/v1/x");
    let reports = document.get("enforcement") == Some(&json!("report"));
    match RequestFlow::start(&mut engine, &RequestHead::new(&fields), &world) {
        Step::Forward(forward) => {
            assert!(is_public || reports, "somebody passes");
            assert!(
                forward.edits.iter().any(|edit| edit.name() == b"x-tenant-id"),
                "with a tenant"
            );
        }
        Step::Reply(refused) => assert!((400..600).contains(&refused.reply.status)),
        Step::Wait { .. } | Step::Receive { .. } => panic!("there is nothing to wait for"),
    }
}

fn number(rest: &[u8]) {
    let [place, negative, digits @ ..] = rest else { return };
    let Some(bytes) = digits.first_chunk() else { return };
    let (pointer, least, most) = NUMBERS[usize::from(*place) % NUMBERS.len()];
    let wide = u64::from_le_bytes(*bytes);
    // Near the bounds, and anywhere.
    let number = match negative >> 2 & 3 {
        0 => least.wrapping_add(wide % 4).wrapping_sub(2),
        1 => most.wrapping_add(wide % 4).wrapping_sub(2),
        2 => wide % (most + 2),
        _ => wide,
    };
    let value = match negative & 3 {
        0 => json!(number),
        1 => json!(i64::try_from(number).unwrap_or(1).saturating_neg()),
        2 => json!(number as f64),
        _ => json!(number.to_string()),
    };
    let mut document = whole();
    *document.pointer_mut(pointer).expect("a number of the document") = value.clone();
    let is_good = value.as_u64().is_some_and(|number| (least..=most).contains(&number));
    match compile(document.to_string().as_bytes(), &Environment::default()) {
        Ok(_) => assert!(is_good, "{pointer}: {value}"),
        Err(faults) => {
            assert!(!is_good, "{pointer}: {value}: {faults:?}");
            assert_eq!(faults.len(), 1, "{faults:?}");
            assert_eq!(faults[0].pointer.as_str(), pointer);
        }
    }
}
