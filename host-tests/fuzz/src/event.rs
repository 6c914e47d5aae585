//! What tenant events do, read a second time.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::NOW;
use crate::claims;

/// How much older than the last an event may be, and how far ahead its clock, in milliseconds.
const TOLERANCE_MS: i64 = 5_000;

/// What one event does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// What is known of everybody is forgotten, refusals too.
    Everything,
    /// What is known of the tenant is forgotten.
    Forget(String),
    /// That, and its refusal ends.
    Lift(String),
    /// It is refused.
    Refuse(String),
}

/// What a body brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// No events.
    Unreadable,
    /// This reading does not know.
    Unsure,
    /// The effects of the events in their order; whether some of them are malformed.
    Events {
        /// Of those that have any.
        effects: Vec<Effect>,
        /// Whether it is answered so.
        is_malformed: bool,
    },
}

/// Why an event has no effect.
enum Without {
    Malformed,
    Meaning,
    Sure,
}

/// Reads a body. `marks` are the times of the last events about each tenant.
pub fn delivery(body: &[u8], service: &str, environment: &str, marks: &mut BTreeMap<String, i64>) -> Delivery {
    if body.len() > 262_144 {
        return Delivery::Unreadable;
    }
    let Some(document) = claims::document(body) else {
        return Delivery::Unreadable;
    };
    let events = match document {
        Value::Array(events) => events,
        event @ Value::Object(_) => vec![event],
        _ => return Delivery::Unreadable,
    };
    let (mut effects, mut is_malformed) = (Vec::new(), false);
    for event in &events {
        match effect(event, service, environment) {
            // What is known is dropped, and not when the last event of a tenant was.
            Ok((Effect::Everything, _)) => effects.push(Effect::Everything),
            Ok((effect, at_ms)) => {
                let (Effect::Forget(tenant) | Effect::Lift(tenant) | Effect::Refuse(tenant)) = &effect else {
                    continue;
                };
                if let Some(at_ms) = at_ms {
                    let last = marks.entry(tenant.clone()).or_insert(i64::MIN);
                    if at_ms.saturating_add(TOLERANCE_MS) < *last {
                        continue;
                    }
                    *last = at_ms.max(*last);
                }
                effects.push(effect);
            }
            Err(Without::Malformed) => is_malformed = true,
            Err(Without::Meaning) => {}
            Err(Without::Sure) => return Delivery::Unsure,
        }
    }
    // So many tenants crowd each other out of a set.
    if marks.len() > 4 || events.len() > 16 {
        return Delivery::Unsure;
    }
    Delivery::Events { effects, is_malformed }
}

/// A string, or nothing where there is none.
fn text<'e>(event: &'e Map<String, Value>, name: &str) -> Result<Option<&'e str>, Without> {
    match event.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Without::Malformed),
    }
}

fn effect(event: &Value, service: &str, environment: &str) -> Result<(Effect, Option<i64>), Without> {
    let event = event.as_object().ok_or(Without::Malformed)?;
    let is_long = event.contains_key("event_type");
    let (kind, id) = if is_long {
        ("event_type", "tenant_id")
    } else {
        ("type", "tenantId")
    };
    let kind = text(event, kind)?
        .filter(|kind| !kind.is_empty())
        .ok_or(Without::Malformed)?;
    let here =
        text(event, "environment")?.is_none_or(|named| named.is_empty() || named.eq_ignore_ascii_case(environment));
    if !here {
        return Err(Without::Meaning);
    }
    let make = match kind {
        "cache.invalidate_all" => return Ok((Effect::Everything, None)),
        "tenant.created" | "tenant.activated" | "tenant.service.associated" | "tenant.service.reactivated" => {
            Effect::Lift
        }
        "tenant.updated" | "tenant.credentials.rotated" | "tenant.connections.updated" | "tenant.cache.invalidate" => {
            Effect::Forget
        }
        "tenant.suspended"
        | "tenant.deleted"
        | "tenant.service.disassociated"
        | "tenant.service.suspended"
        | "tenant.service.purged" => Effect::Refuse,
        _ => return Err(Without::Meaning),
    };
    let tenant = text(event, id)?
        .filter(|id| oracle::scoping::is_id(id))
        .ok_or(Without::Malformed)?;
    let at_ms = text(event, "timestamp")?.map(milliseconds).transpose()?;
    let for_everybody = [
        "tenant.created",
        "tenant.activated",
        "tenant.updated",
        "tenant.suspended",
        "tenant.deleted",
    ];
    if !for_everybody.contains(&kind) {
        let asks_anew = [
            "tenant.credentials.rotated",
            "tenant.connections.updated",
            "tenant.cache.invalidate",
        ];
        let is_ours = match event.get("payload") {
            None | Some(Value::Null) => !is_long && asks_anew.contains(&kind),
            Some(Value::Object(payload)) => payload.get("service_name").is_some_and(|named| named == service),
            Some(_) => return Err(Without::Malformed),
        };
        if !is_ours {
            return Err(Without::Meaning);
        }
    }
    Ok((make(tenant.to_owned()), at_ms))
}

