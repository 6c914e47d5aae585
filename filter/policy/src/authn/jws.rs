//! A JWS in compact serialization (RFC 7515 §7.1), taken apart. Nothing here is believed yet.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::{Algorithm, Refusal};
use crate::json;

/// The parts of a token that verification needs.
#[derive(Debug)]
pub struct Jws<'a> {
    /// What was signed: the first two parts and the dot between them.
    signed: &'a [u8],
    /// The second part, still encoded.
    payload: &'a [u8],
    signature: Vec<u8>,
    algorithm: String,
    key_id: Option<String>,
}

impl<'a> Jws<'a> {
    /// Takes a token apart.
    ///
    /// The header must be a strict JSON object with a string `alg`; `crit` in any form is
    /// refused, as are a `b64` other than true (RFC 7797), a `typ` that is not accepted, and a
    /// `kid` that is not a non-empty string. The base64url has no padding, no whitespace and no
    /// non-zero trailing bits. `jku`, `x5u`, `x5c` and `jwk` are not looked at.
    ///
    /// # Errors
    ///
    /// [`Refusal::Malformed`], [`Refusal::Header`], [`Refusal::Critical`], [`Refusal::Type`],
    /// [`Refusal::Algorithm`] and [`Refusal::KeyUnknown`].
    pub fn parse(text: &'a [u8], accepted: &AcceptedTypes) -> Result<Self, Refusal> {
        let mut parts = text.split(|b| *b == b'.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Refusal::Malformed);
        };
        let signed_length = header.len().saturating_add(1).saturating_add(payload.len());
        let signed = text.get(..signed_length).ok_or(Refusal::Malformed)?;
        let header = json::parse_object(&decode(header)?).ok_or(Refusal::Header)?;
        if header.contains_key("crit") || header.get("b64").is_some_and(|b64| *b64 != Value::Bool(true)) {
            return Err(Refusal::Critical);
        }
        if !accepted.accepts(header.get("typ")) {
            return Err(Refusal::Type);
        }
        let algorithm = header.get("alg").and_then(Value::as_str).ok_or(Refusal::Algorithm)?;
        let key_id = match header.get("kid") {
            None => None,
            Some(Value::String(name)) if !name.is_empty() => Some(name.clone()),
            Some(_) => return Err(Refusal::KeyUnknown),
        };
        Ok(Self {
            signed,
            payload,
            signature: decode(signature)?,
            algorithm: algorithm.to_owned(),
            key_id,
        })
    }

    /// What was signed.
    pub fn signed(&self) -> &'a [u8] {
        self.signed
    }

    /// The signature, decoded.
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// `kid` of the header.
    pub fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    /// `alg` of the header, if it is one of `allowed`.
    ///
    /// # Errors
    ///
    /// [`Refusal::Algorithm`].
    pub fn algorithm(&self, allowed: &[Algorithm]) -> Result<Algorithm, Refusal> {
        Algorithm::parse(&self.algorithm)
            .filter(|algorithm| allowed.contains(algorithm))
            .ok_or(Refusal::Algorithm)
    }

    /// The payload, decoded. Whether its signature holds is another question.
    ///
    /// # Errors
    ///
    /// [`Refusal::Malformed`].
    pub fn payload(&self) -> Result<Vec<u8>, Refusal> {
        decode(self.payload)
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
