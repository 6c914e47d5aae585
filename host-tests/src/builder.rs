//! Building a world.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::TinyEnvoy;
use crate::abi::Status;
use crate::clock::{Agenda, Clock};
use crate::cluster::{Answer, Cluster, PeerRequest};
use crate::exclusive::Exclusive;
use crate::log::{Level, LogLine};
use crate::metadata::route_metadata;
use crate::metrics::Stats;
use crate::module::Plugin;
use crate::node::{Foreign, Node, Options};
use crate::shared::{Queues, SharedData};
use crate::signature;
use crate::tally::Tally;

/// What happens to a worker whose VM has died.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FailurePolicy {
    /// Every later request on that worker is answered 503.
    #[default]
    Closed,
    /// The next request loads the VM anew, unless it was loaded less than this long ago.
    Reload(Duration),
    /// Later requests on that worker are forwarded without the plugin. The one in whose callback the VM
    /// died is answered 503 all the same.
    Open,
}

/// Why a world did not start.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct StartError {
    /// What went wrong: a missing import, a trap, or a callback that returned false.
    pub reason: String,
    /// What the plugin had logged until then.
    pub logs: Vec<LogLine>,
}

/// Describes a world before it starts. See [`TinyEnvoy::builder`].
pub struct Builder {
    options: Options,
    plugin: Option<Result<Plugin, String>>,
    workers: usize,
    failure_policy: FailurePolicy,
    clusters: HashMap<Vec<u8>, Exclusive<dyn Cluster>>,
    upstream: Exclusive<dyn Cluster>,
    foreign: HashMap<Vec<u8>, Foreign>,
    properties: HashMap<Vec<u8>, Vec<u8>>,
    rejected_stats: Vec<String>,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("options", &self.options)
            .field("workers", &self.workers)
            .field("failure_policy", &self.failure_policy)
            .finish_non_exhaustive()
    }
}

impl Default for Builder {
    fn default() -> Self {
        let mut foreign: HashMap<Vec<u8>, Foreign> = HashMap::new();
        foreign.insert(
            b"clear_route_cache".to_vec(),
            Foreign::Plain(Arc::new(|_| Ok(Vec::new()))),
        );
        foreign.insert(b"declare_property".to_vec(), Foreign::DeclareProperty);
        let verify_signature = Foreign::Plain(Arc::new(signature::verify_signature));
        foreign.insert(b"verify_signature".to_vec(), verify_signature);
        Self {
            options: Options {
                vm_id: b"tiny".to_vec(),
                plugin_name: b"tiny".to_vec(),
                root_id: Vec::new(),
                vm_configuration: Vec::new(),
                plugin_configuration: Vec::new(),
                drain_time: Duration::from_secs(600),
                environment: Vec::new(),
                log_level: Level::Trace,
                seed: 0,
                allow_on_headers_stop_iteration: false,
                buffer_limit: 1024 * 1024,
                buffer_filter: None,
                fuel_per_call: 20_000_000_000,
                internal_redirects: 0,
                restricted: BTreeSet::new(),
            },
            plugin: None,
            workers: 1,
            failure_policy: FailurePolicy::default(),
            clusters: HashMap::new(),
            upstream: Exclusive(Arc::new(Mutex::new(|_: &PeerRequest| Answer::status(200)))),
            foreign,
            properties: HashMap::new(),
            rejected_stats: Vec::new(),
        }
    }
}

impl Builder {
    /// The plugin, from a `.wasm` file. Worlds of the same plugin best share it by [`Self::plugin`].
    #[must_use]
    pub fn wasm(mut self, path: impl AsRef<std::path::Path>) -> Self {
        self.plugin = Some(Plugin::load(path));
        self
    }

    /// The plugin, already compiled.
    #[must_use]
    pub fn plugin(mut self, plugin: &Plugin) -> Self {
        self.plugin = Some(Ok(plugin.clone()));
        self
    }

    /// The plugin configuration, as text.
    #[must_use]
    pub fn config(mut self, text: impl Into<Vec<u8>>) -> Self {
        self.options.plugin_configuration = text.into();
        self
    }

    /// How long streams of an old configuration may last after [`TinyEnvoy::update`], as
    /// `--drain-time-s` says it; ten minutes unless set.
    #[must_use]
    pub fn drain_time(mut self, time: Duration) -> Self {
        self.options.drain_time = time;
        self
    }

    /// The `vm_id`, `tiny` unless set: who knows it can resolve queues by it.
    #[must_use]
    pub fn vm_id(mut self, text: impl Into<Vec<u8>>) -> Self {
        self.options.vm_id = text.into();
        self
    }

    /// The VM configuration, as text.
    #[must_use]
    pub fn vm_config(mut self, text: impl Into<Vec<u8>>) -> Self {
        self.options.vm_configuration = text.into();
        self
    }

    /// An environment variable of the VMs.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.options.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A cluster for callouts.
    #[must_use]
    pub fn cluster(mut self, name: &str, cluster: impl Cluster + 'static) -> Self {
        self.clusters
            .insert(name.as_bytes().to_vec(), Exclusive(Arc::new(Mutex::new(cluster))));
        self
    }

    /// What answers forwarded requests; 200 without a body unless set.
    #[must_use]
    pub fn upstream(mut self, upstream: impl Cluster + 'static) -> Self {
        self.upstream = Exclusive(Arc::new(Mutex::new(upstream)));
        self
    }

