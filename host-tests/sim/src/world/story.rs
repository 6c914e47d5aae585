//! What happens, in words.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use crate::ledger::{About, Call};
use crate::model::{Decision, Made, Note};
use crate::script::{Again, Change, Credential, Delivery, Request, Saying, Token};

/// What happens, line by line, where somebody reads it. Clones are the same story.
#[derive(Debug, Clone)]
pub struct Story(Option<Rc<RefCell<Vec<String>>>>);

impl Story {
    /// A story that is told, or not.
    #[must_use]
    pub fn new(is_told: bool) -> Self {
        Self(is_told.then(Rc::default))
    }

    /// A line.
    pub fn tell(&self, at: Duration, line: impl FnOnce() -> String) {
        if let Some(lines) = &self.0 {
            lines
                .borrow_mut()
                .push(format!("{:>9.3} s  {}", at.as_secs_f64(), line()));
        }
    }

    /// All of it.
    #[must_use]
    pub fn lines(self) -> Vec<String> {
        self.0.map(|lines| lines.take()).unwrap_or_default()
    }
}

fn of_token(token: &Token) -> String {
    let Token {
        tenant,
        issuer,
        expires_s,
        flaw,
        ..
    } = token;
    let flaw = flaw.map_or("good".to_owned(), |flaw| format!("{flaw:?}"));
    format!("of {tenant} (token of {issuer:?}, {flaw}, until {expires_s} s)")
}

pub(super) fn of_request(request: &Request) -> String {
    let who = match &request.credential {
        Credential::Absent => "without a credential".to_owned(),
        Credential::Unusable(text) | Credential::Garbage(text) => format!("with the credential {text:?}"),
        Credential::Token(token) => of_token(token),
        Credential::Twice(token) => format!("{}, twice", of_token(token)),
    };
    let Request {
        id,
        worker,
        method,
        path,
        ..
    } = request;
    let mut line = format!("worker {worker} gets request {id}, {method} {path} {who}");
    if !request.headers.is_empty() {
        line.push_str(&format!(", with {:?}", request.headers));
    }
    if request.body > 0 {
        line.push_str(&format!(", {} bytes of body", request.body));
    }
    if !request.trailers.is_empty() {
        line.push_str(&format!(", trailers {:?}", request.trailers));
    }
    if request.stays_open {
        line.push_str(", which stays open");
    }
    line
}

pub(super) fn of_return(again: &Again, request: &Request, note: Option<&Note>) -> String {
    let scoped = note.map_or("of which nothing was scoped".to_owned(), |note| {
        format!("which configuration {} has scoped to {}", note.config, note.tenant)
    });
    format!(
        "the host sends request {}, {scoped}, through the filter again: {}",
        again.of,
        of_request(request)
    )
}

fn of_saying(saying: &Saying) -> String {
    format!("{:?} after {} ms", saying.answer, saying.delay_ms)
}

pub(super) fn of_change(change: &Change) -> String {
    match change {
        Change::Says(tenant, saying) => {
            format!("the Tenant Manager says of {tenant} from now on: {}", of_saying(saying))
        }
        Change::Fault(Some(saying)) => format!(
            "the Tenant Manager says of everybody from now on: {}",
            of_saying(saying)
        ),
        Change::Fault(None) => "the Tenant Manager is itself again".to_owned(),
        Change::Takes(takes) => format!("the Tenant Manager takes API keys {takes:?} from now on"),
    }
}

pub(super) fn of_delivery(delivery: &Delivery, reply: &str) -> String {
    let what: Vec<_> = delivery
        .events
        .iter()
        .map(|event| {
            let mut text = format!("{} {}", event.kind, event.tenant);
            if let Some(at) = event.happened_ms {
                text.push_str(&format!(" of {at} ms"));
            }
            for other in [&event.environment, &event.service].into_iter().flatten() {
                text.push_str(&format!(" for {other}"));
            }
            text
        })
        .collect();
    let worker = delivery.worker;
    format!(
        "worker {worker} is told of {} with {:?} key{}: {reply}",
        what.join(", "),
        delivery.key,
        if delivery.is_cut_off { ", cut off" } else { "" }
    )
}

pub(super) fn kind_of_call(about: &About) -> &'static str {
    match about {
        About::Lookup { .. } => "calls: lookups",
        About::List(_) => "calls: lists of tenants",
        About::Keys(_) => "calls: keys",
        About::Strange(_) => "calls: strange",
    }
}

pub(super) fn of_call(call: &Call, number: usize, made: Option<Made>) -> String {
    let who = made.map_or("somebody".to_owned(), |made| format!("worker {}", made.worker));
    let after = call.delay_ms;
    match &call.about {
        About::Lookup {
            tenant, key, answer, ..
        } => {
            let key = key.map_or("no API key".to_owned(), |place| format!("API key {}", place + 1));
            format!(
                "{who} asks the Tenant Manager about {tenant} with {key}: {answer:?} after {after} ms (answer-{number})"
            )
        }
        About::List(list) => format!("{who} asks for the list of tenants: {list:?} after {after} ms"),
        About::Keys(keys) => format!("{who} fetches keys: {:?} after {after} ms", keys.answer),
        About::Strange(path) => format!("{who} asks for {path}"),
    }
}

pub(super) fn of_decision(id: u32, decision: &Decision, waited_ms: u64) -> String {
    let when = if waited_ms == 0 {
        "at once".to_owned()
    } else {
        format!("after {waited_ms} ms")
    };
    match decision {
        Decision::Forwarded(sent) => {
            let text = |name| sent.headers.text(name).unwrap_or_else(|| "nobody".to_owned());
            format!(
                "request {id} is forwarded {when} as {} by {}",
                text("x-tenant-id"),
                text("x-tenant-slug")
            )
        }
        Decision::Reported(_, code) => format!("request {id} is forwarded {when}, though {code} is reported"),
        Decision::Denied(denied) => format!(
            "request {id} is denied {when} with {} {}",
            denied.reply.status, denied.code
        ),
    }
}
