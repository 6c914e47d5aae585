//! Every counter and gauge, with when it moves.
//!
//! Names with a tag are written so that Envoy's `stats_tags` can take the tag out again:
//! `name.tag=value~` becomes `name{tag="value"}` with the tag rules of `envoy/envoy.yaml`.
//! None of them moves in single-tenant mode.

/// Counters: they only grow, and all workers of a node add to the same ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Counter {
    /// The Tenant Manager answered a lookup with a usable record.
    TenantConnections,
    /// A lookup failed; the Tenant Manager said nothing that can be used.
    TenantConnectionErrors(LookupFailure),
    /// A request was forwarded in a tenant's name.
    TenantMessagesProcessed,
    /// A key of a JWK set was refused when it was loaded.
    KeysRefused,
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

/// Gauges: they go up and down, shared by all workers of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Gauge {
    /// Tenant records that workers hold in their caches, summed over the workers.
    TenantConsumersActive,
}

impl Counter {
    /// Every counter there is, so that all of them can be shown before they move.
    pub const ALL: [Self; 8] = [
        Self::TenantConnections,
        Self::TenantConnectionErrors(LookupFailure::Unreachable),
        Self::TenantConnectionErrors(LookupFailure::ServerError),
        Self::TenantConnectionErrors(LookupFailure::Unauthorized),
        Self::TenantConnectionErrors(LookupFailure::UnexpectedStatus),
        Self::TenantConnectionErrors(LookupFailure::BadRecord),
        Self::TenantMessagesProcessed,
        Self::KeysRefused,
    ];

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
