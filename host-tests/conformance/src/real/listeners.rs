//! The listeners of a process, some of which rows update.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use envoy_run::{Bootstrap, Envoy, ListenerFile};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use crate::real::bootstrap::{Peers, bootstrap};
use crate::table::{Row, Table};

/// How long Envoy may take over an update: it asks the plugin.
const SOON: Duration = Duration::from_secs(20);

const POLL: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(super) struct Listeners {
    module: PathBuf,
    peers: Peers,
    /// One update at a time: Envoy counts them, and does not say whose they were. None where no row
    /// makes any.
    updated: Option<Mutex<Updated>>,
}

#[derive(Debug)]
struct Updated {
    file: ListenerFile,
    /// With the scripts that their root contexts have at the moment.
    rows: Vec<Row>,
}

impl Listeners {
    /// Those of these rows, and a bootstrap that has them.
    pub(super) fn of(table: &Table, module: &Path, rows: Vec<&Row>, peers: Peers) -> anyhow::Result<(Self, Bootstrap)> {
        let mut bootstrap = bootstrap(table, module, &rows, peers)?;
        let updated = if rows.iter().any(|row| row.has_updates()) {
            let mut file = ListenerFile::new()?;
            bootstrap = file.write(bootstrap)?;
            let rows = rows.into_iter().cloned().collect();
            Some(Mutex::new(Updated { file, rows }))
        } else {
            None
        };
        let listeners = Self {
            module: module.to_owned(),
            peers,
            updated,
        };
        Ok((listeners, bootstrap))
    }

    /// Gives the plugin the configuration that this row has now. Returns whether it is taken; if so, every
    /// connection that is opened from now on gets it: what the workers are told of it stands in their
    /// queues before Envoy counts it.
    pub(super) async fn update(&self, envoy: &Envoy, table: &Table, row: &Row) -> anyhow::Result<bool> {
        let updated = self.updated.as_ref().context("its listeners cannot be updated")?;
        let mut updated = updated.lock().await;
        let Updated { file, rows } = &mut *updated;
        let known = rows.iter_mut().find(|known| known.id == row.id);
        let known = known.context("the row has no listener here")?;
        let before = std::mem::replace(known, row.clone());
        let counted = counted(envoy).await?;
        file.write(bootstrap(
            table,
            &self.module,
            &rows.iter().collect::<Vec<_>>(),
            self.peers,
        )?)?;
        let is_taken = outcome(envoy, counted).await?;
        if !is_taken && let Some(known) = rows.iter_mut().find(|known| known.id == row.id) {
            *known = before;
        }
        Ok(is_taken)
    }
}

/// Waits for the update behind these.
async fn outcome(envoy: &Envoy, (taken, refused): (u64, u64)) -> anyhow::Result<bool> {
    let deadline = Instant::now() + SOON;
    loop {
        let now = counted(envoy).await?;
        if now != (taken, refused) {
            return Ok(now.0 > taken);
        }
        ensure!(Instant::now() < deadline, "Envoy has not looked at the update");
        sleep(POLL).await;
    }
}

/// How many updates have been taken and refused.
async fn counted(envoy: &Envoy) -> anyhow::Result<(u64, u64)> {
    let stats = envoy.stats().await?;
    let [taken, refused] = ["update_success", "update_rejected"].map(|name| {
        let count = stats.get(&format!("listener_manager.lds.{name}"));
        count.copied().unwrap_or_default()
    });
    Ok((taken, refused))
}
