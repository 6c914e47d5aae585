//! Tenant events: what happened to tenants, told to the filter on a path of its own.
//!
//! Rules in the order they are applied:
//!
//! 1. Only the exact path `events.path` is meant; everything else is a request like any other.
//! 2. It is a `POST` with a body whose declared length is at most 262144 bytes, else 400
//!    `EVENTS_MALFORMED`, with exactly one `x-api-key` that equals a configured key in constant time,
//!    else 401 `EVENTS_UNAUTHORIZED`. The key is taken out before anything behind the filter sees
//!    the request.
//! 3. The body is one JSON object or a list of them, strictly read; each is an envelope
//!    (`event_type`, `tenant_id`, `timestamp`, `environment`, `payload`, …) or the short form
//!    (`type`, `tenantId`). What cannot be read is 400; the other events of the list are carried out.
//! 4. An event for another `environment` is passed over, one about a service unless
//!    `payload.service_name` is the configured service, and one that is more than 5 s older than the
//!    last about its tenant.
//! 5. When the 200 is sent, no worker of the node serves what was known before.

use serde::Serialize;
use serde_json::{Map, Value};
use subtle::{Choice, ConstantTimeEq};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::config::{Config, Events, shown};
use crate::denial::{Denial, Reply};
use crate::engine::Engine;
use crate::json;
use crate::node::Node;
use crate::request::RequestHead;
use crate::resolve::{Command, Order};
use crate::scope::Edit;
use crate::telemetry::{Counter, EventOutcome, EventType};
use crate::tenant_id::TenantId;

/// Longest body, in bytes.
const MAX_BYTES: usize = 262_144;
const API_KEY: &[u8] = b"x-api-key";
/// How many events of one delivery the log hears of.
const MAX_LINES: usize = 50;
const NO_TIME: &str = "`timestamp` is no time by RFC 3339, zone included";
/// How far in the future an event may lie and still count as the last about its tenant.
const TOLERANCE_MS: i64 = 5_000;

/// Events whose body is being received.
#[derive(Debug, Default)]
pub struct Delivery {
    body: Vec<u8>,
}

/// The body is longer than events may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

impl Delivery {
    /// Takes a piece of the body.
    ///
    /// # Errors
    ///
    /// [`TooLong`]: it is to be answered with [`Delivery::too_long`].
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        if self.body.len().saturating_add(bytes.len()) > MAX_BYTES {
            return Err(TooLong);
        }
        self.body.extend_from_slice(bytes);
        Ok(())
    }

    /// The refusal of a body that is too long.
    pub fn too_long() -> Denial {
        Denial::EventsMalformed(format!("events have at most {MAX_BYTES} bytes at a time"))
    }
}

/// Whether a request is meant for the filter itself.
pub(crate) fn is_addressed(events: &Events, head: &RequestHead<'_>) -> bool {
    let target = head.target().unwrap_or_default();
    let path = target.split(|b| *b == b'?').next().unwrap_or_default();
    path == events.path.as_bytes()
}

/// Judges the head of a delivery. Gives what is done to it when it is accepted.
pub(crate) fn accept(events: &Events, head: &RequestHead<'_>) -> Result<Vec<Edit>, Denial> {
    let key = head.only(API_KEY).unwrap_or_default();
    // Every key is compared in full: how long it takes says nothing of which was nearly right.
    let is_valid = events
        .api_keys
        .iter()
        .fold(Choice::from(0), |any, valid| any | valid.expose().as_bytes().ct_eq(key));
    if !bool::from(is_valid) {
        return Err(Denial::EventsUnauthorized);
    }
    if head.method() != b"POST" {
        return Err(Denial::EventsMalformed("events are sent with POST".to_owned()));
    }
    let declared = head.values(b"content-length").next();
    let is_too_long = |length: &[u8]| {
        let length = std::str::from_utf8(length)
            .ok()
            .and_then(|text| text.parse::<usize>().ok());
        length.is_none_or(|length| length > MAX_BYTES)
    };
    if declared.is_some_and(is_too_long) {
        return Err(Delivery::too_long());
    }
    Ok(vec![without_key()])
}

/// Takes the key out: it is for nobody behind the filter, access log included.
pub(crate) fn without_key() -> Edit {
    Edit::Remove(API_KEY.to_vec())
}

/// What became of the events of one delivery, by their number.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Tally {
    applied: usize,
    outdated: usize,
    other_service: usize,
    other_environment: usize,
    unknown: usize,
    malformed: usize,
}

impl Tally {
    fn count(&mut self, outcome: EventOutcome) {
        let place = match outcome {
            EventOutcome::Applied => &mut self.applied,
            EventOutcome::Outdated => &mut self.outdated,
            EventOutcome::OtherService => &mut self.other_service,
            EventOutcome::OtherEnvironment => &mut self.other_environment,
            EventOutcome::Unknown => &mut self.unknown,
            EventOutcome::Malformed => &mut self.malformed,
        };
        *place = place.saturating_add(1);
    }
}

