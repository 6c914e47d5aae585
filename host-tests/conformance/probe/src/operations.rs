//! The operations of a script, one hostcall each.

use std::rc::Rc;

use serde_json::Value;

use crate::host::{self, Status};
use crate::pairs;
use crate::script::Script;
use crate::state::{self, Call};
use crate::text::{arguments, bytes, quoted};

/// The timeout of a callout that names none, in milliseconds.
const TIMEOUT_MS: i64 = 5_000;

/// A callback that is running a script.
#[derive(Debug)]
pub(crate) struct Moment<'a> {
    pub(crate) script: &'a Rc<Script>,
    /// The context that it is about. Of an answer to a callout: the one that made it.
    pub(crate) context: u32,
    /// What the host has said, without the context.
    pub(crate) arguments: &'a [u32],
    pub(crate) returns: Option<u32>,
}

impl Moment<'_> {
    /// Does one thing. Returns what is to be logged of it.
    pub(crate) fn perform(&mut self, operation: &[Value]) -> Option<String> {
        let verb = operation.first()?.as_str()?;
        let at = |place: usize| operation.get(place);
        let text = |place: usize| bytes(operation.get(place));
        let result = match verb {
            // What the callback returns.
            "pause" => {
                self.returns = Some(1);
                return None;
            }
            "return" => {
                self.returns = u32::try_from(number(at(1))).ok();
                return None;
            }
            // What the host has said.
            "say" => return Some(String::from_utf8_lossy(&text(1)).into_owned()),
            "end" => format!("{}", self.arguments.last() == Some(&1)),
            "sizes" => return Some(self.sizes()),
            "is_own_context" => format!("{}", self.arguments.first() == Some(&self.context)),
            // Header maps.
            "get" => valued(host::header(map(at(1)), &text(2))),
            "all" => all(map(at(1)), &text(2)),
            "names" => names(map(at(1)), &text(2)),
            "pairs" => {
                let (status, given) = host::header_pairs(map(at(1)));
                let count = pairs::read(&given).map_or(-1, |pairs| i64::try_from(pairs.len()).unwrap_or(-1));
                format!(
                    "{} {}",
                    status.name(),
                    if count > 0 {
                        "some".to_owned()
                    } else {
                        count.to_string()
                    }
                )
            }
            "size" => {
                let (status, size) = host::header_size(map(at(1)));
                format!("{}{}", status.name(), if size > 0 { " some" } else { "" })
            }
            "set" => host::set_header(map(at(1)), &text(2), &text(3)).name(),
            "add" => host::add_header(map(at(1)), &text(2), &text(3)).name(),
            "remove" => host::remove_header(map(at(1)), &text(2)).name(),
            "set_pairs" => {
                let pairs = listed(at(2));
                return Some(format!(
                    "set_pairs {} = {}",
                    at(1)?.as_str()?,
                    host::set_header_pairs(map(at(1)), &pairs::write(&pairs)).name()
                ));
            }
            // The map as it is, with headers `x-many-…` up to this number of pairs.
            "set_many" => set_many(map(at(1)), number(at(2))).name(),
            "set_raw" => host::set_header_pairs(map(at(1)), &text(2)).name(),
            // Buffers.
            "body" => valued(host::buffer(buffer(at(1)), size(at(2), 0), size(at(3), usize::MAX))),
            "set_body" => host::set_buffer(buffer(at(1)), size(at(2), 0), size(at(3), usize::MAX), &text(4)).name(),
            // Streams.
            "continue" => host::continue_stream(stream(at(1))).name(),
            "close" => host::close_stream(stream(at(1))).name(),
            "reply" => reply(number(at(1)), at(2)).name(),
            // Callouts.
            "call" => self.call(&text(1), at(2)),
            "status" => {
                let (status, code, message) = host::call_status();
                format!("{} {code} {}", status.name(), quoted(&message))
            }
            // Contexts.
            "effective" => self.effective(at(1)).name(),
            "me" => {
                self.keep(&text(1), self.context.to_string().into_bytes());
                return None;
            }
            "done" => host::done().name(),
            // What workers share.
            "shared" => {
                let (status, value, cas) = host::shared_data(&text(1));
                self.number(&text(1), cas);
                let cas = if cas == 0 { "0" } else { "some" };
                format!("{} {} cas {cas}", status.name(), quoted(&value))
            }
            "set_shared" => host::set_shared_data(&text(1), &text(2), self.cas(&text(1), at(3))).name(),
            "cas_order" => self.cas_order(&text(1), &text(2)),
            "register" => {
                let (status, id) = host::register_queue(&text(1));
                self.number(&text(1), id);
                status.name()
            }
            "resolve" => {
                let (status, id) = host::resolve_queue(&text(1), &text(2));
                self.number(&text(2), id);
                status.name()
            }
            "enqueue" => host::enqueue(self.numbered(&text(1)), &text(2)).name(),
            "dequeue" => valued(host::dequeue(self.numbered(&text(1)))),
            "is_queue" => format!("{}", self.arguments.first() == Some(&self.numbered(&text(1)))),
            "same_id" => format!("{}", self.numbered(&text(1)) == self.numbered(&text(2))),
            // Metrics: the id is kept under the third word, else under the name.
            "define" => {
                let (status, id) = host::define_metric(metric_kind(at(1)), &text(2));
                let name = if at(3).is_some() { text(3) } else { text(2) };
                self.number(&name, id);
                status.name()
            }
            "increment" => host::increment_metric(self.numbered(&text(1)), number(at(2))).name(),
            "record" => host::record_metric(self.numbered(&text(1)), number(at(2)).unsigned_abs()).name(),
            "metric" => {
                let (status, value) = host::metric(self.numbered(&text(1)));
                format!("{} {value}", status.name())
            }
            // Properties and foreign functions.
            "property" => valued(host::property(&path(at(1)))),
            "set_property" => host::set_property(&path(at(1)), &text(2)).name(),
            "foreign" => {
                let argument = match at(2) {
                    Some(Value::Object(one)) if one.contains_key("kept") => self.kept(&bytes(one.get("kept"))),
                    argument => bytes(argument),
                };
                let (status, given) = host::call_foreign(&text(1), &argument);
                if let Some(name) = at(3) {
                    self.keep(&bytes(Some(name)), given.clone());
                    return Some(format!("foreign {} = {}", quoted(&text(1)), status.name()));
                }
                return Some(format!(
                    "foreign {} = {} {}",
                    String::from_utf8_lossy(&text(1)),
                    status.name(),
                    quoted(&given)
                ));
            }
            // Time, chance, environment.
            "tick" => host::set_tick_period(u32::try_from(number(at(1))).unwrap_or_default()).name(),
            "log_level" => {
                let (status, level) = host::log_level();
                format!("{} {level}", status.name())
            }
            "log_at" => host::log_at(u32::try_from(number(at(1))).unwrap_or(u32::MAX), &text(2)).name(),
            "time" => time(),
            "clock" => clock(number(at(1))),
            "random" => random(size(at(1), 0)),
            "env" => match std::env::var(String::from_utf8_lossy(&text(1)).as_ref()) {
                Ok(value) => quoted(value.as_bytes()),
                Err(_) => "none".to_owned(),
            },
            "environment" => format!("{} variables", std::env::vars().count()),
            "print" => {
                println!("{}", String::from_utf8_lossy(&text(1)));
                return None;
            }
            // Memory of the VM.
            "let" => {
                self.keep(&text(1), text(2));
                return None;
            }
            "show" => quoted(&self.kept(&text(1))),
            "count" => {
                let next = self.numbered(&text(1)).wrapping_add(1);
                self.number(&text(1), next);
                next.to_string()
            }
            // Ends.
            "panic" => panic!("as row {} says", self.script.row),
            "allocate_mib" => {
                let wanted = size(at(1), 0);
                (0..wanted).for_each(|_| std::mem::forget(std::hint::black_box(vec![1_u8; 1 << 20])));
                "done".to_owned()
            }
            other => format!("is no operation: {other}"),
        };
        Some(format!("{} = {result}", arguments(operation)))
    }

    /// The sizes that the host gives with an answer to a callout.
    fn sizes(&self) -> String {
        let some = |place: usize| match self.arguments.get(place) {
            Some(0) => "none",
            _ => "some",
        };
        let body = self.arguments.get(2).copied().unwrap_or_default();
        format!("headers {} body {body} trailers {}", some(1), some(3))
    }

    fn call(&self, cluster: &[u8], options: Option<&Value>) -> String {
        let option = |name: &str| options.and_then(|options| options.get(name));
        let or = |name: &str, otherwise: &str| match option(name) {
            Some(Value::Null) => None,
            None => Some(otherwise.as_bytes().to_vec()),
            given => Some(bytes(given)),
        };
        let pseudo = [
            (":method", or("method", "GET")),
            (":path", or("path", "/")),
            (":authority", or("authority", "peer.example")),
        ];
        let mut headers: Vec<_> = pseudo
            .into_iter()
            .filter_map(|(name, value)| Some((name.as_bytes().to_vec(), value?)))
            .collect();
        headers.push((b"x-row".to_vec(), self.script.row.clone().into_bytes()));
        headers.extend(listed(option("headers")));
        let timeout = option("timeout").and_then(Value::as_i64).unwrap_or(TIMEOUT_MS);
        let (status, token) = host::http_call(
            cluster,
            &pairs::write(&headers),
            &bytes(option("body")),
            &pairs::write(&listed(option("trailers"))),
            // As the SDK and any C guest would hand over a negative number.
            i32::try_from(timeout).unwrap_or(i32::MAX).cast_unsigned(),
        );
        if status.is_ok() {
            let then = option("then").and_then(Value::as_str).unwrap_or("http_call_response");
            let call = Call {
                script: Rc::clone(self.script),
                then: then.to_owned(),
                context: self.context,
            };
            state::with(|state| state.calls.insert(token, call));
        }
        status.name()
    }

    /// `self`, `root`, a number, or the name under which `me` has kept one.
    fn effective(&self, who: Option<&Value>) -> Status {
        let root = || state::with(|state| state.roots.get(&self.context).copied()).unwrap_or(self.context);
        let context = match who {
            Some(Value::String(text)) if text == "self" => self.context,
            Some(Value::String(text)) if text == "root" => root(),
            Some(Value::String(text)) => String::from_utf8(self.kept(text.as_bytes()))
                .ok()
                .and_then(|id| id.parse().ok())
                .unwrap_or_default(),
            other => u32::try_from(number(other)).unwrap_or_default(),
        };
        host::set_effective_context(context)
    }

    /// `none`, `max`, `read` (what `shared` has read last under this key), `other`.
    fn cas(&self, key: &[u8], which: Option<&Value>) -> u32 {
        match which.and_then(Value::as_str) {
            Some("max") => u32::MAX,
            Some("read") => self.numbered(key),
            Some("other") => self.numbered(key).wrapping_add(1).max(1),
            _ => 0,
        }
    }

    fn cas_order(&self, one: &[u8], other: &[u8]) -> String {
        format!("{:?}", self.numbered(one).cmp(&self.numbered(other)))
    }

    fn key(&self, name: &[u8]) -> (String, String) {
        (self.script.row.clone(), String::from_utf8_lossy(name).into_owned())
    }

    fn number(&self, name: &[u8], number: u32) {
        state::with(|state| state.numbers.insert(self.key(name), number));
    }

    fn numbered(&self, name: &[u8]) -> u32 {
        state::with(|state| state.numbers.get(&self.key(name)).copied()).unwrap_or_default()
    }

    fn keep(&self, name: &[u8], value: Vec<u8>) {
        state::with(|state| state.kept.insert(self.key(name), value));
    }

    fn kept(&self, name: &[u8]) -> Vec<u8> {
        state::with(|state| state.kept.get(&self.key(name)).cloned()).unwrap_or_default()
    }
}

