//! Every counter, gauge and histogram, with when it moves.
//!
//! Names with a tag are written so that Envoy's `stats_tags` can take the tag out again:
//! `name.tag=value~` becomes `name{tag="value"}` with the tag rules of `envoy/envoy.yaml`.
//! None of them moves in single-tenant mode.

use crate::authn::Refusal;
use crate::denial::Code;

/// Values of a tag: each a word.
macro_rules! words {
    ($(#[$doc:meta])* pub enum $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant),+ }

        impl $name {
            /// Every one there is.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// The place in [`Self::ALL`].
            pub fn place(self) -> usize {
                place(Self::ALL, self)
            }
        }
    };
}

/// Counters without a tag.
macro_rules! singles {
    ($($variant:ident = $name:literal),+ $(,)?) => {
        impl Counter {
            const SINGLES: &[Self] = &[$(Self::$variant),+];

            fn single_name(self) -> Option<&'static str> {
                match self {
                    $(Self::$variant => Some($name),)+
                    _ => None,
                }
            }
        }
    };
}

/// Counters: they only grow, and all workers of a node add to the same ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Counter {
    /// A request was let go in a tenant's name.
    TenantMessagesProcessed,
    /// The Tenant Manager answered a lookup with a usable record.
    TenantConnections,
    /// A key of a JWK set was refused when it was loaded; one of a fetched set is counted when it
    /// is seen first. Each VM loads the set: one bad key counts once for every worker, once for
    /// the main thread and, of a set in the configuration, once for its trial run.
    KeysRefused,
    /// An issuer's keys were asked for, by a worker, the main thread or the trial run of a
    /// configuration.
    JwksFetches,
    /// The signature of a token was checked: the token was not remembered.
    TokensVerified,
    /// A bound was reached: a verified token that still held left a full cache.
    TokenCacheEvictions,
    /// A bound was reached: a request was turned away because too many waited already, or too
    /// many lookups were under way.
    LookupsOverloaded,
    /// A bound was reached: a tenant that was still fresh left a full cache of a worker.
    CacheEvictions,
    /// A bound was reached: a tenant that was still fresh left a full set of the node's table.
    SharedEvictions,
    /// A bound was reached: a tenant that was to be looked up without anybody waiting was left to the
    /// requests for it.
    BackgroundDropped,
    /// The circuit to the Tenant Manager opened.
    CircuitOpened,
    /// The list of active tenants changed nothing: it did not come, or could not be believed.
    DiscoveryErrors,
    /// A tenant was listed as active and is not any more.
    DiscoveryGone,
    /// With `on_unavailable: allow`, a request was let go on its verified claim alone.
    UnverifiedRequests,
    /// A bound was reached: the place of a tenant's rate limit was not to be had, and a worker limited
    /// for itself.
    RateLimitFallbacks,
    /// A response held a key of another tenant: it was withheld, or the trailer was taken out.
    ResponseLeaks,
    /// With `enforce.cut_streams`, a stream was ended because its tenant is refused.
    StreamsCut,
    /// A bound was reached: a tenant's request was counted under `aggregate`, since as many tenants as
    /// may have a label have one.
    TenantLabelsAggregated,
    /// Bytes that answers to lookups and to questions for lists and keys had in their bodies.
    CalloutBytes,
    /// A lookup failed; the Tenant Manager said nothing that can be used.
    TenantConnectionErrors(LookupFailure),
    /// A fetch brought no usable set.
    JwksFetchErrors(FetchFailure),
    /// What a cache had to say about a request's tenant.
    CacheLookups(Level, CacheOutcome),
    /// A caller was not believed, for this reason.
    AuthRefusals(Refusal),
    /// A request was denied with this code.
    Denials(Code),
    /// With `enforcement: report`, a request was let go that would have been denied with this code.
    WouldDeny(Code),
    /// An event came.
    Events(EventType, EventOutcome),
}

