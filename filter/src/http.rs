//! The life of a stream: callback → flow → action.

use std::cell::Cell;
use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, LogLevel};
use tenant_policy::denial::{Denial, Reply};
use tenant_policy::flow::{self, RequestFlow};
use tenant_policy::request::RequestHead;
use tenant_policy::scope::Edit;

use crate::host::{self, HeaderBlock, LocalResponse, Map, Refused};
use crate::root::Worker;

/// The stream of a plugin with `enabled: false`: no callback does anything.
pub(crate) struct Identity;

impl Context for Identity {}
impl HttpContext for Identity {}

/// The stream of a plugin that has no configuration: nothing passes.
pub(crate) struct Unconfigured;

impl Context for Unconfigured {}

impl HttpContext for Unconfigured {
    fn on_http_request_headers(&mut self, _headers: usize, _end_of_stream: bool) -> Action {
        answer(&Denial::HostRefused.reply(false));
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
    /// Whether the head has been let go, with all its edits. Until then nothing of the request
    /// may pass, whatever else has happened to it.
    pub(crate) passed: Cell<bool>,
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
    /// (`allow_on_headers_stop_iteration`), letting them go on would take the head along. They
    /// follow a head that has been let go, and no other: not one that waits, and not one that
    /// was refused while the refusal could not be sent.
    fn barrier(&self) -> Action {
        if self.exchange.as_ref().is_some_and(|exchange| exchange.passed.get()) {
            Action::Continue
        } else {
            Action::Pause
        }
    }
}

impl Context for Stream {
    fn on_done(&mut self) -> bool {
        self.worker.waiting.borrow_mut().remove(self.context);
        true
    }
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _headers: usize, _end_of_stream: bool) -> Action {
        // A head that cannot be read is an empty one: no path is public, no credential there.
        let block = HeaderBlock::read(Map::Request).unwrap_or_default();
        let fields = block.fields().unwrap_or_default();
        let head = RequestHead::new(&fields);
        let exchange = Rc::new(Exchange {
            request_id: printable(head.only(b"x-request-id").unwrap_or_default()),
            grpc: head.is_grpc(),
            passed: Cell::new(false),
        });
        self.exchange = Some(Rc::clone(&exchange));
        let step = RequestFlow::start(&mut self.worker.engine.borrow_mut(), &head, &self.worker.node);
        self.worker.proceed(self.context, &exchange, step);
        self.barrier()
    }

    fn on_http_request_body(&mut self, _size: usize, _end_of_stream: bool) -> Action {
        self.barrier()
    }

    fn on_http_request_trailers(&mut self, _trailers: usize) -> Action {
        if let Err(Refused(status)) = self.sanitize_trailers() {
            host::log(
                LogLevel::Error,
                &format!("trailers cannot be sanitized: status {status}"),
            );
            if let Some(exchange) = &self.exchange {
                exchange.passed.set(false);
                answer(&Denial::HostRefused.reply(exchange.grpc));
            }
        }
        self.barrier()
    }
}

impl Stream {
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

/// Edits the head of the current context. When the host refuses an edit the request is answered
/// instead, and false given: half an edited head must not pass.
pub(crate) fn edit(edits: &[Edit], exchange: &Exchange) -> bool {
    match apply(Map::Request, edits) {
        Ok(()) => true,
        Err(Refused(status)) => {
            let request_id = &exchange.request_id;
            host::log(
                LogLevel::Error,
                &format!("headers cannot be edited: status {status} request_id={request_id}"),
            );
            answer(&Denial::HostRefused.reply(exchange.grpc));
            false
        }
    }
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
    let request_id = &exchange.request_id;
    host::log(
        LogLevel::Info,
        &format!("{} request_id={request_id}", refused.summary()),
    );
    if let Some(detail) = refused.detail() {
        let code = refused.reply.code.as_str();
        host::log(
            LogLevel::Debug,
            &format!("{code} because of {detail} request_id={request_id}"),
        );
    }
    // For the access log alone: the reply does not depend on it.
    let _ = apply(Map::Request, &refused.edits);
    answer(&refused.reply);
}

fn answer(reply: &Reply) {
    let headers: Vec<(&str, &str)> = reply
        .headers
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let sent = host::send_local_response(&LocalResponse {
        status: reply.status,
        details: &format!("tenantgate_{}", reply.code.as_str()),
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
