//! The configuration of a world.

use corpus::mint::Keys;
use serde_json::{Value, json};

use crate::script::Knobs;
use crate::tokens::{
    INLINE_ISSUER, INLINE_KEY, REMOTE_ISSUER, REMOTE_PREFIX, REMOTE_TENANT, SECRET_ISSUER, SECRET_KEY,
};

/// The service that is configured.
pub const SERVICE: &str = "ledger";
/// The environment that is configured.
pub const ENVIRONMENT: &str = "staging";
/// Where events arrive.
pub const EVENTS_PATH: &str = "/-/tenantgate/events";
/// The key of events.
pub const EVENTS_KEY: &str = "planted-events-key";
/// The keys for the Tenant Manager.
pub const API_KEYS: [&str; 2] = ["planted-api-key-one", "planted-api-key-two"];
/// `traceparent` of whoever is traced.
pub const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// The module of paths that no route names.
pub const DEFAULT_MODULE: &str = "onboarding";
/// The module of [`ROUTED_PREFIX`].
pub const ROUTED_MODULE: &str = "transaction";
/// See [`ROUTED_MODULE`].
pub const ROUTED_PREFIX: &str = "/v1/transactions";
/// Below this the path is scoped.
pub const SCOPED_PREFIX: &str = "/storage";
/// Prefixes of public paths.
pub const PUBLIC: [&str; 3] = ["/health", "/version", "/swagger"];
/// Where settings of a tenant are, before and after its id.
pub const AROUND_ID: (&str, &str) = ("/tenants/", "/services/ledger/settings");
/// Where the list of active tenants is.
pub const LIST_PATH: &str = "/tenants/active";
/// Largest answer of the Tenant Manager that is read, in bytes.
pub const MAX_BODY_BYTES: usize = 65_536;

/// The configuration as the plugin gets it.
pub fn text(knobs: &Knobs) -> String {
    let mut issuers = vec![
        json!({
            "issuer": SECRET_ISSUER, "algorithms": ["HS256"], "tenants": "any",
            "jwks": { "inline": { "$keys": [SECRET_KEY] } },
        }),
        json!({
            "issuer": INLINE_ISSUER, "audiences": ["api"], "algorithms": ["ES256"], "tenants": "any",
            "jwks": { "inline": { "$keys": [INLINE_KEY] } },
        }),
    ];
    if let Some(remote) = knobs.remote {
        issuers.push(json!({
            "issuer": REMOTE_ISSUER, "algorithms": ["ES256", "EdDSA", "RS256"],
            "tenants": { "ids": [REMOTE_TENANT], "prefixes": [REMOTE_PREFIX] },
            "jwks": { "remote": {
                "cluster": "idp", "authority": "idp.internal", "path": "/jwks",
                "timeout_ms": remote.timeout_ms, "refresh_seconds": remote.refresh_s,
                "max_stale_seconds": remote.max_stale_s, "unknown_kid_cooldown_seconds": remote.cooldown_s,
            } },
        }));
    }
    let api_keys: Vec<_> = API_KEYS
        .iter()
        .take(1 + usize::from(knobs.two_api_keys))
        .map(|key| json!({ "value": key }))
        .collect();
    let mut config = json!({
        "version": "v1",
        "enabled": true,
        "service": SERVICE,
        "environment": ENVIRONMENT,
        "auth": {
            "leeway_seconds": knobs.leeway_s,
            "token_cache": { "max_entries": knobs.remembered_tokens },
            "issuers": issuers,
        },
        "tenant_manager": {
            "cluster": "tenant-manager",
            "authority": "tenant-manager.internal",
            "api_keys": api_keys,
            "timeout_ms": knobs.timeout_ms,
            "max_body_bytes": MAX_BODY_BYTES,
            "max_waiters": knobs.max_waiters,
            "on_unavailable": if knobs.allows_unverified { "allow" } else { "deny" },
            "cache": {
                "ttl_seconds": knobs.ttl_s,
                "stale_while_revalidate_seconds": knobs.stale_s,
                "stale_if_error_seconds": knobs.fallback_s,
                "negative_ttl_seconds": knobs.negative_s,
                "max_entries": knobs.max_entries,
                "shared_slots": knobs.shared_slots,
            },
            "breaker": { "threshold": knobs.threshold, "open_seconds": knobs.open_s },
        },
        "modules": {
            "default": DEFAULT_MODULE,
            "routes": [{ "prefix": ROUTED_PREFIX, "module": ROUTED_MODULE }],
        },
        "scope": {
            "emit": {
                "tenant_id": "x-tenant-id", "slug": "x-tenant-slug", "isolation_mode": "x-tenant-isolation-mode",
                "module": "x-tenant-module", "schema": "x-tenant-schema",
            },
            "headers": [
                { "name": "x-routing-key", "kind": "routing_key" },
                { "name": "x-binding-key", "kind": "binding_key" },
                { "name": "x-redis-key", "kind": "redis_key" },
                { "name": "x-storage-key", "kind": "storage_key" },
                { "name": "x-idempotency", "kind": "idempotency_key", "required": knobs.required_key },
            ],
            "path": [{ "prefix": SCOPED_PREFIX, "kind": "storage_path" }],
        },
        "enforce": { "cut_streams": knobs.cuts_streams },
        "events": { "path": EVENTS_PATH, "api_keys": [{ "value": EVENTS_KEY }] },
    });
    if let Some(rate) = knobs.rate {
        config["rate_limit"] = json!({ "requests_per_second": rate.per_second, "burst": rate.burst });
    }
    if let Some(seconds) = knobs.discovery_s {
        config["tenant_manager"]["discovery"] = json!({ "path": LIST_PATH, "interval_seconds": seconds });
    }
    if knobs.guards {
        config["scope"]["response"] = json!([
            { "name": "x-storage-key", "kind": "storage_key" },
            { "name": "x-redis-key", "kind": "redis_key" },
        ]);
    }
    if knobs.reports {
        config["enforcement"] = json!("report");
        config["scope"]["properties"] = json!(true);
    }
    expanded(&config).to_string()
}

fn expanded(config: &Value) -> Value {
    Keys::shared().expand_config(config).expect("keys that exist")
}
