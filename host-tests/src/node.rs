//! One Envoy process: everything that its workers share.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::abi::Status;
use crate::clock::{Agenda, Clock};
use crate::cluster::{Callout, Cluster, PeerResponse};
use crate::exclusive::Exclusive;
use crate::headers::HeaderMap;
use crate::log::{Level, LogLine};
use crate::metrics::Stats;
use crate::shared::{Queues, SharedData};
use crate::stream::{Stream, StreamId};
use crate::tally::Tally;
use crate::worker::VmRef;

/// From the argument of a foreign function to its result or a status.
pub(crate) type Function = dyn Fn(&[u8]) -> Result<Vec<u8>, Status> + Send + Sync;

/// A foreign function.
#[derive(Clone)]
pub(crate) enum Foreign {
    /// One that needs to know nothing but its argument.
    Plain(Arc<Function>),
    /// `declare_property`, which acts on the context that calls it.
    DeclareProperty,
}

/// What happens in a world by itself.
#[derive(Debug)]
pub(crate) enum Event {
    /// A callout ends.
    Callout {
        vm: VmRef,
        root: u32,
        token: u32,
        end: CalloutEnd,
    },
    /// A root context's timer fires, unless it was set anew since.
    Tick { vm: VmRef, root: u32, setting: u64 },
    /// A shared queue got an entry.
    Queue { vm: VmRef, root: u32, queue: u32 },
    /// The upstream answers a request.
    Upstream {
        stream: StreamId,
        response: PeerResponse,
        ending: Ending,
    },
    /// The upstream could not be reached.
    UpstreamUnreachable { stream: StreamId },
    /// A worker takes over a configuration that the canary has taken.
    Adoption {
        worker: usize,
        number: u64,
        config: Arc<[u8]>,
    },
    /// The time is over that streams of an old configuration have to end.
    Drained { worker: usize, number: u64 },
}

impl Event {
    /// The worker that it happens to.
    pub(crate) fn worker(&self, streams: &BTreeMap<StreamId, Stream>) -> usize {
        match self {
            Self::Callout { vm, .. } | Self::Tick { vm, .. } | Self::Queue { vm, .. } => vm.worker,
            Self::Adoption { worker, .. } | Self::Drained { worker, .. } => *worker,
            Self::Upstream { stream, .. } | Self::UpstreamUnreachable { stream } => streams[stream].worker,
        }
    }
}

/// What follows the part of a response that has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Nothing: this is all of it.
    Complete,
    /// The connection breaks.
    Reset,
    /// More may come.
    Open,
}

/// How a callout ends.
#[derive(Debug)]
pub(crate) enum CalloutEnd {
    /// With a response, which may be one that Envoy made.
    Response(PeerResponse),
    /// With a reset.
    Reset,
}

/// What a builder fixes for the life of a world.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) vm_id: Vec<u8>,
    pub(crate) plugin_name: Vec<u8>,
    pub(crate) root_id: Vec<u8>,
    pub(crate) vm_configuration: Vec<u8>,
    /// The first configuration.
    pub(crate) plugin_configuration: Vec<u8>,
    /// How long streams of an old configuration may last.
    pub(crate) drain_time: Duration,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) log_level: Level,
    pub(crate) seed: u64,
    pub(crate) allow_on_headers_stop_iteration: bool,
    pub(crate) buffer_limit: usize,
    /// The longest body that a buffer filter behind the plugin takes, if there is one.
    pub(crate) buffer_filter: Option<usize>,
    pub(crate) fuel_per_call: u64,
    /// How often the router follows a redirect instead of passing it on.
    pub(crate) internal_redirects: u32,
    /// Hostcalls that are refused, by name.
    pub(crate) restricted: BTreeSet<String>,
}

/// Everything that the workers of one Envoy process share.
pub(crate) struct Node {
    pub(crate) options: Options,
    pub(crate) clock: Clock,
    pub(crate) agenda: Agenda<Event>,
    pub(crate) shared_data: SharedData,
    pub(crate) queues: Queues,
    pub(crate) stats: Stats,
    pub(crate) logs: Vec<LogLine>,
    pub(crate) clusters: HashMap<Vec<u8>, Exclusive<dyn Cluster>>,
    pub(crate) upstream: Exclusive<dyn Cluster>,
    pub(crate) foreign: HashMap<Vec<u8>, Foreign>,
    /// Properties by path, its parts joined by NUL.
    pub(crate) properties: HashMap<Vec<u8>, Vec<u8>>,
    pub(crate) streams: BTreeMap<StreamId, Stream>,
    pub(crate) callouts: Vec<Callout>,
    pub(crate) hostcalls: Tally,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("elapsed", &self.clock.elapsed())
            .field("streams", &self.streams)
            .finish_non_exhaustive()
    }
}

impl Node {
    /// Plans something for `delay` from now.
    pub(crate) fn plan(&mut self, delay: Duration, event: Event) {
        let at = self.clock.elapsed() + delay;
        let worker = event.worker(&self.streams);
        self.agenda.plan(at, worker, event);
    }

    pub(crate) fn stream(&mut self, id: StreamId) -> &mut Stream {
        let stream = self.streams.get_mut(&id);
        stream.unwrap_or_else(|| panic!("{id:?} is none of this world, or was forgotten"))
    }
}

/// The response that Envoy makes of a failure.
pub(crate) fn made_by_envoy(status: u16, body: &str) -> PeerResponse {
    let headers: HeaderMap = [
        (":status", status.to_string()),
        ("content-length", body.len().to_string()),
        ("content-type", "text/plain".to_owned()),
    ]
    .into_iter()
    .collect();
    PeerResponse {
        headers,
        body: body.as_bytes().to_vec(),
        trailers: HeaderMap::new(),
    }
}
