//! The configuration document as it is written: names, types and nothing else. Every member is
//! optional here; what is needed is `compile`'s business.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use crate::json;

/// A number, judged where its bounds are known.
pub(super) type Number = Value;

/// An enumeration of words. Serde's own would also take an object with the word as its only
/// member, and say so.
macro_rules! word {
    ($(#[$doc:meta])* $visibility:vis enum $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        $visibility enum $name { $($(#[$variant_doc])* $variant),+ }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Word;

                impl serde::de::Visitor<'_> for Word {
                    type Value = $name;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str([$(concat!("`", $word, "`")),+].join(", ").as_str())
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        match text {
                            $($word => Ok($name::$variant),)+
                            other => Err(E::invalid_value(serde::de::Unexpected::Str(other), &self)),
                        }
                    }
                }

                deserializer.deserialize_str(Word)
            }
        }
    };
}
pub(super) use word;

/// The whole document.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawConfig {
    pub(super) version: Option<Version>,
    pub(super) enabled: Option<bool>,
    pub(super) service: Option<String>,
    pub(super) environment: Option<String>,
    #[serde(deserialize_with = "json::object")]
    pub(super) paths: Option<RawPaths>,
    #[serde(deserialize_with = "json::object")]
    pub(super) auth: Option<RawAuth>,
    #[serde(deserialize_with = "json::object")]
    pub(super) tenant_id: Option<RawTenantId>,
    #[serde(deserialize_with = "json::object")]
    pub(super) tenant_manager: Option<RawTenantManager>,
    #[serde(deserialize_with = "json::object")]
    pub(super) modules: Option<RawModules>,
    #[serde(deserialize_with = "json::object")]
    pub(super) scope: Option<RawScope>,
    #[serde(deserialize_with = "json::object")]
    pub(super) events: Option<RawEvents>,
}

