//! What the clients have counted.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;
use serde::Serialize;

/// How many faults are kept word for word.
const MAX_EXAMPLES: usize = 50;
/// Longest time that is told apart, in microseconds.
const LONGEST_US: u64 = 60_000_000;

/// A kind of answer whose times are looked at together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Forwarded, with nothing wrong anywhere.
    ForwardedInCalm,
    /// Forwarded, while the Tenant Manager was not itself.
    ForwardedInFaults,
    /// Refused, with nothing wrong anywhere.
    RefusedInCalm,
    /// Refused, while the Tenant Manager was not itself.
    RefusedInFaults,
}

/// How long answers took, in milliseconds.
#[derive(Debug, Clone, Serialize)]
pub struct Latency {
    /// How many there were.
    pub count: u64,
    /// Half of them took at most so long.
    pub p50: f64,
    /// 90 of 100.
    pub p90: f64,
    /// 99 of 100.
    pub p99: f64,
    /// 999 of 1000.
    pub p999: f64,
    /// All of them.
    pub max: f64,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// By status and code; forwarded ones are `200 forwarded`.
    pub(crate) decisions: BTreeMap<String, u64>,
    times: BTreeMap<Class, Times>,
    pub(crate) wrong: u64,
    pub(crate) hung: u64,
    pub(crate) broken: u64,
    pub(crate) left: u64,
    pub(crate) examples: Vec<String>,
    /// What reached the upstream of each limited tenant.
    pub(crate) limited: BTreeMap<usize, u64>,
}

#[derive(Debug)]
struct Times(Histogram<u64>);

impl Default for Times {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, LONGEST_US, 3).expect("bounds that are far enough apart"))
    }
}

impl Tally {
    pub(crate) fn decided(&mut self, decision: String, class: Class, took: Duration) {
        *self.decisions.entry(decision).or_default() += 1;
        let took = u64::try_from(took.as_micros()).unwrap_or(LONGEST_US);
        self.times.entry(class).or_default().0.saturating_record(took);
    }

    pub(crate) fn example(&mut self, told: impl FnOnce() -> String) {
        if self.examples.len() < MAX_EXAMPLES {
            self.examples.push(told());
        }
    }

    /// Adds what another client has counted.
    ///
    /// # Errors
    /// When the times do not fit, which is a fault of this module.
    pub(crate) fn add(&mut self, other: Self) -> Result<()> {
        for (decision, count) in other.decisions {
            *self.decisions.entry(decision).or_default() += count;
        }
        for (class, times) in other.times {
            self.times.entry(class).or_default().0.add(times.0)?;
        }
        for (tenant, count) in other.limited {
            *self.limited.entry(tenant).or_default() += count;
        }
        self.wrong += other.wrong;
        self.hung += other.hung;
        self.broken += other.broken;
        self.left += other.left;
        let room = MAX_EXAMPLES - self.examples.len();
        self.examples.extend(other.examples.into_iter().take(room));
        Ok(())
    }

    pub(crate) fn latencies(&self) -> BTreeMap<Class, Latency> {
        let of = |times: &Histogram<u64>| {
            let ms = |quantile: f64| times.value_at_quantile(quantile) as f64 / 1_000.0;
            Latency {
                count: times.len(),
                p50: ms(0.5),
                p90: ms(0.9),
                p99: ms(0.99),
                p999: ms(0.999),
                max: times.max() as f64 / 1_000.0,
            }
        };
        self.times.iter().map(|(class, times)| (*class, of(&times.0))).collect()
    }
}