singles! {
    TenantMessagesProcessed = "tenant_messages_processed_total",
    TenantConnections = "tenant_connections_total",
    KeysRefused = "tenantgate_keys_refused_total",
    JwksFetches = "tenantgate_jwks_fetches_total",
    TokensVerified = "tenantgate_tokens_verified_total",
    TokenCacheEvictions = "tenantgate_token_cache_evictions_total",
    LookupsOverloaded = "tenantgate_lookups_overloaded_total",
    CacheEvictions = "tenantgate_cache_evictions_total",
    SharedEvictions = "tenantgate_shared_evictions_total",
    BackgroundDropped = "tenantgate_background_dropped_total",
    CircuitOpened = "tenantgate_circuit_opened_total",
    DiscoveryErrors = "tenantgate_discovery_errors_total",
    DiscoveryGone = "tenantgate_discovery_gone_total",
    UnverifiedRequests = "tenantgate_unverified_requests_total",
    RateLimitFallbacks = "tenantgate_rate_limit_fallbacks_total",
    ResponseLeaks = "tenantgate_response_leaks_total",
    StreamsCut = "tenantgate_streams_cut_total",
    TenantLabelsAggregated = "tenantgate_tenant_labels_aggregated_total",
    CalloutBytes = "tenantgate_callout_response_bytes_total",
}

words! {
    /// What was decided about a request whose tenant is proven.
    pub enum Decision {
        /// It was let go.
        Allowed = "allowed",
        /// It was denied, or with `enforcement: report` would have been.
        Denied = "denied",
    }
}

/// The counter of a tenant's requests, under a label from [`crate::labels`].
pub fn tenant_counter(label: &str, decision: Decision) -> String {
    format!(
        "tenantgate_tenant_requests_total.tenant={label}~.decision={}~",
        decision.name()
    )
}

words! {
    /// Why a lookup failed.
    pub enum LookupFailure {
        /// The call could not be made (unknown cluster, no endpoint) or was reset in mid-answer.
        Unreachable = "unreachable",
        /// The Tenant Manager answered with a 5xx status, or Envoy in its place: 503 for a refused
        /// connection, 504 when nothing came in time.
        ServerError = "server_error",
        /// Every configured API key was answered with 401.
        Unauthorized = "unauthorized",
        /// 429: the Tenant Manager wants to be left alone.
        RateLimited = "rate_limited",
        /// 400 or another 4xx without a meaning here: it does not like the question.
        Rejected = "rejected",
        /// A status that the answer table does not know: 2xx other than 200, 3xx.
        UnexpectedStatus = "unexpected_status",
        /// A 200 whose body is too large, no valid record, or about another tenant.
        BadRecord = "bad_record",
    }
}

impl LookupFailure {
    /// What it means, for the person on call.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Unreachable => "the call was reset or could not be made (no such cluster, no endpoint)",
            Self::ServerError => "5xx, or Envoy's own 503 and 504 for no connection and no answer in time",
            Self::Unauthorized => "every API key is answered with 401",
            Self::RateLimited => "429, nobody asks for as long as it says",
            Self::Rejected => "400 or another 4xx without a meaning here; the tenant is not asked about for a second",
            Self::UnexpectedStatus => "a status without a meaning here",
            Self::BadRecord => "a 200 that is too large, no record, or about another tenant",
        }
    }
}

words! {
    /// Why a fetch of keys failed.
    pub enum FetchFailure {
        /// The call could not be made (unknown cluster, no endpoint), was reset or got lost.
        Unreachable = "unreachable",
        /// 5xx, or Envoy in the issuer's place: 503 for a refused connection, 504 when nothing came in
        /// time.
        ServerError = "server_error",
        /// Any other status but 200.
        UnexpectedStatus = "unexpected_status",
        /// A 200 with more than 256 KiB.
        TooLarge = "too_large",
        /// A 200 that is no strict JSON object with a list `keys`.
        BadSet = "bad_set",
        /// A JWK set without a key that can be used with the issuer's `algorithms`.
        NoUsableKey = "no_usable_key",
    }
}

