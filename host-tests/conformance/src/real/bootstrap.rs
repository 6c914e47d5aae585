//! A bootstrap for some rows.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use envoy_run::Bootstrap;
use serde_json::{Value, json};

use crate::table::{Row, Stage, Table};

const HCM: &str =
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
const ROUTER: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
const STDOUT: &str = "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog";
const SERVICE: &str = "type.googleapis.com/envoy.extensions.wasm.v3.WasmService";
const TEXT: &str = "type.googleapis.com/google.protobuf.StringValue";
const WASM: &str = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";

/// Where the servers around Envoy listen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peers {
    pub(super) upstream: SocketAddr,
    pub(super) peer: SocketAddr,
    /// Nobody listens there.
    pub(super) refused: SocketAddr,
}

impl Peers {
    /// For an Envoy that does not serve.
    pub(super) fn nowhere() -> Self {
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        Self {
            upstream: nowhere,
            peer: nowhere,
            refused: nowhere,
        }
    }
}

/// The listener on which a row is played: its stage's, or its own.
pub(super) fn listener_of(table: &Table, row: &Row) -> String {
    let stage = table.stage(row);
    if row.root.is_some() || stage.own_vm || stage.workers > 1 || row.is_start() {
        row.id.clone()
    } else {
        format!("stage-{}", row.stage)
    }
}

/// A bootstrap with a listener for each stage of these rows.
pub(super) fn bootstrap(table: &Table, module: &Path, rows: &[&Row], peers: Peers) -> anyhow::Result<Bootstrap> {
    let mut listeners = BTreeMap::new();
    for row in rows {
        let name = listener_of(table, row);
        let listener = listener(&name, table.stage(row), row, module);
        listeners.entry(name).or_insert(listener);
    }
    // The peer again, but with one request at a time.
    let mut narrow = cluster("narrow", Some(peers.peer));
    narrow["circuit_breakers"] = json!({ "thresholds": [{ "max_connections": 1, "max_pending_requests": 1 }] });
    let mut root = json!({
        "admin": { "address": address(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))) },
        "static_resources": {
            "listeners": listeners.into_values().collect::<Vec<_>>(),
            "clusters": [
                cluster("upstream", Some(peers.upstream)),
                cluster("peer", Some(peers.peer)),
                cluster("refused", Some(peers.refused)),
                cluster("empty", None),
                narrow,
            ],
        },
    });
    for row in rows.iter().filter(|row| table.stage(row).envoy.singleton) {
        let plugin = plugin(&listener_of(table, row), table.stage(row), row, module);
        let service = json!({ "@type": SERVICE, "singleton": true, "config": plugin });
        root["bootstrap_extensions"] = json!([{ "name": "envoy.bootstrap.wasm", "typed_config": service }]);
    }
    for row in rows {
        json_patch::merge(&mut root, &or_nothing(&table.stage(row).envoy.root));
    }
    let mut bootstrap = Bootstrap::shipped()?;
    *bootstrap.root_mut() = root;
    Ok(bootstrap)
}

