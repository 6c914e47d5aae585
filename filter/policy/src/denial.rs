//! Every refusal, and its one reply.
//!
//! The body is exactly `{"code":…,"title":…,"message":…}`. It never says which check of a token
//! failed and never repeats what the Tenant Manager answered, except a tenant's status.

use serde::Serialize;

use crate::authn::Refusal;
use crate::config::shown;
use crate::enforce::rate::Quota;
use crate::path::Rejection;
use crate::resolve::Unavailable;
use crate::tenant_id::TenantId;

/// The stable codes.
macro_rules! codes {
    ($($(#[$doc:meta])* $code:ident = $text:literal),+ $(,)?) => {
        /// The stable code of a denial: in the body, in the log, in a counter.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[$doc])* $code),+ }

        impl Code {
            /// Every code there is.
            pub const ALL: &[Self] = &[$(Self::$code),+];

            /// The code as clients see it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$code => $text),+ }
            }
        }
    };
}

codes! {
    /// Hazardous target, or `CONNECT`.
    PathRejected = "PATH_REJECTED",
    /// A key cannot be scoped.
    KeyRejected = "KEY_REJECTED",
    /// No usable credential, or no tenant claim.
    TenantIdRequired = "TENANT_ID_REQUIRED",
    /// The token was refused.
    TokenInvalid = "TOKEN_INVALID",
    /// The claim is malformed.
    TenantIdInvalid = "TENANT_ID_INVALID",
    /// The tenant is refused.
    TenantSuspended = "TENANT_SUSPENDED",
    /// Access is denied.
    TenantAccessDenied = "TENANT_ACCESS_DENIED",
    /// The tenant is unknown.
    TenantNotFound = "TENANT_NOT_FOUND",
    /// No module serves the path.
    RouteNotFound = "ROUTE_NOT_FOUND",
    /// The tenant is not provisioned.
    TenantNotProvisioned = "TENANT_NOT_PROVISIONED",
    /// The tenant has no usable schema.
    TenantSchemaInvalid = "TENANT_SCHEMA_INVALID",
    /// The tenant has asked too often.
    TenantRateLimited = "TENANT_RATE_LIMITED",
    /// The response names another tenant.
    TenantLeakBlocked = "TENANT_LEAK_BLOCKED",
    /// The module is not configured.
    ServiceNotConfigured = "SERVICE_NOT_CONFIGURED",
    /// The Tenant Manager gives no usable answer.
    TenantManagerUnavailable = "TENANT_MANAGER_UNAVAILABLE",
    /// It has given none for a while and is left alone.
    CircuitOpen = "CIRCUIT_OPEN",
    /// The issuer's keys have not come yet.
    KeysUnavailable = "KEYS_UNAVAILABLE",
    /// Too many wait.
    TenantLookupOverloaded = "TENANT_LOOKUP_OVERLOADED",
    /// Whoever sends tenant events has not the key.
    EventsUnauthorized = "EVENTS_UNAUTHORIZED",
    /// Tenant events cannot be read.
    EventsMalformed = "EVENTS_MALFORMED",
    /// Tenant events could not be carried out.
    EventsNotTaken = "EVENTS_NOT_TAKEN",
    /// The host refused what is needed.
    InternalError = "INTERNAL_ERROR",
}

impl Code {
    /// Those that `errors.overrides` may name. What the senders of events get, and what is the host's
    /// fault, is nobody's to reword.
    pub fn overridable() -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(|code| match code {
            Self::EventsUnauthorized | Self::EventsMalformed | Self::EventsNotTaken | Self::InternalError => false,
            Self::PathRejected
            | Self::KeyRejected
            | Self::TenantIdRequired
            | Self::TokenInvalid
            | Self::TenantIdInvalid
            | Self::TenantSuspended
            | Self::TenantAccessDenied
            | Self::TenantNotFound
            | Self::RouteNotFound
            | Self::TenantNotProvisioned
            | Self::TenantSchemaInvalid
            | Self::TenantRateLimited
            | Self::TenantLeakBlocked
            | Self::ServiceNotConfigured
            | Self::TenantManagerUnavailable
            | Self::CircuitOpen
            | Self::KeysUnavailable
            | Self::TenantLookupOverloaded => true,
        })
    }
}

