//! What the host calls.

#![allow(unsafe_code, reason = "the host finds callbacks by their names")]

use crate::script::{Script, play, run};
use crate::{host, state};

const REQUEST_HEADERS: u32 = 0;
const VM_CONFIGURATION: u32 = 6;
const PLUGIN_CONFIGURATION: u32 = 7;

unsafe extern "C" {
    fn __wasm_call_ctors();
}

#[unsafe(no_mangle)]
extern "C" fn _initialize() {
    // SAFETY: called once, by the host, before anything else.
    unsafe { __wasm_call_ctors() }
}

#[unsafe(no_mangle)]
extern "C" fn proxy_abi_version_0_2_1() {}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_context_create(context: u32, root: u32) {
    let is_root = root == 0;
    state::with(|state| state.roots.insert(context, if is_root { context } else { root }));
    run(context, "context_create", &[]);
}

/// A script for this callback alone is the VM configuration.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_vm_start(context: u32, _size: u32) -> u32 {
    read_script(context, VM_CONFIGURATION);
    run(context, "vm_start", &[]).unwrap_or(1)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_configure(context: u32, _size: u32) -> u32 {
    read_script(context, PLUGIN_CONFIGURATION);
    run(context, "configure", &[]).unwrap_or(1)
}

fn read_script(context: u32, buffer: u32) {
    let (_, configuration) = host::buffer(buffer, 0, usize::MAX);
    if let Some(script) = Script::parse(&configuration) {
        state::with(|state| state.scripts.insert(context, script));
    }
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_tick(context: u32) {
    run(context, "tick", &[]);
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_queue_ready(context: u32, queue: u32) {
    run(context, "queue_ready", &[queue]);
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_http_call_response(context: u32, token: u32, headers: u32, body: u32, trailers: u32) {
    // Tokens are the root context's; who asked is known by them.
    if let Some(call) = state::with(|state| state.calls.remove(&token)) {
        play(
            &call.script,
            call.context,
            &call.then,
            &[context, headers, body, trailers],
        );
    }
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_headers(context: u32, count: u32, end: u32) -> u32 {
    let (_, script) = host::header(REQUEST_HEADERS, b"x-probe");
    if let Some(script) = Script::parse(&script) {
        state::with(|state| state.scripts.insert(context, script));
    }
    run(context, "request_headers", &[count, end]).unwrap_or(0)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_body(context: u32, size: u32, end: u32) -> u32 {
    run(context, "request_body", &[size, end]).unwrap_or(0)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_trailers(context: u32, count: u32) -> u32 {
    run(context, "request_trailers", &[count]).unwrap_or(0)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_headers(context: u32, count: u32, end: u32) -> u32 {
    run(context, "response_headers", &[count, end]).unwrap_or(0)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_body(context: u32, size: u32, end: u32) -> u32 {
    run(context, "response_body", &[size, end]).unwrap_or(0)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_trailers(context: u32, count: u32) -> u32 {
    run(context, "response_trailers", &[count]).unwrap_or(0)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_log(context: u32) {
    run(context, "log", &[]);
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_done(context: u32) -> u32 {
    run(context, "done", &[]).unwrap_or(1)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_delete(context: u32) {
    run(context, "delete", &[]);
    state::with(|state| {
        state.roots.remove(&context);
        state.scripts.remove(&context);
    });
}
