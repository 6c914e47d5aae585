//! The life of the plugin: configure, tick, queue, answers to calls.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{ContextType, LogLevel};
use tenant_policy::config::{self, Environment, Plugin};
use tenant_policy::denial::Denial;
use tenant_policy::engine::Engine;
use tenant_policy::errand::{Answer, Answered, Callout, Errand};
use tenant_policy::events::Delivery;
use tenant_policy::flow::{Forward, Refused, Resumption, Step};
use tenant_policy::node::Node;
use tenant_policy::remark::Remark;
use tenant_policy::telemetry::{Counter, Gauge};

use crate::host;
use crate::http::{self, Exchange, Identity, Stream, Unconfigured};
use crate::node::HostNode;
use crate::waiting::{Waiter, Waiting};

/// Counts the queues of all VMs of a node, so that each has a name of its own.
const QUEUE_NUMBER_KEY: &str = "tenantgate.queue.number";
/// How long the host may not have heard of what has been counted.
const BATCH_MS: u64 = 1_000;
/// Longest time between ticks that the host can be asked for.
const MAX_TICK_MS: u64 = 60_000;

/// A root context: one plugin configuration on one worker.
pub(crate) struct Root {
    context: u32,
    mode: Mode,
}

enum Mode {
    /// Not configured yet: nothing may pass.
    Unconfigured,
    /// `enabled: false`.
    SingleTenant,
    MultiTenant(Rc<Worker>),
}

impl Root {
    pub(crate) fn new(context: u32) -> Self {
        Self {
            context,
            mode: Mode::Unconfigured,
        }
    }

    fn configure(&mut self) -> bool {
        let text = match host::plugin_configuration() {
            Ok(text) => text,
            Err(host::Refused(status)) => {
                host::log(
                    LogLevel::Error,
                    &format!("configuration cannot be read: status {status}"),
                );
                return false;
            }
        };
        let compiled = match config::compile(&text, &Environment::of(std::env::vars_os())) {
            Ok(compiled) => compiled,
            Err(faults) => {
                for fault in faults {
                    host::log(LogLevel::Error, &format!("configuration refused: {fault}"));
                }
                return false;
            }
        };
        for warning in &compiled.warnings {
            host::log(LogLevel::Warn, &format!("configuration: {warning}"));
        }
        let version = env!("CARGO_PKG_VERSION");
        match compiled.plugin {
            Plugin::SingleTenant => {
                host::log(
                    LogLevel::Warn,
                    &format!("tenantgate {version}: `enabled` is false, nothing is enforced"),
                );
                self.mode = Mode::SingleTenant;
            }
            Plugin::MultiTenant(config) => {
                let Some(queue) = own_queue() else {
                    return false;
                };
                let node = HostNode::new();
                if !node.has_bell() {
                    host::log(
                        LogLevel::Warn,
                        "the gauge tenantgate_epoch_… does not move (is it rejected by stats_config?): the shared data are \
                         read for every request instead",
                    );
                }
                let signatures = if node.has_native_signatures() {
                    "native"
                } else {
                    "pure-rust"
                };
                let (level, verb) = if config.reports_only {
                    (LogLevel::Warn, "reporting, nothing is denied:")
                } else {
                    (LogLevel::Info, "enforcing")
                };
                host::log(
                    level,
                    &format!("tenantgate {version}: {verb} {}", config.summary(signatures)),
                );
                for _ in &compiled.warnings {
                    node.count(Counter::KeysRefused);
                }
                let worker = Rc::new(Worker {
                    context: self.context,
                    queue,
                    node,
                    engine: RefCell::new(Engine::new(*config)),
                    waiting: RefCell::default(),
                    calls: RefCell::default(),
                    ticks: Cell::default(),
                    flush_due_ms: Cell::default(),
                    waiters_shown: Cell::default(),
                });
                worker.tick();
                self.mode = Mode::MultiTenant(worker);
            }
        }
        true
    }

    fn worker(&self) -> Option<&Rc<Worker>> {
        match &self.mode {
            Mode::MultiTenant(worker) => Some(worker),
            Mode::Unconfigured | Mode::SingleTenant => None,
        }
    }
}

