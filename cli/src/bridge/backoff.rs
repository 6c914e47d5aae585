//! How long to wait before the next attempt.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

/// The shortest wait before jitter.
const SHORTEST: Duration = Duration::from_millis(500);

/// The longest wait before jitter, which adds up to as much again.
const LONGEST: Duration = Duration::from_secs(15);

/// Waits that grow from between 0.5 and 1 to between 15 and 30 seconds, random within that.
#[derive(Debug)]
pub(crate) struct Backoff(ExponentialBackoff);

impl Backoff {
    pub(crate) fn new() -> Self {
        let growing = ExponentialBuilder::new()
            .with_min_delay(SHORTEST)
            .with_max_delay(LONGEST)
            .with_factor(2.0)
            .with_jitter()
            .without_max_times();
        Self(growing.build())
    }

    /// The next wait.
    pub(crate) fn wait(&mut self) -> Duration {
        self.0.next().unwrap_or(2 * LONGEST)
    }

    /// Begins with the shortest wait again.
    pub(crate) fn reset(&mut self) {
        *self = Self::new();
    }
}

/// A wait after something that only an operator can mend: between 15 and 30 seconds.
pub(crate) fn slow() -> Duration {
    LONGEST.mul_f64(1.0 + fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_from_half_a_second_to_half_a_minute_and_differ() {
        let waits: Vec<Vec<Duration>> = (0..20)
            .map(|_| {
                let mut backoff = Backoff::new();
                (0..40).map(|_| backoff.wait()).collect()
            })
            .collect();
        for waits in &waits {
            assert!((SHORTEST..=2 * SHORTEST).contains(&waits[0]), "{waits:?}");
            assert!(
                waits[6..].iter().all(|wait| (LONGEST..=2 * LONGEST).contains(wait)),
                "{waits:?}"
            );
        }
        assert!(waits.iter().any(|others| others != &waits[0]));
    }

    #[test]
    fn after_a_reset_the_first_wait_is_short_again() {
        let mut backoff = Backoff::new();
        for _ in 0..10 {
            backoff.wait();
        }
        backoff.reset();
        assert!(backoff.wait() <= 2 * SHORTEST);
    }

    #[test]
    fn a_slow_wait_is_between_fifteen_and_thirty_seconds() {
        assert!(
            (0..100)
                .map(|_| slow())
                .all(|wait| (LONGEST..=2 * LONGEST).contains(&wait))
        );
    }
}
