//! What was true when, as those who brought it about have written it down.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// After a fault of the Tenant Manager has ended, so long may tenants still be unavailable: the circuit is open, and
/// then the lookups that began before must end.
pub(crate) const RECOVERY: Duration = Duration::from_secs(7);
/// So long after a change of the key set nobody knows which of the two a worker has.
pub(crate) const KEYS_SETTLE: Duration = Duration::from_secs(10);

/// What events have said of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    /// It is active, and that has been acknowledged.
    Active,
    /// It is suspended, and that has been acknowledged.
    Suspended,
    /// Either: an event is on its way.
    Open,
}

/// A time that may not have ended yet.
type Span = (Instant, Option<Instant>);

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct History(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    disturbed: Vec<Span>,
    /// By tenant: since when which is true. Before the first, it was active.
    said: BTreeMap<usize, Vec<(Instant, Said)>>,
    /// Since when the key set has been this, by the places of its keys.
    keys: Vec<(Instant, Vec<usize>)>,
}

impl History {
    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The Tenant Manager is no longer what it should be.
    pub(crate) fn disturb(&self, at: Instant) {
        self.kept().disturbed.push((at, None));
    }

    /// It is again.
    pub(crate) fn calm(&self, at: Instant) {
        for (_, end) in self.kept().disturbed.iter_mut().filter(|(_, end)| end.is_none()) {
            *end = Some(at);
        }
    }

    /// It was not for a moment.
    pub(crate) fn disturbed_at(&self, from: Instant, to: Instant) {
        self.kept().disturbed.push((from, Some(to)));
    }

    /// Whether a request of that time may find the Tenant Manager unavailable.
    pub(crate) fn is_disturbed(&self, began: Instant, ended: Instant) -> bool {
        let kept = self.kept();
        let touches = |(from, to): &Span| *from <= ended && to.is_none_or(|to| began <= to + RECOVERY);
        kept.disturbed.iter().rev().any(touches)
    }

    /// From now on this has been said of a tenant.
    pub(crate) fn say(&self, tenant: usize, at: Instant, said: Said) {
        self.kept().said.entry(tenant).or_default().push((at, said));
    }

    /// All that was said of a tenant at some moment of that time.
    pub(crate) fn said(&self, tenant: usize, began: Instant, ended: Instant) -> Vec<Said> {
        let kept = self.kept();
        let all = kept.said.get(&tenant).map(Vec::as_slice).unwrap_or_default();
        let before = all
            .iter()
            .rev()
            .find(|(at, _)| *at <= began)
            .map_or(Said::Active, |(_, said)| *said);
        let since = all
            .iter()
            .filter(|(at, _)| *at > began && *at <= ended)
            .map(|(_, said)| *said);
        std::iter::once(before).chain(since).collect()
    }

    /// When a tenant was last suspended before that moment, if it was not activated since.
    pub(crate) fn suspended_since(&self, tenant: usize, at: Instant) -> Option<Instant> {
        let kept = self.kept();
        let last = kept.said.get(&tenant)?.iter().rev().find(|(since, _)| *since <= at)?;
        (last.1 == Said::Suspended).then_some(last.0)
    }

    /// The key set is this from now on.
    pub(crate) fn turn(&self, at: Instant, keys: Vec<usize>) {
        self.kept().keys.push((at, keys));
    }

    /// Whether a key is known to be in the set or out of it all that time; `None`: it depends.
    pub(crate) fn has_key(&self, key: usize, began: Instant, ended: Instant) -> Option<bool> {
        let kept = self.kept();
        let settled = began.checked_sub(KEYS_SETTLE)?;
        let before = kept.keys.iter().rev().find(|(at, _)| *at <= settled)?;
        let since = kept.keys.iter().filter(|(at, _)| *at > settled && *at <= ended);
        let mut all = std::iter::once(before)
            .chain(since)
            .map(|(_, keys)| keys.contains(&key));
        let first = all.next()?;
        all.all(|other| other == first).then_some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_lasts_as_long_as_what_it_leaves_behind() {
        let (history, start) = (History::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        history.disturb(at(10));
        assert!(history.is_disturbed(at(30), at(31)), "it has no end yet");
        history.calm(at(20));
        for (began, ended, disturbed) in [(1, 9, false), (1, 11, true), (26, 27, true), (28, 29, false)] {
            assert_eq!(
                history.is_disturbed(at(began), at(ended)),
                disturbed,
                "{began} to {ended}"
            );
        }
    }

    #[test]
    fn between_event_and_acknowledgement_either_holds() {
        let (history, start) = (History::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        history.say(7, at(10), Said::Open);
        history.say(7, at(11), Said::Suspended);
        assert_eq!(history.said(7, at(1), at(2)), [Said::Active]);
        assert_eq!(
            history.said(7, at(9), at(12)),
            [Said::Active, Said::Open, Said::Suspended]
        );
        assert_eq!(history.said(7, at(12), at(13)), [Said::Suspended]);
        assert_eq!(history.said(8, at(12), at(13)), [Said::Active]);
        assert_eq!(history.suspended_since(7, at(13)), Some(at(11)));
        assert_eq!(history.suspended_since(7, at(10)), None);
    }

    #[test]
    fn a_key_is_known_once_the_set_has_settled() {
        let (history, start) = (History::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        history.turn(at(0), vec![0, 1]);
        history.turn(at(30), vec![1, 2]);
        for (key, began, known) in [
            (0, 5, None),
            (0, 15, Some(true)),
            (2, 15, Some(false)),
            (0, 35, None),
            (1, 35, Some(true)),
            (2, 41, Some(true)),
        ] {
            assert_eq!(history.has_key(key, at(began), at(began)), known, "{key} at {began}");
        }
        assert_eq!(history.has_key(0, at(29), at(31)), None);
    }
}
