//! The engine's counters as host metrics.

use proxy_wasm::types::LogLevel;
use tenant_policy::telemetry::{Counter, Gauge};

use crate::host;

/// The host's ids of the engine's metrics.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// In the order of [`Counter::all`].
    counters: Vec<Option<u32>>,
    consumers: Option<u32>,
}

impl Metrics {
    /// Defines every metric, so that all of them show before they move. One that the host
    /// refuses is logged and not counted; requests do not suffer from it.
    pub(crate) fn define() -> Self {
        let define = |kind, name: &str| match host::define_metric(kind, name) {
            Ok(id) => Some(id),
            Err(host::Refused(status)) => {
                host::log(
                    LogLevel::Error,
                    &format!("metric {name} refused by the host: status {status}"),
                );
                None
            }
        };
        Self {
            counters: Counter::all()
                .map(|counter| define(host::Metric::Counter, counter.name()))
                .collect(),
            consumers: define(host::Metric::Gauge, Gauge::TenantConsumersActive.name()),
        }
    }

    pub(crate) fn count(&self, counter: Counter) {
        if let Some(Some(id)) = self.counters.get(counter.index()).copied() {
            host::increment_metric(id, 1);
        }
    }

    pub(crate) fn adjust(&self, gauge: Gauge, by: i64) {
        let id = match gauge {
            Gauge::TenantConsumersActive => self.consumers,
        };
        if let Some(id) = id {
            host::increment_metric(id, by);
        }
    }
}
