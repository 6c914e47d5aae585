//! What the engine asks of its surroundings.

use crate::telemetry::{Counter, Gauge};

/// The node as one worker sees it: its clocks and its counters.
///
/// The filter implements it with hostcalls, tests with plain values. Every method may be called
/// at any time and none can fail.
pub trait Node {
    /// The real time as milliseconds since the Unix epoch. For token times only: it may jump.
    fn realtime_ms(&self) -> u64;

    /// A clock that never goes back, in milliseconds from an arbitrary start. For everything
    /// that lasts.
    fn monotonic_ms(&self) -> u64;

    /// Adds one to a node-wide counter.
    fn count(&self, counter: Counter);

    /// Moves a node-wide gauge.
    fn adjust(&self, gauge: Gauge, by: i64);
}
