//! The world as a test sees it: requests in, time, and everything there is to look at.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::builder::{Builder, FailurePolicy, StartError};
use crate::cluster::{Callout, PeerRequest, PeerResponse};
use crate::exclusive::Exclusive;
use crate::headers::HeaderMap;
use crate::interleave::{Access, Crew, Op, Place, Seat};
use crate::log::LogLine;
use crate::module::Plugin;
use crate::node::{Event, Node};
use crate::request::RequestBuilder;
use crate::shared::SharedEntry;
use crate::stream::{Cut, Outcome, Side, Stream, StreamId};
use crate::worker::{Serving, Vm, VmRef};

/// More events than a world has reason for without time passing.
const MOST_EVENTS_AT_ONCE: u32 = 1_000_000;

/// The longest that [`RequestBuilder::run`] waits, in virtual time.
const LONGEST_DECISION: Duration = Duration::from_secs(60);

/// A VM that died.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Death {
    /// The worker; the number of workers for the main thread.
    pub worker: usize,
    /// The callback and what went wrong in it.
    pub cause: String,
}

/// One Envoy process with a Proxy-Wasm plugin.
#[derive(Debug)]
pub struct TinyEnvoy {
    pub(crate) node: Exclusive<Node>,
    /// The VMs of the workers, and of the main thread, whose number is that of the workers. While
    /// workers run interleaved each has its own VM only.
    pub(crate) vms: BTreeMap<usize, Vm>,
    pub(crate) workers: usize,
    /// The place among workers that run interleaved, of the part of a world that is one of them.
    pub(crate) seat: Option<Seat>,
    pub(crate) failure_policy: FailurePolicy,
    pub(crate) deaths: Vec<Death>,
    /// Threads for workers that run interleaved.
    pub(crate) crew: Crew,
    /// What the canary has said to each configuration.
    pub(crate) verdicts: HashMap<Arc<[u8]>, Result<(), String>>,
    /// How many configurations there have been.
    pub(crate) configurations: u64,
    pub(crate) plugin: Plugin,
    pub(crate) last_stream: u64,
}

