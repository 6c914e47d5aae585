//! Every refusal, and its one reply.
//!
//! The body is exactly `{"code":…,"title":…,"message":…}`. It never says which check of a token
//! failed and never repeats what the Tenant Manager answered, except a tenant's status.

mod code;
mod reply;

use std::borrow::Cow;

pub use code::Code;
use reply::Body;
pub use reply::Reply;

use crate::authn::Refusal;
use crate::config::{Errors, shown};
use crate::enforce::rate::Quota;
use crate::path::Rejection;
use crate::resolve::Unavailable;
use crate::tenant_id::TenantId;

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
    /// The tenant's rate limit is exceeded.
    RateLimited {
        /// When the next request may come, in milliseconds from now.
        retry_after_ms: u64,
        /// What is told of the limit; `None`: nothing.
        quota: Option<Quota>,
    },
    /// The response holds a key of another tenant.
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

impl Denial {
    /// The one reply to this refusal, in the words of `errors` where it has any for it. The status
    /// decides the gRPC status and whether there is a challenge; the details keep the stable code.
    pub fn reply(&self, grpc: bool, errors: &Errors) -> Reply {
        let row = self.row();
        let by = errors.of(row.code);
        let status = by.and_then(|by| by.status).unwrap_or(row.code.status());
        let body = Body {
            code: by.and_then(|by| by.code.as_deref()).unwrap_or(row.code.as_str()),
            title: by.and_then(|by| by.title.as_deref()).unwrap_or(row.code.title()),
            message: by.and_then(|by| by.message.as_deref()).unwrap_or(&row.message),
        };
        let mut reply = Reply::denying(status, &body, grpc, row.code.as_str());
        // RFC 9110 §15.5.2: a 401 has one, whatever its cause.
        if status == 401 {
            reply.headers.push(("www-authenticate", row.challenge.to_owned()));
        }
        // Whole seconds, at least 1 (RFC 9110 §10.2.3).
        if let Some(wait_ms) = row.retry_after_ms {
            let seconds = wait_ms.div_ceil(1_000).max(1);
            reply.headers.push(("retry-after", seconds.to_string()));
        }
        if let Self::RateLimited { quota: Some(quota), .. } = self {
            reply.headers.extend(quota.fields());
        }
        reply
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
            | Self::RateLimited { .. }
            | Self::ServiceNotConfigured
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
            | Self::RateLimited { .. }
            | Self::LeakBlocked { .. }
            | Self::ServiceNotConfigured
            | Self::Unavailable(_)
            | Self::EventsUnauthorized
            | Self::EventsMalformed(_)
            | Self::EventsNotTaken
            | Self::HostRefused => None,
        }
    }

    /// What is said, one entry for each refusal.
    fn row(&self) -> Row {
        match self {
            Self::PathRejected(_) => Row::new(Code::PathRejected, "the request target is ambiguous"),
            Self::KeyRejected { header, reason } => Row::new(Code::KeyRejected, format!("{header}: {reason}")),

            Self::CredentialMissing(_) => Row::new(Code::TenantIdRequired, NO_TENANT),
            Self::TokenInvalid(_) => Row::new(Code::TokenInvalid, "the token is not valid").blaming_the_token(),
            Self::TenantClaimMissing => Row::new(Code::TenantIdRequired, NO_TENANT).blaming_the_token(),
            Self::TenantIdInvalid => Row::new(Code::TenantIdInvalid, "tenantId has invalid format").blaming_the_token(),
            Self::KeysUnavailable { .. } => {
                Row::new(Code::KeysUnavailable, "the token cannot be verified at the moment").passing_in(SOON)
            }

            Self::TenantRefused { status } => {
                let status = public_status(status);
                Row::new(Code::TenantSuspended, format!("tenant service is {status}"))
            }
            Self::AccessDenied => Row::new(Code::TenantAccessDenied, "tenant service access denied"),
            Self::TenantNotFound(tenant) => {
                Row::new(Code::TenantNotFound, format!("tenant not found: {}", tenant.as_str()))
            }
            Self::NotProvisioned => Row::new(
                Code::TenantNotProvisioned,
                "the tenant's service is not provisioned yet",
            ),
            Self::SchemaInvalid => Row::new(Code::TenantSchemaInvalid, "the tenant's schema is missing or not valid"),
            Self::Unavailable(Unavailable::Failed(_) | Unavailable::TimedOut) => {
                Row::new(Code::TenantManagerUnavailable, UNKNOWN).passing_in(SOON)
            }
            Self::Unavailable(Unavailable::Paused(left_ms)) => {
                Row::new(Code::TenantManagerUnavailable, UNKNOWN).passing_in(*left_ms)
            }
            Self::Unavailable(Unavailable::CircuitOpen(left_ms)) => {
                Row::new(Code::CircuitOpen, "tenants cannot be looked up at the moment").passing_in(*left_ms)
            }
            Self::Unavailable(Unavailable::Overloaded) => Row::new(
                Code::TenantLookupOverloaded,
                "too many requests wait for tenant lookups",
            )
            .passing_in(SOON),

            Self::RouteNotFound => Row::new(Code::RouteNotFound, "no module serves this path"),
            Self::ServiceNotConfigured => Row::new(
                Code::ServiceNotConfigured,
                "the module is not configured for this tenant",
            ),
            Self::RateLimited { retry_after_ms, .. } => {
                Row::new(Code::TenantRateLimited, "the tenant's rate limit is exceeded").passing_in(*retry_after_ms)
            }
            Self::LeakBlocked { .. } => Row::new(Code::TenantLeakBlocked, "the response was withheld"),

            Self::EventsUnauthorized => {
                let row = Row::new(
                    Code::EventsUnauthorized,
                    "exactly one X-API-Key with a valid key is required",
                );
                Row {
                    challenge: "X-API-Key",
                    ..row
                }
            }
            Self::EventsMalformed(why) => Row::new(Code::EventsMalformed, why.clone()),
            Self::EventsNotTaken => {
                Row::new(Code::EventsNotTaken, "the events cannot be carried out at the moment").passing_in(SOON)
            }
            Self::HostRefused => Row::new(Code::InternalError, "the request cannot be handled"),
        }
    }
}

const NO_TENANT: &str = "tenantId is required in JWT token";
const UNKNOWN: &str = "the tenant cannot be looked up at the moment";

/// What is said where nobody knows when it passes, in milliseconds.
const SOON: u64 = 1;

/// What a refusal says by itself.
struct Row {
    code: Code,
    message: Cow<'static, str>,
    /// `WWW-Authenticate`, should the status be 401.
    challenge: &'static str,
    /// For what passes by itself: when.
    retry_after_ms: Option<u64>,
}

impl Row {
    fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
            challenge: "Bearer",
            retry_after_ms: None,
        }
    }

    /// A credential came and is what was refused (RFC 6750 §3): only then the challenge says so.
    fn blaming_the_token(self) -> Self {
        Self {
            challenge: "Bearer error=\"invalid_token\"",
            ..self
        }
    }

    fn passing_in(self, retry_after_ms: u64) -> Self {
        Self {
            retry_after_ms: Some(retry_after_ms),
            ..self
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
mod tests;
