//! One POST to one Envoy, and what became of it.

use std::error::Error;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, USER_AGENT};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde_json::Value;
use tokio::time::timeout;

use super::secret::{BadSecret, Source};
use super::settings::{Delivery, EnvoyUrl};

/// How much of a reply is read: the filter's is some hundred bytes.
const MAX_REPLY_BYTES: usize = 16 * 1024;

/// How long a connection is kept for the next event, shorter than the peers' own patience.
const IDLE: Duration = Duration::from_secs(15);

/// How much of an error is told, in characters.
const MAX_DETAIL: usize = 200;

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const AGENT: HeaderValue = HeaderValue::from_static(concat!("tenantgate-bridge/", env!("CARGO_PKG_VERSION")));

/// What became of a POST.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    /// The filter has applied it.
    Delivered,
    /// The filter does not take what is in it: 400, or 413.
    Refused,
    /// The filter does not know our key: 401.
    Unauthorized,
    /// 5xx.
    ServerError,
    /// Any other answer, a 200 that is not the filter's included: the URL leads somewhere else.
    Unexpected,
    /// No answer in time.
    Timeout,
    /// No connection, or it broke.
    Unreachable,
}

impl Outcome {
    pub(crate) const ALL: [Self; 7] = [
        Self::Delivered,
        Self::Refused,
        Self::Unauthorized,
        Self::ServerError,
        Self::Unexpected,
        Self::Timeout,
        Self::Unreachable,
    ];

    /// The name in metrics, logs and health.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Refused => "refused",
            Self::Unauthorized => "unauthorized",
            Self::ServerError => "server_error",
            Self::Unexpected => "unexpected",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
        }
    }

    /// What a reply means. `body` is none when it was too long.
    fn of(status: StatusCode, body: Option<&[u8]>) -> Self {
        match status {
            StatusCode::OK if body.is_some_and(is_the_filters) => Self::Delivered,
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE => Self::Refused,
            // A path that is not the filter's is a protected one: 401 for want of a token.
            StatusCode::UNAUTHORIZED if body.is_some_and(is_about_the_key) => Self::Unauthorized,
            status if status.is_server_error() => Self::ServerError,
            _ => Self::Unexpected,
        }
    }
}

/// Whether the filter says that it does not know the key.
fn is_about_the_key(body: &[u8]) -> bool {
    serde_json::from_slice::<Value>(body).is_ok_and(|reply| reply["code"] == "EVENTS_UNAUTHORIZED")
}

/// The filter counts what it has applied; a server that says 200 to everything does not.
fn is_the_filters(body: &[u8]) -> bool {
    serde_json::from_slice::<Value>(body).is_ok_and(|reply| reply.get("applied").is_some_and(Value::is_u64))
}

/// An outcome, and what else is known about it for whoever reads the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub(crate) outcome: Outcome,
    pub(crate) detail: String,
}

/// Somebody who takes bodies.
pub(crate) trait Post {
    /// Sends one body, once, within a bounded time.
    fn post(&self, body: Bytes) -> impl Future<Output = Attempt> + Send;
}

/// An Envoy over HTTP/1.1. It follows no redirects and uses no proxy.
pub(crate) struct HttpPost {
    url: EnvoyUrl,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    source: Source,
    key: Mutex<HeaderValue>,
    timeout: Duration,
}

