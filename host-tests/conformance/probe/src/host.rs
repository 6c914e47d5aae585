//! The hostcalls of ABI 0.2.1 as they are.

#![allow(unsafe_code, reason = "imports from the host are foreign functions")]

use std::alloc::Layout;

/// What a hostcall said of its success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status(u32);

impl Status {
    pub(crate) fn is_ok(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn name(self) -> String {
        let names = [
            "Ok",
            "NotFound",
            "BadArgument",
            "SerializationFailure",
            "ParseFailure",
            "BadExpression",
            "InvalidMemoryAccess",
            "Empty",
            "CasMismatch",
            "ResultMismatch",
            "InternalFailure",
            "BrokenConnection",
            "Unimplemented",
        ];
        let name = usize::try_from(self.0).ok().and_then(|at| names.get(at));
        name.map_or_else(|| format!("status {}", self.0), |name| (*name).to_owned())
    }
}

/// A status, and the bytes that came with it.
pub(crate) type Given = (Status, Vec<u8>);

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_log(level: u32, text: *const u8, length: usize) -> u32;
    fn proxy_get_log_level(level: *mut u32) -> u32;
    fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32;
    fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
    fn proxy_get_buffer_bytes(kind: u32, start: usize, max: usize, data: *mut *mut u8, length: *mut usize) -> u32;
    fn proxy_set_buffer_bytes(kind: u32, start: usize, size: usize, data: *const u8, length: usize) -> u32;
    fn proxy_get_header_map_pairs(kind: u32, data: *mut *mut u8, length: *mut usize) -> u32;
    fn proxy_set_header_map_pairs(kind: u32, data: *const u8, length: usize) -> u32;
    fn proxy_get_header_map_size(kind: u32, size: *mut u32) -> u32;
    fn proxy_get_header_map_value(
        kind: u32,
        name: *const u8,
        name_length: usize,
        data: *mut *mut u8,
        length: *mut usize,
    ) -> u32;
    fn proxy_replace_header_map_value(
        kind: u32,
        name: *const u8,
        name_length: usize,
        data: *const u8,
        length: usize,
    ) -> u32;
    fn proxy_add_header_map_value(
        kind: u32,
        name: *const u8,
        name_length: usize,
        data: *const u8,
        length: usize,
    ) -> u32;
    fn proxy_remove_header_map_value(kind: u32, name: *const u8, name_length: usize) -> u32;
    fn proxy_get_property(path: *const u8, path_length: usize, data: *mut *mut u8, length: *mut usize) -> u32;
    fn proxy_set_property(path: *const u8, path_length: usize, data: *const u8, length: usize) -> u32;
    fn proxy_get_shared_data(
        key: *const u8,
        key_length: usize,
        data: *mut *mut u8,
        length: *mut usize,
        cas: *mut u32,
    ) -> u32;
    fn proxy_set_shared_data(key: *const u8, key_length: usize, data: *const u8, length: usize, cas: u32) -> u32;
    fn proxy_register_shared_queue(name: *const u8, length: usize, id: *mut u32) -> u32;
    fn proxy_resolve_shared_queue(
        vm_id: *const u8,
        vm_id_length: usize,
        name: *const u8,
        length: usize,
        id: *mut u32,
    ) -> u32;
    fn proxy_enqueue_shared_queue(id: u32, data: *const u8, length: usize) -> u32;
    fn proxy_dequeue_shared_queue(id: u32, data: *mut *mut u8, length: *mut usize) -> u32;
    fn proxy_continue_stream(kind: u32) -> u32;
    fn proxy_close_stream(kind: u32) -> u32;
    fn proxy_send_local_response(
        status: u32,
        details: *const u8,
        details_length: usize,
        body: *const u8,
        body_length: usize,
        headers: *const u8,
        headers_length: usize,
        grpc_status: i32,
    ) -> u32;
    fn proxy_http_call(
        cluster: *const u8,
        cluster_length: usize,
        headers: *const u8,
        headers_length: usize,
        body: *const u8,
        body_length: usize,
        trailers: *const u8,
        trailers_length: usize,
        timeout: u32,
        token: *mut u32,
    ) -> u32;
    fn proxy_get_status(code: *mut u32, data: *mut *mut u8, length: *mut usize) -> u32;
    fn proxy_set_effective_context(context: u32) -> u32;
    fn proxy_done() -> u32;
    fn proxy_call_foreign_function(
        name: *const u8,
        name_length: usize,
        argument: *const u8,
        argument_length: usize,
        data: *mut *mut u8,
        length: *mut usize,
    ) -> u32;
    fn proxy_define_metric(kind: u32, name: *const u8, length: usize, id: *mut u32) -> u32;
    fn proxy_increment_metric(id: u32, by: i64) -> u32;
    fn proxy_record_metric(id: u32, value: u64) -> u32;
    fn proxy_get_metric(id: u32, value: *mut u64) -> u32;
}

