//! What not every Envoy can do that `make e2e-matrix` runs the tests on.

use std::sync::OnceLock;

use anyhow::Context;
use envoy_run::{envoy_binary, envoy_version};
use semver::Version;

/// Something that an older Envoy lacks or does otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    /// `capability_restriction_config` is a member of `vm_config`; before it was one of the plugin, where it is
    /// deprecated now.
    CapabilitiesOfVms,
    /// Of a response over HTTP/2 that a plugin has reset, the client hears that it is not whole.
    ResetsThatTell,
}

impl Feature {
    /// The first version that has it.
    fn since(self) -> Version {
        match self {
            Self::CapabilitiesOfVms => Version::new(1, 40, 0),
            Self::ResetsThatTell => Version::new(1, 37, 0),
        }
    }

    /// Whether the Envoy of this run has it.
    ///
    /// # Errors
    /// When it does not say which it is.
    pub fn is_there(self) -> anyhow::Result<bool> {
        Ok(running()? >= &self.since())
    }
}

/// The version of the Envoy of this run.
fn running() -> anyhow::Result<&'static Version> {
    static RUNNING: OnceLock<Option<Version>> = OnceLock::new();
    let running = RUNNING.get_or_init(|| envoy_version(&envoy_binary()).ok());
    running.as_ref().context("Envoy does not say which version it is")
}