impl HttpPost {
    /// A client of its own for one Envoy.
    ///
    /// # Errors
    /// When the key cannot be read any more.
    pub(crate) fn new(url: EnvoyUrl, settings: &Delivery) -> anyhow::Result<Self> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        // An attempt that was given up may still be connecting: that ends too.
        tcp.set_connect_timeout(Some(settings.timeout));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config((*settings.tls).clone())
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let key = settings.key.read().and_then(|key| key.header());
        Ok(Self {
            url,
            client: Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(IDLE)
                .pool_max_idle_per_host(1)
                .build(connector),
            source: settings.key.clone(),
            key: Mutex::new(key.context("the key for events")?),
            timeout: settings.timeout,
        })
    }

    fn key(&self) -> std::sync::MutexGuard<'_, HeaderValue> {
        self.key.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Takes the key that is in the file now, so that it can be replaced without a restart.
    fn renew_key(&self) -> Result<(), BadSecret> {
        let key = self.source.read()?.header()?;
        *self.key() = key;
        Ok(())
    }

    async fn exchange(&self, body: Bytes) -> Attempt {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        request.uri_mut().clone_from(self.url.uri());
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, AGENT);
        headers.insert(API_KEY, self.key().clone());
        let (head, body) = match self.client.request(request).await {
            Ok(reply) => reply.into_parts(),
            Err(error) => return broken(&error),
        };
        let body = match Limited::new(body, MAX_REPLY_BYTES).collect().await {
            Ok(body) => Some(body.to_bytes()),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => None,
            Err(error) => return broken(error.as_ref()),
        };
        let outcome = Outcome::of(head.status, body.as_deref());
        let mut detail = described(head.status, body.as_deref());
        if outcome == Outcome::Unauthorized
            && let Err(error) = self.renew_key()
        {
            detail = format!("{detail}; the key {error}");
        }
        Attempt { outcome, detail }
    }
}

impl Post for HttpPost {
    async fn post(&self, body: Bytes) -> Attempt {
        timeout(self.timeout, self.exchange(body))
            .await
            .unwrap_or_else(|_| Attempt {
                outcome: Outcome::Timeout,
                detail: format!("no answer within {:?}", self.timeout),
            })
    }
}

fn broken(error: &dyn Error) -> Attempt {
    Attempt {
        outcome: Outcome::Unreachable,
        detail: chain(error),
    }
}

/// An error with what caused it, bounded.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut told = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause {
        told.push(error.to_string());
        cause = error.source();
    }
    told.dedup();
    told.join(": ").chars().take(MAX_DETAIL).collect()
}

/// The status, and the filter's code where there is one. Nothing else of a reply is told: a server that is not the
/// filter may answer with what it was sent, key included.
fn described(status: StatusCode, body: Option<&[u8]>) -> String {
    let reply = body.and_then(|body| serde_json::from_slice::<Value>(body).ok());
    let code = reply
        .as_ref()
        .and_then(|reply| reply.get("code"))
        .and_then(Value::as_str);
    let plain = |code: &&str| code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    match code.filter(plain) {
        Some(code) => format!("status {} {code}", status.as_u16()),
        None => format!("status {}", status.as_u16()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_filters_own_200_is_a_delivery() {
        for (status, body, outcome) in [
            (200, r#"{"applied":1,"ignored":0}"#, Outcome::Delivered),
            (200, "", Outcome::Unexpected),
            (200, "{}", Outcome::Unexpected),
            (200, "<html>", Outcome::Unexpected),
            (204, "", Outcome::Unexpected),
            (302, "", Outcome::Unexpected),
            (400, "{}", Outcome::Refused),
            (413, "", Outcome::Refused),
            (401, r#"{"code":"EVENTS_UNAUTHORIZED"}"#, Outcome::Unauthorized),
            (401, r#"{"code":"TENANT_ID_REQUIRED"}"#, Outcome::Unexpected),
            (401, "", Outcome::Unexpected),
            (403, "", Outcome::Unexpected),
            (404, "", Outcome::Unexpected),
            (429, "", Outcome::Unexpected),
            (500, r#"{"applied":1}"#, Outcome::ServerError),
            (503, "", Outcome::ServerError),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(Outcome::of(status, Some(body.as_bytes())), outcome, "{status} {body}");
        }
        assert_eq!(Outcome::of(StatusCode::OK, None), Outcome::Unexpected);
    }

    #[test]
    fn of_a_reply_only_the_code_of_the_filter_is_told() {
        let told = |body: &str| described(StatusCode::BAD_REQUEST, Some(body.as_bytes()));
        assert_eq!(
            told(r#"{"code":"EVENT_INVALID","message":"m"}"#),
            "status 400 EVENT_INVALID"
        );
        assert_eq!(told(r#"{"code":"x-api-key: hunter2"}"#), "status 400");
        assert_eq!(told("hunter2"), "status 400");
    }
}
