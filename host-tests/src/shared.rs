//! What all workers of a world share besides metrics: data under compare-and-set, and queues.

use std::collections::{BTreeMap, VecDeque};

use crate::abi::Status;
use crate::worker::VmRef;

/// One entry of the shared data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedEntry {
    /// The value; empty after the SDK's "remove".
    pub value: Vec<u8>,
    /// The compare-and-set number of the last write, never 0.
    pub cas: u32,
}

/// Envoy's shared data. Entries are never deleted; the compare-and-set counter is one for all keys.
#[derive(Debug, Default)]
pub(crate) struct SharedData {
    entries: BTreeMap<Vec<u8>, SharedEntry>,
    last_cas: u32,
}

impl SharedData {
    pub(crate) fn get(&self, key: &[u8]) -> Option<&SharedEntry> {
        self.entries.get(key)
    }

    /// Writes an entry. `cas` 0 is unconditional; a key that does not exist takes any `cas`.
    pub(crate) fn set(&mut self, key: &[u8], value: &[u8], cas: u32) -> Result<(), Status> {
        if cas != 0 && self.entries.get(key).is_some_and(|entry| entry.cas != cas) {
            return Err(Status::CasMismatch);
        }
        self.last_cas = self.last_cas.checked_add(1).unwrap_or(1);
        let entry = SharedEntry {
            value: value.to_vec(),
            cas: self.last_cas,
        };
        self.entries.insert(key.to_vec(), entry);
        Ok(())
    }

    pub(crate) fn entries(&self) -> &BTreeMap<Vec<u8>, SharedEntry> {
        &self.entries
    }
}

/// A shared queue. Whoever registered last is told about each entry; anybody may take it.
#[derive(Debug)]
struct Queue {
    name: Vec<u8>,
    registrant: (VmRef, u32),
    entries: VecDeque<Vec<u8>>,
}

/// All queues; a queue's id is its place plus one.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    queues: Vec<Queue>,
}

impl Queues {
    pub(crate) fn register(&mut self, name: &[u8], vm: VmRef, root: u32) -> u32 {
        if let Some(id) = self.resolve(name) {
            self.queue(id).expect("a resolved queue exists").registrant = (vm, root);
            return id;
        }
        let entries = VecDeque::new();
        self.queues.push(Queue {
            name: name.to_vec(),
            registrant: (vm, root),
            entries,
        });
        u32::try_from(self.queues.len()).expect("queues are few")
    }

    pub(crate) fn resolve(&self, name: &[u8]) -> Option<u32> {
        let index = self.queues.iter().position(|queue| queue.name == name)?;
        u32::try_from(index + 1).ok()
    }

    /// Appends an entry and says who must be told.
    pub(crate) fn enqueue(&mut self, id: u32, entry: Vec<u8>) -> Result<(VmRef, u32), Status> {
        let queue = self.queue(id).ok_or(Status::NotFound)?;
        queue.entries.push_back(entry);
        Ok(queue.registrant)
    }

    pub(crate) fn dequeue(&mut self, id: u32) -> Result<Vec<u8>, Status> {
        let queue = self.queue(id).ok_or(Status::NotFound)?;
        queue.entries.pop_front().ok_or(Status::Empty)
    }

    /// The name of a queue, and whose VM is told about its entries.
    pub(crate) fn describe(&self, id: u32) -> Option<(&[u8], VmRef)> {
        let queue = self.queues.get(usize::try_from(id).ok()?.checked_sub(1)?)?;
        Some((&queue.name, queue.registrant.0))
    }

    fn queue(&mut self, id: u32) -> Option<&mut Queue> {
        self.queues.get_mut(usize::try_from(id).ok()?.checked_sub(1)?)
    }
}