/// Why a request is not forwarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denial {
    /// Hazardous target, or `CONNECT`.
    PathRejected(Rejection),
    /// A key that cannot be scoped: the header, and why.
    KeyRejected {
        /// The header that the rule names.
        header: String,
        /// What is wrong with its value. Not the value.
        reason: &'static str,
    },
    /// No usable credential, or no claims of another filter; the reason says which.
    CredentialMissing(Refusal),
    /// The credential does not hold.
    TokenInvalid(Refusal),
    /// There are no keys to verify the credential with.
    KeysUnavailable {
        /// The issuer that the credential names, as the configuration has it.
        issuer: String,
    },
    /// The token holds, and names no tenant.
    TenantClaimMissing,
    /// The token holds, and names no possible tenant.
    TenantIdInvalid,
    /// The Tenant Manager refuses the tenant with this status (`suspended`, `purged`, …).
    TenantRefused {
        /// The status; see [`public_status`].
        status: String,
    },
    /// The Tenant Manager denies access without a status.
    AccessDenied,
    /// The Tenant Manager does not know the tenant.
    TenantNotFound(TenantId),
    /// No route and no default module cover the path.
    RouteNotFound,
    /// The tenant exists and its service is not set up yet.
    NotProvisioned,
    /// Schema isolation without a usable schema.
    SchemaInvalid,
    /// The tenant makes too many requests.
    RateLimited {
        /// Until the next one may come, in milliseconds.
        retry_after_ms: u64,
        /// What is told of the limit; `None`: nothing.
        quota: Option<Quota>,
    },
    /// The response held a key of another tenant, in this header.
    LeakBlocked {
        /// The header that the rule names.
        header: String,
    },
    /// The tenant has not been granted the module.
    ServiceNotConfigured,
    /// Nothing is known of the tenant.
    Unavailable(Unavailable),
    /// An event without the key that the configuration asks for.
    EventsUnauthorized,
    /// Events that cannot be read, and why; those that could have been carried out.
    EventsMalformed(String),
    /// Events that the node's store did not take.
    EventsNotTaken,
    /// The host refused what forwarding would need: headers that cannot be edited, no
    /// configuration. Nobody's fault but ours and the host's.
    HostRefused,
}

/// A reply that the filter makes itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Response headers, `content-type` included.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// What a gRPC client gets instead of the status.
    pub grpc_status: u8,
    /// For the access log: the stable code, or what else it is.
    pub details: &'static str,
}

impl Reply {
    /// A reply of the filter itself to what it was asked: 200 with a JSON body.
    pub fn ok(body: Vec<u8>) -> Self {
        Self {
            status: 200,
            headers: vec![
                ("content-type", JSON.to_owned()),
                ("cache-control", "no-store".to_owned()),
            ],
            body,
            grpc_status: 0,
            details: "EVENTS_CARRIED_OUT",
        }
    }
}

const JSON: &str = "application/json; charset=utf-8";

/// What stands in the tables of §9.
struct Row {
    status: u16,
    grpc_status: u8,
    code: Code,
    title: &'static str,
    message: String,
}

#[derive(Serialize)]
struct Body<'a> {
    code: &'a str,
    title: &'a str,
    message: &'a str,
}

impl Denial {
    /// The one reply to this refusal. A gRPC client gets the message alone: Envoy makes
    /// `grpc-message` of the body.
    pub fn reply(&self, grpc: bool) -> Reply {
        let row = self.row();
        let mut headers = Vec::with_capacity(4);
        if !grpc {
            headers.push(("content-type", JSON.to_owned()));
        }
        headers.push(("cache-control", "no-store".to_owned()));
        if row.status == 401 {
            headers.push(("www-authenticate", self.challenge().to_owned()));
        }
        if let Some(seconds) = self.retry_after_seconds() {
            headers.push(("retry-after", seconds.to_string()));
        }
        if let Self::RateLimited { quota: Some(quota), .. } = self {
            headers.extend(quota.fields());
        }
        let body = if grpc {
            row.message.into_bytes()
        } else {
            let body = Body {
                code: row.code.as_str(),
                title: row.title,
                message: &row.message,
            };
            // Three strings always serialize.
            serde_json::to_vec(&body).unwrap_or_default()
        };
        Reply {
            status: row.status,
            headers,
            body,
            grpc_status: row.grpc_status,
            details: row.code.as_str(),
        }
    }

