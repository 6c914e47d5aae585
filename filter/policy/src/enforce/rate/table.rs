//! The buckets of a node, in its shared data: a fixed number of sets of eight, each under one key.
//!
//! A bucket that is full says nothing more than one that is not there: only such ones make room.

use std::hash::Hasher;

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use super::{Bucket, NANOS_PER_SECOND};
use crate::cell::{self, Change};
use crate::fingerprint::fingerprint;
use crate::node::{Node, NotWritten};
use crate::tenant_id::TenantId;

/// What buckets are placed by, so that nobody can choose tenants of one set.
const SEED_KEY: &str = "tenantgate.rate";
/// How many buckets a set holds.
const WAYS: usize = 8;
/// The first byte of a stored set. Another number is another format, and void.
const FORMAT: u8 = 1;
/// How often a write is tried. Every failed attempt is another worker's success.
const ATTEMPTS: usize = 64;
/// Longest that an empty bucket may take to fill, in nanoseconds: what the configuration allows. What
/// is full later than that was not written here.
const LONGEST: u64 = 1_000_000 * NANOS_PER_SECOND;

/// A full hash seed.
type Seed = (u64, u64);

#[derive(Debug)]
pub(super) struct Table {
    sets: u32,
    service: u64,
    seed: Option<Seed>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Set(Vec<Entry>);

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    tenant: String,
    /// The service whose bucket it is, by hash.
    service: u64,
    full_at: u64,
    /// In what time one request's room comes back, by the limit under which it was written.
    interval: u64,
}

impl Entry {
    /// When it is full again under another limit: what is missing in it, in requests and parts of one, comes
    /// back in that limit's time.
    fn full_at(&self, bucket: Bucket, now: u64) -> u64 {
        if self.interval == bucket.interval {
            return self.full_at;
        }
        let missing = u128::from(self.full_at.saturating_sub(now)).saturating_mul(u128::from(bucket.interval));
        let missing = missing.div_ceil(u128::from(self.interval.max(1)));
        now.saturating_add(u64::try_from(missing).unwrap_or(LONGEST))
    }
}

impl Table {
    pub(super) fn new(sets: u32, service: &str) -> Self {
        Self {
            sets,
            service: fingerprint(service),
            seed: None,
        }
    }

    /// Takes one request out of the tenant's bucket. What this worker knows of it besides is
    /// `known`: it is not full before then. Gives when it is full again; `None` when it has no place
    /// or cannot be written.
    pub(super) fn take(
        &mut self,
        tenant: &TenantId,
        bucket: Bucket,
        (now, known): (u64, u64),
        node: &impl Node,
    ) -> Option<Result<u64, u64>> {
        let key = self.key(tenant, node)?;
        let taken = cell::update(&key, ATTEMPTS, node, |stored| {
            let mut set = Set::decode(&stored.value);
            set.0.retain(|entry| entry.full_at <= now.saturating_add(LONGEST));
            let is_its = |entry: &Entry| entry.service == self.service && entry.tenant == tenant.as_str();
            if let Some(entry) = set.0.iter_mut().find(|entry| is_its(entry)) {
                let taken = bucket.take(entry.full_at(bucket, now).max(known), now);
                let (Ok(full_at) | Err(full_at)) = taken;
                // What others have admitted, maybe at a later time, stays taken.
                if taken.is_err() && entry.interval == bucket.interval {
                    return Change::None(Some(taken));
                }
                entry.full_at = full_at;
                entry.interval = bucket.interval;
                return Change::To(set.encode(), Some(taken));
            }
            set.0.retain(|entry| entry.full_at > now);
            if set.0.len() >= WAYS {
                return Change::None(None);
            }
            let taken = bucket.take(known, now);
            let (Ok(full_at) | Err(full_at)) = taken;
            set.0.push(Entry {
                tenant: tenant.as_str().to_owned(),
                service: self.service,
                full_at,
                interval: bucket.interval,
            });
            Change::To(set.encode(), Some(taken))
        });
        taken.ok().flatten()
    }

    fn key(&mut self, tenant: &TenantId, node: &impl Node) -> Option<String> {
        let (first, second) = match self.seed {
            Some(seed) => seed,
            None => {
                let seed = seed(node).ok()?;
                *self.seed.insert(seed)
            }
        };
        let mut hasher = SipHasher13::new_with_keys(first, second);
        // A tenant of many services has a set for each: it crowds nobody out.
        hasher.write_u64(self.service);
        hasher.write(tenant.as_str().as_bytes());
        let index = hasher.finish().checked_rem(u64::from(self.sets))?;
        Some(format!("tenantgate.rate.{index}"))
    }
}

impl Set {
    /// What cannot be read is empty: nobody is locked out for it.
    fn decode(bytes: &[u8]) -> Self {
        cell::decode::<Self>(FORMAT, bytes)
            .filter(|set| set.0.len() <= WAYS)
            .unwrap_or_default()
    }

    fn encode(&self) -> Vec<u8> {
        cell::encode(FORMAT, self)
    }
}

/// The seed of the node, made by the first worker that needs it.
fn seed(node: &impl Node) -> Result<Seed, NotWritten> {
    cell::update(SEED_KEY, ATTEMPTS, node, |stored| {
        if let Ok(seed) = postcard::from_bytes::<Seed>(&stored.value) {
            return Change::None(seed);
        }
        let random = || (u64::from(node.random()) << 32) | u64::from(node.random());
        let seed = (random(), random());
        Change::To(postcard::to_extend(&seed, Vec::new()).unwrap_or_default(), seed)
    })
}
