//! Listeners that change while Envoy runs.

use std::io;
use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::bootstrap::Bootstrap;

const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";

/// The listeners of a bootstrap in a file that Envoy watches. Writing it anew is a configuration
/// update. The file is gone when this is dropped.
#[derive(Debug)]
pub struct ListenerFile {
    directory: TempDir,
    version: u64,
}

impl ListenerFile {
    /// A file that has no listeners yet.
    ///
    /// # Errors
    /// When the system has no room for it.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            directory: tempfile::Builder::new().prefix("envoy-run-").tempdir()?,
            version: 0,
        })
    }

    /// Puts the listeners of this bootstrap into the file, in one step, and returns the bootstrap
    /// that takes them from there. Whoever updates listeners has no use for what is returned.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&mut self, bootstrap: Bootstrap) -> io::Result<Bootstrap> {
        self.write_some(bootstrap, |_| true)
    }

    /// The same with the listeners of these names only: what Envoy had of the others is removed.
    ///
    /// # Errors
    /// As [`ListenerFile::write`].
    pub fn write_some(&mut self, mut bootstrap: Bootstrap, stays: impl Fn(&str) -> bool) -> io::Result<Bootstrap> {
        self.version += 1;
        let root = bootstrap.root_mut();
        let mut listeners = root["static_resources"]["listeners"].take();
        if let Some(listeners) = listeners.as_array_mut() {
            listeners.retain(|listener| listener["name"].as_str().is_some_and(&stays));
            for listener in listeners {
                listener["@type"] = LISTENER.into();
            }
        }
        let resources = json!({ "version_info": self.version.to_string(), "resources": listeners });
        // Envoy looks at the file when another one takes its name.
        let next = self.directory.path().join("next.json");
        std::fs::write(&next, resources.to_string())?;
        std::fs::rename(next, self.path())?;

        root["static_resources"]["listeners"] = Value::Array(Vec::new());
        root["dynamic_resources"]["lds_config"] = json!({
            "resource_api_version": "V3",
            "path_config_source": { "path": self.path() },
        });
        // Whoever asks for resources, be it a file, has a name.
        root["node"] = json!({ "id": "envoy-run", "cluster": "envoy-run" });
        Ok(bootstrap)
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("listeners.json")
    }
}
