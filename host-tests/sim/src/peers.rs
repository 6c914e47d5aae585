//! The Tenant Manager and the identity provider.

use std::time::Duration;

use serde_json::{Value, json};
use tiny_envoy::PeerRequest;

use crate::config::{API_KEYS, AROUND_ID, LIST_PATH, MAX_BODY_BYTES, SERVICE};
use crate::ledger::{About, Call, Ledger};
use crate::script::{Answer, KeysAnswer, Saying};
use crate::tokens;

/// What no record may be quoted with.
pub const PASSWORD: &str = "planted-db-password";
/// What no error may be quoted with.
pub const MANAGER_TEXT: &str = "planted-manager-text";

/// The slug in the answer to the call of this number: whoever is forwarded with it has been judged by
/// that answer.
pub fn slug(call: usize) -> String {
    format!("answer-{call}")
}

/// The number of the call behind a slug.
pub fn call_of(slug: &str) -> Option<usize> {
    slug.strip_prefix("answer-")?.parse().ok()
}

/// More calls than a world has reason for: it asks without end.
const MOST_CALLS: usize = 50_000;

/// The Tenant Manager answers.
///
/// # Panics
/// It is asked without end.
pub fn manager(ledger: &Ledger, request: &PeerRequest) -> tiny_envoy::Answer {
    let mut book = ledger.book();
    assert!(book.calls.len() < MOST_CALLS, "the Tenant Manager is asked without end");
    let asked = book.tick();
    let number = book.calls.len();
    let path = request.path();
    let key = request.headers.text("x-api-key");
    let key = API_KEYS.iter().position(|known| key.as_deref() == Some(known));
    let is_let_in = key.is_some_and(|place| book.takes[place]);
    let (before, after) = AROUND_ID;
    let tenant = path.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
    let (about, saying) = if let Some(tenant) = tenant {
        let known = book.fault.as_ref().or_else(|| book.tenants.get(tenant));
        let mut saying = known.cloned().unwrap_or(Saying {
            answer: Answer::Unknown,
            delay_ms: 1,
        });
        if !is_let_in && !saying.answer.is_no_answer() {
            saying.answer = Answer::Status(401);
        }
        let about = About::Lookup {
            tenant: tenant.to_owned(),
            key,
            answer: saying.answer.clone(),
        };
        (about, saying)
    } else if path == format!("{LIST_PATH}?service={SERVICE}") {
        let fault = book
            .fault
            .clone()
            .filter(|fault| !matches!(fault.answer, Answer::Active(_)));
        let mut saying = fault.unwrap_or(Saying {
            answer: Answer::Active(Vec::new()),
            delay_ms: 2,
        });
        if !is_let_in && !saying.answer.is_no_answer() {
            saying.answer = Answer::Status(401);
        }
        let active = |(id, saying): (&String, &Saying)| {
            matches!(saying.answer, Answer::Active(_) | Answer::Schema(..)).then(|| id.clone())
        };
        let is_given = matches!(saying.answer, Answer::Active(_));
        let list = is_given.then(|| book.tenants.iter().filter_map(active).collect());
        (About::List(list), saying)
    } else {
        let saying = Saying {
            answer: Answer::Unknown,
            delay_ms: 0,
        };
        (About::Strange(path), saying)
    };
    let answer = match &about {
        About::List(Some(list)) => {
            let list: Vec<_> = list.iter().map(|id| json!({ "id": id, "status": "active" })).collect();
            tiny_envoy::Answer::json(200, Value::from(list).to_string())
        }
        About::Lookup { tenant, .. } => said(tenant, &saying.answer, number),
        _ => said("", &saying.answer, number),
    };
    book.calls.push(Call {
        asked,
        about,
        delay_ms: saying.delay_ms,
        is_refused: saying.answer == Answer::NoEndpoints,
    });
    answer.after(Duration::from_millis(saying.delay_ms))
}

impl Answer {
    /// Whether nobody has looked at the request.
    pub fn is_no_answer(&self) -> bool {
        matches!(
            self,
            Self::Reset
                | Self::Close
                | Self::Silence
                | Self::NoEndpoints
                | Self::Status(500..=599)
                | Self::Throttled(_)
        )
    }
}

