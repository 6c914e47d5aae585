//! `envoy-bench`: what a request costs in a real Envoy, in CPU time.
//!
//! Every setup has an Envoy of its own, with one worker; they run side by side and get the same
//! requests in turns, some hundred each, round after round, in another order each time. The CPU
//! time of each Envoy process is read before and after its turn, and differences are taken within a
//! round: what the machine does besides hits all setups alike.
//!
//! Two processes of the same program and configuration differ for as long as they live, by some
//! microseconds, with where their code and memory happen to lie. So all of them are started anew several
//! times. What is printed is the median over the starts, each of which gives the median of its
//! rounds, with the bounds of its 95 % confidence. Numbers are printed and never judged.

mod cpu;
mod load;
mod native;
mod report;
mod setup;
mod statistics;
mod subject;
mod tokens;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use corpus::answer::Answer;
use envoy_run::{Envoy, Options, TenantManager};
use serde_json::json;

use crate::report::{Key, Series, letter};
use crate::setup::{Servers, Setup, Traffic};
use crate::subject::Subject;
use crate::tokens::{TENANTS, Tokens, tenant};

/// What a request costs in a real Envoy with one worker: CPU time of the Envoy process, in paired runs.
#[derive(Debug, Parser)]
struct Arguments {
    /// What to compare; everything when none is named. `none` always runs
    #[arg(value_name = "SETUP")]
    setups: Vec<Setup>,
    /// The module, by default what `make wasm` builds; several are compared with each other under the same
    /// configuration
    #[arg(long, value_name = "FILE", hide_default_value = true, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/wasm32-wasip1/release/tenant_filter.wasm"))]
    wasm: Vec<PathBuf>,
    /// How often everything is started anew; with fewer than six the confidence is below 95 %
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u16).range(1..=1000))]
    starts: u16,
    /// How many rounds a start has; each is one turn of every setup
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// How many requests a turn has
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u16).range(1..=20_000))]
    requests: u16,
    /// Connections that stay open, in each of which one request is under way
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=64))]
    connections: u16,
    /// Measure also a module that fails to verify or to scope, for experiments
    #[arg(long)]
    unproven: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("envoy-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    for module in &arguments.wasm {
        ensure!(
            module.is_file(),
            "there is no module at `{}`; run `make wasm`",
            module.display()
        );
    }
    // One thread: the other core belongs to Envoy.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let lines = runtime.block_on(benchmark(arguments))?;
    println!("{}", lines.join("\n"));
    Ok(())
}

async fn benchmark(arguments: &Arguments) -> Result<Vec<String>> {
    let setups = setups(&arguments.setups);
    let turns = usize::from(arguments.rounds) * usize::from(arguments.requests);
    let fresh = setups.iter().any(|setup| setup.traffic() == Traffic::Fresh);
    // A process that was started anew has seen none of them.
    let fresh = if fresh { turns } else { 0 };
    eprintln!("signing {} tokens", TENANTS + fresh);
    let tokens = Tokens::make(fresh)?;

    let authz = Envoy::start(Options::new(setup::answers_everything()?)).await?;
    let tenant_manager = TenantManager::start(records())
        .await
        .context("the Tenant Manager cannot be started")?;
    let servers = Servers {
        tenant_manager: tenant_manager.address(),
        authz: authz.address(),
    };
    let mut all = keys(&setups, arguments.wasm.len());
    for number in 1..=arguments.starts {
        one_start(arguments, &mut all, servers, &tokens).await?;
        eprintln!(
            "start {number} of {}: {}",
            arguments.starts,
            report::last_start(&all, &arguments.wasm)
        );
    }
    tenant_manager.stop().await;
    authz.stop().await?;
    let mut lines = Vec::new();
    if arguments.wasm.len() > 1 {
        let modules = arguments.wasm.iter().enumerate();
        lines.extend(modules.map(|(n, path)| format!("{} is {}", letter(n), path.display())));
    }
    lines.push(format!(
        "{} starts of {} rounds of {} requests on {} connections; median [95 % confidence]\n",
        arguments.starts, arguments.rounds, arguments.requests, arguments.connections
    ));
    lines.extend(report::lines(&all, &arguments.wasm));
    Ok(lines)
}

/// Starts everything, lets it take turns, and ends it; writes down what each has cost, round by round.
async fn one_start(arguments: &Arguments, all: &mut [Series], servers: Servers, tokens: &Tokens) -> Result<()> {
    let mut subjects = Vec::new();
    for series in all.iter() {
        subjects.push(start(arguments, series.key, servers, tokens).await?);
    }
    let mut costs = vec![Vec::new(); subjects.len()];
    for round in 0..usize::from(arguments.rounds) {
        for turn in 0..subjects.len() {
            // Everybody is first, last and everybody's successor in the course of the rounds.
            let turn = if round % 2 == 0 {
                turn
            } else {
                subjects.len() - 1 - turn
            };
            let turn = (turn + round) % subjects.len();
            if let (Some(subject), Some(costs)) = (subjects.get_mut(turn), costs.get_mut(turn)) {
                costs.push(subject.measure(usize::from(arguments.requests), tokens).await?);
            }
        }
    }
    for ((subject, series), costs) in subjects.into_iter().zip(all).zip(costs) {
        series.starts.push(costs);
        subject.stop().await?;
    }
    Ok(())
}

/// An Envoy that is warm and has shown what it does.
async fn start(arguments: &Arguments, key: Key, servers: Servers, tokens: &Tokens) -> Result<Subject> {
    let name = key.setup.name();
    // A setup without a module gets the first one's path and does not look at it.
    let module = arguments
        .wasm
        .get(key.module.unwrap_or_default())
        .context("there is no module")?;
    let (module, connections) = (module.canonicalize()?, usize::from(arguments.connections));
    let started = Subject::start(key.setup, &module, servers, connections);
    let mut subject = started.await.with_context(|| format!("`{name}` cannot be started"))?;
    if let Err(error) = subject.prove(tokens).await {
        let fault = error.context(format!(
            "`{name}` with {} is not what it is said to be",
            module.display()
        ));
        ensure!(arguments.unproven, "{fault:#}");
        eprintln!("attention: {fault:#}");
    }
    subject.warm_up(tokens).await?;
    Ok(subject)
}

/// What is measured: each setup, those that run the filter once for each module.
fn keys(setups: &[Setup], modules: usize) -> Vec<Series> {
    let of = |&setup: &Setup| -> Vec<Key> {
        match setup.runs_filter() {
            true => (0..modules).map(|n| Key { setup, module: Some(n) }).collect(),
            false => vec![Key { setup, module: None }],
        }
    };
    let keys = setups.iter().flat_map(of);
    let unmeasured = |key| Series {
        key,
        starts: Vec::new(),
    };
    keys.map(unmeasured).collect()
}

/// Those that were asked for, each once, and always the baseline.
fn setups(asked: &[Setup]) -> Vec<Setup> {
    let mut setups = match asked {
        [] => Setup::value_variants().to_vec(),
        some => [&[Setup::None], some].concat(),
    };
    setups.sort();
    setups.dedup();
    setups
}

/// What the Tenant Manager says about each tenant.
fn records() -> BTreeMap<String, Answer> {
    let record = |id: &str| json!({ "id": id, "tenantSlug": id, "status": "active", "databases": { "ledger": {} } });
    let answer = |id: &str| Answer {
        record: Some(record(id)),
        ..Answer::default()
    };
    (0..TENANTS).map(tenant).map(|id| (id.clone(), answer(&id))).collect()
}
