//! Hostcalls on streams: header maps, resuming, local replies; and HTTP callouts.

use std::time::Duration;

use wasmtime::Linker;

use crate::abi::memory::{Call, hand_over, read, write_u32};
use crate::abi::{Fault, Status, hostcall, pairs, unmodelled};
use crate::cluster::{Callout, PeerRequest, Reply};
use crate::headers::HeaderMap;
use crate::interleave::{Access, Op, Place};
use crate::node::{CalloutEnd, Event, made_by_envoy};
use crate::stream::{Half, Side, Stream};
use crate::worker::{Deferred, Guest, LocalResponse};

pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    link_header_maps(linker)?;
    hostcall!(linker, "proxy_continue_stream", |call, kind| {
        let side = side_of_stream(kind, "proxy_continue_stream")?;
        let guest = call.data_mut();
        // On the root context there is nothing to resume, and Envoy says Ok.
        if let Some(stream) = guest.effective_stream() {
            // Whichever direction it is: it is the request that is out of reach from now on.
            let mut node = guest.node.lock();
            let facts = node.stream(stream);
            facts.request.hide();
            facts.releases += u32::from(side == Side::Request);
            drop(node);
            guest.deferred.push(Deferred::Continue(stream, side));
        }
        Ok(())
    });
    hostcall!(linker, "proxy_close_stream", |call, kind| {
        side_of_stream(kind, "proxy_close_stream")?;
        let guest = call.data_mut();
        if let Some(stream) = guest.effective_stream() {
            let mut node = guest.node.lock();
            let details = &mut node.stream(stream).details;
            details.get_or_insert_with(|| "wasm_close_stream".to_owned());
            drop(node);
            guest.deferred.push(Deferred::Reset(stream));
        }
        Ok(())
    });
    hostcall!(
        linker,
        "proxy_send_local_response",
        |call, status, details, details_length, body, body_length, headers, headers_length, grpc| {
            let details = read(call, details, details_length)?;
            let response = LocalResponse {
                status,
                details: String::from_utf8_lossy(&details).replace(char::is_whitespace, "_"),
                body: read(call, body, body_length)?,
                headers: pairs::parse(&read(call, headers, headers_length)?),
                grpc_status: (grpc != u32::MAX).then_some(grpc),
            };
            let guest = call.data_mut();
            if let Some(stream) = guest.effective_stream() {
                let mut node = guest.node.lock();
                let facts = node.stream(stream);
                // In place of a response it is no answer to a request that waits.
                facts.releases += u32::from(facts.response.headers.is_empty());
                drop(node);
                guest.deferred.push(Deferred::LocalResponse(stream, response));
            }
            guest.has_replied = true;
            Ok(())
        }
    );
    hostcall!(
        linker,
        "proxy_http_call",
        |call,
         cluster,
         cluster_length,
         headers,
         headers_length,
         body,
         body_length,
         trailers,
         trailers_length,
         timeout: i32,
         return_token| {
            let cluster = read(call, cluster, cluster_length)?;
            let request = PeerRequest {
                headers: pairs::parse(&read(call, headers, headers_length)?)
                    .into_iter()
                    .collect(),
                body: read(call, body, body_length)?,
                trailers: pairs::parse(&read(call, trailers, trailers_length)?)
                    .into_iter()
                    .collect(),
            };
            let token = call_out(call, cluster, request, timeout)?;
            write_u32(call, return_token, token)
        }
    );
    Ok(())
}

fn link_header_maps(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    hostcall!(linker, "proxy_get_header_map_pairs", |call, kind, data, length| {
        // A map that is not there reads as empty; only single values are refused.
        let map = readable_map(call, kind)?.unwrap_or_default();
        hand_over(call, &pairs::serialize(&map), data, length)
    });
    hostcall!(linker, "proxy_get_header_map_size", |call, kind, return_size| {
        let map = readable_map(call, kind)?.ok_or(Status::BadArgument)?;
        let size: usize = map.iter().map(|(name, value)| name.len() + value.len()).sum();
        write_u32(call, return_size, u32::try_from(size).unwrap_or(u32::MAX))
    });
    hostcall!(
        linker,
        "proxy_get_header_map_value",
        |call, kind, name, name_length, data, size| {
            let name = read(call, name, name_length)?;
            let map = readable_map(call, kind)?.ok_or(Status::BadArgument)?;
            let value = map.get(name).ok_or(Status::NotFound)?;
            hand_over(call, value, data, size)
        }
    );
    hostcall!(linker, "proxy_set_header_map_pairs", |call, kind, data, length| {
        let pairs = pairs::parse(&read(call, data, length)?);
        edit_map(call, kind, |map| {
            map.clear();
            for (name, value) in pairs {
                map.add(name, value);
            }
        })
    });
    hostcall!(
        linker,
        "proxy_add_header_map_value",
        |call, kind, name, name_length, value, length| {
            let (name, value) = (read(call, name, name_length)?, read(call, value, length)?);
            edit_map(call, kind, |map| map.add(name, value))
        }
    );
    hostcall!(
        linker,
        "proxy_replace_header_map_value",
        |call, kind, name, name_length, value, length| {
            let (name, value) = (read(call, name, name_length)?, read(call, value, length)?);
            edit_map(call, kind, |map| map.set(name, value))
        }
    );
    hostcall!(linker, "proxy_remove_header_map_value", |call, kind, name, length| {
        let name = read(call, name, length)?;
        edit_map(call, kind, |map| map.remove(name))
    });
    Ok(())
}

