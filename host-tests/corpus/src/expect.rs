//! What was observed against what was expected. Both runners judge with this and nothing else.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::case::{Denied, Expect, Forwarded, Lines, Response};
use crate::wire::{Field, latin1};

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// A peer received it: the upstream, the Tenant Manager or the identity provider.
    Forwarded {
        /// The request target.
        path: Vec<u8>,
        /// Every field line in order.
        headers: Vec<Field>,
        /// The whole body.
        body: Vec<u8>,
        /// Every trailer line in order.
        trailers: Vec<Field>,
    },
    /// The client was answered and the upstream received nothing.
    Replied {
        /// HTTP status.
        status: u16,
        /// Every field line in order.
        headers: Vec<Field>,
        /// The whole body.
        body: Vec<u8>,
        /// Every trailer line in order.
        trailers: Vec<Field>,
    },
}

/// Compares one request's outcome with its expectation.
///
/// Besides what the expectation says, every denial with a `code` must be well-formed: the body
/// exactly `{"code":…,"title":…,"message":…}`, `content-type` and `cache-control` as specified,
/// `www-authenticate` on 401 and a whole number of seconds in `retry-after` for the codes that
/// promise one.
///
/// # Errors
/// Every mismatch, one per line, for a human.
pub fn check(expect: &Expect, observed: &Observed) -> Result<(), String> {
    let mut faults = Faults::default();
    match (&expect.forwarded, &expect.denied, observed) {
        (Some(forwarded), None, Observed::Forwarded { .. }) => {
            faults.peer("upstream", forwarded, observed);
        }
        (
            None,
            Some(denied),
            Observed::Replied {
                status, headers, body, ..
            },
        ) => faults.denial(denied, *status, headers, body),
        (Some(_), None, replied) => {
            faults.add(format!("expected to be forwarded, but {}", told(replied)));
        }
        (None, Some(denied), forwarded) => {
            faults.add(format!("expected a {} denial, but {}", denied.status, told(forwarded)))
        }
        _ => faults.add("an expectation says exactly one of `forwarded` and `denied`".to_owned()),
    }
    faults.verdict()
}

/// Compares everything that came of one request with its expectation: what the upstream received, pass
/// by pass, and what the client got in the end. Forwarded and denied are judged as by [`check`].
///
/// # Errors
/// Every mismatch, one per line, for a human.
pub fn check_exchange(expect: &Expect, received: &[Observed], reply: &Observed) -> Result<(), String> {
    let passes = expect.passes.unwrap_or_else(|| usize::from(expect.forwarded.is_some()));
    let mut faults = Faults::default();
    if received.len() != passes && (expect.passes.is_some() || received.len() > 1) {
        faults.add(format!(
            "the upstream got it {} times, expected {passes}",
            received.len()
        ));
    }
    // Of a denied request the upstream may know the passes before it only.
    let is_denied = expect.denied.is_some() && received.len() == passes;
    let observed = received.last().filter(|_| !is_denied).unwrap_or(reply);
    if let Err(fault) = check(expect, observed) {
        faults.add(fault);
    }
    let Observed::Replied {
        status,
        headers,
        body,
        trailers,
    } = reply
    else {
        faults.add("the client got no reply".to_owned());
        return faults.verdict();
    };
    if let Some(blocked) = &expect.blocked {
        faults.denial(blocked, *status, headers, body);
    }
    if let Some(response) = &expect.response {
        faults.response(response, *status, headers, body);
        faults.fields("trailer of the response", &response.trailers, trailers);
    }
    faults.verdict()
}

/// Compares the properties that the filter has left with those that it must, by the value of a name.
///
/// # Errors
/// Every mismatch, one per line, for a human.
pub fn check_properties(expect: &Expect, left: impl Fn(&str) -> Option<String>) -> Result<(), String> {
    let mut faults = Faults::default();
    for (name, wanted) in &expect.properties {
        let found = left(name);
        if found != *wanted {
            faults.add(format!("property `{name}` is {found:?}, expected {wanted:?}"));
        }
    }
    faults.verdict()
}

/// Compares what the Tenant Manager received during a step, in order, with `tm_calls` and
/// `tm_request`.
///
/// # Errors
/// Every mismatch, one per line, for a human.
pub fn check_lookups(expect: &Expect, received: &[Observed]) -> Result<(), String> {
    let mut faults = Faults::default();
    faults.asked("Tenant Manager", expect.tm_calls, expect.tm_request.as_ref(), received);
    faults.verdict()
}