fn listener(name: &str, stage: &Stage, row: &Row, module: &Path) -> Value {
    let own = plugin(name, stage, row, module);
    let around = |filters: &[Value]| filters.iter().map(|filter| another(filter, &own)).collect::<Vec<_>>();
    let mut filters = around(&stage.envoy.before);
    let mut filter = probe("probe", &own);
    if stage.envoy.disabled {
        filter["disabled"] = true.into();
    }
    filters.push(filter);
    filters.extend(around(&stage.envoy.behind));
    filters.push(json!({ "name": "envoy.filters.http.router", "typed_config": { "@type": ROUTER } }));

    let mut route = json!({ "match": { "prefix": "/" }, "route": { "cluster": "upstream", "timeout": "20s" } });
    if let Some(metadata) = &stage.route_metadata {
        route["metadata"] = json!({ "filter_metadata": metadata });
    }
    if stage.internal_redirects > 0 {
        route["route"]["internal_redirect_policy"] = json!({ "max_internal_redirects": stage.internal_redirects });
    }
    json_patch::merge(&mut route, &or_nothing(&stage.envoy.route));
    let mut routes = stage.envoy.routes.clone();
    routes.push(route);

    let mut hcm = json!({
        "@type": HCM,
        "stat_prefix": name,
        "http_protocol_options": { "enable_trailers": true },
        "common_http_protocol_options": { "max_headers_count": 3000 },
        "max_request_headers_kb": 8192,
        "http_filters": filters,
        "route_config": { "virtual_hosts": [{ "name": "everything", "domains": ["*"], "routes": routes }] },
    });
    if let Some(format) = &stage.envoy.access_log {
        let text = format!("conformance %REQ(X-ROW)%: access {format}\n");
        hcm["access_log"] = json!([{
            "name": "envoy.access_loggers.stdout",
            "typed_config": {
                "@type": STDOUT,
                "log_format": { "text_format_source": { "inline_string": text } },
            },
        }]);
    }
    json_patch::merge(&mut hcm, &or_nothing(&stage.envoy.hcm));

    let mut listener = json!({
        "name": name,
        "address": address(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
        "filter_chains": [{
            "filters": [{ "name": "envoy.filters.network.http_connection_manager", "typed_config": hcm }],
        }],
    });
    if stage.workers > 1 {
        // So that the second connection comes to the worker that has not got the first.
        listener["connection_balance_config"] = json!({ "exact_balance": {} });
    }
    if let Some(limit) = stage.buffer_limit {
        listener["per_connection_buffer_limit_bytes"] = limit.into();
    }
    json_patch::merge(&mut listener, &or_nothing(&stage.envoy.listener));
    listener
}

fn probe(name: &str, plugin: &Value) -> Value {
    json!({ "name": name, "typed_config": { "@type": WASM, "config": plugin } })
}

/// A filter as it is, or, of `{ probe: { name, vm_id } }`, the probe once more.
fn another(filter: &Value, own: &Value) -> Value {
    let Some(name) = filter["probe"]["name"].as_str() else {
        return filter.clone();
    };
    let mut plugin = own.clone();
    plugin["name"] = name.into();
    if let Some(vm_id) = filter["probe"]["vm_id"].as_str() {
        plugin["vm_config"]["vm_id"] = vm_id.into();
    }
    probe(name, &plugin)
}

fn plugin(name: &str, stage: &Stage, row: &Row, module: &Path) -> Value {
    let vm_id = if stage.own_vm { name } else { "conformance" };
    let mut plugin = json!({
        "name": name,
        "vm_config": {
            "vm_id": vm_id,
            "runtime": "envoy.wasm.runtime.v8",
            "code": { "local": { "filename": module } },
        },
        "configuration": { "@type": TEXT, "value": row.configuration() },
        "allow_on_headers_stop_iteration": stage.allow_on_headers_stop_iteration,
    });
    if let Some(policy) = &stage.failure_policy {
        plugin["failure_policy"] = policy.as_str().into();
        let interval = format!("{}s", f64::from(u32::try_from(stage.reload_backoff_ms).unwrap_or(u32::MAX)) / 1000.0);
        plugin["reload_config"] = json!({ "backoff": { "base_interval": interval } });
    }
    if let Some(text) = &stage.vm_configuration {
        plugin["vm_config"]["configuration"] = json!({ "@type": TEXT, "value": text });
    }
    if !stage.environment.is_empty() {
        plugin["vm_config"]["environment_variables"] = json!({ "key_values": stage.environment });
    }
    if !stage.restricted.is_empty() {
        plugin["capability_restriction_config"] = json!({ "allowed_capabilities": allowed(stage) });
    }
    json_patch::merge(&mut plugin, &or_nothing(&stage.envoy.plugin));
    plugin
}

/// Everything that the probe uses but what is restricted.
fn allowed(stage: &Stage) -> Value {
    let names = include_str!("capabilities.txt").split_whitespace();
    let allowed = names.filter(|name| !stage.restricted.contains(*name));
    Value::Object(allowed.map(|name| (name.to_owned(), json!({}))).collect())
}

fn cluster(name: &str, endpoint: Option<SocketAddr>) -> Value {
    let endpoints: Vec<_> = endpoint
        .map(|endpoint| json!({ "lb_endpoints": [{ "endpoint": { "address": address(endpoint) } }] }))
        .into_iter()
        .collect();
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": { "cluster_name": name, "endpoints": endpoints },
        "typed_extension_protocol_options": { HTTP_OPTIONS: {
            "@type": format!("type.googleapis.com/{HTTP_OPTIONS}"),
            "explicit_http_config": { "http_protocol_options": { "enable_trailers": true } },
        } },
    })
}

fn address(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip(), "port_value": address.port() } })
}

/// A merge patch that is absent changes nothing; `null` would replace the whole.
fn or_nothing(patch: &Value) -> Value {
    if patch.is_null() { json!({}) } else { patch.clone() }
}
