//! `tenantgate demo`: a real Envoy with the filter, a Tenant Manager and an upstream around it, some
//! requests that a newcomer would think of, and a table of what became of them.
//!
//! Whichever way the demo ends (done, Ctrl-C, SIGTERM, SIGHUP, an error, a panic), everything that it
//! started ends with it: the servers live in this process, and Envoy is stopped, or killed when its
//! handle is dropped. Only SIGKILL leaves it no chance.

mod client;
mod events;
mod log_files;
mod programs;
mod scenario;
mod seen;
mod table;
mod world;

use std::io::{self, Write};
use std::pin::Pin;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

use self::scenario::Row;
use self::table::Table;
use self::world::World;

pub(crate) use self::programs::Options;

/// What a shell reports of a command that Ctrl-C ended: 128 and the number of SIGINT.
const INTERRUPTED: u8 = 130;

/// Runs the demo. Succeeds when every row is as expected; interrupted before that could be said, it
/// reports [`INTERRUPTED`].
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let programs = options.find()?;
    let runtime = tokio::runtime::Runtime::new().context("no threads to run on")?;
    runtime.block_on(async {
        let interrupted = interruption()?;
        tokio::pin!(interrupted);
        anstream::eprintln!("Starting Envoy with {} …", programs.module.display());
        let mut world = tokio::select! {
            world = World::start(&programs) => world?,
            () = &mut interrupted => return Ok(ExitCode::from(INTERRUPTED)),
        };
        let visited = visit(&mut world, options.once, interrupted).await;
        // Also after an error, which is then the one to tell about.
        let stopped = world.stop().await;
        let code = visited?;
        stopped.map(|()| code)
    })
}

/// Shows the table and, unless it is to be only `once`, stays until interrupted.
async fn visit(world: &mut World, once: bool, mut interrupted: Pin<&mut impl Future<Output = ()>>) -> Result<ExitCode> {
    let rows = scenario::rows();
    let as_expected = tokio::select! {
        shown = show(world, &rows) => shown?,
        () = &mut interrupted => return Ok(ExitCode::from(INTERRUPTED)),
    };
    if !once {
        invite(world)?;
        tokio::select! {
            () = interrupted => {}
            log = world.envoy_ended() => bail!("Envoy has ended by itself; the last it said:\n{log}"),
        }
    }
    Ok(if as_expected {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Sends every row and prints the table. Returns whether all was as expected.
async fn show(world: &mut World, rows: &[Row]) -> Result<bool> {
    let mut table = Table::new(["WHAT IS SENT", "DECISION", "WHAT THE UPSTREAM SAW"]);
    let mut mismatches = 0;
    for row in rows {
        let seen = world
            .play(row)
            .await
            .with_context(|| format!("while sending `{}`", row.sent))?;
        let verdict = seen.verdict(row);
        mismatches += usize::from(verdict.is_err());
        table.push(row.cells(), seen.decision(row), seen.at_upstream(row), verdict);
    }
    let mut out = anstream::stdout();
    let summary = match mismatches {
        0 => format!("All {} rows are as expected.", rows.len()),
        some => format!("{some} of {} rows are NOT AS EXPECTED.", rows.len()),
    };
    ignore_closed(write!(out, "\n{table}\n{summary}\n"))?;
    Ok(mismatches == 0)
}

/// Prints what there is to play with.
fn invite(world: &World) -> Result<()> {
    let mut out = anstream::stdout();
    ignore_closed(write!(out, "\n{}", world.invitation()?).and_then(|()| out.flush()))
}

/// The end of a reader (`| head`) is no fault of the demo.
fn ignore_closed(written: io::Result<()>) -> Result<()> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("cannot write"),
        _ => Ok(()),
    }
}

/// Completes when somebody wants the demo to end. Until it is dropped, signals do not end the process
/// by themselves.
fn interruption() -> Result<impl Future<Output = ()>> {
    let listen = |kind| signal(kind).context("signals cannot be received");
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hang_up = listen(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hang_up.recv() => {}
        }
    })
}
