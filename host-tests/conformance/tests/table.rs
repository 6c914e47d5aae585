//! The table on both hosts, a test for each row; then the register of facts. A whole run leaves the table
//! side by side in `target/conformance.md`.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, ensure};
use conformance::real::RealEnvoy;
use conformance::report::{self, Played, Side};
use conformance::table::{Row, Table, folder};
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::runtime::Runtime;

type Results = Arc<Mutex<Vec<(usize, Played)>>>;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("the table cannot be played: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::from_args();
    let table = Arc::new(Table::load(&folder())?);
    let module = module()?;
    let binary = envoy_run::envoy_binary();
    ensure!(binary.is_file(), "{}", envoy_run::StartError::Missing(binary));
    let runtime = Arc::new(Runtime::new()?);
    let real = Arc::new(RealEnvoy::new(Arc::clone(&table), module.clone()));
    let results = Results::default();

    let mut trials: Vec<_> = (0..table.rows.len())
        .map(|number| {
            let (table, real, results) = (Arc::clone(&table), Arc::clone(&real), Arc::clone(&results));
            let (runtime, module) = (Arc::clone(&runtime), module.clone());
            Trial::test(table.rows[number].id.clone(), move || {
                let row = &table.rows[number];
                let played = play(&table, row, &module, &real, &runtime);
                let difference = played.difference(row);
                let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                results.push((number, played));
                if difference.is_empty() {
                    Ok(())
                } else {
                    Err(Failed::from(difference))
                }
            })
        })
        .collect();
    let facts = Arc::clone(&table);
    trials.push(Trial::test("every_fact_has_a_row_and_every_row_a_fact", move || {
        let gaps = facts.gaps();
        if gaps.is_empty() {
            Ok(())
        } else {
            Err(Failed::from(gaps.join("\n")))
        }
    }));

    let conclusion = libtest_mimic::run(&arguments, trials);
    if let Some(real) = Arc::into_inner(real) {
        runtime.block_on(real.stop())?;
    }
    let mut results = std::mem::take(&mut *results.lock().unwrap_or_else(PoisonError::into_inner));
    results.sort_by_key(|(number, _)| *number);
    let played: Vec<_> = results
        .into_iter()
        .map(|(number, played)| (&table.rows[number], played))
        .collect();
    if std::env::var_os("CONFORMANCE_TABLE").is_some() {
        println!("{}", report::plain(&played));
    }
    // A part of the table must not pass for the whole.
    if played.len() == table.rows.len() {
        std::fs::write(target().join("conformance.md"), report::markdown(&table, &played))?;
    }
    Ok(conclusion.exit_code())
}

fn play(table: &Arc<Table>, row: &Row, module: &Path, real: &RealEnvoy, runtime: &Runtime) -> Played {
    let tiny = if row.only_envoy.is_some() {
        Side::Left
    } else {
        // What the tiny Envoy does not model it stops at.
        let play = AssertUnwindSafe(|| conformance::tiny::play(table, row, module));
        catch_unwind(play).map_or_else(|payload| Side::Failed(of_panic(payload.as_ref())), side)
    };
    let envoy = side(runtime.block_on(real.play(row)));
    Played { tiny, envoy }
}

/// What is said of a host that has panicked.
fn of_panic(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
    format!("it panicked: {}", text.unwrap_or("without a word"))
}

fn side(seen: anyhow::Result<conformance::Seen>) -> Side {
    match seen {
        Ok(seen) => Side::Seen(seen),
        Err(error) => Side::Failed(format!("{error:#}")),
    }
}

fn target() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target")
}

fn module() -> anyhow::Result<PathBuf> {
    let module = target().join("wasm32-wasip1/release/conformance_probe.wasm");
    module
        .canonicalize()
        .with_context(|| format!("there is no probe at `{}`; run `make probe`", module.display()))
}
