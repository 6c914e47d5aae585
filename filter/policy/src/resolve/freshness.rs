//! How old an outcome is, and what that makes of it.

use serde::{Deserialize, Serialize};

use crate::config::Cache;
use crate::node::{Node, part_of};

/// The times of an outcome, in monotonic milliseconds of the node. Each is the end of one [`Age`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Times {
    fresh_until_ms: u64,
    stale_until_ms: u64,
    spent_at_ms: u64,
}

/// What an outcome is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Age {
    /// It answers.
    Fresh,
    /// It answers, and it is time to ask anew (`stale_while_revalidate`).
    Stale,
    /// It answers only if the Tenant Manager does not (`stale_if_error`).
    Fallback,
    /// It is forgotten.
    Spent,
}

impl Times {
    /// Of a record that was learned now: fresh for `ttl` give or take a tenth, so that what was
    /// learned together is not asked about together.
    pub(super) fn of_record(rules: &Cache, now_ms: u64, node: &impl Node) -> Self {
        let tenth = rules.ttl_ms / 10;
        let ttl_ms = rules
            .ttl_ms
            .saturating_sub(tenth)
            .saturating_add(part_of(tenth.saturating_mul(2), node));
        Self::after(rules, now_ms, ttl_ms, rules.stale_while_revalidate_ms)
    }

    /// Of a refusal that was learned now and holds for `ttl_ms`. It is never served stale; as long as a
    /// record would be, it is remembered that the tenant was refused.
    pub(super) fn of_refusal(rules: &Cache, now_ms: u64, ttl_ms: u64) -> Self {
        Self::after(rules, now_ms, ttl_ms, 0)
    }

    fn after(rules: &Cache, now_ms: u64, ttl_ms: u64, stale_ms: u64) -> Self {
        let fresh_until_ms = now_ms.saturating_add(ttl_ms);
        let stale_until_ms = fresh_until_ms.saturating_add(stale_ms);
        Self {
            fresh_until_ms,
            stale_until_ms,
            spent_at_ms: stale_until_ms.saturating_add(rules.stale_if_error_ms),
        }
    }

    /// Of what holds no outcome and is forgotten at that time.
    pub(super) fn none_until(at_ms: u64) -> Self {
        Self {
            fresh_until_ms: 0,
            stale_until_ms: 0,
            spent_at_ms: at_ms,
        }
    }

    /// The same, but fresh and stale no more: what is left is the memory.
    pub(super) fn outdated(self, now_ms: u64) -> Self {
        Self {
            fresh_until_ms: self.fresh_until_ms.min(now_ms),
            stale_until_ms: self.stale_until_ms.min(now_ms),
            ..self
        }
    }

    pub(super) fn age(self, now_ms: u64) -> Age {
        if now_ms < self.fresh_until_ms {
            Age::Fresh
        } else if now_ms < self.stale_until_ms {
            Age::Stale
        } else if now_ms < self.spent_at_ms {
            Age::Fallback
        } else {
            Age::Spent
        }
    }

    /// When it is forgotten.
    pub(super) fn spent_at_ms(self) -> u64 {
        self.spent_at_ms
    }

    /// When it stops being fresh.
    pub(super) fn fresh_until_ms(self) -> u64 {
        self.fresh_until_ms
    }
}
