//! Every hostcall, typed: bytes in, bytes out, statuses as values.
//!
//! The SDK's own wrappers are not used, with one exception: their getters decode UTF-8 and
//! panic on a byte that is not, and they panic on statuses they do not expect; a panic strands
//! every waiting request of the worker. The exception is [`http_call`], because the SDK's
//! dispatcher must know the token of a call that it will be asked to deliver: it panics on any
//! status but 0 (OK), 2 (bad argument) and 10 (internal failure), the ones that Envoy answers.

#![allow(
    unsafe_code,
    reason = "the one place where memory is shared with the host; each block says why it is sound"
)]

use std::ptr::null_mut;
use std::time::{Duration, SystemTime};

use proxy_wasm::types::{LogLevel, Status};
use zeroize::Zeroizing;

mod abi {
    //! Proxy-Wasm ABI 0.2.1, as far as it is used. Statuses stay numbers: a host may know more
    //! of them than we do.

    #[link(wasm_import_module = "env")]
    unsafe extern "C" {
        pub(super) fn proxy_log(level: u32, message: *const u8, message_size: usize) -> u32;
        pub(super) fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
        pub(super) fn proxy_get_buffer_bytes(
            buffer: u32,
            start: usize,
            max_size: usize,
            data: *mut *mut u8,
            size: *mut usize,
        ) -> u32;
        pub(super) fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, size: *mut usize) -> u32;
        pub(super) fn proxy_get_header_map_value(
            map: u32,
            key: *const u8,
            key_size: usize,
            data: *mut *mut u8,
            size: *mut usize,
        ) -> u32;
        pub(super) fn proxy_add_header_map_value(
            map: u32,
            key: *const u8,
            key_size: usize,
            value: *const u8,
            value_size: usize,
        ) -> u32;
        pub(super) fn proxy_replace_header_map_value(
            map: u32,
            key: *const u8,
            key_size: usize,
            value: *const u8,
            value_size: usize,
        ) -> u32;
        pub(super) fn proxy_remove_header_map_value(map: u32, key: *const u8, key_size: usize) -> u32;
        pub(super) fn proxy_send_local_response(
            status: u32,
            details: *const u8,
            details_size: usize,
            body: *const u8,
            body_size: usize,
            headers: *const u8,
            headers_size: usize,
            grpc_status: i32,
        ) -> u32;
        pub(super) fn proxy_set_property(path: *const u8, path_size: usize, value: *const u8, value_size: usize)
        -> u32;
        pub(super) fn proxy_get_property(
            path: *const u8,
            path_size: usize,
            data: *mut *mut u8,
            size: *mut usize,
        ) -> u32;
        pub(super) fn proxy_call_foreign_function(
            name: *const u8,
            name_size: usize,
            arguments: *const u8,
            arguments_size: usize,
            data: *mut *mut u8,
            size: *mut usize,
        ) -> u32;
        pub(super) fn proxy_continue_stream(stream: u32) -> u32;
        pub(super) fn proxy_close_stream(stream: u32) -> u32;
        pub(super) fn proxy_set_effective_context(context: u32) -> u32;
        pub(super) fn proxy_get_shared_data(
            key: *const u8,
            key_size: usize,
            data: *mut *mut u8,
            size: *mut usize,
            cas: *mut u32,
        ) -> u32;
        pub(super) fn proxy_set_shared_data(
            key: *const u8,
            key_size: usize,
            value: *const u8,
            value_size: usize,
            cas: u32,
        ) -> u32;
        pub(super) fn proxy_register_shared_queue(name: *const u8, name_size: usize, queue: *mut u32) -> u32;
        pub(super) fn proxy_enqueue_shared_queue(queue: u32, value: *const u8, value_size: usize) -> u32;
        pub(super) fn proxy_dequeue_shared_queue(queue: u32, data: *mut *mut u8, size: *mut usize) -> u32;
        pub(super) fn proxy_define_metric(kind: u32, name: *const u8, name_size: usize, id: *mut u32) -> u32;
        pub(super) fn proxy_increment_metric(id: u32, offset: i64) -> u32;
        pub(super) fn proxy_record_metric(id: u32, value: u64) -> u32;
        pub(super) fn proxy_get_metric(id: u32, value: *mut u64) -> u32;
    }
}

