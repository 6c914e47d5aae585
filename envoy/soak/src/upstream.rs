//! The upstream: it tells the caller what has arrived, and watches for itself what must not arrive.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use crate::plan::{LEAK, SLOW, WHOSE};

/// Marks an answer as the upstream's own.
pub(crate) const MARK: &str = "x-soak-upstream";
/// What it says in a header when it is asked to leak.
const LEAKED: &str = "tenant:t-leaked:secret";
/// How many faults are kept word for word.
const MAX_FAULTS: usize = 50;
/// The header whose lines are sent back, as an upstream does that tells where it has put something.
const ECHOED: &str = "x-redis-key";

/// A request as it arrived.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    /// Names and values; bytes of values as characters of the same number.
    pub(crate) lines: Vec<(String, String)>,
    pub(crate) body_bytes: usize,
    pub(crate) body_sum: u64,
    /// When its head came, in microseconds since the upstream started.
    pub(crate) at_us: u64,
}

impl Seen {
    /// The values of a header, in order.
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        let lines = self.lines.iter().filter(|(found, _)| found == name);
        lines.map(|(_, value)| value.as_str()).collect()
    }
}

/// Tells bodies apart.
pub(crate) fn sum(body: &[u8]) -> u64 {
    body.iter().fold(0xcbf2_9ce4_8422_2325, |sum: u64, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// A running upstream. It ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Upstream {
    address: SocketAddr,
    watch: Arc<Watch>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Watch {
    started: Instant,
    total: AtomicU64,
    faults: Mutex<Vec<String>>,
}

impl Upstream {
    /// Listens on a free port of loopback.
    ///
    /// # Errors
    /// When it cannot.
    pub(crate) async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let watch = Arc::new(Watch {
            started: Instant::now(),
            total: AtomicU64::new(0),
            faults: Mutex::default(),
        });
        let task = tokio::spawn(serve(listener, Arc::clone(&watch)));
        Ok(Self { address, watch, task })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From when [`Seen::at_us`] counts.
    pub(crate) fn started(&self) -> Instant {
        self.watch.started
    }

    /// How many requests have come.
    pub(crate) fn total(&self) -> u64 {
        self.watch.total.load(Ordering::Relaxed)
    }

    /// What has come that must not, in words; the first of it.
    pub(crate) fn faults(&self) -> Vec<String> {
        self.watch.faults.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, watch: Arc<Watch>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                // What fails only costs speed.
                let _ = stream.set_nodelay(true);
                let watch = Arc::clone(&watch);
                connections.spawn(async move {
                    let answer = service_fn(|request| answer(request, &watch));
                    let connection = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), answer);
                    // A connection that breaks is its client's business.
                    let _ = connection.await;
                });
            }
        }
    }
}

async fn answer(request: Request<Incoming>, watch: &Watch) -> Result<Response<Full<Bytes>>, Infallible> {
    let at = watch.started.elapsed();
    watch.total.fetch_add(1, Ordering::Relaxed);
    let (head, body) = request.into_parts();
    watch.look(&head.headers);
    // Its client has gone: nobody hears the answer.
    let body = body
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    let slow = head
        .headers
        .get(SLOW)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    if let Some(ms) = slow {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
    let text = |value: &HeaderValue| value.as_bytes().iter().copied().map(char::from).collect();
    let seen = Seen {
        method: head.method.to_string(),
        target: head.uri.path_and_query().map_or_else(String::new, ToString::to_string),
        lines: head
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), text(value)))
            .collect(),
        body_bytes: body.len(),
        body_sum: sum(&body),
        at_us: u64::try_from(at.as_micros()).unwrap_or(u64::MAX),
    };
    let mut response = Response::new(Full::from(serde_json::to_vec(&seen).unwrap_or_default()));
    let headers = response.headers_mut();
    headers.insert(MARK, HeaderValue::from_static("1"));
    if head.headers.contains_key(LEAK) {
        headers.append(ECHOED, HeaderValue::from_static(LEAKED));
    }
    for value in head.headers.get_all(ECHOED) {
        headers.append(ECHOED, value.clone());
    }
    Ok(response)
}

impl Watch {
    /// Whose request it is, is what its caller could prove, also when the caller does not wait.
    fn look(&self, headers: &http::HeaderMap) {
        let all = |name: &str| {
            headers
                .get_all(name)
                .iter()
                .map(HeaderValue::as_bytes)
                .collect::<Vec<_>>()
        };
        let fault = match (&all(WHOSE)[..], &all("x-tenant-id")[..]) {
            ([b"-"], []) => return,
            ([whose], [tenant]) if whose == tenant => return,
            (whose, tenant) => {
                let shown = |list: &[&[u8]]| {
                    list.iter()
                        .map(|value| value.escape_ascii().to_string())
                        .collect::<Vec<_>>()
                };
                format!(
                    "a request of {:?} came in the name of {:?}",
                    shown(whose),
                    shown(tenant)
                )
            }
        };
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        if faults.len() < MAX_FAULTS {
            faults.push(fault);
        }
    }
}
