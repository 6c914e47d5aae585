//! What the streams of a worker share: the engine, who waits, whose calls are under way, what is due.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use proxy_wasm::types::LogLevel;
use tenant_policy::denial::Denial;
use tenant_policy::engine::Engine;
use tenant_policy::errand::{Answer, Answered, Callout, Errand, Learned};
use tenant_policy::events::Delivery;
use tenant_policy::flow::{Forward, Refused, Resumption, Step};
use tenant_policy::node::Node;
use tenant_policy::remark::Remark;
use tenant_policy::telemetry::{Counter, Gauge};

use crate::backlog::{Backlog, Due};
use crate::host;
use crate::http::{self, Exchange};
use crate::node::HostNode;
use crate::open::{Open, OpenStream};
use crate::ticks::Ticker;
use crate::waiting::{Waiter, Waiting};

/// How long the host may not have heard of what has been counted.
const BATCH_MS: u64 = 1_000;

/// What the streams of a worker share. The engine is borrowed for its own work only, never
/// across a hostcall that could lead back into the VM.
#[derive(Debug)]
pub(crate) struct Worker {
    context: u32,
    queue: u32,
    pub(crate) node: HostNode,
    pub(crate) engine: RefCell<Engine>,
    waiting: RefCell<Waiting>,
    /// Token of a call under way → the errand that it is for.
    calls: RefCell<HashMap<u32, Errand>>,
    /// Streams that are cut when their tenant is refused.
    open: Open,
    backlog: Backlog,
    ticker: Ticker,
    /// When the host is told what has been counted.
    flush_due_ms: Cell<Option<u64>>,
    /// What this worker has added to the gauge of waiting requests.
    waiters_shown: Cell<usize>,
}

impl Worker {
    /// A worker for the root context `context`, which is told about `queue`.
    pub(crate) fn new(context: u32, queue: u32, node: HostNode, engine: Engine) -> Self {
        Self {
            context,
            queue,
            node,
            engine: RefCell::new(engine),
            waiting: RefCell::default(),
            calls: RefCell::default(),
            open: Open::default(),
            backlog: Backlog::default(),
            ticker: Ticker::default(),
            flush_due_ms: Cell::default(),
            waiters_shown: Cell::default(),
        }
    }

    /// Whether this is the queue of its own.
    pub(crate) fn is_told_by(&self, queue: u32) -> bool {
        self.queue == queue
    }

    /// Has an errand started by the root context. The call must not belong to the stream that
    /// needs it first: it would be lost with that stream, and with it everyone who waits.
    fn request(&self, errand: Errand, stream: u32) {
        if host::enqueue(self.queue, &errand.to_bytes()).is_err() {
            self.settle(errand, Answer::Unreachable);
            let _ = host::set_effective_context(stream);
        }
    }

    pub(crate) fn start_errands(&self) {
        self.backlog.begin();
        while let Some(item) = host::dequeue(self.queue) {
            if let Some(errand) = Errand::from_bytes(&item) {
                self.start(errand);
            }
        }
        self.start_background();
        self.work_off();
        self.schedule();
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

    pub(crate) fn call_answered(&self, token: u32, headers: usize, body_size: usize) {
        let Some(errand) = self.calls.borrow_mut().remove(&token) else {
            return;
        };
        self.backlog.begin();
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
                    self.wake(waiters, Some(learned));
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
                        if let Some(tenant) = exchange.ends_with() {
                            let exchange = Rc::clone(exchange);
                            let open = OpenStream {
                                tenant,
                                stream,
                                exchange,
                            };
                            self.open.insert(open, self.node.monotonic_ms());
                            self.schedule();
                        }
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

    /// Cuts the open streams of tenants that are refused by now.
    fn cut_refused(&self) {
        if self.open.next_look_ms().is_none() {
            return;
        }
        let tenants = self.open.tenants();
        let refused = self.engine.borrow_mut().refused_since(tenants.iter(), &self.node);
        for tenant in refused {
            self.backlog.extend(self.open.take(&tenant).into_iter().map(Due::Cut));
        }
        self.open.looked(self.node.monotonic_ms());
        self.work_off();
    }

    /// Takes a stream that is over out of those that may be cut.
    pub(crate) fn has_ended(&self, stream: u32, exchange: &Exchange) {
        if let Some(tenant) = exchange.ends_with() {
            self.open.remove(&tenant, stream);
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
        let now = self.waiting.borrow().len().saturating_add(self.backlog.waiters());
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

    /// Has requests go on that have waited, in their order.
    fn wake(&self, waiters: Vec<Waiter>, learned: Option<Learned>) {
        let learned = learned.map(Rc::new);
        let due = waiters.into_iter().map(|waiter| Due::Wake(waiter, learned.clone()));
        self.backlog.extend(due);
        self.work_off();
    }

    /// Does what is to be done with streams, as much of it as one call may; the root context is the current
    /// one afterwards.
    fn work_off(&self) {
        while let Some(due) = self.backlog.next() {
            match due {
                Due::Wake(waiter, learned) => self.go_on(waiter, learned.as_deref()),
                Due::Cut(open) => self.cut(&open),
            }
        }
        if !self.backlog.is_empty() {
            // The host calls again at once; otherwise the next tick goes on.
            let _ = host::enqueue(self.queue, &[]);
        }
        self.show_waiters();
        let _ = host::set_effective_context(self.context);
    }

    fn go_on(&self, waiter: Waiter, learned: Option<&Learned>) {
        let Waiter { stream, flow, exchange } = waiter;
        if exchange.is_refused() || host::set_effective_context(stream).is_err() {
            return;
        }
        let resumption = learned.map_or(Resumption::DeadlinePassed, Resumption::Learned);
        let step = flow.resume(&mut self.engine.borrow_mut(), resumption, &self.node);
        self.proceed(stream, &exchange, step);
        if exchange.has_passed()
            && let Err(refused) = host::continue_request()
        {
            self.give_up(&exchange, "a request cannot be resumed", refused);
        }
    }

    fn cut(&self, open: &OpenStream) {
        let cut = host::set_effective_context(open.stream).and_then(|()| host::close_request());
        if cut.is_ok() {
            self.node.count(Counter::StreamsCut);
            let (tenant, request_id) = (open.tenant.as_str(), &open.exchange.request_id);
            host::log(LogLevel::Info, &format!("cut tenant={tenant} request_id={request_id}"));
        }
    }

    /// Does what is due by time, in the root context.
    pub(crate) fn tick(&self) {
        self.ticker.ticked();
        self.backlog.begin();
        self.flush_due_ms.set(None);
        self.node.flush();
        let overdue = self.waiting.borrow_mut().overdue(self.node.monotonic_ms());
        self.wake(overdue, None);
        let (errands, remarks) = self.engine.borrow_mut().tick(&self.node);
        say(&remarks);
        for errand in errands {
            self.start(errand);
        }
        self.cut_refused();
        self.start_background();
        self.schedule();
    }

    /// Has the host tick when something is due next, and not at all when nothing is.
    fn schedule(&self) {
        let dues_ms = [
            self.engine.borrow().due_ms(),
            self.waiting.borrow().next_deadline_ms(),
            self.flush_due_ms.get(),
            self.open.next_look_ms(),
            // Where the host does not take what would have it called again.
            (!self.backlog.is_empty()).then_some(0),
        ];
        self.ticker
            .aim(dues_ms.into_iter().flatten().min(), || self.node.monotonic_ms());
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
