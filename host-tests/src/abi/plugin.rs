//! Hostcalls that need no stream: logs, time, buffers, metrics, properties, foreign functions.

use std::time::Duration;

use wasmtime::Linker;

use crate::abi::memory::{Call, hand_over, read, write, write_u32, write_u64};
use crate::abi::{Fault, Status, hostcall, unmodelled};
use crate::log::Level;
use crate::metadata::ROUTE_METADATA;
use crate::metrics::Kind;
use crate::node::{Event, Foreign};
use crate::stream::{Half, Side, Stream};
use crate::worker::Guest;

pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    hostcall!(linker, "proxy_log", |call, level, text, length| {
        let level = Level::from_abi(level).ok_or(Status::BadArgument)?;
        let message = read(call, text, length)?;
        call.data().log(level, &message);
        Ok(())
    });
    hostcall!(linker, "proxy_get_log_level", |call, return_level| {
        let level = call.data().node.lock().options.log_level;
        write_u32(call, return_level, level as u32)
    });
    hostcall!(linker, "proxy_get_current_time_nanoseconds", |call, return_time| {
        let now = call.data().node.lock().clock.realtime_nanos();
        write_u64(call, return_time, now)
    });
    hostcall!(linker, "proxy_set_tick_period_milliseconds", |call, period| {
        set_tick_period(call, period);
        Ok(())
    });
    hostcall!(
        linker,
        "proxy_get_buffer_bytes",
        |call, kind, start, max, data, length| {
            let bytes = buffer(call, kind)?;
            let (start, max) = (start as usize, max as usize);
            let from = start.min(bytes.len());
            let to = start.saturating_add(max).min(bytes.len());
            hand_over(call, &bytes[from..to.max(from)], data, length)
        }
    );
    hostcall!(
        linker,
        "proxy_set_buffer_bytes",
        |call, kind, start, size, data, length| {
            let bytes = read(call, data, length)?;
            set_buffer(call, kind, start as usize, size as usize, &bytes)
        }
    );
    hostcall!(linker, "proxy_define_metric", |call, kind, name, length, return_id| {
        let kind = Kind::from_abi(kind)?;
        let name = String::from_utf8_lossy(&read(call, name, length)?).into_owned();
        let guest = call.data_mut();
        let id = guest.metrics.define(&mut guest.node.lock().stats, kind, name);
        write_u32(call, return_id, id)
    });
    hostcall!(linker, "proxy_increment_metric", |call, id, by: i64| {
        let guest = call.data();
        guest.point(|| guest.metrics.op("proxy_increment_metric", id));
        Ok(guest.metrics.increment(&mut guest.node.lock().stats, id, by)?)
    });
    hostcall!(linker, "proxy_record_metric", |call, id, value: u64| {
        let guest = call.data();
        guest.point(|| guest.metrics.op("proxy_record_metric", id));
        Ok(guest.metrics.record(&mut guest.node.lock().stats, id, value)?)
    });
    hostcall!(linker, "proxy_get_metric", |call, id, return_value| {
        let guest = call.data();
        guest.point(|| guest.metrics.op("proxy_get_metric", id));
        let value = guest.metrics.get(&guest.node.lock().stats, id)?;
        write_u64(call, return_value, value)
    });
    hostcall!(linker, "proxy_get_property", |call, path, length, data, size| {
        let path = read(call, path, length)?;
        if path.is_empty() {
            return Err(Status::SerializationFailure.into());
        }
        let Some(value) = property(call.data(), &path) else {
            return Err(why_not_there(call.data(), path));
        };
        hand_over(call, &value, data, size)
    });
    hostcall!(linker, "proxy_set_property", |call, path, length, data, size| {
        let (path, value) = (read(call, path, length)?, read(call, data, size)?);
        let guest = call.data();
        let stream = guest.effective_stream().ok_or(Status::NotFound)?;
        let declared = guest.declarations.get(&guest.effective_root()).map(|all| all.of(&path));
        let mut node = guest.node.lock();
        let state = &mut node.stream(stream).filter_state;
        Ok(state.set(path, value, declared.unwrap_or_default())?)
    });
    hostcall!(
        linker,
        "proxy_call_foreign_function",
        |call, name, name_length, argument, argument_length, data, length| {
            let name = read(call, name, name_length)?;
            let argument = read(call, argument, argument_length)?;
            let function = call.data().node.lock().foreign.get(&name).cloned();
            let result = match function.ok_or(Status::NotFound)? {
                Foreign::Plain(function) => function(&argument)?,
                Foreign::DeclareProperty => {
                    let guest = call.data_mut();
                    let context = guest.effective_context();
                    guest.declarations.entry(context).or_default().declare(&argument)?;
                    Vec::new()
                }
            };
            hand_over(call, &result, data, length)
        }
    );
    hostcall!(linker, "proxy_get_status", |call, return_code, data, length| {
        let (code, message) = call.data().callout_status;
        write(call, return_code, &code.to_le_bytes())?;
        hand_over(call, message.as_bytes(), data, length)
    });
    Ok(())
}

fn set_tick_period(call: &mut Call<'_>, period: u32) {
    let guest = call.data_mut();
    guest.tick_settings += 1;
    let (vm, root, setting) = (guest.vm, guest.effective_root(), guest.tick_settings);
    let period = Duration::from_millis(u64::from(period));
    let Some(context) = guest.roots.get_mut(&root) else {
        return;
    };
    context.tick_period = period;
    context.tick_setting = setting;
    if !period.is_zero() {
        guest.node.lock().plan(period, Event::Tick { vm, root, setting });
    }
}

