//! The worker's own cache (L1): tenant → outcome, bounded, least recently used out first.

use std::rc::Rc;

use lru::LruCache;

use super::Outcome;
use crate::config::Cache;
use crate::tenant_id::TenantId;

/// How many entries one sweep looks at.
const MAX_SWEPT: usize = 10_000;

/// A cache of outcomes. Times are of the monotonic clock.
#[derive(Debug)]
pub(super) struct Local {
    entries: LruCache<TenantId, Entry>,
    rules: Cache,
    records: i64,
    evictions: u64,
}

#[derive(Debug)]
struct Entry {
    outcome: Rc<Outcome>,
    expires_ms: u64,
}

impl Local {
    pub(super) fn new(rules: Cache) -> Self {
        // Grows as it fills: 10 000 slots per worker and configuration would be paid at once.
        let mut entries = LruCache::unbounded();
        entries.resize(rules.max_entries);
        Self {
            entries,
            rules,
            records: 0,
            evictions: 0,
        }
    }

    /// The outcome, while it is fresh. An expired one is dropped.
    pub(super) fn lookup(&mut self, tenant: &TenantId, now_ms: u64) -> Option<Rc<Outcome>> {
        let entry = self.entries.get(tenant)?;
        if now_ms < entry.expires_ms {
            return Some(Rc::clone(&entry.outcome));
        }
        let expired = self.entries.pop(tenant);
        self.uncount(expired);
        None
    }

    /// Remembers an outcome for as long as its kind is fresh; `Unavailable` never.
    pub(super) fn insert(&mut self, tenant: TenantId, outcome: Rc<Outcome>, now_ms: u64) {
        let ttl_ms = match *outcome {
            Outcome::Found(_) => self.rules.ttl_ms,
            Outcome::Refused { .. } | Outcome::AccessDenied | Outcome::NotFound | Outcome::NotProvisioned => {
                self.rules.negative_ttl_ms
            }
            Outcome::Unavailable(_) => return,
        };
        if matches!(*outcome, Outcome::Found(_)) {
            self.records = self.records.saturating_add(1);
        }
        let entry = Entry {
            outcome,
            expires_ms: now_ms.saturating_add(ttl_ms),
        };
        let displaced = self.entries.push(tenant.clone(), entry);
        if let Some((other, entry)) = displaced {
            if other != tenant && now_ms < entry.expires_ms {
                self.evictions = self.evictions.saturating_add(1);
            }
            self.uncount(Some(entry));
        }
    }

    /// Drops what has expired among the [`MAX_SWEPT`] least recently used entries: the work of
    /// one sweep is bounded, and what is used often is looked at when it is used.
    pub(super) fn sweep(&mut self, now_ms: u64) {
        let expired: Vec<TenantId> = self
            .entries
            .iter()
            .rev()
            .take(MAX_SWEPT)
            .filter(|(_, entry)| entry.expires_ms <= now_ms)
            .map(|(tenant, _)| tenant.clone())
            .collect();
        for tenant in expired {
            let entry = self.entries.pop(&tenant);
            self.uncount(entry);
        }
    }

    /// How many records are held, refusals not counted.
    pub(super) fn records(&self) -> i64 {
        self.records
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.records = 0;
    }

    /// How often a fresh entry had to leave because the cache was full.
    pub(super) fn evictions(&self) -> u64 {
        self.evictions
    }

    /// Whether nothing is held.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn uncount(&mut self, gone: Option<Entry>) {
        if gone.is_some_and(|entry| matches!(*entry.outcome, Outcome::Found(_))) {
            self.records = self.records.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;
    use crate::resolve::Record;
    use crate::telemetry::LookupFailure;

    fn cache(max: usize) -> Local {
        Local::new(Cache {
            ttl_ms: 1_000,
            stale_while_revalidate_ms: 0,
            stale_if_error_ms: 0,
            negative_ttl_ms: 100,
            max_entries: NonZeroUsize::new(max).unwrap(),
            max_bytes: 1_048_576,
            shared_slots: 8,
        })
    }

    fn tenant(name: &str) -> TenantId {
        TenantId::parse(name, false).unwrap()
    }

    fn found() -> Rc<Outcome> {
        Rc::new(Outcome::Found(Rc::new(Record::parse(b"{}").unwrap())))
    }

    #[test]
    fn each_kind_of_outcome_has_its_time() {
        let mut cache = cache(10);
        cache.insert(tenant("a"), found(), 0);
        cache.insert(tenant("b"), Rc::new(Outcome::NotFound), 0);
        cache.insert(
            tenant("c"),
            Rc::new(Outcome::Unavailable(LookupFailure::ServerError)),
            0,
        );
        assert!(cache.lookup(&tenant("c"), 0).is_none(), "never cached");
        assert!(cache.lookup(&tenant("b"), 99).is_some());
        assert!(cache.lookup(&tenant("b"), 100).is_none());
        assert!(cache.lookup(&tenant("a"), 999).is_some());
        assert_eq!(cache.records(), 1);
        assert!(cache.lookup(&tenant("a"), 1_000).is_none());
        assert_eq!(cache.records(), 0);
    }

    #[test]
    fn the_least_recently_used_goes_first_and_records_are_counted() {
        let mut cache = cache(2);
        cache.insert(tenant("a"), found(), 0);
        cache.insert(tenant("b"), found(), 0);
        cache.lookup(&tenant("a"), 1);
        cache.insert(tenant("c"), found(), 1);
        assert!(cache.lookup(&tenant("b"), 1).is_none());
        assert!(cache.lookup(&tenant("a"), 1).is_some());
        assert_eq!(cache.records(), 2);
        cache.insert(tenant("a"), found(), 1);
        assert_eq!(cache.records(), 2, "replacing is not adding");
        assert_eq!(cache.evictions(), 1, "and no eviction");
        cache.sweep(5_000);
        assert!(cache.is_empty());
        assert_eq!(cache.records(), 0);
    }
}
