//! The worker's own cache (L1): tenant → outcome, bounded in number and bytes, least recently used
//! out first.

use std::rc::Rc;

use lru::LruCache;

use super::Outcome;
use super::freshness::{Age, Times};
use crate::config::Cache;
use crate::tenant_id::TenantId;

/// How many entries one sweep looks at.
const MAX_SWEPT: usize = 10_000;
/// What an entry takes besides its texts, in bytes.
const ENTRY_BYTES: usize = 256;

/// A cache of outcomes.
#[derive(Debug)]
pub(super) struct Local {
    entries: LruCache<TenantId, Entry>,
    bytes: usize,
    max_bytes: usize,
    evictions: u64,
}

#[derive(Debug)]
struct Entry {
    outcome: Rc<Outcome>,
    times: Times,
    looks_up_ms: u64,
    bytes: usize,
}

/// What the cache has of a tenant.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) outcome: Rc<Outcome>,
    pub(super) age: Age,
    /// When it is worth a look whether the node knows something newer.
    pub(super) looks_up_ms: u64,
}

impl Local {
    pub(super) fn new(rules: &Cache) -> Self {
        // Grows as it fills: 10 000 slots per worker and configuration would be paid at once.
        let mut entries = LruCache::unbounded();
        entries.resize(rules.max_entries);
        Self {
            entries,
            bytes: 0,
            max_bytes: rules.max_bytes,
            evictions: 0,
        }
    }

    /// What is held of the tenant. What is spent is dropped.
    pub(super) fn look(&mut self, tenant: &TenantId, now_ms: u64) -> Option<Held> {
        let entry = self.entries.get(tenant)?;
        let age = entry.times.age(now_ms);
        if age == Age::Spent {
            self.remove(tenant);
            return None;
        }
        Some(Held {
            outcome: Rc::clone(&entry.outcome),
            age,
            looks_up_ms: entry.looks_up_ms,
        })
    }

    /// Remembers an outcome.
    pub(super) fn insert(&mut self, tenant: TenantId, outcome: Rc<Outcome>, times: Times, now_ms: u64) {
        let bytes = weight(&tenant, &outcome);
        let entry = Entry {
            outcome,
            times,
            looks_up_ms: 0,
            bytes,
        };
        self.bytes = self.bytes.saturating_add(bytes);
        if let Some((other, gone)) = self.entries.push(tenant.clone(), entry) {
            self.gone(&gone, other != tenant, now_ms);
        }
        while self.bytes > self.max_bytes {
            match self.entries.pop_lru() {
                Some((_, gone)) => self.gone(&gone, true, now_ms),
                None => break,
            }
        }
    }

    /// Has nobody look for something newer before that time.
    pub(super) fn rest(&mut self, tenant: &TenantId, until_ms: u64) {
        if let Some(entry) = self.entries.peek_mut(tenant) {
            entry.looks_up_ms = until_ms;
        }
    }

    pub(super) fn remove(&mut self, tenant: &TenantId) {
        if let Some(entry) = self.entries.pop(tenant) {
            self.bytes = self.bytes.saturating_sub(entry.bytes);
        }
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
    }

    /// Drops what is spent among the [`MAX_SWEPT`] least recently used entries: the work of one
    /// sweep is bounded, and what is used often is looked at when it is used.
    pub(super) fn sweep(&mut self, now_ms: u64) {
        let spent: Vec<TenantId> = self
            .entries
            .iter()
            .rev()
            .take(MAX_SWEPT)
            .filter(|(_, entry)| entry.times.age(now_ms) == Age::Spent)
            .map(|(tenant, _)| tenant.clone())
            .collect();
        for tenant in spent {
            self.remove(&tenant);
        }
    }

    /// How often a fresh entry had to leave because the cache was full.
    pub(super) fn evictions(&self) -> u64 {
        self.evictions
    }

    /// Whether nothing is held.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn gone(&mut self, entry: &Entry, for_another: bool, now_ms: u64) {
        self.bytes = self.bytes.saturating_sub(entry.bytes);
        if for_another && entry.times.age(now_ms) == Age::Fresh {
            self.evictions = self.evictions.saturating_add(1);
        }
    }
}