/// Compares what the identity provider received during a step, in order, with `idp_calls` and
/// `idp_request`.
///
/// # Errors
/// Every mismatch, one per line, for a human.
pub fn check_fetches(expect: &Expect, received: &[Observed]) -> Result<(), String> {
    let mut faults = Faults::default();
    faults.asked(
        "identity provider",
        expect.idp_calls,
        expect.idp_request.as_ref(),
        received,
    );
    faults.verdict()
}

/// Looks for what must not be logged in what was logged during a step.
///
/// # Errors
/// Every line that holds a forbidden text.
pub fn check_log<'a>(expect: &Expect, lines: impl IntoIterator<Item = &'a str>) -> Result<(), String> {
    let mut faults = Faults::default();
    for line in lines {
        for text in &expect.log_absent {
            if line.contains(text.as_str()) {
                faults.add(format!("the log says `{text}`: {line}"));
            }
        }
    }
    faults.verdict()
}

/// The body of a denial: these members in this order.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DenialBody {
    code: String,
    title: String,
    message: String,
}

/// Denials that tell the client when to come back.
const WITH_RETRY_AFTER: [&str; 5] = [
    "TENANT_MANAGER_UNAVAILABLE",
    "CIRCUIT_OPEN",
    "KEYS_UNAVAILABLE",
    "TENANT_LOOKUP_OVERLOADED",
    "TENANT_RATE_LIMITED",
];

