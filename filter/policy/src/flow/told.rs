//! What other filters and the access log are told about a request, and the filter itself.

use crate::config::{Config, Module};
use crate::denial::Code;
use crate::tenant_id::TenantId;

/// What the host is told about a request, for other filters and the access log.
pub type Told = (Property, Vec<u8>);

/// What may be told about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Property {
    /// The tenant.
    TenantId,
    /// The module of the path.
    TenantModule,
    /// `allowed`, `unverified`, `public`, the code of a denial, or `would_deny:` and that code.
    TenantDecision,
    /// For the filter itself: who has scoped the request, and to whom. Outlives an internal redirect.
    Pass,
}

impl Property {
    /// The name of the property.
    pub fn name(self) -> &'static str {
        match self {
            Self::TenantId => "tenant_id",
            Self::TenantModule => "tenant_module",
            Self::TenantDecision => "tenant_decision",
            Self::Pass => "tenantgate_pass",
        }
    }
}

/// What has been proven about a request, for the log.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    pub(super) tenant: Option<TenantId>,
    pub(super) module: Option<Module>,
}

/// What other filters and the access log are told, where that is configured.
pub(super) fn told(config: &Config, decision: &str, known: &Known) -> Vec<Told> {
    if !config.scope.properties {
        return Vec::new();
    }
    let mut told = vec![(Property::TenantDecision, decision.as_bytes().to_vec())];
    if let Some(tenant) = &known.tenant {
        told.push((Property::TenantId, tenant.as_str().as_bytes().to_vec()));
    }
    if let Some(module) = &known.module {
        told.push((Property::TenantModule, module.as_str().as_bytes().to_vec()));
    }
    told
}

/// The same of a request that fails with us or the host.
pub(crate) fn told_of_failure(config: &Config) -> Vec<Told> {
    told(config, Code::InternalError.as_str(), &Known::default())
}
