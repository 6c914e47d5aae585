//! What is asked for, and what is told of it.

use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tenantgate_sim::fault::Fault;
use tenantgate_sim::script::Script;
use tenantgate_sim::tally::Tally;
use tenantgate_sim::world::Played;
use tenantgate_sim::{generate, shrink, world};
use tiny_envoy::Plugin;

/// How often a script is played to make it smaller.
const ATTEMPTS: usize = 3_000;

/// Plays worlds that try to break the filter.
#[derive(Debug, clap::Parser)]
pub(crate) struct Arguments {
    /// Play this seed only, and tell what happens.
    #[arg(long)]
    seed: Option<u64>,
    /// Stop after so many requests.
    #[arg(long, default_value_t = 200_000)]
    requests: u64,
    /// Stop after so many seconds, however many requests that were.
    #[arg(long)]
    seconds: Option<u64>,
    /// The first seed; random unless given.
    #[arg(long)]
    from: Option<u64>,
    /// Worlds at a time; as many as there are cores unless given.
    #[arg(long)]
    threads: Option<NonZeroUsize>,
    /// Tell of a fault as it was found, instead of making it smaller first.
    #[arg(long)]
    as_found: bool,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    // A world that breaks off is told with its seed; the backtrace of a thread adds nothing.
    std::panic::set_hook(Box::new(|_| {}));
    let plugin = world::filter()?;
    if let Some(seed) = arguments.seed {
        return Ok(one(seed, &plugin, arguments.as_found));
    }
    Ok(many(arguments, &plugin))
}

/// Plays one seed and tells everything.
fn one(seed: u64, plugin: &Plugin, as_found: bool) -> ExitCode {
    let script = match generate::attempt(seed) {
        Ok(script) => script,
        Err(fault) => return without_script(seed, &fault),
    };
    let played = world::play(&script, plugin, true);
    if played.fault.is_some() && !as_found {
        tell_fault(seed, &script, plugin, as_found);
        return ExitCode::FAILURE;
    }
    for line in &played.story {
        println!("{line}");
    }
    print!("{}", played.tally);
    match played.fault {
        Some(fault) => {
            println!("seed {seed}: {fault}");
            ExitCode::FAILURE
        }
        None => {
            println!("seed {seed}: nothing that must not happen");
            ExitCode::SUCCESS
        }
    }
}

/// Tells that there is no world of a seed.
fn without_script(seed: u64, fault: &Fault) -> ExitCode {
    println!("seed {seed}: {fault}");
    ExitCode::FAILURE
}

/// Tells how a fault comes about, in as few steps as were found.
fn tell_fault(seed: u64, script: &Script, plugin: &Plugin, as_found: bool) {
    let Some(fault) = world::play(script, plugin, false).fault else {
        println!("seed {seed} broke a rule, and does not when it is played again");
        return;
    };
    println!("seed {seed}: {fault}\n");
    let script = if as_found {
        script.clone()
    } else {
        let breaks = |script: &Script| world::play(script, plugin, false).fault;
        shrink::shrink(script, &fault, ATTEMPTS, &breaks)
    };
    let told = world::play(&script, plugin, true);
    println!(
        "In {} steps, {} of its world:",
        script.ops.len(),
        serde_json::to_string(&script.setup).unwrap_or_default()
    );
    for line in &told.story {
        println!("{line}");
    }
    if let Some(fault) = told.fault {
        println!("\n{fault}");
    }
    println!(
        "\nThe script, to be kept:\n{}",
        serde_json::to_string(&script).unwrap_or_default()
    );
    println!("\nAgain: make sim SEED={seed}");
}

/// Plays seeds on several threads until there were enough requests, or one has broken a rule.
fn many(arguments: &Arguments, plugin: &Plugin) -> ExitCode {
    let first = arguments.from.unwrap_or_else(|| u64::from(fastrand::u32(..)) << 24);
    println!("seeds from {first}");
    let threads = arguments.threads.or(std::thread::available_parallelism().ok());
    let begun = Instant::now();
    let limit = arguments.seconds.map(Duration::from_secs);
    let (next, requests, worlds) = (AtomicU64::new(first), AtomicU64::new(0), AtomicU64::new(0));
    let is_over = AtomicBool::new(false);
    let (tally, broken) = (Mutex::new(Tally::default()), Mutex::new(None));
    std::thread::scope(|scope| {
        for _ in 0..threads.map_or(1, NonZeroUsize::get) {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let played = match generate::attempt(seed) {
                        Ok(script) => world::play(&script, plugin, false),
                        Err(fault) => Played {
                            fault: Some(fault),
                            ..Played::default()
                        },
                    };
                    worlds.fetch_add(1, Ordering::Relaxed);
                    let sum = requests.fetch_add(played.tally.of("requests"), Ordering::Relaxed);
                    if let Ok(mut tally) = tally.lock() {
                        tally.merge(&played.tally);
                    }
                    if played.fault.is_some() {
                        if let Ok(mut broken) = broken.lock() {
                            broken.get_or_insert(seed);
                        }
                        is_over.store(true, Ordering::Relaxed);
                    }
                    let is_late = limit.is_some_and(|limit| begun.elapsed() >= limit);
                    if is_late || (limit.is_none() && sum >= arguments.requests) {
                        is_over.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let took = begun.elapsed().as_secs_f64();
    let (worlds, requests) = (worlds.into_inner(), requests.into_inner());
    print!("{}", tally.into_inner().unwrap_or_default());
    #[allow(clippy::cast_precision_loss, reason = "for people to read")]
    let rate = requests as f64 * 60.0 / took;
    println!("{worlds} worlds, {requests} requests in {took:.1} s: {rate:.0} a minute");
    match broken.into_inner().ok().flatten() {
        Some(seed) => {
            println!();
            match generate::attempt(seed) {
                Ok(script) => tell_fault(seed, &script, plugin, arguments.as_found),
                Err(fault) => return without_script(seed, &fault),
            }
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
    }
}