const OK: u32 = 0;
pub(crate) const BAD_ARGUMENT: u32 = 2;
const PARSE_FAILURE: u32 = 4;
/// Somebody else has written in between.
pub(crate) const CAS_MISMATCH: u32 = 8;
/// `proxy_continue_stream` and `proxy_close_stream`: the request direction.
const REQUEST: u32 = 0;
/// A compare-and-set value that only a missing key accepts.
const ONLY_IF_ABSENT: u32 = u32::MAX;

/// What the host answered instead of OK: a status of the ABI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused(pub(crate) u32);

type Result<T> = std::result::Result<T, Refused>;

fn check(status: u32) -> Result<()> {
    if status == OK { Ok(()) } else { Err(Refused(status)) }
}

/// Runs a hostcall that returns bytes.
fn returned(call: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> Result<Vec<u8>> {
    let (mut data, mut size) = (null_mut(), 0usize);
    check(call(&raw mut data, &raw mut size))?;
    if data.is_null() || size == 0 {
        return Ok(Vec::new());
    }
    // SAFETY: the host has allocated `size` bytes through `proxy_on_memory_allocate` of the SDK,
    // version 0.2.5 (pinned for this): a boxed slice of exactly `size` bytes with alignment 1 from
    // the global allocator. It has filled them and has given them up.
    Ok(unsafe { Vec::from_raw_parts(data, size, size) })
}

/// Writes one line to the proxy's log.
pub(crate) fn log(level: LogLevel, message: &str) {
    // SAFETY: the host reads `message` during the call only.
    let _ = unsafe { abi::proxy_log(number(level), message.as_ptr(), message.len()) };
}

fn number(level: LogLevel) -> u32 {
    match level {
        LogLevel::Trace => 0,
        LogLevel::Debug => 1,
        LogLevel::Info => 2,
        LogLevel::Warn => 3,
        LogLevel::Error => 4,
        LogLevel::Critical => 5,
    }
}

/// A header map of the ABI.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Map {
    /// The head of the request.
    Request,
    /// Its trailers.
    RequestTrailers,
    /// The head of the response.
    Response,
    /// Its trailers.
    ResponseTrailers,
    /// The head of a call's answer.
    CallResponse,
}

impl Map {
    fn number(self) -> u32 {
        match self {
            Self::Request => 0,
            Self::RequestTrailers => 1,
            Self::Response => 2,
            Self::ResponseTrailers => 3,
            Self::CallResponse => 6,
        }
    }
}

/// A buffer of the ABI.
#[derive(Debug, Clone, Copy)]
enum Buffer {
    RequestBody,
    CallResponseBody,
    PluginConfiguration,
}

impl Buffer {
    fn number(self) -> u32 {
        match self {
            Self::RequestBody => 0,
            Self::CallResponseBody => 4,
            Self::PluginConfiguration => 7,
        }
    }
}

/// A kind of metric.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Metric {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// It counts samples by their size.
    Histogram,
}

impl Metric {
    fn number(self) -> u32 {
        match self {
            Self::Counter => 0,
            Self::Gauge => 1,
            Self::Histogram => 2,
        }
    }
}

/// Random bits from the host; none of them set where it has none to give.
pub(crate) fn random() -> u32 {
    let mut bytes = [0; 4];
    // What is drawn is jitter: without it everything still works.
    let _ = getrandom::getrandom(&mut bytes);
    u32::from_le_bytes(bytes)
}

/// Milliseconds since the Unix epoch; 0 before it.
pub(crate) fn realtime_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    milliseconds(since)
}