    /// The number of workers, 1 unless set. The main thread comes on top.
    #[must_use]
    pub fn workers(mut self, count: usize) -> Self {
        assert!(count > 0, "Envoy has at least one worker");
        self.workers = count;
        self
    }

    /// What happens to a worker whose VM has died.
    #[must_use]
    pub fn failure_policy(mut self, policy: FailurePolicy) -> Self {
        self.failure_policy = policy;
        self
    }

    /// Whether a pause on headers holds only the headers, so that body and trailers are shown to
    /// the plugin and may carry the request on. Off unless set: a pause holds everything.
    #[must_use]
    pub fn allow_on_headers_stop_iteration(mut self, allowed: bool) -> Self {
        self.options.allow_on_headers_stop_iteration = allowed;
        self
    }

    /// Takes a hostcall away, as a `capability_restriction_config` does that does not list it: it
    /// does nothing but log, and says 10 ([`Status::InternalFailure`]). `name` is that of the ABI,
    /// `proxy_send_local_response` for one.
    #[must_use]
    pub fn restrict_capability(mut self, name: &str) -> Self {
        self.options.restricted.insert(name.to_owned());
        self
    }

    /// The most bytes of body that a pause on body buffers before Envoy answers 413; 1 MiB.
    #[must_use]
    pub fn buffer_limit(mut self, bytes: usize) -> Self {
        self.options.buffer_limit = bytes;
        self
    }

    /// A `buffer` filter stands behind the plugin: nothing of a request reaches the upstream before
    /// the request has ended, and one whose body is longer than this many bytes is answered 413.
    #[must_use]
    pub fn buffer_filter(mut self, max_request_bytes: usize) -> Self {
        self.options.buffer_filter = Some(max_request_bytes);
        self
    }

    /// How often the router follows a 302 with an absolute `location` of the same scheme instead of
    /// passing it on, as an `internal_redirect_policy` says it; 0 unless set. The request then comes as
    /// a stream of its own, [`TinyEnvoy::redirected`]: with the headers and the body that reached the
    /// upstream, without trailers, with another `:authority` and `:path`, with `x-envoy-original-url`,
    /// and with the filter state that was declared to last for the request.
    #[must_use]
    pub fn internal_redirects(mut self, most: u32) -> Self {
        self.options.internal_redirects = most;
        self
    }

    /// Takes the stats away whose names begin like this, as a `stats_matcher` does that rejects
    /// them: they can be defined and changed, plugins read 0, and they are not among the metrics.
    #[must_use]
    pub fn reject_stats(mut self, prefix: &str) -> Self {
        self.rejected_stats.push(prefix.to_owned());
        self
    }

    /// The most Wasm instructions that one callback may take before its VM dies, as wasmtime counts
    /// fuel; unless set, more than any callback needs that ends at all.
    #[must_use]
    pub fn fuel_per_call(mut self, fuel: u64) -> Self {
        self.options.fuel_per_call = fuel;
        self
    }

    /// What `proxy_get_log_level` says. Lines of every level are captured whatever it is.
    #[must_use]
    pub fn log_level(mut self, level: Level) -> Self {
        self.options.log_level = level;
        self
    }

    /// The seed of all randomness.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.options.seed = seed;
        self
    }

    /// A property that every stream has. Outranks what Envoy would say by itself.
    #[must_use]
    pub fn property(mut self, path: &[&str], value: impl Into<Vec<u8>>) -> Self {
        self.properties.insert(path.join("\0").into_bytes(), value.into());
        self
    }

    /// The metadata of the route that every stream takes, by namespace; see
    /// [`RequestBuilder::route_metadata`](crate::RequestBuilder::route_metadata).
    #[must_use]
    pub fn route_metadata(mut self, filter_metadata: &serde_json::Value) -> Self {
        self.properties.extend(route_metadata(filter_metadata));
        self
    }

    /// A foreign function. `clear_route_cache`, `declare_property` and `verify_signature` exist by
    /// themselves, others are not found.
    #[must_use]
    pub fn foreign_function(
        mut self,
        name: &str,
        function: impl Fn(&[u8]) -> Result<Vec<u8>, Status> + Send + Sync + 'static,
    ) -> Self {
        self.foreign
            .insert(name.as_bytes().to_vec(), Foreign::Plain(Arc::new(function)));
        self
    }

    /// Takes a foreign function away, as on a host that does not have it: it is not found.
    #[must_use]
    pub fn without_foreign_function(mut self, name: &str) -> Self {
        self.foreign.remove(name.as_bytes());
        self
    }

    /// Starts the world: a canary tries the configuration, then the main thread and every worker
    /// load the plugin.
    ///
    /// # Errors
    /// The module cannot be compiled, imports what does not exist, dies, or refuses; or a restricted
    /// capability is none.
    pub fn start(self) -> Result<TinyEnvoy, StartError> {
        let plugin = self
            .plugin
            .unwrap_or_else(|| Err("no plugin was given".to_owned()))
            .map_err(|reason| StartError {
                reason,
                logs: Vec::new(),
            })?;
        let node = Node {
            options: self.options,
            clock: Clock::default(),
            agenda: Agenda::default(),
            shared_data: SharedData::default(),
            queues: Queues::default(),
            stats: Stats::rejecting(self.rejected_stats),
            logs: Vec::new(),
            clusters: self.clusters,
            upstream: self.upstream,
            foreign: self.foreign,
            properties: self.properties,
            streams: BTreeMap::new(),
            callouts: Vec::new(),
            hostcalls: Tally::default(),
        };
        TinyEnvoy::start(plugin, node, self.workers, self.failure_policy)
    }
}
