//! `tenantgate`, the command-line companion of the filter.

mod demo;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Multi-tenancy for every service behind an Envoy: the tools around the filter.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Watch a real Envoy enforce tenancy on real requests.
    Demo(demo::Options),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Demo(options) => demo::run(&options),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            anstream::eprintln!("tenantgate: {error:#}");
            ExitCode::FAILURE
        }
    }
}
