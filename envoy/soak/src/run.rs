//! A whole run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

use anyhow::Result;
use fastrand::Rng;

use crate::director::Director;
use crate::history::History;
use crate::load::{Load, Shared, told};
use crate::population::{LIMIT, Population};
use crate::report::Report;
use crate::world::{WORKERS, World};

/// How credentials outlive a run, in seconds.
const MARGIN_SECONDS: u64 = 3_600;

/// What to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long.
    pub length: Duration,
    /// What chance comes from.
    pub seed: u64,
    /// How many clients send at once.
    pub clients: usize,
    /// How many tenants have nothing special about them.
    pub tenants: usize,
    /// How long nothing is wrong with the Tenant Manager each time, in seconds, and how long something is.
    pub calm: std::ops::RangeInclusive<f64>,
    /// See [`Options::calm`].
    pub trouble: std::ops::RangeInclusive<f64>,
    /// `enforce.cut_streams`: whether streams that were let go end when their tenant is refused.
    pub cut_streams: bool,
}

impl Options {
    /// For so long, with a seed.
    #[must_use]
    pub fn new(length: Duration, seed: u64) -> Self {
        Self {
            length,
            seed,
            clients: 64,
            tenants: 2_000,
            calm: 9.0..=20.0,
            trouble: 2.0..=7.0,
            cut_streams: false,
        }
    }
}

/// Runs, and reports what came of it.
///
/// # Errors
/// When something could not be run at all: no Envoy, no module, Envoy has ended.
pub async fn run(options: &Options) -> Result<Report> {
    let mut dice = Rng::with_seed(options.seed);
    let seconds = options.length.as_secs() + MARGIN_SECONDS;
    let people = Population::new(options.tenants, seconds, envoy_run::now())?;
    let mut world = World::start(&people, options.cut_streams).await?;
    let shared = Arc::new(Shared {
        people,
        history: History::default(),
        upstream_started: world.upstream.started(),
        cuts: options.cut_streams,
        ends: AtomicBool::new(false),
        answered: AtomicU64::new(0),
        forwarded: AtomicU64::new(0),
    });
    let load = Load::start(&shared, world.envoy.address(), options.clients, &mut dice);
    let mut director = Director::new(&mut world, &shared, dice.fork());
    director.calm = options.calm.clone();
    director.trouble = options.trouble.clone();
    let started = director.started;
    director.direct(options.length).await?;
    let ended = Instant::now();
    let (mut tally, suspects) = load.stop(&shared).await?;
    director.conclude().await?;
    let mut log = std::mem::take(&mut director.log);
    for suspect in suspects {
        // By now the whole history is known.
        if let Err(why) = shared.judge().judge(&suspect.plan, suspect.times, &suspect.got) {
            tally.wrong += 1;
            let at = (suspect.times.0 - started).as_secs_f64();
            let took = suspect.times.1 - suspect.times.0;
            tally.example(|| {
                format!(
                    "{why}: {} at {at:.3} s, took {took:?}",
                    told(&suspect.plan, &shared.people)
                )
            });
        }
    }
    for (tenant, count) in &tally.limited {
        // Its rate and its burst, and for each worker one more in each second.
        let most = (u64::from(LIMIT) + u64::from(WORKERS)) * ((ended - started).as_secs() + 2);
        if *count > most {
            let id = &shared.people.tenants[*tenant].id;
            log.wrong
                .push(format!("{count} requests of {id} came through, not {most} at most"));
        }
    }
    let report = Report::new(options, (started, ended), tally, log, world.upstream.total());
    world.stop().await?;
    Ok(report)
}
