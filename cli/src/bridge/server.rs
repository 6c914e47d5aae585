//! `/healthz` and `/metrics`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::health::Health;
use super::metrics::Metrics;

/// How many connections are open at once; further ones wait to be accepted.
const MAX_CONNECTIONS: usize = 64;

/// How long a connection lives, which serves one request, so that nobody occupies one for ever.
const MAX_LIFE: Duration = Duration::from_secs(30);

/// How long a request line and its headers may take.
const HEAD: Duration = Duration::from_secs(10);

/// How long to wait when the system has no connection to give, as when files have run out.
const PAUSE: Duration = Duration::from_millis(100);

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// What is shown.
#[derive(Debug)]
pub(crate) struct Pages {
    pub(crate) health: Health,
    pub(crate) metrics: Arc<Metrics>,
}

/// Serves the pages until it is dropped.
pub(crate) async fn serve(listener: TcpListener, pages: Arc<Pages>) -> Infallible {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => {
                let Ok((stream, _)) = accepted else {
                    sleep(PAUSE).await;
                    continue;
                };
                let pages = pages.clone();
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .keep_alive(false)
                    .header_read_timeout(HEAD)
                    .serve_connection(TokioIo::new(stream), service_fn(move |request| {
                        let page = pages.page(&request);
                        async { Ok::<_, Infallible>(page) }
                    }));
                // Whoever asks has gone, or has had his time.
                connections.spawn(async { drop(timeout(MAX_LIFE, connection).await) });
            }
        }
    }
}

impl Pages {
    fn page(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let (status, kind, body) = match request.uri().path() {
            "/healthz" | "/metrics" if request.method() != Method::GET && request.method() != Method::HEAD => {
                (StatusCode::METHOD_NOT_ALLOWED, TEXT, "GET or HEAD\n".to_owned())
            }
            "/healthz" => match self.health.report() {
                (true, report) => (StatusCode::OK, JSON, report.to_string()),
                (false, report) => (StatusCode::SERVICE_UNAVAILABLE, JSON, report.to_string()),
            },
            "/metrics" => (StatusCode::OK, OPEN_METRICS, self.metrics.text(&self.health.envoys)),
            _ => (StatusCode::NOT_FOUND, TEXT, "/healthz or /metrics\n".to_owned()),
        };
        let mut response = Response::new(Full::new(body.into()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, kind);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        response
    }
}