/// A time of RFC 3339, none of them more than a little ahead.
fn milliseconds(text: &str) -> Result<i64, Without> {
    let ahead = i64::try_from(NOW * 1_000).unwrap_or_default() + TOLERANCE_MS;
    match rfc3339(text) {
        Some(Some(at_ms)) => Ok(at_ms.min(ahead)),
        Some(None) => Err(Without::Sure),
        None => Err(Without::Malformed),
    }
}

/// `1985-04-12T23:20:50.52Z`, whatever stands for the `T` (RFC 3339 §5.6), in milliseconds since 1970; `Some(None)` where readers differ: a leap second.
#[allow(
    clippy::option_option,
    reason = "no time, and one of which readers think differently, are two things"
)]
fn rfc3339(text: &str) -> Option<Option<i64>> {
    let bytes = text.as_bytes();
    let number = |from: usize, length: usize| {
        let digits = bytes.get(from..from + length)?;
        digits.iter().try_fold(0i64, |sum, digit| {
            digit.is_ascii_digit().then(|| sum * 10 + i64::from(digit - b'0'))
        })
    };
    let is = |at: usize, one: &[u8]| bytes.get(at).is_some_and(|byte| one.contains(byte));
    let (year, month, day) = (number(0, 4)?, number(5, 2)?, number(8, 2)?);
    let (hour, minute, second) = (number(11, 2)?, number(14, 2)?, number(17, 2)?);
    if !(is(4, b"-") && is(7, b"-") && is(13, b":") && is(16, b":")) {
        return None;
    }
    let mut at = 19;
    let mut milliseconds = 0;
    if is(at, b".") {
        let digits = bytes[at + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            return None;
        }
        for place in 0..3 {
            milliseconds = milliseconds * 10 + if place < digits { number(at + 1 + place, 1)? } else { 0 };
        }
        at += 1 + digits;
    }
    let offset = if is(at, b"Zz") && bytes.len() == at + 1 {
        0
    } else if is(at, b"+-") && is(at + 3, b":") && bytes.len() == at + 6 {
        let (hours, minutes) = (number(at + 1, 2)?, number(at + 4, 2)?);
        if hours > 23 || minutes > 59 {
            return None;
        }
        (hours * 60 + minutes) * if is(at, b"-") { -1 } else { 1 }
    } else {
        return None;
    };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let lengths = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let length = *lengths.get(usize::try_from(month - 1).ok()?)?;
    if !(1..=length).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    if second == 60 {
        return Some(None);
    }
    // Days of the years before, then of the months before.
    let before = year - 1;
    let years = before * 365 + before.div_euclid(4) - before.div_euclid(100) + before.div_euclid(400);
    let months: i64 = lengths
        .iter()
        .take(usize::try_from(month - 1).unwrap_or_default())
        .sum();
    let days = years + months + day - 1 - 719_162;
    Some(Some(
        (((days * 24 + hour) * 60 + minute - offset) * 60 + second) * 1_000 + milliseconds,
    ))
}
