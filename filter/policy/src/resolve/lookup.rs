//! One question to the Tenant Manager, and what its answer means.

use std::rc::Rc;

use super::breaker::Health;
use super::record::{self, Record};
use crate::config::{Config, ServiceName, TenantManager};
use crate::errand::{Answer, Callout, GRACE_MS};
use crate::telemetry::LookupFailure;
use crate::tenant_id::TenantId;

/// How long nobody asks after an answer that says so, at least and at most.
pub(super) const SHORTEST_PAUSE_MS: u64 = 1_000;
const LONGEST_PAUSE_MS: u64 = 30_000;

/// What is known of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Its record.
    Found(Rc<Record>),
    /// It is refused with this status.
    Refused {
        /// `suspended`, `purged`, …
        status: String,
    },
    /// Access is denied without a status.
    AccessDenied,
    /// There is no such tenant.
    NotFound,
    /// Its service is not set up.
    NotProvisioned,
    /// Nothing is known. Never cached.
    Unavailable(Unavailable),
}

/// Why nothing is known of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unavailable {
    /// The Tenant Manager gave no usable answer.
    Failed(LookupFailure),
    /// There was none within the request's deadline.
    TimedOut,
    /// The circuit is open for so many milliseconds more.
    CircuitOpen(u64),
    /// The Tenant Manager is not asked, or not about this tenant, for so many milliseconds.
    Paused(u64),
    /// Too many requests wait, or too many lookups are under way.
    Overloaded,
}

impl Outcome {
    /// Whether it says that the tenant must not be served.
    pub(super) fn refuses(&self) -> bool {
        match self {
            Self::Found(record) => !record.is_active(),
            Self::Refused { .. } | Self::AccessDenied | Self::NotFound | Self::NotProvisioned => true,
            Self::Unavailable(_) => false,
        }
    }
}

/// The call that asks about `tenant` with one of the API keys. `timeout_ms` is what is left of
/// the lookup's time.
pub(super) fn question(
    manager: &TenantManager,
    service: &ServiceName,
    tenant: &TenantId,
    key: usize,
    traceparent: Option<&str>,
    timeout_ms: u32,
) -> Callout {
    let path = manager.path.expand(tenant.as_str(), service);
    let mut headers = key_headers(manager, path, key);
    if let Some(traceparent) = traceparent {
        headers.push(("traceparent", traceparent.to_owned()));
    }
    Callout {
        cluster: manager.cluster.clone(),
        headers,
        timeout_ms: timeout_ms.max(1),
    }
}

/// The API keys that a question to the Tenant Manager has been asked with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tried {
    /// The place of the last one, 0 or 1.
    pub(super) key: usize,
    /// How many there were.
    pub(super) attempts: usize,
    /// When the question is over, answered or not (monotonic milliseconds).
    pub(super) ends_ms: u64,
}

impl Tried {
    /// After the first 401: the place of the other key, and what is left of the time, never 0.
    pub(super) fn after_401(self, manager: &TenantManager, answer: Answer<'_>, now_ms: u64) -> Option<(usize, u32)> {
        if !matches!(answer, Answer::Http { status: 401, .. }) || self.attempts >= manager.api_keys.len() {
            return None;
        }
        let left_ms = self.ends_ms.saturating_sub(GRACE_MS).saturating_sub(now_ms);
        let timeout_ms = u32::try_from(left_ms).ok().filter(|left| *left > 0)?;
        Some((if self.key == 0 { 1 } else { 0 }, timeout_ms))
    }
}

/// What every call to the Tenant Manager says, with one of the API keys.
pub(super) fn key_headers(manager: &TenantManager, path: String, key: usize) -> Vec<(&'static str, String)> {
    let api_key = manager
        .api_keys
        .get(key)
        .map(|key| key.expose().to_owned())
        .unwrap_or_default();
    vec![
        (":method", "GET".to_owned()),
        (":path", path),
        (":authority", manager.authority.clone()),
        ("accept", "application/json".to_owned()),
        ("x-api-key", api_key),
    ]
}

/// How the answer table reads an answer about `tenant`. A record without `id` is taken only when
/// nothing of it is emitted that could be another tenant's.
///
/// # Errors
///
/// Why there is no outcome.
pub(super) fn outcome(answer: Answer<'_>, tenant: &TenantId, config: &Config) -> Result<Outcome, LookupFailure> {
    let (status, body) = match answer {
        Answer::Unreachable => return Err(failure(answer)),
        Answer::Http { status, body, .. } => (status, body),
    };
    match status {
        200 => {
            let record = body.and_then(Record::parse).ok_or(LookupFailure::BadRecord)?;
            let is_about_tenant = match record.id() {
                Some(id) => TenantId::parse(id, config.tenant_id.fold_uuid).as_ref() == Some(tenant),
                None => !config.scope.emit.tells_places(),
            };
            if is_about_tenant {
                Ok(Outcome::Found(Rc::new(record.limited_to(&config.modules))))
            } else {
                Err(LookupFailure::BadRecord)
            }
        }
        403 => Ok(body
            .and_then(record::refused_status)
            .map_or(Outcome::AccessDenied, |status| Outcome::Refused { status })),
        404 => Ok(Outcome::NotFound),
        422 => Ok(Outcome::NotProvisioned),
        _ => Err(failure(answer)),
    }
}

/// Why a status is no outcome.
fn failure(answer: Answer<'_>) -> LookupFailure {
    match answer {
        Answer::Unreachable => LookupFailure::Unreachable,
        Answer::Http { status: 401, .. } => LookupFailure::Unauthorized,
        Answer::Http { status: 429, .. } => LookupFailure::RateLimited,
        Answer::Http { status: 400..=499, .. } => LookupFailure::Rejected,
        Answer::Http { status: 500..=599, .. } => LookupFailure::ServerError,
        Answer::Http { .. } => LookupFailure::UnexpectedStatus,
    }
}

/// What an answer that is no outcome says of the Tenant Manager itself.
pub(super) fn health(failure: LookupFailure, answer: Answer<'_>) -> Health {
    match failure {
        LookupFailure::Unauthorized => Health::Unclear(SHORTEST_PAUSE_MS),
        LookupFailure::RateLimited => {
            let asked_ms = match answer {
                Answer::Http {
                    retry_after_seconds: Some(seconds),
                    ..
                } => u64::from(seconds).saturating_mul(1_000),
                Answer::Http { .. } | Answer::Unreachable => SHORTEST_PAUSE_MS,
            };
            Health::Unclear(asked_ms.clamp(SHORTEST_PAUSE_MS, LONGEST_PAUSE_MS))
        }
        LookupFailure::Rejected => Health::Unclear(0),
        LookupFailure::Unreachable
        | LookupFailure::ServerError
        | LookupFailure::UnexpectedStatus
        | LookupFailure::BadRecord => Health::Bad,
    }
}

/// What the answer to a question for the list says, where it is not 200: a list that does not come says
/// nothing of lookups. Only who wants to be left alone is.
pub(super) fn health_of_list(answer: Answer<'_>) -> Health {
    match failure(answer) {
        LookupFailure::RateLimited => health(LookupFailure::RateLimited, answer),
        _ => Health::Unclear(0),
    }
}
