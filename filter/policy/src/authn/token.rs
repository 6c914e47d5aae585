//! A JWS in compact serialization (RFC 7515 §7.1), taken apart. Nothing here is believed yet.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::Refusal;
use crate::json;

/// The parts of a token that verification needs.
pub(super) struct Token<'a> {
    /// What was signed: the first two parts and the dot between them.
    pub(super) signed: &'a [u8],
    /// The signature, decoded.
    pub(super) signature: Vec<u8>,
    /// `alg` of the header.
    pub(super) algorithm: String,
    /// `kid` of the header.
    pub(super) key_id: Option<String>,
    /// The claims.
    pub(super) claims: Map<String, Value>,
}

impl<'a> Token<'a> {
    /// Takes a token apart.
    ///
    /// The header must be a strict JSON object with a string `alg`; `crit` in any form is
    /// refused, as are a `b64` other than true (RFC 7797), a `typ` that is not accepted, and a
    /// `kid` that is not a non-empty string. The base64url has no padding, no whitespace and no
    /// non-zero trailing bits.
    pub(super) fn parse(text: &'a [u8], accepted: &AcceptedTypes) -> Result<Self, Refusal> {
        let mut parts = text.split(|b| *b == b'.');
        let (Some(header), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Refusal::Malformed);
        };
        let signed_length = header.len().saturating_add(1).saturating_add(claims.len());
        let signed = text.get(..signed_length).ok_or(Refusal::Malformed)?;
        let header = json::parse_object(&decode(header)?).ok_or(Refusal::Header)?;
        if header.contains_key("crit") || header.get("b64").is_some_and(|b64| *b64 != Value::Bool(true)) {
            return Err(Refusal::Header);
        }
        if !accepted.accepts(header.get("typ")) {
            return Err(Refusal::Type);
        }
        let algorithm = header.get("alg").and_then(Value::as_str).ok_or(Refusal::Algorithm)?;
        let key_id = match header.get("kid") {
            None => None,
            Some(Value::String(name)) if !name.is_empty() => Some(name.clone()),
            Some(_) => return Err(Refusal::Key),
        };
        Ok(Self {
            signed,
            signature: decode(signature)?,
            algorithm: algorithm.to_owned(),
            key_id,
            claims: json::parse_object(&decode(claims)?).ok_or(Refusal::Claims)?,
        })
    }
}

fn decode(part: &[u8]) -> Result<Vec<u8>, Refusal> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Refusal::Malformed)
}

/// `auth.accepted_types`: which `typ` header values are accepted (RFC 8725 §3.11).
#[derive(Debug, Clone)]
pub struct AcceptedTypes(Vec<String>);

impl AcceptedTypes {
    /// Media subtypes such as `JWT` or `at+jwt`. `None` when one is empty or not visible ASCII.
    pub fn new(types: &[String]) -> Option<Self> {
        types
            .iter()
            .map(|name| {
                let name = without_application(name);
                (!name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic())).then(|| name.to_owned())
            })
            .collect::<Option<_>>()
            .map(Self)
    }

    /// Absent is accepted; a string is compared without regard to case and with or without
    /// `application/`; anything else is refused.
    fn accepts(&self, typ: Option<&Value>) -> bool {
        match typ {
            None => true,
            Some(Value::String(name)) => {
                let name = without_application(name);
                self.0.iter().any(|accepted| accepted.eq_ignore_ascii_case(name))
            }
            Some(_) => false,
        }
    }
}

fn without_application(name: &str) -> &str {
    const PREFIX: &str = "application/";
    match name.split_at_checked(PREFIX.len()) {
        Some((start, rest)) if start.eq_ignore_ascii_case(PREFIX) => rest,
        _ => name,
    }
}
