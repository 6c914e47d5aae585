//! Compiled guests: each file is compiled once per process.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use wasmtime::{Config, Engine, Module};

/// A compiled guest. Cheap to clone.
#[derive(Clone)]
pub struct Plugin {
    pub(crate) module: Module,
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin").finish_non_exhaustive()
    }
}

impl Plugin {
    /// Compiles a `.wasm` file, or takes it from the process-wide cache. A file is taken to stay
    /// the same while the process lives.
    ///
    /// # Errors
    /// The file cannot be read, or is no valid module. The message names the file.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, String> {
        static COMPILED: OnceLock<Mutex<HashMap<PathBuf, Plugin>>> = OnceLock::new();
        let path = path.as_ref();
        // Held while compiling, so that tests that start together compile once.
        let mut compiled = COMPILED
            .get_or_init(Mutex::default)
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(plugin) = compiled.get(path) {
            return Ok(plugin.clone());
        }
        let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let plugin = Self::compile(&bytes).map_err(|e| format!("{}: {e}", path.display()))?;
        compiled.insert(path.to_owned(), plugin.clone());
        Ok(plugin)
    }

    /// Compiles a binary module.
    ///
    /// # Errors
    /// It is no valid module.
    pub fn compile(bytes: &[u8]) -> Result<Self, String> {
        let module = Module::new(engine(), bytes).map_err(|error| format!("{error:#}"))?;
        Ok(Self { module })
    }

    /// The imports, as `module.name`.
    pub fn imports(&self) -> Vec<String> {
        self.module
            .imports()
            .map(|import| format!("{}.{}", import.module(), import.name()))
            .collect()
    }

    /// The names of the exports.
    pub fn exports(&self) -> Vec<String> {
        self.module.exports().map(|export| export.name().to_owned()).collect()
    }
}

/// The finished filter: the file that the environment variable `TENANT_FILTER_WASM` names, else
/// `target/wasm32-wasip1/release/tenant_filter.wasm` of this workspace.
///
/// # Errors
/// There is no such file. The message says how to make it.
pub fn finished_filter() -> Result<PathBuf, String> {
    let path = std::env::var_os("TENANT_FILTER_WASM").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/wasm32-wasip1/release/tenant_filter.wasm"),
        PathBuf::from,
    );
    if path.is_file() {
        Ok(path)
    } else {
        Err(format!("there is no {}: run `make wasm` first", path.display()))
    }
}

/// One engine for the process. It counts instructions, so that no guest runs for ever and costs
/// can be compared.
pub(crate) fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let mut config = Config::new();
        config.consume_fuel(true);
        Engine::new(&config).expect("this configuration suits every machine")
    })
}
