//! The bridge's own metrics. Their labels are what the configuration and this program name, nothing that was received.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, UNIX_EPOCH};

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::delivery::Envoy;
use super::message::Garbage;
use super::post::Outcome;
use super::queue::Batch;
use super::subscription::Ended;

/// A label value that is written in this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Name(&'static str);

impl EncodeLabelValue for Name {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        encoder.write_str(self.0)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    outcome: Name,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    reason: Name,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByEnvoy {
    envoy: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByEnvoyAndOutcome {
    envoy: Arc<str>,
    outcome: Name,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByEnvoyAndReason {
    envoy: Arc<str>,
    reason: Name,
}

type Seconds = Gauge<f64, AtomicU64>;

/// All metrics.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    subscribed: Gauge,
    subscriptions: Counter,
    failures: Family<ByReason, Counter>,
    messages: Family<ByOutcome, Counter>,
    received: Seconds,
    posts: Family<ByEnvoyAndOutcome, Counter>,
    duration: Family<ByEnvoy, Histogram>,
    delivered: Family<ByEnvoy, Counter>,
    invalidations: Family<ByEnvoy, Counter>,
    lost: Family<ByEnvoyAndReason, Counter>,
    queue: Family<ByEnvoy, Gauge>,
    oldest: Family<ByEnvoy, Seconds>,
    last: Family<ByEnvoy, Seconds>,
}

/// The metrics of one Envoy.
#[derive(Debug)]
pub(crate) struct EnvoyMetrics {
    posts: Family<ByEnvoyAndOutcome, Counter>,
    envoy: Arc<str>,
    duration: Histogram,
    delivered: Counter,
    invalidations: Counter,
    overflow: Counter,
    exhausted: Counter,
    refused: Counter,
    queue: Gauge,
    oldest: Seconds,
    last: Seconds,
}

const OVERFLOW: Name = Name("overflow");
const EXHAUSTED: Name = Name("exhausted");
const REFUSED: Name = Name("refused");
const FORWARDED: Name = Name("forwarded");

/// Upper bounds of the buckets, in seconds. The filter answers in about a millisecond.
const BUCKETS: [f64; 9] = [0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0];

fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("tenantgate_bridge"),
            subscribed: Gauge::default(),
            subscriptions: Counter::default(),
            failures: Family::default(),
            messages: Family::default(),
            received: Seconds::default(),
            posts: Family::default(),
            duration: Family::new_with_constructor(histogram),
            delivered: Family::default(),
            invalidations: Family::default(),
            lost: Family::default(),
            queue: Family::default(),
            oldest: Family::default(),
            last: Family::default(),
        };
        metrics.register();
        for reason in Ended::ALL {
            drop(metrics.failures.get_or_create(&ByReason {
                reason: Name(reason.name()),
            }));
        }
        for outcome in Garbage::ALL
            .map(|garbage| Name(garbage.name()))
            .into_iter()
            .chain([FORWARDED])
        {
            drop(metrics.messages.get_or_create(&ByOutcome { outcome }));
        }
        metrics
    }

    fn register(&mut self) {
        let it = &mut self.registry;
        it.register(
            "redis_subscribed",
            "1 while the subscription stands, else 0",
            self.subscribed.clone(),
        );
        it.register(
            "redis_subscriptions",
            "Subscriptions that Redis has confirmed, reconnections included",
            self.subscriptions.clone(),
        );
        it.register(
            "redis_failures",
            "Why there was no subscription, or why it ended",
            self.failures.clone(),
        );
        it.register(
            "messages",
            "Messages received, by what became of them",
            self.messages.clone(),
        );
        it.register_with_unit(
            "last_message_timestamp",
            "When the last message came, Unix time; 0 before the first",
            Unit::Seconds,
            self.received.clone(),
        );
        it.register("posts", "POSTs to an Envoy, by outcome", self.posts.clone());
        it.register_with_unit(
            "post_duration",
            "How long POSTs took",
            Unit::Seconds,
            self.duration.clone(),
        );
        it.register(
            "delivered_messages",
            "Messages from Redis that an Envoy has taken",
            self.delivered.clone(),
        );
        it.register(
            "delivered_invalidations",
            "The bridge's own cache.invalidate_all that an Envoy has taken",
            self.invalidations.clone(),
        );
        it.register(
            "lost_messages",
            "Messages that an Envoy did not get, by reason",
            self.lost.clone(),
        );
        it.register("queue_length", "Events that wait for an Envoy", self.queue.clone());
        it.register_with_unit(
            "queue_oldest",
            "For how long the oldest event has waited, 0 when none waits",
            Unit::Seconds,
            self.oldest.clone(),
        );
        it.register_with_unit(
            "last_delivery_timestamp",
            "When an Envoy has taken events last, Unix time; 0 before the first",
            Unit::Seconds,
            self.last.clone(),
        );
    }

    /// The metrics of one Envoy, all there from now on.
    pub(crate) fn envoy(&self, name: &str) -> EnvoyMetrics {
        let envoy: Arc<str> = name.into();
        for outcome in Outcome::ALL.map(|outcome| Name(outcome.name())) {
            drop(self.posts.get_or_create(&ByEnvoyAndOutcome {
                envoy: envoy.clone(),
                outcome,
            }));
        }
        let one = ByEnvoy { envoy: envoy.clone() };
        let lost = |reason| {
            self.lost
                .get_or_create(&ByEnvoyAndReason {
                    envoy: envoy.clone(),
                    reason,
                })
                .clone()
        };
        EnvoyMetrics {
            posts: self.posts.clone(),
            duration: self.duration.get_or_create(&one).clone(),
            delivered: self.delivered.get_or_create(&one).clone(),
            invalidations: self.invalidations.get_or_create(&one).clone(),
            overflow: lost(OVERFLOW),
            exhausted: lost(EXHAUSTED),
            refused: lost(REFUSED),
            queue: self.queue.get_or_create(&one).clone(),
            oldest: self.oldest.get_or_create(&one).clone(),
            last: self.last.get_or_create(&one).clone(),
            envoy,
        }
    }

    /// Redis has confirmed the subscription.
    pub(crate) fn subscribed(&self) {
        self.subscribed.set(1);
        self.subscriptions.inc();
    }

    /// There is no subscription, or none any more.
    pub(crate) fn unsubscribed(&self, reason: Ended) {
        self.subscribed.set(0);
        self.failures
            .get_or_create(&ByReason {
                reason: Name(reason.name()),
            })
            .inc();
    }

    /// A message came.
    pub(crate) fn received(&self, garbage: Option<Garbage>) {
        let outcome = garbage.map_or(FORWARDED, |garbage| Name(garbage.name()));
        self.messages.get_or_create(&ByOutcome { outcome }).inc();
        self.received.set(unix(std::time::SystemTime::now()));
    }

    /// Everything in the text format of Prometheus.
    pub(crate) fn text(&self, envoys: &[Arc<Envoy>]) -> String {
        for envoy in envoys {
            envoy.metrics.observe(envoy);
        }
        let mut text = String::new();
        // A string takes everything.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}

impl EnvoyMetrics {
    pub(crate) fn attempted(&self, outcome: Outcome, batch: &Batch, took: Duration) {
        let label = ByEnvoyAndOutcome {
            envoy: self.envoy.clone(),
            outcome: Name(outcome.name()),
        };
        self.posts.get_or_create(&label).inc();
        self.duration.observe(took.as_secs_f64());
        if outcome == Outcome::Delivered {
            self.delivered.inc_by(count(batch.messages));
            self.invalidations.inc_by(count(batch.events - batch.messages));
        }
    }

    pub(crate) fn lost_by_overflow(&self, messages: usize) {
        self.overflow.inc_by(count(messages));
    }

    pub(crate) fn lost_by_exhaustion(&self, messages: usize) {
        self.exhausted.inc_by(count(messages));
    }

    pub(crate) fn lost_by_refusal(&self) {
        self.refused.inc();
    }

    fn observe(&self, envoy: &Envoy) {
        let length = envoy.queue.length();
        self.queue.set(i64::try_from(length.events).unwrap_or(i64::MAX));
        self.oldest.set(length.oldest.as_secs_f64());
        self.last.set(envoy.last().delivered.map_or(0.0, unix));
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn unix(time: std::time::SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
