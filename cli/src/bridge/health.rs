//! Whether the bridge does its work, for probes and people.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::delivery::{Envoy, Last};
use super::post::Outcome;
use super::queue::Length;
use super::subscription::Standing;

/// What health depends on.
#[derive(Debug)]
pub(crate) struct Health {
    pub(crate) standing: Arc<Standing>,
    pub(crate) envoys: Vec<Arc<Envoy>>,
    /// For how long an event may wait for an Envoy that does not take it.
    pub(crate) pending: Duration,
}

impl Health {
    /// Whether all is well, and the whole story.
    pub(crate) fn report(&self) -> (bool, Value) {
        let standing = self.standing.now();
        let subscribed = standing.is_some_and(|standing| standing.ended.is_none());
        let redis = json!({
            "subscribed": subscribed,
            "reason": standing.and_then(|standing| standing.ended).map(|ended| ended.name()),
            "since_seconds": standing.map(|standing| standing.since.elapsed().as_secs()),
        });
        let mut healthy = subscribed;
        let mut envoys = Vec::new();
        for envoy in &self.envoys {
            let (last, length) = (envoy.last(), envoy.queue.length());
            let well = is_well(&last, length, self.pending);
            healthy &= well;
            envoys.push(json!({
                "envoy": envoy.name,
                "healthy": well,
                "last": last.outcome.map(Outcome::name),
                "queued": length.events,
                "oldest_seconds": length.oldest.as_secs(),
            }));
        }
        let status = if healthy { "healthy" } else { "unhealthy" };
        (healthy, json!({ "status": status, "redis": redis, "envoys": envoys }))
    }
}

/// An Envoy is well when its last attempt was a delivery, or nothing has waited for it for too long.
fn is_well(last: &Last, length: Length, pending: Duration) -> bool {
    last.outcome == Some(Outcome::Delivered) || length.events == 0 || length.oldest <= pending
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envoy_is_unwell_only_when_it_fails_and_something_waits_too_long() {
        let seconds = Duration::from_secs;
        for (outcome, events, oldest, well) in [
            (None, 0, 0, true),
            (None, 1, 30, true),
            (None, 1, 31, false),
            (Some(Outcome::Delivered), 5, 31, true),
            (Some(Outcome::Unreachable), 0, 0, true),
            (Some(Outcome::Unreachable), 1, 30, true),
            (Some(Outcome::Unreachable), 1, 31, false),
            (Some(Outcome::Unauthorized), 1, 31, false),
        ] {
            let last = Last {
                outcome,
                ..Last::default()
            };
            let length = Length {
                events,
                oldest: seconds(oldest),
            };
            assert_eq!(is_well(&last, length, seconds(30)), well, "{outcome:?} {length:?}");
        }
    }
}
