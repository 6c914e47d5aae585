//! `envoy-soak`: see the library of the same name.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use clap::Parser;
use envoy_soak::{Options, run};

/// A real Envoy with the filter under mixed load, every decision judged; the report goes into a folder
#[derive(Debug, Parser)]
struct Arguments {
    /// How long
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
    /// What chance comes from; by default another one each time, which is told
    #[arg(long)]
    seed: Option<u64>,
    /// How many clients send at once
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1000))]
    clients: u16,
    /// How many tenants there are besides the special ones
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u16).range(200..=50_000))]
    tenants: u16,
    /// Has streams end when their tenant is refused (`enforce.cut_streams`)
    #[arg(long)]
    cut_streams: bool,
    /// Where the folder of the report is made
    #[arg(long, value_name = "FOLDER", hide_default_value = true, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/soak"))]
    into: PathBuf,
}

fn main() -> ExitCode {
    match soak(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("envoy-soak: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether it was good.
fn soak(arguments: &Arguments) -> Result<bool> {
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..));
    let length = Duration::try_from_secs_f64(arguments.minutes * 60.0)?;
    let options = Options {
        clients: arguments.clients.into(),
        tenants: arguments.tenants.into(),
        cut_streams: arguments.cut_streams,
        ..Options::new(length, seed)
    };
    let started = humantime::format_rfc3339_seconds(SystemTime::now())
        .to_string()
        .replace(':', "-");
    let into = arguments.into.join(started);
    eprintln!("soaking for {} minutes with seed {seed}", arguments.minutes);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let report = runtime.block_on(run(&options))?;
    report.write(&into)?;
    println!("{}", report.markdown());
    println!("in {}", shown(&into));
    Ok(report.outcome.is_good())
}

fn shown(folder: &Path) -> String {
    let whole = folder.canonicalize();
    whole.unwrap_or_else(|_| folder.to_path_buf()).display().to_string()
}
