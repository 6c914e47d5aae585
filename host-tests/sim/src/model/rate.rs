//! How many requests of a tenant may have been let in.

use std::collections::BTreeMap;

use crate::script::Rate;

/// The buckets of the tenants. A bucket is the time at which it is full again, in microseconds.
#[derive(Debug, Default)]
pub(crate) struct Buckets(BTreeMap<String, u64>);

impl Buckets {
    /// A request was let in. Gives whether so many can have been, `slack` requests apart.
    pub(crate) fn take(&mut self, rate: Rate, tenant: &str, at_ms: u64, slack: u64) -> bool {
        let interval = 1_000_000 / rate.per_second;
        let now = at_ms * 1_000;
        let full = self.0.entry(tenant.to_owned()).or_default();
        *full = (*full).max(now) + interval;
        *full - now <= (rate.burst + slack) * interval
    }

    /// Whether a request can have been turned away, `slack` requests apart.
    pub(crate) fn may_be_empty(&self, rate: Rate, tenant: &str, at_ms: u64, slack: u64) -> bool {
        let interval = 1_000_000 / rate.per_second;
        let full = self.0.get(tenant).copied().unwrap_or_default();
        let left = rate.burst.saturating_sub(slack + 1) * interval;
        full.saturating_sub(at_ms * 1_000) > left || left == 0
    }
}