fn valued((status, value): host::Given) -> String {
    if status.is_ok() {
        format!("{} {}", status.name(), quoted(&value))
    } else {
        status.name()
    }
}

fn number(argument: Option<&Value>) -> i64 {
    argument.and_then(Value::as_i64).unwrap_or_default()
}

fn size(argument: Option<&Value>, otherwise: usize) -> usize {
    argument
        .and_then(Value::as_u64)
        .and_then(|size| usize::try_from(size).ok())
        .unwrap_or(otherwise)
}

fn one_of(argument: Option<&Value>, names: &[(&str, u32)]) -> u32 {
    let found = names
        .iter()
        .find(|(name, _)| argument.and_then(Value::as_str) == Some(name));
    found.map_or_else(
        || u32::try_from(number(argument)).unwrap_or_default(),
        |(_, number)| *number,
    )
}

fn map(argument: Option<&Value>) -> u32 {
    let names = [
        ("request", 0),
        ("request_trailers", 1),
        ("response", 2),
        ("response_trailers", 3),
        ("callout", 6),
        ("callout_trailers", 7),
    ];
    one_of(argument, &names)
}

fn buffer(argument: Option<&Value>) -> u32 {
    let names = [
        ("request", 0),
        ("response", 1),
        ("callout", 4),
        ("vm_configuration", 6),
        ("plugin_configuration", 7),
    ];
    one_of(argument, &names)
}

