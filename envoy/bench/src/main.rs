//! `envoy-bench`: what a request costs in a real Envoy, in CPU time.
//!
//! Every setup has an Envoy of its own, with one worker; they run side by side and get the same
//! requests in turns, some hundred each, round after round, in another order each time. The CPU
//! time of each Envoy process is read before and after its turn. What a machine does besides hits
//! all setups alike that way; differences are taken within a round, and the median of the rounds
//! counts, with the bounds of its 95 % confidence. Numbers are printed and never judged.

mod cpu;
mod load;
mod native;
mod report;
mod setup;
mod statistics;
mod subject;
mod tokens;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use corpus::answer::Answer;
use envoy_run::{Envoy, Options, TenantManager};
use serde_json::json;

use crate::report::{Series, letter};
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
    /// How many rounds; each is one turn of every setup
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// How many requests a turn has
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..=20_000))]
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
    let (rounds, requests) = (usize::from(arguments.rounds), usize::from(arguments.requests));
    let fresh = setups.iter().any(|setup| setup.traffic() == Traffic::Fresh);
    let fresh = if fresh { rounds * requests } else { 0 };
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
    let mut subjects = Vec::new();
    for setup in setups {
        for (module, path) in arguments.wasm.iter().enumerate() {
            if module > 0 && !setup.runs_filter() {
                break;
            }
            let mut subject = start(setup, path, servers, usize::from(arguments.connections)).await?;
            subject.module = setup.runs_filter().then_some(module);
            if let Err(error) = subject.prove(&tokens).await {
                let fault = error.context(format!(
                    "`{}` with {} is not what it is said to be",
                    setup.name(),
                    path.display()
                ));
                ensure!(arguments.unproven, "{fault:#}");
                eprintln!("attention: {fault:#}");
            }
            subject.warm_up(&tokens).await?;
            subjects.push(subject);
        }
    }
    let mut all: Vec<_> = subjects.iter().map(Series::empty).collect();
    for round in 0..rounds {
        for turn in 0..subjects.len() {
            // Everybody is first, last and everybody's successor in the course of the rounds.
            let turn = if round % 2 == 0 {
                turn
            } else {
                subjects.len() - 1 - turn
            };
            let turn = (turn + round) % subjects.len();
            if let (Some(subject), Some(series)) = (subjects.get_mut(turn), all.get_mut(turn)) {
                series.costs.push(subject.measure(requests, &tokens).await?);
            }
        }
        if (round + 1).is_multiple_of(10) {
            eprintln!("{} of {rounds} rounds", round + 1);
        }
    }
    for subject in subjects {
        subject.stop().await?;
    }
    tenant_manager.stop().await;
    authz.stop().await?;
    let mut lines = Vec::new();
    if arguments.wasm.len() > 1 {
        let modules = arguments.wasm.iter().enumerate();
        lines.extend(modules.map(|(n, path)| format!("{} is {}", letter(n), path.display())));
    }
    lines.push(format!(
        "{rounds} rounds of {requests} requests on {} connections; median [95 % confidence]\n",
        arguments.connections
    ));
    lines.extend(report::lines(&all, &arguments.wasm));
    Ok(lines)
}

async fn start(setup: Setup, module: &Path, servers: Servers, connections: usize) -> Result<Subject> {
    let module = module.canonicalize()?;
    let started = Subject::start(setup, &module, servers, connections).await;
    started.with_context(|| format!("`{}` cannot be started", setup.name()))
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