impl TinyEnvoy {
    /// Describes a world.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn start(
        plugin: Plugin,
        node: Node,
        workers: usize,
        failure_policy: FailurePolicy,
    ) -> Result<Self, StartError> {
        let node = Exclusive::new(node);
        let mut envoy = Self {
            node,
            vms: BTreeMap::new(),
            workers,
            seat: None,
            failure_policy,
            deaths: Vec::new(),
            crew: Crew::default(),
            verdicts: HashMap::new(),
            configurations: 1,
            plugin,
            last_stream: 0,
        };
        let config: Arc<[u8]> = envoy.node.lock().options.plugin_configuration.clone().into();
        let serving = Serving {
            number: 0,
            config,
            root: None,
        };
        envoy.try_out(&serving)?;
        // The main thread does it while no worker runs yet.
        for worker in std::iter::once(workers).chain(0..workers) {
            let vm = envoy
                .load(VmRef { worker, generation: 0 }, serving.clone(), false)
                .map_err(|reason| envoy.start_error(reason))?;
            envoy.vms.insert(worker, vm);
        }
        Ok(envoy)
    }

    /// Lets a canary try a configuration, unless one has done so before.
    pub(crate) fn try_out(&mut self, serving: &Serving) -> Result<(), StartError> {
        // No VM of that generation is ever there: what the canary sets going reaches nobody.
        let canary = VmRef {
            worker: self.workers,
            generation: u32::MAX,
        };
        let verdict = match self.verdicts.get(&serving.config) {
            Some(verdict) => verdict.clone(),
            None => self.load(canary, serving.clone(), true).map(|_| ()),
        };
        if verdict
            .as_ref()
            .err()
            .is_none_or(|reason| reason.starts_with("proxy_on_configure"))
        {
            self.verdicts.insert(Arc::clone(&serving.config), verdict.clone());
        }
        verdict.map_err(|reason| self.start_error(reason))
    }

    pub(crate) fn load(&self, vm: VmRef, serving: Serving, is_canary: bool) -> Result<Vm, String> {
        // To a search the loading of a VM is one act, or schedules would be too many.
        let seat = self.seat.clone().filter(|seat| !seat.explores());
        let mut loaded = Vm::load(&self.plugin, &self.node, vm, serving, is_canary, seat)?;
        loaded.configure()?;
        loaded.data_mut().deferred.clear();
        Ok(loaded)
    }

    fn start_error(&self, reason: String) -> StartError {
        StartError {
            reason,
            logs: self.logs(),
        }
    }

    /// A request with this method and request target.
    pub fn request(&mut self, method: impl AsRef<[u8]>, path: impl AsRef<[u8]>) -> RequestBuilder<'_> {
        RequestBuilder::new(self, method.as_ref(), path.as_ref())
    }

    /// A `GET` request.
    pub fn get(&mut self, path: impl AsRef<[u8]>) -> RequestBuilder<'_> {
        self.request("GET", path)
    }

    /// A `POST` request.
    pub fn post(&mut self, path: impl AsRef<[u8]>) -> RequestBuilder<'_> {
        self.request("POST", path)
    }

    pub(crate) fn begin(
        &mut self,
        worker: usize,
        mut headers: HeaderMap,
        properties: HashMap<Vec<u8>, Vec<u8>>,
        ends: bool,
    ) -> StreamId {
        assert!(worker < self.workers(), "there is no worker {worker}");
        if let Some(seat) = &self.seat {
            assert_eq!(worker, seat.worker, "a step sends requests to its own worker");
        }
        let id = self.add_stream(worker, &mut headers, properties);
        self.accept(id, headers, ends);
        id
    }

    /// Makes a stream for these headers, to which Envoy adds its own.
    pub(crate) fn add_stream(
        &mut self,
        worker: usize,
        headers: &mut HeaderMap,
        properties: HashMap<Vec<u8>, Vec<u8>>,
    ) -> StreamId {
        self.last_stream += 1;
        // What a stream is called does not depend on the schedule.
        let lane = self.seat.as_ref().map_or(0, |seat| seat.worker as u64 + 1);
        let id = StreamId::new(self.last_stream, lane);
        if headers.get("x-forwarded-proto").is_none() {
            headers.add("x-forwarded-proto", "http");
        }
        if headers.get("x-request-id").is_none() {
            headers.add("x-request-id", format!("00000000-0000-4000-8000-{:012x}", id.0));
        }
        let mut stream = Stream::new(worker, headers);
        stream.properties = properties;
        self.node.lock().streams.insert(id, stream);
        id
    }

    /// Sends a piece of body on a stream that was opened. Runs its callbacks.
    pub fn send_body(&mut self, stream: StreamId, bytes: impl AsRef<[u8]>) {
        self.body(stream, bytes.as_ref(), false);
    }

    /// Ends a stream that was opened by trailers.
    pub fn send_trailers(&mut self, stream: StreamId, trailers: &[(&str, &[u8])]) {
        self.request_trailers(stream, trailers.iter().copied().collect());
    }

    /// Ends a stream that was opened, without trailers.
    pub fn end(&mut self, stream: StreamId) {
        self.body(stream, &[], true);
    }

    pub(crate) fn body(&mut self, stream: StreamId, bytes: &[u8], ends: bool) {
        self.show_body(stream, Side::Request, bytes.to_vec(), ends);
    }

    pub(crate) fn request_trailers(&mut self, stream: StreamId, trailers: HeaderMap) {
        self.show_trailers(stream, Side::Request, trailers);
    }

    /// The client leaves.
    pub fn disconnect(&mut self, stream: StreamId) {
        {
            let mut node = self.node.lock();
            let stream = node.stream(stream);
            stream.gone = true;
            let details = || "downstream_remote_disconnect".to_owned();
            stream.details.get_or_insert_with(details);
        }
        self.finish(stream);
    }

    /// Lets time pass: everything that is due happens in its order, at its time.
    pub fn advance(&mut self, by: Duration) {
        let until = self.elapsed() + by;
        let mut at_once = 0;
        while let Some((at, event)) = self.next_due(until) {
            at_once = if at > self.elapsed() { 0 } else { at_once + 1 };
            assert!(
                at_once < MOST_EVENTS_AT_ONCE,
                "the world does not settle at {at:?}: {event:?}"
            );
            self.node.lock().clock.move_to(at);
            self.happen(event);
        }
        self.node.lock().clock.move_to(until);
    }

    /// Lets time pass in which nobody gets to do anything: what falls due stays due.
    pub fn stall(&mut self, by: Duration) {
        let until = self.elapsed() + by;
        self.stand_still_unless_alone(until);
        self.node.lock().clock.move_to(until);
    }

    /// The next event that is due at `until` or earlier; of a worker that runs interleaved, of its
    /// own. What is overdue happens now.
    fn next_due(&mut self, until: Duration) -> Option<(Duration, Event)> {
        self.stand_still_unless_alone(until);
        let worker = self.seat.as_ref().map(|seat| seat.worker);
        if let Some(worker) = worker {
            self.point(|| Op::new("delivery", Place::Inbox(worker), Access::Read));
        }
        let mut node = self.node.lock();
        let (at, event) = node.agenda.next(until, worker)?;
        Some((at.max(node.clock.elapsed()), event))
    }

    fn stand_still_unless_alone(&self, until: Duration) {
        assert!(
            self.seat.is_none() || until == self.elapsed(),
            "time stands still while workers run interleaved"
        );
    }

    /// Lets everything happen that is due now.
    pub fn settle(&mut self) {
        self.advance(Duration::ZERO);
    }

    /// Lets time pass until a stream is decided, for at most a minute. Time stops at the event
    /// that decided it.
    pub fn decide(&mut self, stream: StreamId) -> Outcome {
        self.settle();
        let until = self.elapsed() + LONGEST_DECISION;
        while self.is_pending(stream) && !self.is_finished(stream) {
            let Some((at, event)) = self.next_due(until) else {
                break;
            };
            self.node.lock().clock.move_to(at);
            self.happen(event);
            self.settle();
        }
        self.outcome(stream)
    }

    pub(crate) fn happen(&mut self, event: Event) {
        match event {
            Event::Callout { vm, root, token, end } => self.end_callout(vm, root, token, end),
            Event::Tick { vm, root, setting } => self.tick(vm, root, setting),
            Event::Queue { vm, root, queue } => self.queue_ready(vm, root, queue),
            Event::Upstream {
                stream,
                response,
                ending,
            } => self.upstream_answers(stream, response, ending),
            Event::Adoption { worker, number, config } => self.adopt(worker, number, config),
            Event::Drained { worker, number } => self.drain(worker, number..number + 1),
            Event::UpstreamUnreachable { stream } => self.upstream_is_unreachable(stream),
        }
    }

    /// Whether a stream is neither forwarded completely nor answered, which is quicker to say than what
    /// has become of it.
    pub fn is_pending(&self, stream: StreamId) -> bool {
        self.node.lock().stream(stream).is_pending()
    }

    /// What has become of a stream.
    pub fn outcome(&self, stream: StreamId) -> Outcome {
        self.node.lock().stream(stream).outcome()
    }

    /// What of a request has reached the upstream so far, even if it was refused afterwards.
    pub fn upstream_saw(&self, stream: StreamId) -> Option<PeerRequest> {
        let mut node = self.node.lock();
        let is_buffered = node.options.buffer_filter.is_some();
        let stream = node.stream(stream);
        let is_through = !is_buffered || stream.request.sent.complete;
        is_through.then(|| stream.upstream_request()).flatten()
    }

    /// The next pass of a request, once the upstream has redirected it and the router has followed; see
    /// [`Builder::internal_redirects`].
    pub fn redirected(&self, stream: StreamId) -> Option<StreamId> {
        self.node.lock().stream(stream).next_pass
    }

    /// What of the response has reached the client so far.
    pub fn response(&self, stream: StreamId) -> Option<PeerResponse> {
        self.node.lock().stream(stream).client_response()
    }

    /// Whether the whole response has reached the client.
    pub fn is_answered(&self, stream: StreamId) -> bool {
        self.node.lock().stream(stream).response.sent.complete
    }

    /// Whether the stream is over: answered completely, reset, or left by the client.
    pub fn is_finished(&self, stream: StreamId) -> bool {
        self.node.lock().stream(stream).finished
    }

    /// Whether the plugin has ended the stream by `proxy_close_stream`, and how far it had come. What
    /// was forwarded and what was answered before is in [`Self::upstream_saw`] and [`Self::response`].
    pub fn cut(&self, stream: StreamId) -> Option<Cut> {
        self.node.lock().stream(stream).cut
    }

    /// The streams that are neither forwarded nor answered.
    pub fn pending(&self) -> Vec<StreamId> {
        let node = self.node.lock();
        let pending = node
            .streams
            .iter()
            .filter(|(_, stream)| !stream.finished && stream.is_pending());
        pending.map(|(id, _)| *id).collect()
    }

    /// All streams there have been and that were not forgotten, in the order in which each worker got them.
    pub fn streams(&self) -> Vec<StreamId> {
        self.node.lock().streams.keys().copied().collect()
    }

    /// All filter state that the plugin has set on a stream, by its names without `wasm.`.
    pub fn all_filter_state(&self, stream: StreamId) -> BTreeMap<Vec<u8>, Vec<u8>> {
        self.node.lock().stream(stream).filter_state.all()
    }

    /// Filter state that the plugin has set on a stream, by its name without `wasm.`.
    pub fn filter_state(&self, stream: StreamId, name: &str) -> Option<Vec<u8>> {
        let mut node = self.node.lock();
        node.stream(stream).filter_state.get(name.as_bytes()).cloned()
    }

    /// The number of workers, without the main thread.
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// Time since the world began.
    pub fn elapsed(&self) -> Duration {
        self.node.lock().clock.elapsed()
    }

    /// The real-time clock, in whole seconds since 1970.
    pub fn unix_seconds(&self) -> u64 {
        crate::START_UNIX_SECONDS + self.elapsed().as_secs()
    }

    /// A counter or gauge, `None` if nobody has defined it.
    pub fn metric(&self, name: &str) -> Option<u64> {
        self.node.lock().stats.value(name)
    }

    /// All counters and gauges.
    pub fn metrics(&self) -> BTreeMap<String, u64> {
        self.node.lock().stats.all()
    }

    /// The samples of a histogram, `None` if nobody has defined it.
    pub fn histogram(&self, name: &str) -> Option<Vec<u64>> {
        self.node.lock().stats.samples(name).map(<[u64]>::to_vec)
    }

    /// All log lines so far, of all VMs.
    pub fn logs(&self) -> Vec<LogLine> {
        self.node.lock().logs.clone()
    }

    /// All callouts that reached a cluster.
    pub fn callouts(&self) -> Vec<Callout> {
        self.node.lock().callouts.clone()
    }

    /// The shared data of the node.
    pub fn shared_data(&self) -> BTreeMap<Vec<u8>, SharedEntry> {
        self.node.lock().shared_data.entries().clone()
    }

    /// Overwrites an entry of the shared data, as another plugin of the node could.
    pub fn set_shared_data(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        let place = || Place::Key(key.as_ref().to_vec());
        self.point(|| Op::new("set_shared_data", place(), Access::Write));
        let mut node = self.node.lock();
        let written = node.shared_data.set(key.as_ref(), value.as_ref(), 0);
        written.expect("an unconditional write succeeds");
    }

    /// How often each hostcall was made, by all VMs.
    pub fn hostcalls(&self) -> BTreeMap<&'static str, u64> {
        self.node.lock().hostcalls.all()
    }

    /// How often each hostcall was made in the callbacks of one stream.
    pub fn hostcalls_of(&self, stream: StreamId) -> BTreeMap<&'static str, u64> {
        self.node.lock().stream(stream).hostcalls.all()
    }

    /// How often the plugin has let the request of a stream go on by `proxy_continue_stream`, or answered it, from
    /// whichever callback. More than once is a fault that Envoy mostly passes over.
    pub fn releases(&self, stream: StreamId) -> u32 {
        self.node.lock().stream(stream).releases
    }

    /// The Wasm instructions that the callbacks of one stream took, as wasmtime counts fuel.
    pub fn fuel_of(&self, stream: StreamId) -> u64 {
        self.node.lock().stream(stream).fuel
    }

    /// The linear memory of a worker's VM, or of the main thread's, whose number is that of the
    /// workers.
    pub fn memory(&self, worker: usize) -> &[u8] {
        self.vms[&worker].memory()
    }

    /// The VMs that have died.
    pub fn deaths(&self) -> &[Death] {
        &self.deaths
    }

    /// Panics if a VM has died, saying how.
    #[track_caller]
    pub fn assert_alive(&self) {
        assert!(self.deaths.is_empty(), "VMs died: {:#?}", self.deaths);
    }
}
