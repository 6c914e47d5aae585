//! The life of a stream: callback → flow → action.

use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, LogLevel};
use tenant_policy::denial::{Denial, Reply};
use tenant_policy::flow::{RequestFlow, Step};
use tenant_policy::request::RequestHead;
use tenant_policy::scope::Edit;

use crate::host::{self, HeaderBlock, LocalResponse, Map};
use crate::root::Worker;
use crate::waiting::Waiter;

/// The stream of a plugin with `enabled: false`: no callback does anything.
pub(crate) struct Identity;

impl Context for Identity {}
impl HttpContext for Identity {}

/// The stream of a plugin that has no configuration: nothing passes.
pub(crate) struct Unconfigured;

impl Context for Unconfigured {}

impl HttpContext for Unconfigured {
    fn on_http_request_headers(&mut self, _headers: usize, _end_of_stream: bool) -> Action {
        answer(&Denial::ManagerUnavailable.reply(false));
        Action::Pause
    }
}

/// The stream of a plugin that enforces tenancy.
pub(crate) struct Stream {
    context: u32,
    worker: Rc<Worker>,
    /// Whether the head of the request has gone on, at once: only then body and trailers follow
    /// without asking whether the stream waits.
    passed: bool,
}

impl Stream {
    pub(crate) fn new(context: u32, worker: Rc<Worker>) -> Self {
        Self {
            context,
            worker,
            passed: false,
        }
    }

    /// A pause is a barrier: where the host shows body and trailers of a paused stream
    /// (`allow_on_headers_stop_iteration`), letting them go on would take the head along.
    fn barrier(&self) -> Action {
        if self.passed || !self.worker.waiting.borrow().holds(self.context) {
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

impl Drop for Stream {
    fn drop(&mut self) {
        if let Ok(mut waiting) = self.worker.waiting.try_borrow_mut() {
            waiting.remove(self.context);
        }
    }
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _headers: usize, _end_of_stream: bool) -> Action {
        // A head that cannot be read is an empty one: no path is public, no credential there.
        let block = HeaderBlock::read(Map::Request).unwrap_or_default();
        let fields = block.fields();
        let head = RequestHead::new(&fields);
        let request_id = printable(head.only(b"x-request-id").unwrap_or_default());
        let step = RequestFlow::start(&mut self.worker.engine.borrow_mut(), &head, &self.worker.node);
        match step {
            Step::Wait { flow, begins } => {
                let lookup = flow.lookup();
                let waiter = Waiter {
                    stream: self.context,
                    flow,
                    request_id,
                };
                self.worker.waiting.borrow_mut().insert(waiter);
                self.worker.schedule();
                if begins {
                    self.worker.request_lookup(lookup, self.context);
                }
                Action::Pause
            }
            Step::Forward(edits) => {
                self.passed = forward(&edits, &request_id);
                if self.passed { Action::Continue } else { Action::Pause }
            }
            Step::Reply { denial, reply } => {
                refuse(&denial, &reply, &request_id);
                Action::Pause
            }
        }
    }

    fn on_http_request_body(&mut self, _size: usize, _end_of_stream: bool) -> Action {
        self.barrier()
    }

    fn on_http_request_trailers(&mut self, _trailers: usize) -> Action {
        let map = Map::RequestTrailers;
        let block = HeaderBlock::read(map).unwrap_or_default();
        let edits = self
            .worker
            .engine
            .borrow()
            .trailer_edits(&RequestHead::new(&block.fields()));
        if apply(map, &edits).is_err() {
            host::log(LogLevel::Error, "trailers cannot be edited");
            answer(&Denial::ManagerUnavailable.reply(false));
            return Action::Pause;
        }
        self.barrier()
    }
}

/// Ends the wait of the current context.
pub(crate) fn conclude(step: Step, request_id: &str) {
    match step {
        Step::Forward(edits) => {
            if forward(&edits, request_id) && host::continue_request().is_err() {
                host::log(
                    LogLevel::Error,
                    &format!("a request cannot be resumed request_id={request_id}"),
                );
            }
        }
        Step::Reply { denial, reply } => refuse(&denial, &reply, request_id),
        // No flow waits twice yet; if one did, its stream would be held, not passed.
        Step::Wait { .. } => answer(&Denial::ManagerUnavailable.reply(false)),
    }
}

/// Applies the edits of a request that goes on. When the host refuses one of them the request
/// is answered instead: half an edited head must not pass.
fn forward(edits: &[Edit], request_id: &str) -> bool {
    match apply(Map::Request, edits) {
        Ok(()) => true,
        Err(host::Refused(status)) => {
            host::log(
                LogLevel::Error,
                &format!("headers cannot be edited: status {status} request_id={request_id}"),
            );
            answer(&Denial::ManagerUnavailable.reply(false));
            false
        }
    }
}

fn apply(map: Map, edits: &[Edit]) -> Result<(), host::Refused> {
    edits.iter().try_for_each(|edit| match edit {
        Edit::Remove(name) => host::remove_header(map, name),
        Edit::Set(name, value) => host::set_header(map, name, value),
        Edit::Add(name, value) => host::add_header(map, name, value),
    })
}

fn refuse(denial: &Denial, reply: &Reply, request_id: &str) {
    host::log(
        LogLevel::Info,
        &format!("denied {} {} request_id={request_id}", reply.status, reply.code),
    );
    if let Some(detail) = denial.detail() {
        host::log(
            LogLevel::Debug,
            &format!("{} because of {detail} request_id={request_id}", reply.code),
        );
    }
    answer(reply);
}

fn answer(reply: &Reply) {
    let headers: Vec<(&str, &str)> = reply
        .headers
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let sent = host::send_local_response(&LocalResponse {
        status: reply.status,
        details: &format!("tenantgate_{}", reply.code),
        headers: &headers,
        body: &reply.body,
        grpc_status: reply.grpc_status,
    });
    if let Err(host::Refused(status)) = sent {
        host::log(LogLevel::Error, &format!("a denial cannot be sent: status {status}"));
    }
}

/// A caller's text as it may stand in a log line: a short word, or `-`.
fn printable(text: &[u8]) -> String {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-._:".contains(b);
    match std::str::from_utf8(text) {
        Ok(word) if (1..=64).contains(&word.len()) && text.iter().all(plain) => word.to_owned(),
        _ => "-".to_owned(),
    }
}
