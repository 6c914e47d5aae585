//! The node as a worker's VM sees it, by hostcalls: the engine's [`Node`].

use tenant_policy::node::{Earlier, Node, NotWritten, Shared, SignatureCheck, Version};
use tenant_policy::telemetry::{Counter, Decision, Gauge, Histogram};

use crate::host::{self, CAS_MISMATCH, Refused};
use crate::metrics::Metrics;
use crate::{properties, signatures};

/// Where the name of the gauge stands that tells of changes.
const BELL_KEY: &str = "tenantgate.bell";

/// The node as this worker sees it.
#[derive(Debug)]
pub(crate) struct HostNode {
    metrics: Metrics,
    has_bell: bool,
    native_signatures: bool,
    keeps_passes: bool,
}

impl HostNode {
    /// Defines the metrics and tries out what the host offers.
    pub(crate) fn new() -> Self {
        // Gauges are the whole process's, and any plugin may set one whose name it knows. This one's is
        // known to those who share data, and to nobody else.
        let bell = host::secret_number(BELL_KEY).map(|number| format!("{number:016x}"));
        let metrics = Metrics::define(bell.as_deref().unwrap_or("unused"));
        // A host may be told to keep no statistics, or not this one: then it would never move.
        let before = metrics.value(Gauge::Bell);
        metrics.adjust(Gauge::Bell, 1);
        let has_bell = bell.is_ok() && before.is_some() && metrics.value(Gauge::Bell) != before;
        Self {
            metrics,
            has_bell,
            native_signatures: signatures::are_native(),
            keeps_passes: properties::declare_pass(),
        }
    }

    /// Whether a gauge of the host tells that something has changed. Otherwise the shared data are
    /// read for every request.
    pub(crate) fn has_bell(&self) -> bool {
        self.has_bell
    }

    /// Whether the host has not heard of every count yet.
    pub(crate) fn has_batch(&self) -> bool {
        self.metrics.has_batch()
    }

    /// Tells the host the counts that it has not heard of yet.
    pub(crate) fn flush(&self) {
        self.metrics.flush();
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
        host::monotonic_ms()
    }

    fn random(&self) -> u32 {
        host::random()
    }

    fn add(&self, counter: Counter, by: u64) {
        self.metrics.add(counter, by);
    }

    fn count_tenant(&self, label: &str, decision: Decision) {
        self.metrics.count_tenant(label, decision);
    }

    fn adjust(&self, gauge: Gauge, by: i64) {
        self.metrics.adjust(gauge, by);
    }

    fn set(&self, gauge: Gauge, to: u64) {
        self.metrics.set(gauge, to);
    }

    fn observe(&self, histogram: Histogram, sample: u64) {
        self.metrics.observe(histogram, sample);
    }

    fn shared(&self, key: &str) -> Shared {
        match host::shared_data(key) {
            Ok((value, cas)) => Shared {
                value,
                version: Version(cas),
            },
            Err(Refused(_)) => Shared::NOTHING,
        }
    }

    fn share(&self, key: &str, value: &[u8], expected: Version) -> Result<(), NotWritten> {
        host::set_shared_data(key, value, expected.0).map_err(|Refused(status)| match status {
            CAS_MISMATCH => NotWritten::Outpaced,
            _ => NotWritten::Refused,
        })
    }

    fn bell(&self) -> Option<u64> {
        if self.has_bell {
            self.metrics.value(Gauge::Bell)
        } else {
            None
        }
    }

    fn ring(&self) {
        self.metrics.adjust(Gauge::Bell, 1);
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

    fn route_module(&self) -> Option<Vec<u8>> {
        host::property(&["xds", "route_metadata", "filter_metadata", "tenantgate", "module"]).ok()
    }

    fn keeps_passes(&self) -> bool {
        self.keeps_passes
    }

    fn earlier_pass(&self) -> Earlier {
        if self.keeps_passes {
            properties::earlier_pass()
        } else {
            Earlier::Unknowable
        }
    }
}
