//! A node without a host.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use tenant_policy::node::{Earlier, Node, NotWritten, Shared, SignatureCheck, Version};

use crate::NOW;

/// Clocks that stand still until told, a store of its own, and what the present request brings.
#[derive(Debug, Default)]
pub struct World {
    /// What has passed since [`NOW`], in milliseconds.
    pub passed_ms: Cell<u64>,
    /// The dynamic metadata of the request.
    pub metadata: RefCell<Option<Vec<u8>>>,
    /// What an earlier pass has left; `None`: nothing.
    pub note: RefCell<Option<Vec<u8>>>,
    /// What the workers share.
    store: Option<RefCell<Store>>,
}

#[derive(Debug, Default)]
struct Store {
    /// The last write of each key and what it wrote; `None`: only read so far.
    values: BTreeMap<String, Option<(u32, Vec<u8>)>>,
    writes: u32,
    rings: u64,
}

impl World {
    /// One whose workers share something.
    #[must_use]
    pub fn sharing() -> Self {
        Self {
            store: Some(RefCell::default()),
            ..Self::default()
        }
    }

    /// Every key that was read or written, in order, and what stands there.
    pub fn stored(&self) -> Vec<(String, Vec<u8>)> {
        let Some(store) = &self.store else { return Vec::new() };
        let values = &store.borrow().values;
        let bytes = |value: &Option<(u32, Vec<u8>)>| value.as_ref().map(|(_, bytes)| bytes.clone());
        values
            .iter()
            .map(|(key, value)| (key.clone(), bytes(value).unwrap_or_default()))
            .collect()
    }

    /// Another plugin writes there, and rings for nobody.
    pub fn plant(&self, key: &str, bytes: &[u8]) {
        if let Some(store) = &self.store {
            store.borrow_mut().write(key, bytes);
        }
    }
}

impl Store {
    fn write(&mut self, key: &str, bytes: &[u8]) {
        self.writes += 1;
        self.values.insert(key.to_owned(), Some((self.writes, bytes.to_vec())));
    }
}

impl Node for World {
    fn realtime_ms(&self) -> u64 {
        NOW * 1_000 + self.passed_ms.get()
    }

    fn monotonic_ms(&self) -> u64 {
        self.passed_ms.get()
    }

    fn random(&self) -> u32 {
        0
    }

    fn shared(&self, key: &str) -> Shared {
        let Some(store) = &self.store else {
            return Shared::NOTHING;
        };
        match store.borrow_mut().values.entry(key.to_owned()).or_default() {
            None => Shared::NOTHING,
            Some((version, value)) => Shared {
                value: value.clone(),
                version: Version(*version),
            },
        }
    }

    fn share(&self, key: &str, value: &[u8], expected: Version) -> Result<(), NotWritten> {
        let mut store = self.store.as_ref().ok_or(NotWritten::Refused)?.borrow_mut();
        if let Some(Some((version, _))) = store.values.get(key)
            && Version(*version) != expected
        {
            return Err(NotWritten::Outpaced);
        }
        store.write(key, value);
        Ok(())
    }

    fn bell(&self) -> Option<u64> {
        self.store.as_ref().map(|store| store.borrow().rings)
    }

    fn ring(&self) {
        if let Some(store) = &self.store {
            store.borrow_mut().rings += 1;
        }
    }

    fn verify_signature(&self, _: &SignatureCheck<'_>) -> Option<bool> {
        None
    }

    fn dynamic_metadata(&self) -> Option<Vec<u8>> {
        self.metadata.borrow().clone()
    }

    fn keeps_passes(&self) -> bool {
        true
    }

    fn earlier_pass(&self) -> Earlier {
        self.note.borrow().clone().map_or(Earlier::Nothing, Earlier::Noted)
    }
}
