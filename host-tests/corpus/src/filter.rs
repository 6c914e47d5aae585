//! Where the finished filter is.

use std::path::{Path, PathBuf};

/// The finished filter: the file that the environment variable `TENANT_FILTER_WASM` names, else
/// `target/wasm32-wasip1/release/tenant_filter.wasm` of this workspace.
///
/// # Errors
/// There is no such file. The message says how to make it.
pub fn finished_filter() -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("TENANT_FILTER_WASM").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/wasm32-wasip1/release/tenant_filter.wasm"),
        PathBuf::from,
    );
    anyhow::ensure!(path.is_file(), "there is no {}: run `make wasm` first", path.display());
    Ok(path)
}
