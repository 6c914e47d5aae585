//! Issuers: who may sign, with what, for which tenants.

use serde_json::Value;

use super::{Algorithm, KeySet};
use crate::tenant_id::TenantId;

/// A configured issuer.
#[derive(Debug)]
pub struct Issuer {
    name: String,
    audiences: Vec<String>,
    algorithms: Vec<Algorithm>,
    tenants: TenantSet,
    keys: KeySet,
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
        keys: KeySet,
    ) -> Self {
        Self {
            name,
            audiences,
            algorithms,
            tenants,
            keys,
        }
    }

    /// Whether `alg` may be this algorithm.
    pub fn allows(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }

    /// The keys.
    pub fn keys(&self) -> &KeySet {
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

/// The issuer that `iss` names.
pub(super) fn named<'a>(issuers: &'a [Issuer], iss: Option<&Value>) -> Option<&'a Issuer> {
    let iss = iss?.as_str()?;
    issuers.iter().find(|issuer| issuer.name == iss)
}
