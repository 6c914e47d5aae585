//! What plugins log.

use std::fmt;

/// A log level, in Envoy's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// `trace`
    Trace,
    /// `debug`
    Debug,
    /// `info`
    Info,
    /// `warning`
    Warn,
    /// `error`
    Error,
    /// `critical`
    Critical,
}

impl Level {
    pub(crate) fn from_abi(level: u32) -> Option<Self> {
        [
            Self::Trace,
            Self::Debug,
            Self::Info,
            Self::Warn,
            Self::Error,
            Self::Critical,
        ]
        .into_iter()
        .find(|known| *known as u32 == level)
    }
}

/// One log line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// The worker whose VM wrote it; the number of workers for the main thread, and for the
    /// canary that tries a configuration first.
    pub worker: usize,
    /// Its level.
    pub level: Level,
    /// Its text, each byte that is not UTF-8 replaced.
    pub message: String,
}

impl fmt::Display for LogLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}][{:?}] {}", self.worker, self.level, self.message)
    }
}
