//! Where rows are played.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

/// Where a row is played: how the plugin is loaded, and what stands around it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Stage {
    /// Worker threads.
    pub workers: u32,
    /// Whether a VM is to be used by one row only: because it dies, or is loaded in another way.
    pub own_vm: bool,
    /// `allow_on_headers_stop_iteration`.
    pub allow_on_headers_stop_iteration: bool,
    /// What becomes of a dead VM, in Envoy's words: `FAIL_CLOSED`, `FAIL_RELOAD` or `FAIL_OPEN`.
    pub failure_policy: Option<String>,
    /// The least time between two loads of a VM, in milliseconds.
    pub reload_backoff_ms: u64,
    /// Environment variables of the VM.
    pub environment: BTreeMap<String, String>,
    /// The VM configuration.
    pub vm_configuration: Option<String>,
    /// Hostcalls that the plugin may not make.
    pub restricted: BTreeSet<String>,
    /// The metadata of the route.
    pub route_metadata: Option<Value>,
    /// The largest body that is buffered, in bytes.
    pub buffer_limit: Option<u32>,
    /// How many redirects the router follows.
    pub internal_redirects: u32,
    /// How long what is old stays after an update, in seconds.
    pub drain_seconds: u64,
    /// Changes that only the real Envoy can be given.
    pub envoy: EnvoyOnly,
}

impl Default for Stage {
    fn default() -> Self {
        Self {
            workers: 1,
            own_vm: false,
            allow_on_headers_stop_iteration: false,
            failure_policy: None,
            reload_backoff_ms: 1_000,
            environment: BTreeMap::new(),
            vm_configuration: None,
            restricted: BTreeSet::new(),
            route_metadata: None,
            buffer_limit: None,
            internal_redirects: 0,
            drain_seconds: 600,
            envoy: EnvoyOnly::default(),
        }
    }
}

/// RFC 7396 patches of parts of a bootstrap, and filters around the plugin.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EnvoyOnly {
    /// Of the `PluginConfig`.
    pub plugin: Value,
    /// Of the HTTP connection manager.
    pub hcm: Value,
    /// Of the listener.
    pub listener: Value,
    /// Of the one route; in a list, other routes come before it.
    pub route: Value,
    /// Routes before the one that takes everything.
    pub routes: Vec<Value>,
    /// Filters in front of the plugin.
    pub before: Vec<Value>,
    /// Filters behind it.
    pub behind: Vec<Value>,
    /// What the access log has of each request, as a format of Envoy.
    pub access_log: Option<String>,
    /// The plugin is there but disabled.
    pub disabled: bool,
    /// The plugin runs once more, as a service of its own on the main thread.
    pub singleton: bool,
    /// Of the whole bootstrap. Such a row has a process of its own.
    pub root: Value,
}
