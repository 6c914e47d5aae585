mod in_process;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;
use crate::config::Override;

/// What a denial is answered with when nothing is overridden: status, gRPC status, code, title,
/// message, challenge, seconds.
struct Answer(
    u16,
    u8,
    &'static str,
    &'static str,
    &'static str,
    Option<&'static str>,
    Option<&'static str>,
);

const BARE: Option<&str> = Some("Bearer");
const TOKEN: Option<&str> = Some("Bearer error=\"invalid_token\"");

/// Every refusal there is, with its answer.
#[rustfmt::skip]
fn table() -> Vec<(Denial, Answer)> {
    let lookup = "the tenant cannot be looked up at the moment";
    let no_tenant = "tenantId is required in JWT token";
    vec![
        (Denial::PathRejected(Rejection::Connect), Answer(400, 3, "PATH_REJECTED", "Bad Request", "the request target is ambiguous", None, None)),
        (Denial::KeyRejected { header: "x-redis-key".into(), reason: "empty" }, Answer(400, 3, "KEY_REJECTED", "Bad Request", "x-redis-key: empty", None, None)),
        (Denial::CredentialMissing(Refusal::NoCredential), Answer(401, 16, "TENANT_ID_REQUIRED", "Unauthorized", no_tenant, BARE, None)),
        (Denial::TenantClaimMissing, Answer(401, 16, "TENANT_ID_REQUIRED", "Unauthorized", no_tenant, TOKEN, None)),
        (Denial::TokenInvalid(Refusal::Signature), Answer(401, 16, "TOKEN_INVALID", "Unauthorized", "the token is not valid", TOKEN, None)),
        (Denial::TenantIdInvalid, Answer(401, 16, "TENANT_ID_INVALID", "Unauthorized", "tenantId has invalid format", TOKEN, None)),
        (Denial::TenantRefused { status: "purged".into() }, Answer(403, 7, "TENANT_SUSPENDED", "Service Suspended", "tenant service is purged", None, None)),
        (Denial::AccessDenied, Answer(403, 7, "TENANT_ACCESS_DENIED", "Access Denied", "tenant service access denied", None, None)),
        (Denial::TenantNotFound(TenantId::parse("acme", false).unwrap()), Answer(404, 5, "TENANT_NOT_FOUND", "Tenant Not Found", "tenant not found: acme", None, None)),
        (Denial::RouteNotFound, Answer(404, 5, "ROUTE_NOT_FOUND", "Not Found", "no module serves this path", None, None)),
        (Denial::NotProvisioned, Answer(422, 9, "TENANT_NOT_PROVISIONED", "Tenant Not Provisioned", "the tenant's service is not provisioned yet", None, None)),
        (Denial::SchemaInvalid, Answer(422, 9, "TENANT_SCHEMA_INVALID", "Tenant Schema Invalid", "the tenant's schema is missing or not valid", None, None)),
        (Denial::RateLimited { retry_after_ms: 0, quota: None }, Answer(429, 8, "TENANT_RATE_LIMITED", "Too Many Requests", "the tenant's rate limit is exceeded", None, Some("1"))),
        (Denial::RateLimited { retry_after_ms: 2_001, quota: None }, Answer(429, 8, "TENANT_RATE_LIMITED", "Too Many Requests", "the tenant's rate limit is exceeded", None, Some("3"))),
        (Denial::LeakBlocked { header: "x".into() }, Answer(502, 14, "TENANT_LEAK_BLOCKED", "Bad Gateway", "the response was withheld", None, None)),
        (Denial::ServiceNotConfigured, Answer(503, 14, "SERVICE_NOT_CONFIGURED", "Service Not Configured", "the module is not configured for this tenant", None, None)),
        (Denial::Unavailable(Unavailable::TimedOut), Answer(503, 14, "TENANT_MANAGER_UNAVAILABLE", "Service Unavailable", lookup, None, Some("1"))),
        (Denial::Unavailable(Unavailable::Paused(1_000)), Answer(503, 14, "TENANT_MANAGER_UNAVAILABLE", "Service Unavailable", lookup, None, Some("1"))),
        (Denial::Unavailable(Unavailable::CircuitOpen(1_500)), Answer(503, 14, "CIRCUIT_OPEN", "Service Unavailable", "tenants cannot be looked up at the moment", None, Some("2"))),
        (Denial::Unavailable(Unavailable::Overloaded), Answer(503, 14, "TENANT_LOOKUP_OVERLOADED", "Service Unavailable", "too many requests wait for tenant lookups", None, Some("1"))),
        (Denial::KeysUnavailable { issuer: "i".into() }, Answer(503, 14, "KEYS_UNAVAILABLE", "Service Unavailable", "the token cannot be verified at the moment", None, Some("1"))),
        (Denial::EventsUnauthorized, Answer(401, 16, "EVENTS_UNAUTHORIZED", "Unauthorized", "exactly one X-API-Key with a valid key is required", Some("X-API-Key"), None)),
        (Denial::EventsMalformed("why".into()), Answer(400, 3, "EVENTS_MALFORMED", "Bad Request", "why", None, None)),
        (Denial::EventsNotTaken, Answer(503, 14, "EVENTS_NOT_TAKEN", "Service Unavailable", "the events cannot be carried out at the moment", None, Some("1"))),
        (Denial::HostRefused, Answer(500, 13, "INTERNAL_ERROR", "Internal Server Error", "the request cannot be handled", None, None)),
    ]
}