/// What a delivery has come to.
#[derive(Debug)]
pub struct Received {
    /// How many events had which outcome.
    pub reply: Reply,
    /// For the log: one line for each of the first events that were carried out.
    pub carried_out: Vec<String>,
    /// For the log, where somebody looks closely: the first types without a meaning here.
    pub unknown: Vec<String>,
}

/// Carries the events of a delivery out.
///
/// # Errors
///
/// The denial; what could be carried out may have been.
pub(crate) fn receive(engine: &mut Engine, delivery: &Delivery, node: &impl Node) -> Result<Received, Denial> {
    let unreadable = || Denial::EventsMalformed("the body is neither a JSON object nor a list of them".to_owned());
    let events = match json::parse(&delivery.body) {
        Ok(Value::Array(events)) => events,
        Ok(event @ Value::Object(_)) => vec![event],
        Ok(_) | Err(_) => return Err(unreadable()),
    };
    let (Some(manager), Some(resolver)) = (&engine.config.tenant_manager, &mut engine.resolver) else {
        return Err(Denial::EventsNotTaken);
    };
    let mut tally = Tally::default();
    let mut kinds = Vec::new();
    let mut commands = Vec::new();
    let mut unknown = Vec::new();
    let mut wrong = None;
    for (place, event) in events.iter().enumerate() {
        let (kind, read) = read(&engine.config, event, node);
        let unread = match read {
            Ok(command) => {
                kinds.push(kind);
                commands.push(command);
                continue;
            }
            Err(unread) => unread,
        };
        if let Unread::Malformed(why) = unread {
            wrong.get_or_insert((place, why));
        }
        if let (Unread::Unknown, Some(name)) = (unread, event.get("event_type").or(event.get("type")))
            && unknown.len() < MAX_LINES
        {
            unknown.push(shown(name.as_str().unwrap_or_default()).to_string());
        }
        node.count(Counter::Events(kind, unread.outcome()));
        tally.count(unread.outcome());
    }
    let applied = resolver
        .obey(manager, &commands, node)
        .map_err(|_| Denial::EventsNotTaken)?;
    let mut carried_out = Vec::new();
    for ((kind, command), applied) in kinds.into_iter().zip(&commands).zip(applied) {
        let outcome = if applied {
            EventOutcome::Applied
        } else {
            EventOutcome::Outdated
        };
        node.count(Counter::Events(kind, outcome));
        tally.count(outcome);
        if carried_out.len() < MAX_LINES {
            carried_out.push(match command {
                Command::ForgetEverything => format!("event {} {}", kind.name(), outcome.name()),
                Command::Tenant { tenant, .. } => {
                    format!("event {} {} tenant={}", kind.name(), outcome.name(), tenant.as_str())
                }
            });
        }
    }
    if let Some((place, why)) = wrong {
        let (malformed, all) = (tally.malformed, events.len());
        return Err(Denial::EventsMalformed(format!(
            "{malformed} of {all} events cannot be read, the first at /{place}: {why}; the others have been carried out"
        )));
    }
    Ok(Received {
        reply: Reply::ok(serde_json::to_vec(&tally).unwrap_or_default()),
        carried_out,
        unknown,
    })
}

/// Why nothing is done about an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unread {
    OtherService,
    OtherEnvironment,
    Unknown,
    /// The member that is wrong, and how. Nothing of its value.
    Malformed(&'static str),
}

impl Unread {
    fn outcome(self) -> EventOutcome {
        match self {
            Self::OtherService => EventOutcome::OtherService,
            Self::OtherEnvironment => EventOutcome::OtherEnvironment,
            Self::Unknown => EventOutcome::Unknown,
            Self::Malformed(_) => EventOutcome::Malformed,
        }
    }
}

/// An envelope or its short form.
struct Event<'a> {
    members: &'a Map<String, Value>,
    /// Whether it is the short form.
    is_short: bool,
}

impl<'a> Event<'a> {
    /// A member that is a string where it is there; `null` is not there.
    fn text(&self, name: &'static str) -> Result<Option<&'a str>, Unread> {
        match self.members.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Unread::Malformed(name)),
        }
    }

    fn kind(&self) -> Result<EventType, Unread> {
        let name = if self.is_short { "type" } else { "event_type" };
        match self.text(name)? {
            None | Some("") => Err(Unread::Malformed("`event_type` or `type` is missing")),
            Some(text) => Ok(kind(text)),
        }
    }

    /// Whether it is about the configured service. The short form has no place to name one: what only
    /// makes the filter ask anew holds for every service then.
    fn is_about(&self, service: &str, kind: EventType) -> Result<bool, Unread> {
        let payload = match self.members.get("payload") {
            None | Some(Value::Null) => None,
            Some(Value::Object(payload)) => Some(payload),
            Some(_) => return Err(Unread::Malformed("`payload` is no object")),
        };
        let asks_anew = matches!(
            kind,
            EventType::CredentialsRotated | EventType::ConnectionsUpdated | EventType::CacheInvalidate
        );
        Ok(match payload {
            None => self.is_short && asks_anew,
            Some(payload) => payload.get("service_name").and_then(Value::as_str) == Some(service),
        })
    }
}