    /// The stable code.
    pub fn code(&self) -> Code {
        self.row().code
    }

    /// What the reply does not say, for a debug log: which check failed. Never a value of the
    /// request.
    pub fn detail(&self) -> Option<String> {
        let detail = match self {
            Self::PathRejected(rejection) => rejection.name(),
            Self::KeyRejected { header, reason } => return Some(format!("header {header} {reason}")),
            Self::CredentialMissing(_) | Self::TokenInvalid(_) | Self::TenantClaimMissing | Self::TenantIdInvalid => {
                return self.auth_refusal().map(|refusal| refusal.name().to_owned());
            }
            Self::LeakBlocked { header } => return Some(format!("response header {header}")),
            Self::KeysUnavailable { issuer } => return Some(format!("no usable keys of issuer `{}`", shown(issuer))),
            Self::Unavailable(Unavailable::Failed(failure)) => failure.name(),
            Self::Unavailable(Unavailable::TimedOut) => "deadline",
            Self::Unavailable(Unavailable::Paused(_)) => "paused",
            Self::EventsMalformed(why) => return Some(why.clone()),
            Self::EventsNotTaken => "the shared data of the host cannot be written",
            Self::Unavailable(Unavailable::CircuitOpen(_) | Unavailable::Overloaded) | Self::EventsUnauthorized => {
                return None;
            }
            Self::TenantRefused { .. }
            | Self::AccessDenied
            | Self::TenantNotFound(_)
            | Self::RouteNotFound
            | Self::NotProvisioned
            | Self::SchemaInvalid
            | Self::ServiceNotConfigured
            | Self::RateLimited { .. }
            | Self::HostRefused => return None,
        };
        Some(detail.to_owned())
    }

    /// Why the caller is not believed, for every denial with 401.
    pub fn auth_refusal(&self) -> Option<Refusal> {
        match self {
            Self::CredentialMissing(refusal) | Self::TokenInvalid(refusal) => Some(*refusal),
            Self::TenantClaimMissing => Some(Refusal::TenantClaim),
            Self::TenantIdInvalid => Some(Refusal::TenantId),
            Self::PathRejected(_)
            | Self::KeyRejected { .. }
            | Self::KeysUnavailable { .. }
            | Self::TenantRefused { .. }
            | Self::AccessDenied
            | Self::TenantNotFound(_)
            | Self::RouteNotFound
            | Self::NotProvisioned
            | Self::SchemaInvalid
            | Self::ServiceNotConfigured
            | Self::RateLimited { .. }
            | Self::LeakBlocked { .. }
            | Self::Unavailable(_)
            | Self::EventsUnauthorized
            | Self::EventsMalformed(_)
            | Self::EventsNotTaken
            | Self::HostRefused => None,
        }
    }

