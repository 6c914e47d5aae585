//! `examples/errors-in-process.yaml`: the codes of a middleware inside the services.

use super::*;
use crate::config::{Config, Environment, Plugin, compile};

const EXAMPLE: &str = include_str!("../../../../../examples/errors-in-process.yaml");

/// The configuration of a reader who has taken the block over as it is.
fn config() -> Config {
    let example: Value = serde_norway::from_str(EXAMPLE).expect("YAML");
    let mut document = json!({
        "version": "v1",
        "enabled": true,
        "service": "ledger",
        "auth": { "issuers": [{
            "issuer": "https://id.example.com",
            "algorithms": ["HS256"],
            "jwks": { "inline": { "keys": [{ "kty": "oct", "kid": "k", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2Vj" }] } },
        }] },
    });
    json_patch::merge(&mut document, &example);
    let compiled = compile(document.to_string().as_bytes(), &Environment::default()).expect("no faults");
    match compiled.plugin {
        Plugin::MultiTenant(config) => *config,
        Plugin::SingleTenant => panic!("enabled"),
    }
}

/// What the middleware says.
const UNAUTHORIZED: (u16, &str, &str, &str) = (401, "UNAUTHORIZED", "Unauthorized", "Unauthorized");
const UNAVAILABLE: (u16, &str, &str, &str) = (
    503,
    "SERVICE_UNAVAILABLE",
    "Service Unavailable",
    "Service temporarily unavailable",
);
const UNRESOLVED: (u16, &str, &str, &str) = (
    500,
    "TENANT_DB_ERROR",
    "Failed to resolve tenant database",
    "Internal server error",
);

/// For every code that can be overridden; `None`: the middleware has nothing like it, and it stays.
fn expected(code: Code) -> Option<(u16, &'static str, &'static str, &'static str)> {
    match code {
        Code::TenantIdRequired | Code::TokenInvalid | Code::TenantIdInvalid => Some(UNAUTHORIZED),
        Code::TenantNotFound => Some((404, "TENANT_NOT_FOUND", "Tenant Not Found", "tenant not found: acme")),
        Code::TenantSuspended => Some((403, "0131", "Service Suspended", "tenant service is purged")),
        Code::TenantAccessDenied => Some((403, "0131", "Access Denied", "tenant service access denied")),
        Code::ServiceNotConfigured | Code::CircuitOpen => Some(UNAVAILABLE),
        Code::TenantManagerUnavailable
        | Code::TenantLookupOverloaded
        | Code::TenantNotProvisioned
        | Code::TenantSchemaInvalid => Some(UNRESOLVED),
        Code::PathRejected
        | Code::KeyRejected
        | Code::RouteNotFound
        | Code::TenantRateLimited
        | Code::TenantLeakBlocked
        | Code::KeysUnavailable
        | Code::EventsUnauthorized
        | Code::EventsMalformed
        | Code::EventsNotTaken
        | Code::InternalError => None,
    }
}

#[test]
fn the_example_reproduces_the_middleware_inside_the_services() {
    let errors = config().errors;
    for (denial, Answer(own_status, _, own_code, own_title, own_message, ..)) in table() {
        let own = (own_status, own_code, own_title, own_message);
        let (status, code, title, message) = expected(denial.code()).unwrap_or(own);
        let reply = denial.reply(false, &errors);
        assert_eq!(reply.status, status, "{denial:?}");
        assert_eq!(
            body(&reply),
            json!({ "code": code, "title": title, "message": message }),
            "{denial:?}"
        );
    }
}