#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    fn add(&mut self, fault: String) {
        self.0.push(fault);
    }

    fn verdict(self) -> Result<(), String> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(self.0.join("\n"))
        }
    }

    fn asked(&mut self, peer: &str, calls: Option<usize>, request: Option<&Forwarded>, received: &[Observed]) {
        if let Some(wanted) = calls
            && wanted != received.len()
        {
            self.add(format!(
                "the {peer} was asked {} times, expected {wanted}",
                received.len()
            ));
        }
        match (request, received.last()) {
            (Some(wanted), Some(last)) => self.peer(peer, wanted, last),
            (Some(_), None) => self.add(format!("the {peer} was never asked")),
            (None, _) => {}
        }
    }

    fn peer(&mut self, peer: &str, wanted: &Forwarded, observed: &Observed) {
        let Observed::Forwarded {
            path,
            headers,
            body,
            trailers,
        } = observed
        else {
            self.add(format!("the {peer} received nothing: {}", told(observed)));
            return;
        };
        if let Some(wanted) = &wanted.path {
            self.bytes(&format!("path at the {peer}"), wanted, path);
        }
        if let Some(wanted) = &wanted.body {
            self.bytes(&format!("body at the {peer}"), wanted, body);
        }
        self.fields(&format!("header at the {peer}"), &wanted.headers, headers);
        self.fields(&format!("trailer at the {peer}"), &wanted.trailers, trailers);
    }

    fn response(&mut self, wanted: &Response, status: u16, headers: &[Field], body: &[u8]) {
        if status != wanted.status {
            self.add(format!(
                "the client got {status}, expected {}; body {}",
                wanted.status,
                shown(body)
            ));
        }
        self.fields("header of the response", &wanted.headers, headers);
        if let Some(wanted) = &wanted.body {
            self.bytes("body of the response", wanted, body);
        }
    }

    fn denial(&mut self, wanted: &Denied, status: u16, headers: &[Field], body: &[u8]) {
        if status != wanted.status {
            self.add(format!(
                "status is {status}, expected {}; body {}",
                wanted.status,
                shown(body)
            ));
        }
        self.fields("header of the reply", &wanted.headers, headers);
        let Some(code) = &wanted.code else { return };
        match serde_json::from_slice::<DenialBody>(body) {
            Err(error) => self.add(format!("body is not a denial ({error}): {}", shown(body))),
            Ok(denial) => {
                self.denial_members(wanted, code, &denial);
                if !serde_json::to_vec(&denial).is_ok_and(|exact| exact == body) {
                    self.add(format!(
                        "body is not exactly `{{\"code\":…,\"title\":…,\"message\":…}}`: {}",
                        shown(body)
                    ));
                }
            }
        }
        self.exactly(headers, "content-type", "application/json; charset=utf-8");
        self.exactly(headers, "cache-control", "no-store");
        // Those who bring events have another credential.
        let scheme = if code == "EVENTS_UNAUTHORIZED" {
            "X-API-Key"
        } else {
            "Bearer"
        };
        let is_told = |value: &[u8]| value.starts_with(scheme.as_bytes());
        if status == 401 && !lines(headers, "www-authenticate").any(is_told) {
            self.add(format!("a 401 without `www-authenticate: {scheme}`"));
        }
        if WITH_RETRY_AFTER.contains(&code.as_str()) {
            self.retry_after(headers);
        }
    }

    fn denial_members(&mut self, wanted: &Denied, code: &str, found: &DenialBody) {
        let members = [
            ("code", Some(code), &found.code),
            ("title", wanted.title.as_deref(), &found.title),
            ("message", wanted.message.as_deref(), &found.message),
        ];
        for (member, wanted, found) in members {
            if let Some(wanted) = wanted
                && wanted != found
            {
                self.add(format!("`{member}` is `{found}`, expected `{wanted}`"));
            }
        }
    }

    fn retry_after(&mut self, headers: &[Field]) {
        let found: Vec<_> = lines(headers, "retry-after").collect();
        let seconds = match found[..] {
            [value] => std::str::from_utf8(value).ok().and_then(|v| v.parse::<u64>().ok()),
            _ => None,
        };
        if seconds.is_none_or(|seconds| seconds < 1) {
            self.add(format!(
                "`retry-after` is {}, expected one line of whole seconds, at least 1",
                listed(&found)
            ));
        }
    }

    fn exactly(&mut self, headers: &[Field], name: &str, wanted: &str) {
        let found: Vec<_> = lines(headers, name).collect();
        if found != [wanted.as_bytes()] {
            self.add(format!(
                "`{name}` of the reply is {}, expected `{wanted}`",
                listed(&found)
            ));
        }
    }

    fn fields(&mut self, what: &str, wanted: &BTreeMap<String, Lines>, fields: &[Field]) {
        for (name, wanted) in wanted {
            let found: Vec<_> = lines(fields, name).collect();
            let wanted: Result<Vec<_>, _> = wanted.values().iter().map(|v| latin1(v)).collect();
            match wanted {
                Err(error) => self.add(format!("{what} `{name}`: {error}")),
                Ok(wanted) if wanted == found => {}
                Ok(wanted) => {
                    let wanted: Vec<_> = wanted.iter().map(Vec::as_slice).collect();
                    self.add(format!(
                        "{what} `{name}` is {}, expected {}",
                        listed(&found),
                        listed(&wanted)
                    ));
                }
            }
        }
    }

    fn bytes(&mut self, what: &str, wanted: &str, found: &[u8]) {
        match latin1(wanted) {
            Err(error) => self.add(format!("{what}: {error}")),
            Ok(wanted) if wanted == found => {}
            Ok(wanted) => self.add(format!("{what} is {}, expected {}", shown(found), shown(&wanted))),
        }
    }
}

fn lines<'a>(fields: &'a [Field], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    fields
        .iter()
        .filter(move |(found, _)| found.eq_ignore_ascii_case(name.as_bytes()))
        .map(|(_, value)| value.as_slice())
}

fn told(observed: &Observed) -> String {
    match observed {
        Observed::Forwarded { path, .. } => format!("it was forwarded as {}", shown(path)),
        Observed::Replied { status, body, .. } => {
            format!("the reply was {status} {}", shown(body))
        }
    }
}

fn listed(values: &[&[u8]]) -> String {
    if values.is_empty() {
        return "absent".to_owned();
    }
    let values: Vec<_> = values.iter().map(|value| shown(value)).collect();
    values.join(", ")
}

/// Bytes for a human: escaped, and not more than a screenful of them.
fn shown(bytes: &[u8]) -> String {
    const SCREENFUL: usize = 400;
    match bytes.get(..SCREENFUL) {
        Some(start) => format!("`{}…` ({} bytes)", start.escape_ascii(), bytes.len()),
        None => format!("`{}`", bytes.escape_ascii()),
    }
}

#[cfg(test)]
mod tests;
