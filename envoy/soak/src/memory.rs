//! Whether memory grows.

use serde::Serialize;

/// How long memory must have been looked at before anything is said of its growth, in seconds.
const LEAST_SECONDS: f64 = 120.0;
/// How much of its mean the resident memory may grow in the time that is looked at. The allocators of Envoy and of
/// its Wasm engine breathe by some megabytes.
pub const MAX_GROWTH: f64 = 0.05;

/// What was in memory at one moment.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Sample {
    /// Seconds since the start.
    pub at: f64,
    /// The resident memory of Envoy, in bytes: Wasm included.
    pub resident: u64,
    /// What Envoy's own allocator has given out, in bytes: Wasm not included.
    pub allocated: u64,
    /// Lookups that Envoy has seen fail since the start, for whatever reason.
    pub failures: u64,
    /// Requests answered since the start.
    pub answered: u64,
    /// Those that were forwarded.
    pub forwarded: u64,
}

/// How memory went after the warm-up.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Trend {
    /// When the warm-up ended, in seconds since the start.
    pub from: f64,
    /// How long was looked at, in seconds.
    pub seconds: f64,
    /// The mean of the resident memory, in bytes.
    pub mean: f64,
    /// The slope of the line through it by least squares, in bytes per second.
    pub slope: f64,
}

impl Trend {
    /// That of the samples behind the first third, or the first five minutes where that is less.
    #[must_use]
    pub fn of(samples: &[Sample]) -> Option<Self> {
        let end = samples.last()?.at;
        let from = (end / 3.0).min(300.0);
        let late: Vec<_> = samples.iter().filter(|sample| sample.at >= from).collect();
        let count = late.len() as f64;
        let mean = |of: &dyn Fn(&Sample) -> f64| late.iter().map(|sample| of(sample)).sum::<f64>() / count;
        let (middle, mean_resident) = (mean(&|sample| sample.at), mean(&|sample| sample.resident as f64));
        let spread: f64 = late.iter().map(|sample| (sample.at - middle).powi(2)).sum();
        let together: f64 = late
            .iter()
            .map(|sample| (sample.at - middle) * (sample.resident as f64 - mean_resident))
            .sum();
        (spread > 0.0).then(|| Self {
            from,
            seconds: end - from,
            mean: mean_resident,
            slope: together / spread,
        })
    }

    /// By what part of its mean it has grown along the line.
    #[must_use]
    pub fn growth(&self) -> f64 {
        self.slope * self.seconds / self.mean
    }

    /// Whether it is flat; `None` when it was not looked at for long enough to say.
    #[must_use]
    pub fn is_flat(&self) -> Option<bool> {
        (self.seconds >= LEAST_SECONDS).then(|| self.growth() <= MAX_GROWTH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(seconds: u32, resident: impl Fn(f64) -> f64) -> Vec<Sample> {
        let sample = |at: f64| Sample {
            at,
            resident: resident(at) as u64,
            allocated: 0,
            failures: 0,
            answered: 0,
            forwarded: 0,
        };
        (0..seconds).map(|at| sample(f64::from(at))).collect()
    }

    #[test]
    fn a_leak_is_told_from_breathing() {
        let breathing = samples(600, |at| 2e8 + 4e6 * (at / 7.0).sin());
        assert_eq!(Trend::of(&breathing).and_then(|trend| trend.is_flat()), Some(true));
        let warming = samples(600, |at| 2e8 * (1.0 - (-at / 30.0).exp()));
        assert_eq!(Trend::of(&warming).and_then(|trend| trend.is_flat()), Some(true));
        let leaking = samples(600, |at| 2e8 + 4e6 * (at / 7.0).sin() + 4e4 * at);
        let trend = Trend::of(&leaking).expect("a trend");
        assert_eq!(trend.is_flat(), Some(false), "{trend:?}");
        assert!((trend.slope - 4e4).abs() < 2e3, "{trend:?}");
    }

    #[test]
    fn of_a_short_time_nothing_is_said() {
        assert_eq!(
            Trend::of(&samples(60, |at| 1e6 * at)).and_then(|trend| trend.is_flat()),
            None
        );
        assert!(Trend::of(&[]).is_none());
    }
}
