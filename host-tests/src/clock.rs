//! Virtual time and what is due when.

use std::collections::BTreeMap;
use std::time::Duration;

/// 2026-01-01T00:00:00Z: what a world's real-time clock shows at its start.
pub const START_UNIX_SECONDS: u64 = 1_767_225_600;

/// What a world's monotonic clock shows at its start. Not zero: hosts are never that young.
const START_MONOTONIC: Duration = Duration::from_secs(1_000);

/// The one clock of a world. It moves only when the world is told to advance.
#[derive(Debug, Clone, Default)]
pub(crate) struct Clock {
    elapsed: Duration,
}

impl Clock {
    /// Time since the world began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.elapsed
    }

    pub(crate) fn realtime_nanos(&self) -> u64 {
        nanos(Duration::from_secs(START_UNIX_SECONDS) + self.elapsed)
    }

    pub(crate) fn monotonic_nanos(&self) -> u64 {
        nanos(START_MONOTONIC + self.elapsed)
    }

    pub(crate) fn move_to(&mut self, elapsed: Duration) {
        assert!(elapsed >= self.elapsed, "virtual time cannot go back");
        self.elapsed = elapsed;
    }
}

/// Things that will happen, in the order of their time; among equals, of their planning.
#[derive(Debug)]
pub(crate) struct Agenda<E> {
    due: BTreeMap<(Duration, u64), E>,
    planned: u64,
}

impl<E> Default for Agenda<E> {
    fn default() -> Self {
        Self {
            due: BTreeMap::new(),
            planned: 0,
        }
    }
}

impl<E> Agenda<E> {
    pub(crate) fn plan(&mut self, at: Duration, event: E) {
        self.planned += 1;
        self.due.insert((at, self.planned), event);
    }

    /// When the first of the events is due.
    pub(crate) fn first_at(&self) -> Option<Duration> {
        self.due.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes the next of the events that are `wanted` if it is due at `until` or earlier.
    pub(crate) fn next(&mut self, until: Duration, wanted: impl Fn(&E) -> bool) -> Option<(Duration, E)> {
        let due = self.due.range(..=(until, u64::MAX));
        let (key, _) = due.into_iter().find(|(_, event)| wanted(event))?;
        let ((at, _), event) = self.due.remove_entry(&key.clone())?;
        Some((at, event))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).expect("virtual time stays within centuries")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_in_the_order_they_were_planned() {
        let mut agenda = Agenda::default();
        let ms = Duration::from_millis;
        agenda.plan(ms(5), "late");
        agenda.plan(ms(1), "first");
        agenda.plan(ms(1), "second");
        assert_eq!(agenda.next(ms(2), |_| true), Some((ms(1), "first")));
        assert_eq!(agenda.next(ms(2), |_| true), Some((ms(1), "second")));
        assert_eq!(agenda.next(ms(2), |_| true), None);
        assert_eq!(agenda.next(ms(9), |event| *event != "late"), None);
        assert_eq!(agenda.next(ms(9), |_| true), Some((ms(5), "late")));
    }
}
