//! The life of a stream: callback → flow → action.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, LogLevel};
use tenant_policy::config::Errors;
use tenant_policy::denial::{Code, Denial, Reply};
use tenant_policy::events::{Delivery, TooLong};
use tenant_policy::flow::{self, Forward, RequestFlow, Told, WayBack};
use tenant_policy::request::RequestHead;
use tenant_policy::scope::Edit;
use tenant_policy::tenant_id::TenantId;

use crate::host::{self, HeaderBlock, LocalResponse, Map, Refused};
use crate::properties;
use crate::worker::Worker;

/// The stream of a plugin with `enabled: false`: no callback does anything.
pub(crate) struct Identity;

impl Context for Identity {}
impl HttpContext for Identity {}

/// The stream of a plugin that has no configuration: nothing passes.
pub(crate) struct Unconfigured;

impl Context for Unconfigured {}

impl HttpContext for Unconfigured {
    fn on_http_request_headers(&mut self, _headers: usize, _end_of_stream: bool) -> Action {
        answer(&Denial::HostRefused.reply(false, &Errors::default()));
        Action::Pause
    }

    fn on_http_request_body(&mut self, _size: usize, _end_of_stream: bool) -> Action {
        Action::Pause
    }

    fn on_http_request_trailers(&mut self, _trailers: usize) -> Action {
        Action::Pause
    }
}

/// What a stream and its wait know in common.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// Its `x-request-id`, for the log.
    pub(crate) request_id: String,
    /// Whether a reply must be one to gRPC.
    pub(crate) grpc: bool,
    passage: Cell<Passage>,
    /// The tenant events that its body brings.
    delivery: RefCell<Option<Delivery>>,
    /// What is done to its response.
    way_back: RefCell<Option<WayBack>>,
    /// With whose refusal it ends, once it has been let go.
    ends_with: RefCell<Option<TenantId>>,
}

/// Whether a request may pass. Body and trailers follow a head that has been let go, and no
/// other: not one that waits, and not one that was refused while the refusal could not be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Passage {
    /// The head is held.
    Held,
    /// It has been let go, with all its edits.
    Passed,
    /// The request has been refused, and stays so.
    Refused,
}

impl Exchange {
    fn new(head: &RequestHead<'_>) -> Self {
        Self {
            request_id: printable(head.only(b"x-request-id").unwrap_or_default()),
            grpc: head.is_grpc(),
            passage: Cell::new(Passage::Held),
            delivery: RefCell::default(),
            way_back: RefCell::default(),
            ends_with: RefCell::default(),
        }
    }

    /// Has the body collected.
    pub(crate) fn receive(&self, delivery: Delivery) {
        self.delivery.replace(Some(delivery));
    }

    /// Does to the current context what is said of a request that goes on.
    ///
    /// # Errors
    ///
    /// What the host refused, and its answer. Half an edited head must not pass.
    pub(crate) fn edit(&self, forward: &Forward) -> Result<(), (&'static str, Refused)> {
        properties::tell(&forward.properties).map_err(|refused| ("properties cannot be set", refused))?;
        edit(&forward.edits).map_err(|refused| ("headers cannot be edited", refused))
    }

    /// Lets the head go, unless the request has been refused.
    pub(crate) fn let_go(&self, forward: Forward) {
        if let Some(refused) = &forward.would_be {
            log(refused, self, "would deny");
        }
        self.way_back.replace(forward.way_back);
        self.ends_with.replace(forward.ends_with);
        if self.passage.get() == Passage::Held {
            self.passage.set(Passage::Passed);
        }
    }

    /// With whose refusal the stream ends, if with anybody's.
    pub(crate) fn ends_with(&self) -> Option<TenantId> {
        self.ends_with.borrow().clone()
    }

    pub(crate) fn has_passed(&self) -> bool {
        self.passage.get() == Passage::Passed
    }

    pub(crate) fn is_refused(&self) -> bool {
        self.passage.get() == Passage::Refused
    }

    /// Answers the current context; nothing of the request may pass from then on.
    pub(crate) fn answer(&self, reply: &Reply) {
        self.passage.set(Passage::Refused);
        answer(reply);
    }
}

/// The stream of a plugin that enforces tenancy.
pub(crate) struct Stream {
    context: u32,
    worker: Rc<Worker>,
    /// `None` before the head has come.
    exchange: Option<Rc<Exchange>>,
}

