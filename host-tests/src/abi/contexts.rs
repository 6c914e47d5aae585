//! Hostcalls on contexts, and those of the ABI that are known but not modelled.

use wasmtime::Linker;

use crate::abi::{Status, hostcall, unmodelled};
use crate::worker::Guest;

pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    hostcall!(linker, "proxy_set_effective_context", |call, context| {
        let guest = call.data_mut();
        // 0 is the VM itself, which has neither a stream nor a plugin.
        if context != 0 && !guest.roots.contains_key(&context) && !guest.contexts.contains_key(&context) {
            return Err(Status::BadArgument.into());
        }
        guest.effective = Some(context);
        Ok(())
    });
    // HTTP contexts are deleted whatever `on_done` says, so there is nothing to finish.
    hostcall!(linker, "proxy_done", |_call| Err(Status::NotFound.into()));
    hostcall!(
        linker,
        "proxy_grpc_call",
        |_call, _a, _b, _c, _d, _e, _f, _g, _h, _i, _j, _k, _l| { Err(unmodelled("proxy_grpc_call")) }
    );
    hostcall!(
        linker,
        "proxy_grpc_stream",
        |_call, _a, _b, _c, _d, _e, _f, _g, _h, _i| Err(unmodelled("proxy_grpc_stream"))
    );
    hostcall!(linker, "proxy_grpc_send", |_call, _a, _b, _c, _d| Err(unmodelled(
        "proxy_grpc_send"
    )));
    hostcall!(linker, "proxy_grpc_cancel", |_call, _a| Err(unmodelled(
        "proxy_grpc_cancel"
    )));
    hostcall!(linker, "proxy_grpc_close", |_call, _a| Err(unmodelled(
        "proxy_grpc_close"
    )));
    Ok(())
}