    /// `WWW-Authenticate` of a 401 (RFC 6750 §3): an error code only when a credential came.
    fn challenge(&self) -> &'static str {
        match self {
            Self::CredentialMissing(_) => "Bearer",
            Self::EventsUnauthorized => "X-API-Key",
            _ => "Bearer error=\"invalid_token\"",
        }
    }

    /// Whole seconds, at least 1 (RFC 9110 §10.2.3), for what may pass by itself.
    fn retry_after_seconds(&self) -> Option<u64> {
        match self {
            Self::Unavailable(Unavailable::CircuitOpen(left_ms) | Unavailable::Paused(left_ms)) => {
                Some(left_ms.div_ceil(1_000).max(1))
            }
            Self::RateLimited { retry_after_ms, .. } => Some(retry_after_ms.div_ceil(1_000).max(1)),
            Self::Unavailable(Unavailable::Failed(_) | Unavailable::TimedOut | Unavailable::Overloaded)
            | Self::KeysUnavailable { .. }
            | Self::EventsNotTaken => Some(1),
            Self::PathRejected(_)
            | Self::KeyRejected { .. }
            | Self::CredentialMissing(_)
            | Self::TokenInvalid(_)
            | Self::TenantClaimMissing
            | Self::TenantIdInvalid
            | Self::TenantRefused { .. }
            | Self::AccessDenied
            | Self::TenantNotFound(_)
            | Self::RouteNotFound
            | Self::NotProvisioned
            | Self::SchemaInvalid
            | Self::ServiceNotConfigured
            | Self::LeakBlocked { .. }
            | Self::EventsUnauthorized
            | Self::EventsMalformed(_)
            | Self::HostRefused => None,
        }
    }

    fn row(&self) -> Row {
        let row = |status, grpc_status, code, title, message: &str| Row {
            status,
            grpc_status,
            code,
            title,
            message: message.to_owned(),
        };
        match self {
            Self::PathRejected(_) => row(
                400,
                3,
                Code::PathRejected,
                "Bad Request",
                "the request target is ambiguous",
            ),
            Self::KeyRejected { header, reason } => {
                row(400, 3, Code::KeyRejected, "Bad Request", &format!("{header}: {reason}"))
            }
            Self::CredentialMissing(_) | Self::TenantClaimMissing => row(
                401,
                16,
                Code::TenantIdRequired,
                "Unauthorized",
                "tenantId is required in JWT token",
            ),
            Self::TokenInvalid(_) => row(401, 16, Code::TokenInvalid, "Unauthorized", "the token is not valid"),
            Self::TenantIdInvalid => row(
                401,
                16,
                Code::TenantIdInvalid,
                "Unauthorized",
                "tenantId has invalid format",
            ),
            Self::TenantRefused { status } => row(
                403,
                7,
                Code::TenantSuspended,
                "Service Suspended",
                &format!("tenant service is {}", public_status(status)),
            ),
            Self::AccessDenied => row(
                403,
                7,
                Code::TenantAccessDenied,
                "Access Denied",
                "tenant service access denied",
            ),
            Self::TenantNotFound(tenant) => row(
                404,
                5,
                Code::TenantNotFound,
                "Tenant Not Found",
                &format!("tenant not found: {}", tenant.as_str()),
            ),
            Self::RouteNotFound => row(404, 5, Code::RouteNotFound, "Not Found", "no module serves this path"),
            Self::NotProvisioned => row(
                422,
                9,
                Code::TenantNotProvisioned,
                "Tenant Not Provisioned",
                "the tenant's service is not provisioned yet",
            ),
            Self::SchemaInvalid => row(
                422,
                9,
                Code::TenantSchemaInvalid,
                "Tenant Schema Invalid",
                "the tenant's schema is missing or not valid",
            ),
            Self::ServiceNotConfigured => row(
                503,
                14,
                Code::ServiceNotConfigured,
                "Service Not Configured",
                "the module is not configured for this tenant",
            ),
            Self::RateLimited { .. } => row(
                429,
                8,
                Code::TenantRateLimited,
                "Too Many Requests",
                "the tenant's rate limit is exceeded",
            ),
            Self::LeakBlocked { .. } => row(
                502,
                14,
                Code::TenantLeakBlocked,
                "Bad Gateway",
                "the response was withheld",
            ),
            Self::Unavailable(Unavailable::CircuitOpen(_)) => row(
                503,
                14,
                Code::CircuitOpen,
                "Service Unavailable",
                "tenants cannot be looked up at the moment",
            ),
            Self::Unavailable(Unavailable::Overloaded) => row(
                503,
                14,
                Code::TenantLookupOverloaded,
                "Service Unavailable",
                "too many requests wait for tenant lookups",
            ),
            Self::Unavailable(_) => row(
                503,
                14,
                Code::TenantManagerUnavailable,
                "Service Unavailable",
                "the tenant cannot be looked up at the moment",
            ),
            Self::KeysUnavailable { .. } => row(
                503,
                14,
                Code::KeysUnavailable,
                "Service Unavailable",
                "the token cannot be verified at the moment",
            ),
            Self::EventsUnauthorized => row(
                401,
                16,
                Code::EventsUnauthorized,
                "Unauthorized",
                "exactly one X-API-Key with a valid key is required",
            ),
            Self::EventsMalformed(why) => row(400, 3, Code::EventsMalformed, "Bad Request", why),
            Self::EventsNotTaken => row(
                503,
                14,
                Code::EventsNotTaken,
                "Service Unavailable",
                "the events cannot be carried out at the moment",
            ),
            Self::HostRefused => row(
                500,
                13,
                Code::InternalError,
                "Internal Server Error",
                "the request cannot be handled",
            ),
        }
    }
}

