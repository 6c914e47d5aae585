//! Making a script that ends in a fault smaller.

use crate::fault::Fault;
use crate::script::{Op, Script};

/// The smallest script that was found to end in the same fault, in at most `most` attempts. `breaks` plays one.
pub fn shrink(script: &Script, fault: &Fault, most: usize, breaks: &dyn Fn(&Script) -> Option<Fault>) -> Script {
    let mut search = Search {
        fault,
        left: most,
        breaks,
    };
    let mut best = script.clone();
    loop {
        let before = size(&best);
        search.without_ops(&mut best);
        search.without_parts(&mut best);
        search.simpler_world(&mut best);
        if size(&best) == before || search.left == 0 {
            return best;
        }
    }
}

/// How much there is to read.
fn size(script: &Script) -> usize {
    let parts = |op: &Op| match op {
        Op::Burst { acts, .. } => 1 + acts.len(),
        Op::Request(request) => 1 + request.headers.len() + request.trailers.len(),
        Op::Again(again) => 1 + again.added.len(),
        Op::Tell(delivery) => delivery.events.len(),
        _ => 1,
    };
    script.ops.iter().map(|timed| parts(&timed.op)).sum::<usize>() + script.setup.workers + script.setup.tenants.len()
}

struct Search<'a> {
    fault: &'a Fault,
    left: usize,
    breaks: &'a dyn Fn(&Script) -> Option<Fault>,
}

impl Search<'_> {
    /// Takes a candidate for the best if it still ends in the fault.
    fn takes(&mut self, best: &mut Script, candidate: Script) -> bool {
        if self.left == 0 || candidate == *best {
            return false;
        }
        self.left -= 1;
        let broken = (self.breaks)(&candidate);
        let is_broken = broken.is_some_and(|fault| fault.likeness() == self.fault.likeness());
        if is_broken {
            *best = candidate;
        }
        is_broken
    }

    /// Delta debugging: leaves out runs of operations, shorter and shorter ones.
    fn without_ops(&mut self, best: &mut Script) {
        let mut length = best.ops.len().div_ceil(2).max(1);
        loop {
            let mut from = 0;
            while from < best.ops.len() {
                let mut candidate = best.clone();
                candidate.ops.drain(from..(from + length).min(best.ops.len()));
                if !self.takes(best, candidate) {
                    from += length;
                }
                if self.left == 0 {
                    return;
                }
            }
            if length == 1 {
                return;
            }
            length = length.div_ceil(2);
        }
    }

    /// Leaves out headers, trailers, bodies, events, parts of bursts.
    fn without_parts(&mut self, best: &mut Script) {
        let mut place = 0;
        while place < best.ops.len() {
            for candidate in smaller(best, place) {
                self.takes(best, candidate);
            }
            place += 1;
        }
    }

    /// Fewer workers, tenants and options.
    fn simpler_world(&mut self, best: &mut Script) {
        while best.setup.workers > 1 {
            let mut candidate = best.clone();
            candidate.setup.workers -= 1;
            if !self.takes(best, candidate) {
                break;
            }
        }
        let mut place = 0;
        while place < best.setup.tenants.len() {
            let mut candidate = best.clone();
            candidate.setup.tenants.remove(place);
            if !self.takes(best, candidate) {
                place += 1;
            }
        }
        let mut calmer = best.clone();
        for (_, saying) in &mut calmer.setup.tenants {
            saying.delay_ms = 0;
        }
        self.takes(best, calmer);
        let simplifications: [fn(&mut Script); 13] = [
            |script| {
                script
                    .setup
                    .configs
                    .iter_mut()
                    .for_each(|knobs| knobs.cuts_streams = false)
            },
            |script| script.setup.holds_headers_only = false,
            |script| script.setup.refuses = None,
            |script| script.setup.configs.iter_mut().for_each(|knobs| knobs.guards = false),
            |script| script.setup.configs.iter_mut().for_each(|knobs| knobs.reports = false),
            |script| {
                script
                    .setup
                    .configs
                    .iter_mut()
                    .for_each(|knobs| knobs.discovery_s = None)
            },
            |script| script.setup.configs.iter_mut().for_each(|knobs| knobs.rate = None),
            |script| script.setup.configs.iter_mut().for_each(|knobs| knobs.remote = None),
            |script| {
                script
                    .setup
                    .configs
                    .iter_mut()
                    .for_each(|knobs| knobs.two_api_keys = false)
            },
            |script| {
                script
                    .setup
                    .configs
                    .iter_mut()
                    .for_each(|knobs| knobs.allows_unverified = false)
            },
            |script| {
                script
                    .setup
                    .configs
                    .iter_mut()
                    .for_each(|knobs| knobs.required_key = false)
            },
            |script| {
                script
                    .setup
                    .configs
                    .iter_mut()
                    .for_each(|knobs| knobs.shared_slots = 16_384)
            },
            |script| {
                script
                    .setup
                    .configs
                    .iter_mut()
                    .for_each(|knobs| knobs.max_entries = 10_000)
            },
        ];
        for simplify in simplifications {
            let mut candidate = best.clone();
            simplify(&mut candidate);
            self.takes(best, candidate);
        }
    }
}

/// The script with less of one operation, in several ways.
fn smaller(script: &Script, place: usize) -> Vec<Script> {
    let with = |op: Op| {
        let mut candidate = script.clone();
        candidate.ops[place].op = op;
        candidate
    };
    match &script.ops[place].op {
        Op::Request(request) => {
            let mut bare = request.clone();
            bare.headers.clear();
            bare.trailers.clear();
            bare.body = 0;
            let mut without_body = request.clone();
            without_body.body = 0;
            without_body.trailers.clear();
            let mut first = request.clone();
            first.worker = 0;
            [bare, without_body, first]
                .map(|request| with(Op::Request(request)))
                .into()
        }
        Op::Again(again) if !again.added.is_empty() => {
            let mut bare = again.clone();
            bare.added.clear();
            vec![with(Op::Again(bare))]
        }
        Op::Tell(delivery) if delivery.events.len() > 1 => {
            let alone = |place: usize| {
                let mut less = delivery.clone();
                less.events = vec![delivery.events[place].clone()];
                with(Op::Tell(less))
            };
            (0..delivery.events.len()).map(alone).collect()
        }
        Op::Burst { schedule, acts } => (0..acts.len())
            .map(|left_out| {
                let mut fewer = acts.clone();
                fewer.remove(left_out);
                with(Op::Burst {
                    schedule: *schedule,
                    acts: fewer,
                })
            })
            .collect(),
        _ => Vec::new(),
    }
}
