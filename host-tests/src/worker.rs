//! Workers: threads of Envoy, each with a VM of its own.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use wasmtime::{Func, Instance, Memory, Store, TypedFunc, WasmParams, WasmResults};

use crate::abi::Unmodelled;
use crate::cluster::PeerResponse;
use crate::exclusive::Exclusive;
use crate::filter_state::Declarations;
use crate::interleave::{Op, Seat};
use crate::log::{Level, LogLine};
use crate::metrics::MetricIds;
use crate::module::Plugin;
use crate::node::Node;
use crate::stream::{Side, StreamId};

/// Names a VM: the worker, and how often that worker has loaded one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct VmRef {
    pub(crate) worker: usize,
    pub(crate) generation: u32,
}

/// What a hostcall asks for, done when the guest has returned.
#[derive(Debug)]
pub(crate) enum Deferred {
    Continue(StreamId, Side),
    LocalResponse(StreamId, LocalResponse),
    Reset(StreamId),
}

/// The arguments of a local response.
#[derive(Debug, Clone)]
pub(crate) struct LocalResponse {
    pub(crate) status: u32,
    pub(crate) details: String,
    pub(crate) body: Vec<u8>,
    pub(crate) headers: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) grpc_status: Option<u32>,
}

/// The host's side of a VM.
pub(crate) struct Guest {
    pub(crate) node: Exclusive<Node>,
    pub(crate) vm: VmRef,
    /// Its place among workers that run interleaved.
    pub(crate) seat: Option<Seat>,
    pub(crate) is_canary: bool,
    /// The root contexts: one for each configuration that is in use.
    pub(crate) roots: BTreeMap<u32, Root>,
    /// The context whose callback runs.
    pub(crate) current: u32,
    /// The context that hostcalls are about, if it is not the current one.
    pub(crate) effective: Option<u32>,
    /// The plugin has answered a stream in this call. Whatever it returns then holds what it was asked
    /// about, be that another stream.
    pub(crate) has_replied: bool,
    /// The contexts of streams, each with the root context that it belongs to.
    pub(crate) contexts: HashMap<u32, (StreamId, u32)>,
    pub(crate) last_context: u32,
    pub(crate) deferred: Vec<Deferred>,
    /// The configuration that is being given.
    pub(crate) configuring: Option<Arc<[u8]>>,
    pub(crate) callout_response: Option<PeerResponse>,
    pub(crate) callout_status: (u32, &'static str),
    pub(crate) callouts_made: u32,
    pub(crate) tick_settings: u64,
    /// The properties that contexts have declared. Those of the root context hold for its streams.
    pub(crate) declarations: HashMap<u32, Declarations>,
    pub(crate) metrics: MetricIds,
    pub(crate) random_state: u64,
    pub(crate) memory: Option<Memory>,
    pub(crate) allocate: Option<TypedFunc<u32, u32>>,
}

impl Guest {
    /// The context that a hostcall is about.
    pub(crate) fn effective_context(&self) -> u32 {
        self.effective.unwrap_or(self.current)
    }

    /// The stream that a hostcall is about, if it is about one.
    pub(crate) fn effective_stream(&self) -> Option<StreamId> {
        self.contexts.get(&self.effective_context()).map(|(stream, _)| *stream)
    }

    /// The root context that a hostcall is about.
    pub(crate) fn effective_root(&self) -> u32 {
        let context = self.effective_context();
        self.contexts.get(&context).map_or(context, |(_, root)| *root)
    }

    /// Where workers run interleaved, others may act before this. Nothing of the node is held.
    pub(crate) fn point(&self, op: impl FnOnce() -> Op) {
        if let Some(seat) = &self.seat {
            seat.point(op());
        }
    }

    pub(crate) fn count(&self, name: &'static str) {
        let stream = self.contexts.get(&self.current);
        let mut node = self.node.lock();
        node.hostcalls.count(name);
        if let Some((stream, _)) = stream {
            node.stream(*stream).hostcalls.count(name);
        }
    }

