//! Compiled guests.

use std::path::Path;
use std::sync::Arc;

use wasmtime::{Config, Engine, InstancePre, Linker, Module};

use crate::worker::Guest;

/// A compiled guest. Cheap to clone: tests that use the same one best compile it once and keep it.
#[derive(Clone)]
pub struct Plugin {
    pub(crate) module: Module,
    pub(crate) linker: Arc<Linker<Guest>>,
    /// The module with its imports resolved, or which of them does not exist.
    pub(crate) resolved: Result<InstancePre<Guest>, Arc<str>>,
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin").finish_non_exhaustive()
    }
}

impl Plugin {
    /// Compiles a `.wasm` file.
    ///
    /// # Errors
    /// The file cannot be read, or is no valid module. The message names the file.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, String> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Self::compile(&bytes).map_err(|e| format!("{}: {e}", path.display()))
    }

    /// Compiles a binary module.
    ///
    /// # Errors
    /// It is no valid module.
    pub fn compile(bytes: &[u8]) -> Result<Self, String> {
        // Instructions are counted, so that no guest runs for ever and costs can be compared.
        let mut config = Config::new();
        config.consume_fuel(true);
        let engine = Engine::new(&config).map_err(|error| format!("{error:#}"))?;
        let module = Module::new(&engine, bytes).map_err(|error| format!("{error:#}"))?;
        let linker = crate::abi::linker(&engine).map_err(|error| format!("{error:#}"))?;
        let resolved = linker.instantiate_pre(&module);
        Ok(Self {
            module,
            linker: Arc::new(linker),
            resolved: resolved.map_err(|error| format!("{error:#}").into()),
        })
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
