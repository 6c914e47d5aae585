//! What is compared.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;
use clap::ValueEnum;
use corpus::mint::Keys;
use envoy_run::Bootstrap;
use serde_json::{Value, json};

use crate::native::{self, JwtAuthn};
use crate::tokens::KEY;

/// One way to set up an Envoy, and which tokens it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Setup {
    /// Envoy without filters: what all others are compared with
    None,
    /// The filter with `enabled: false`
    Identity,
    /// The filter without a Tenant Manager, tokens that it has seen
    Seen,
    /// The same, each token once
    Fresh,
    /// Envoy's `jwt_authn` without cache, the tokens of `seen`
    JwtSeen,
    /// The same, each token once
    JwtFresh,
    /// The same, and the tenant's claim goes into `x-tenant-id`, as with `fresh`
    JwtHeader,
    /// `jwt_authn` with its cache, the tokens of `seen`
    JwtCache,
    /// The filter with a warm Tenant Manager: tenant header set, two keys scoped
    Tenancy,
    /// `jwt_authn` with its cache, and Lua that does the scoping
    Lua,
    /// The same, and `ext_authz` over HTTP asks about the tenant
    Authz,
}

/// Which tokens a setup gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Traffic {
    /// One token of each tenant, again and again.
    Seen,
    /// Each token once.
    Fresh,
}

/// What a setup does with a request, besides letting it pass.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Promise {
    /// Refuses a token with a broken signature.
    pub(crate) verifies: bool,
    /// Tells the upstream the tenant.
    pub(crate) names_tenant: bool,
    /// Puts the tenant into two keys.
    pub(crate) scopes: bool,
}

const HEADER: JwtAuthn = JwtAuthn {
    cache: false,
    claims_to_metadata: false,
    tenant_to_header: true,
};
const CACHE: JwtAuthn = JwtAuthn {
    cache: true,
    claims_to_metadata: false,
    tenant_to_header: false,
};
const LUA: JwtAuthn = JwtAuthn {
    cache: true,
    claims_to_metadata: true,
    tenant_to_header: false,
};

/// Who answers besides the Envoy that is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Servers {
    pub(crate) tenant_manager: SocketAddr,
    pub(crate) authz: SocketAddr,
}

impl Setup {
    /// As on the command line and in the table.
    pub(crate) fn name(self) -> String {
        self.to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }

    pub(crate) fn runs_filter(self) -> bool {
        matches!(self, Self::Identity | Self::Seen | Self::Fresh | Self::Tenancy)
    }

    pub(crate) fn traffic(self) -> Traffic {
        match self {
            Self::Fresh | Self::JwtFresh | Self::JwtHeader => Traffic::Fresh,
            _ => Traffic::Seen,
        }
    }

    pub(crate) fn promise(self) -> Promise {
        let (verifies, names_tenant, scopes) = match self {
            Self::None | Self::Identity => (false, false, false),
            Self::JwtSeen | Self::JwtFresh | Self::JwtCache => (true, false, false),
            Self::Seen | Self::Fresh | Self::JwtHeader => (true, true, false),
            Self::Tenancy | Self::Lua | Self::Authz => (true, true, true),
        };
        Promise {
            verifies,
            names_tenant,
            scopes,
        }
    }

