//! What the demo needs from outside, and where it is looked for.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use clap::Args;

/// Options of `tenantgate demo`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Print the table and exit: with 0 when every row is as expected, with 1 otherwise
    #[arg(long)]
    pub(crate) once: bool,

    /// The filter [default: target/wasm32-wasip1/release/tenant_filter.wasm]
    #[arg(long, value_name = "FILE", env = "TENANT_FILTER_WASM")]
    wasm: Option<PathBuf>,

    /// The Envoy [default: the one that `make envoy` puts under target/envoy]
    #[arg(long, value_name = "FILE", env = "ENVOY_BIN")]
    envoy: Option<PathBuf>,

    /// The bootstrap that Envoy starts from; ports, addresses and the plugin configuration are the
    /// demo's own [default: envoy/envoy.yaml]
    #[arg(long, value_name = "FILE")]
    bootstrap: Option<PathBuf>,

    /// Where Envoy's log and its access log go, replacing those of the last demo [default: target/demo]
    #[arg(long, value_name = "FOLDER")]
    logs: Option<PathBuf>,
}

/// Files that are known to exist, and the folder for what the demo writes.
#[derive(Debug)]
pub(crate) struct Programs {
    /// The filter.
    pub(crate) module: PathBuf,
    /// The Envoy.
    pub(crate) envoy: PathBuf,
    /// The bootstrap.
    pub(crate) bootstrap: PathBuf,
    /// Where logs go; it need not exist.
    pub(crate) logs: PathBuf,
}

impl Options {
    /// Finds everything.
    ///
    /// # Errors
    /// For the first thing that is missing, one line that says how to get it.
    pub(crate) fn find(&self) -> Result<Programs> {
        let module = self.wasm.clone();
        let module = module.unwrap_or_else(|| in_workspace("target/wasm32-wasip1/release/tenant_filter.wasm"));
        let envoy = self.envoy.clone().unwrap_or_else(envoy_run::envoy_binary);
        let bootstrap = self
            .bootstrap
            .clone()
            .unwrap_or_else(|| in_workspace("envoy/envoy.yaml"));
        exists(
            "filter",
            &module,
            "build it with `make wasm`, or name one with --wasm or TENANT_FILTER_WASM",
        )?;
        exists(
            "Envoy",
            &envoy,
            "get it with `make envoy`, or name one with --envoy or ENVOY_BIN",
        )?;
        exists(
            "bootstrap",
            &bootstrap,
            "run the demo from a checkout, or name one with --bootstrap",
        )?;
        // Envoy does not run in our folder's name, so it gets whole paths.
        Ok(Programs {
            module: std::path::absolute(module)?,
            envoy: std::path::absolute(envoy)?,
            bootstrap,
            logs: self.logs.clone().unwrap_or_else(|| in_workspace("target/demo")),
        })
    }
}

fn exists(what: &str, path: &Path, remedy: &str) -> Result<()> {
    ensure!(path.is_file(), "there is no {what} at {}; {remedy}", path.display());
    Ok(())
}

/// A file of the checkout that this was built from, wherever it is called.
fn in_workspace(file: &str) -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).join(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(options: &Options) -> String {
        options.find().expect_err("something is missing").to_string()
    }

    #[test]
    fn what_is_missing_is_named_with_its_remedy_in_one_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let there = folder.path().join("there");
        std::fs::write(&there, "").expect("a file");
        let missing = Some(folder.path().join("missing"));
        let found = Some(there);
        let mut options = Options {
            once: true,
            wasm: missing.clone(),
            envoy: missing.clone(),
            bootstrap: missing,
            logs: None,
        };
        for (remedy, found_now) in [("`make wasm`", 0), ("`make envoy`", 1), ("--bootstrap", 2)] {
            match found_now {
                0 => {}
                1 => options.wasm.clone_from(&found),
                _ => options.envoy.clone_from(&found),
            }
            let complaint = complaint(&options);
            assert!(complaint.contains(remedy) && !complaint.contains('\n'), "{complaint}");
        }
        options.bootstrap = found;
        assert!(options.find().expect("everything is there").module.is_absolute());
    }
}