fn buffer(call: &Call<'_>, kind: u32) -> Result<Vec<u8>, Fault> {
    let guest = call.data();
    let mut node = guest.node.lock();
    let bytes = match kind {
        0 | 1 => {
            // Where there is no stream its bodies are empty.
            let Some(stream) = guest.effective_stream() else {
                return Ok(Vec::new());
            };
            let side = if kind == 0 { Side::Request } else { Side::Response };
            node.stream(stream).half(side).body().cloned()
        }
        4 => guest.callout_response.as_ref().map(|response| response.body.clone()),
        6 => Some(node.options.vm_configuration.clone()),
        7 => guest.configuring.as_ref().map(|config| config.to_vec()),
        other => return Err(unmodelled(format!("proxy_get_buffer_bytes of buffer {other}"))),
    };
    Ok(bytes.ok_or(Status::NotFound)?)
}

fn set_buffer(call: &mut Call<'_>, kind: u32, start: usize, size: usize, bytes: &[u8]) -> Result<(), Fault> {
    let side = match kind {
        0 => Side::Request,
        1 => Side::Response,
        // The other buffers are constant.
        4 | 6 | 7 => return Err(Status::BadArgument.into()),
        other => return Err(unmodelled(format!("proxy_set_buffer_bytes of buffer {other}"))),
    };
    let guest = call.data();
    let stream = guest.effective_stream().ok_or(Status::NotFound)?;
    let mut node = guest.node.lock();
    let half: &mut Half = node.stream(stream).half(side);
    let body = half.body().ok_or(Status::NotFound)?;
    if start == 0 {
        body.splice(..size.min(body.len()), bytes.iter().copied());
    } else if start >= body.len() {
        body.extend_from_slice(bytes);
    } else {
        return Err(Status::BadArgument.into());
    }
    Ok(())
}

/// A property: what the test has set, then what the plugin has set, then what Envoy knows.
fn property(guest: &Guest, path: &[u8]) -> Option<Vec<u8>> {
    let mut node = guest.node.lock();
    if let Some(value) = node.properties.get(path) {
        return Some(value.clone());
    }
    match path {
        b"plugin_name" => return Some(node.options.plugin_name.clone()),
        b"plugin_root_id" => return Some(node.options.root_id.clone()),
        b"plugin_vm_id" => return Some(node.options.vm_id.clone()),
        _ => {}
    }
    let stream: &mut Stream = node.stream(guest.effective_stream()?);
    if let Some(value) = stream.properties.get(path) {
        return Some(value.clone());
    }
    // What was set under several parts is found by none of them.
    let is_one_part = !path.contains(&0);
    if let Some(value) = stream.filter_state.get(path).filter(|_| is_one_part) {
        return Some(value.clone());
    }
    let parts: Vec<&[u8]> = path.split(|byte| *byte == 0).collect();
    match parts.as_slice() {
        [b"filter_state", name] => stream.filter_state.get(name.strip_prefix(b"wasm.")?).cloned(),
        [b"request", b"headers", name] => joined(stream, Side::Request, name),
        [b"request", b"path"] => joined(stream, Side::Request, b":path"),
        [b"request", b"url_path"] => {
            let path = joined(stream, Side::Request, b":path")?;
            path.split(|byte| *byte == b'?').next().map(<[u8]>::to_vec)
        }
        [b"request", b"query"] => {
            let path = joined(stream, Side::Request, b":path")?;
            let query = path
                .iter()
                .position(|byte| *byte == b'?')
                .and_then(|at| path.get(at + 1..));
            Some(query.unwrap_or_default().to_vec())
        }
        [b"request", b"protocol"] => Some(b"HTTP/1.1".to_vec()),
        [b"request", b"method"] => joined(stream, Side::Request, b":method"),
        [b"request", b"host"] => joined(stream, Side::Request, b":authority"),
        [b"request", b"scheme"] => joined(stream, Side::Request, b":scheme"),
        [b"request", b"id"] => joined(stream, Side::Request, b"x-request-id"),
        [b"response", b"headers", name] => joined(stream, Side::Response, name),
        [b"response", b"code"] => {
            let status = joined(stream, Side::Response, b":status")?;
            let code: i64 = String::from_utf8(status).ok()?.parse().ok()?;
            Some(code.to_le_bytes().to_vec())
        }
        [b"response", b"code_details"] => stream.details.clone().map(String::into_bytes),
        _ => None,
    }
}

/// Parts of the metadata of a route are there, in a form that is not modelled.
fn why_not_there(guest: &Guest, path: Vec<u8>) -> Fault {
    let mut node = guest.node.lock();
    let of_stream = guest.effective_stream().map(|id| node.stream(id).properties.clone());
    let within = [path.as_slice(), b"\0"].concat();
    let is_part = |known: &Vec<u8>| known.starts_with(ROUTE_METADATA) && known.starts_with(&within);
    if node.properties.keys().any(is_part) || of_stream.is_some_and(|known| known.keys().any(is_part)) {
        return unmodelled(format!("the property {}", path.escape_ascii()));
    }
    Status::NotFound.into()
}

fn joined(stream: &mut Stream, side: Side, name: &[u8]) -> Option<Vec<u8>> {
    let values = stream.half(side).headers.get_all(name);
    if values.is_empty() {
        None
    } else {
        Some(values.join(b",".as_slice()))
    }
}
