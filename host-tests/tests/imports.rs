//! The finished filter imports nothing but what every Proxy-Wasm 0.2.1 host offers.

use std::sync::OnceLock;

use tiny_envoy::Plugin;

/// Everything that the filter calls. A new name here is a new demand on every host: it needs a
/// reason.
const ALLOWED: &[&str] = &[
    "env.proxy_add_header_map_value",
    "env.proxy_call_foreign_function",
    // With `enforce.cut_streams` only.
    "env.proxy_close_stream",
    "env.proxy_continue_stream",
    "env.proxy_define_metric",
    "env.proxy_dequeue_shared_queue",
    "env.proxy_enqueue_shared_queue",
    "env.proxy_get_buffer_bytes",
    "env.proxy_get_header_map_pairs",
    "env.proxy_get_header_map_value",
    "env.proxy_get_metric",
    "env.proxy_get_property",
    "env.proxy_get_shared_data",
    "env.proxy_http_call",
    "env.proxy_increment_metric",
    "env.proxy_log",
    "env.proxy_record_metric",
    "env.proxy_register_shared_queue",
    "env.proxy_remove_header_map_value",
    "env.proxy_replace_header_map_value",
    "env.proxy_send_local_response",
    "env.proxy_set_effective_context",
    "env.proxy_set_property",
    "env.proxy_set_shared_data",
    "env.proxy_set_tick_period_milliseconds",
    "wasi_snapshot_preview1.clock_time_get",
    "wasi_snapshot_preview1.environ_get",
    "wasi_snapshot_preview1.environ_sizes_get",
    "wasi_snapshot_preview1.fd_write",
    "wasi_snapshot_preview1.proc_exit",
    "wasi_snapshot_preview1.random_get",
];

/// What the SDK imports besides, for default methods of its traits, whether anybody calls them or
/// not. The tiny Envoy fails the test in which one of the gRPC calls is made.
const SDK_DEFAULTS: &[&str] = &[
    "env.proxy_done",
    "env.proxy_get_current_time_nanoseconds",
    "env.proxy_get_status",
    "env.proxy_grpc_call",
    "env.proxy_grpc_cancel",
    "env.proxy_grpc_close",
    "env.proxy_grpc_send",
    "env.proxy_grpc_stream",
    "env.proxy_resolve_shared_queue",
    "env.proxy_set_buffer_bytes",
    "env.proxy_set_header_map_pairs",
];

/// A request that waits must be able to hold back what follows its headers, whatever the host's
/// settings: without these exports nobody would ask the filter.
const REQUIRED_EXPORTS: &[&str] = &[
    "proxy_abi_version_0_2_1",
    "proxy_on_request_headers",
    "proxy_on_request_body",
    "proxy_on_request_trailers",
];

fn filter() -> &'static Plugin {
    static COMPILED: OnceLock<Plugin> = OnceLock::new();
    COMPILED.get_or_init(|| {
        let path = corpus::finished_filter().expect("the finished filter");
        Plugin::load(path).expect("the filter is a valid module")
    })
}

#[test]
fn the_filter_imports_only_allowed_names() {
    let imports = filter().imports();
    let strange: Vec<_> = imports
        .iter()
        .filter(|import| !ALLOWED.contains(&import.as_str()) && !SDK_DEFAULTS.contains(&import.as_str()))
        .collect();
    assert!(strange.is_empty(), "imports that are not on the list: {strange:#?}");
    assert!(!imports.is_empty(), "a filter without imports is no filter");
}

#[test]
fn no_allowance_outlives_its_import() {
    let imports = filter().imports();
    let stale: Vec<_> = ALLOWED
        .iter()
        .chain(SDK_DEFAULTS)
        .filter(|allowed| !imports.iter().any(|import| import == *allowed))
        .collect();
    assert!(stale.is_empty(), "on the list and not imported any more: {stale:#?}");
}

#[test]
fn the_filter_exports_what_makes_a_pause_a_barrier() {
    let exports = filter().exports();
    for name in REQUIRED_EXPORTS {
        assert!(exports.iter().any(|export| export == name), "no export `{name}`");
    }
}