/// Milliseconds on a clock that never goes back, the same for all VMs of the process; 0 where the
/// host has none.
pub(crate) fn monotonic_ms() -> u64 {
    // SAFETY: the host writes the time to a return place of the crate's own.
    let nanoseconds = unsafe { wasi::clock_time_get(wasi::CLOCKID_MONOTONIC, 1_000_000) };
    nanoseconds.unwrap_or_default() / 1_000_000
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Has `on_tick` called every `period_ms` on this worker; 0 stops it.
pub(crate) fn tick_every(period_ms: u32) {
    // SAFETY: no memory is shared.
    let _ = unsafe { abi::proxy_set_tick_period_milliseconds(period_ms) };
}

/// The plugin configuration.
pub(crate) fn plugin_configuration() -> Result<Vec<u8>> {
    buffer(Buffer::PluginConfiguration, usize::MAX)
}

/// The body of the call that is being answered, at most `max` bytes of it. It may hold
/// credentials: it is overwritten before it is freed.
pub(crate) fn call_response_body(max: usize) -> Result<Zeroizing<Vec<u8>>> {
    buffer(Buffer::CallResponseBody, max).map(Zeroizing::new)
}

fn buffer(buffer: Buffer, max: usize) -> Result<Vec<u8>> {
    let number = buffer.number();
    // SAFETY: the host writes to the two return places only.
    returned(|data, size| unsafe { abi::proxy_get_buffer_bytes(number, 0, max, data, size) })
}

/// The present piece of the request's body, at most `max` bytes of it.
pub(crate) fn request_body(max: usize) -> Result<Vec<u8>> {
    buffer(Buffer::RequestBody, max)
}

/// `:status` of the call that is being answered; 0 when it has none.
pub(crate) fn call_response_status() -> u16 {
    call_response_header(b":status")
        .and_then(|value| parsed(&value))
        .unwrap_or_default()
}

/// `retry-after` of the call that is being answered, where it is a number of seconds; the largest
/// number there is for one that is larger.
pub(crate) fn call_response_retry_after() -> Option<u32> {
    let value = call_response_header(b"retry-after")?;
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(parsed(&value).unwrap_or(u32::MAX))
}

fn parsed<T: std::str::FromStr>(value: &[u8]) -> Option<T> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

fn call_response_header(name: &[u8]) -> Option<Vec<u8>> {
    let map = Map::CallResponse.number();
    // SAFETY: the host reads the name during the call and writes to the two return places only.
    let value =
        returned(|data, size| unsafe { abi::proxy_get_header_map_value(map, name.as_ptr(), name.len(), data, size) });
    value.ok()
}

/// A header map as the host has serialized it.
#[derive(Debug, Default)]
pub(crate) struct HeaderBlock(Vec<u8>);

impl HeaderBlock {
    /// Reads a map of the current context.
    pub(crate) fn read(map: Map) -> Result<Self> {
        let map = map.number();
        // SAFETY: the host writes to the two return places only.
        returned(|data, size| unsafe { abi::proxy_get_header_map_pairs(map, data, size) }).map(Self)
    }

    /// Every field line in order. A block that is not of the pairs format is refused like one
    /// that the host does not give.
    pub(crate) fn fields(&self) -> Result<Vec<(&[u8], &[u8])>> {
        if self.0.is_empty() {
            return Ok(Vec::new());
        }
        parse_pairs(&self.0).ok_or(Refused(PARSE_FAILURE))
    }
}

/// The pairs format: a count, the sizes of every name and value, then the bytes of each with a
/// NUL behind it. Numbers are 32 bits, little-endian. `None` when the block is not of that form.
fn parse_pairs(block: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let (count, rest) = take_u32(block)?;
    let sizes_length = count.checked_mul(8)?;
    let (mut sizes, mut bytes) = rest.split_at_checked(sizes_length)?;
    let mut fields = Vec::with_capacity(count);
    while !sizes.is_empty() {
        let (name_size, after) = take_u32(sizes)?;
        let (value_size, after) = take_u32(after)?;
        sizes = after;
        let (name, after) = bytes.split_at_checked(name_size)?;
        let (value, after) = after.get(1..)?.split_at_checked(value_size)?;
        bytes = after.get(1..)?;
        fields.push((name, value));
    }
    Some(fields)
}

fn take_u32(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    Some((usize::try_from(u32::from_le_bytes(*number)).ok()?, rest))
}

fn serialize_pairs(pairs: &[(&str, &str)]) -> Vec<u8> {
    let length = |text: &str| u32::try_from(text.len()).unwrap_or_default().to_le_bytes();
    let mut block = Vec::new();
    block.extend(u32::try_from(pairs.len()).unwrap_or_default().to_le_bytes());
    for (name, value) in pairs {
        block.extend(length(name));
        block.extend(length(value));
    }
    for (name, value) in pairs {
        for text in [name, value] {
            block.extend(text.as_bytes());
            block.push(0);
        }
    }
    block
}

/// Takes out all field lines of a name.
pub(crate) fn remove_header(map: Map, name: &[u8]) -> Result<()> {
    // SAFETY: the host reads the name during the call only.
    check(unsafe { abi::proxy_remove_header_map_value(map.number(), name.as_ptr(), name.len()) })
}

/// Puts one field line in the place of all of that name.
pub(crate) fn set_header(map: Map, name: &[u8], value: &[u8]) -> Result<()> {
    // SAFETY: the host reads name and value during the call only.
    check(unsafe {
        abi::proxy_replace_header_map_value(map.number(), name.as_ptr(), name.len(), value.as_ptr(), value.len())
    })
}

/// Adds a field line.
pub(crate) fn add_header(map: Map, name: &[u8], value: &[u8]) -> Result<()> {
    // SAFETY: the host reads name and value during the call only.
    check(unsafe {
        abi::proxy_add_header_map_value(map.number(), name.as_ptr(), name.len(), value.as_ptr(), value.len())
    })
}

/// A response that the filter makes itself.
#[derive(Debug)]
pub(crate) struct LocalResponse<'a> {
    pub(crate) status: u16,
    /// For the access log (`%RESPONSE_CODE_DETAILS%`).
    pub(crate) details: &'a str,
    pub(crate) headers: &'a [(&'a str, &'a str)],
    pub(crate) body: &'a [u8],
    /// What a gRPC client gets; others get the status.
    pub(crate) grpc_status: u8,
}

