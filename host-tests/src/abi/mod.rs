//! The Proxy-Wasm ABI 0.2.1, as far as it is modelled, and the WASI functions beside it.

mod contexts;
mod http;
pub(crate) mod memory;
mod pairs;
mod plugin;
mod sharing;
mod wasi;

use wasmtime::{Engine, Linker};

use crate::abi::memory::Call;
use crate::log::Level;
use crate::worker::Guest;

/// What a hostcall says about its success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Status {
    /// Done.
    Ok = 0,
    /// There is no such thing.
    NotFound = 1,
    /// An argument is wrong, or the thing is not there in this phase.
    BadArgument = 2,
    /// A value cannot be serialised.
    SerializationFailure = 3,
    /// An argument cannot be parsed.
    ParseFailure = 4,
    /// An address is outside the guest's memory.
    InvalidMemoryAccess = 6,
    /// The queue is empty.
    Empty = 7,
    /// Somebody else wrote the entry in between.
    CasMismatch = 8,
    /// The host could not do it.
    InternalFailure = 10,
}

/// Why a hostcall did not succeed.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The guest is told.
    Status(Status),
    /// The guest ends.
    Trap(wasmtime::Error),
}

impl From<Status> for Fault {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

/// A guest used something that this host does not model. Fails the test.
#[derive(Debug, thiserror::Error)]
#[error("not modelled by the tiny Envoy: {0}")]
pub(crate) struct Unmodelled(pub(crate) String);

pub(crate) fn unmodelled(what: impl Into<String>) -> Fault {
    Fault::Trap(Unmodelled(what.into()).into())
}

/// Counts a hostcall, refuses it where it is restricted, and turns its result into what the guest gets.
pub(crate) fn answer(
    call: &mut Call<'_>,
    name: &'static str,
    body: impl FnOnce(&mut Call<'_>) -> Result<(), Fault>,
) -> wasmtime::Result<u32> {
    let guest = call.data();
    guest.count(name);
    if guest.node.lock().options.restricted.contains(name) {
        let attempt = format!("Attempted call to restricted proxy-wasm capability: {name}");
        guest.log(Level::Error, attempt.as_bytes());
        return Ok(Status::InternalFailure as u32);
    }
    match body(call) {
        Ok(()) => Ok(Status::Ok as u32),
        Err(Fault::Status(status)) => Ok(status as u32),
        Err(Fault::Trap(error)) => Err(error),
    }
}

/// All imports that a guest may have.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = Linker::new(engine);
    plugin::link(&mut linker)?;
    http::link(&mut linker)?;
    contexts::link(&mut linker)?;
    sharing::link(&mut linker)?;
    wasi::link(&mut linker)?;
    Ok(linker)
}

/// Defines a hostcall of module `env`: `hostcall!(linker, "proxy_x", |call, a, b: u64| …)`.
/// Parameters without a type are `u32`; the body's result is a `Result<(), Fault>`.
macro_rules! hostcall {
    (@type) => { u32 };
    (@type $type:ty) => { $type };
    ($linker:expr, $name:literal, |$call:ident $(, $argument:ident $(: $type:ty)?)*| $body:expr) => {
        $linker.func_wrap(
            "env",
            $name,
            |mut caller: wasmtime::Caller<'_, $crate::worker::Guest>
             $(, $argument: $crate::abi::hostcall!(@type $($type)?))*| {
                $crate::abi::answer(&mut caller, $name, |$call| $body)
            },
        )?
    };
}
use hostcall;