fn side_of_stream(kind: u32, hostcall: &str) -> Result<Side, Fault> {
    match kind {
        0 => Ok(Side::Request),
        1 => Ok(Side::Response),
        2 | 3 => Err(unmodelled(format!("{hostcall} of a TCP connection"))),
        _ => Err(Status::BadArgument.into()),
    }
}

/// The header map as the plugin may read it now, if it is there.
fn readable_map(call: &Call<'_>, kind: u32) -> Result<Option<HeaderMap>, Fault> {
    let guest = call.data();
    match kind {
        4 | 5 => return Err(unmodelled("header maps of gRPC callouts")),
        6 => return Ok(guest.callout_response.as_ref().map(|response| response.headers.clone())),
        7 => {
            return Ok(guest
                .callout_response
                .as_ref()
                .map(|response| response.trailers.clone()));
        }
        _ => {}
    }
    let Some(id) = guest.effective_stream() else {
        return Ok(None);
    };
    let mut node = guest.node.lock();
    let stream = node.stream(id);
    let is_logging = stream.is_logging;
    let map = match kind {
        0 if is_logging => Some(&stream.request.headers),
        // One that was held has not left, and is there nevertheless.
        2 if is_logging && !stream.response.sent.started => Some(&stream.response.headers),
        2 if is_logging => Some(&stream.response.sent.headers),
        // Those of the request are nowhere to be had by then.
        1 if is_logging => return Ok(Some(HeaderMap::default())),
        3 if is_logging => {
            let half = &stream.response;
            Some(half.trailers.as_ref().unwrap_or(&half.sent.trailers))
        }
        0 | 2 => {
            let half = half_of(stream, kind)?;
            half.headers_readable.then_some(&half.headers)
        }
        _ => half_of(stream, kind)?.trailers_to_read().map(|map| &*map),
    };
    Ok(map.cloned())
}

fn edit_map(call: &Call<'_>, kind: u32, edit: impl FnOnce(&mut HeaderMap)) -> Result<(), Fault> {
    let guest = call.data();
    let id = guest.effective_stream().ok_or(Status::BadArgument)?;
    let mut node = guest.node.lock();
    let half = half_of(node.stream(id), kind)?;
    let map = match kind {
        0 | 2 => half.headers_readable.then_some(&mut half.headers),
        _ => half.trailers_to_edit(),
    };
    edit(map.ok_or(Status::BadArgument)?);
    Ok(())
}

fn half_of(stream: &mut Stream, kind: u32) -> Result<&mut Half, Fault> {
    match kind {
        0 | 1 => Ok(&mut stream.request),
        2 | 3 => Ok(&mut stream.response),
        _ => Err(Status::BadArgument.into()),
    }
}

/// Sends a callout from the root context and returns its token.
fn call_out(call: &mut Call<'_>, name: Vec<u8>, mut request: PeerRequest, timeout_ms: i32) -> Result<u32, Fault> {
    let timeout_ms = u64::try_from(timeout_ms).map_err(|_| Status::BadArgument)?;
    let timeout = (timeout_ms > 0).then(|| Duration::from_millis(timeout_ms));
    let guest = call.data_mut();
    let cluster = guest.node.lock().clusters.get(&name).cloned();
    let cluster = cluster.ok_or(Status::BadArgument)?;
    if [":path", ":method", ":authority"]
        .iter()
        .any(|name| request.headers.get(name).is_none())
    {
        return Err(Status::BadArgument.into());
    }
    if !request.body.is_empty() {
        request.headers.set("content-length", request.body.len().to_string());
    }
    if request.headers.unwritable().is_some() {
        return Err(Status::InternalFailure.into());
    }
    guest.callouts_made += 1;
    let token = guest.callouts_made;
    if guest.is_canary {
        // The canary's callouts never reach a peer, and the canary is gone before an answer.
        return Ok(token);
    }
    request.headers.set("x-envoy-internal", "true");
    if timeout_ms > 0 {
        request
            .headers
            .set("x-envoy-expected-rq-timeout-ms", timeout_ms.to_string());
    }
    guest.point(|| Op::new("proxy_http_call", Place::Cluster(name.clone()), Access::Write));
    let answer = cluster.lock().answer(&request);
    if matches!(answer.reply, Reply::NoEndpoints) {
        return Err(Status::InternalFailure.into());
    }
    let mut node = guest.node.lock();
    let at = node.clock.elapsed();
    let cluster = String::from_utf8_lossy(&name).into_owned();
    node.callouts.push(Callout {
        worker: guest.vm.worker,
        cluster,
        request,
        timeout,
        at,
    });
    let natural_end = match answer.reply {
        Reply::Response(ref response) => Some(CalloutEnd::Response(response.clone())),
        Reply::ResetMidBody(_) => Some(CalloutEnd::Reset),
        Reply::CloseBeforeHeaders => Some(CalloutEnd::Response(made_by_envoy(503, crate::UPSTREAM_CLOSED))),
        Reply::Silence | Reply::Unending(_) | Reply::NoEndpoints => None,
    };
    // A response that has begun cannot become another one at the timeout.
    let at_timeout = if matches!(answer.reply, Reply::Unending(_)) {
        CalloutEnd::Reset
    } else {
        CalloutEnd::Response(made_by_envoy(504, "upstream request timeout"))
    };
    let is_late = |timeout: &Duration| natural_end.is_none() || answer.delay >= *timeout;
    let (delay, end) = match (timeout.filter(is_late), natural_end) {
        (Some(timeout), _) => (timeout, at_timeout),
        (None, Some(end)) => (answer.delay, end),
        (None, None) => return Ok(token),
    };
    node.plan(
        delay,
        Event::Callout {
            vm: guest.vm,
            root: guest.effective_root(),
            token,
            end,
        },
    );
    Ok(token)
}
