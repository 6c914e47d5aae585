//! What a process writes, kept in memory within bounds.

use std::collections::VecDeque;
use std::io::{self, PipeWriter, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::sync::watch;

/// How many bytes of lines are kept; the oldest go first.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// How our own lines in a log begin.
const FENCE: &str = "envoy-run fence ";

/// How long a line that was written may take to be read.
const FENCE_DEADLINE: Duration = Duration::from_secs(10);

/// The lines that one stream of a process has written. Clones share the lines.
#[derive(Debug, Clone, Default)]
pub struct Logs {
    kept: Arc<Mutex<Kept>>,
    /// How many lines [`Logs::caught_up`] has written.
    written: Arc<Mutex<usize>>,
    /// The number of the last of them that has come back.
    arrived: Arc<watch::Sender<usize>>,
}

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<String>,
    bytes: usize,
    forgotten: usize,
}

impl Logs {
    /// The lines that are kept, oldest first, at most the last 8 MiB. Bytes that are not UTF-8 are
    /// replaced.
    pub fn lines(&self) -> Vec<String> {
        self.since(0)
    }

    /// How many lines there have been; for [`Logs::since`].
    pub fn mark(&self) -> usize {
        let kept = self.lock();
        kept.forgotten + kept.lines.len()
    }

    /// The lines after the first `mark`.
    pub fn since(&self, mark: usize) -> Vec<String> {
        let kept = self.lock();
        kept.lines
            .iter()
            .skip(mark.saturating_sub(kept.forgotten))
            .cloned()
            .collect()
    }

    /// Returns when everything has been read that was written to the pipe before: a line of our own,
    /// written behind it, has come back. That line is not kept.
    pub(crate) async fn caught_up(&self, pipe: &PipeWriter) -> io::Result<()> {
        let mut pipe = pipe.try_clone()?;
        let written = Arc::clone(&self.written);
        // The pipe may be full, and then this waits for the task that reads it.
        let written = tokio::task::spawn_blocking(move || {
            let mut written = written.lock().unwrap_or_else(PoisonError::into_inner);
            *written += 1;
            pipe.write_all(format!("{FENCE}{written}\n").as_bytes())
                .map(|()| *written)
        });
        let fence = written.await??;
        let mut arrived = self.arrived.subscribe();
        let arrived = tokio::time::timeout(FENCE_DEADLINE, arrived.wait_for(|arrived| *arrived >= fence)).await?;
        arrived.map(drop).map_err(io::Error::other)
    }

    /// Reads `stream` to its end.
    pub(crate) async fn fill(self, stream: impl AsyncRead + Unpin) {
        let mut stream = BufReader::new(stream);
        let mut line = Vec::new();
        // An unreadable pipe is one that has ended.
        while stream.read_until(b'\n', &mut line).await.is_ok_and(|length| length > 0) {
            let text = String::from_utf8_lossy(line.trim_ascii_end());
            match text.strip_prefix(FENCE).and_then(|fence| fence.parse().ok()) {
                Some(fence) => drop(self.arrived.send_replace(fence)),
                None => self.push(text.into_owned()),
            }
            line.clear();
        }
    }

    fn push(&self, line: String) {
        let mut kept = self.lock();
        kept.bytes += line.len();
        kept.lines.push_back(line);
        while kept.bytes > MAX_BYTES {
            let Some(oldest) = kept.lines.pop_front() else { break };
            kept.bytes -= oldest.len();
            kept.forgotten += 1;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
