//! The node as a worker's VM sees it, by hostcalls: the engine's [`Node`].

use std::time::Instant;

use tenant_policy::node::{Node, SignatureCheck};
use tenant_policy::telemetry::{Counter, Gauge};

use crate::host;
use crate::metrics::Metrics;
use crate::signatures;

/// The node as this worker sees it.
#[derive(Debug)]
pub(crate) struct HostNode {
    start: Instant,
    metrics: Metrics,
    native_signatures: bool,
}

impl HostNode {
    /// Defines the metrics and tries out what the host offers.
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            metrics: Metrics::define(),
            native_signatures: signatures::are_native(),
        }
    }

    /// Whether RSA and ECDSA signatures are checked by the host.
    pub(crate) fn has_native_signatures(&self) -> bool {
        self.native_signatures
    }
}

impl Node for HostNode {
    fn realtime_ms(&self) -> u64 {
        host::realtime_ms()
    }

    fn monotonic_ms(&self) -> u64 {
        host::monotonic_ms(self.start)
    }

    fn random(&self) -> u32 {
        host::random()
    }

    fn count(&self, counter: Counter) {
        self.metrics.count(counter);
    }

    fn adjust(&self, gauge: Gauge, by: i64) {
        self.metrics.adjust(gauge, by);
    }

    fn verify_signature(&self, check: &SignatureCheck<'_>) -> Option<bool> {
        if self.native_signatures {
            signatures::verify(check)
        } else {
            None
        }
    }

    fn dynamic_metadata(&self) -> Option<Vec<u8>> {
        host::property(&["metadata"]).ok()
    }
}