impl Stream {
    pub(crate) fn new(context: u32, worker: Rc<Worker>) -> Self {
        Self {
            context,
            worker,
            exchange: None,
        }
    }

    /// A pause is a barrier: where the host shows body and trailers of a paused stream
    /// (`allow_on_headers_stop_iteration`), letting them go on would take the head along.
    fn barrier(&self) -> Action {
        match &self.exchange {
            Some(exchange) if exchange.has_passed() => Action::Continue,
            _ => Action::Pause,
        }
    }
}

impl Context for Stream {
    fn on_done(&mut self) -> bool {
        self.worker.forget(self.context);
        if let Some(exchange) = &self.exchange {
            self.worker.has_ended(self.context, exchange);
        }
        true
    }
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _headers: usize, end_of_stream: bool) -> Action {
        let read = HeaderBlock::read(Map::Request);
        let fields = match &read {
            Ok(block) => block.fields(),
            Err(refused) => Err(*refused),
        };
        let fields = match fields {
            Ok(fields) => fields,
            Err(refused) => {
                let exchange = Rc::new(Exchange::new(&RequestHead::new(&[])));
                self.worker.give_up(&exchange, "headers cannot be read", refused);
                self.exchange = Some(exchange);
                return Action::Pause;
            }
        };
        let head = RequestHead::new(&fields);
        let exchange = Rc::new(Exchange::new(&head));
        self.exchange = Some(Rc::clone(&exchange));
        let step = RequestFlow::start(&mut self.worker.engine.borrow_mut(), &head, &self.worker.node);
        self.worker.proceed(self.context, &exchange, step);
        if end_of_stream {
            self.delivered();
        }
        self.barrier()
    }

    fn on_http_request_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        self.collect(size);
        if end_of_stream {
            self.delivered();
        }
        self.barrier()
    }

    fn on_http_request_trailers(&mut self, _trailers: usize) -> Action {
        if let Err(refused) = self.sanitize_trailers()
            && let Some(exchange) = &self.exchange
        {
            self.worker.forget(self.context);
            self.worker.give_up(exchange, "trailers cannot be sanitized", refused);
        }
        self.delivered();
        self.barrier()
    }

    fn on_http_response_headers(&mut self, _headers: usize, _end_of_stream: bool) -> Action {
        match self.way_back() {
            Some((exchange, way_back)) => self.respond(&exchange, &way_back),
            None => Action::Continue,
        }
    }

    fn on_http_response_trailers(&mut self, _trailers: usize) -> Action {
        if let Some((exchange, way_back)) = self.way_back()
            && let Err(Refused(status)) = self.clean_trailers(&way_back)
        {
            // What was sent cannot be taken back; nothing more is.
            let request_id = &exchange.request_id;
            host::log(
                LogLevel::Error,
                &format!("response trailers cannot be edited: status {status} request_id={request_id}"),
            );
            return Action::Pause;
        }
        Action::Continue
    }
}

impl Stream {
    /// What is to be done to the response; nothing to one that the filter has made itself.
    fn way_back(&self) -> Option<(Rc<Exchange>, WayBack)> {
        let exchange = self.exchange.as_ref().filter(|exchange| exchange.has_passed())?;
        let way_back = exchange.way_back.borrow().clone()?;
        Some((Rc::clone(exchange), way_back))
    }

    /// Edits the head of the response, or answers in its place.
    fn respond(&self, exchange: &Exchange, way_back: &WayBack) -> Action {
        let block = match HeaderBlock::read(Map::Response) {
            Ok(block) => block,
            Err(refused) => return self.withhold(exchange, refused),
        };
        let fields = match block.fields() {
            Ok(fields) => fields,
            Err(refused) => return self.withhold(exchange, refused),
        };
        let head = RequestHead::new(&fields);
        let Worker { engine, node, .. } = &*self.worker;
        let response = engine.borrow().response(way_back, &head, exchange.grpc, node);
        match response {
            Ok(forward) => {
                if let Err(refused) = properties::tell(&forward.properties).and(apply(Map::Response, &forward.edits)) {
                    return self.withhold(exchange, refused);
                }
                if let Some(refused) = &forward.would_be {
                    log(refused, exchange, "would deny");
                }
                self.worker.count(&forward.counters);
                Action::Continue
            }
            Err(refused) => {
                refuse(&refused, exchange);
                Action::Pause
            }
        }
    }

    /// Answers in the place of a response that cannot be looked at.
    fn withhold(&self, exchange: &Exchange, refused: Refused) -> Action {
        self.worker.give_up(exchange, "a response cannot be edited", refused);
        Action::Pause
    }