    pub(crate) fn log(&self, level: Level, message: &[u8]) {
        let message = String::from_utf8_lossy(message).into_owned();
        let worker = self.vm.worker;
        self.node.lock().logs.push(LogLine { worker, level, message });
    }
}

/// A root context: the plugin under one configuration.
#[derive(Debug)]
pub(crate) struct Root {
    pub(crate) config: Arc<[u8]>,
    /// The configurations, by number, that it serves: it lasts until all of them are drained.
    pub(crate) holders: BTreeSet<u64>,
    pub(crate) tick_period: Duration,
    pub(crate) tick_setting: u64,
}

/// What a worker serves new streams with.
#[derive(Debug, Clone)]
pub(crate) struct Serving {
    /// How many configurations the world had before.
    pub(crate) number: u64,
    pub(crate) config: Arc<[u8]>,
    /// The root context; none where the worker has refused what the canary took.
    pub(crate) root: Option<u32>,
}

/// A running guest.
pub(crate) struct Vm {
    store: Store<Guest>,
    instance: Instance,
    /// The exports that have been looked for, `None` where there is none of that name.
    functions: HashMap<&'static str, Option<Func>>,
    pub(crate) loaded_at: Duration,
    pub(crate) serving: Serving,
    /// Why the VM died, if it did.
    pub(crate) death: Option<String>,
}

impl fmt::Debug for Vm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vm")
            .field("vm", &self.store.data().vm)
            .field("death", &self.death)
            .finish_non_exhaustive()
    }
}

/// The VM died during a call.
#[derive(Debug)]
pub(crate) struct Died;

impl Vm {
    /// Instantiates the guest and runs its initialiser. It is to serve a configuration.
    pub(crate) fn load(
        plugin: &Plugin,
        node: &Exclusive<Node>,
        vm: VmRef,
        serving: Serving,
        is_canary: bool,
        seat: Option<Seat>,
    ) -> Result<Self, String> {
        let (seed, fuel_per_call, loaded_at) = {
            let node = node.lock();
            (node.options.seed, node.options.fuel_per_call, node.clock.elapsed())
        };
        let distinct = (vm.worker as u64) << 32 | u64::from(vm.generation) << 1;
        let guest = Guest {
            node: node.clone(),
            vm,
            seat,
            is_canary,
            roots: BTreeMap::new(),
            current: 0,
            effective: None,
            has_replied: false,
            contexts: HashMap::new(),
            last_context: 0,
            deferred: Vec::new(),
            configuring: None,
            callout_response: None,
            callout_status: (0, ""),
            callouts_made: 0,
            tick_settings: 0,
            declarations: HashMap::new(),
            metrics: MetricIds::default(),
            random_state: seed ^ distinct ^ u64::from(is_canary),
            memory: None,
            allocate: None,
        };
        let mut store = Store::new(plugin.module.engine(), guest);
        store.set_fuel(fuel_per_call).expect("the engine counts fuel");
        let restricted = node.lock().options.restricted.clone();
        if let Some(name) = restricted
            .iter()
            .find(|name| plugin.linker.get(&mut store, "env", name).is_err())
        {
            return Err(format!("`{name}` is restricted but is no hostcall"));
        }
        // The message of a missing import names it.
        let resolved = plugin.resolved.as_ref().map_err(ToString::to_string)?;
        let instance = resolved.instantiate(&mut store).map_err(|e| format!("{e:#}"))?;
        let memory = instance.get_memory(&mut store, "memory").ok_or("no export `memory`")?;
        store.data_mut().memory = Some(memory);
        let allocate = ["proxy_on_memory_allocate", "malloc"]
            .iter()
            .find_map(|name| instance.get_typed_func::<u32, u32>(&mut store, name).ok());
        store.data_mut().allocate = Some(allocate.ok_or("no export `proxy_on_memory_allocate`")?);
        let mut vm = Self {
            store,
            instance,
            functions: HashMap::new(),
            loaded_at,
            serving,
            death: None,
        };
        for name in ["_initialize", "_start"] {
            if let Some(function) = vm.function(name) {
                vm.call::<(), ()>(0, name, &function, ()).map_err(|Died| vm.cause())?;
                break;
            }
        }
        Ok(vm)
    }

