//! Rows on the real Envoy. One process serves all rows with the same number of workers: each stage, and each
//! row with a script of its own for the root context, is a listener.

mod bootstrap;
mod client;
mod listeners;
mod world;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use envoy_run::{Envoy, Options, StartError};
use tokio::sync::OnceCell;

use crate::lines::Seen;
use crate::real::world::World;
use crate::table::{Row, Table};

/// The real Envoy, started as rows need it.
#[derive(Debug)]
pub struct RealEnvoy {
    table: Arc<Table>,
    module: PathBuf,
    /// A process that did not start is not tried again.
    processes: Mutex<HashMap<Process, Arc<Started>>>,
}

/// A process, or why there is none.
type Started = OnceCell<Result<World, String>>;

/// Rows that share a process have this in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Process {
    Workers(u32),
    /// Rows in which listeners are updated, with as long to drain.
    Updated {
        workers: u32,
        drain_seconds: u64,
    },
    /// A row that changes the whole bootstrap.
    Alone(String),
}

impl RealEnvoy {
    /// Nothing is started yet.
    pub fn new(table: Arc<Table>, module: PathBuf) -> Self {
        Self {
            table,
            module,
            processes: Mutex::default(),
        }
    }

    /// Plays a row.
    ///
    /// # Errors
    /// When Envoy does not start, a step cannot be done, or what is waited for does not come.
    pub async fn play(&self, row: &Row) -> anyhow::Result<Seen> {
        if row.is_start() {
            return self.start(row).await;
        }
        let process = process_of(&self.table, row);
        let cell = {
            let mut processes = self.processes.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(processes.entry(process.clone()).or_default())
        };
        let rows = self
            .table
            .rows
            .iter()
            .filter(|row| process_of(&self.table, row) == process);
        let start = || async {
            let world = World::start(&self.table, &self.module, rows.collect()).await;
            world.map_err(|error| format!("{error:#}"))
        };
        let world = cell.get_or_init(start).await;
        let world = world.as_ref().map_err(|error| anyhow::anyhow!(last_lines(error)))?;
        world.play(&self.table, row).await
    }

    /// Ends all processes.
    ///
    /// # Errors
    /// When one cannot be stopped.
    pub async fn stop(self) -> anyhow::Result<()> {
        let processes = self.processes.into_inner().unwrap_or_else(PoisonError::into_inner);
        for cell in processes.into_values() {
            if let Some(Ok(world)) = Arc::into_inner(cell).and_then(OnceCell::into_inner) {
                world.stop().await?;
            }
        }
        Ok(())
    }

    async fn start(&self, row: &Row) -> anyhow::Result<Seen> {
        let anywhere = bootstrap::Peers::nowhere();
        let bootstrap = bootstrap::bootstrap(&self.table, &self.module, &[row], anywhere)?;
        let (how, log) = match Envoy::validate(Options::new(bootstrap)).await {
            Ok(()) => ("accepted", Vec::new()),
            Err(StartError::Exited { log, .. }) => ("refused", log),
            Err(error) => return Err(error.into()),
        };
        let mut lines = vec![format!("start {how}")];
        lines.extend(row.look.log.iter().map(|text| world::has(&log, text)));
        Ok(Seen(lines))
    }
}

fn process_of(table: &Table, row: &Row) -> Process {
    let stage = table.stage(row);
    if row.is_start() || !stage.envoy.root.is_null() {
        Process::Alone(row.id.clone())
    } else if row.has_updates() {
        Process::Updated {
            workers: stage.workers,
            drain_seconds: stage.drain_seconds,
        }
    } else {
        Process::Workers(stage.workers)
    }
}

/// The end of an error, which may have the whole log in it.
fn last_lines(error: &str) -> String {
    let lines: Vec<_> = error.lines().collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}
