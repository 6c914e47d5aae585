//! What people run instead: Envoy's own filters.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::tokens::TENANTS;

/// Who issues the tokens of the corpus.
pub(crate) const ISSUER: &str = "https://id.example.com";

/// For whom.
pub(crate) const AUDIENCE: &str = "api";

/// What the filter does to headers, written in Lua. It checks what has to be checked and no more.
const SCOPING: &str = r#"
function envoy_on_request(handle)
  local metadata = handle:streamInfo():dynamicMetadata():get("envoy.filters.http.jwt_authn")
  local claims = metadata and metadata["claims"]
  local tenant = claims and claims["tenantId"]
  if type(tenant) ~= "string" or #tenant > 256 or not string.find(tenant, "^%w[%w_-]*$") then
    handle:respond({[":status"] = "401"}, "")
    return
  end
  local headers = handle:headers()
  headers:replace("x-tenant-id", tenant)
  local routing_key = headers:get("x-routing-key")
  if routing_key then
    headers:replace("x-routing-key", routing_key .. "." .. tenant)
  end
  local redis_key = headers:get("x-redis-key")
  if redis_key then
    headers:replace("x-redis-key", "tenant:" .. tenant .. ":" .. redis_key)
  end
end
"#;

/// A `jwt_authn` for the tokens of the corpus, and what it does besides verifying them.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct JwtAuthn {
    /// Remembers verified tokens.
    pub(crate) cache: bool,
    /// Hands the claims on to filters behind it.
    pub(crate) claims_to_metadata: bool,
    /// Hands the tenant on to the upstream.
    pub(crate) tenant_to_header: bool,
}

impl JwtAuthn {
    pub(crate) fn filter(self, keys: &Value) -> Value {
        let mut provider = json!({
            "issuer": ISSUER,
            "audiences": [AUDIENCE],
            "forward": true,
            "local_jwks": { "inline_string": keys.to_string() },
        });
        if self.cache {
            // Room for all; the default of 100 would miss every time.
            provider["jwt_cache_config"] = json!({ "jwt_cache_size": TENANTS * 10 });
        }
        if self.claims_to_metadata {
            provider["payload_in_metadata"] = "claims".into();
        }
        if self.tenant_to_header {
            provider["claim_to_headers"] = json!([{ "header_name": "x-tenant-id", "claim_name": "tenantId" }]);
        }
        json!({
            "name": "envoy.filters.http.jwt_authn",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
                "providers": { "main": provider },
                "rules": [{ "match": { "prefix": "/" }, "requires": { "provider_name": "main" } }],
            },
        })
    }
}

/// Lua that scopes headers by the claims that `jwt_authn` has verified.
pub(crate) fn lua() -> Value {
    json!({
        "name": "envoy.filters.http.lua",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
            "default_source_code": { "inline_string": SCOPING },
        },
    })
}

const AUTHZ: &str = "authz";

/// `ext_authz` that asks over HTTP whether the tenant may come in.
pub(crate) fn ext_authz() -> Value {
    json!({
        "name": "envoy.filters.http.ext_authz",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
            "transport_api_version": "V3",
            "http_service": {
                "server_uri": { "uri": "http://authz.internal", "cluster": AUTHZ, "timeout": "2s" },
            },
            "allowed_headers": { "patterns": [{ "exact": "x-tenant-id" }] },
        },
    })
}

/// The cluster that `ext_authz` asks.
pub(crate) fn authz_cluster(server: SocketAddr) -> Value {
    let address = json!({ "socket_address": { "address": server.ip(), "port_value": server.port() } });
    json!({
        "name": AUTHZ,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": AUTHZ,
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address } }] }],
        },
    })
}
