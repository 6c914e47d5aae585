//! `make sim`: plays seeds, or one of them in detail.

use std::process::ExitCode;

use clap::Parser;

mod run;

fn main() -> anyhow::Result<ExitCode> {
    run::run(&run::Arguments::parse())
}