fn kind(text: &str) -> EventType {
    match text {
        "tenant.created" => EventType::TenantCreated,
        "tenant.activated" => EventType::TenantActivated,
        "tenant.updated" => EventType::TenantUpdated,
        "tenant.suspended" => EventType::TenantSuspended,
        "tenant.deleted" => EventType::TenantDeleted,
        "tenant.service.associated" => EventType::ServiceAssociated,
        "tenant.service.disassociated" => EventType::ServiceDisassociated,
        "tenant.service.suspended" => EventType::ServiceSuspended,
        "tenant.service.purged" => EventType::ServicePurged,
        "tenant.service.reactivated" => EventType::ServiceReactivated,
        "tenant.credentials.rotated" => EventType::CredentialsRotated,
        "tenant.connections.updated" => EventType::ConnectionsUpdated,
        "tenant.cache.invalidate" => EventType::CacheInvalidate,
        "cache.invalidate_all" => EventType::InvalidateAll,
        _ => EventType::Unknown,
    }
}

fn is_about_a_service(kind: EventType) -> bool {
    matches!(
        kind,
        EventType::ServiceAssociated
            | EventType::ServiceDisassociated
            | EventType::ServiceSuspended
            | EventType::ServicePurged
            | EventType::ServiceReactivated
            | EventType::CredentialsRotated
            | EventType::ConnectionsUpdated
            | EventType::CacheInvalidate
    )
}

/// What an event says is to be done; `None`: nothing that is known here.
fn order(kind: EventType) -> Option<Order> {
    let refuse = |status: &str, everywhere| {
        Some(Order::Refuse {
            status: status.to_owned(),
            everywhere,
        })
    };
    match kind {
        EventType::TenantCreated
        | EventType::TenantActivated
        | EventType::ServiceAssociated
        | EventType::ServiceReactivated => Some(Order::Lift),
        EventType::TenantUpdated
        | EventType::CredentialsRotated
        | EventType::ConnectionsUpdated
        | EventType::CacheInvalidate => Some(Order::Forget),
        EventType::TenantSuspended => refuse("suspended", true),
        EventType::TenantDeleted => refuse("deleted", true),
        EventType::ServiceDisassociated => refuse("disassociated", false),
        EventType::ServiceSuspended => refuse("suspended", false),
        EventType::ServicePurged => refuse("purged", false),
        EventType::InvalidateAll | EventType::Unknown => None,
    }
}

/// Reads one event: its type as far as it is known, and what is to be done or why nothing is.
fn read(config: &Config, event: &Value, node: &impl Node) -> (EventType, Result<Command, Unread>) {
    let Value::Object(members) = event else {
        return (EventType::Unknown, Err(Unread::Malformed("it is no object")));
    };
    let event = Event {
        members,
        is_short: !members.contains_key("event_type"),
    };
    match event.kind() {
        Ok(kind) => (kind, command(config, &event, kind, node)),
        Err(unread) => (EventType::Unknown, Err(unread)),
    }
}

fn command(config: &Config, event: &Event<'_>, kind: EventType, node: &impl Node) -> Result<Command, Unread> {
    let is_here = |named: &str| {
        let here = config.environment.as_ref();
        named.is_empty() || here.is_some_and(|here| here.as_str().eq_ignore_ascii_case(named))
    };
    if !event.text("environment")?.is_none_or(is_here) {
        return Err(Unread::OtherEnvironment);
    }
    if kind == EventType::InvalidateAll {
        return Ok(Command::ForgetEverything);
    }
    let order = order(kind).ok_or(Unread::Unknown)?;
    let name = if event.is_short { "tenantId" } else { "tenant_id" };
    let tenant = event
        .text(name)?
        .and_then(|id| TenantId::parse(id, config.tenant_id.fold_uuid))
        .ok_or(Unread::Malformed(if event.is_short {
            "`tenantId` is missing or no tenant id"
        } else {
            "`tenant_id` is missing or no tenant id"
        }))?;
    let at_ms = match event.text("timestamp")? {
        None => None,
        Some(text) => Some(milliseconds(text, node).ok_or(Unread::Malformed(NO_TIME))?),
    };
    if is_about_a_service(kind) && !event.is_about(config.service.as_str(), kind)? {
        return Err(Unread::OtherService);
    }
    Ok(Command::Tenant { tenant, order, at_ms })
}

/// The time of an event (RFC 3339) in milliseconds since the Unix epoch. A time to come counts as
/// at most 5 s ahead: an event must not be able to silence all that follow.
fn milliseconds(text: &str, node: &impl Node) -> Option<i64> {
    let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    let at_ms = i64::try_from(at.unix_timestamp_nanos().checked_div(1_000_000)?).ok()?;
    let now_ms = i64::try_from(node.realtime_ms()).unwrap_or(i64::MAX);
    Some(at_ms.min(now_ms.saturating_add(TOLERANCE_MS)))
}

#[cfg(test)]
mod tests;