impl FetchFailure {
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

words! {
    /// Whose cache.
    pub enum Level {
        /// The worker's (L1).
        Local = "local",
        /// The node's (L2); what it does not have is asked for.
        Shared = "shared",
    }
}

words! {
    /// What a cache had.
    pub enum CacheOutcome {
        /// A fresh record.
        Hit = "hit",
        /// A record a little too old, served while it is asked for anew.
        Stale = "stale",
        /// A refusal.
        Negative = "negative",
        /// Nothing.
        Miss = "miss",
        /// A record that serves because the Tenant Manager is unavailable.
        Fallback = "fallback",
    }
}

words! {
    /// What an event is about.
    pub enum EventType {
        /// `tenant.created`.
        TenantCreated = "tenant_created",
        /// `tenant.activated`.
        TenantActivated = "tenant_activated",
        /// `tenant.updated`.
        TenantUpdated = "tenant_updated",
        /// `tenant.suspended`.
        TenantSuspended = "tenant_suspended",
        /// `tenant.deleted`.
        TenantDeleted = "tenant_deleted",
        /// `tenant.service.associated`.
        ServiceAssociated = "tenant_service_associated",
        /// `tenant.service.disassociated`.
        ServiceDisassociated = "tenant_service_disassociated",
        /// `tenant.service.suspended`.
        ServiceSuspended = "tenant_service_suspended",
        /// `tenant.service.purged`.
        ServicePurged = "tenant_service_purged",
        /// `tenant.service.reactivated`.
        ServiceReactivated = "tenant_service_reactivated",
        /// `tenant.credentials.rotated`.
        CredentialsRotated = "tenant_credentials_rotated",
        /// `tenant.connections.updated`.
        ConnectionsUpdated = "tenant_connections_updated",
        /// `tenant.cache.invalidate`.
        CacheInvalidate = "tenant_cache_invalidate",
        /// `cache.invalidate_all`.
        InvalidateAll = "cache_invalidate_all",
        /// Any other.
        Unknown = "unknown",
    }
}

words! {
    /// What became of an event.
    pub enum EventOutcome {
        /// It was carried out.
        Applied = "applied",
        /// A later one about the tenant had been carried out before.
        Outdated = "outdated",
        /// It is about another service.
        OtherService = "other_service",
        /// It is about another environment.
        OtherEnvironment = "other_environment",
        /// Its type has no meaning here.
        Unknown = "unknown",
        /// It cannot be read.
        Malformed = "malformed",
    }
}

/// Gauges: they go up and down, shared by all workers of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Gauge {
    /// Records of active tenants in the node's cache, forgotten ones not swept out yet included.
    TenantConsumersActive,
    /// 0: the circuit to the Tenant Manager is closed; 1: open; 2: half-open, a probe is under way.
    BreakerState,
    /// Requests that wait.
    Waiters,
    /// Moves with every change that other workers must hear of. What it shows means nothing.
    Bell,
}

/// Histograms, shared by all workers of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Histogram {
    /// From the beginning of a lookup to its answer, in milliseconds.
    LookupDuration,
}

impl Counter {
    /// Every counter there is, in the order of [`Counter::index`].
    pub fn all() -> impl Iterator<Item = Self> {
        let caches = Level::ALL.iter().flat_map(|level| {
            CacheOutcome::ALL
                .iter()
                .map(|outcome| Self::CacheLookups(*level, *outcome))
        });
        let events = EventType::ALL
            .iter()
            .flat_map(|kind| EventOutcome::ALL.iter().map(|outcome| Self::Events(*kind, *outcome)));
        Self::SINGLES
            .iter()
            .copied()
            .chain(caches)
            .chain(LookupFailure::ALL.iter().copied().map(Self::TenantConnectionErrors))
            .chain(FetchFailure::ALL.iter().copied().map(Self::JwksFetchErrors))
            .chain(Code::ALL.iter().copied().map(Self::Denials))
            .chain(Code::ALL.iter().copied().map(Self::WouldDeny))
            .chain(Refusal::ALL.iter().copied().map(Self::AuthRefusals))
            .chain(events)
    }

