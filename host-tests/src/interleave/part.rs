//! A world taken to pieces, one for each worker that is to run in a thread of its own.

use std::collections::{BTreeMap, HashMap};

use crate::envoy::TinyEnvoy;
use crate::interleave::baton::Seat;
use crate::interleave::crew::Crew;
use crate::interleave::op::Op;

impl TinyEnvoy {
    /// Where workers run interleaved, others may act before this.
    pub(crate) fn point(&self, op: impl FnOnce() -> Op) {
        if let Some(seat) = &self.seat {
            seat.point(op());
        }
    }

    /// The part of the world that is one worker, to be run in a thread of its own.
    pub(crate) fn part(&mut self, seat: Seat) -> Self {
        let worker = seat.worker;
        let mut vm = self.vms.remove(&worker).expect("each worker is taken once");
        vm.data_mut().seat = Some(seat.clone());
        Self {
            node: self.node.clone(),
            vms: BTreeMap::from([(worker, vm)]),
            workers: self.workers,
            seat: Some(seat),
            failure_policy: self.failure_policy,
            deaths: Vec::new(),
            crew: Crew::default(),
            verdicts: HashMap::new(),
            configurations: self.configurations,
            plugin: self.plugin.clone(),
            last_stream: self.last_stream,
        }
    }

    /// Takes a part back.
    pub(crate) fn rejoin(&mut self, part: Self) {
        for (worker, mut vm) in part.vms {
            vm.data_mut().seat = None;
            self.vms.insert(worker, vm);
        }
        self.deaths.extend(part.deaths);
        self.last_stream = self.last_stream.max(part.last_stream);
    }
}
