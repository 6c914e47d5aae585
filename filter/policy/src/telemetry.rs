//! Every counter and gauge, with when it moves.
//!
//! Names with a tag are written so that Envoy's `stats_tags` can take the tag out again:
//! `name.tag=value~` becomes `name{tag="value"}` with the tag rules of `envoy/envoy.yaml`.
//! None of them moves in single-tenant mode.

use crate::denial::Code;

/// Counters: they only grow, and all workers of a node add to the same ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Counter {
    /// The Tenant Manager answered a lookup with a usable record.
    TenantConnections,
    /// A lookup failed; the Tenant Manager said nothing that can be used.
    TenantConnectionErrors(LookupFailure),
    /// A request was let go in a tenant's name.
    TenantMessagesProcessed,
    /// A key of a JWK set was refused when it was loaded. Each VM loads the set: one bad key
    /// counts once for every worker, once for the main thread and once for the trial run of a
    /// configuration.
    KeysRefused,
    /// A bound was reached: a request was turned away because too many waited already, or too
    /// many lookups were under way.
    LookupsOverloaded,
    /// A bound was reached: a tenant that was still fresh left a full cache.
    CacheEvictions,
    /// A request was denied with this code.
    Denials(Code),
}

/// Why a lookup failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LookupFailure {
    /// The call could not be made (unknown cluster, no endpoint) or was reset in mid-answer.
    Unreachable,
    /// The Tenant Manager answered with a 5xx status, or Envoy in its place: 503 for a refused
    /// connection, 504 when nothing came in time.
    ServerError,
    /// Every configured API key was answered with 401.
    Unauthorized,
    /// Any other status that the answer table does not know as an outcome.
    UnexpectedStatus,
    /// A 200 whose body is too large, no valid record, or about another tenant.
    BadRecord,
}

impl LookupFailure {
    /// The failure as a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::ServerError => "server_error",
            Self::Unauthorized => "unauthorized",
            Self::UnexpectedStatus => "unexpected_status",
            Self::BadRecord => "bad_record",
        }
    }

    /// What it means, for the person on call.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Unreachable => "the call was reset or could not be made (no such cluster, no endpoint)",
            Self::ServerError => "5xx, or Envoy's own 503 and 504 for no connection and no answer in time",
            Self::Unauthorized => "every API key is answered with 401",
            Self::UnexpectedStatus => "a status without a meaning here",
            Self::BadRecord => "a 200 that is too large, no record, or about another tenant",
        }
    }
}

/// Gauges: they go up and down, shared by all workers of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Gauge {
    /// Tenant records that workers hold in their caches, summed over the workers.
    TenantConsumersActive,
}

impl Counter {
    /// The counters without those of denials. Each stands at its [`Counter::index`].
    const FIXED: [Self; 10] = [
        Self::TenantConnections,
        Self::TenantConnectionErrors(LookupFailure::Unreachable),
        Self::TenantConnectionErrors(LookupFailure::ServerError),
        Self::TenantConnectionErrors(LookupFailure::Unauthorized),
        Self::TenantConnectionErrors(LookupFailure::UnexpectedStatus),
        Self::TenantConnectionErrors(LookupFailure::BadRecord),
        Self::TenantMessagesProcessed,
        Self::KeysRefused,
        Self::LookupsOverloaded,
        Self::CacheEvictions,
    ];

    /// Every counter there is, in the order of [`Counter::index`], so that all of them can be
    /// shown before they move.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::FIXED
            .into_iter()
            .chain(Code::ALL.iter().copied().map(Self::Denials))
    }

    /// The place in [`Counter::all`].
    pub fn index(self) -> usize {
        match self {
            Self::TenantConnections => 0,
            Self::TenantConnectionErrors(LookupFailure::Unreachable) => 1,
            Self::TenantConnectionErrors(LookupFailure::ServerError) => 2,
            Self::TenantConnectionErrors(LookupFailure::Unauthorized) => 3,
            Self::TenantConnectionErrors(LookupFailure::UnexpectedStatus) => 4,
            Self::TenantConnectionErrors(LookupFailure::BadRecord) => 5,
            Self::TenantMessagesProcessed => 6,
            Self::KeysRefused => 7,
            Self::LookupsOverloaded => 8,
            Self::CacheEvictions => 9,
            Self::Denials(code) => {
                let place = Code::ALL.iter().position(|other| *other == code);
                Self::FIXED.len().saturating_add(place.unwrap_or_default())
            }
        }
    }

    /// The name under which the host knows the counter.
    pub fn name(self) -> &'static str {
        match self {
            Self::TenantConnections => "tenant_connections_total",
            Self::TenantConnectionErrors(failure) => match failure {
                LookupFailure::Unreachable => "tenant_connection_errors_total.reason=unreachable~",
                LookupFailure::ServerError => "tenant_connection_errors_total.reason=server_error~",
                LookupFailure::Unauthorized => "tenant_connection_errors_total.reason=unauthorized~",
                LookupFailure::UnexpectedStatus => "tenant_connection_errors_total.reason=unexpected_status~",
                LookupFailure::BadRecord => "tenant_connection_errors_total.reason=bad_record~",
            },
            Self::TenantMessagesProcessed => "tenant_messages_processed_total",
            Self::KeysRefused => "tenantgate_keys_refused_total",
            Self::LookupsOverloaded => "tenantgate_lookups_overloaded_total",
            Self::CacheEvictions => "tenantgate_cache_evictions_total",
            Self::Denials(code) => code.counter_name(),
        }
    }
}

impl Gauge {
    /// The name under which the host knows the gauge.
    pub fn name(self) -> &'static str {
        match self {
            Self::TenantConsumersActive => "tenant_consumers_active",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_stands_at_its_index() {
        for (index, counter) in Counter::all().enumerate() {
            assert_eq!(counter.index(), index, "{}", counter.name());
        }
    }
}