    /// The Envoy of this setup. It answers by itself, so that no upstream is measured along:
    /// everything with 200, and below [`PROOF`] with what an upstream would have seen.
    ///
    /// # Errors
    /// When the shipped bootstrap is not what it was.
    pub(crate) fn bootstrap(self, module: &Path, servers: Servers) -> Result<Bootstrap> {
        let bootstrap = plain()?;
        let keys = Keys::shared().jwk_set(&[KEY])?;
        let config = match self {
            Self::None => return Ok(bootstrap.without_filter()),
            Self::Identity => json!({ "version": "v1", "enabled": false }),
            Self::Seen | Self::Fresh => with_filter(&keys),
            Self::Tenancy => with_tenancy(&keys),
            Self::JwtSeen | Self::JwtFresh => return Ok(with(bootstrap, [JwtAuthn::default().filter(&keys)])),
            Self::JwtHeader => return Ok(with(bootstrap, [HEADER.filter(&keys)])),
            Self::JwtCache => return Ok(with(bootstrap, [CACHE.filter(&keys)])),
            Self::Lua => return Ok(with(bootstrap, [LUA.filter(&keys), native::lua()])),
            Self::Authz => {
                let filters = [LUA.filter(&keys), native::lua(), native::ext_authz()];
                let mut bootstrap = with(bootstrap, filters);
                let clusters = &mut bootstrap.root_mut()["static_resources"]["clusters"];
                if let Some(clusters) = clusters.as_array_mut() {
                    clusters.push(native::authz_cluster(servers.authz));
                }
                return Ok(bootstrap);
            }
        };
        bootstrap
            .wasm(module)
            .plugin_config(&config.to_string())
            .cluster_endpoint("tenant-manager", servers.tenant_manager)
    }
}

/// The path below which the answer has the headers `x-proof-…`.
pub(crate) const PROOF: &str = "/proof";

/// An Envoy that answers everything with 200, asks nobody and logs no access: for those whom the
/// others ask.
///
/// # Errors
/// When the shipped bootstrap is not what it was.
pub(crate) fn answers_everything() -> Result<Bootstrap> {
    Ok(plain()?.without_filter())
}

/// The shipped bootstrap without access log and without upstream.
fn plain() -> Result<Bootstrap> {
    let nobody = SocketAddr::from(([127, 0, 0, 1], 9));
    let mut bootstrap = Bootstrap::shipped()?
        .listener_port(0)
        .admin_port(0)
        .cluster_endpoint("upstream", nobody)?
        .cluster_endpoint("tenant-manager", nobody)?;
    let hcm = bootstrap.hcm();
    hcm["access_log"] = json!([]);
    let answer = json!({ "status": 200, "body": { "inline_string": "ok" } });
    let seen = |name: &str, from: &str| json!({ "header": { "key": name, "value": format!("%REQ({from})%") } });
    hcm["route_config"]["virtual_hosts"][0]["routes"] = json!([
        {
            "match": { "prefix": PROOF },
            "direct_response": answer,
            "response_headers_to_add": [
                seen("x-proof-tenant", "x-tenant-id"),
                seen("x-proof-routing-key", "x-routing-key"),
                seen("x-proof-redis-key", "x-redis-key"),
            ],
        },
        { "match": { "prefix": "/" }, "direct_response": answer },
    ]);
    Ok(bootstrap)
}

/// Other filters in the place of ours.
fn with(bootstrap: Bootstrap, filters: impl IntoIterator<Item = Value>) -> Bootstrap {
    let mut bootstrap = bootstrap.without_filter();
    if let Some(chain) = bootstrap.hcm()["http_filters"].as_array_mut() {
        chain.splice(0..0, filters);
    }
    bootstrap
}

fn with_filter(keys: &Value) -> Value {
    json!({
        "version": "v1",
        "enabled": true,
        "service": "ledger",
        "auth": {
            "issuers": [{
                "issuer": native::ISSUER,
                "audiences": [native::AUDIENCE],
                "algorithms": ["RS256"],
                "tenants": "any",
                "jwks": { "inline": keys },
            }],
        },
    })
}

fn with_tenancy(keys: &Value) -> Value {
    let mut config = with_filter(keys);
    config["tenant_manager"] = json!({
        "cluster": "tenant-manager",
        "authority": "tenant-manager.internal",
        "api_keys": [{ "value": "bench-api-key" }],
        // Longer than any run, so that what is warm stays so.
        "cache": { "ttl_seconds": 86_400 },
    });
    config["scope"] = json!({
        "headers": [
            { "name": "x-routing-key", "kind": "routing_key" },
            { "name": "x-redis-key", "kind": "redis_key" },
        ],
    });
    config
}
