//! Every counter and gauge, with when it moves.
//!
//! Names with a tag are written so that Envoy's `stats_tags` can take the tag out again:
//! `name.tag=value~` becomes `name{tag="value"}` with the tag rules of `envoy/envoy.yaml`.
//! None of them moves in single-tenant mode.

use crate::authn::Refusal;
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
    /// A key of a JWK set was refused when it was loaded; one of a fetched set is counted when it
    /// is seen first. Each VM loads the set: one bad key counts once for every worker, once for
    /// the main thread and, of a set in the configuration, once for its trial run.
    KeysRefused,
    /// An issuer's keys were asked for, by a worker, the main thread or the trial run of a
    /// configuration.
    JwksFetches,
    /// A fetch brought no usable set.
    JwksFetchErrors(FetchFailure),
    /// The signature of a token was checked: the token was not remembered.
    TokensVerified,
    /// A bound was reached: a verified token that still held left a full cache.
    TokenCacheEvictions,
    /// A caller was not believed, for this reason.
    AuthRefusals(Refusal),
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

/// Why a fetch of keys failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FetchFailure {
    /// The call could not be made (unknown cluster, no endpoint), was reset or got lost.
    Unreachable,
    /// 5xx, or Envoy in the issuer's place: 503 for a refused connection, 504 when nothing came in
    /// time.
    ServerError,
    /// Any other status but 200.
    UnexpectedStatus,
    /// A 200 with more than 256 KiB.
    TooLarge,
    /// A 200 that is no strict JSON object with a list `keys`.
    BadSet,
    /// A JWK set without a key that can be used with the issuer's `algorithms`.
    NoUsableKey,
}

impl FetchFailure {
    /// The failure as a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::ServerError => "server_error",
            Self::UnexpectedStatus => "unexpected_status",
            Self::TooLarge => "too_large",
            Self::BadSet => "bad_set",
            Self::NoUsableKey => "no_usable_key",
        }
    }

    /// What it means, for the person on call.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Unreachable => "the call was reset or could not be made (no such cluster, no endpoint)",
            Self::ServerError => "5xx, or Envoy's own 503 and 504 for no connection and no answer in time",
            Self::UnexpectedStatus => "not 200; redirects are not followed",
            Self::TooLarge => "more than 256 KiB",
            Self::BadSet => "the answer is no JSON object with a list `keys`",
            Self::NoUsableKey => "none of the keys can be used with the issuer's `algorithms`",
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
    const FIXED: [Self; 19] = [
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
        Self::JwksFetches,
        Self::JwksFetchErrors(FetchFailure::Unreachable),
        Self::JwksFetchErrors(FetchFailure::ServerError),
        Self::JwksFetchErrors(FetchFailure::UnexpectedStatus),
        Self::JwksFetchErrors(FetchFailure::TooLarge),
        Self::JwksFetchErrors(FetchFailure::BadSet),
        Self::JwksFetchErrors(FetchFailure::NoUsableKey),
        Self::TokensVerified,
        Self::TokenCacheEvictions,
    ];

    /// Every counter there is, in the order of [`Counter::index`], so that all of them can be
    /// shown before they move.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::FIXED
            .into_iter()
            .chain(Code::ALL.iter().copied().map(Self::Denials))
            .chain(Refusal::ALL.iter().copied().map(Self::AuthRefusals))
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
            Self::JwksFetches => 10,
            Self::JwksFetchErrors(FetchFailure::Unreachable) => 11,
            Self::JwksFetchErrors(FetchFailure::ServerError) => 12,
            Self::JwksFetchErrors(FetchFailure::UnexpectedStatus) => 13,
            Self::JwksFetchErrors(FetchFailure::TooLarge) => 14,
            Self::JwksFetchErrors(FetchFailure::BadSet) => 15,
            Self::JwksFetchErrors(FetchFailure::NoUsableKey) => 16,
            Self::TokensVerified => 17,
            Self::TokenCacheEvictions => 18,
            Self::Denials(code) => {
                let place = Code::ALL.iter().position(|other| *other == code);
                Self::FIXED.len().saturating_add(place.unwrap_or_default())
            }
            Self::AuthRefusals(refusal) => {
                let place = Refusal::ALL.iter().position(|other| *other == refusal);
                Self::FIXED
                    .len()
                    .saturating_add(Code::ALL.len())
                    .saturating_add(place.unwrap_or_default())
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
            Self::JwksFetches => "tenantgate_jwks_fetches_total",
            Self::JwksFetchErrors(failure) => match failure {
                FetchFailure::Unreachable => "tenantgate_jwks_fetch_errors_total.reason=unreachable~",
                FetchFailure::ServerError => "tenantgate_jwks_fetch_errors_total.reason=server_error~",
                FetchFailure::UnexpectedStatus => "tenantgate_jwks_fetch_errors_total.reason=unexpected_status~",
                FetchFailure::TooLarge => "tenantgate_jwks_fetch_errors_total.reason=too_large~",
                FetchFailure::BadSet => "tenantgate_jwks_fetch_errors_total.reason=bad_set~",
                FetchFailure::NoUsableKey => "tenantgate_jwks_fetch_errors_total.reason=no_usable_key~",
            },
            Self::TokensVerified => "tenantgate_tokens_verified_total",
            Self::TokenCacheEvictions => "tenantgate_token_cache_evictions_total",
            Self::Denials(code) => code.counter_name(),
            Self::AuthRefusals(refusal) => refusal.counter_name(),
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
