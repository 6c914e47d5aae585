//! One Envoy: its queue, the task that empties it, and how it is doing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::backoff::{self, Backoff};
use super::metrics::EnvoyMetrics;
use super::notices::Notices;
use super::post::{Attempt, Outcome, Post};
use super::queue::{Batch, Queue, Refusal};

/// An Envoy as everybody sees it.
#[derive(Debug)]
pub(crate) struct Envoy {
    pub(crate) name: String,
    pub(crate) queue: Queue,
    pub(crate) metrics: EnvoyMetrics,
    last: Mutex<Last>,
    overflows: Mutex<Notices>,
}

/// How the last attempts went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Last {
    /// The last attempt of all, none before the first has ended.
    pub(crate) outcome: Option<Outcome>,
    /// When the last delivery was.
    pub(crate) delivered: Option<SystemTime>,
}

impl Envoy {
    pub(crate) fn new(name: String, queue: Queue, metrics: EnvoyMetrics) -> Self {
        Self {
            name,
            queue,
            metrics,
            last: Mutex::default(),
            overflows: Mutex::default(),
        }
    }

    fn last_locked(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the last attempts went.
    pub(crate) fn last(&self) -> Last {
        self.last_locked().clone()
    }

    /// Queues a message.
    pub(crate) fn push(&self, message: bytes::Bytes) {
        self.overflowed(self.queue.push(message));
    }

    /// Queues an invalidation of everything.
    pub(crate) fn invalidate_all(&self) {
        self.overflowed(self.queue.invalidate_all());
    }

    fn overflowed(&self, lost: usize) {
        if lost == 0 {
            return;
        }
        self.metrics.lost_by_overflow(lost);
        let mut overflows = self.overflows.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(unsaid) = overflows.admit() {
            tracing::warn!(
                envoy = self.name,
                messages = lost,
                unsaid,
                "queue is full, cache.invalidate_all takes the place of its oldest messages"
            );
        }
    }
}

/// Sends what is in the queue of an Envoy, in order, until the queue is closed and empty.
///
/// * An attempt that failed is repeated after a wait, 0.5 to 30 seconds and growing. After `attempts` of them the messages are
///   given up, and `cache.invalidate_all` takes their place, which is never given up.
/// * A refusal is not repeated: several events are sent again one by one, a single message is left out.
/// * Where the key is not known, or an invalidation is refused, the next attempt is 15 to 30 seconds later.
///
/// `hurry` becomes true when the bridge ends: a wait that is under way then ends at once.
pub(crate) async fn deliver(envoy: Arc<Envoy>, post: impl Post, attempts: u32, mut hurry: watch::Receiver<bool>) {
    let mut backoff = Backoff::new();
    let mut failed = 0;
    let mut refusals = Notices::default();
    while let Some(batch) = envoy.queue.next().await {
        let begun = Instant::now();
        let attempt = post.post(batch.body.clone()).await;
        let before = envoy.ended(attempt.outcome, &batch, begun.elapsed());
        let pause = match attempt.outcome {
            Outcome::Delivered => {
                if before.is_some_and(|outcome| outcome != Outcome::Delivered && outcome != Outcome::Refused) {
                    tracing::info!(envoy = envoy.name, "envoy answers again");
                }
                tracing::debug!(envoy = envoy.name, events = batch.events, "events delivered");
                envoy.queue.delivered(&batch);
                backoff.reset();
                failed = 0;
                continue;
            }
            Outcome::Refused => {
                failed = 0;
                match envoy.refused(&batch, &attempt, &mut refusals) {
                    Refusal::Split | Refusal::Dropped => continue,
                    Refusal::Kept => backoff::slow(),
                }
            }
            Outcome::Unauthorized => backoff::slow(),
            Outcome::ServerError | Outcome::Unexpected | Outcome::Timeout | Outcome::Unreachable => {
                failed += 1;
                if failed % attempts == 0 {
                    envoy.gave_up(&batch);
                }
                backoff.wait()
            }
        };
        tracing::warn!(
            envoy = envoy.name,
            outcome = attempt.outcome.name(),
            detail = attempt.detail,
            events = batch.events,
            retry_in_ms = whole_ms(pause),
            "events not delivered"
        );
        tokio::select! {
            () = sleep(pause) => {}
            // Only once: `changed` is about what has not been seen yet. A sender that is gone changes nothing.
            Ok(()) = hurry.changed() => {}
        }
    }
}

impl Envoy {
    /// Keeps what became of an attempt. Returns what became of the one before.
    fn ended(&self, outcome: Outcome, batch: &Batch, took: Duration) -> Option<Outcome> {
        let mut last = self.last_locked();
        let before = last.outcome.replace(outcome);
        if outcome == Outcome::Delivered {
            last.delivered = Some(SystemTime::now());
        }
        drop(last);
        if outcome != Outcome::Delivered {
            self.overflowed(self.queue.failed());
        }
        self.metrics.attempted(outcome, batch, took);
        before
    }

    fn refused(&self, batch: &Batch, attempt: &Attempt, notices: &mut Notices) -> Refusal {
        let refusal = self.queue.refused(batch);
        if refusal == Refusal::Dropped {
            self.metrics.lost_by_refusal();
            if let Some(unsaid) = notices.admit() {
                tracing::warn!(
                    envoy = self.name,
                    detail = attempt.detail,
                    bytes = batch.body.len(),
                    unsaid,
                    "message refused and left out"
                );
            }
        }
        refusal
    }

    fn gave_up(&self, batch: &Batch) {
        let lost = self.queue.give_up(batch);
        if lost > 0 {
            self.metrics.lost_by_exhaustion(lost);
            tracing::warn!(
                envoy = self.name,
                messages = lost,
                "messages given up, cache.invalidate_all takes their place"
            );
        }
    }
}

/// Milliseconds for a log line.
pub(crate) fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
