//! Envoy's logs as files, to be read beside the demo.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use envoy_run::Logs;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How often new lines are written.
const INTERVAL: Duration = Duration::from_millis(200);

/// How long a file gets; what is logged afterwards is not kept.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// Two files that are written while Envoy runs. Dropping it ends the writing, without the last lines.
#[derive(Debug)]
pub(crate) struct LogFiles {
    log: PathBuf,
    access_log: PathBuf,
    writer: JoinHandle<()>,
    finish: oneshot::Sender<()>,
}

impl LogFiles {
    /// Begins `envoy.log` and `access.log` anew in `folder`, which is made where it is missing.
    ///
    /// # Errors
    /// When a file cannot be written there.
    pub(crate) fn start(folder: &Path, log: &Logs, access_log: &Logs) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let begin = |name: &str, logs: &Logs| {
            let path = folder.join(name);
            let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
            anyhow::Ok((path, Copied::new(logs.clone(), file)))
        };
        let (log, first) = begin("envoy.log", log)?;
        let (access_log, second) = begin("access.log", access_log)?;
        let (finish, finished) = oneshot::channel();
        Ok(Self {
            log,
            access_log,
            writer: tokio::spawn(write([first, second], finished)),
            finish,
        })
    }

    /// What Envoy and the filter log.
    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    /// One line per request.
    pub(crate) fn access_log(&self) -> &Path {
        &self.access_log
    }

    /// Writes what has been logged so far and ends.
    pub(crate) async fn finish(self) {
        // A writer that has gone has met a fault of the disk; the demo is not about that.
        let _ = self.finish.send(());
        let _ = self.writer.await;
    }
}

/// Writes until it is told to finish or a file cannot be written.
async fn write(mut files: [Copied; 2], mut finished: oneshot::Receiver<()>) {
    let mut last = false;
    while !last {
        last = tokio::time::timeout(INTERVAL, &mut finished).await.is_ok();
        if files.iter_mut().try_for_each(Copied::catch_up).is_err() {
            return;
        }
    }
}

#[derive(Debug)]
struct Copied {
    logs: Logs,
    /// Lines that are in the file already.
    mark: usize,
    file: File,
    room: usize,
}

impl Copied {
    fn new(logs: Logs, file: File) -> Self {
        Self {
            logs,
            mark: 0,
            file,
            room: MAX_BYTES,
        }
    }

    fn catch_up(&mut self) -> io::Result<()> {
        let (seen, lines) = (self.logs.mark(), self.logs.since(self.mark));
        self.mark = seen.max(self.mark + lines.len());
        for line in lines {
            self.room = self.room.saturating_sub(line.len() + 1);
            if self.room > 0 {
                writeln!(self.file, "{line}")?;
            }
        }
        self.file.flush()
    }
}
