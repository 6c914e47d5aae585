//! Requests, as a client makes them.

use std::collections::HashMap;

use crate::TinyEnvoy;
use crate::headers::HeaderMap;
use crate::stream::{Outcome, StreamId};

/// A request that is being put together. See [`TinyEnvoy::request`].
#[derive(Debug)]
#[must_use = "nothing is sent before `send` or `open`"]
pub struct RequestBuilder<'a> {
    envoy: &'a mut TinyEnvoy,
    pub(crate) worker: usize,
    pub(crate) headers: HeaderMap,
    body: Vec<u8>,
    trailers: HeaderMap,
    pub(crate) properties: HashMap<Vec<u8>, Vec<u8>>,
}

impl<'a> RequestBuilder<'a> {
    pub(crate) fn new(envoy: &'a mut TinyEnvoy, method: &[u8], path: &[u8]) -> Self {
        let mut headers = HeaderMap::new();
        headers.add(":authority", "tiny.example");
        headers.add(":path", path);
        headers.add(":method", method);
        headers.add(":scheme", "http");
        let worker = envoy.seat.as_ref().map_or(0, |seat| seat.worker);
        Self {
            envoy,
            worker,
            headers,
            body: Vec::new(),
            trailers: HeaderMap::new(),
            properties: HashMap::new(),
        }
    }

    /// Adds a field line. Pseudo headers and `host` replace the one that is there.
    pub fn header(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        let name = name.as_ref();
        if name.starts_with(b":") || name.eq_ignore_ascii_case(b"host") {
            self.headers.set(name, value);
        } else {
            self.headers.add(name, value);
        }
        self
    }

    /// Takes a header away, pseudo headers included.
    pub fn without_header(mut self, name: impl AsRef<[u8]>) -> Self {
        self.headers.remove(name);
        self
    }

    /// Sets the body.
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self
    }

    /// Adds a trailer; makes the request chunked.
    pub fn trailer(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.trailers.add(name, value);
        self
    }

    /// Chooses the worker; unless set, 0, or in a step of a [`Scene`](crate::Scene) the one it is of.
    pub fn worker(mut self, worker: usize) -> Self {
        self.worker = worker;
        self
    }

    /// A property of this stream.
    pub fn property(mut self, path: &[&str], value: impl Into<Vec<u8>>) -> Self {
        self.properties.insert(path.join("\0").into_bytes(), value.into());
        self
    }

    /// Dynamic metadata, as filters in front of the plugin have left them; see
    /// [`metadata`](crate::metadata()).
    pub fn dynamic_metadata(self, filter_metadata: &serde_json::Value) -> Self {
        self.property(&["metadata"], crate::metadata(filter_metadata))
    }

    /// The metadata of the route that this stream takes, by namespace. As in Envoy a string reads as its
    /// bytes, a number as a double and a flag as one byte; reading more than one value at once is not
    /// modelled.
    pub fn route_metadata(mut self, filter_metadata: &serde_json::Value) -> Self {
        self.properties.extend(crate::metadata::route_metadata(filter_metadata));
        self
    }

    /// Sends everything. Runs the callbacks of this request, and nothing else that is due.
    pub fn send(mut self) -> StreamId {
        let body = std::mem::take(&mut self.body);
        let trailers = std::mem::take(&mut self.trailers);
        if !trailers.is_empty() {
            self.headers.set("transfer-encoding", "chunked");
        } else if !body.is_empty() {
            self.headers.set("content-length", body.len().to_string());
        }
        let ends = body.is_empty() && trailers.is_empty();
        let (envoy, stream) = self.begin(ends);
        if !body.is_empty() {
            // HTTP/1.1 says that a body has ended behind its last byte.
            envoy.body(stream, &body, false);
        }
        if !body.is_empty() && trailers.is_empty() {
            envoy.end(stream);
        }
        if !trailers.is_empty() {
            envoy.request_trailers(stream, trailers);
        }
        stream
    }

    /// Sends everything, then lets time pass until the request is decided, for at most a minute
    /// of virtual time.
    pub fn run(self) -> Outcome {
        let Self {
            envoy,
            worker,
            headers,
            body,
            trailers,
            properties,
        } = self;
        let request = RequestBuilder {
            envoy: &mut *envoy,
            worker,
            headers,
            body,
            trailers,
            properties,
        };
        let stream = request.send();
        envoy.decide(stream)
    }

    /// Sends the headers only. [`TinyEnvoy::send_body`], [`TinyEnvoy::send_trailers`] and
    /// [`TinyEnvoy::end`] follow.
    pub fn open(mut self) -> StreamId {
        self.headers.set("transfer-encoding", "chunked");
        self.begin(false).1
    }

    fn begin(self, ends: bool) -> (&'a mut TinyEnvoy, StreamId) {
        let Self {
            envoy,
            worker,
            headers,
            properties,
            ..
        } = self;
        let stream = envoy.begin(worker, headers, properties, ends);
        (envoy, stream)
    }
}
