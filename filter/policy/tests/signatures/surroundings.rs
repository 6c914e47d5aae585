//! The two surroundings that the engine verifies in.

use std::cell::Cell;

use native_signature::{Refused, verify};
use tenant_policy::node::{Node, SignatureCheck};

/// A host that checks signatures by itself, as Envoy does, or one that does not.
#[derive(Debug)]
pub(crate) struct Host {
    checks: bool,
    asked: Cell<usize>,
}

impl Host {
    /// A host without a check of its own: the engine verifies everything.
    pub(crate) fn pure() -> Self {
        Self {
            checks: false,
            asked: Cell::new(0),
        }
    }

    /// A host that checks what it can, on aws-lc.
    pub(crate) fn native() -> Self {
        Self {
            checks: true,
            ..Self::pure()
        }
    }

    /// How many signatures the host has checked.
    pub(crate) fn checked(&self) -> usize {
        self.asked.get()
    }
}

impl Node for Host {
    fn realtime_ms(&self) -> u64 {
        0
    }

    fn monotonic_ms(&self) -> u64 {
        0
    }

    fn random(&self) -> u32 {
        0
    }

    fn verify_signature(&self, check: &SignatureCheck<'_>) -> Option<bool> {
        if !self.checks {
            return None;
        }
        self.asked.set(self.asked.get() + 1);
        match verify(check.hash.name(), check.public_key, check.signature, check.message) {
            Ok(()) => Some(true),
            Err(Refused::Signature) => Some(false),
            // The hash and the key are the engine's own; a host must be able to read them.
            Err(refused) => panic!("the host says: {refused}"),
        }
    }

    fn dynamic_metadata(&self) -> Option<Vec<u8>> {
        None
    }
}
