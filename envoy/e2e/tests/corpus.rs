//! The corpus cases that are tagged `envoy: true`, on the real Envoy.

#[path = "corpus/case.rs"]
mod case;
#[path = "corpus/pool.rs"]
mod pool;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use tokio::runtime::Runtime;

use crate::case::Prepared;
use crate::pool::Pool;

fn main() -> ExitCode {
    match trials() {
        Ok((trials, runtime, pool)) => {
            let conclusion = libtest_mimic::run(&Arguments::from_args(), trials);
            runtime.block_on(pool.stop());
            conclusion.exit_code()
        }
        Err(error) => {
            eprintln!("the corpus cannot be run on the real Envoy: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn trials() -> anyhow::Result<(Vec<Trial>, Arc<Runtime>, Arc<Pool>)> {
    let binary = envoy_run::envoy_binary();
    anyhow::ensure!(binary.is_file(), "{}", envoy_run::StartError::Missing(binary));
    envoy_e2e::module()?;
    let mut cases = case::tagged()?;
    anyhow::ensure!(!cases.is_empty(), "no case is tagged `envoy: true`");
    // Neighbours with one configuration find the Envoy of the one before them.
    cases.sort_by_key(Prepared::order);

    let runtime = Arc::new(Runtime::new()?);
    let pool = Arc::new(Pool::default());
    let trials = cases
        .into_iter()
        .map(|case| {
            let (runtime, pool) = (Arc::clone(&runtime), Arc::clone(&pool));
            let name = case.name.clone();
            Trial::test(name, move || {
                runtime
                    .block_on(case.run(&pool))
                    .map_err(|error| Failed::from(format!("{error:#}")))
            })
        })
        .collect();
    Ok((trials, runtime, pool))
}