    /// Makes a root context for the configuration that is to be served, starts the VM for it and
    /// configures the plugin. What its hostcalls have put off is still to be done.
    pub(crate) fn configure(&mut self) -> Result<(), String> {
        let Serving { number, config, .. } = self.serving.clone();
        let vm_size = size(&self.data().node.lock().options.vm_configuration);
        let plugin_size = size(&config);
        let guest = self.data_mut();
        guest.last_context += 1;
        let root = guest.last_context;
        guest.roots.insert(
            root,
            Root {
                config: Arc::clone(&config),
                holders: BTreeSet::from([number]),
                tick_period: Duration::ZERO,
                tick_setting: 0,
            },
        );
        self.callback::<(u32, u32), ()>(root, "proxy_on_context_create", (root, 0))
            .map_err(|Died| self.cause())?;
        for (name, size) in [("proxy_on_vm_start", vm_size), ("proxy_on_configure", plugin_size)] {
            // The plugin configuration is there in `on_configure` only.
            self.data_mut().configuring = (name == "proxy_on_configure").then(|| Arc::clone(&config));
            let accepted = self.callback::<(u32, u32), u32>(root, name, (root, size));
            self.data_mut().configuring = None;
            if accepted.map_err(|Died| self.cause())? == Some(0) {
                return Err(format!("{name} returned false"));
            }
        }
        self.serving.root = Some(root);
        Ok(())
    }

    pub(crate) fn data(&self) -> &Guest {
        self.store.data()
    }

    pub(crate) fn data_mut(&mut self) -> &mut Guest {
        self.store.data_mut()
    }

    /// The whole linear memory.
    pub(crate) fn memory(&self) -> &[u8] {
        let memory = self.data().memory.expect("a loaded guest has a memory");
        memory.data(&self.store)
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.death.is_none()
    }

    /// Calls an exported callback on behalf of `context`. `None` when the guest does not export it.
    pub(crate) fn callback<P: WasmParams, R: WasmResults>(
        &mut self,
        context: u32,
        name: &'static str,
        arguments: P,
    ) -> Result<Option<R>, Died> {
        if self.death.is_some() {
            return Err(Died);
        }
        let Some(function) = self.function(name) else {
            return Ok(None);
        };
        self.call(context, name, &function, arguments).map(Some)
    }

    fn call<P: WasmParams, R: WasmResults>(
        &mut self,
        context: u32,
        name: &str,
        function: &Func,
        arguments: P,
    ) -> Result<R, Died> {
        let guest = self.store.data_mut();
        guest.current = context;
        guest.effective = None;
        guest.has_replied = false;
        let fuel = guest.node.lock().options.fuel_per_call;
        self.store.set_fuel(fuel).expect("the engine counts fuel");
        let result = function
            .typed::<P, R>(&self.store)
            .and_then(|function| function.call(&mut self.store, arguments));
        let left = self.store.get_fuel().expect("the engine counts fuel");
        let guest = self.store.data();
        if let Some((stream, _)) = guest.contexts.get(&context) {
            guest.node.lock().stream(*stream).fuel += fuel - left;
        }
        result.map_err(|error| {
            if let Some(unmodelled) = error.downcast_ref::<Unmodelled>() {
                panic!("{unmodelled}; called from {name}");
            }
            let cause = format!("{name}: {error:#}");
            self.store
                .data()
                .log(Level::Critical, format!("VM died in {cause}").as_bytes());
            self.store.data_mut().deferred.clear();
            self.death = Some(cause);
            Died
        })
    }

    fn function(&mut self, name: &'static str) -> Option<Func> {
        let Self { store, instance, .. } = self;
        let look = || instance.get_func(store, name);
        *self.functions.entry(name).or_insert_with(look)
    }

    fn cause(&self) -> String {
        self.death.clone().unwrap_or_else(|| "the VM died".to_owned())
    }
}

fn size(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("configurations are small")
}
