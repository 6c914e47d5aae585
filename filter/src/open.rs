//! The streams that were let go in a tenant's name and are still open, with `enforce.cut_streams`. There
//! are as many as the host has streams, which is its bound.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use tenant_policy::tenant_id::TenantId;

use crate::http::Exchange;

/// How long a stream may stay open after its tenant was refused, at most: how often is looked.
const LOOK_EVERY_MS: u64 = 250;

/// An open stream.
#[derive(Debug)]
pub(crate) struct OpenStream {
    pub(crate) tenant: TenantId,
    pub(crate) stream: u32,
    pub(crate) exchange: Rc<Exchange>,
}

/// The open streams of one root context.
#[derive(Debug, Default)]
pub(crate) struct Open {
    /// By tenant and stream, so that the streams of a tenant stand side by side.
    streams: RefCell<Vec<OpenStream>>,
    /// When to look next whether some tenant is refused; `None`: no stream is open.
    next_look_ms: Cell<Option<u64>>,
}

fn place(streams: &[OpenStream], tenant: &TenantId, stream: u32) -> Result<usize, usize> {
    streams.binary_search_by(|open| open.tenant.cmp(tenant).then(open.stream.cmp(&stream)))
}

impl Open {
    /// Notes that a stream goes on in a tenant's name.
    pub(crate) fn insert(&self, open: OpenStream, now_ms: u64) {
        let mut streams = self.streams.borrow_mut();
        // A stream is let go once.
        if let Err(place) = place(&streams, &open.tenant, open.stream) {
            streams.insert(place, open);
        }
        if self.next_look_ms.get().is_none() {
            self.next_look_ms.set(Some(now_ms.saturating_add(LOOK_EVERY_MS)));
        }
    }

    /// Forgets a stream that is over, if it was noted.
    pub(crate) fn remove(&self, tenant: &TenantId, stream: u32) {
        let mut streams = self.streams.borrow_mut();
        if let Ok(place) = place(&streams, tenant, stream) {
            streams.remove(place);
        }
    }

    /// Takes out the streams of a tenant, the oldest first.
    pub(crate) fn take(&self, tenant: &TenantId) -> Vec<OpenStream> {
        let mut streams = self.streams.borrow_mut();
        let first = streams.partition_point(|open| open.tenant < *tenant);
        let end = streams.partition_point(|open| open.tenant <= *tenant);
        streams.drain(first..end).collect()
    }

    /// Whose streams there are, each once.
    pub(crate) fn tenants(&self) -> Vec<TenantId> {
        let streams = self.streams.borrow();
        let mut tenants: Vec<TenantId> = Vec::new();
        for open in &*streams {
            if tenants.last() != Some(&open.tenant) {
                tenants.push(open.tenant.clone());
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
