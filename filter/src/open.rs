//! The streams that were let go in a tenant's name and are still open, with `enforce.cut_streams`. There
//! are as many as the host has streams, which is its bound.

use std::cell::{Cell, RefCell};

use tenant_policy::tenant_id::TenantId;

/// How long a stream may stay open after its tenant was refused, at most: how often is looked.
const LOOK_EVERY_MS: u64 = 250;

/// The open streams of one root context.
#[derive(Debug, Default)]
pub(crate) struct Open {
    /// In order, so that the streams of a tenant stand side by side.
    streams: RefCell<Vec<(TenantId, u32)>>,
    /// When to look next whether some tenant is refused; `None`: no stream is open.
    next_look_ms: Cell<Option<u64>>,
}

impl Open {
    /// Notes that a stream goes on in this tenant's name.
    pub(crate) fn insert(&self, noted: (TenantId, u32), now_ms: u64) {
        let mut streams = self.streams.borrow_mut();
        // A stream is let go once.
        if let Err(place) = streams.binary_search(&noted) {
            streams.insert(place, noted);
        }
        if self.next_look_ms.get().is_none() {
            self.next_look_ms.set(Some(now_ms.saturating_add(LOOK_EVERY_MS)));
        }
    }

    /// Forgets a stream that is over, if it was noted.
    pub(crate) fn remove(&self, noted: &(TenantId, u32)) {
        let mut streams = self.streams.borrow_mut();
        if let Ok(place) = streams.binary_search(noted) {
            streams.remove(place);
        }
    }

    /// Takes out the streams of a tenant, the oldest first.
    pub(crate) fn take(&self, tenant: &TenantId) -> Vec<u32> {
        let mut taken = Vec::new();
        self.streams.borrow_mut().retain(|(of, stream)| {
            if of == tenant {
                taken.push(*stream);
            }
            of != tenant
        });
        taken
    }

    /// Whose streams there are, each once.
    pub(crate) fn tenants(&self) -> Vec<TenantId> {
        let streams = self.streams.borrow();
        let mut tenants: Vec<TenantId> = Vec::new();
        for (tenant, _) in &*streams {
            if tenants.last() != Some(tenant) {
                tenants.push(tenant.clone());
            }
        }
        tenants
    }

    /// It has been looked. The next time comes unless no stream is open.
    pub(crate) fn looked(&self, now_ms: u64) {
        let is_empty = self.streams.borrow().is_empty();
        self.next_look_ms
            .set((!is_empty).then(|| now_ms.saturating_add(LOOK_EVERY_MS)));
    }

    /// When it is to be looked next, in monotonic milliseconds.
    pub(crate) fn next_look_ms(&self) -> Option<u64> {
        self.next_look_ms.get()
    }
}
