//! The host's timer of a root context, set to when something is due next.

use std::cell::Cell;

use crate::host;

/// Longest time between ticks that the host can be asked for.
const MAX_TICK_MS: u64 = 60_000;

/// What the host has been asked for.
#[derive(Debug, Default)]
pub(crate) struct Ticker(Cell<Ticks>);

/// What the host's ticker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Ticks {
    /// Not asked for.
    #[default]
    Off,
    /// Next at this monotonic millisecond.
    At(u64),
    /// It has just ticked and would tick on.
    Unknown,
}

impl Ticker {
    /// It has ticked: whatever the host was asked for last, it goes on at that period.
    pub(crate) fn ticked(&self) {
        self.0.set(Ticks::Unknown);
    }

    /// Has the host tick at `due_ms`, and not at all with `None`. `now_ms` is asked for only when the host
    /// has to be.
    pub(crate) fn aim(&self, due_ms: Option<u64>, now_ms: impl FnOnce() -> u64) {
        let wanted = due_ms.map_or(Ticks::Off, Ticks::At);
        if self.0.replace(wanted) == wanted {
            return;
        }
        let period_ms = due_ms.map_or(0, |due_ms| due_ms.saturating_sub(now_ms()).clamp(1, MAX_TICK_MS));
        host::tick_every(u32::try_from(period_ms).unwrap_or_default());
    }
}