fn stream(argument: Option<&Value>) -> u32 {
    one_of(argument, &[("request", 0), ("response", 1)])
}

fn metric_kind(argument: Option<&Value>) -> u32 {
    one_of(argument, &[("counter", 0), ("gauge", 1), ("histogram", 2)])
}

/// A path of a property: its parts joined by NUL.
fn path(argument: Option<&Value>) -> Vec<u8> {
    match argument {
        Some(Value::Array(parts)) => {
            let parts: Vec<_> = parts.iter().map(|part| bytes(Some(part))).collect();
            parts.join(&0)
        }
        other => bytes(other),
    }
}

fn listed(argument: Option<&Value>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let pairs = argument
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    pairs
        .iter()
        .map(|pair| (bytes(pair.get(0)), bytes(pair.get(1))))
        .collect()
}

fn all(map: u32, name: &[u8]) -> String {
    let (status, given) = host::header_pairs(map);
    let pairs = pairs::read(&given).unwrap_or_default();
    let values = pairs.iter().filter(|(found, _)| found == name);
    let values: Vec<_> = values.map(|(_, value)| quoted(value)).collect();
    format!("{} {}", status.name(), or_none(values.join(" | ")))
}

/// The names that begin like this, in their order.
fn names(map: u32, prefix: &[u8]) -> String {
    let (status, given) = host::header_pairs(map);
    let pairs = pairs::read(&given).unwrap_or_default();
    let names = pairs.iter().filter(|(name, _)| name.starts_with(prefix));
    let names: Vec<_> = names.map(|(name, _)| name.escape_ascii().to_string()).collect();
    format!("{} {}", status.name(), or_none(names.join(" ")))
}

