//! The engine's counters, gauges and histograms as host metrics.

use std::cell::{Cell, RefCell};

use proxy_wasm::types::LogLevel;
use tenant_policy::telemetry::{Counter, Decision, Gauge, Histogram, tenant_counter};

use crate::host;

/// The host's ids of the engine's metrics.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// In the order of [`Counter::all`].
    counters: Vec<Cell<Id>>,
    /// What a batched counter has moved by that the host has not heard of yet.
    batch: Cell<Option<(Counter, u64)>>,
    /// The ids of a label by decision, ordered by label, for as many tenants as have one.
    tenants: RefCell<Vec<(Box<str>, ByDecision)>>,
    /// In the order of [`Gauge::ALL`].
    gauges: Vec<Option<u32>>,
    lookup_duration: Option<u32>,
}

/// The ids of what a tenant's requests are counted by, in the order of [`Decision::ALL`].
type ByDecision = [Option<u32>; Decision::ALL.len()];

/// The id of a metric.
#[derive(Debug, Clone, Copy)]
enum Id {
    /// It has none before it moves.
    Undefined(Counter),
    /// It has this one; `None`: the host refused it.
    Defined(Option<u32>),
}

impl Metrics {
    /// Defines every metric that shows before it moves. `bell` goes behind the name of [`Gauge::Bell`].
    pub(crate) fn define(bell: &str) -> Self {
        let counter = |counter: Counter| {
            Cell::new(if counter.shows_at_once() {
                Id::Defined(define(host::Metric::Counter, &counter.name()))
            } else {
                Id::Undefined(counter)
            })
        };
        Self {
            counters: Counter::all().map(counter).collect(),
            batch: Cell::default(),
            tenants: RefCell::default(),
            gauges: Gauge::ALL
                .iter()
                .map(|gauge| match gauge {
                    Gauge::Bell => define(host::Metric::Gauge, &format!("{}_{bell}", gauge.name())),
                    Gauge::TenantConsumersActive | Gauge::BreakerState | Gauge::Waiters => {
                        define(host::Metric::Gauge, gauge.name())
                    }
                })
                .collect(),
            lookup_duration: define(host::Metric::Histogram, Histogram::LookupDuration.name()),
        }
    }

    pub(crate) fn add(&self, counter: Counter, by: u64) {
        if !counter.is_batched() {
            self.tell(counter, by);
            return;
        }
        let before = self.batch.take().map_or(0, |(_, before)| before);
        self.batch.set(Some((counter, before.saturating_add(by))));
    }

    /// Whether the host has not heard of everything yet.
    pub(crate) fn has_batch(&self) -> bool {
        self.batch.get().is_some()
    }

    /// Tells the host what it has not heard of yet.
    pub(crate) fn flush(&self) {
        if let Some((counter, by)) = self.batch.take() {
            self.tell(counter, by);
        }
    }

    fn tell(&self, counter: Counter, by: u64) {
        let (Some(place), Ok(by @ 1..)) = (self.counters.get(counter.index()), i64::try_from(by)) else {
            return;
        };
        let id = match place.get() {
            Id::Defined(id) => id,
            Id::Undefined(counter) => {
                let id = define(host::Metric::Counter, &counter.name());
                place.set(Id::Defined(id));
                id
            }
        };
        if let Some(id) = id {
            host::increment_metric(id, by);
        }
    }

    pub(crate) fn count_tenant(&self, label: &str, decision: Decision) {
        let mut tenants = self.tenants.borrow_mut();
        let place = tenants.binary_search_by(|(other, _)| (**other).cmp(label));
        let place = place.unwrap_or_else(|place| {
            let id = |decision: &Decision| define(host::Metric::Counter, &tenant_counter(label, *decision));
            let mut ids = [None; Decision::ALL.len()];
            for (decision, place) in Decision::ALL.iter().zip(&mut ids) {
                *place = id(decision);
            }
            tenants.insert(place, (label.into(), ids));
            place
        });
        let id = tenants.get(place).and_then(|(_, ids)| *ids.get(decision.place())?);
        if let Some(id) = id {
            host::increment_metric(id, 1);
        }
    }

    pub(crate) fn adjust(&self, gauge: Gauge, by: i64) {
        if let Some(id) = self.gauge(gauge) {
            host::increment_metric(id, by);
        }
    }

    pub(crate) fn set(&self, gauge: Gauge, to: u64) {
        if let Some(id) = self.gauge(gauge) {
            host::record_metric(id, to);
        }
    }

    /// The value of a gauge; `None` where the host does not give it.
    pub(crate) fn value(&self, gauge: Gauge) -> Option<u64> {
        host::metric(self.gauge(gauge)?).ok()
    }

    pub(crate) fn observe(&self, histogram: Histogram, sample: u64) {
        let id = match histogram {
            Histogram::LookupDuration => self.lookup_duration,
        };
        if let Some(id) = id {
            host::record_metric(id, sample);
        }
    }

    fn gauge(&self, gauge: Gauge) -> Option<u32> {
        self.gauges.get(gauge.index()).copied().flatten()
    }
}

/// The id of a metric. One that the host refuses is logged and not counted; requests do not suffer
/// from it.
fn define(kind: host::Metric, name: &str) -> Option<u32> {
    match host::define_metric(kind, name) {
        Ok(id) => Some(id),
        Err(host::Refused(status)) => {
            host::log(
                LogLevel::Error,
                &format!("metric {name} refused by the host: status {status}"),
            );
            None
        }
    }
}
