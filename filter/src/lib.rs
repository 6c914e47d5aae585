//! Tenantgate, the Proxy-Wasm filter: a shell that turns callbacks into steps of the engine
//! (`tenant-policy`) and steps into hostcalls. It decides nothing.
//!
//! The life of a request:
//!
//! 1. `on_http_request_headers` ([`http`]) copies the header block and starts a `RequestFlow`.
//! 2. *Forward*: its edits are applied, the request goes on.
//! 3. *Reply*: a local response, and the request is over.
//! 4. *Wait*: the stream is paused, body and trailers with it, and the flow is put among the
//!    waiting ([`waiting`]) with its deadline.
//! 5. Who begins an errand (a tenant's lookup, the fetch of an issuer's keys) puts it on this
//!    worker's own queue; `on_queue_ready` ([`root`]) makes the call, so that it belongs to the root
//!    context and outlives the stream.
//! 6. `on_http_call_response` gives the answer to the engine and wakes every stream that waits
//!    for it; `on_tick` ends waits whose deadline has passed and makes the calls that are due by
//!    time alone.
//!
//! On the way back, `on_http_response_headers` takes the tenant's scope off again, where that is configured.
//!
//! Every hostcall stands in [`host`].

mod backlog;
mod host;
mod http;
mod metrics;
mod node;
mod open;
mod properties;
mod root;
mod signatures;
mod ticks;
mod waiting;
mod worker;

#[allow(
    missing_docs,
    reason = "the macro exports a function and leaves no place for its documentation"
)]
mod entry {
    use proxy_wasm::types::LogLevel;

    proxy_wasm::main! {{
        // The host filters by its own level; the SDK's would be a second one.
        proxy_wasm::set_log_level(LogLevel::Trace);
        proxy_wasm::set_root_context(|context_id| Box::new(crate::root::Root::new(context_id)));
    }}
}
