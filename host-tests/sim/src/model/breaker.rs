//! Whether the Tenant Manager may be asked, as the rules have it: circuit breaker and pauses.

use super::knowledge::Meaning;
use crate::script::Knobs;

/// As what a call was let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Permit {
    /// While the circuit had opened so many times.
    Ordinary(u32),
    /// The probe, whose lease ends then.
    Probe(u64),
    /// That cannot be told.
    Unclear,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Closed { failures: u32 },
    Open { since_ms: u64, until_ms: u64 },
    HalfOpen { since_ms: u64, until_ms: u64 },
}

/// The circuit breaker and the pauses of a node.
#[derive(Debug)]
pub(crate) struct Breaker {
    phase: Phase,
    openings: u32,
    /// Since when the order of answers cannot be told any more.
    unclear_since_ms: Option<u64>,
    pause: Option<(u64, u64)>,
    /// When it was closed last. Who came in that instant may have found it open.
    closed_ms: Option<u64>,
    /// How often it was opened from closed, and how many probes there were.
    pub(crate) opened: u64,
    /// How many probes there were.
    pub(crate) probes: u64,
}

/// How long a lease lasts beyond the time of the call.
pub(crate) const GRACE_MS: u64 = 500;

impl Default for Breaker {
    fn default() -> Self {
        Self {
            phase: Phase::Closed { failures: 0 },
            openings: 0,
            unclear_since_ms: None,
            pause: None,
            closed_ms: None,
            opened: 0,
            probes: 0,
        }
    }
}

impl Breaker {
    /// The order of what happens now cannot be told.
    pub(crate) fn blur(&mut self, now_ms: u64) {
        self.unclear_since_ms = Some(now_ms);
    }

    /// A call goes out. The error says why it must not.
    pub(crate) fn enter(&mut self, knobs: &Knobs, now_ms: u64) -> Result<Permit, String> {
        if let Some((since_ms, until_ms)) = self.pause
            && since_ms < now_ms
            && now_ms < until_ms
        {
            return Err(format!("nobody is to ask before {until_ms} ms"));
        }
        let is_clear = self.unclear_since_ms.is_none();
        match self.phase {
            Phase::Closed { .. } if is_clear => return Ok(Permit::Ordinary(self.openings)),
            Phase::Open { since_ms, until_ms } if now_ms < until_ms && is_clear => {
                if since_ms < now_ms {
                    return Err(format!("the circuit is open until {until_ms} ms"));
                }
                // Begun in the very instant in which it opened.
                return Ok(Permit::Unclear);
            }
            Phase::HalfOpen { since_ms, until_ms } if now_ms < until_ms && is_clear => {
                return Err(format!(
                    "there is a probe since {since_ms} ms, whose lease lasts until {until_ms} ms"
                ));
            }
            Phase::Closed { .. } | Phase::Open { .. } | Phase::HalfOpen { .. } => {}
        }
        if !is_clear {
            return Ok(Permit::Unclear);
        }
        let until_ms = now_ms + knobs.timeout_ms + GRACE_MS;
        self.probes += 1;
        self.phase = Phase::HalfOpen {
            since_ms: now_ms,
            until_ms,
        };
        Ok(Permit::Probe(until_ms))
    }