/// A queue that only this root context is told about.
fn own_queue() -> Option<u32> {
    let queue =
        host::next_number(QUEUE_NUMBER_KEY).and_then(|number| host::register_queue(&format!("tenantgate.{number}")));
    match queue {
        Ok(queue) => Some(queue),
        Err(host::Refused(status)) => {
            host::log(
                LogLevel::Error,
                &format!("no queue to be had from the host: status {status}"),
            );
            None
        }
    }
}

impl Context for Root {
    fn on_http_call_response(&mut self, token: u32, headers: usize, body_size: usize, _trailers: usize) {
        if let Some(worker) = self.worker() {
            worker.call_answered(token, headers, body_size);
        }
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        self.configure()
    }

    fn on_queue_ready(&mut self, queue: u32) {
        if let Some(worker) = self.worker().filter(|worker| worker.queue == queue) {
            worker.start_errands();
        }
    }

    fn on_tick(&mut self) {
        if let Some(worker) = self.worker() {
            worker.tick();
        }
    }

    fn create_http_context(&self, context: u32) -> Option<Box<dyn HttpContext>> {
        Some(match &self.mode {
            Mode::Unconfigured => Box::new(Unconfigured),
            Mode::SingleTenant => Box::new(Identity),
            Mode::MultiTenant(worker) => Box::new(Stream::new(context, Rc::clone(worker))),
        })
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

/// What the streams of a worker share. The engine is borrowed for its own work only, never
/// across a hostcall that could lead back into the VM.
#[derive(Debug)]
pub(crate) struct Worker {
    context: u32,
    queue: u32,
    pub(crate) node: HostNode,
    pub(crate) engine: RefCell<Engine>,
    pub(crate) waiting: RefCell<Waiting>,
    /// Token of a call under way → the errand that it is for.
    calls: RefCell<HashMap<u32, Errand>>,
    ticks: Cell<Ticks>,
    /// When the host is told what has been counted.
    flush_due_ms: Cell<Option<u64>>,
    /// What this worker has added to the gauge of waiting requests.
    waiters_shown: Cell<usize>,
}

impl Worker {
    /// Has an errand started by the root context. The call must not belong to the stream that
    /// needs it first: it would be lost with that stream, and with it everyone who waits.
    fn request(&self, errand: Errand, stream: u32) {
        if host::enqueue(self.queue, &errand.to_bytes()).is_err() {
            self.settle(errand, Answer::Unreachable);
            let _ = host::set_effective_context(stream);
        }
    }

    fn start_errands(&self) {
        while let Some(item) = host::dequeue(self.queue) {
            if let Some(errand) = Errand::from_bytes(&item) {
                self.start(errand);
            }
        }
        self.start_background();
    }

    /// Starts what nobody waits for, in the root context.
    fn start_background(&self) {
        loop {
            let errands = self.engine.borrow_mut().take_errands();
            if errands.is_empty() {
                return;
            }
            for errand in errands {
                self.start(errand);
            }
        }
    }

    /// Has what nobody waits for started by the root context.
    fn request_background(&self, stream: u32) {
        let errands = self.engine.borrow_mut().take_errands();
        for errand in errands {
            self.request(errand, stream);
        }
    }

    /// Carries out the events that a stream has brought, and answers it.
    pub(crate) fn receive(&self, stream: u32, exchange: &Exchange, delivery: &Delivery) {
        let received = self.engine.borrow_mut().receive(delivery, &self.node);
        match received {
            Ok(received) => {
                let request_id = &exchange.request_id;
                let log = |level, line: &str| host::log(level, &format!("{line} request_id={request_id}"));
                for line in &received.carried_out {
                    log(LogLevel::Info, line);
                }
                for name in &received.unknown {
                    log(LogLevel::Debug, &format!("event type without a meaning: `{name}`"));
                }
                let tally = String::from_utf8_lossy(&received.reply.body);
                log(LogLevel::Info, &format!("tenant events carried out: {tally}"));
                exchange.answer(&received.reply);
            }
            Err(denial) => self.refuse_events(exchange, denial),
        }
        self.request_background(stream);
        self.schedule();
    }

    /// Answers events that cannot be taken.
    pub(crate) fn refuse_events(&self, exchange: &Exchange, denial: Denial) {
        self.node.count(Counter::Denials(denial.code()));
        http::refuse(&Refused::by(denial), exchange);
    }

    /// Makes the first call of an errand, in the root context.
    fn start(&self, errand: Errand) {
        let callout = self.engine.borrow_mut().question(errand, &self.node);
        if let Some(callout) = callout {
            self.call(errand, &callout);
        }
    }

    fn call(&self, errand: Errand, callout: &Callout) {
        match host::http_call(&callout.cluster, &callout.headers, callout.timeout_ms) {
            Ok(token) => {
                self.calls.borrow_mut().insert(token, errand);
            }
            // No such cluster, or no endpoint in it. The warning about failing errands is bounded.
            Err(status) => {
                let cluster = &callout.cluster;
                host::log(
                    LogLevel::Debug,
                    &format!("call to cluster {cluster} refused by the host: {status:?}"),
                );
                self.settle(errand, Answer::Unreachable);
            }
        }
    }

    fn call_answered(&self, token: u32, headers: usize, body_size: usize) {
        let Some(errand) = self.calls.borrow_mut().remove(&token) else {
            return;
        };
        // A reset in the middle of the body arrives as a callback without headers.
        if headers == 0 {
            self.settle(errand, Answer::Unreachable);
            self.start_background();
            return;
        }
        let status = host::call_response_status();
        let retry_after_seconds = host::call_response_retry_after();
        let max = self.engine.borrow().max_body_bytes(errand);
        let body = if body_size > max {
            None
        } else {
            host::call_response_body(max).ok()
        };
        let body = body.as_ref().map(|body| body.as_slice());
        let answer = Answer::Http {
            status,
            retry_after_seconds,
            body,
        };
        self.settle(errand, answer);
        self.start_background();
    }

    /// Gives an answer to the engine, and what it means to everyone who waits for it.
    fn settle(&self, errand: Errand, answer: Answer<'_>) {
        let answered = self.engine.borrow_mut().answered(errand, answer, &self.node);
        match answered {
            Answered::Again(callout) => self.call(errand, &callout),
            Answered::Over { news, remarks } => {
                say(&remarks);
                if let Some((awaited, learned)) = news {
                    let waiters = self.waiting.borrow_mut().for_awaited(awaited);
                    self.wake(waiters, Resumption::Learned(&learned));
                }
            }
        }
        self.schedule();
    }

    /// Does what a step says for a stream whose context is the current one. The stream is held
    /// unless the step lets it go.
    pub(crate) fn proceed(&self, stream: u32, exchange: &Rc<Exchange>, step: Step) {
        match step {
            Step::Forward(mut forward) => {
                let counters = std::mem::take(&mut forward.counters);
                match exchange.edit(&forward) {
                    Ok(()) => {
                        exchange.let_go(forward);
                        self.count(&counters);
                    }
                    Err((what, refused)) => self.give_up(exchange, what, refused),
                }
            }
            Step::Receive { edits, delivery } => match http::edit(&edits) {
                Ok(()) => {
                    exchange.let_go(Forward::default());
                    exchange.receive(delivery);
                }
                Err(refused) => self.give_up(exchange, "headers cannot be edited", refused),
            },
            Step::Reply(refused) => {
                http::refuse(&refused, exchange);
                self.schedule();
            }
            Step::Wait { edits, flow, begins } => {
                match http::edit(&edits) {
                    Ok(()) => {
                        let exchange = Rc::clone(exchange);
                        self.waiting.borrow_mut().insert(Waiter { stream, flow, exchange });
                    }
                    // The request is over; its errand is not, others may wait for it.
                    Err(refused) => self.give_up(exchange, "headers cannot be edited", refused),
                }
                self.show_waiters();
                self.schedule();
                if let Some(errand) = begins {
                    self.request(errand, stream);
                }
            }
        }
        self.flush_soon();
        self.request_background(stream);
    }

    /// Sees to it that the host hears of what has been counted.
    fn flush_soon(&self) {
        if self.node.has_batch() && self.flush_due_ms.get().is_none() {
            self.flush_due_ms
                .set(Some(self.node.monotonic_ms().saturating_add(BATCH_MS)));
            self.schedule();
        }
    }

    pub(crate) fn count(&self, counters: &[Counter]) {
        for counter in counters {
            self.node.count(*counter);
        }
    }

    /// Takes a stream that is over out of those that wait.
    pub(crate) fn forget(&self, stream: u32) {
        if self.waiting.borrow_mut().remove(stream).is_some() {
            self.show_waiters();
        }
    }

    /// Brings the gauge of waiting requests up to date.
    fn show_waiters(&self) {
        let now = self.waiting.borrow().len();
        let before = self.waiters_shown.replace(now);
        let signed = |many: usize| i64::try_from(many).unwrap_or_default();
        let change = signed(now).saturating_sub(signed(before));
        if change != 0 {
            self.node.adjust(Gauge::Waiters, change);
        }
    }

    /// Answers a request that the host does not let be forwarded.
    pub(crate) fn give_up(&self, exchange: &Exchange, what: &str, host::Refused(status): host::Refused) {
        let request_id = &exchange.request_id;
        host::log(
            LogLevel::Error,
            &format!("{what}: status {status} request_id={request_id}"),
        );
        let told = self.engine.borrow().told_of_failure();
        let code = http::answer_host_refused(exchange, &told);
        self.node.count(Counter::Denials(code));
    }

    fn wake(&self, waiters: Vec<Waiter>, resumption: Resumption<'_>) {
        for Waiter { stream, flow, exchange } in waiters {
            if exchange.is_refused() || host::set_effective_context(stream).is_err() {
                continue;
            }
            let step = flow.resume(&mut self.engine.borrow_mut(), resumption, &self.node);
            self.proceed(stream, &exchange, step);
            if exchange.has_passed()
                && let Err(refused) = host::continue_request()
            {
                self.give_up(&exchange, "a request cannot be resumed", refused);
            }
        }
        self.show_waiters();
        let _ = host::set_effective_context(self.context);
    }

    /// Does what is due by time, in the root context.
    fn tick(&self) {
        // Whatever the host was asked for last, it goes on ticking at that period.
        self.ticks.set(Ticks::Unknown);
        self.flush_due_ms.set(None);
        self.node.flush();
        let overdue = self.waiting.borrow_mut().overdue(self.node.monotonic_ms());
        self.wake(overdue, Resumption::DeadlinePassed);
        let (errands, remarks) = self.engine.borrow_mut().tick(&self.node);
        say(&remarks);
        for errand in errands {
            self.start(errand);
        }
        self.start_background();
        self.schedule();
    }

    /// Has the host tick when something is due next, and not at all when nothing is.
    fn schedule(&self) {
        let engine_due = self.engine.borrow().due_ms();
        let waiting_due = self.waiting.borrow().next_deadline_ms();
        let wanted = match [engine_due, waiting_due, self.flush_due_ms.get()]
            .into_iter()
            .flatten()
            .min()
        {
            Some(due_ms) => Ticks::At(due_ms),
            None => Ticks::Off,
        };
        if self.ticks.replace(wanted) == wanted {
            return;
        }
        let period_ms = match wanted {
            Ticks::At(due_ms) => due_ms.saturating_sub(self.node.monotonic_ms()).clamp(1, MAX_TICK_MS),
            Ticks::Off | Ticks::Unknown => 0,
        };
        host::tick_every(u32::try_from(period_ms).unwrap_or_default());
    }
}

fn say(remarks: &[Remark]) {
    for remark in remarks {
        let level = if remark.is_warning() {
            LogLevel::Warn
        } else {
            LogLevel::Info
        };
        host::log(level, &remark.to_string());
    }
}

impl Drop for Worker {
    /// Those who wait here are gone; the gauge is the host's and stays.
    fn drop(&mut self) {
        *self.waiting.borrow_mut() = Waiting::default();
        self.show_waiters();
        self.node.flush();
    }
}

/// What the host's ticker of this root context does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Ticks {
    /// Not asked for.
    #[default]
    Off,
    /// Next at this monotonic millisecond.
    At(u64),
    /// It has just ticked and would tick on.
    Unknown,
}
