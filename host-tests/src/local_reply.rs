//! Replies that Envoy makes itself, for the plugin or for its own reasons.

use crate::cluster::PeerResponse;
use crate::envoy::TinyEnvoy;
use crate::headers::HeaderMap;
use crate::stream::{Half, LocalReplyFacts, Side, StreamId};
use crate::worker::LocalResponse;

impl TinyEnvoy {
    /// Envoy answers by itself.
    pub(crate) fn reply(&mut self, id: StreamId, status: u32, body: &str, details: &str) {
        let response = LocalResponse {
            status,
            details: details.to_owned(),
            body: body.as_bytes().to_vec(),
            headers: Vec::new(),
            grpc_status: None,
        };
        self.reply_locally(id, response);
    }

    /// The plugin's VM is dead: its stream is answered 503.
    pub(crate) fn fail(&mut self, id: StreamId) {
        let has_answered = self.node.lock().stream(id).response.sent.started;
        if has_answered {
            self.finish(id);
        } else {
            self.reply(id, 503, "", "wasm_fail_stream");
        }
    }

    pub(crate) fn reply_locally(&mut self, id: StreamId, reply: LocalResponse) {
        let (response, is_direct) = {
            let mut node = self.node.lock();
            let stream = node.stream(id);
            // Once a reply has come past the plugin as a response, another may replace it.
            let is_shown = !stream.response.headers.is_empty();
            if stream.finished || (stream.local_reply.is_some() && !is_shown) {
                return;
            }
            stream.details = Some(reply.details.clone());
            if stream.response.sent.started {
                // The client has a head already: what remains is to break the response off.
                drop(node);
                self.finish(id);
                return;
            }
            stream.local_reply = Some(LocalReplyFacts {
                details: reply.details.clone(),
            });
            stream.request.closed = true;
            // Once the plugin has seen response headers, the reply does not come past it again.
            let is_direct = !stream.response.headers.is_empty() || stream.context.is_none();
            stream.response = Half::default();
            (local_response(reply, stream.grpc, stream.head), is_direct)
        };
        let PeerResponse { headers, body, .. } = response;
        if is_direct || !self.is_served(id) {
            {
                let mut node = self.node.lock();
                let half = &mut node.stream(id).response;
                half.headers = headers.clone();
                half.sent.started = true;
                half.sent.headers = headers;
                half.sent.body = body;
            }
            self.complete(id, Side::Response);
            return;
        }
        self.show_headers(id, Side::Response, headers, body.is_empty());
        if !body.is_empty() {
            self.show_body(id, Side::Response, body, true);
        }
    }
}

/// A local reply as it enters the response path.
fn local_response(reply: LocalResponse, is_grpc: bool, is_head: bool) -> PeerResponse {
    let LocalResponse {
        status,
        body,
        headers: extra,
        grpc_status,
        ..
    } = reply;
    let mut headers = HeaderMap::new();
    if is_grpc {
        headers.add(":status", "200");
        for (name, value) in extra {
            headers.add(name, value);
        }
        headers.set("content-type", "application/grpc");
        let grpc_status = grpc_status.unwrap_or_else(|| grpc_status_of(status));
        headers.set("grpc-status", grpc_status.to_string());
        if !body.is_empty() {
            headers.set("grpc-message", percent_encoded(&body));
        }
        return PeerResponse {
            headers,
            ..PeerResponse::default()
        };
    }
    headers.add(":status", status.to_string());
    for (name, value) in extra {
        headers.add(name, value);
    }
    if !body.is_empty() {
        headers.set("content-length", body.len().to_string());
        if headers.get("content-type").is_none() {
            headers.add("content-type", "text/plain");
        }
    }
    let body = if is_head { Vec::new() } else { body };
    PeerResponse {
        headers,
        body,
        trailers: HeaderMap::new(),
    }
}

/// Envoy's gRPC status for an HTTP status.
fn grpc_status_of(status: u32) -> u32 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// The encoding of `grpc-message`: printable ASCII but `%` stands for itself.
fn percent_encoded(text: &[u8]) -> String {
    let encode = |byte: &u8| match byte {
        b' '..=b'~' if *byte != b'%' => char::from(*byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.iter().map(encode).collect()
}