/// Answers the current stream. It takes effect when the callback has returned.
pub(crate) fn send_local_response(response: &LocalResponse<'_>) -> Result<()> {
    let headers = serialize_pairs(response.headers);
    // SAFETY: the host reads all of it during the call only.
    check(unsafe {
        abi::proxy_send_local_response(
            u32::from(response.status),
            response.details.as_ptr(),
            response.details.len(),
            response.body.as_ptr(),
            response.body.len(),
            headers.as_ptr(),
            headers.len(),
            i32::from(response.grpc_status),
        )
    })
}

/// Lets the paused request of the current context go on.
pub(crate) fn continue_request() -> Result<()> {
    // SAFETY: no memory is shared.
    check(unsafe { abi::proxy_continue_stream(REQUEST) })
}

/// Has the stream of the current context reset in both directions once this call into the VM is over.
pub(crate) fn close_request() -> Result<()> {
    // SAFETY: no memory is shared.
    check(unsafe { abi::proxy_close_stream(REQUEST) })
}

/// Makes another context of this VM the current one; refused when it is gone.
pub(crate) fn set_effective_context(context: u32) -> Result<()> {
    // SAFETY: no memory is shared.
    check(unsafe { abi::proxy_set_effective_context(context) })
}

/// A property of the current stream, by the names on the way to it.
pub(crate) fn property(path: &[&str]) -> Result<Vec<u8>> {
    let path = path.join("\0");
    // SAFETY: the host reads the path during the call and writes to the two return places only.
    returned(|data, size| unsafe { abi::proxy_get_property(path.as_ptr(), path.len(), data, size) })
}

/// Gives the current stream a property, for other filters and the access log.
pub(crate) fn set_property(name: &str, value: &[u8]) -> Result<()> {
    // SAFETY: the host reads name and value during the call only.
    check(unsafe { abi::proxy_set_property(name.as_ptr(), name.len(), value.as_ptr(), value.len()) })
}

/// Calls a function that the host offers beyond the ABI.
pub(crate) fn call_foreign_function(name: &str, arguments: &[u8]) -> Result<Vec<u8>> {
    // SAFETY: the host reads name and arguments during the call and writes to the two return places
    // only.
    returned(|data, size| unsafe {
        abi::proxy_call_foreign_function(
            name.as_ptr(),
            name.len(),
            arguments.as_ptr(),
            arguments.len(),
            data,
            size,
        )
    })
}

/// Makes an HTTP call in the name of the SDK's active context; gives its token.
pub(crate) fn http_call(
    cluster: &str,
    headers: &[(&'static str, String)],
    timeout_ms: u32,
) -> std::result::Result<u32, Status> {
    let headers = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let timeout = Duration::from_millis(u64::from(timeout_ms));
    proxy_wasm::hostcalls::dispatch_http_call(cluster, headers, None, Vec::new(), timeout)
}

/// What is shared under a key, with the number of the write.
pub(crate) fn shared_data(key: &str) -> Result<(Vec<u8>, u32)> {
    let mut cas = 0u32;
    let value = returned(|data, size| {
        // SAFETY: the host reads the key during the call and writes to the return places only.
        unsafe { abi::proxy_get_shared_data(key.as_ptr(), key.len(), data, size, &raw mut cas) }
    })?;
    Ok((value, cas))
}

/// Shares a value if the last write was the one of that number; refused with [`CAS_MISMATCH`]
/// otherwise.
pub(crate) fn set_shared_data(key: &str, value: &[u8], cas: u32) -> Result<()> {
    // SAFETY: the host reads key and value during the call only.
    check(unsafe { abi::proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), cas) })
}