    fn clean_trailers(&self, way_back: &WayBack) -> Result<(), Refused> {
        let block = HeaderBlock::read(Map::ResponseTrailers)?;
        let Worker { engine, node, .. } = &*self.worker;
        let edits = engine
            .borrow()
            .response_trailer_edits(way_back, &RequestHead::new(&block.fields()?), node);
        apply(Map::ResponseTrailers, &edits)
    }

    /// Takes a piece of body where tenant events are brought.
    fn collect(&self, size: usize) {
        let Some(exchange) = &self.exchange else { return };
        let taken = match exchange.delivery.borrow_mut().as_mut() {
            None => return,
            Some(delivery) => host::request_body(size).map(|bytes| delivery.push(&bytes)),
        };
        match taken {
            Ok(Ok(())) => {}
            Ok(Err(TooLong)) => {
                exchange.delivery.take();
                self.worker.refuse_events(exchange, Delivery::too_long());
            }
            Err(refused) => {
                exchange.delivery.take();
                self.worker.give_up(exchange, "events cannot be read", refused);
            }
        }
    }

    /// Has tenant events carried out whose body is complete.
    fn delivered(&self) {
        if let Some(exchange) = &self.exchange
            && let Some(delivery) = exchange.delivery.take()
        {
            self.worker.receive(self.context, exchange, &delivery);
        }
    }

    fn sanitize_trailers(&self) -> Result<(), Refused> {
        let block = HeaderBlock::read(Map::RequestTrailers)?;
        let edits = self
            .worker
            .engine
            .borrow()
            .trailer_edits(&RequestHead::new(&block.fields()?));
        apply(Map::RequestTrailers, &edits)
    }
}

/// Edits the head of the current context.
///
/// # Errors
///
/// What the host answered to the first edit that it refused. Half an edited head must not pass.
pub(crate) fn edit(edits: &[Edit]) -> Result<(), Refused> {
    apply(Map::Request, edits)
}

fn apply(map: Map, edits: &[Edit]) -> Result<(), Refused> {
    edits.iter().try_for_each(|edit| match edit {
        Edit::Remove(name) => host::remove_header(map, name),
        Edit::Set(name, value) => host::set_header(map, name, value),
        Edit::Add(name, value) => host::add_header(map, name, value),
    })
}

/// Answers the current context with a denial.
pub(crate) fn refuse(refused: &flow::Refused, exchange: &Exchange) {
    log(refused, exchange, "denied");
    // For the access log alone: the reply does not depend on it.
    let _ = properties::tell(&refused.properties);
    let _ = apply(Map::Request, &refused.edits);
    exchange.answer(&refused.reply);
}

/// One line about a denial, and at debug why.
fn log(refused: &flow::Refused, exchange: &Exchange, verb: &str) {
    let request_id = &exchange.request_id;
    host::log(
        LogLevel::Info,
        &format!("{} request_id={request_id}", refused.summary(verb)),
    );
    if let Some(detail) = refused.detail() {
        let code = refused.reply.details;
        host::log(
            LogLevel::Debug,
            &format!("{code} because of {detail} request_id={request_id}"),
        );
    }
}

/// Answers the current context when the host refuses what forwarding needs.
pub(crate) fn answer_host_refused(exchange: &Exchange, told: &[Told]) -> Code {
    let denial = Denial::HostRefused;
    // For the access log alone.
    let _ = properties::tell(told);
    exchange.answer(&denial.reply(exchange.grpc, &Errors::default()));
    denial.code()
}

fn answer(reply: &Reply) {
    let headers: Vec<(&str, &str)> = reply
        .headers
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let sent = host::send_local_response(&LocalResponse {
        status: reply.status,
        details: &format!("tenantgate_{}", reply.details),
        headers: &headers,
        body: &reply.body,
        grpc_status: reply.grpc_status,
    });
    // The stream stays held: the stream timers of the host end it.
    if let Err(Refused(status)) = sent {
        host::log(LogLevel::Error, &format!("a denial cannot be sent: status {status}"));
    }
}

/// A caller's text as it may stand in a log line: a short word, or `-`.
fn printable(text: &[u8]) -> String {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-._:=/+".contains(b);
    match std::str::from_utf8(text) {
        Ok(word) if (1..=64).contains(&word.len()) && text.iter().all(plain) => word.to_owned(),
        _ => "-".to_owned(),
    }
}