/// About what an entry takes, in bytes.
fn weight(tenant: &TenantId, outcome: &Outcome) -> usize {
    let texts = match outcome {
        Outcome::Found(record) => record.weight(),
        Outcome::Refused { status } => status.len(),
        Outcome::AccessDenied | Outcome::NotFound | Outcome::NotProvisioned | Outcome::Unavailable(_) => 0,
    };
    ENTRY_BYTES.saturating_add(tenant.as_str().len()).saturating_add(texts)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;
    use crate::resolve::Record;
    use crate::world::World;

    fn rules(max_entries: usize, max_bytes: usize) -> Cache {
        Cache {
            ttl_ms: 1_000,
            stale_while_revalidate_ms: 100,
            stale_if_error_ms: 400,
            negative_ttl_ms: 100,
            max_entries: NonZeroUsize::new(max_entries).unwrap(),
            max_bytes,
            shared_slots: 8,
        }
    }

    fn tenant(name: &str) -> TenantId {
        TenantId::parse(name, false).unwrap()
    }

    fn found() -> Rc<Outcome> {
        Rc::new(Outcome::Found(Rc::new(Record::parse(b"{}").unwrap())))
    }

    fn insert(cache: &mut Local, name: &str, now_ms: u64) {
        // The middle of the range in which the end of freshness is drawn.
        let world = World::default();
        world.random.set(1 << 31);
        let times = Times::of_record(&rules(1, 1_048_576), now_ms, &world);
        cache.insert(tenant(name), found(), times, now_ms);
    }

    fn age(cache: &mut Local, name: &str, now_ms: u64) -> Option<Age> {
        cache.look(&tenant(name), now_ms).map(|held| held.age)
    }

    #[test]
    fn an_entry_ages_and_is_forgotten() {
        let mut cache = Local::new(&rules(10, 1_048_576));
        insert(&mut cache, "a", 0);
        for (now_ms, expected) in [
            (0, Some(Age::Fresh)),
            (999, Some(Age::Fresh)),
            (1_000, Some(Age::Stale)),
            (1_100, Some(Age::Fallback)),
            (1_499, Some(Age::Fallback)),
            (1_500, None),
        ] {
            assert_eq!(age(&mut cache, "a", now_ms), expected, "{now_ms}");
        }
        assert!(cache.is_empty());
        assert_eq!(cache.bytes, 0);
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut cache = Local::new(&rules(2, 1_048_576));
        insert(&mut cache, "a", 0);
        insert(&mut cache, "b", 0);
        assert!(age(&mut cache, "a", 1).is_some());
        insert(&mut cache, "c", 1);
        assert_eq!(age(&mut cache, "b", 1), None);
        assert!(age(&mut cache, "a", 1).is_some());
        insert(&mut cache, "a", 1);
        assert_eq!(cache.evictions(), 1, "replacing is not evicting");
        cache.sweep(5_000);
        assert!(cache.is_empty());
    }

    #[test]
    fn the_bytes_are_bounded_too() {
        let mut cache = Local::new(&rules(100, 3 * 300));
        for name in ["a", "b", "c", "d", "e"] {
            insert(&mut cache, name, 0);
            assert!(cache.bytes <= 900);
        }
        assert_eq!(age(&mut cache, "a", 0), None);
        assert!(age(&mut cache, "e", 0).is_some());
        assert_eq!(cache.evictions(), 2);
        cache.clear();
        assert_eq!(cache.bytes, 0);
    }

    #[test]
    fn a_look_for_something_newer_can_be_put_off() {
        let mut cache = Local::new(&rules(2, 1_048_576));
        insert(&mut cache, "a", 0);
        assert_eq!(cache.look(&tenant("a"), 1).unwrap().looks_up_ms, 0);
        cache.rest(&tenant("a"), 50);
        assert_eq!(cache.look(&tenant("a"), 1).unwrap().looks_up_ms, 50);
        insert(&mut cache, "a", 2);
        assert_eq!(cache.look(&tenant("a"), 2).unwrap().looks_up_ms, 0);
    }
}
