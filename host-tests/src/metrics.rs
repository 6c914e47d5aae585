//! Stats: shared by all workers, reached through ids that each VM gets for itself.

use std::collections::{BTreeMap, HashMap};

use crate::abi::Status;
use crate::interleave::{Access, Op, Place};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    pub(crate) fn from_abi(kind: u32) -> Result<Self, Status> {
        match kind {
            0 => Ok(Self::Counter),
            1 => Ok(Self::Gauge),
            2 => Ok(Self::Histogram),
            _ => Err(Status::BadArgument),
        }
    }
}

/// The stats of a world by kind and name. A histogram's value is the number of its samples.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    values: BTreeMap<(Kind, String), u64>,
    samples: BTreeMap<String, Vec<u64>>,
    /// Beginnings of names. Such a stat can be defined and changed, and nothing comes of it.
    rejected: Vec<String>,
}

impl Stats {
    /// No stats yet, and none ever whose name begins like one of these.
    pub(crate) fn rejecting(prefixes: Vec<String>) -> Self {
        Self {
            rejected: prefixes,
            ..Self::default()
        }
    }

    pub(crate) fn value(&self, name: &str) -> Option<u64> {
        [Kind::Counter, Kind::Gauge]
            .iter()
            .find_map(|kind| self.values.get(&(*kind, name.to_owned())))
            .copied()
    }

    pub(crate) fn samples(&self, name: &str) -> Option<&[u64]> {
        self.samples.get(name).map(Vec::as_slice)
    }

    fn rejects(&self, name: &str) -> bool {
        self.rejected.iter().any(|prefix| name.starts_with(prefix))
    }

    /// Counters and gauges by name.
    pub(crate) fn all(&self) -> BTreeMap<String, u64> {
        self.values
            .iter()
            .map(|((_, name), value)| (name.clone(), *value))
            .collect()
    }
}

/// The metric ids of one VM. Defining a known name gives a new id on the same stat.
#[derive(Debug, Default)]
pub(crate) struct MetricIds {
    ids: HashMap<u32, (Kind, String)>,
    defined: u32,
}

impl MetricIds {
    pub(crate) fn define(&mut self, stats: &mut Stats, kind: Kind, name: String) -> u32 {
        self.defined += 1;
        let id = self.defined * 4 + kind as u32;
        if stats.rejects(&name) {
            self.ids.insert(id, (kind, name));
            return id;
        }
        if kind == Kind::Histogram {
            stats.samples.entry(name.clone()).or_default();
        } else {
            stats.values.entry((kind, name.clone())).or_default();
        }
        self.ids.insert(id, (kind, name));
        id
    }

    /// What a hostcall does to a metric: nothing where there is none of that id.
    pub(crate) fn op(&self, hostcall: &'static str, id: u32) -> Op {
        let access = |kind: Kind| match (hostcall, kind) {
            ("proxy_get_metric", _) => Access::Read,
            ("proxy_record_metric", Kind::Gauge) => Access::Write,
            _ => Access::Add,
        };
        let touches = self.ids.get(&id).map(|(kind, name)| {
            // A counter and a gauge of one name are two metrics; that they are taken for one costs
            // schedules, not truth.
            vec![(Place::Metric(name.clone()), access(*kind))]
        });
        Op {
            name: hostcall,
            touches: touches.unwrap_or_default(),
        }
    }

    pub(crate) fn increment(&self, stats: &mut Stats, id: u32, by: i64) -> Result<(), Status> {
        let (kind, name) = self.ids.get(&id).ok_or(Status::NotFound)?;
        if *kind == Kind::Histogram || (*kind == Kind::Counter && by <= 0) {
            return Err(Status::BadArgument);
        }
        if stats.rejects(name) {
            return Ok(());
        }
        let value = stats.values.entry((*kind, name.clone())).or_default();
        *value = value.wrapping_add_signed(by);
        Ok(())
    }

    pub(crate) fn record(&self, stats: &mut Stats, id: u32, value: u64) -> Result<(), Status> {
        let (kind, name) = self.ids.get(&id).ok_or(Status::NotFound)?;
        match kind {
            _ if stats.rejects(name) => {}
            Kind::Histogram => stats.samples.entry(name.clone()).or_default().push(value),
            Kind::Gauge => {
                stats.values.insert((*kind, name.clone()), value);
            }
            Kind::Counter => {
                *stats.values.entry((*kind, name.clone())).or_default() += value;
            }
        }
        Ok(())
    }

    pub(crate) fn get(&self, stats: &Stats, id: u32) -> Result<u64, Status> {
        let (kind, name) = self.ids.get(&id).ok_or(Status::NotFound)?;
        if *kind == Kind::Histogram {
            return Err(Status::BadArgument);
        }
        Ok(stats.values.get(&(*kind, name.clone())).copied().unwrap_or_default())
    }
}
