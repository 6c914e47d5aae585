//! The configuration document as it is written: names, types and nothing else. Every member is
//! optional here; what is needed is `compile`'s business.

use std::fmt;

use serde_json::Value;

use super::error::Pointer;
pub(super) use super::read::Members;
use super::read::{Misfits, Read, Struct, structure};

/// A number, judged where its bounds are known.
pub(super) type Number = Value;

/// An enumeration of words.
macro_rules! word {
    ($(#[$doc:meta])* $visibility:vis enum $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        $visibility enum $name { $($(#[$variant_doc])* $variant),+ }

        impl crate::config::read::Read for $name {
            fn read(
                value: serde_json::Value,
                at: &crate::config::Pointer,
                misfits: &mut crate::config::read::Misfits,
            ) -> Option<Self> {
                let place = crate::config::read::one_of(&[$($word),+], &value, at, misfits)?;
                [$(Self::$variant),+].get(place).copied()
            }
        }
    };
}
pub(super) use word;

/// An object of the document: every member optional, no member that is not named here.
macro_rules! object {
    ($(#[$doc:meta])* $visibility:vis struct $name:ident { $($(#[$member_doc:meta])* $member_visibility:vis $member:ident: Option<$type:ty>),+ $(,)? }) => {
        $(#[$doc])*
        $visibility struct $name { $($(#[$member_doc])* $member_visibility $member: Option<$type>),+ }

        impl Struct for $name {
            fn members(&self) -> &'static [&'static str] {
                &[$(stringify!($member)),+]
            }

            fn take(&mut self, member: &str, value: Value, at: &Pointer, misfits: &mut Misfits) {
                match member {
                    $(stringify!($member) => self.$member = Read::read(value, at, misfits),)+
                    _ => {}
                }
            }
        }

        impl Read for $name {
            fn read(value: Value, at: &Pointer, misfits: &mut Misfits) -> Option<Self> {
                let mut object = Self::default();
                structure(&mut object, value, at, misfits).then_some(object)
            }
        }
    };
}

object! {
    /// The whole document.
    #[derive(Debug, Default)]
    pub(super) struct RawConfig {
        pub(super) version: Option<Version>,
        pub(super) enabled: Option<bool>,
        pub(super) service: Option<String>,
        pub(super) environment: Option<String>,
        pub(super) enforcement: Option<Enforcement>,
        pub(super) enforce: Option<RawEnforce>,
        pub(super) paths: Option<RawPaths>,
        pub(super) auth: Option<RawAuth>,
        pub(super) tenant_id: Option<RawTenantId>,
        pub(super) tenant_manager: Option<RawTenantManager>,
        pub(super) modules: Option<RawModules>,
        pub(super) scope: Option<RawScope>,
        pub(super) rate_limit: Option<RawRateLimit>,
        pub(super) events: Option<RawEvents>,
        pub(super) errors: Option<RawErrors>,
        pub(super) telemetry: Option<RawTelemetry>,
    }
}

word! {
    pub(super) enum Enforcement { Enforce = "enforce", Report = "report" }
}

object! {
    #[derive(Debug, Default)]
    pub(super) struct RawEnforce {
        pub(super) cut_streams: Option<bool>,
    }
}

word! {
    pub(super) enum Version { V1 = "v1" }
}

object! {
    #[derive(Debug, Default)]
    pub(super) struct RawPaths {
        pub(super) public: Option<Vec<RawPublicPath>>,
        pub(super) hazardous: Option<Hazardous>,
        pub(super) connect: Option<Connect>,
    }
}

word! {
    pub(super) enum Hazardous { Reject = "reject", Protect = "protect" }
}

word! {
    pub(super) enum Connect { Deny = "deny", Allow = "allow" }
}

object! {
    #[derive(Debug, Default)]
    pub(super) struct RawPublicPath {
        pub(super) prefix: Option<String>,
        pub(super) methods: Option<Vec<String>>,
    }
}

object! {
    #[derive(Debug, Default)]
    pub(super) struct RawAuth {
        pub(super) mode: Option<AuthMode>,
        pub(super) max_token_bytes: Option<Number>,
        pub(super) require_exp: Option<bool>,
        pub(super) leeway_seconds: Option<Number>,
        pub(super) accepted_types: Option<Vec<String>>,
        pub(super) forward_token: Option<bool>,
        pub(super) header: Option<String>,
        pub(super) issuers: Option<Vec<RawIssuer>>,
        pub(super) token_cache: Option<RawTokenCache>,
        pub(super) upstream_metadata: Option<RawMetadata>,
    }
}

word! {
    pub(super) enum AuthMode { Verify = "verify", UpstreamMetadata = "upstream_metadata" }
}

object! {
    #[derive(Debug, Default)]
    pub(super) struct RawTokenCache {
        pub(super) max_entries: Option<Number>,
        pub(super) max_bytes: Option<Number>,
        pub(super) ttl_seconds: Option<Number>,
    }
}

object! {
    #[derive(Debug, Default)]
    pub(super) struct RawMetadata {
        pub(super) namespace: Option<String>,
        pub(super) payload: Option<String>,
    }
}

object! {
    #[derive(Debug, Default)]
    pub(super) struct RawIssuer {
        pub(super) issuer: Option<String>,
        pub(super) audiences: Option<Vec<String>>,
        pub(super) algorithms: Option<Vec<String>>,
        pub(super) tenants: Option<RawTenants>,
        pub(super) jwks: Option<RawJwks>,
    }
}

/// `any`, or an object.
#[derive(Debug)]
pub(super) enum RawTenants {
    Any,
    Some(RawTenantSet),
}

object! {
    #[derive(Debug, Default)]
    pub(super) struct RawTenantSet {
        pub(super) ids: Option<Vec<String>>,
        pub(super) prefixes: Option<Vec<String>>,
    }
}

object! {
    #[derive(Debug, Default)]
    pub(super) struct RawJwks {
        pub(super) inline: Option<RawJwkSet>,
        pub(super) remote: Option<RawRemoteJwks>,
    }
}

object! {
    #[derive(Debug, Default)]
    pub(super) struct RawRemoteJwks {
        pub(super) cluster: Option<String>,
        pub(super) authority: Option<String>,
        pub(super) path: Option<String>,
        pub(super) timeout_ms: Option<Number>,
        pub(super) refresh_seconds: Option<Number>,
        pub(super) max_stale_seconds: Option<Number>,
        pub(super) unknown_kid_cooldown_seconds: Option<Number>,
    }
}

object! {
    /// A JWK set (RFC 7517 §5). Its keys are judged one by one when they are loaded.
    #[derive(Debug, Default)]
    pub(super) struct RawJwkSet {
        pub(super) keys: Option<Vec<Value>>,
    }
}

object! {
    #[derive(Debug, Default)]
    pub(super) struct RawTenantId {
        pub(super) claim: Option<String>,
        pub(super) fold_uuid: Option<bool>,
    }
}

object! {
    #[derive(Debug, Default)]
    pub(super) struct RawTenantManager {
        pub(super) cluster: Option<String>,
        pub(super) authority: Option<String>,
        pub(super) path: Option<String>,
        pub(super) api_keys: Option<Vec<RawSecret>>,
        pub(super) timeout_ms: Option<Number>,
        pub(super) max_body_bytes: Option<Number>,
        pub(super) max_waiters: Option<Number>,
        pub(super) on_unavailable: Option<super::OnUnavailable>,
        pub(super) cache: Option<RawCache>,
        pub(super) breaker: Option<RawBreaker>,
        pub(super) discovery: Option<RawDiscovery>,
    }
}

object! {
    /// A secret: literally, or the name of an environment variable of the VM.
    #[derive(Default)]
    pub(super) struct RawSecret {
        pub(super) value: Option<String>,
        pub(super) env: Option<String>,
    }
}

impl fmt::Debug for RawSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawSecret")
            .field("env", &self.env)
            .finish_non_exhaustive()
    }
}

object! {
    #[derive(Debug, Default)]
    pub(super) struct RawCache {
        pub(super) ttl_seconds: Option<Number>,
        pub(super) stale_while_revalidate_seconds: Option<Number>,
        pub(super) stale_if_error_seconds: Option<Number>,
        pub(super) negative_ttl_seconds: Option<Number>,
        pub(super) max_entries: Option<Number>,
        pub(super) max_bytes: Option<Number>,
        pub(super) shared_slots: Option<Number>,
    }
}

object! {
    #[derive(Debug, Default)]
    pub(super) struct RawBreaker {
        pub(super) threshold: Option<Number>,
        pub(super) open_seconds: Option<Number>,
    }
}

object! {
    #[derive(Debug, Default)]
    pub(super) struct RawDiscovery {
        pub(super) path: Option<String>,
        pub(super) interval_seconds: Option<Number>,
    }
}

object! {
    #[derive(Debug, Default)]
    pub(super) struct RawModules {
        pub(super) default: Option<String>,
        pub(super) routes: Option<Vec<RawModuleRoute>>,
    }
}

object! {
    #[derive(Debug, Default)]
    pub(super) struct RawModuleRoute {
        pub(super) prefix: Option<String>,
        pub(super) module: Option<String>,
    }
}

object! {
    #[derive(Debug, Default)]
    pub(super) struct RawScope {
        pub(super) emit: Option<RawEmit>,
        pub(super) headers: Option<Vec<RawScopeRule>>,
        pub(super) path: Option<Vec<RawPathRule>>,
        pub(super) response: Option<Vec<RawResponseRule>>,
        pub(super) emit_claims: Option<Members<String>>,
        pub(super) properties: Option<bool>,
    }
}

object! {
    #[derive(Debug, Default)]
    pub(super) struct RawEmit {
        pub(super) tenant_id: Option<String>,
        pub(super) slug: Option<String>,
        pub(super) isolation_mode: Option<String>,
        pub(super) schema: Option<String>,
        pub(super) module: Option<String>,
        pub(super) vhost: Option<String>,
    }
}

object! {
    #[derive(Debug, Default)]
    pub(super) struct RawScopeRule {
        pub(super) name: Option<String>,
        pub(super) kind: Option<super::Kind>,
        pub(super) pattern: Option<bool>,
        pub(super) required: Option<bool>,
    }
}

object! {
    #[derive(Debug, Default)]
    pub(super) struct RawPathRule {
        pub(super) prefix: Option<String>,
        pub(super) kind: Option<super::Kind>,
    }
}

object! {
    #[derive(Debug, Default)]
    pub(super) struct RawResponseRule {
        pub(super) name: Option<String>,
        pub(super) kind: Option<super::Kind>,
    }
}

object! {
    #[derive(Debug, Default)]
    pub(super) struct RawRateLimit {
        pub(super) requests_per_second: Option<Number>,
        pub(super) burst: Option<Number>,
        pub(super) shared_slots: Option<Number>,
        pub(super) headers: Option<bool>,
        pub(super) overrides: Option<Members<RawLimit>>,
    }
}

object! {
    #[derive(Debug, Default)]
    pub(super) struct RawLimit {
        pub(super) requests_per_second: Option<Number>,
        pub(super) burst: Option<Number>,
    }
}

object! {
    #[derive(Debug, Default)]
    pub(super) struct RawTelemetry {
        pub(super) tenant_label: Option<bool>,
        pub(super) max_tenants: Option<Number>,
    }
}

object! {
    #[derive(Debug, Default)]
    pub(super) struct RawEvents {
        pub(super) path: Option<String>,
        pub(super) api_keys: Option<Vec<RawSecret>>,
    }
}

object! {
    #[derive(Debug, Default)]
    pub(super) struct RawErrors {
        pub(super) overrides: Option<Members<RawOverride>>,
    }
}

object! {
    #[derive(Debug, Default)]
    pub(super) struct RawOverride {
        pub(super) status: Option<Number>,
        pub(super) code: Option<String>,
        pub(super) title: Option<String>,
        pub(super) message: Option<String>,
    }
}

impl Read for RawTenants {
    fn read(value: Value, at: &Pointer, misfits: &mut Misfits) -> Option<Self> {
        match value {
            Value::Object(_) => Read::read(value, at, misfits).map(Self::Some),
            Value::String(word) if word == "any" => Some(Self::Any),
            other => {
                misfits.word(&other, at, "`any`, or an object with `ids` and `prefixes`");
                None
            }
        }
    }
}