/// Counts up a number that all VMs of the node with this `vm_id` share, and gives it; never the
/// same number twice.
pub(crate) fn next_number(key: &str) -> Result<u64> {
    /// Every failed attempt is another VM's success; there are as many VMs as workers.
    const ATTEMPTS: usize = 1_000;
    for _ in 0..ATTEMPTS {
        let (number, expected) = match shared_data(key) {
            Ok((bytes, cas)) => match <[u8; 8]>::try_from(bytes) {
                Ok(bytes) => (u64::from_le_bytes(bytes).wrapping_add(1), cas),
                // There is something that is no number. It is replaced, by none that has been given yet.
                Err(_) => (random_number(), cas),
            },
            Err(_) => (1, ONLY_IF_ABSENT),
        };
        match set_shared_data(key, &number.to_le_bytes(), expected) {
            Ok(()) => return Ok(number),
            Err(Refused(CAS_MISMATCH)) => {}
            Err(refused) => return Err(refused),
        }
    }
    Err(Refused(CAS_MISMATCH))
}

fn random_number() -> u64 {
    (u64::from(random()) << 32) | u64::from(random())
}

/// A random number that all VMs of the node with this `vm_id` share, made by the first that asks.
pub(crate) fn secret_number(key: &str) -> Result<u64> {
    let random = random_number();
    // The first has its way; whoever comes later, also at the same moment, reads what is there.
    let _ = set_shared_data(key, &random.to_le_bytes(), ONLY_IF_ABSENT);
    let (bytes, _) = shared_data(key)?;
    <[u8; 8]>::try_from(bytes)
        .map(u64::from_le_bytes)
        .map_err(|_| Refused(PARSE_FAILURE))
}

/// Registers a queue whose items this context is told about.
pub(crate) fn register_queue(name: &str) -> Result<u32> {
    let mut queue = 0;
    // SAFETY: the host reads the name during the call and writes to the return place only.
    check(unsafe { abi::proxy_register_shared_queue(name.as_ptr(), name.len(), &raw mut queue) })?;
    Ok(queue)
}

/// Appends an item to a queue.
pub(crate) fn enqueue(queue: u32, item: &[u8]) -> Result<()> {
    // SAFETY: the host reads the item during the call only.
    check(unsafe { abi::proxy_enqueue_shared_queue(queue, item.as_ptr(), item.len()) })
}

/// Takes the first item of a queue, if there is one.
pub(crate) fn dequeue(queue: u32) -> Option<Vec<u8>> {
    // SAFETY: the host writes to the two return places only.
    returned(|data, size| unsafe { abi::proxy_dequeue_shared_queue(queue, data, size) }).ok()
}

/// Defines a metric, or finds it under its name; gives an id for it.
pub(crate) fn define_metric(kind: Metric, name: &str) -> Result<u32> {
    let kind = kind.number();
    let mut id = 0;
    // SAFETY: the host reads the name during the call and writes to the return place only.
    check(unsafe { abi::proxy_define_metric(kind, name.as_ptr(), name.len(), &raw mut id) })?;
    Ok(id)
}

/// Moves a metric.
pub(crate) fn increment_metric(id: u32, by: i64) {
    // SAFETY: no memory is shared.
    let _ = unsafe { abi::proxy_increment_metric(id, by) };
}

/// Sets a gauge, or adds a sample to a histogram.
pub(crate) fn record_metric(id: u32, value: u64) {
    // SAFETY: no memory is shared.
    let _ = unsafe { abi::proxy_record_metric(id, value) };
}

/// The value of a counter or gauge.
pub(crate) fn metric(id: u32) -> Result<u64> {
    let mut value = 0;
    // SAFETY: the host writes to the return place only.
    check(unsafe { abi::proxy_get_metric(id, &raw mut value) })?;
    Ok(value)
}