word! {
    pub(super) enum Version { V1 = "v1" }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawPaths {
    #[serde(deserialize_with = "json::objects")]
    pub(super) public: Option<Vec<RawPublicPath>>,
    pub(super) hazardous: Option<Hazardous>,
    pub(super) connect: Option<Connect>,
}

word! {
    pub(super) enum Hazardous { Reject = "reject", Protect = "protect" }
}

word! {
    pub(super) enum Connect { Deny = "deny", Allow = "allow" }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawPublicPath {
    pub(super) prefix: Option<String>,
    pub(super) methods: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawAuth {
    pub(super) mode: Option<AuthMode>,
    pub(super) max_token_bytes: Option<Number>,
    pub(super) require_exp: Option<bool>,
    pub(super) leeway_seconds: Option<Number>,
    pub(super) accepted_types: Option<Vec<String>>,
    pub(super) forward_token: Option<bool>,
    pub(super) header: Option<String>,
    #[serde(deserialize_with = "json::objects")]
    pub(super) issuers: Option<Vec<RawIssuer>>,
    #[serde(deserialize_with = "json::object")]
    pub(super) token_cache: Option<RawTokenCache>,
    #[serde(deserialize_with = "json::object")]
    pub(super) upstream_metadata: Option<RawMetadata>,
}

word! {
    pub(super) enum AuthMode { Verify = "verify", UpstreamMetadata = "upstream_metadata" }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawTokenCache {
    pub(super) max_entries: Option<Number>,
    pub(super) max_bytes: Option<Number>,
    pub(super) ttl_seconds: Option<Number>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawMetadata {
    pub(super) namespace: Option<String>,
    pub(super) payload: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawIssuer {
    pub(super) issuer: Option<String>,
    pub(super) audiences: Option<Vec<String>>,
    pub(super) algorithms: Option<Vec<String>>,
    pub(super) tenants: Option<RawTenants>,
    #[serde(deserialize_with = "json::object")]
    pub(super) jwks: Option<RawJwks>,
}

/// `any`, or an object.
#[derive(Debug)]
pub(super) enum RawTenants {
    Any,
    Some(RawTenantSet),
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawTenantSet {
    pub(super) ids: Option<Vec<String>>,
    pub(super) prefixes: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawJwks {
    #[serde(deserialize_with = "json::object")]
    pub(super) inline: Option<RawJwkSet>,
    #[serde(deserialize_with = "json::object")]
    pub(super) remote: Option<RawRemoteJwks>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawRemoteJwks {
    pub(super) cluster: Option<String>,
    pub(super) authority: Option<String>,
    pub(super) path: Option<String>,
    pub(super) timeout_ms: Option<Number>,
    pub(super) refresh_seconds: Option<Number>,
    pub(super) max_stale_seconds: Option<Number>,
    pub(super) unknown_kid_cooldown_seconds: Option<Number>,
}

/// A JWK set (RFC 7517 §5). Its keys are judged one by one when they are loaded.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawJwkSet {
    pub(super) keys: Option<Vec<Value>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawTenantId {
    pub(super) claim: Option<String>,
    pub(super) fold_uuid: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawTenantManager {
    pub(super) cluster: Option<String>,
    pub(super) authority: Option<String>,
    pub(super) path: Option<String>,
    #[serde(deserialize_with = "json::objects")]
    pub(super) api_keys: Option<Vec<RawSecret>>,
    pub(super) timeout_ms: Option<Number>,
    pub(super) max_body_bytes: Option<Number>,
    pub(super) max_waiters: Option<Number>,
    pub(super) on_unavailable: Option<OnUnavailable>,
    #[serde(deserialize_with = "json::object")]
    pub(super) cache: Option<RawCache>,
    #[serde(deserialize_with = "json::object")]
    pub(super) breaker: Option<RawBreaker>,
    #[serde(deserialize_with = "json::object")]
    pub(super) discovery: Option<RawDiscovery>,
}

word! {
    pub(super) enum OnUnavailable { Deny = "deny", Allow = "allow" }
}

/// A secret: literally, or the name of an environment variable of the VM.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawSecret {
    pub(super) value: Option<String>,
    pub(super) env: Option<String>,
}

impl fmt::Debug for RawSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawSecret")
            .field("env", &self.env)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawCache {
    pub(super) ttl_seconds: Option<Number>,
    pub(super) stale_while_revalidate_seconds: Option<Number>,
    pub(super) stale_if_error_seconds: Option<Number>,
    pub(super) negative_ttl_seconds: Option<Number>,
    pub(super) max_entries: Option<Number>,
    pub(super) max_bytes: Option<Number>,
    pub(super) shared_slots: Option<Number>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawBreaker {
    pub(super) threshold: Option<Number>,
    pub(super) open_seconds: Option<Number>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawDiscovery {
    pub(super) path: Option<String>,
    pub(super) interval_seconds: Option<Number>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawModules {
    pub(super) default: Option<String>,
    #[serde(deserialize_with = "json::objects")]
    pub(super) routes: Option<Vec<RawModuleRoute>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawModuleRoute {
    pub(super) prefix: Option<String>,
    pub(super) module: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawScope {
    #[serde(deserialize_with = "json::object")]
    pub(super) emit: Option<RawEmit>,
    #[serde(deserialize_with = "json::objects")]
    pub(super) headers: Option<Vec<RawScopeRule>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawEmit {
    pub(super) tenant_id: Option<String>,
    pub(super) slug: Option<String>,
    pub(super) isolation_mode: Option<String>,
    pub(super) schema: Option<String>,
    pub(super) module: Option<String>,
    pub(super) vhost: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawScopeRule {
    pub(super) name: Option<String>,
    pub(super) kind: Option<super::Kind>,
    pub(super) pattern: Option<bool>,
    pub(super) required: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawEvents {
    pub(super) path: Option<String>,
    #[serde(deserialize_with = "json::objects")]
    pub(super) api_keys: Option<Vec<RawSecret>>,
}

impl<'de> Deserialize<'de> for RawTenants {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TenantsVisitor;

        impl<'de> Visitor<'de> for TenantsVisitor {
            type Value = RawTenants;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`any`, or an object with `ids` and `prefixes`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<RawTenants, E> {
                match text {
                    "any" => Ok(RawTenants::Any),
                    other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<RawTenants, A::Error> {
                RawTenantSet::deserialize(de::value::MapAccessDeserializer::new(members)).map(RawTenants::Some)
            }
        }

        deserializer.deserialize_any(TenantsVisitor)
    }
}
