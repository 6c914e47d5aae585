//! Calling the plugin, and what becomes of its VM.

use wasmtime::{WasmParams, WasmResults};

use crate::builder::FailurePolicy;
use crate::envoy::{Death, TinyEnvoy};
use crate::node::{CalloutEnd, Event};
use crate::stream::{Cut, Side, StreamId};
use crate::worker::{Deferred, Died, Serving, Vm, VmRef};

/// The plugin wants this direction to be held.
const PAUSE: u32 = 1;

/// `BrokenConnection`, what `proxy_get_status` says after a reset.
const BROKEN_CONNECTION: u32 = 11;

/// How many streams one call of the guest may have let go, answered or reset. What a call has put off is done
/// one within the end of the other; a real Envoy has room on V8's stack for about 300 answers.
const MOST_PUT_OFF: usize = 256;

/// Who serves a stream.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Service {
    /// The plugin, in a context under this root context.
    Plugin { root: u32 },
    /// Nobody: the plugin is left out.
    Skipped,
    /// Nobody, and it is answered 503.
    Refused,
}

/// What a callback has decided.
pub(crate) enum Verdict {
    Continue,
    Pause,
    /// The plugin has answered another stream: this one is held, whatever it has said of it.
    Stop,
    /// The stream was answered or reset meanwhile, what the callback returned does not matter.
    Over,
}

impl TinyEnvoy {
    /// Who serves the next stream of a worker. A dead VM is loaded anew where the policy says so.
    pub(crate) fn revive(&mut self, worker: usize) -> Service {
        let vm = &self.vms[&worker];
        let otherwise = match self.failure_policy {
            FailurePolicy::Open => Service::Skipped,
            FailurePolicy::Closed | FailurePolicy::Reload(_) => Service::Refused,
        };
        // Where the worker has refused its configuration no VM is loaded for it again.
        let Some(root) = vm.serving.root else { return otherwise };
        if vm.is_alive() {
            return Service::Plugin { root };
        }
        let FailurePolicy::Reload(backoff) = self.failure_policy else {
            return otherwise;
        };
        if self.elapsed() < vm.loaded_at + backoff {
            return otherwise;
        }
        let serving = vm.serving.clone();
        if self.replace(worker, serving).is_err() {
            return otherwise;
        }
        let root = self.vms[&worker].serving.root;
        root.map_or(otherwise, |root| Service::Plugin { root })
    }

    /// A VM dies now, as if a callback had trapped: those who wait in it wait for ever, and what has
    /// already been forwarded is answered 503 when the upstream answers. Later requests of the worker
    /// are served as the [`FailurePolicy`] says. The number of workers stands for the main thread. A VM
    /// that is dead stays so.
    pub fn kill(&mut self, worker: usize) {
        assert!(worker <= self.workers(), "there is no worker {worker}");
        if let Some(seat) = &self.seat {
            assert_eq!(worker, seat.worker, "a step kills its own worker");
        }
        self.die(worker, "killed by the test".to_owned());
    }

    fn die(&mut self, worker: usize, cause: String) {
        let vm = self.vm(worker);
        if vm.is_alive() {
            vm.death = Some(cause.clone());
            self.deaths.push(Death { worker, cause });
        }
    }

    /// Loads a worker's VM anew.
    pub(crate) fn replace(&mut self, worker: usize, serving: Serving) -> Result<(), String> {
        let VmRef { generation, .. } = self.vms[&worker].data().vm;
        let next = VmRef {
            worker,
            generation: generation + 1,
        };
        let mut loaded = self.load(next, serving, false)?;
        loaded.data_mut().seat = self.seat.clone();
        self.vms.insert(worker, loaded);
        Ok(())
    }