/// A tenant's status as it may be shown: a short word by the grammar of a tenant id, or
/// `refused` for everything else that a Tenant Manager may say.
fn public_status(status: &str) -> &str {
    if status.len() <= 64 && crate::tenant_id::is_well_formed(status) {
        status
    } else {
        "refused"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_is_code_title_and_message_in_this_order() {
        let reply = Denial::TenantRefused {
            status: "purged".into(),
        }
        .reply(false);
        assert_eq!(
            String::from_utf8(reply.body).unwrap(),
            r#"{"code":"TENANT_SUSPENDED","title":"Service Suspended","message":"tenant service is purged"}"#
        );
        assert!(
            reply
                .headers
                .contains(&("content-type", "application/json; charset=utf-8".to_owned()))
        );
        assert!(reply.headers.contains(&("cache-control", "no-store".to_owned())));
    }

    #[test]
    fn a_grpc_client_gets_the_message_and_its_own_status() {
        let reply = Denial::TenantIdInvalid.reply(true);
        assert_eq!(reply.body, b"tenantId has invalid format");
        assert_eq!((reply.status, reply.grpc_status), (401, 16));
        assert!(reply.headers.iter().all(|(name, _)| *name != "content-type"));
    }

    #[test]
    fn statuses_and_grpc_statuses_go_together() {
        for denial in [
            Denial::PathRejected(Rejection::Connect),
            Denial::KeyRejected {
                header: "x-redis-key".into(),
                reason: "empty",
            },
            Denial::CredentialMissing(Refusal::NoCredential),
            Denial::KeysUnavailable { issuer: "i".into() },
            Denial::TokenInvalid(Refusal::Signature),
            Denial::TenantClaimMissing,
            Denial::TenantIdInvalid,
            Denial::TenantNotFound(TenantId::parse("acme", false).unwrap()),
            Denial::HostRefused,
            Denial::TenantRefused {
                status: "suspended".into(),
            },
            Denial::AccessDenied,
            Denial::RouteNotFound,
            Denial::NotProvisioned,
            Denial::SchemaInvalid,
            Denial::ServiceNotConfigured,
            Denial::Unavailable(Unavailable::TimedOut),
            Denial::Unavailable(Unavailable::CircuitOpen(1_500)),
            Denial::Unavailable(Unavailable::Paused(1)),
            Denial::Unavailable(Unavailable::Overloaded),
            Denial::EventsUnauthorized,
            Denial::EventsMalformed("why".into()),
            Denial::EventsNotTaken,
        ] {
            let reply = denial.reply(false);
            let expected = match reply.status {
                400 => 3,
                401 => 16,
                403 => 7,
                404 => 5,
                422 => 9,
                500 => 13,
                503 => 14,
                other => panic!("no gRPC status for {other}"),
            };
            assert_eq!(reply.grpc_status, expected, "{denial:?}");
            let challenged = reply.headers.iter().any(|(name, _)| *name == "www-authenticate");
            assert_eq!(challenged, reply.status == 401, "{denial:?}");
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
}
