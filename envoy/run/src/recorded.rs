//! What a server received, byte for byte.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use corpus::expect::Observed;
use http::HeaderMap;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use tokio::sync::watch;

/// How many requests a server remembers; older ones are forgotten first.
const MAX_REMEMBERED: usize = 10_000;

/// How much of a body a server reads. A larger one counts as incomplete.
const MAX_BODY_BYTES: usize = 32 * 1024 * 1024;

/// A request as a server received it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recorded {
    /// The method.
    pub method: String,
    /// The request target: path and query.
    pub target: String,
    /// Field lines, names in lower case; lines of one name keep their order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body as far as it came.
    pub body: Vec<u8>,
    /// Trailer field lines, as `headers`.
    pub trailers: Vec<(String, Vec<u8>)>,
    /// Whether the request came to its end. A request is recorded as soon as its headers are there.
    pub complete: bool,
}

impl Recorded {
    /// The values of all field lines of a header, in order. `name` is in lower case.
    pub fn values(&self, name: &str) -> Vec<&[u8]> {
        values(&self.headers, name)
    }

    /// The request as the corpus judges it.
    pub fn observed(&self) -> Observed {
        let bytes = |fields: &[(String, Vec<u8>)]| {
            fields
                .iter()
                .map(|(name, value)| (name.clone().into_bytes(), value.clone()))
                .collect()
        };
        Observed::Forwarded {
            path: self.target.clone().into_bytes(),
            headers: bytes(&self.headers),
            body: self.body.clone(),
            trailers: bytes(&self.trailers),
        }
    }

    /// The values of all field lines of a trailer, in order. `name` is in lower case.
    pub fn trailer_values(&self, name: &str) -> Vec<&[u8]> {
        values(&self.trailers, name)
    }
}

/// Bytes as text, one character per byte, so that nothing is lost and nothing fails.
pub fn latin1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// Where a server writes down what it receives; clones share the list.
#[derive(Debug, Clone)]
pub(crate) struct Recorder {
    requests: Arc<Mutex<Requests>>,
    total: Arc<watch::Sender<usize>>,
}

#[derive(Debug, Default)]
struct Requests {
    kept: VecDeque<Recorded>,
    /// How many were ever taken off the front, so that a number stays the number of its request.
    forgotten: usize,
}

impl Recorder {
    pub(crate) fn new() -> Self {
        Self {
            requests: Arc::default(),
            total: Arc::new(watch::Sender::new(0)),
        }
    }

    /// Records the request at once, then again as its body and trailers arrive. Returns it as it
    /// stands at the end.
    pub(crate) async fn record(&self, request: http::Request<Incoming>) -> Recorded {
        let (head, body) = request.into_parts();
        let mut recorded = Recorded {
            method: head.method.to_string(),
            target: head
                .uri
                .path_and_query()
                .map_or_else(|| head.uri.to_string(), ToString::to_string),
            headers: fields(&head.headers),
            ..Recorded::default()
        };
        let number = self.push(recorded.clone());
        if let Ok(collected) = Limited::new(body, MAX_BODY_BYTES).collect().await {
            recorded.trailers = collected.trailers().map(fields).unwrap_or_default();
            recorded.body = collected.to_bytes().to_vec();
            recorded.complete = true;
            self.replace(number, recorded.clone());
        }
        recorded
    }

    pub(crate) fn all(&self) -> Vec<Recorded> {
        self.lock().kept.iter().cloned().collect()
    }

    pub(crate) fn total(&self) -> usize {
        *self.total.borrow()
    }

    pub(crate) async fn wait_for(&self, total: usize, within: Duration) -> anyhow::Result<()> {
        let mut seen = self.total.subscribe();
        tokio::time::timeout(within, seen.wait_for(|seen| *seen >= total))
            .await
            .with_context(|| format!("{total} requests were awaited, {} came within {within:?}", self.total()))?
            .map(drop)
            .context("the server has gone")
    }

    fn push(&self, request: Recorded) -> usize {
        let mut requests = self.lock();
        if requests.kept.len() == MAX_REMEMBERED {
            requests.kept.pop_front();
            requests.forgotten += 1;
        }
        requests.kept.push_back(request);
        let total = requests.forgotten + requests.kept.len();
        drop(requests);
        self.total.send_replace(total);
        total - 1
    }

    fn replace(&self, number: usize, request: Recorded) {
        let mut requests = self.lock();
        let place = number.checked_sub(requests.forgotten);
        if let Some(kept) = place.and_then(|place| requests.kept.get_mut(place)) {
            *kept = request;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fields(map: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    map.iter()
        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
        .collect()
}

fn values<'a>(fields: &'a [(String, Vec<u8>)], name: &str) -> Vec<&'a [u8]> {
    fields
        .iter()
        .filter(|(field, _)| field == name)
        .map(|(_, value)| value.as_slice())
        .collect()
}
