//! Runs every case of `cases/*.yaml` against the finished filter, one test per case, named
//! `<file stem>::<case name>`.

mod identity_provider;
mod tenant_manager;
mod trial;

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use corpus::case::Case;
use libtest_mimic::{Arguments, Failed, Trial};
use tiny_envoy::Plugin;

fn main() -> ExitCode {
    match trials() {
        Ok(trials) => libtest_mimic::run(&Arguments::from_args(), trials).exit_code(),
        Err(error) => {
            eprintln!("the corpus cannot run: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn trials() -> anyhow::Result<Vec<Trial>> {
    let path = corpus::finished_filter()?;
    // Compiled by the first case that runs.
    let compiled = Arc::new(OnceLock::new());
    let corpus = Arc::new(corpus::load(&corpus::cases_dir())?);
    let mut trials = Vec::new();
    for (suite, (stem, cases)) in corpus.suites.iter().enumerate() {
        for (case, Case { name, .. }) in cases.cases.iter().enumerate() {
            let (corpus, path, compiled) = (Arc::clone(&corpus), path.clone(), Arc::clone(&compiled));
            trials.push(Trial::test(format!("{stem}::{name}"), move || {
                let plugin = compiled.get_or_init(|| Plugin::load(&path)).clone()?;
                let suite = &corpus.suites[suite].1;
                trial::run(&plugin, &corpus.base, suite, &suite.cases[case])
                    .map_err(|error| Failed::from(format!("{error:#}")))
            }));
        }
    }
    anyhow::ensure!(
        !trials.is_empty(),
        "there are no cases in {}",
        corpus::cases_dir().display()
    );
    Ok(trials)
}