/// A record of a tenant whose modules are in this schema, or in databases of their own.
fn record(tenant: &str, number: usize, modules: &[String], schema: Option<&str>) -> Value {
    let mut database = json!({ "postgresql": { "host": "db", "username": "u", "password": PASSWORD } });
    if let Some(schema) = schema {
        database["postgresql"]["schema"] = json!(schema);
    }
    let databases: serde_json::Map<_, _> = modules
        .iter()
        .map(|module| (module.clone(), database.clone()))
        .collect();
    json!({
        "id": tenant, "tenantSlug": slug(number), "tenantName": tenant, "service": SERVICE, "status": "active",
        "isolationMode": if schema.is_some() { "schema" } else { "isolated" }, "databases": databases,
        "messaging": { "rabbitmq": { "host": "mq", "vhost": "v", "password": PASSWORD } },
    })
}

/// An answer in the words of the tiny Envoy.
fn said(tenant: &str, answer: &Answer, number: usize) -> tiny_envoy::Answer {
    let json = |status, body: Value| tiny_envoy::Answer::json(status, body.to_string());
    let text = json!({ "code": "X", "error": MANAGER_TEXT });
    match answer {
        Answer::Active(modules) => json(200, record(tenant, number, modules, None)),
        Answer::Schema(modules, schema) => json(200, record(tenant, number, modules, Some(schema))),
        Answer::Inactive(status) => {
            let mut record = record(tenant, number, &["onboarding".to_owned()], None);
            record["status"] = json!(status);
            json(200, record)
        }
        Answer::OfOther => json(200, record("somebody-else", number, &["onboarding".to_owned()], None)),
        Answer::Refused(Some(status)) => json(403, json!({ "code": "X", "error": MANAGER_TEXT, "status": status })),
        Answer::Refused(None) => json(403, text),
        Answer::Unknown => json(404, text),
        Answer::Unprovisioned => json(422, text),
        Answer::Garbage => tiny_envoy::Answer::json(200, format!("{{\"password\":\"{PASSWORD}\"")),
        Answer::Huge => {
            let mut record = record(tenant, number, &["onboarding".to_owned()], None);
            record["padding"] = Value::from(PASSWORD.repeat(MAX_BODY_BYTES / PASSWORD.len() + 1));
            json(200, record)
        }
        Answer::Status(status) => json(*status, text).header("location", format!("/{MANAGER_TEXT}")),
        Answer::Throttled(after) => {
            let answer = json(429, text);
            match after {
                Some(seconds) => answer.header("retry-after", seconds.to_string()),
                None => answer,
            }
        }
        Answer::Reset => json(200, record(tenant, number, &["onboarding".to_owned()], None)).reset_mid_body(),
        Answer::Close => tiny_envoy::Answer::close_before_headers(),
        Answer::Silence => tiny_envoy::Answer::silence(),
        Answer::NoEndpoints => tiny_envoy::Answer::no_endpoints(),
    }
}

/// The identity provider answers.
pub fn identity_provider(ledger: &Ledger, _request: &PeerRequest) -> tiny_envoy::Answer {
    let mut book = ledger.book();
    let asked = book.tick();
    let keys = book.keys.clone().expect("it is there from the start");
    let answer = match &keys.answer {
        KeysAnswer::Set(places) => tiny_envoy::Answer::json(200, tokens::key_set(places).to_string()),
        KeysAnswer::Status(status) => tiny_envoy::Answer::json(*status, MANAGER_TEXT),
        KeysAnswer::Garbage => tiny_envoy::Answer::json(200, MANAGER_TEXT),
        KeysAnswer::Unusable => {
            let key = json!({ "kty": "oct", "kid": "x", "alg": "HS256", "k": "cGxhbnRlZC1rZXk", "note": PASSWORD });
            tiny_envoy::Answer::json(200, json!({ "keys": [key] }).to_string())
        }
        KeysAnswer::Reset => tiny_envoy::Answer::json(200, tokens::key_set(&[0]).to_string()).reset_mid_body(),
        KeysAnswer::Silence => tiny_envoy::Answer::silence(),
        KeysAnswer::NoEndpoints => tiny_envoy::Answer::no_endpoints(),
    };
    let (is_refused, delay_ms) = (keys.answer == KeysAnswer::NoEndpoints, keys.delay_ms);
    book.calls.push(Call {
        asked,
        about: About::Keys(keys),
        delay_ms,
        is_refused,
    });
    answer.after(Duration::from_millis(delay_ms))
}

/// The service behind the filter answers as the request says: `x-answer: name=value` has it say that header.
pub fn upstream(request: &PeerRequest) -> tiny_envoy::Answer {
    let lines = request.headers.get_all("x-answer");
    let texts = lines.iter().filter_map(|line| std::str::from_utf8(line).ok());
    let said = texts.filter_map(|text| text.split_once('='));
    said.fold(tiny_envoy::Answer::status(200), |answer, (name, value)| {
        answer.header(name, value)
    })
}
