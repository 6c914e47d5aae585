//! The node of this crate's own tests: clocks that stand still until told, counts that can be read.

use std::cell::{Cell, RefCell};

use crate::node::{Node, SignatureCheck};
use crate::telemetry::{Counter, Gauge};

/// When the tests play, in seconds since the Unix epoch.
pub(crate) const NOW: u64 = 1_800_000_000;

/// A node without a host.
#[derive(Default)]
pub(crate) struct World {
    /// Milliseconds since the start, for both clocks.
    pub(crate) now_ms: Cell<u64>,
    /// What [`Node::random`] gives.
    pub(crate) random: Cell<u32>,
    pub(crate) counted: RefCell<Vec<Counter>>,
    pub(crate) consumers: Cell<i64>,
    pub(crate) metadata: RefCell<Option<Vec<u8>>>,
}

impl World {
    pub(crate) fn pass(&self, ms: u64) {
        self.now_ms.set(self.now_ms.get() + ms);
    }

    pub(crate) fn counts(&self, counter: Counter) -> usize {
        self.counted.borrow().iter().filter(|other| **other == counter).count()
    }
}

impl Node for World {
    fn realtime_ms(&self) -> u64 {
        NOW * 1_000 + self.now_ms.get()
    }

    fn monotonic_ms(&self) -> u64 {
        self.now_ms.get()
    }

    fn random(&self) -> u32 {
        self.random.get()
    }

    fn count(&self, counter: Counter) {
        self.counted.borrow_mut().push(counter);
    }

    fn adjust(&self, _: Gauge, by: i64) {
        self.consumers.set(self.consumers.get() + by);
    }

    fn verify_signature(&self, _: &SignatureCheck<'_>) -> Option<bool> {
        None
    }

    fn dynamic_metadata(&self) -> Option<Vec<u8>> {
        self.metadata.borrow().clone()
    }
}
