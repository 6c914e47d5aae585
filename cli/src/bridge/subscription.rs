//! The subscription to Redis: one channel, one connection, again and again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow};
use futures_util::StreamExt;
use redis::aio::{PubSub, PubSubSink, PubSubStream};
use redis::{RedisConnectionInfo, RedisError, Value};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::backoff::Backoff;
use super::delivery::{Envoy, whole_ms};
use super::message;
use super::metrics::Metrics;
use super::notices::Notices;
use super::post::chain;
use super::settings::Redis;

/// How long a subscription must stand before the next wait is short again: every new one has all Envoys forget
/// what they know.
const STEADY: Duration = Duration::from_secs(60);

/// Why there is no subscription, or why it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Ended {
    /// No connection: name, network, or nobody listens.
    Connect,
    /// TLS did not come about.
    Tls,
    /// Redis does not accept the password, or wants one.
    Auth,
    /// Redis did not confirm the subscription.
    Subscribe,
    /// Connecting or subscribing took too long.
    Timeout,
    /// The connection ended.
    Closed,
    /// Redis did not answer a PING in time.
    Silent,
    /// The bridge itself is about to end.
    Stopped,
}

impl Ended {
    pub(crate) const ALL: [Self; 8] = [
        Self::Connect,
        Self::Tls,
        Self::Auth,
        Self::Subscribe,
        Self::Timeout,
        Self::Closed,
        Self::Silent,
        Self::Stopped,
    ];

    /// The name in metrics, logs and health.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Auth => "auth",
            Self::Subscribe => "subscribe",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::Silent => "silent",
            Self::Stopped => "stopped",
        }
    }
}

/// Whether the subscription stands, for whoever asks.
#[derive(Debug, Default)]
pub(crate) struct Standing(Mutex<Option<Standings>>);

/// The last change.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standings {
    /// None while it stands.
    pub(crate) ended: Option<Ended>,
    /// Since when.
    pub(crate) since: Instant,
}

impl Standing {
    fn locked(&self) -> MutexGuard<'_, Option<Standings>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// None before anything is known.
    pub(crate) fn now(&self) -> Option<Standings> {
        *self.locked()
    }

    fn set(&self, ended: Option<Ended>) {
        let mut now = self.locked();
        // Further failures do not make an outage any shorter.
        let since = match *now {
            Some(before) if before.ended.is_some() && ended.is_some() => before.since,
            _ => Instant::now(),
        };
        *now = Some(Standings { ended, since });
    }
}

/// Where messages come from and where they go.
#[derive(Debug)]
pub(crate) struct Subscriber {
    pub(crate) redis: Redis,
    pub(crate) environment: String,
    pub(crate) envoys: Vec<Arc<Envoy>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) standing: Arc<Standing>,
}

impl Subscriber {
    /// Subscribes, forwards, and begins anew whenever that ends. Never returns.
    ///
    /// Pub/Sub does not repeat what was said while nobody listened. So every subscription, once confirmed, has
    /// every Envoy told to forget everything before the first message of that subscription is forwarded.
    pub(crate) async fn run(&self) -> std::convert::Infallible {
        let mut backoff = Backoff::new();
        let mut garbage = Notices::default();
        loop {
            let (ended, detail) = match timeout(self.redis.timeout, self.subscribe()).await {
                Ok(Ok((sink, stream))) => {
                    let begun = Instant::now();
                    self.began();
                    let ended = tokio::select! {
                        ended = self.watch(sink) => ended,
                        ended = self.forward(stream, &mut garbage) => ended,
                    };
                    if begun.elapsed() >= STEADY {
                        backoff.reset();
                    }
                    (ended, String::new())
                }
                Ok(Err((ended, error))) => (ended, chain(error.as_ref())),
                Err(_) => (
                    Ended::Timeout,
                    format!("not subscribed within {:?}", self.redis.timeout),
                ),
            };
            let wait = backoff.wait();
            self.ended(ended);
            tracing::warn!(
                redis = self.redis.host,
                reason = ended.name(),
                detail,
                retry_in_ms = whole_ms(wait),
                "not subscribed"
            );
            sleep(wait).await;
        }
    }

