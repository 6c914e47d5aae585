//! Calling the plugin, and what becomes of its VM.

use wasmtime::{WasmParams, WasmResults};

use crate::builder::FailurePolicy;
use crate::envoy::{Death, TinyEnvoy};
use crate::node::{CalloutEnd, Event};
use crate::stream::{Cut, Side, StreamId};
use crate::worker::{Deferred, Died, Vm, VmRef};

/// The plugin wants this direction to be held.
const PAUSE: u32 = 1;

/// `BrokenConnection`, what `proxy_get_status` says after a reset.
const BROKEN_CONNECTION: u32 = 11;

/// What a callback has decided.
pub(crate) enum Verdict {
    Continue,
    Pause,
    /// The stream was answered or reset meanwhile, what the callback returned does not matter.
    Over,
}

impl TinyEnvoy {
    /// Loads a dead VM anew where the policy says so. `Err` has the response code details.
    pub(crate) fn revive(&mut self, worker: usize) -> Result<(), &'static str> {
        let vm = &self.vms[&worker];
        if vm.is_alive() {
            return Ok(());
        }
        let FailurePolicy::Reload(backoff) = self.failure_policy else {
            return Err("wasm_fail_stream");
        };
        if self.elapsed() < vm.loaded_at + backoff {
            return Err("wasm_fail_stream");
        }
        let VmRef { generation, .. } = vm.data().vm;
        let reloaded = self.load(
            VmRef {
                worker,
                generation: generation + 1,
            },
            false,
        );
        let mut reloaded = reloaded.map_err(|_| "wasm_fail_stream")?;
        reloaded.data_mut().seat = self.seat.clone();
        self.vms.insert(worker, reloaded);
        Ok(())
    }

    /// A callout ends: the root context is told, whoever made the callout.
    pub(crate) fn end_callout(&mut self, vm: VmRef, root: u32, token: u32, end: CalloutEnd) {
        if !self.is_running(vm) {
            return;
        }
        let guest = self.vm(vm.worker).data_mut();
        let (headers, body, trailers) = match end {
            CalloutEnd::Response(response) => {
                let sizes = (response.headers.len(), response.body.len(), response.trailers.len());
                guest.callout_response = Some(response);
                sizes
            }
            CalloutEnd::Reset => {
                guest.callout_status = (BROKEN_CONNECTION, "reset");
                (0, 0, 0)
            }
        };
        let arguments = (root, token, size(headers), size(body), size(trailers));
        let _told = self.notify(vm, root, "proxy_on_http_call_response", arguments);
        let guest = self.vm(vm.worker).data_mut();
        guest.callout_response = None;
        guest.callout_status.1 = "";
    }

    pub(crate) fn tick(&mut self, vm: VmRef, root: u32, setting: u64) {
        if !self.is_running(vm) || self.vms[&vm.worker].data().tick_setting != setting {
            return;
        }
        if self.notify(vm, root, "proxy_on_tick", root).is_err() {
            return;
        }
        let guest = self.vms[&vm.worker].data();
        if guest.tick_setting == setting {
            let period = guest.tick_period;
            self.node.lock().plan(period, Event::Tick { vm, root, setting });
        }
    }

    pub(crate) fn queue_ready(&mut self, vm: VmRef, root: u32, queue: u32) {
        if self.is_running(vm) {
            let _told = self.notify(vm, root, "proxy_on_queue_ready", (root, queue));
        }
    }

    /// Asks the plugin about a piece of a stream.
    pub(crate) fn ask<P: WasmParams>(
        &mut self,
        id: StreamId,
        side: Side,
        name: &str,
        arguments: impl FnOnce(u32) -> P,
    ) -> Verdict {
        let context = self.node.lock().stream(id).context;
        let Some((vm, context)) = context else {
            return Verdict::Continue;
        };
        let answer = self.callback::<P, u32>(vm, context, name, arguments(context));
        let Ok(answer) = answer else {
            self.fail(id);
            return Verdict::Over;
        };
        if self.node.lock().stream(id).half(side).closed {
            return Verdict::Over;
        }
        if answer == Some(PAUSE) {
            Verdict::Pause
        } else {
            Verdict::Continue
        }
    }

    /// Runs a callback that returns nothing.
    pub(crate) fn notify<P: WasmParams>(
        &mut self,
        vm: VmRef,
        context: u32,
        name: &str,
        arguments: P,
    ) -> Result<(), Died> {
        self.callback::<P, ()>(vm, context, name, arguments).map(|_| ())
    }

    /// Runs a callback, then what its hostcalls have put off until the guest has returned.
    pub(crate) fn callback<P: WasmParams, R: WasmResults>(
        &mut self,
        vm: VmRef,
        context: u32,
        name: &str,
        arguments: P,
    ) -> Result<Option<R>, Died> {
        if !self.is_running(vm) {
            return Err(Died);
        }
        let running = self.vm(vm.worker);
        let answer = running.callback::<P, R>(context, name, arguments);
        let deferred = std::mem::take(&mut running.data_mut().deferred);
        if let Some(cause) = running.death.clone() {
            let worker = vm.worker;
            self.deaths.push(Death { worker, cause });
        }
        for action in deferred {
            match action {
                Deferred::Continue(stream, side) => self.resume(stream, side),
                Deferred::LocalResponse(stream, response) => self.reply_locally(stream, response),
                Deferred::Reset(stream) => self.cut_off(stream),
            }
        }
        answer
    }

    /// The plugin ends a stream.
    fn cut_off(&mut self, id: StreamId) {
        {
            let mut node = self.node.lock();
            let stream = node.stream(id);
            if stream.finished {
                return;
            }
            stream.gone = true;
            stream.cut = Some(if stream.response.sent.started {
                Cut::AfterResponse
            } else {
                Cut::BeforeResponse
            });
        }
        self.finish(id);
    }

    /// The VM that a worker has now.
    pub(crate) fn vm(&mut self, worker: usize) -> &mut Vm {
        self.vms.get_mut(&worker).expect("every worker has a VM, if a dead one")
    }

    pub(crate) fn is_running(&self, vm: VmRef) -> bool {
        let running = &self.vms[&vm.worker];
        running.is_alive() && running.data().vm == vm
    }

    /// Whether the VM that handles a stream is still there.
    pub(crate) fn is_served(&self, id: StreamId) -> bool {
        let context = self.node.lock().stream(id).context;
        context.is_some_and(|(vm, _)| self.is_running(vm))
    }
}

pub(crate) fn size(length: usize) -> u32 {
    u32::try_from(length).expect("messages are smaller than 4 GiB")
}