    /// The place in [`Counter::all`].
    pub fn index(self) -> usize {
        const CACHES: usize = Counter::SINGLES.len();
        const LOOKUPS: usize = CACHES.saturating_add(Level::ALL.len().saturating_mul(CacheOutcome::ALL.len()));
        const FETCHES: usize = LOOKUPS.saturating_add(LookupFailure::ALL.len());
        const DENIALS: usize = FETCHES.saturating_add(FetchFailure::ALL.len());
        const REPORTS: usize = DENIALS.saturating_add(Code::ALL.len());
        const REFUSALS: usize = REPORTS.saturating_add(Code::ALL.len());
        const EVENTS: usize = REFUSALS.saturating_add(Refusal::ALL.len());
        let within = |row: usize, rows: usize, column: usize| row.saturating_mul(rows).saturating_add(column);
        match self {
            Self::CacheLookups(level, outcome) => {
                CACHES.saturating_add(within(level.place(), CacheOutcome::ALL.len(), outcome.place()))
            }
            Self::TenantConnectionErrors(failure) => LOOKUPS.saturating_add(failure.place()),
            Self::JwksFetchErrors(failure) => FETCHES.saturating_add(failure.place()),
            Self::Denials(code) => DENIALS.saturating_add(place(Code::ALL, code)),
            Self::WouldDeny(code) => REPORTS.saturating_add(place(Code::ALL, code)),
            Self::AuthRefusals(refusal) => REFUSALS.saturating_add(place(Refusal::ALL, refusal)),
            Self::Events(kind, outcome) => {
                EVENTS.saturating_add(within(kind.place(), EventOutcome::ALL.len(), outcome.place()))
            }
            single => place(Self::SINGLES, single),
        }
    }

    /// Whether it shows before it moves. Those of events are too many for that, and those of a report
    /// would be there for nothing.
    pub fn shows_at_once(self) -> bool {
        !matches!(self, Self::Events(..) | Self::WouldDeny(_))
    }

    /// Whether it moves with nearly every request, so that the host hears of it once in a second.
    pub fn is_batched(self) -> bool {
        self == Self::CacheLookups(Level::Local, CacheOutcome::Hit)
    }

    /// The name under which the host knows the counter.
    pub fn name(self) -> String {
        match self {
            Self::TenantConnectionErrors(failure) => {
                format!("tenant_connection_errors_total.reason={}~", failure.name())
            }
            Self::JwksFetchErrors(failure) => format!("tenantgate_jwks_fetch_errors_total.reason={}~", failure.name()),
            Self::CacheLookups(level, outcome) => format!(
                "tenantgate_cache_lookups_total.level={}~.outcome={}~",
                level.name(),
                outcome.name()
            ),
            Self::Denials(code) => format!("tenantgate_denials_total.code={}~", code.as_str()),
            Self::WouldDeny(code) => format!("tenantgate_would_deny_total.code={}~", code.as_str()),
            Self::AuthRefusals(refusal) => format!("tenantgate_auth_refusals_total.reason={}~", refusal.name()),
            Self::Events(kind, outcome) => format!(
                "tenantgate_events_total.type={}~.outcome={}~",
                kind.name(),
                outcome.name()
            ),
            single => single.single_name().unwrap_or_default().to_owned(),
        }
    }
}

fn place<T: PartialEq>(all: &[T], one: T) -> usize {
    all.iter().position(|other| *other == one).unwrap_or_default()
}

impl Gauge {
    /// Every gauge there is, in the order of [`Gauge::index`].
    pub const ALL: [Self; 4] = [
        Self::TenantConsumersActive,
        Self::BreakerState,
        Self::Waiters,
        Self::Bell,
    ];

    /// The place in [`Gauge::ALL`].
    pub fn index(self) -> usize {
        place(&Self::ALL, self)
    }

    /// The name under which the host knows the gauge.
    pub fn name(self) -> &'static str {
        match self {
            Self::TenantConsumersActive => "tenant_consumers_active",
            Self::BreakerState => "tenantgate_breaker_state",
            Self::Waiters => "tenantgate_waiters",
            Self::Bell => "tenantgate_epoch",
        }
    }
}

impl Histogram {
    /// The name under which the host knows the histogram.
    pub fn name(self) -> &'static str {
        match self {
            Self::LookupDuration => "tenantgate_lookup_duration_ms",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_counter_stands_at_its_index_under_a_name_of_its_own() {
        let mut names = BTreeSet::new();
        for (index, counter) in Counter::all().enumerate() {
            assert_eq!(counter.index(), index, "{}", counter.name());
            assert!(!counter.name().is_empty(), "{counter:?}");
            assert!(names.insert(counter.name()), "{counter:?}");
        }
    }
}