    fn began(&self) {
        self.metrics.subscribed();
        for envoy in &self.envoys {
            envoy.invalidate_all();
        }
        // Only now is it true for who asks: everything from here on will be forwarded.
        self.standing.set(None);
        tracing::info!(redis = self.redis.host, channel = self.channel(), "subscribed");
    }

    /// There is no subscription, or none any more; nothing is received from here on.
    pub(crate) fn ended(&self, ended: Ended) {
        self.standing.set(Some(ended));
        self.metrics.unsubscribed(ended);
    }

    /// The colon at the end belongs to the name.
    fn channel(&self) -> String {
        format!("tenant-events:{}:", self.environment)
    }

    async fn subscribe(&self) -> Result<(PubSubSink, PubSubStream), (Ended, anyhow::Error)> {
        let login = self.login().map_err(|error| (Ended::Auth, error))?;
        let stream = TcpStream::connect((self.redis.host.as_str(), self.redis.port)).await;
        let stream = stream.map_err(|error| (Ended::Connect, error.into()))?;
        // A delayed PING would only look like a slow server.
        stream
            .set_nodelay(true)
            .map_err(|error| (Ended::Connect, error.into()))?;
        let Some(config) = &self.redis.tls else {
            return self.subscribe_on(stream, &login).await;
        };
        let name = ServerName::try_from(self.redis.host.clone()).map_err(|error| (Ended::Tls, error.into()))?;
        let stream = TlsConnector::from(config.clone()).connect(name, stream).await;
        self.subscribe_on(stream.map_err(|error| (Ended::Tls, error.into()))?, &login)
            .await
    }

    fn login(&self) -> anyhow::Result<RedisConnectionInfo> {
        // The name of a library is nothing that the subscription needs, and a command that an ACL may forbid.
        let login = RedisConnectionInfo::default().set_skip_set_lib_name();
        match &self.redis.password {
            None => Ok(login),
            Some(source) => {
                let password = source.read().map_err(|error| anyhow!("the password {error}"))?;
                Ok(login.set_password(password.expose()))
            }
        }
    }

    async fn subscribe_on(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        login: &RedisConnectionInfo,
    ) -> Result<(PubSubSink, PubSubStream), (Ended, anyhow::Error)> {
        let connection = PubSub::new(login, stream)
            .await
            .map_err(|error| (reason(&error, Ended::Auth), error.into()))?;
        let (mut sink, stream) = connection.split();
        let confirmed = sink.subscribe(self.channel()).await.context("SUBSCRIBE");
        confirmed.map_err(|error| {
            let ended = error
                .downcast_ref()
                .map_or(Ended::Subscribe, |error| reason(error, Ended::Subscribe));
            (ended, error)
        })?;
        Ok((sink, stream))
    }

    /// Ends when Redis does not answer any more: a connection that was cut in the network ends by nothing else.
    async fn watch(&self, mut sink: PubSubSink) -> Ended {
        loop {
            sleep(self.redis.ping).await;
            match timeout(self.redis.timeout, sink.ping::<Value>()).await {
                Ok(Ok(_)) => {}
                Ok(Err(_)) => return Ended::Closed,
                Err(_) => return Ended::Silent,
            }
        }
    }

    async fn forward(&self, mut stream: PubSubStream, notices: &mut Notices) -> Ended {
        while let Some(message) = stream.next().await {
            let payload = message.get_payload_bytes();
            let read = message::read(payload);
            self.metrics.received(read.as_ref().err().copied());
            match read {
                Ok(message) => self.envoys.iter().for_each(|envoy| envoy.push(message.clone())),
                Err(garbage) => {
                    if let Some(unsaid) = notices.admit() {
                        let (reason, bytes) = (garbage.name(), payload.len());
                        tracing::warn!(reason, bytes, unsaid, "message is no event and is left out");
                    }
                }
            }
        }
        Ended::Closed
    }
}

/// What an error of the client means: `said` when Redis has answered with it.
fn reason(error: &RedisError, said: Ended) -> Ended {
    match error.code() {
        Some("NOAUTH" | "WRONGPASS" | "NOPERM") => Ended::Auth,
        Some(_) => said,
        None if error.is_io_error() || error.is_connection_dropped() => Ended::Closed,
        None => said,
    }
}
