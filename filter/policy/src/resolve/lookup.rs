//! One question to the Tenant Manager, and what its answer means.

use std::rc::Rc;

use super::record::{self, Record};
use crate::config::{Config, ServiceName, TenantManager};
use crate::errand::{Answer, Callout};
use crate::telemetry::LookupFailure;
use crate::tenant_id::TenantId;

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
    /// The Tenant Manager gave no usable answer. Never cached.
    Unavailable(LookupFailure),
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
    let api_key = manager
        .api_keys
        .get(key)
        .map(|key| key.expose().to_owned())
        .unwrap_or_default();
    let mut headers = vec![
        (":method", "GET".to_owned()),
        (":path", manager.path.expand(tenant.as_str(), service)),
        (":authority", manager.authority.clone()),
        ("accept", "application/json".to_owned()),
        ("x-api-key", api_key),
    ];
    if let Some(traceparent) = traceparent {
        headers.push(("traceparent", traceparent.to_owned()));
    }
    Callout {
        cluster: manager.cluster.clone(),
        headers,
        timeout_ms: timeout_ms.max(1),
    }
}

/// How the answer table reads an answer about `tenant`. A record without `id` is taken only when
/// nothing of it is emitted that could be another tenant's.
///
/// # Errors
///
/// Why there is no outcome.
pub(super) fn outcome(answer: Answer<'_>, tenant: &TenantId, config: &Config) -> Result<Outcome, LookupFailure> {
    let (status, body) = match answer {
        Answer::Unreachable => return Err(LookupFailure::Unreachable),
        Answer::Http { status, body } => (status, body),
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
        401 => Err(LookupFailure::Unauthorized),
        500..=599 => Err(LookupFailure::ServerError),
        _ => Err(LookupFailure::UnexpectedStatus),
    }
}
