//! Issuers: who may sign, with what, for which tenants.

use serde_json::Value;

use super::{Algorithm, KeySet, Refusal};
use crate::tenant_id::TenantId;

/// A configured issuer.
#[derive(Debug)]
pub struct Issuer {
    name: String,
    audiences: Vec<String>,
    algorithms: Vec<Algorithm>,
    tenants: TenantSet,
    keys: KeySource,
}

/// Where the keys of an issuer come from.
#[derive(Debug)]
pub enum KeySource {
    /// They stand in the configuration.
    Inline(KeySet),
    /// They are fetched.
    Remote(RemoteJwks),
    /// Nowhere: another filter verifies (`auth.mode: upstream_metadata`).
    Elsewhere,
}

/// `jwks.remote`.
#[derive(Debug)]
pub struct RemoteJwks {
    /// The Envoy cluster that is called.
    pub cluster: String,
    /// The `:authority` of the call.
    pub authority: String,
    /// The `:path` of the call.
    pub path: String,
    /// How long a fetch may take, in milliseconds. Default 2000, 1 to 60000.
    pub timeout_ms: u32,
    /// How long a fetched set is fresh, in milliseconds. Default 300 s, 1 s to one day.
    pub refresh_ms: u64,
    /// How long beyond that it serves while it cannot be fetched, in milliseconds. Default
    /// 3600 s, at most seven days.
    pub max_stale_ms: u64,
    /// The least time between two fetches that unknown `kid`s cause, in milliseconds. Default
    /// 30 s, 1 s to one hour.
    pub unknown_kid_cooldown_ms: u64,
}

/// The tenants that an issuer may name.
#[derive(Debug, Clone)]
pub enum TenantSet {
    /// Every tenant.
    Any,
    /// Those with one of these ids, or with an id that starts with one of these prefixes.
    Only {
        /// Whole ids.
        ids: Vec<TenantId>,
        /// Beginnings of ids.
        prefixes: Vec<String>,
    },
}

impl Issuer {
    /// An issuer. An empty list of `audiences` accepts tokens for anyone.
    pub fn new(
        name: String,
        audiences: Vec<String>,
        algorithms: Vec<Algorithm>,
        tenants: TenantSet,
        keys: KeySource,
    ) -> Self {
        Self {
            name,
            audiences,
            algorithms,
            tenants,
            keys,
        }
    }

    /// What `iss` must be.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What `alg` may be.
    pub fn algorithms(&self) -> &[Algorithm] {
        &self.algorithms
    }

    /// Where the keys come from.
    pub fn keys(&self) -> &KeySource {
        &self.keys
    }

    /// Whether the issuer may speak for this tenant.
    pub fn may_name(&self, tenant: &TenantId) -> bool {
        match &self.tenants {
            TenantSet::Any => true,
            TenantSet::Only { ids, prefixes } => {
                ids.contains(tenant)
                    || prefixes
                        .iter()
                        .any(|prefix| tenant.as_str().starts_with(prefix.as_str()))
            }
        }
    }

    /// Whether `aud` (a string or an array of strings, RFC 7519 §4.1.3) names one of the
    /// configured audiences. Where none is configured the claim is not looked at.
    pub(super) fn accepts_audience(&self, aud: Option<&Value>) -> bool {
        if self.audiences.is_empty() {
            return true;
        }
        let ours = |name: &str| self.audiences.iter().any(|audience| audience == name);
        match aud {
            Some(Value::String(name)) => ours(name),
            Some(Value::Array(names)) => {
                names.iter().all(Value::is_string) && names.iter().filter_map(Value::as_str).any(ours)
            }
            _ => false,
        }
    }
}

/// The issuer that `iss` names, and its place.
pub(super) fn named<'a>(issuers: &'a [Issuer], iss: Option<&Value>) -> Result<(usize, &'a Issuer), Refusal> {
    iss.and_then(Value::as_str)
        .and_then(|iss| issuers.iter().enumerate().find(|(_, issuer)| issuer.name == iss))
        .ok_or(Refusal::Issuer)
}
