//! A bootstrap file as data.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

const HCM: &str =
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
const JWT_AUTHN: &str = "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication";
/// The name of the listener for tenant events.
pub const TENANT_EVENTS: &str = "tenant-events";
const WASM: &str = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";

/// A bootstrap with a listener, an HTTP connection manager in it and our filter in that. Each
/// method changes one thing for a run; whatever is not changed stays as the file says. Further
/// listeners are left out, but for the one of [`Bootstrap::tenant_events`].
#[derive(Debug, Clone)]
pub struct Bootstrap {
    root: Value,
    /// JSON pointer of the HTTP connection manager.
    hcm: String,
    /// Takes changes to the filter when it was taken out.
    nowhere: Value,
    /// The listeners that were left out.
    others: Vec<Value>,
}

impl Bootstrap {
    /// The `envoy/envoy.yaml` of this workspace, the file that operators copy.
    ///
    /// # Errors
    /// As [`Bootstrap::load`].
    pub fn shipped() -> anyhow::Result<Self> {
        Self::load(&crate::process::workspace().join("envoy/envoy.yaml"))
    }

    /// Reads a bootstrap file (YAML or JSON).
    ///
    /// # Errors
    /// When it cannot be read, is not YAML, or has no HTTP connection manager with a Wasm filter in
    /// its first listener.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let root = serde_norway::from_str(&text).with_context(|| format!("{} is not YAML", path.display()))?;
        Self::of(root).with_context(|| format!("{} is not a bootstrap that can be run here", path.display()))
    }

    fn of(mut root: Value) -> anyhow::Result<Self> {
        let filters = "/static_resources/listeners/0/filter_chains/0/filters";
        let place = position(&root, filters, |filter| filter["typed_config"]["@type"] == HCM)
            .context("the first listener has no HTTP connection manager")?;
        let listeners = root["static_resources"]["listeners"].as_array_mut();
        let others = listeners.map(|all| all.split_off(1)).unwrap_or_default();
        let bootstrap = Self {
            root,
            hcm: format!("{filters}/{place}/typed_config"),
            nowhere: Value::Null,
            others,
        };
        bootstrap
            .filter_place()
            .context("the HTTP connection manager has no Wasm filter")?;
        ensure!(bootstrap.root["admin"].is_object(), "there is no admin interface");
        Ok(bootstrap)
    }

    /// The module to load.
    pub fn wasm(mut self, module: impl Into<PathBuf>) -> Self {
        let module: PathBuf = module.into();
        self.plugin()["vm_config"]["code"] = json!({ "local": { "filename": module } });
        self
    }

    /// The plugin configuration, as text: JSON, or what a test wants the plugin to refuse.
    pub fn plugin_config(mut self, text: &str) -> Self {
        self.plugin()["configuration"] =
            json!({ "@type": "type.googleapis.com/google.protobuf.StringValue", "value": text });
        self
    }

    /// Sets an environment variable of the Wasm VM. Those that the file takes over from Envoy's own
    /// environment are no longer taken over.
    pub fn plugin_env(mut self, name: &str, value: &str) -> Self {
        let environment = &mut self.plugin()["vm_config"]["environment_variables"];
        if let Some(environment) = environment.as_object_mut() {
            environment.remove("host_env_keys");
        }
        environment["key_values"][name] = value.into();
        self
    }

    /// Takes our filter out, to compare with Envoy alone.
    pub fn without_filter(mut self) -> Self {
        if let Some(place) = self.filter_place()
            && let Some(filters) = self.hcm()["http_filters"].as_array_mut()
        {
            filters.remove(place);
        }
        self
    }

    /// Puts a filter right behind ours, in front of those that are there already.
    ///
    /// # Panics
    /// When ours was taken out.
    pub fn filter_behind(&mut self, filter: Value) {
        let place = self.filter_place().expect("our filter is there");
        if let Some(filters) = self.hcm()["http_filters"].as_array_mut() {
            filters.insert(place + 1, filter);
        }
    }

    /// The routes of the listener's one virtual host, for what has no method here.
    pub fn routes(&mut self) -> &mut Vec<Value> {
        let routes = &mut self.hcm()["route_config"]["virtual_hosts"][0]["routes"];
        routes.as_array_mut().expect("the bootstrap has routes")
    }

    /// Gives the cluster one endpoint, by address.
    ///
    /// # Errors
    /// When there is no cluster of that name.
    pub fn cluster_endpoint(mut self, cluster: &str, endpoint: SocketAddr) -> anyhow::Result<Self> {
        let found = self.cluster(cluster)?;
        found["type"] = "STATIC".into();
        found["load_assignment"] = json!({
            "cluster_name": cluster,
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": socket_address(endpoint) } }] }],
        });
        // A server of a test speaks no TLS.
        found["transport_socket"] = Value::Null;
        Ok(self)
    }

    /// Adds a cluster with one endpoint, by address.
    ///
    /// # Errors
    /// When there is a cluster of that name.
    pub fn add_cluster(mut self, cluster: &str, endpoint: SocketAddr) -> anyhow::Result<Self> {
        let clusters = self.root["static_resources"]["clusters"].as_array_mut();
        let clusters = clusters.context("there is no list of clusters")?;
        ensure!(
            clusters.iter().all(|other| other["name"] != cluster),
            "there is a cluster `{cluster}` already"
        );
        clusters.push(json!({ "name": cluster, "connect_timeout": "0.5s" }));
        self.cluster_endpoint(cluster, endpoint)
    }

    /// Puts Envoy's own `jwt_authn` in front of our filter, with one provider that leaves the claims
    /// in dynamic metadata, and that lets requests pass as they are whose token is missing or fails.
    pub fn jwt_authn(mut self, issuer: &str, audience: &str, jwks: &Value, payload: &str) -> Self {
        let provider = json!({
            "issuer": issuer,
            "audiences": [audience],
            "local_jwks": { "inline_string": jwks.to_string() },
            "forward": true,
            "payload_in_metadata": payload,
        });
        let either = json!([{ "provider_name": "corpus" }, { "allow_missing_or_failed": {} }]);
        let filter = json!({
            "name": "envoy.filters.http.jwt_authn",
            "typed_config": {
                "@type": JWT_AUTHN,
                "providers": { "corpus": provider },
                "rules": [{ "match": { "prefix": "/" }, "requires": { "requires_any": { "requirements": either } } }],
            },
        });
        let place = self.filter_place().unwrap_or_default();
        if let Some(filters) = self.hcm()["http_filters"].as_array_mut() {
            filters.insert(place, filter);
        }
        self
    }

    /// Moves the listener to this port of loopback; 0 lets the system choose.
    pub fn listener_port(mut self, port: u16) -> Self {
        let address = socket_address(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        self.root["static_resources"]["listeners"][0]["address"] = address;
        self
    }

    /// Puts the listener for tenant events back, on this port of loopback, with our filter as it is
    /// now: to be called when nothing more is changed in that.
    ///
    /// # Errors
    /// When the file has no listener `tenant-events` with our filter, or ours was taken out.
    pub fn tenant_events(mut self, port: u16) -> anyhow::Result<Self> {
        let place = self.filter_place().context("our filter was taken out")?;
        let filter = self.hcm()["http_filters"][place].clone();
        let mut listener = self
            .others
            .iter()
            .find(|listener| listener["name"] == TENANT_EVENTS)
            .cloned()
            .context("there is no listener `tenant-events`")?;
        listener["address"] = socket_address(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let filters = "/filter_chains/0/filters/0/typed_config/http_filters";
        let place = position(&listener, filters, |filter| filter["typed_config"]["@type"] == WASM);
        let theirs = place.and_then(|place| listener.pointer_mut(&format!("{filters}/{place}")));
        *theirs.context("the listener `tenant-events` has no Wasm filter")? = filter;
        let listeners = self.root["static_resources"]["listeners"].as_array_mut();
        listeners.context("there is no list of listeners")?.push(listener);
        Ok(self)
    }

    /// Moves the admin interface to this port of loopback; 0 lets the system choose.
    pub fn admin_port(mut self, port: u16) -> Self {
        self.root["admin"]["address"] = socket_address(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        self
    }

    /// `allow_on_headers_stop_iteration` of the plugin: whether body and trailers reach the filter
    /// while it holds the headers.
    pub fn allow_on_headers_stop_iteration(mut self, allow: bool) -> Self {
        self.plugin()["allow_on_headers_stop_iteration"] = allow.into();
        self
    }

    /// Whether Envoy normalises paths before the filter sees them: `normalize_path`, `merge_slashes`
    /// and `path_with_escaped_slashes_action` together.
    pub fn normalize_path(mut self, normalize: bool) -> Self {
        let hcm = self.hcm();
        hcm["normalize_path"] = normalize.into();
        hcm["merge_slashes"] = normalize.into();
        let escaped = if normalize { "REJECT_REQUEST" } else { "KEEP_UNCHANGED" };
        hcm["path_with_escaped_slashes_action"] = escaped.into();
        self
    }

    /// What becomes of request headers with underscores: `ALLOW`, `DROP_HEADER` or `REJECT_REQUEST`.
    pub fn headers_with_underscores_action(mut self, action: &str) -> Self {
        self.hcm()["common_http_protocol_options"]["headers_with_underscores_action"] = action.into();
        self
    }

    /// Which protocols a request may switch to, `websocket` for one. Envoy refuses all others.
    pub fn upgrades(mut self, protocols: &[&str]) -> Self {
        let types: Vec<_> = protocols
            .iter()
            .map(|protocol| json!({ "upgrade_type": protocol }))
            .collect();
        self.hcm()["upgrade_configs"] = types.into();
        self
    }

    /// How many header lines a request may have, with one KiB of room for each of them, from 60 KiB
    /// to 8 MiB in all.
    pub fn max_request_headers(mut self, lines: u32) -> Self {
        let hcm = self.hcm();
        hcm["common_http_protocol_options"]["max_headers_count"] = lines.into();
        hcm["max_request_headers_kb"] = lines.clamp(60, 8192).into();
        self
    }

    /// Whether trailers of HTTP/1.1 requests are passed on to the filter and to the cluster; Envoy
    /// drops them by default.
    ///
    /// # Errors
    /// When there is no cluster of that name.
    pub fn trailers(mut self, cluster: &str, enable: bool) -> anyhow::Result<Self> {
        self.hcm()["http_protocol_options"]["enable_trailers"] = enable.into();
        self.cluster(cluster)?["typed_extension_protocol_options"][HTTP_OPTIONS] = json!({
            "@type": format!("type.googleapis.com/{HTTP_OPTIONS}"),
            "explicit_http_config": { "http_protocol_options": { "enable_trailers": enable } },
        });
        Ok(self)
    }

    /// Speaks HTTP/2 to the cluster, without asking whether it does.
    ///
    /// # Errors
    /// When there is no cluster of that name.
    pub fn http2(mut self, cluster: &str) -> anyhow::Result<Self> {
        self.cluster(cluster)?["typed_extension_protocol_options"][HTTP_OPTIONS] = json!({
            "@type": format!("type.googleapis.com/{HTTP_OPTIONS}"),
            "explicit_http_config": { "http2_protocol_options": {} },
        });
        Ok(self)
    }

    /// The whole bootstrap, for what has no method here.
    pub fn root_mut(&mut self) -> &mut Value {
        &mut self.root
    }

    /// The HTTP connection manager, for what has no method here.
    pub fn hcm(&mut self) -> &mut Value {
        self.root
            .pointer_mut(&self.hcm)
            .expect("it was there when the bootstrap was loaded, and no method removes it")
    }

    /// The `PluginConfig` of our filter, for what has no method here. After
    /// [`Bootstrap::without_filter`] there is none: changes are lost.
    pub fn plugin(&mut self) -> &mut Value {
        match self.filter_place() {
            Some(place) => &mut self.hcm()["http_filters"][place]["typed_config"]["config"],
            None => &mut self.nowhere,
        }
    }

    /// A cluster, for what has no method here.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn cluster(&mut self, name: &str) -> anyhow::Result<&mut Value> {
        let clusters = "/static_resources/clusters";
        let place = position(&self.root, clusters, |candidate| candidate["name"] == name);
        let found = place.and_then(|place| self.root.pointer_mut(&format!("{clusters}/{place}")));
        found.with_context(|| format!("there is no cluster `{name}`"))
    }

    pub(crate) fn to_json(&self) -> String {
        self.root.to_string()
    }

    fn filter_place(&self) -> Option<usize> {
        position(&self.root, &format!("{}/http_filters", self.hcm), |filter| {
            filter["typed_config"]["@type"] == WASM
        })
    }
}

fn position(root: &Value, list: &str, is_it: impl Fn(&Value) -> bool) -> Option<usize> {
    root.pointer(list)?.as_array()?.iter().position(is_it)
}

fn socket_address(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip(), "port_value": address.port() } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_reach_the_places_that_envoy_reads() {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080));
        let mut bootstrap = Bootstrap::shipped()
            .expect("the shipped bootstrap loads")
            .plugin_config("{}")
            .max_request_headers(1100)
            .cluster_endpoint("upstream", address)
            .expect("the shipped bootstrap has an upstream");
        assert_eq!(bootstrap.plugin()["configuration"]["value"], "{}");
        assert_eq!(
            bootstrap.hcm()["common_http_protocol_options"]["max_headers_count"],
            1100
        );
        let clusters = bootstrap.root_mut()["static_resources"]["clusters"].take();
        let upstream = clusters
            .as_array()
            .and_then(|all| all.iter().find(|one| one["name"] == "upstream"));
        let port = "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address/port_value";
        assert_eq!(upstream.and_then(|upstream| upstream.pointer(port)), Some(&json!(8080)));
    }

    #[test]
    fn jwt_authn_stands_in_front_of_the_filter_and_a_cluster_is_added_once() {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080));
        let mut bootstrap = Bootstrap::shipped()
            .and_then(|shipped| shipped.add_cluster("idp", address))
            .expect("the shipped bootstrap has no such cluster")
            .jwt_authn("https://id.example.com", "api", &json!({ "keys": [] }), "jwt_payload");
        let names: Vec<_> = bootstrap.hcm()["http_filters"]
            .as_array()
            .expect("filters")
            .iter()
            .map(|filter| filter["name"].clone())
            .collect();
        let place = |name| names.iter().position(|found| found == name);
        assert_eq!(place("envoy.filters.http.jwt_authn"), Some(0), "{names:?}");
        assert_eq!(place("tenantgate"), Some(1), "{names:?}");
        let error = bootstrap.add_cluster("idp", address).expect_err("it is there");
        assert!(error.to_string().contains("already"), "{error}");
    }

    #[test]
    fn an_unknown_cluster_is_named() {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let error = Bootstrap::shipped()
            .expect("the shipped bootstrap loads")
            .cluster_endpoint("nobody", address)
            .expect_err("there is no such cluster");
        assert!(error.to_string().contains("`nobody`"), "{error}");
    }

    #[test]
    fn a_file_without_the_filter_is_refused() {
        let error = Bootstrap::of(json!({ "admin": {} })).expect_err("there is no listener");
        assert!(error.to_string().contains("no HTTP connection manager"), "{error}");
    }
}
