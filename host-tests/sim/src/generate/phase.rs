//! Stretches of a world in each of which something else goes wrong.

use super::Generator;
use crate::script::{Change, Op};

/// What goes wrong.
#[derive(Debug, Clone, Copy)]
pub(super) enum Phase {
    Calm,
    /// The Tenant Manager is ill.
    Outage,
    /// It is slow, some of its answers too slow.
    Slow,
    /// It says something else of one tenant after the other.
    Moody,
    /// It does not take one of the API keys any more.
    ApiKeys,
    /// The identity provider is ill, or signs with another key.
    Rotation,
    /// Events come.
    Events,
    /// Several workers act at the same instant.
    Bursts,
    /// Several workers act when an answer is there.
    Races,
    /// Nothing for a long time.
    Idle,
    /// VMs die.
    Deaths,
    /// Configurations are put in force.
    Updates,
    /// Requests that stay open.
    Streams,
    /// Many at once for one tenant.
    Crowd,
    /// Requests that the host sends through the filter again.
    Redirects,
}

const PHASES: [Phase; 21] = [
    Phase::Calm,
    Phase::Outage,
    Phase::Outage,
    Phase::Slow,
    Phase::Moody,
    Phase::Moody,
    Phase::ApiKeys,
    Phase::Rotation,
    Phase::Events,
    Phase::Events,
    Phase::Events,
    Phase::Bursts,
    Phase::Bursts,
    Phase::Races,
    Phase::Races,
    Phase::Idle,
    Phase::Deaths,
    Phase::Updates,
    Phase::Streams,
    Phase::Crowd,
    Phase::Redirects,
];

impl Phase {
    pub(super) fn any(generator: &mut Generator) -> Self {
        *generator.one_of(&PHASES)
    }

    pub(super) fn write(self, generator: &mut Generator) {
        let requests = generator.rng.usize(20..150);
        let gap_ms = *generator.one_of(&[1, 5, 20, 100, 400]);
        match self {
            Self::Outage => generator.outage(),
            Self::ApiKeys => generator.api_keys(),
            Self::Idle => {
                let ttl_ms = generator.setup.configs[0].ttl_s * 1_000;
                generator.now_ms += generator.rng.u64(ttl_ms / 2..ttl_ms * 3);
            }
            _ => {}
        }
        for n in 0..requests {
            self.step(generator, n);
            let mut request = generator.request();
            if matches!(self, Self::Streams) && generator.happens(30) {
                generator.stream();
                request = generator.request();
            }
            let id = request.id;
            if matches!(self, Self::Redirects) && generator.happens(50) {
                generator.redirects(&request);
            }
            generator.does(Op::Request(request));
            if generator.happens(2) {
                let at_ms = generator.now_ms + generator.rng.u64(0..200);
                generator.does_at(at_ms, Op::Leave(id));
            }
            if generator.happens(1) {
                generator.last_moment();
            }
            if !generator.happens(30) {
                generator.now_ms += generator.rng.u64(0..=gap_ms * 2);
            }
        }
        if matches!(self, Self::Outage | Self::Slow) {
            generator.does(Op::Manager(Change::Fault(None)));
        }
        if matches!(self, Self::ApiKeys) && generator.happens(70) {
            generator.does(Op::Manager(Change::Takes([true, true])));
        }
        if matches!(self, Self::Rotation) && generator.happens(80) {
            generator.serves_keys();
        }
    }

    /// What goes wrong before the next request.
    fn step(self, generator: &mut Generator, n: usize) {
        match self {
            Self::Calm | Self::Idle => {}
            Self::Streams if n == 0 && generator.happens(60) => generator.late_refusal(),
            Self::Streams if generator.happens(10) => {
                let delivery = generator.delivery();
                generator.does(Op::Tell(delivery));
            }
            Self::Streams | Self::Redirects if generator.happens(10) => generator.mood(),
            Self::Redirects if generator.happens(3) => generator.update(),
            Self::Outage if generator.happens(4) => generator.outage(),
            Self::Slow if n.is_multiple_of(10) => generator.slowness(),
            Self::Moody if generator.happens(10) => generator.mood(),
            Self::ApiKeys if generator.happens(4) => generator.api_keys(),
            Self::Rotation if n == 0 && generator.happens(15) => generator.strangers(),
            Self::Rotation if generator.happens(5) => generator.rotation(),
            Self::Events if generator.happens(20) => {
                if generator.happens(30) {
                    generator.mood();
                }
                let delivery = generator.delivery();
                if generator.happens(10) {
                    generator.last_refusal(&delivery);
                }
                generator.does(Op::Tell(delivery));
            }
            Self::Bursts if generator.happens(12) => generator.burst(),
            Self::Races if generator.happens(10) => generator.race(),
            Self::Races if generator.happens(3) => generator.overtaken(),
            Self::Deaths if generator.happens(4) => {
                let worker = generator.worker();
                generator.does(Op::Kill(worker));
            }
            Self::Updates if generator.happens(4) => generator.update(),
            Self::Updates if generator.happens(6) => generator.does(Op::Drain),
            Self::Updates if generator.happens(5) => generator.race(),
            Self::Updates if generator.happens(5) => generator.stream(),
            Self::Crowd if n.is_multiple_of(30) => generator.crowd(),
            _ => {}
        }
    }
}
