//! Envoy's own `jwt_authn` in front of the filter: the one provider that it is configured with in
//! cases that say [`Case::jwt_authn`](crate::case::Case::jwt_authn), and what it would leave of a
//! request in a host that has no such filter.

use anyhow::Result;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL;
use serde_json::Value;

use crate::mint::Keys;
use crate::wire::Field;

/// The issuer that the provider accepts.
pub const ISSUER: &str = "https://id.example.com";

/// The audience that the provider wants.
pub const AUDIENCE: &str = "api";

/// The provider's keys.
pub const KEYS: [&str; 3] = ["main-rs256", "main-es256", "main-eddsa"];

/// Where the claims go: the filter's own name is the namespace, this the member in it.
pub const PAYLOAD: &str = "jwt_payload";

/// The namespace of the claims.
pub const NAMESPACE: &str = "envoy.filters.http.jwt_authn";

/// How far exp and nbf may be off, in seconds; Envoy's default.
const CLOCK_SKEW: f64 = 60.0;

/// The claims that `jwt_authn` leaves in the metadata of a request with these field lines: those of
/// the only `authorization: Bearer …` when key, signature, issuer, audience and times hold; otherwise
/// none.
///
/// # Errors
/// When a key cannot be made.
pub fn payload(lines: &[Field], keys: &Keys, now_unix_seconds: u64) -> Result<Option<Value>> {
    let mut credentials = lines
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case(b"authorization"));
    let (Some((_, value)), None) = (credentials.next(), credentials.next()) else {
        return Ok(None);
    };
    let token = value
        .strip_prefix(b"Bearer ")
        .and_then(|token| str::from_utf8(token).ok());
    let Some(token) = token.and_then(Parsed::of) else {
        return Ok(None);
    };
    let holds = token.verifies(keys)? && token.is_meant(now_unix_seconds);
    Ok(holds.then_some(token.claims))
}

struct Parsed<'a> {
    header: Value,
    claims: Value,
    signed: &'a str,
    signature: Vec<u8>,
}

impl<'a> Parsed<'a> {
    fn of(token: &'a str) -> Option<Self> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let json = |part: &str| -> Option<Value> { serde_json::from_slice(&BASE64URL.decode(part).ok()?).ok() };
        Some(Self {
            header: json(header)?,
            claims: json(claims)?,
            signed,
            signature: BASE64URL.decode(signature).ok()?,
        })
    }

    fn verifies(&self, keys: &Keys) -> Result<bool> {
        for name in KEYS {
            let jwk = keys.jwk(name)?;
            let is_meant =
                jwk["alg"] == self.header["alg"] && [&jwk["kid"], &Value::Null].contains(&&self.header["kid"]);
            if is_meant && self.holds_under(&jwk) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn holds_under(&self, jwk: &Value) -> bool {
        let member = |name: &str| {
            BASE64URL
                .decode(jwk[name].as_str().unwrap_or_default())
                .unwrap_or_default()
        };
        let (message, signature) = (self.signed.as_bytes(), &self.signature);
        match jwk["alg"].as_str() {
            Some("RS256") => {
                let (n, e) = (member("n"), member("e"));
                let key = RsaPublicKeyComponents { n, e };
                key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature).is_ok()
            }
            Some("ES256") => {
                let point = [&[4][..], &member("x"), &member("y")].concat();
                let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
                key.verify(message, signature).is_ok()
            }
            _ => UnparsedPublicKey::new(&ED25519, member("x"))
                .verify(message, signature)
                .is_ok(),
        }
    }

    #[allow(
        clippy::cast_precision_loss,
        reason = "seconds since 1970 stay below 2^53 for longer than tests run"
    )]
    fn is_meant(&self, now: u64) -> bool {
        let now = now as f64;
        let time = |name: &str, otherwise: f64| self.claims[name].as_f64().unwrap_or(otherwise);
        let audience = match &self.claims["aud"] {
            Value::Array(all) => all.iter().any(|one| one == AUDIENCE),
            one => one == AUDIENCE,
        };
        audience
            && self.claims["iss"] == ISSUER
            && now < time("exp", f64::MAX) + CLOCK_SKEW
            && now >= time("nbf", 0.0) - CLOCK_SKEW
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::case::Request;

    const NOW: u64 = 1_700_000_000;

    fn left(request: Value) -> Option<Value> {
        let mut whole = json!({ "expect": { "forwarded": {} } });
        json_patch::merge(&mut whole, &request);
        let request: Request = serde_json::from_value(whole).expect("a request");
        let lines = request.field_lines(Keys::shared(), NOW).expect("field lines");
        payload(&lines, Keys::shared(), NOW).expect("keys")
    }

    #[test]
    fn claims_of_valid_tokens_are_left() {
        for key in KEYS {
            let claims = left(json!({ "token": { "tenant": "acme", "key": key } })).expect(key);
            assert_eq!(claims["tenantId"], "acme", "{key}");
        }
        let token = json!({ "tenant": "acme", "header": { "kid": null }, "claims": { "aud": ["x", "api"] } });
        assert!(left(json!({ "token": token })).is_some());
    }

    #[test]
    fn nothing_is_left_of_others() {
        for token in [
            json!({ "tenant": "acme", "key": "other-rs256", "header": { "kid": "main-rs256" } }),
            json!({ "tenant": "acme", "damage": "flip_signature" }),
            json!({ "tenant": "acme", "key": "main-hs256" }),
            json!({ "tenant": "acme", "header": { "alg": "HS256" } }),
            json!({ "tenant": "acme", "header": { "kid": "main-es256" } }),
            json!({ "tenant": "acme", "claims": { "iss": "https://evil.example" } }),
            json!({ "tenant": "acme", "claims": { "aud": "other" } }),
            json!({ "tenant": "acme", "claims": { "exp": { "$now": -60 } } }),
            json!({ "tenant": "acme", "claims": { "nbf": { "$now": 61 } } }),
            json!({ "raw": "a.b.c" }),
        ] {
            assert_eq!(left(json!({ "token": token })), None, "{token}");
        }
        let twice = json!([["authorization", "Bearer {token}"], ["authorization", "Bearer {token}"]]);
        assert_eq!(left(json!({ "token": "acme", "headers": twice })), None);
        assert_eq!(
            left(json!({ "token": "acme", "headers": [["x", "Bearer {token}"]] })),
            None
        );
        assert_eq!(left(json!({})), None);
    }
}
