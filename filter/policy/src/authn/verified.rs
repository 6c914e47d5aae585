//! Verified tokens, remembered: the second request with the same token pays for no signature.
//!
//! One cache per worker. A token is found by all of its bytes, never by a digest of them, so that
//! no other token can be taken for it. The hash in front of that comparison is seeded, so that
//! nobody outside can aim at a place in the table.
//!
//! An entry ends with the first of: `exp` (without leeway: after that the token is verified
//! again), `nbf` or `iat` not reached any more because the clock was set back, `ttl_seconds`, a
//! change of its issuer's keys, the bounds `max_entries` and `max_bytes`.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, DefaultHasher, Hasher};
use std::rc::Rc;

use lru::LruCache;

use super::claims::{Claims, Validity};
use crate::config::TokenCache;
use crate::node::Now;

/// What an entry takes besides its token and claims: places in table and list, counts, `Rc`s.
const ENTRY_BYTES: usize = 256;

/// A token whose signature and claims held.
#[derive(Debug)]
pub(super) struct Verdict {
    /// The place of its issuer in the configuration.
    pub(super) issuer: usize,
    /// What later stages read of it.
    pub(super) claims: Rc<Claims>,
    /// When it holds.
    pub(super) validity: Validity,
}

#[derive(Debug)]
struct Entry {
    verdict: Verdict,
    /// When `ttl_seconds` are over (monotonic milliseconds).
    ends_ms: u64,
}

impl Entry {
    fn bytes(&self, token: &[u8]) -> usize {
        token
            .len()
            .saturating_add(self.verdict.claims.bytes())
            .saturating_add(ENTRY_BYTES)
    }

    fn holds(&self, now: Now) -> bool {
        now.monotonic_ms < self.ends_ms && self.verdict.validity.holds_strictly(now.realtime_ms)
    }
}

/// How much of a token its place in the table depends on.
const TAIL_BYTES: usize = 64;

/// Hashes the end of a token, where its signature stands, with a seeded hash. Nobody can get many
/// verified tokens with one ending: who signs cannot choose it. It only finds the place; the
/// comparison behind it is of all bytes.
#[derive(Debug, Clone)]
struct ByTail(RandomState);

#[derive(Debug)]
struct Tail(DefaultHasher);

impl BuildHasher for ByTail {
    type Hasher = Tail;

    fn build_hasher(&self) -> Tail {
        Tail(self.0.build_hasher())
    }
}

impl Hasher for Tail {
    fn write(&mut self, bytes: &[u8]) {
        let start = bytes.len().saturating_sub(TAIL_BYTES);
        self.0.write(bytes.get(start..).unwrap_or(bytes));
    }

    fn finish(&self) -> u64 {
        self.0.finish()
    }
}

/// The verified tokens of a worker.
#[derive(Debug)]
pub(super) struct VerifiedTokens {
    entries: LruCache<Rc<[u8]>, Entry, ByTail>,
    bounds: TokenCache,
    bytes: usize,
}

impl VerifiedTokens {
    pub(super) fn new(bounds: TokenCache) -> Self {
        Self {
            entries: LruCache::unbounded_with_hasher(ByTail(RandomState::new())),
            bounds,
            bytes: 0,
        }
    }

    /// What is remembered of a token that still holds.
    pub(super) fn recall(&mut self, token: &[u8], now: Now) -> Option<&Verdict> {
        // What does not hold any more is verified again and then replaced; one lookup is enough here.
        let entry = self.entries.get(token)?;
        entry.holds(now).then_some(&entry.verdict)
    }

    /// Remembers a token, if it holds without leeway. Gives whether another one that still held
    /// had to leave for it.
    pub(super) fn remember(&mut self, token: &[u8], verdict: Verdict, now: Now) -> bool {
        let ends_ms = now.monotonic_ms.saturating_add(self.bounds.ttl_ms);
        let entry = Entry { verdict, ends_ms };
        if !entry.holds(now) || self.bounds.max_entries == 0 {
            return false;
        }
        self.bytes = self.bytes.saturating_add(entry.bytes(token));
        if let Some(former) = self.entries.put(Rc::from(token), entry) {
            self.bytes = self.bytes.saturating_sub(former.bytes(token));
        }
        let mut evicted = false;
        while self.entries.len() > self.bounds.max_entries || self.bytes > self.bounds.max_bytes {
            let Some((token, entry)) = self.entries.pop_lru() else {
                break;
            };
            self.bytes = self.bytes.saturating_sub(entry.bytes(&token));
            evicted |= entry.holds(now);
        }
        evicted
    }

    /// Forgets the tokens of an issuer whose keys are others than before: the present ones might
    /// judge each of them differently.
    pub(super) fn forget(&mut self, issuer: usize) {
        let mut bytes = self.bytes;
        self.entries.retain(|token, entry| {
            let stays = entry.verdict.issuer != issuer;
            if !stays {
                bytes = bytes.saturating_sub(entry.bytes(token));
            }
            stays
        });
        self.bytes = bytes;
    }
}

#[cfg(test)]
mod tests;
