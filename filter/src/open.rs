//! The streams that were let go in a tenant's name and are still open, with `enforce.cut_streams`. There
//! are as many as the host has streams, which is its bound.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};

use tenant_policy::tenant_id::TenantId;

/// How long a stream may stay open after its tenant was refused, at most: how often is looked.
const LOOK_EVERY_MS: u64 = 250;

/// The open streams of one root context.
#[derive(Debug, Default)]
pub(crate) struct Open {
    streams: RefCell<Streams>,
    /// When to look next whether some tenant is refused; `None`: no stream is open.
    next_look_ms: Cell<Option<u64>>,
}

#[derive(Debug, Default)]
struct Streams {
    of: BTreeMap<TenantId, BTreeSet<u32>>,
    tenants: HashMap<u32, TenantId>,
}

impl Open {
    /// Notes that a stream goes on in this tenant's name.
    pub(crate) fn insert(&self, stream: u32, tenant: TenantId, now_ms: u64) {
        let mut streams = self.streams.borrow_mut();
        streams.remove(stream);
        streams.of.entry(tenant.clone()).or_default().insert(stream);
        streams.tenants.insert(stream, tenant);
        if self.next_look_ms.get().is_none() {
            self.next_look_ms.set(Some(now_ms.saturating_add(LOOK_EVERY_MS)));
        }
    }

    /// Forgets a stream that is over, if it was noted.
    pub(crate) fn remove(&self, stream: u32) {
        self.streams.borrow_mut().remove(stream);
    }

    /// Takes out the streams of a tenant, the oldest first.
    pub(crate) fn take(&self, tenant: &TenantId) -> BTreeSet<u32> {
        let mut streams = self.streams.borrow_mut();
        let taken = streams.of.remove(tenant).unwrap_or_default();
        for stream in &taken {
            streams.tenants.remove(stream);
        }
        taken
    }

    /// Whose streams there are.
    pub(crate) fn tenants(&self) -> Vec<TenantId> {
        self.streams.borrow().of.keys().cloned().collect()
    }

    /// It has been looked. The next time comes unless no stream is open.
    pub(crate) fn looked(&self, now_ms: u64) {
        let is_empty = self.streams.borrow().tenants.is_empty();
        self.next_look_ms
            .set((!is_empty).then(|| now_ms.saturating_add(LOOK_EVERY_MS)));
    }

    /// When it is to be looked next, in monotonic milliseconds.
    pub(crate) fn next_look_ms(&self) -> Option<u64> {
        self.next_look_ms.get()
    }
}

impl Streams {
    fn remove(&mut self, stream: u32) {
        let Some(tenant) = self.tenants.remove(&stream) else {
            return;
        };
        if let Some(streams) = self.of.get_mut(&tenant) {
            streams.remove(&stream);
            if streams.is_empty() {
                self.of.remove(&tenant);
            }
        }
    }
}
