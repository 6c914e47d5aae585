//! A worker's own part of the limits, for buckets that cannot be shared.

use serde::{Deserialize, Serialize};

use super::{Bucket, NANOS_PER_SECOND};
use crate::cell::{self, Change};
use crate::fingerprint::fingerprint;
use crate::node::Node;
use crate::tenant_id::TenantId;

/// Where the workers of a service say that they are there.
const WORKERS_KEY: &str = "tenantgate.workers";
/// How long a worker counts that is not heard of again.
const LEASE: u64 = 30 * NANOS_PER_SECOND;
/// How often a worker says that it is there.
const RENEWAL: u64 = 10 * NANOS_PER_SECOND;
/// Most workers that are counted.
const MAX_WORKERS: usize = 512;
/// Most buckets that a worker has of its own.
const MAX_BUCKETS: usize = 4_096;
/// How often a write is tried.
const ATTEMPTS: usize = 64;

/// The part of one worker.
#[derive(Debug)]
pub(super) struct Share {
    /// Where the workers of its service say that they are there.
    key: String,
    /// This worker among the others; chosen when it registers first.
    id: Option<u64>,
    registered_until: u64,
    /// When the bucket of a tenant is full, ordered by tenant.
    buckets: Vec<(TenantId, u64)>,
}

/// A worker, and until when it counts.
#[derive(Debug, Serialize, Deserialize)]
struct Presence {
    worker: u64,
    until: u64,
}

impl Share {
    pub(super) fn new(service: &str) -> Self {
        Self {
            key: format!("{WORKERS_KEY}.{:016x}", fingerprint(service)),
            id: None,
            registered_until: 0,
            buckets: Vec::new(),
        }
    }

    /// When this worker must say again that it is there.
    pub(super) fn due(&self) -> u64 {
        self.registered_until
    }

    /// Says that this worker is there, from time to time.
    pub(super) fn register(&mut self, now: u64, node: &impl Node) {
        if now < self.registered_until {
            return;
        }
        self.registered_until = now.saturating_add(RENEWAL);
        let random = || (u64::from(node.random()) << 32) | u64::from(node.random());
        let id = *self.id.get_or_insert_with(random);
        // Where it cannot be said, the others have more: each of them counts itself at least.
        let _ = cell::update(&self.key, ATTEMPTS, node, |stored| {
            let mut present = present(&stored.value, now);
            present.retain(|other| other.worker != id);
            present.truncate(MAX_WORKERS);
            present.push(Presence {
                worker: id,
                until: now.saturating_add(LEASE),
            });
            Change::To(postcard::to_extend(&present, Vec::new()).unwrap_or_default(), ())
        });
    }

    /// Until when this worker has a bucket of its own in use; `now` where it has none.
    pub(super) fn full_at(&self, tenant: &TenantId, now: u64) -> u64 {
        let bucket = self.place(tenant).ok().and_then(|place| self.buckets.get(place));
        bucket.map_or(now, |(_, full_at)| now.max(*full_at))
    }

    fn place(&self, tenant: &TenantId) -> Result<usize, usize> {
        self.buckets.binary_search_by(|(other, _)| other.cmp(tenant))
    }

    /// This worker's part of a bucket.
    pub(super) fn part_of(&self, whole: Bucket, now: u64, node: &impl Node) -> Bucket {
        let workers = present(&node.shared(&self.key).value, now).len();
        whole.part(u32::try_from(workers).unwrap_or(u32::MAX))
    }

    /// Takes one request out of this worker's part of a bucket. Gives when it is full again.
    ///
    /// # Errors
    ///
    /// The same, when there is no room for a request in it, nor for one more bucket.
    pub(super) fn take(&mut self, tenant: &TenantId, bucket: Bucket, now: u64) -> Result<u64, u64> {
        let full_at = bucket.take(self.full_at(tenant, now), now)?;
        if self.buckets.len() >= MAX_BUCKETS {
            self.buckets.retain(|(_, full_at)| *full_at > now);
        }
        match self.place(tenant) {
            Ok(place) => {
                if let Some((_, old)) = self.buckets.get_mut(place) {
                    *old = full_at;
                }
            }
            Err(_) if self.buckets.len() >= MAX_BUCKETS => return Err(now.saturating_add(bucket.span())),
            Err(place) => self.buckets.insert(place, (tenant.clone(), full_at)),
        }
        Ok(full_at)
    }
}

/// The workers that are there.
fn present(bytes: &[u8], now: u64) -> Vec<Presence> {
    let mut present: Vec<Presence> = postcard::from_bytes(bytes).unwrap_or_default();
    // Further away than anybody says, even one whose clock was read a while ago: another plugin has
    // written here.
    present.retain(|worker| now < worker.until && worker.until <= now.saturating_add(LEASE.saturating_mul(2)));
    present
}
