//! Events of a script: telling them, and whether the reply is right.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tiny_envoy::{LocalReply, Outcome, START_UNIX_SECONDS, StreamId, TinyEnvoy};

use super::{World, story};
use crate::config::{ENVIRONMENT, EVENTS_KEY, EVENTS_PATH, SERVICE};
use crate::fault::{Fault, Rule};
use crate::ledger::Span;
use crate::model::Effect;
use crate::script::{Delivery, Edit, Event, EventKey};

/// How much older than the last an event may be.
const TOLERANCE_MS: i64 = 5_000;

/// What has been told so far.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// By tenant, the latest time that an event said it happened at.
    last: BTreeMap<String, i64>,
}

/// What an event must come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Applied(Effect),
    /// Applied, or outdated where the node remembers a later one.
    Perhaps(Effect),
    OtherService,
    OtherEnvironment,
    Unknown,
}

fn expected(event: &Event, last: &BTreeMap<String, i64>, now_ms: i64) -> Expected {
    if event.environment.as_ref().is_some_and(|named| named != ENVIRONMENT) {
        return Expected::OtherEnvironment;
    }
    let effect = match event.kind.as_str() {
        "tenant.created" | "tenant.activated" | "tenant.service.associated" | "tenant.service.reactivated" => {
            Effect::Lift
        }
        "tenant.updated"
        | "tenant.credentials.rotated"
        | "tenant.connections.updated"
        | "tenant.cache.invalidate"
        | "cache.invalidate_all" => Effect::Forget,
        "tenant.suspended"
        | "tenant.deleted"
        | "tenant.service.disassociated"
        | "tenant.service.suspended"
        | "tenant.service.purged" => Effect::Refuse,
        _ => return Expected::Unknown,
    };
    if event.kind == "cache.invalidate_all" {
        return Expected::Applied(effect);
    }
    let asks_anew = matches!(
        event.kind.as_str(),
        "tenant.credentials.rotated" | "tenant.connections.updated" | "tenant.cache.invalidate"
    );
    let is_about_a_service = asks_anew || event.kind.starts_with("tenant.service.");
    let is_ours = match &event.service {
        Some(service) => service == SERVICE,
        None => event.is_short && asks_anew,
    };
    if is_about_a_service && !is_ours {
        return Expected::OtherService;
    }
    let last = last.get(&event.tenant);
    match event.happened_ms.map(|at| at.min(now_ms + TOLERANCE_MS)) {
        Some(at) if last.is_some_and(|last| at + TOLERANCE_MS < *last) => Expected::Perhaps(effect),
        _ => Expected::Applied(effect),
    }
}

/// An event on the wire.
fn body(event: &Event) -> Value {
    let timestamp = event.happened_ms.map(|at| {
        let seconds = i64::try_from(START_UNIX_SECONDS).expect("seconds since 1970 fit") * 1_000 + at;
        rfc3339(seconds)
    });
    let payload = event.service.as_ref().map(|service| json!({ "service_name": service }));
    if event.is_short {
        let mut body = json!({ "type": event.kind, "tenantId": event.tenant });
        let members = [
            ("payload", payload),
            ("timestamp", timestamp.map(Value::from)),
            ("environment", event.environment.clone().map(Value::from)),
        ];
        for (name, value) in members {
            if let Some(value) = value {
                body[name] = value;
            }
        }
        return body;
    }
    json!({
        "event_id": "e", "event_type": event.kind, "timestamp": timestamp, "tenant_id": event.tenant,
        "tenant_slug": "s", "environment": event.environment, "payload": payload,
    })
}

