//! The node of this crate's own tests: clocks that stand still until told, counts that can be read.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};

use crate::node::{Earlier, Node, NotWritten, Shared, SignatureCheck, Version};
use crate::telemetry::{Counter, Decision, Gauge, Histogram};

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
    pub(crate) gauges: RefCell<HashMap<Gauge, i64>>,
    pub(crate) samples: RefCell<Vec<(Histogram, u64)>>,
    pub(crate) store: RefCell<BTreeMap<String, (u32, Vec<u8>)>>,
    writes: Cell<u32>,
    /// How often the bell was rung.
    pub(crate) rings: Cell<u64>,
    /// Whether the host has no cheap number.
    pub(crate) bell_is_broken: Cell<bool>,
    /// Whether the host lets nothing be shared.
    pub(crate) refuses_writes: Cell<bool>,
    /// How many of the next writes come too late.
    pub(crate) outpaced: Cell<u32>,
    pub(crate) metadata: RefCell<Option<Vec<u8>>>,
    /// What tenants' requests were counted by.
    pub(crate) tenants: RefCell<Vec<(String, Decision)>>,
    /// What the route's metadata name.
    pub(crate) route_module: RefCell<Option<Vec<u8>>>,
    /// What an earlier pass has left; `None`: the host keeps nothing.
    pub(crate) earlier_pass: RefCell<Option<Earlier>>,
}

impl World {
    pub(crate) fn pass(&self, ms: u64) {
        self.now_ms.set(self.now_ms.get() + ms);
    }

    pub(crate) fn gauge(&self, gauge: Gauge) -> i64 {
        self.gauges.borrow().get(&gauge).copied().unwrap_or_default()
    }

    /// Has another plugin write something under a key.
    pub(crate) fn overwrite(&self, key: &str, value: &[u8]) {
        self.writes.set(self.writes.get() + 1);
        let number = self.writes.get();
        self.store.borrow_mut().insert(key.to_owned(), (number, value.to_vec()));
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

    fn add(&self, counter: Counter, by: u64) {
        for _ in 0..by {
            self.counted.borrow_mut().push(counter);
        }
    }

    fn adjust(&self, gauge: Gauge, by: i64) {
        *self.gauges.borrow_mut().entry(gauge).or_default() += by;
    }

    fn set(&self, gauge: Gauge, to: u64) {
        self.gauges.borrow_mut().insert(gauge, i64::try_from(to).unwrap());
    }

    fn observe(&self, histogram: Histogram, sample: u64) {
        self.samples.borrow_mut().push((histogram, sample));
    }

    fn shared(&self, key: &str) -> Shared {
        match self.store.borrow().get(key) {
            None => Shared::NOTHING,
            Some((version, value)) => Shared {
                value: value.clone(),
                version: Version(*version),
            },
        }
    }

    fn share(&self, key: &str, value: &[u8], expected: Version) -> Result<(), NotWritten> {
        if self.refuses_writes.get() {
            return Err(NotWritten::Refused);
        }
        if let Some(left) = self.outpaced.get().checked_sub(1) {
            self.outpaced.set(left);
            return Err(NotWritten::Outpaced);
        }
        let mut store = self.store.borrow_mut();
        if store.get(key).is_some_and(|(version, _)| Version(*version) != expected) {
            return Err(NotWritten::Outpaced);
        }
        self.writes.set(self.writes.get() + 1);
        store.insert(key.to_owned(), (self.writes.get(), value.to_vec()));
        Ok(())
    }

    fn bell(&self) -> Option<u64> {
        (!self.bell_is_broken.get()).then(|| self.rings.get())
    }

    fn ring(&self) {
        self.rings.set(self.rings.get() + 1);
    }

    fn verify_signature(&self, _: &SignatureCheck<'_>) -> Option<bool> {
        None
    }

    fn dynamic_metadata(&self) -> Option<Vec<u8>> {
        self.metadata.borrow().clone()
    }

    fn count_tenant(&self, label: &str, decision: Decision) {
        self.tenants.borrow_mut().push((label.to_owned(), decision));
    }

    fn route_module(&self) -> Option<Vec<u8>> {
        self.route_module.borrow().clone()
    }

    fn keeps_passes(&self) -> bool {
        self.earlier_pass.borrow().is_some()
    }

    fn earlier_pass(&self) -> Earlier {
        self.earlier_pass.borrow().clone().unwrap_or(Earlier::Unknowable)
    }
}