fn header<'a>(reply: &'a Reply, name: &str) -> Option<&'a str> {
    let mut lines = reply.headers.iter().filter(|(other, _)| *other == name);
    let first = lines.next().map(|(_, value)| value.as_str());
    assert!(lines.next().is_none(), "one line of {name}: {reply:?}");
    first
}

fn body(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body).expect("JSON")
}

fn overriding(code: Code, by: Override) -> Errors {
    Errors::new(vec![(code, by)])
}

#[test]
fn every_refusal_has_its_reply() {
    let mut seen = BTreeSet::new();
    for (denial, Answer(status, grpc_status, code, title, message, challenge, seconds)) in table() {
        let reply = denial.reply(false, &Errors::default());
        assert_eq!((reply.status, reply.grpc_status), (status, grpc_status), "{denial:?}");
        assert_eq!(
            body(&reply),
            json!({ "code": code, "title": title, "message": message })
        );
        assert_eq!(header(&reply, "www-authenticate"), challenge, "{denial:?}");
        assert_eq!(header(&reply, "retry-after"), seconds, "{denial:?}");
        assert_eq!((reply.details, denial.code().as_str()), (code, code));
        seen.insert(code);
    }
    let all: BTreeSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(seen, all, "no code is left out");
}

#[test]
fn the_body_is_code_title_and_message_in_this_order() {
    let reply = Denial::TenantRefused {
        status: "purged".into(),
    }
    .reply(false, &Errors::default());
    assert_eq!(
        String::from_utf8(reply.body.clone()).unwrap(),
        r#"{"code":"TENANT_SUSPENDED","title":"Service Suspended","message":"tenant service is purged"}"#
    );
    assert_eq!(header(&reply, "content-type"), Some("application/json; charset=utf-8"));
    assert_eq!(header(&reply, "cache-control"), Some("no-store"));
}

#[test]
fn a_grpc_client_gets_the_message_and_its_own_status() {
    let reply = Denial::TenantIdInvalid.reply(true, &Errors::default());
    assert_eq!(reply.body, b"tenantId has invalid format");
    assert_eq!((reply.status, reply.grpc_status), (401, 16));
    assert_eq!(header(&reply, "content-type"), None);
}

#[test]
fn an_override_changes_what_it_names_and_nothing_else() {
    let denial = Denial::TenantRefused {
        status: "purged".into(),
    };
    let (status, code) = (Some(451), Some("0131".to_owned()));
    let (title, message) = (Some("\"Zu\"".to_owned()), Some("geschlossen".to_owned()));
    for (by, expected) in [
        (
            Override {
                status,
                ..Override::default()
            },
            (451, "TENANT_SUSPENDED", "Service Suspended", "tenant service is purged"),
        ),
        (
            Override {
                code,
                ..Override::default()
            },
            (403, "0131", "Service Suspended", "tenant service is purged"),
        ),
        (
            Override {
                title,
                ..Override::default()
            },
            (403, "TENANT_SUSPENDED", "\"Zu\"", "tenant service is purged"),
        ),
        (
            Override {
                message,
                ..Override::default()
            },
            (403, "TENANT_SUSPENDED", "Service Suspended", "geschlossen"),
        ),
    ] {
        let reply = denial.reply(false, &overriding(Code::TenantSuspended, by));
        let (status, code, title, message) = expected;
        assert_eq!(reply.status, status);
        assert_eq!(
            body(&reply),
            json!({ "code": code, "title": title, "message": message })
        );
        assert_eq!(
            reply.details, "TENANT_SUSPENDED",
            "log and counter keep the stable code"
        );
    }
}

#[test]
fn the_reply_to_a_grpc_client_follows_an_override() {
    let by = Override {
        status: Some(404),
        code: Some("GONE".to_owned()),
        message: Some("Ünbekannt".to_owned()),
        ..Override::default()
    };
    let reply = Denial::AccessDenied.reply(true, &overriding(Code::TenantAccessDenied, by));
    assert_eq!((reply.status, reply.grpc_status), (404, 5));
    assert_eq!(reply.body, "Ünbekannt".as_bytes());
    assert_eq!(reply.details, "TENANT_ACCESS_DENIED");
}

#[test]
fn an_override_of_one_code_leaves_the_others_alone() {
    let by = Override {
        status: Some(599),
        ..Override::default()
    };
    let errors = overriding(Code::CircuitOpen, by);
    for (denial, Answer(status, ..)) in table() {
        let expected = if denial.code() == Code::CircuitOpen {
            599
        } else {
            status
        };
        assert_eq!(denial.reply(false, &errors).status, expected, "{denial:?}");
    }
}

#[test]
fn the_final_status_decides_whether_there_is_a_challenge() {
    for (denial, Answer(.., own, seconds)) in table() {
        for status in [400, 401, 403, 503] {
            let by = Override {
                status: Some(status),
                ..Override::default()
            };
            let reply = denial.reply(false, &overriding(denial.code(), by));
            let expected = if status == 401 { own.or(BARE) } else { None };
            assert_eq!(header(&reply, "www-authenticate"), expected, "{denial:?} as {status}");
            assert_eq!(header(&reply, "retry-after"), seconds, "{denial:?} as {status}");
        }
    }
}

#[test]
fn only_a_plain_word_of_the_tenant_manager_is_repeated() {
    for (status, shown) in [
        ("suspended", "suspended"),
        ("", "refused"),
        ("\"},{", "refused"),
        ("a b", "refused"),
    ] {
        assert_eq!(public_status(status), shown);
    }
}