#[link(wasm_import_module = "wasi_snapshot_preview1")]
unsafe extern "C" {
    fn random_get(data: *mut u8, length: usize) -> u32;
    fn clock_time_get(clock: u32, precision: u64, time: *mut u64) -> u32;
}

/// Memory into which the host writes what it returns.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_memory_allocate(size: usize) -> *mut u8 {
    let Ok(layout) = Layout::from_size_align(size.max(1), 1) else {
        return std::ptr::null_mut();
    };
    // SAFETY: the size is not zero.
    unsafe { std::alloc::alloc(layout) }
}

/// Runs a hostcall that returns bytes, and takes them over.
fn given(call: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> Given {
    let mut data = std::ptr::null_mut();
    let mut length = 0;
    let status = Status(call(&mut data, &mut length));
    if data.is_null() || !status.is_ok() {
        return (status, Vec::new());
    }
    // SAFETY: the host has had these bytes allocated by `proxy_on_memory_allocate`, has written all of
    // them, and forgets them; a `Vec` frees them with the alignment that they were allocated with.
    (status, unsafe { Vec::from_raw_parts(data, length, length) })
}

macro_rules! call {
    ($function:ident($($argument:expr),*)) => {
        // SAFETY: every pointer is to live memory of the length that stands beside it, or to a live
        // variable, and the host keeps none of them.
        unsafe { $function($($argument),*) }
    };
}

pub(crate) fn log(text: &str) {
    const INFO: u32 = 2;
    // A host that cannot log has nothing to tell.
    let _ = call!(proxy_log(INFO, text.as_ptr(), text.len()));
}

pub(crate) fn log_level() -> (Status, u32) {
    let mut level = 0;
    (Status(call!(proxy_get_log_level(&mut level))), level)
}

pub(crate) fn log_at(level: u32, text: &[u8]) -> Status {
    Status(call!(proxy_log(level, text.as_ptr(), text.len())))
}

pub(crate) fn current_time() -> (Status, u64) {
    let mut time = 0;
    (Status(call!(proxy_get_current_time_nanoseconds(&mut time))), time)
}

pub(crate) fn set_tick_period(ms: u32) -> Status {
    Status(call!(proxy_set_tick_period_milliseconds(ms)))
}

pub(crate) fn buffer(kind: u32, start: usize, max: usize) -> Given {
    given(|data, length| call!(proxy_get_buffer_bytes(kind, start, max, data, length)))
}

pub(crate) fn set_buffer(kind: u32, start: usize, size: usize, bytes: &[u8]) -> Status {
    Status(call!(proxy_set_buffer_bytes(
        kind,
        start,
        size,
        bytes.as_ptr(),
        bytes.len()
    )))
}

pub(crate) fn header_pairs(map: u32) -> Given {
    given(|data, length| call!(proxy_get_header_map_pairs(map, data, length)))
}

pub(crate) fn set_header_pairs(map: u32, pairs: &[u8]) -> Status {
    Status(call!(proxy_set_header_map_pairs(map, pairs.as_ptr(), pairs.len())))
}

pub(crate) fn header_size(map: u32) -> (Status, u32) {
    let mut size = 0;
    (Status(call!(proxy_get_header_map_size(map, &mut size))), size)
}

pub(crate) fn header(map: u32, name: &[u8]) -> Given {
    given(|data, length| call!(proxy_get_header_map_value(map, name.as_ptr(), name.len(), data, length)))
}

pub(crate) fn set_header(map: u32, name: &[u8], value: &[u8]) -> Status {
    Status(call!(proxy_replace_header_map_value(
        map,
        name.as_ptr(),
        name.len(),
        value.as_ptr(),
        value.len()
    )))
}

pub(crate) fn add_header(map: u32, name: &[u8], value: &[u8]) -> Status {
    Status(call!(proxy_add_header_map_value(
        map,
        name.as_ptr(),
        name.len(),
        value.as_ptr(),
        value.len()
    )))
}

pub(crate) fn remove_header(map: u32, name: &[u8]) -> Status {
    Status(call!(proxy_remove_header_map_value(map, name.as_ptr(), name.len())))
}

pub(crate) fn property(path: &[u8]) -> Given {
    given(|data, length| call!(proxy_get_property(path.as_ptr(), path.len(), data, length)))
}

pub(crate) fn set_property(path: &[u8], value: &[u8]) -> Status {
    Status(call!(proxy_set_property(
        path.as_ptr(),
        path.len(),
        value.as_ptr(),
        value.len()
    )))
}

pub(crate) fn shared_data(key: &[u8]) -> (Status, Vec<u8>, u32) {
    let mut cas = 0;
    let (status, value) =
        given(|data, length| call!(proxy_get_shared_data(key.as_ptr(), key.len(), data, length, &mut cas)));
    (status, value, cas)
}

pub(crate) fn set_shared_data(key: &[u8], value: &[u8], cas: u32) -> Status {
    Status(call!(proxy_set_shared_data(
        key.as_ptr(),
        key.len(),
        value.as_ptr(),
        value.len(),
        cas
    )))
}

pub(crate) fn register_queue(name: &[u8]) -> (Status, u32) {
    let mut id = 0;
    let status = call!(proxy_register_shared_queue(name.as_ptr(), name.len(), &mut id));
    (Status(status), id)
}

pub(crate) fn resolve_queue(vm_id: &[u8], name: &[u8]) -> (Status, u32) {
    let mut id = 0;
    let status = call!(proxy_resolve_shared_queue(
        vm_id.as_ptr(),
        vm_id.len(),
        name.as_ptr(),
        name.len(),
        &mut id
    ));
    (Status(status), id)
}

pub(crate) fn enqueue(id: u32, entry: &[u8]) -> Status {
    Status(call!(proxy_enqueue_shared_queue(id, entry.as_ptr(), entry.len())))
}

pub(crate) fn dequeue(id: u32) -> Given {
    given(|data, length| call!(proxy_dequeue_shared_queue(id, data, length)))
}

pub(crate) fn continue_stream(kind: u32) -> Status {
    Status(call!(proxy_continue_stream(kind)))
}

pub(crate) fn close_stream(kind: u32) -> Status {
    Status(call!(proxy_close_stream(kind)))
}

/// A local response; `grpc_status` -1 for none.
pub(crate) fn send_local_response(
    status: u32,
    details: &[u8],
    body: &[u8],
    headers: &[u8],
    grpc_status: i32,
) -> Status {
    Status(call!(proxy_send_local_response(
        status,
        details.as_ptr(),
        details.len(),
        body.as_ptr(),
        body.len(),
        headers.as_ptr(),
        headers.len(),
        grpc_status
    )))
}

/// A callout; the timeout in milliseconds as the ABI takes it.
pub(crate) fn http_call(cluster: &[u8], headers: &[u8], body: &[u8], trailers: &[u8], timeout: u32) -> (Status, u32) {
    let mut token = 0;
    let status = call!(proxy_http_call(
        cluster.as_ptr(),
        cluster.len(),
        headers.as_ptr(),
        headers.len(),
        body.as_ptr(),
        body.len(),
        trailers.as_ptr(),
        trailers.len(),
        timeout,
        &mut token
    ));
    (Status(status), token)
}

pub(crate) fn call_status() -> (Status, u32, Vec<u8>) {
    let mut code = 0;
    let (status, message) = given(|data, length| call!(proxy_get_status(&mut code, data, length)));
    (status, code, message)
}

pub(crate) fn set_effective_context(context: u32) -> Status {
    Status(call!(proxy_set_effective_context(context)))
}

pub(crate) fn done() -> Status {
    Status(call!(proxy_done()))
}

pub(crate) fn call_foreign(name: &[u8], argument: &[u8]) -> Given {
    given(|data, length| {
        call!(proxy_call_foreign_function(
            name.as_ptr(),
            name.len(),
            argument.as_ptr(),
            argument.len(),
            data,
            length
        ))
    })
}

pub(crate) fn define_metric(kind: u32, name: &[u8]) -> (Status, u32) {
    let mut id = 0;
    let status = call!(proxy_define_metric(kind, name.as_ptr(), name.len(), &mut id));
    (Status(status), id)
}

pub(crate) fn increment_metric(id: u32, by: i64) -> Status {
    Status(call!(proxy_increment_metric(id, by)))
}

pub(crate) fn record_metric(id: u32, value: u64) -> Status {
    Status(call!(proxy_record_metric(id, value)))
}

pub(crate) fn metric(id: u32) -> (Status, u64) {
    let mut value = 0;
    (Status(call!(proxy_get_metric(id, &mut value))), value)
}

/// Random bytes, and what WASI says of it.
pub(crate) fn random(length: usize) -> (u32, Vec<u8>) {
    let mut bytes = vec![0; length];
    (call!(random_get(bytes.as_mut_ptr(), length)), bytes)
}

/// A clock of WASI: its errno and its nanoseconds.
pub(crate) fn clock(id: u32) -> (u32, u64) {
    let mut time = 0;
    (call!(clock_time_get(id, 1, &mut time)), time)
}
