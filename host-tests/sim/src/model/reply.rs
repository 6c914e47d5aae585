//! What a client is told who is denied.

use serde_json::Value;

use super::{Denied, Model, Settled, breaker};
use crate::fault::{Fault, Rule};
use crate::script::Credential;

/// Most that the Tenant Manager can have itself left alone for, in milliseconds.
const LONGEST_PAUSE_MS: u64 = 30_000;

/// The status of a code, and that of gRPC.
fn statuses(code: &str) -> Option<(u16, u32)> {
    Some(match code {
        "PATH_REJECTED" | "KEY_REJECTED" => (400, 3),
        "TENANT_ID_REQUIRED" | "TOKEN_INVALID" | "TENANT_ID_INVALID" => (401, 16),
        "TENANT_SUSPENDED" | "TENANT_ACCESS_DENIED" => (403, 7),
        "TENANT_NOT_FOUND" | "ROUTE_NOT_FOUND" => (404, 5),
        "TENANT_NOT_PROVISIONED" | "TENANT_SCHEMA_INVALID" => (422, 9),
        "TENANT_RATE_LIMITED" => (429, 8),
        "INTERNAL_ERROR" => (500, 13),
        "TENANT_LEAK_BLOCKED" => (502, 14),
        "SERVICE_NOT_CONFIGURED"
        | "TENANT_MANAGER_UNAVAILABLE"
        | "CIRCUIT_OPEN"
        | "KEYS_UNAVAILABLE"
        | "TENANT_LOOKUP_OVERLOADED" => (503, 14),
        _ => return None,
    })
}

/// Whether a request is one of gRPC.
fn is_grpc(headers: &[(String, String)]) -> bool {
    let mut types = headers.iter().filter(|(name, _)| name == "content-type");
    types.next().is_some_and(|(_, value)| {
        value
            .strip_prefix("application/grpc")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('+'))
    })
}

impl Model {
    /// A denial has the one form that those of its code have.
    pub(super) fn check_reply(&self, settled: &Settled, denied: &Denied) -> Result<(), Fault> {
        self.form(settled, denied).or_else(|wrong| {
            Rule::Decision.broken(format!(
                "request {} was denied {} with {wrong}: {:?} {}",
                settled.seen.request.id,
                denied.code,
                denied.reply.headers,
                denied.reply.body.escape_ascii()
            ))
        })
    }

    /// The error says what should be otherwise.
    fn form(&self, settled: &Settled, denied: &Denied) -> Result<(), String> {
        let request = &settled.seen.request;
        let Denied { code, reply } = denied;
        let Some((status, grpc_status)) = statuses(code) else {
            // What Envoy says by itself is no denial; whether it may be is asked elsewhere.
            return Ok(());
        };
        let one = |name: &str| match reply.headers.get_all(name)[..] {
            [] => Ok(None),
            [value] => Ok(Some(String::from_utf8_lossy(value).into_owned())),
            _ => Err(format!("several lines of {name}")),
        };
        if is_grpc(&request.headers) {
            let has_message = one("grpc-message")?.is_some_and(|message| !message.is_empty());
            if reply.grpc_status != Some(grpc_status) || !has_message || !reply.body.is_empty() || reply.status != 200 {
                return Err(format!("another form than that of gRPC with status {grpc_status}"));
            }
        } else {
            if reply.status != status || reply.grpc_status.is_some() {
                return Err(format!("another status than {status}"));
            }
            if one("content-type")?.as_deref() != Some("application/json; charset=utf-8") {
                return Err("another type than JSON".to_owned());
            }
            let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
            let members = body.as_object().map(|body| body.len()).unwrap_or_default();
            let has = |name: &str| body[name].as_str().is_some_and(|text| !text.is_empty());
            if members != 3 || body["code"] != code.as_str() || !has("title") || !has("message") {
                return Err("another body than its code, a title and a message".to_owned());
            }
        }
        if one("cache-control")?.as_deref() != Some("no-store") {
            return Err("leave to be kept".to_owned());
        }
        let blames = match code.as_str() {
            "TENANT_ID_REQUIRED" => matches!(request.credential, Credential::Token(_)),
            _ => true,
        };
        let challenge = match (status, blames) {
            (401, true) => Some("Bearer error=\"invalid_token\""),
            (401, false) => Some("Bearer"),
            _ => None,
        };
        if one("www-authenticate")?.as_deref() != challenge {
            return Err(format!("another challenge than {challenge:?}"));
        }
        let seconds = one("retry-after")?;
        let within = self.may_say_again_in(settled, code);
        let says = seconds.as_deref().map(str::parse::<u64>);
        match (says, within) {
            (None, None) => Ok(()),
            (Some(Ok(seconds)), Some((least, most))) if (least..=most).contains(&seconds) => Ok(()),
            _ => Err(format!(
                "retry-after: {seconds:?}, where seconds should be within {within:?}"
            )),
        }
    }

    /// Least and most seconds after which a client may be told to come again; `None`: never.
    fn may_say_again_in(&self, settled: &Settled, code: &str) -> Option<(u64, u64)> {
        let Settled { seen, decided_ms, .. } = settled;
        let knobs = self.knobs(seen.config);
        Some(match code {
            "KEYS_UNAVAILABLE" | "TENANT_LOOKUP_OVERLOADED" => (1, 1),
            "TENANT_RATE_LIMITED" => {
                // Where the table is full each worker has its share.
                let per_second = knobs.rate.map_or(1, |rate| rate.per_second);
                (1, (self.workers as u64).div_ceil(per_second).max(1))
            }
            "TENANT_MANAGER_UNAVAILABLE" => {
                let left_ms = self.breaker.pause_left_ms(seen.begun_ms).unwrap_or(LONGEST_PAUSE_MS);
                (1, left_ms.div_ceil(1_000).max(1))
            }
            "CIRCUIT_OPEN" => match self.breaker.opens_in_ms(seen.begun_ms) {
                Some(left_ms) => {
                    let waited_ms = decided_ms - seen.begun_ms;
                    let least_ms = left_ms.saturating_sub(waited_ms);
                    (least_ms.div_ceil(1_000).max(1), left_ms.div_ceil(1_000).max(1))
                }
                None => {
                    let longest_ms = (knobs.open_s * 1_000).max(knobs.timeout_ms + breaker::GRACE_MS);
                    (1, longest_ms.div_ceil(1_000))
                }
            },
            _ => return None,
        })
    }
}
