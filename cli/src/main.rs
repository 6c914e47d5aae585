//! `tenantgate`, the command-line companion of the filter.

mod bridge;
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
    /// Forward tenant events from Redis Pub/Sub to the filters of any number of Envoys.
    Bridge(Box<bridge::Options>),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Demo(options) => demo::run(&options),
        Command::Bridge(options) => bridge::run(&options),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            anstream::eprintln!("tenantgate: {error:#}");
            ExitCode::FAILURE
        }
    }
}