    /// A callout ends: the root context is told, whoever made the callout.
    pub(crate) fn end_callout(&mut self, vm: VmRef, root: u32, token: u32, end: CalloutEnd) {
        if !self.is_rooted(vm, root) {
            return;
        }
        let guest = self.vm(vm.worker).data_mut();
        let (headers, body, trailers) = match end {
            CalloutEnd::Response(mut response) => {
                response.headers = response.headers.into_response();
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
        let period = |envoy: &Self| {
            let context = envoy.vms[&vm.worker].data().roots.get(&root)?;
            (context.tick_setting == setting).then_some(context.tick_period)
        };
        if !self.is_running(vm) || period(self).is_none() {
            return;
        }
        if self.notify(vm, root, "proxy_on_tick", root).is_err() {
            return;
        }
        if let Some(period) = period(self) {
            self.node.lock().plan(period, Event::Tick { vm, root, setting });
        }
    }

    pub(crate) fn queue_ready(&mut self, vm: VmRef, root: u32, queue: u32) {
        if self.is_rooted(vm, root) {
            let _told = self.notify(vm, root, "proxy_on_queue_ready", (root, queue));
        }
    }

    /// Asks the plugin about a piece of a stream.
    pub(crate) fn ask<P: WasmParams>(
        &mut self,
        id: StreamId,
        side: Side,
        name: &'static str,
        arguments: impl FnOnce(u32) -> P,
    ) -> Verdict {
        let context = self.node.lock().stream(id).context;
        let Some((vm, context)) = context else {
            return Verdict::Continue;
        };
        self.node.lock().stream(id).half(side).resumed = false;
        let answer = self.callback::<P, u32>(vm, context, name, arguments(context));
        let Ok(answer) = answer else {
            self.fail(id);
            return Verdict::Over;
        };
        if self.node.lock().stream(id).half(side).closed {
            return Verdict::Over;
        }
        let has_replied = self.vm(vm.worker).data().has_replied;
        let mut node = self.node.lock();
        let resumed = std::mem::take(&mut node.stream(id).half(side).resumed);
        drop(node);
        if has_replied {
            Verdict::Stop
        } else if answer == Some(PAUSE) && !resumed {
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
        name: &'static str,
        arguments: P,
    ) -> Result<(), Died> {
        self.callback::<P, ()>(vm, context, name, arguments).map(|_| ())
    }

    /// Runs a callback, then what its hostcalls have put off until the guest has returned.
    pub(crate) fn callback<P: WasmParams, R: WasmResults>(
        &mut self,
        vm: VmRef,
        context: u32,
        name: &'static str,
        arguments: P,
    ) -> Result<Option<R>, Died> {
        if !self.is_running(vm) {
            return Err(Died);
        }
        let answer = self.vm(vm.worker).callback::<P, R>(context, name, arguments);
        let has_replied = self.vm(vm.worker).data().has_replied;
        self.after_call(vm.worker);
        // What was put off may have called the guest again.
        self.vm(vm.worker).data_mut().has_replied = has_replied;
        answer
    }

    /// The guest of a worker has returned: notices its death, and does what it has put off.
    pub(crate) fn after_call(&mut self, worker: usize) {
        let running = self.vm(worker);
        let deferred = std::mem::take(&mut running.data_mut().deferred);
        if let Some(cause) = running.death.clone() {
            self.deaths.push(Death { worker, cause });
        }
        for (done, action) in deferred.into_iter().enumerate() {
            if done == MOST_PUT_OFF {
                self.die(worker, "Maximum call stack size exceeded".to_owned());
                return;
            }
            match action {
                Deferred::Continue(stream, side) => self.resume(stream, side),
                Deferred::LocalResponse(stream, response) => self.reply_locally(stream, response),
                Deferred::Reset(stream) => self.cut_off(stream),
            }
        }
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

    /// Whether a root context is still there to be told something.
    pub(crate) fn is_rooted(&self, vm: VmRef, root: u32) -> bool {
        self.is_running(vm) && self.vms[&vm.worker].data().roots.contains_key(&root)
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
