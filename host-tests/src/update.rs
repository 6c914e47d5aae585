//! Updates of the plugin's configuration while the world goes on.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::builder::StartError;
use crate::envoy::{Death, TinyEnvoy};
use crate::log::Level;
use crate::node::Event;
use crate::stream::StreamId;
use crate::worker::Serving;

/// What an access log says of a stream whose connection was closed at the end of a drain.
const CLOSED_BY_DRAIN: &str = "downstream_local_disconnect(filter_chain_is_being_removed)";

impl TinyEnvoy {
    /// Gives the plugin another configuration, as Envoy does when a listener is updated whose plugin
    /// keeps its `vm_id`, VM configuration and code.
    ///
    /// A canary tries it first. Then every worker and the main thread make a root context for it in the
    /// VM that they have, and serve new streams with that. Streams that are there stay with the old root
    /// context, which keeps its ticks, queues and callouts until it is drained: after
    /// [`Builder::drain_time`](crate::Builder::drain_time), or by [`Self::drained`]. Shared data, queues
    /// and metrics belong to the node and stay. A worker whose VM is dead loads a new one.
    ///
    /// As in Envoy a configuration that is still being drained is taken up again where it was left, and
    /// one that a canary has tried before is not tried again. A worker that refuses what the canary took
    /// serves nobody until the next update.
    ///
    /// # Errors
    /// The canary refuses the configuration or dies of it. Everything is as before.
    pub fn update(&mut self, config: impl Into<Vec<u8>>) -> Result<(), StartError> {
        let (number, config) = self.propose(config.into())?;
        // The main thread does it first, as at the start.
        for worker in std::iter::once(self.workers).chain(0..self.workers) {
            self.adopt(worker, number, Arc::clone(&config));
        }
        Ok(())
    }

    /// Like [`Self::update`], but each worker takes the new configuration over when it gets to it: for
    /// each of them that is due now, and happens when the world [settles](Self::settle) or time passes.
    ///
    /// # Errors
    /// As those of [`Self::update`].
    pub fn update_later(&mut self, config: impl Into<Vec<u8>>) -> Result<(), StartError> {
        let (number, config) = self.propose(config.into())?;
        let mut node = self.node.lock();
        for worker in 0..=self.workers {
            let config = Arc::clone(&config);
            node.plan(Duration::ZERO, Event::Adoption { worker, number, config });
        }
        Ok(())
    }

    /// Ends all drains at once: connections of old configurations that are still open are closed, and
    /// root contexts that nobody needs any more are done and deleted.
    pub fn drained(&mut self) {
        for (worker, newest) in self.newest() {
            self.drain(worker, 0..newest);
        }
    }

    /// The number of the configuration that each worker serves new streams with.
    fn newest(&self) -> Vec<(usize, u64)> {
        let vms = self.vms.iter();
        vms.map(|(worker, vm)| (*worker, vm.serving.number)).collect()
    }

    fn propose(&mut self, config: Vec<u8>) -> Result<(u64, Arc<[u8]>), StartError> {
        assert!(self.seat.is_none(), "a world is updated as a whole");
        let config: Arc<[u8]> = config.into();
        let serving = Serving {
            number: self.configurations,
            config: Arc::clone(&config),
            root: None,
        };
        self.try_out(&serving)?;
        self.configurations += 1;
        Ok((serving.number, config))
    }

    /// A worker serves a configuration from now on.
    pub(crate) fn adopt(&mut self, worker: usize, number: u64, config: Arc<[u8]>) {
        let vm = self.vm(worker);
        let old = vm.serving.number;
        let known = vm.data().roots.iter().find(|(_, root)| {
            let is_used = !root.holders.is_empty();
            is_used && root.config == config
        });
        let root = known.map(|(id, _)| *id);
        let serving = Serving { number, config, root };
        if !vm.is_alive() {
            let serving = Serving { root: None, ..serving };
            self.vm(worker).serving = serving.clone();
            if let Err(cause) = self.replace(worker, serving) {
                self.deaths.push(Death { worker, cause });
            }
        } else if let Some(root) = root {
            vm.serving = serving;
            let context = vm.data_mut().roots.get_mut(&root).expect("found above");
            context.holders.insert(number);
        } else {
            vm.serving = serving;
            if let Err(reason) = vm.configure() {
                let text = format!("the worker refuses what the canary took: {reason}");
                vm.data().log(Level::Critical, text.as_bytes());
            }
            self.after_call(worker);
        }
        let mut node = self.node.lock();
        let time = node.options.drain_time;
        node.plan(time, Event::Drained { worker, number: old });
    }

    /// What a worker still has of old configurations ends.
    pub(crate) fn drain(&mut self, worker: usize, numbers: Range<u64>) {
        for id in self.open_under(worker, &numbers) {
            {
                let mut node = self.node.lock();
                let stream = node.stream(id);
                stream.gone = true;
                stream.details = Some(CLOSED_BY_DRAIN.to_owned());
            }
            self.finish(id);
        }
        let guest = self.vm(worker).data_mut();
        let vm = guest.vm;
        let mut idle = Vec::new();
        for (root, context) in &mut guest.roots {
            let held = context.holders.len();
            context.holders.retain(|number| !numbers.contains(number));
            if held > 0 && context.holders.is_empty() {
                idle.push(*root);
            }
        }
        for root in idle {
            let done = self.callback::<u32, u32>(vm, root, "proxy_on_done", root);
            if let Ok(answer) = done {
                assert_ne!(
                    answer,
                    Some(0),
                    "not modelled by the tiny Envoy: a root context that is not done when it is asked to be"
                );
                let _deleted = self.notify(vm, root, "proxy_on_delete", root);
            }
            let guest = self.vm(worker).data_mut();
            guest.roots.remove(&root);
            guest.declarations.remove(&root);
        }
    }

    /// The streams of a worker that began under these configurations and are not over.
    fn open_under(&self, worker: usize, numbers: &Range<u64>) -> Vec<StreamId> {
        let node = self.node.lock();
        let open = node.streams.iter().filter(|(_, stream)| {
            stream.worker == worker && numbers.contains(&stream.configuration) && !stream.finished
        });
        open.map(|(id, _)| *id).collect()
    }
}
