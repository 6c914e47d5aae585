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

/// Things that will happen, each to one worker, in the order of their time; among equals, of their
/// planning.
#[derive(Debug)]
pub(crate) struct Agenda<E> {
    due: BTreeMap<usize, BTreeMap<(Duration, u64), E>>,
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
    pub(crate) fn plan(&mut self, at: Duration, worker: usize, event: E) {
        self.planned += 1;
        self.due.entry(worker).or_default().insert((at, self.planned), event);
    }

    /// When the first of the events is due.
    pub(crate) fn first_at(&self) -> Option<Duration> {
        let firsts = self.due.values().filter_map(BTreeMap::first_key_value);
        firsts.map(|((at, _), _)| *at).min()
    }

    /// Takes the next event, of one worker or of all, if it is due at `until` or earlier.
    pub(crate) fn next(&mut self, until: Duration, worker: Option<usize>) -> Option<(Duration, E)> {
        let of_all = self.due.values_mut().filter(|due| !due.is_empty());
        let due = match worker {
            Some(worker) => self.due.get_mut(&worker)?,
            None => of_all.min_by_key(|due| due.first_key_value().map(|(key, _)| *key))?,
        };
        let first = due.first_entry().filter(|first| first.key().0 <= until)?;
        let ((at, _), event) = first.remove_entry();
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
        agenda.plan(ms(5), 0, "late");
        agenda.plan(ms(1), 1, "first");
        agenda.plan(ms(1), 0, "second");
        assert_eq!(agenda.first_at(), Some(ms(1)));
        assert_eq!(agenda.next(ms(2), None), Some((ms(1), "first")));
        assert_eq!(agenda.next(ms(2), None), Some((ms(1), "second")));
        assert_eq!(agenda.next(ms(2), None), None);
        assert_eq!(agenda.next(ms(9), Some(1)), None);
        assert_eq!(agenda.next(ms(9), Some(0)), Some((ms(5), "late")));
    }
}