/// Milliseconds since 1970 by RFC 3339, within the years of a world.
fn rfc3339(unix_ms: i64) -> String {
    let (seconds, ms) = (unix_ms.div_euclid(1_000), unix_ms.rem_euclid(1_000));
    let days = seconds.div_euclid(86_400);
    let (of_day, start) = (
        seconds.rem_euclid(86_400),
        i64::try_from(START_UNIX_SECONDS / 86_400).expect("days since 1970 fit"),
    );
    // The world begins on 2026-01-01, and its events happen within a month around that.
    let (year, month, day) = match days - start {
        after @ 0..=30 => (2026, 1, after + 1),
        before @ -31..=-1 => (2025, 12, before + 32),
        other => panic!("an event {other} days from the beginning"),
    };
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// Sends events to their worker.
pub(super) fn deliver(envoy: &mut TinyEnvoy, delivery: &Delivery) -> StreamId {
    let bodies: Vec<_> = delivery.events.iter().map(body).collect();
    let mut text = match bodies.as_slice() {
        [one] => one.to_string(),
        several => Value::from(several.to_vec()).to_string(),
    };
    if delivery.is_cut_off {
        text.truncate(text.len() - 1);
    }
    let mut request = envoy.post(EVENTS_PATH).worker(delivery.worker);
    match delivery.key {
        EventKey::Right => request = request.header("x-api-key", EVENTS_KEY),
        EventKey::Wrong => request = request.header("x-api-key", "planted-wrong-key"),
        EventKey::Absent => {}
    }
    request.body(text).send()
}

impl World<'_> {
    pub(super) fn tells(&mut self, delivery: &Delivery) -> Result<(), Fault> {
        if delivery.worker >= self.script.setup.workers || delivery.events.is_empty() {
            return Ok(());
        }
        let mut stream = None;
        let span = self.span(|world| stream = Some(deliver(&mut world.envoy, delivery)));
        let outcome = self.envoy.outcome(stream.expect("it was sent"));
        self.hears(delivery, outcome, span)?;
        self.observe(span)
    }

    /// Takes in what a worker says of events.
    pub(super) fn hears(&mut self, delivery: &Delivery, outcome: Outcome, span: Span) -> Result<(), Fault> {
        let Outcome::Replied(reply) = outcome else {
            return Rule::Answered.broken(format!("events were not answered at once: {outcome:?}"));
        };
        self.secrets.check("the reply to events", &reply.body)?;
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        self.story.tell(self.envoy.elapsed(), || {
            story::of_delivery(delivery, &format!("{} {text}", reply.status))
        });
        if self.script.setup.refuses == Some(Edit::Remove) && reply.status == 500 {
            // Their key cannot be taken off: nothing is promised.
            return Ok(());
        }
        let refused = match delivery.key {
            EventKey::Right if delivery.is_cut_off => Some((400, "EVENTS_MALFORMED")),
            EventKey::Right => None,
            EventKey::Wrong | EventKey::Absent => Some((401, "EVENTS_UNAUTHORIZED")),
        };
        if let Some((status, code)) = refused {
            self.tally.count(&format!("events: {code}"));
            return if reply.status == status && text.contains(code) {
                Ok(())
            } else {
                Rule::Decision.broken(format!("events that are {code} were answered {} {text}", reply.status))
            };
        }
        self.applies(delivery, &reply, span)
    }

    fn applies(&mut self, delivery: &Delivery, reply: &LocalReply, span: Span) -> Result<(), Fault> {
        let now_ms = self.now_ms();
        let now = i64::try_from(now_ms).expect("a world is short");
        let counts: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        if reply.status != 200 {
            return Rule::Decision.broken(format!(
                "events were not carried out: {} {}",
                reply.status,
                String::from_utf8_lossy(&reply.body)
            ));
        }
        let count = |name: &str| counts[name].as_u64().unwrap_or_default();
        let mut wanted: BTreeMap<&str, u64> = BTreeMap::new();
        let mut perhaps = 0;
        for event in &delivery.events {
            let expected = expected(event, &self.events.last, now);
            let name = match expected {
                Expected::Applied(_) => "applied",
                Expected::Perhaps(_) => {
                    perhaps += 1;
                    "perhaps"
                }
                Expected::OtherService => "other_service",
                Expected::OtherEnvironment => "other_environment",
                Expected::Unknown => "unknown",
            };
            *wanted.entry(name).or_default() += 1;
            let effect = match expected {
                Expected::Applied(effect) => Some(effect),
                // Of several in one delivery it is not told which were outdated: scripts have them alone.
                Expected::Perhaps(effect) => (count("applied") == 1).then_some(effect),
                _ => None,
            };
            let Some(effect) = effect else { continue };
            if let Some(at) = event.happened_ms {
                let last = self.events.last.entry(event.tenant.clone()).or_insert(i64::MIN);
                *last = (*last).max(at.min(now + TOLERANCE_MS));
            }
            let everybody = event.kind == "cache.invalidate_all";
            let tenant = (!everybody).then(|| event.tenant.clone());
            self.tally.count(&format!("events: {}", event.kind));
            self.model.applied(tenant, effect, (span, now_ms), &self.in_force());
        }
        for name in ["other_service", "other_environment", "unknown", "malformed"] {
            if count(name) != wanted.get(name).copied().unwrap_or_default() {
                return Rule::Decision.broken(format!("of events, {name} should be {wanted:?}: {counts}"));
            }
        }
        let applied = wanted.get("applied").copied().unwrap_or_default();
        if (applied..=applied + perhaps).contains(&count("applied"))
            && count("applied") + count("outdated") == applied + perhaps
        {
            self.tally.add("events: outdated", count("outdated"));
            Ok(())
        } else {
            Rule::Decision.broken(format!("of events, {applied} should be applied: {counts}"))
        }
    }
}
