//! Hostcalls on what workers share: shared data and shared queues.

use std::time::Duration;

use wasmtime::Linker;

use crate::abi::memory::{hand_over, read, write_u32};
use crate::abi::{Fault, Status, hostcall, unmodelled};
use crate::interleave::{Access, Op, Place, Seat};
use crate::node::Event;
use crate::worker::Guest;

pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    hostcall!(
        linker,
        "proxy_get_shared_data",
        |call, key, key_length, data, length, return_cas| {
            let key = read(call, key, key_length)?;
            let read = || Op::new("proxy_get_shared_data", Place::Key(key.clone()), Access::Read);
            call.data().point(read);
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
            let write = || Op::new("proxy_set_shared_data", Place::Key(key.clone()), Access::Write);
            call.data().point(write);
            Ok(call.data().node.lock().shared_data.set(&key, &value, cas)?)
        }
    );
    hostcall!(
        linker,
        "proxy_register_shared_queue",
        |call, name, length, return_id| {
            let name = read(call, name, length)?;
            let guest = call.data();
            guest.point(|| Op::new("proxy_register_shared_queue", Place::Queue(name.clone()), Access::Write));
            if guest.seat.as_ref().is_some_and(Seat::explores) {
                refuse_to_hand_over(guest, &name)?;
            }
            let id = guest
                .node
                .lock()
                .queues
                .register(&name, guest.vm, guest.effective_root());
            write_u32(call, return_id, id)
        }
    );
    hostcall!(
        linker,
        "proxy_resolve_shared_queue",
        |call, vm_id, vm_id_length, name, length, return_id| {
            let (vm_id, name) = (read(call, vm_id, vm_id_length)?, read(call, name, length)?);
            call.data()
                .point(|| Op::new("proxy_resolve_shared_queue", Place::Queue(name.clone()), Access::Read));
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
        let guest = call.data();
        guest.point(|| {
            let op = queue_op(guest, "proxy_enqueue_shared_queue", queue);
            with_notice(guest, op, queue)
        });
        let mut node = call.data().node.lock();
        let (vm, root) = node.queues.enqueue(queue, entry)?;
        node.plan(Duration::ZERO, Event::Queue { vm, root, queue });
        Ok(())
    });
    hostcall!(linker, "proxy_dequeue_shared_queue", |call, queue, data, length| {
        let guest = call.data();
        guest.point(|| queue_op(guest, "proxy_dequeue_shared_queue", queue));
        let entry = guest.node.lock().queues.dequeue(queue)?;
        hand_over(call, &entry, data, length)
    });
    Ok(())
}

/// Whom an entry is announced to is decided when it is about to be put in, not when it is: so a queue
/// must not pass from one worker to another meanwhile.
fn refuse_to_hand_over(guest: &Guest, name: &[u8]) -> Result<(), Fault> {
    let node = guest.node.lock();
    let registrant = node.queues.resolve(name).and_then(|id| node.queues.describe(id));
    match registrant {
        Some((_, registrant)) if registrant.worker != guest.vm.worker => Err(unmodelled(
            "a queue that another worker registers for while workers run interleaved",
        )),
        _ => Ok(()),
    }
}

/// What is done to a queue; nothing where there is none of that id.
fn queue_op(guest: &Guest, name: &'static str, queue: u32) -> Op {
    let node = guest.node.lock();
    let place = node
        .queues
        .describe(queue)
        .map(|(queue, _)| Place::Queue(queue.to_vec()));
    let touches = place.map(|place| (place, Access::Write)).into_iter().collect();
    Op { name, touches }
}

/// … and who registered for the queue has something due.
fn with_notice(guest: &Guest, mut op: Op, queue: u32) -> Op {
    let node = guest.node.lock();
    let registrant = node.queues.describe(queue).map(|(_, registrant)| registrant.worker);
    op.touches
        .extend(registrant.map(|worker| (Place::Inbox(worker), Access::Write)));
    op
}
