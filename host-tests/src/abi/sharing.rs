//! Hostcalls on what workers share: shared data and shared queues.

use std::time::Duration;

use wasmtime::Linker;

use crate::abi::memory::{hand_over, read, write_u32};
use crate::abi::{Status, hostcall};
use crate::node::Event;
use crate::worker::Guest;

pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    hostcall!(
        linker,
        "proxy_get_shared_data",
        |call, key, key_length, data, length, return_cas| {
            let key = read(call, key, key_length)?;
            let entry = call.data().node.lock().shared_data.get(&key).cloned();
            let entry = entry.ok_or(Status::NotFound)?;
            hand_over(call, &entry.value, data, length)?;
            write_u32(call, return_cas, entry.cas)
        }
    );
    hostcall!(
        linker,
        "proxy_set_shared_data",
        |call, key, key_length, data, length, cas| {
            let (key, value) = (read(call, key, key_length)?, read(call, data, length)?);
            Ok(call.data().node.lock().shared_data.set(&key, &value, cas)?)
        }
    );
    hostcall!(
        linker,
        "proxy_register_shared_queue",
        |call, name, length, return_id| {
            let name = read(call, name, length)?;
            let guest = call.data();
            let id = guest.node.lock().queues.register(&name, guest.vm, guest.root);
            write_u32(call, return_id, id)
        }
    );
    hostcall!(
        linker,
        "proxy_resolve_shared_queue",
        |call, vm_id, vm_id_length, name, length, return_id| {
            let (vm_id, name) = (read(call, vm_id, vm_id_length)?, read(call, name, length)?);
            let id = {
                let node = call.data().node.lock();
                let is_ours = vm_id.is_empty() || vm_id == node.options.vm_id;
                is_ours.then(|| node.queues.resolve(&name)).flatten()
            };
            write_u32(call, return_id, id.ok_or(Status::NotFound)?)
        }
    );
    hostcall!(linker, "proxy_enqueue_shared_queue", |call, queue, data, length| {
        let entry = read(call, data, length)?;
        let mut node = call.data().node.lock();
        let (vm, root) = node.queues.enqueue(queue, entry)?;
        node.plan(Duration::ZERO, Event::Queue { vm, root, queue });
        Ok(())
    });
    hostcall!(linker, "proxy_dequeue_shared_queue", |call, queue, data, length| {
        let entry = call.data().node.lock().queues.dequeue(queue)?;
        hand_over(call, &entry, data, length)
    });
    Ok(())
}
