//! Looking at a world step by step, without reading again what was read before.

use std::time::Duration;

use crate::cluster::Callout;
use crate::envoy::TinyEnvoy;
use crate::log::LogLine;

impl TinyEnvoy {
    /// The callouts that reached a cluster, but for the first `known` of them.
    pub fn callouts_since(&self, known: usize) -> Vec<Callout> {
        self.node.lock().callouts.get(known..).unwrap_or_default().to_vec()
    }

    /// The log lines of all VMs, but for the first `known` of them.
    pub fn logs_since(&self, known: usize) -> Vec<LogLine> {
        self.node.lock().logs.get(known..).unwrap_or_default().to_vec()
    }

    /// When the next thing happens by itself, since the world began: a callout ends, a tick, an entry
    /// of a queue, an answer of the upstream. It may be overdue.
    pub fn next_event_at(&self) -> Option<Duration> {
        self.node.lock().agenda.first_at()
    }
}
