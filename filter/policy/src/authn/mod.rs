//! Stage 2: who is asking? Nothing about a tenant is looked at before this stage has passed.
//!
//! Rules in the order they are applied; the first that fails ends the request with 401:
//!
//! 1. Exactly one credential, `Bearer` and a `token68` ([`bearer`]).
//! 2. At most `auth.max_token_bytes`; three base64url parts; a JOSE header and claims that are
//!    strict JSON objects ([`token`]).
//! 3. `iss` names a configured issuer, `alg` is in its allow-list ([`issuer`]).
//! 4. Exactly one of its keys fits `alg` and `kid`, and the signature holds ([`keys`]).
//! 5. `exp`, `nbf`, `iat` and `aud` hold now.
//!
//! `jku`, `x5u`, `x5c` and `jwk` of a token are neither followed nor used (RFC 8725 §3.10).

mod algorithms;
mod bearer;
mod issuer;
mod keys;
mod token;

use serde_json::{Map, Value};

pub use algorithms::Algorithm;
pub use issuer::{Issuer, TenantSet};
pub use keys::{KeySet, RefusedKey};
pub use token::AcceptedTypes;

use crate::config::Auth;
use crate::denial::Denial;
use crate::request::RequestHead;
use token::Token;

/// The proof that this stage has passed: claims whose signature and times held.
#[derive(Debug)]
pub struct Verified<'a> {
    claims: Map<String, Value>,
    issuer: &'a Issuer,
}

impl<'a> Verified<'a> {
    /// A claim at the top level, by its exact name.
    pub fn claim(&self, name: &str) -> Option<&Value> {
        self.claims.get(name)
    }

    /// The issuer whose key verified the token.
    pub fn issuer(&self) -> &'a Issuer {
        self.issuer
    }
}

/// Why a credential was refused. For logs and counters: the reply never says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Longer than `auth.max_token_bytes`.
    TooLong,
    /// Not three base64url parts of a JWS.
    Malformed,
    /// The JOSE header is not a strict JSON object, or asks for something that is not offered.
    Header,
    /// The claims are not a strict JSON object.
    Claims,
    /// `typ` is not an accepted type.
    Type,
    /// `iss` is missing or names no configured issuer.
    Issuer,
    /// `alg` is unknown or not in the issuer's allow-list.
    Algorithm,
    /// No key, or more than one, fits.
    Key,
    /// The signature does not hold.
    Signature,
    /// `exp` is missing.
    NoExpiry,
    /// `exp` is not a number, or over.
    Expired,
    /// `nbf` or `iat` is not a number, or not reached.
    NotYetValid,
    /// `aud` names none of the issuer's audiences.
    Audience,
    /// The tenant is outside what the issuer may name.
    TenantOfOtherIssuer,
}

impl Refusal {
    /// The reason as a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::Malformed => "malformed",
            Self::Header => "header",
            Self::Claims => "claims",
            Self::Type => "type",
            Self::Issuer => "issuer",
            Self::Algorithm => "algorithm",
            Self::Key => "key",
            Self::Signature => "signature",
            Self::NoExpiry => "exp_missing",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Audience => "audience",
            Self::TenantOfOtherIssuer => "tenant_of_other_issuer",
        }
    }
}

/// Applies the rules of this stage. `now_ms` is the real time in milliseconds since the epoch.
///
/// # Errors
///
/// [`Denial::CredentialMissing`] when nothing usable was given, [`Denial::TokenInvalid`] else.
pub fn authenticate<'a>(auth: &'a Auth, head: &RequestHead<'_>, now_ms: u64) -> Result<Verified<'a>, Denial> {
    let credential = bearer::credential(head, &auth.header).ok_or(Denial::CredentialMissing)?;
    verify(auth, credential, now_ms).map_err(Denial::TokenInvalid)
}

fn verify<'a>(auth: &'a Auth, credential: &[u8], now_ms: u64) -> Result<Verified<'a>, Refusal> {
    if credential.len() > auth.max_token_bytes {
        return Err(Refusal::TooLong);
    }
    let token = Token::parse(credential, &auth.accepted_types)?;
    let issuer = issuer::named(&auth.issuers, token.claims.get("iss")).ok_or(Refusal::Issuer)?;
    let algorithm = Algorithm::parse(&token.algorithm)
        .filter(|algorithm| issuer.allows(*algorithm))
        .ok_or(Refusal::Algorithm)?;
    let key = issuer
        .keys()
        .select(algorithm, token.key_id.as_deref())
        .ok_or(Refusal::Key)?;
    if !key.verifies(algorithm, token.signed, &token.signature) {
        return Err(Refusal::Signature);
    }
    check_times(&token.claims, auth, now_ms)?;
    if !issuer.accepts_audience(token.claims.get("aud")) {
        return Err(Refusal::Audience);
    }
    Ok(Verified {
        claims: token.claims,
        issuer,
    })
}

/// RFC 7519 §4.1.4–4.1.6: refused when `now ≥ exp + leeway`, `now < nbf − leeway` or
/// `now < iat − leeway`. Numbers only, fractions allowed.
fn check_times(claims: &Map<String, Value>, auth: &Auth, now_ms: u64) -> Result<(), Refusal> {
    let now = std::time::Duration::from_millis(now_ms).as_secs_f64();
    let leeway = f64::from(auth.leeway_seconds);
    match claims.get("exp") {
        None if auth.require_exp => return Err(Refusal::NoExpiry),
        None => {}
        Some(exp) => {
            let exp = exp.as_f64().ok_or(Refusal::Expired)?;
            if now >= exp + leeway {
                return Err(Refusal::Expired);
            }
        }
    }
    for name in ["nbf", "iat"] {
        if let Some(start) = claims.get(name) {
            let start = start.as_f64().ok_or(Refusal::NotYetValid)?;
            if now < start - leeway {
                return Err(Refusal::NotYetValid);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
