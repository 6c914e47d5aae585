//! From a seed, a script.

mod events;
mod moments;
mod peers;
mod phase;
mod redirects;
mod requests;
mod setup;
mod strangers;
mod together;

use std::panic::catch_unwind;

use fastrand::Rng;

use self::phase::Phase;
use crate::fault::Fault;
use crate::script::{Op, Script, Setup, Timed};

/// The script of a seed. The same seed gives the same script for as long as this module stays as it is; what
/// is to be kept is kept as a script.
#[must_use]
pub fn script(seed: u64) -> Script {
    let mut generator = Generator::new(seed);
    let phases = generator.rng.usize(4..=12);
    for _ in 0..phases {
        let phase = Phase::any(&mut generator);
        phase.write(&mut generator);
    }
    generator.ops.sort_by_key(|timed| timed.at_ms);
    Script {
        setup: generator.setup,
        ops: generator.ops,
    }
}

/// The same, where it is to be told whose script it is that breaks off.
///
/// # Errors
/// The generator has panicked.
pub fn attempt(seed: u64) -> Result<Script, Fault> {
    catch_unwind(|| script(seed)).map_err(|payload| Fault::of_panic("its script", payload.as_ref()))
}

/// A script that is being written.
pub(crate) struct Generator {
    rng: Rng,
    setup: Setup,
    /// Tenants that there are.
    tenants: Vec<String>,
    ops: Vec<Timed>,
    now_ms: u64,
    last_id: u32,
    /// The keys that the remote issuer signs with now.
    signing: usize,
}

impl Generator {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let (setup, tenants) = setup::any(&mut rng);
        Self {
            rng,
            setup,
            tenants,
            ops: Vec::new(),
            now_ms: 10,
            last_id: 0,
            signing: 0,
        }
    }

    /// Does something now.
    fn does(&mut self, op: Op) {
        self.does_at(self.now_ms, op);
    }

    /// Does something at a time to come.
    fn does_at(&mut self, at_ms: u64, op: Op) {
        let rushed = self.rng.u8(..) < 80;
        self.ops.push(Timed { at_ms, rushed, op });
    }

    /// Whether something of so many per cent happens.
    fn happens(&mut self, percent: u8) -> bool {
        self.rng.u8(0..100) < percent
    }

    fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.rng.usize(..all.len())]
    }

    fn tenant(&mut self) -> String {
        // Some are asked for far more often than others.
        let few = (self.tenants.len() / 4).max(1);
        let among = if self.happens(60) { few } else { self.tenants.len() };
        self.tenants[self.rng.usize(..among)].clone()
    }

    fn worker(&mut self) -> usize {
        self.rng.usize(..self.setup.workers)
    }

    fn id(&mut self) -> u32 {
        self.last_id += 1;
        self.last_id
    }
}
