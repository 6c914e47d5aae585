//! Rule 3 of enforcement: how many requests a tenant may make, on all workers of the node together.
//!
//! Each tenant has a bucket of `burst` requests that fills at `requests_per_second` (GCRA, the generic
//! cell rate algorithm: a bucket is one point in time, the moment at which it is full again).
//! Buckets lie in the node's shared data ([`table`]); whoever admits a request moves the bucket by
//! one compare-and-set.
//!
//! Where a bucket cannot be had, because its set is full of others that are in use or because other
//! workers were faster every time, each worker limits for itself at the rate divided by the number
//! of workers ([`share`]): all of them together then stay within the rate, but for one request each.
//!
//! Plugins in front of one service have one bucket for a tenant, also the two of an update that runs
//! side by side for a while. What one of them has admitted counts for the other as so many requests,
//! whatever its limit.

mod share;
mod table;

#[cfg(test)]
mod tests;

use crate::config::{Limit, RateLimit};
use crate::node::Node;
use crate::telemetry::Counter;
use crate::tenant_id::TenantId;
use share::Share;
use table::Table;

const NANOS_PER_MS: u64 = 1_000_000;
const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// The rate limits of a node, as one worker applies them.
#[derive(Debug)]
pub struct Limiter {
    limits: RateLimit,
    table: Table,
    share: Share,
}

/// What a tenant may still do; what `RateLimit` and `RateLimit-Policy` tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// How many requests may come at once.
    pub burst: u32,
    /// How long an empty bucket takes to fill, in whole seconds.
    pub window_seconds: u64,
    /// How many may come now.
    pub left: u64,
    /// Until the bucket is full, in whole seconds.
    pub reset_seconds: u64,
}

/// A request that comes too early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany {
    /// Until the next one may come, in milliseconds.
    pub retry_after_ms: u64,
    /// As it is told to the caller.
    pub quota: Quota,
}

impl Limiter {
    /// A limiter that has seen no request. `service` keeps the buckets of plugins in front of different
    /// services apart.
    pub fn new(limits: &RateLimit, service: &str) -> Self {
        Self {
            limits: limits.clone(),
            table: Table::new(limits.shared_sets, service),
            share: Share::new(service),
        }
    }

    /// Says from time to time that this worker is there, so that it has its part of what cannot be shared.
    pub fn tick(&mut self, node: &impl Node) {
        self.share.register(nanoseconds(node), node);
    }

    /// When [`Self::tick`] is due next, in monotonic milliseconds.
    pub fn due_ms(&self) -> u64 {
        self.share.due().div_ceil(NANOS_PER_MS)
    }

    /// Takes one request out of the tenant's bucket.
    ///
    /// # Errors
    ///
    /// [`TooMany`] when it is empty.
    pub fn admit(&mut self, tenant: &TenantId, node: &impl Node) -> Result<Quota, TooMany> {
        let whole = Bucket::of(*self.limits.of(tenant));
        let now = nanoseconds(node);
        let known = self.share.full_at(tenant, now);
        let (bucket, taken) = match self.table.take(tenant, whole, (now, known), node) {
            Some(taken) => (whole, taken),
            None => {
                node.count(Counter::RateLimitFallbacks);
                let bucket = self.share.part_of(whole, now, node);
                (bucket, self.share.take(tenant, bucket, now))
            }
        };
        taken
            .map(|full_at| bucket.quota(full_at, now))
            .map_err(|full_at| TooMany {
                retry_after_ms: bucket.wait(full_at, now).div_ceil(NANOS_PER_MS),
                quota: Quota {
                    left: 0,
                    ..bucket.quota(full_at, now)
                },
            })
    }

    /// Whether callers are told of their limits.
    pub fn tells(&self) -> bool {
        self.limits.headers
    }
}

fn nanoseconds(node: &impl Node) -> u64 {
    node.monotonic_ms().saturating_mul(NANOS_PER_MS)
}

/// The arithmetic of a bucket. Times are monotonic nanoseconds; a bucket is the time at which it is
/// full again, and any past time is a full one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bucket {
    /// Time in which one request's room comes back.
    interval: u64,
    burst: u32,
}

impl Bucket {
    fn of(limit: Limit) -> Self {
        Self {
            interval: NANOS_PER_SECOND
                .checked_div(u64::from(limit.requests_per_second))
                .unwrap_or(NANOS_PER_SECOND),
            burst: limit.burst,
        }
    }

    /// A worker's part of it among so many. What is left over of the burst is nobody's, but one
    /// request each has.
    fn part(self, workers: u32) -> Self {
        Self {
            interval: self.interval.saturating_mul(u64::from(workers.max(1))),
            burst: self.burst.checked_div(workers.max(1)).unwrap_or(self.burst).max(1),
        }
    }

    /// Time in which an empty bucket fills.
    fn span(self) -> u64 {
        self.interval.saturating_mul(u64::from(self.burst))
    }

    /// Takes one request out of a bucket that is full at `full_at`.
    ///
    /// # Errors
    ///
    /// The same bucket, when it has no room for one.
    fn take(self, full_at: u64, now: u64) -> Result<u64, u64> {
        let taken = full_at.max(now).saturating_add(self.interval);
        if taken.saturating_sub(now) > self.span() {
            Err(full_at)
        } else {
            Ok(taken)
        }
    }

    /// Time until a request has room in a bucket that has none.
    fn wait(self, full_at: u64, now: u64) -> u64 {
        full_at
            .saturating_add(self.interval)
            .saturating_sub(self.span())
            .saturating_sub(now)
    }

    fn quota(self, full_at: u64, now: u64) -> Quota {
        let missing = full_at.saturating_sub(now);
        Quota {
            burst: self.burst,
            window_seconds: self.span().div_ceil(NANOS_PER_SECOND),
            left: self
                .span()
                .saturating_sub(missing)
                .checked_div(self.interval)
                .unwrap_or_default(),
            reset_seconds: missing.div_ceil(NANOS_PER_SECOND),
        }
    }
}

impl Quota {
    /// `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers).
    pub fn fields(&self) -> [(&'static str, String); 2] {
        let Self {
            burst,
            window_seconds,
            left,
            reset_seconds,
        } = self;
        [
            ("ratelimit-policy", format!("\"tenant\";q={burst};w={window_seconds}")),
            ("ratelimit", format!("\"tenant\";r={left};t={reset_seconds}")),
        ]
    }
}
