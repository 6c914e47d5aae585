//! What comes over Pub/Sub, and what the bridge says itself.

use std::time::SystemTime;

use bytes::Bytes;
use serde_json::{Map, Value, json};

/// How large a request body may be that the filter reads: it stays below this many bytes.
pub(crate) const MAX_BODY_BYTES: usize = 256 * 1024;

/// The event that concerns every tenant, so that it names none.
const INVALIDATE_ALL: &str = "cache.invalidate_all";

/// Why a message is not forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Garbage {
    /// It does not fit into a request that the filter reads.
    TooLarge,
    /// It is no UTF-8.
    NotUtf8,
    /// It is no JSON object.
    NotAnObject,
    /// It has neither `event_type` nor `type`, or that is empty or no string.
    NoType,
    /// It has neither `tenant_id` nor `tenantId`, or that is empty or no string.
    NoTenant,
}

impl Garbage {
    pub(crate) const ALL: [Self; 5] = [
        Self::TooLarge,
        Self::NotUtf8,
        Self::NotAnObject,
        Self::NoType,
        Self::NoTenant,
    ];

    /// The name in metrics and logs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::NotUtf8 => "not_utf8",
            Self::NotAnObject => "not_an_object",
            Self::NoType => "no_type",
            Self::NoTenant => "no_tenant",
        }
    }
}

/// Looks at a message and changes nothing of it. What kind of event it is does not matter: the filter decides.
///
/// # Errors
/// When it can be no event.
pub(crate) fn read(message: &[u8]) -> Result<Bytes, Garbage> {
    if message.len() >= MAX_BODY_BYTES {
        return Err(Garbage::TooLarge);
    }
    let text = std::str::from_utf8(message).map_err(|_| Garbage::NotUtf8)?;
    let event: Map<String, Value> = serde_json::from_str(text).map_err(|_| Garbage::NotAnObject)?;
    let kind = string(&event, ["event_type", "type"]).ok_or(Garbage::NoType)?;
    if kind != INVALIDATE_ALL {
        string(&event, ["tenant_id", "tenantId"]).ok_or(Garbage::NoTenant)?;
    }
    Ok(Bytes::copy_from_slice(message))
}

/// The first of these members that is there, if it is a string with something in it.
fn string<'a>(event: &'a Map<String, Value>, names: [&str; 2]) -> Option<&'a str> {
    let value = names.iter().find_map(|name| event.get(*name))?;
    value.as_str().filter(|text| !text.is_empty())
}

/// A new `cache.invalidate_all` for an environment.
pub(crate) fn invalidate_all(environment: &str) -> Bytes {
    let event = json!({
        "event_id": uuid::Uuid::new_v4().to_string(),
        "event_type": INVALIDATE_ALL,
        "timestamp": humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
        "environment": environment,
    });
    event.to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_of_either_form_and_of_any_type_passes_as_it_is() {
        for event in [
            r#"{"event_type":"tenant.suspended","tenant_id":"acme","payload":{"service_name":"ledger"}}"#,
            r#"  { "type" : "tenant.updated" , "tenantId" : "acme" }  "#,
            r#"{"event_type":"tenant.from.the.future","tenant_id":"acme"}"#,
            r#"{"event_type":"cache.invalidate_all"}"#,
        ] {
            assert_eq!(read(event.as_bytes()).as_deref(), Ok(event.as_bytes()));
        }
    }

    #[test]
    fn what_can_be_no_event_is_told_by_its_first_fault() {
        let large = format!(
            r#"{{"type":"t","tenantId":"acme","payload":"{}"}}"#,
            "x".repeat(MAX_BODY_BYTES)
        );
        let deep = "[".repeat(100_000);
        for (message, garbage) in [
            (large.as_bytes(), Garbage::TooLarge),
            (b"{\"type\":\"\xff\"}", Garbage::NotUtf8),
            (b"", Garbage::NotAnObject),
            (b"null", Garbage::NotAnObject),
            (b"[{\"type\":\"t\",\"tenantId\":\"acme\"}]", Garbage::NotAnObject),
            (b"{\"type\":\"t\",\"tenantId\":\"acme\"", Garbage::NotAnObject),
            (b"{\"type\":\"t\",\"tenantId\":\"acme\"}{}", Garbage::NotAnObject),
            (deep.as_bytes(), Garbage::NotAnObject),
            (b"{\"tenantId\":\"acme\"}", Garbage::NoType),
            (b"{\"type\":7,\"tenantId\":\"acme\"}", Garbage::NoType),
            (b"{\"event_type\":\"\",\"tenantId\":\"acme\"}", Garbage::NoType),
            (b"{\"type\":\"t\"}", Garbage::NoTenant),
            (b"{\"type\":\"t\",\"tenant_id\":null}", Garbage::NoTenant),
            (b"{\"type\":\"t\",\"tenant_id\":\"\"}", Garbage::NoTenant),
        ] {
            assert_eq!(read(message), Err(garbage), "{}", String::from_utf8_lossy(message));
        }
    }

    #[test]
    fn the_largest_event_just_fits() {
        let of = |length: usize| {
            let frame = r#"{"type":"t","tenantId":"acme","payload":""}"#.len();
            format!(
                r#"{{"type":"t","tenantId":"acme","payload":"{}"}}"#,
                "x".repeat(length - frame)
            )
        };
        assert!(read(of(MAX_BODY_BYTES - 1).as_bytes()).is_ok());
        assert_eq!(read(of(MAX_BODY_BYTES).as_bytes()), Err(Garbage::TooLarge));
    }

    #[test]
    fn every_invalidation_is_an_event_of_its_own() {
        let events = [invalidate_all("staging"), invalidate_all("staging")];
        let [first, second] = events.each_ref().map(|event| {
            assert!(read(event).is_ok());
            serde_json::from_slice::<Value>(event).expect("JSON")
        });
        assert_ne!(first["event_id"], second["event_id"]);
        assert_eq!(first["event_type"], INVALIDATE_ALL);
        assert_eq!(first["environment"], "staging");
        let timestamp = first["timestamp"].as_str().expect("text");
        assert!(humantime::parse_rfc3339(timestamp).is_ok(), "{timestamp}");
    }
}
