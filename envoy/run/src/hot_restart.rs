//! Envoy's hot restart: a new process takes over the listening sockets of an old one.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

/// Whether another Envoy can follow this one, or this one follows another. The old one drains for
/// [`crate::Options::drain_time`] and ends [`PARENT_REMAINS`] after that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HotRestart {
    /// Neither. Otherwise processes of one machine have to agree on numbers of shared memory.
    Disabled,
    /// The first of a row, of a number that is free.
    First,
    /// The one after the first of that number ([`crate::Envoy::base_id`]).
    Second(u32),
}

/// How long an Envoy that was followed remains when it has drained.
pub const PARENT_REMAINS: Duration = Duration::from_secs(2);

/// The file that Envoy writes its number to.
const BASE_ID: &str = "base-id";

impl HotRestart {
    /// What Envoy is told on its command line.
    pub(crate) fn arguments(self, directory: &Path, drain_time: Duration) -> Vec<OsString> {
        let until_the_end = drain_time + PARENT_REMAINS;
        match self {
            Self::Disabled => vec!["--disable-hot-restart".into()],
            Self::First => vec![
                "--use-dynamic-base-id".into(),
                "--base-id-path".into(),
                directory.join(BASE_ID).into(),
            ],
            Self::Second(base_id) => vec![
                "--base-id".into(),
                base_id.to_string().into(),
                "--restart-epoch".into(),
                "1".into(),
                "--parent-shutdown-time-s".into(),
                until_the_end.as_secs().to_string().into(),
            ],
        }
    }
}

/// The number that an Envoy with this directory has found free.
pub(crate) fn base_id(directory: &Path) -> anyhow::Result<u32> {
    let file = std::fs::read_to_string(directory.join(BASE_ID))?;
    Ok(file.trim().parse()?)
}
