//! The stable codes, each with its status and its title.

macro_rules! codes {
    ($($(#[$doc:meta])* $code:ident = $status:literal $text:literal $title:literal,)+) => {
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

            /// The HTTP status.
            pub fn status(self) -> u16 {
                match self { $(Self::$code => $status),+ }
            }

            /// The title in the body.
            pub fn title(self) -> &'static str {
                match self { $(Self::$code => $title),+ }
            }
        }
    };
}

codes! {
    /// Hazardous target, or `CONNECT`.
    PathRejected = 400 "PATH_REJECTED" "Bad Request",
    /// A key cannot be scoped.
    KeyRejected = 400 "KEY_REJECTED" "Bad Request",
    /// No usable credential, or no tenant claim.
    TenantIdRequired = 401 "TENANT_ID_REQUIRED" "Unauthorized",
    /// The token was refused.
    TokenInvalid = 401 "TOKEN_INVALID" "Unauthorized",
    /// The claim is malformed.
    TenantIdInvalid = 401 "TENANT_ID_INVALID" "Unauthorized",
    /// The tenant is refused.
    TenantSuspended = 403 "TENANT_SUSPENDED" "Service Suspended",
    /// Access is denied.
    TenantAccessDenied = 403 "TENANT_ACCESS_DENIED" "Access Denied",
    /// The tenant is unknown.
    TenantNotFound = 404 "TENANT_NOT_FOUND" "Tenant Not Found",
    /// No module serves the path.
    RouteNotFound = 404 "ROUTE_NOT_FOUND" "Not Found",
    /// The tenant is not provisioned.
    TenantNotProvisioned = 422 "TENANT_NOT_PROVISIONED" "Tenant Not Provisioned",
    /// The tenant has no usable schema.
    TenantSchemaInvalid = 422 "TENANT_SCHEMA_INVALID" "Tenant Schema Invalid",
    /// The tenant has asked too often.
    TenantRateLimited = 429 "TENANT_RATE_LIMITED" "Too Many Requests",
    /// The response names another tenant.
    TenantLeakBlocked = 502 "TENANT_LEAK_BLOCKED" "Bad Gateway",
    /// The module is not configured.
    ServiceNotConfigured = 503 "SERVICE_NOT_CONFIGURED" "Service Not Configured",
    /// The Tenant Manager gives no usable answer.
    TenantManagerUnavailable = 503 "TENANT_MANAGER_UNAVAILABLE" "Service Unavailable",
    /// It has given none for a while and is left alone.
    CircuitOpen = 503 "CIRCUIT_OPEN" "Service Unavailable",
    /// The issuer's keys have not come yet.
    KeysUnavailable = 503 "KEYS_UNAVAILABLE" "Service Unavailable",
    /// Too many wait.
    TenantLookupOverloaded = 503 "TENANT_LOOKUP_OVERLOADED" "Service Unavailable",
    /// Whoever sends tenant events has not the key.
    EventsUnauthorized = 401 "EVENTS_UNAUTHORIZED" "Unauthorized",
    /// Tenant events cannot be read.
    EventsMalformed = 400 "EVENTS_MALFORMED" "Bad Request",
    /// Tenant events could not be carried out.
    EventsNotTaken = 503 "EVENTS_NOT_TAKEN" "Service Unavailable",
    /// The host refused what is needed.
    InternalError = 500 "INTERNAL_ERROR" "Internal Server Error",
}

impl Code {
    /// Those that `errors.overrides` may name: all but what the senders of events get, and what is the
    /// host's fault. That is nobody's to reword.
    pub const OVERRIDABLE: &[Self] = &[
        Self::PathRejected,
        Self::KeyRejected,
        Self::TenantIdRequired,
        Self::TokenInvalid,
        Self::TenantIdInvalid,
        Self::TenantSuspended,
        Self::TenantAccessDenied,
        Self::TenantNotFound,
        Self::RouteNotFound,
        Self::TenantNotProvisioned,
        Self::TenantSchemaInvalid,
        Self::TenantRateLimited,
        Self::TenantLeakBlocked,
        Self::ServiceNotConfigured,
        Self::TenantManagerUnavailable,
        Self::CircuitOpen,
        Self::KeysUnavailable,
        Self::TenantLookupOverloaded,
    ];
}