    /// An answer is there.
    pub(crate) fn leave(&mut self, knobs: &Knobs, permit: Permit, asked_ms: u64, meaning: &Meaning, now_ms: u64) {
        let pause_ms = match meaning {
            Meaning::Throttled(pause_ms) => *pause_ms,
            Meaning::Unauthorized => 1_000,
            _ => 0,
        };
        if pause_ms > 0 {
            let longest = self.pause.map_or(0, |(_, until_ms)| until_ms).max(now_ms + pause_ms);
            self.pause = Some((now_ms, longest));
        }
        let health = match meaning {
            Meaning::Throttled(_) | Meaning::Unauthorized | Meaning::Rejected => None,
            Meaning::Ill => Some(false),
            _ => Some(true),
        };
        if let Some(since_ms) = self.unclear_since_ms {
            let settled_ms = since_ms + knobs.open_s * 1_000 + knobs.timeout_ms + GRACE_MS;
            if health == Some(true) && asked_ms > settled_ms {
                self.phase = Phase::Closed { failures: 0 };
                self.closed_ms = Some(now_ms);
                self.unclear_since_ms = None;
                // Who was let through before knows nothing of this count.
                self.openings += 1;
            } else if health == Some(false) {
                self.unclear_since_ms = Some(now_ms);
            }
            return;
        }
        let open = Phase::Open {
            since_ms: now_ms,
            until_ms: now_ms + knobs.open_s * 1_000,
        };
        match (self.phase, permit, health) {
            (_, Permit::Unclear, None) => {}
            (_, Permit::Unclear, _) => self.blur(now_ms),
            (_, Permit::Ordinary(openings), _) if openings != self.openings => {}
            (Phase::Closed { .. }, _, Some(true)) => self.phase = Phase::Closed { failures: 0 },
            (Phase::Closed { failures }, _, Some(false)) => {
                if failures + 1 < knobs.threshold {
                    self.phase = Phase::Closed { failures: failures + 1 };
                } else {
                    self.phase = open;
                    self.openings += 1;
                    self.opened += 1;
                }
            }
            (Phase::HalfOpen { until_ms, .. }, Permit::Probe(mine), health) if mine == until_ms => {
                self.phase = match health {
                    Some(true) => {
                        self.closed_ms = Some(now_ms);
                        Phase::Closed { failures: 0 }
                    }
                    Some(false) => open,
                    None => Phase::Open {
                        since_ms: now_ms,
                        until_ms: now_ms,
                    },
                };
            }
            _ => {}
        }
    }

    /// Whether anybody could have been told since `from_ms` that the circuit is open. `has_prober`: whether somebody
    /// may have been let through since that time as the probe, whose call is still to go out.
    pub(crate) fn may_be_open(&self, knobs: &Knobs, from_ms: u64, has_prober: impl FnOnce(u64) -> bool) -> bool {
        match self.phase {
            _ if self.unclear_since_ms.is_some() => true,
            Phase::Closed { .. } => self.closed_ms.is_some_and(|closed_ms| from_ms <= closed_ms),
            // It was half-open before, where it opened for no time at all.
            Phase::Open { since_ms, until_ms } => {
                from_ms <= since_ms.max(until_ms.saturating_sub(1)) || has_prober(until_ms)
            }
            Phase::HalfOpen { until_ms, .. } => from_ms < until_ms + knobs.timeout_ms,
        }
    }

    /// How long the circuit stays open from a moment on, where that can be told.
    pub(crate) fn opens_in_ms(&self, from_ms: u64) -> Option<u64> {
        match self.phase {
            // Once that is over somebody may have begun a probe.
            Phase::Open { since_ms, until_ms } if since_ms < from_ms && from_ms < until_ms => {
                Some(until_ms - from_ms).filter(|_| self.unclear_since_ms.is_none())
            }
            _ => None,
        }
    }

    /// How long the Tenant Manager is to be left alone from a moment on, at most, where that can be told.
    pub(crate) fn pause_left_ms(&self, from_ms: u64) -> Option<u64> {
        let left_ms = self.pause.map_or(0, |(_, until_ms)| until_ms.saturating_sub(from_ms));
        self.unclear_since_ms.is_none().then_some(left_ms)
    }

    /// Whether anybody could have been told since `from_ms` to leave the Tenant Manager alone.
    pub(crate) fn may_be_paused(&self, from_ms: u64) -> bool {
        self.unclear_since_ms.is_some() || self.pause.is_some_and(|(_, until_ms)| from_ms < until_ms)
    }
}