fn or_none(text: String) -> String {
    if text.is_empty() { "none".to_owned() } else { text }
}

fn set_many(map: u32, total: i64) -> Status {
    let (_, given) = host::header_pairs(map);
    let mut pairs = pairs::read(&given).unwrap_or_default();
    let total = usize::try_from(total).unwrap_or_default();
    for number in pairs.len()..total {
        pairs.push((format!("x-many-{number}").into_bytes(), b"1".to_vec()));
    }
    host::set_header_pairs(map, &pairs::write(&pairs))
}

fn reply(status: i64, options: Option<&Value>) -> Status {
    let option = |name: &str| options.and_then(|options| options.get(name));
    host::send_local_response(
        u32::try_from(status).unwrap_or_default(),
        &bytes(option("details")),
        &bytes(option("body")),
        &pairs::write(&listed(option("headers"))),
        option("grpc")
            .and_then(Value::as_i64)
            .and_then(|status| i32::try_from(status).ok())
            .unwrap_or(-1),
    )
}

/// Whether the clock of the ABI and that of WASI agree to a second.
fn time() -> String {
    let (status, here) = host::current_time();
    let (errno, there) = host::clock(0);
    let agree = here.abs_diff(there) < 1_000_000_000;
    format!(
        "{} errno {errno} {}",
        status.name(),
        if agree { "agree" } else { "differ" }
    )
}

fn clock(id: i64) -> String {
    let (errno, time) = host::clock(u32::try_from(id).unwrap_or(u32::MAX));
    format!("errno {errno} {}", if time == 0 { "zero" } else { "some" })
}

/// Two draws of this length, which must differ.
fn random(length: usize) -> String {
    let (errno, one) = host::random(length);
    let (_, other) = host::random(length);
    format!("errno {errno} {}", if one == other { "equal" } else { "different" })
}
