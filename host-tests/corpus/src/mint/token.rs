//! Tokens: what a case says about a credential, made into one.

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL;
use serde_json::{Map, Value, json};

use super::{Keys, placeholder};
use crate::case::{Damage, Made, Token};
use crate::jwt_authn::ISSUER;
use crate::wire::latin1;

/// The key that signs when a case names none.
const DEFAULT_KEY: &str = "main-rs256";

/// The issuer of tokens signed with a shared secret.
const HMAC_ISSUER: &str = "https://hmac.example.com";

impl Keys {
    /// The credential of a case, as the bytes that follow `Bearer `. `now` is in seconds since
    /// 1970 and is the moment of sending.
    ///
    /// # Errors
    /// When the key does not exist, a patch leaves no object behind, a `$now` is no number, or
    /// the damage cannot be done to this token (an HS384 signature has no trailing bits).
    pub fn token(&self, token: &Token, now_unix_seconds: u64) -> Result<Vec<u8>> {
        let plain;
        let made = match token {
            Token::Made(made) => made,
            Token::Tenant(tenant) => {
                plain = Made {
                    tenant: Some(tenant.clone()),
                    ..Made::default()
                };
                &plain
            }
        };
        match &made.raw {
            Some(raw) => latin1(raw),
            None => Ok(self.make(made, now_unix_seconds)?.into_bytes()),
        }
    }

    fn make(&self, made: &Made, now: u64) -> Result<String> {
        let key = made.key.as_deref().unwrap_or(DEFAULT_KEY);
        let (header, alg) = self.header(made, key)?;
        let header = match made.damage {
            Some(Damage::Pad) => padded(header),
            _ => BASE64URL.encode(header),
        };
        let claims = BASE64URL.encode(self.claims(made, key, now)?);
        let alg = made.signed_as.as_ref().unwrap_or(&alg);
        let signature = self.sign(key, alg, format!("{header}.{claims}").as_bytes())?;
        let sent = Parts {
            header,
            claims,
            signature,
        };
        Ok(match made.damage {
            None | Some(Damage::Pad) => sent.token(),
            Some(Damage::FlipSignature) => sent.with_flipped_bit()?.token(),
            Some(Damage::SwapClaims) => {
                let globex = Made {
                    tenant: Some("globex".to_owned()),
                    damage: None,
                    raw_claims: None,
                    ..made.clone()
                };
                let mut claims = serde_json::from_slice(&self.claims(&globex, key, now)?)?;
                json_patch::merge(&mut claims, &json!({ "tenantId": "globex" }));
                let claims = BASE64URL.encode(claims.to_string());
                ensure!(claims != sent.claims, "the claims name `globex` already");
                Parts { claims, ..sent }.token()
            }
            Some(Damage::DropSignature) => format!("{}.{}.", sent.header, sent.claims),
            Some(Damage::DropThirdPart) => format!("{}.{}", sent.header, sent.claims),
            Some(Damage::AddPart) => {
                let fourth = BASE64URL.encode(&sent.signature);
                format!("{}.{fourth}", sent.token())
            }
            Some(Damage::TrailingBits) => with_trailing_bits(sent)?,
            Some(Damage::ZeroSignature) => {
                let mut sent = sent;
                sent.signature.fill(0);
                sent.token()
            }
            Some(Damage::HalveSignature) => {
                let mut sent = sent;
                sent.signature.truncate(sent.signature.len() / 2);
                sent.token()
            }
        })
    }

    /// The header's bytes and the algorithm to sign with.
    fn header(&self, made: &Made, key: &str) -> Result<(Vec<u8>, String)> {
        let own = self.key(key)?.algorithm().name();
        let alg_of = |header: &Value| {
            let alg = header.get("alg").and_then(Value::as_str);
            alg.unwrap_or(own).to_owned()
        };
        if let Some(raw) = &made.raw_header {
            let alg = serde_json::from_str(raw).map_or_else(|_| own.to_owned(), |h| alg_of(&h));
            return Ok((latin1(raw)?, alg));
        }
        let mut header = json!({ "alg": own, "kid": key, "typ": "JWT" });
        if let Some(patch) = &made.header {
            json_patch::merge(&mut header, patch);
        }
        ensure!(header.is_object(), "the header patch leaves {header}");
        Ok((header.to_string().into_bytes(), alg_of(&header)))
    }

    fn claims(&self, made: &Made, key: &str, now: u64) -> Result<Vec<u8>> {
        if let Some(raw) = &made.raw_claims {
            return latin1(&with_times(raw, now)?);
        }
        let issuer = if self.key(key)?.algorithm().is_symmetric() {
            HMAC_ISSUER
        } else {
            ISSUER
        };
        let mut claims = json!({
            "iss": issuer, "aud": "api", "sub": "user-1", "iat": now, "exp": now + 3600,
        });
        if let Some(tenant) = &made.tenant {
            json_patch::merge(&mut claims, &json!({ "tenantId": tenant }));
        }
        if let Some(patch) = &made.claims {
            json_patch::merge(&mut claims, &resolved(patch, now)?);
        }
        ensure!(claims.is_object(), "the claims patch leaves {claims}");
        Ok(claims.to_string().into_bytes())
    }
}

struct Parts {
    header: String,
    claims: String,
    signature: Vec<u8>,
}

impl Parts {
    fn token(&self) -> String {
        let signature = BASE64URL.encode(&self.signature);
        format!("{}.{}.{signature}", self.header, self.claims)
    }

    fn with_flipped_bit(mut self) -> Result<Self> {
        let middle = self.signature.len() / 2;
        let byte = self.signature.get_mut(middle).context("no signature")?;
        *byte ^= 1;
        Ok(self)
    }
}

/// Base64url of a JSON text with the padding that belongs to it. Space is added to the text
/// where it would need none.
fn padded(mut json: Vec<u8>) -> String {
    if json.len().is_multiple_of(3) {
        json.push(b' ');
    }
    base64::prelude::BASE64_URL_SAFE.encode(json)
}

/// The last character replaced by the next one of the alphabet, which differs only in bits that
/// belong to no byte.
fn with_trailing_bits(sent: Parts) -> Result<String> {
    ensure!(
        !sent.signature.len().is_multiple_of(3),
        "a signature of {} bytes has no trailing bits",
        sent.signature.len()
    );
    let mut token = sent.token();
    let alphabet = base64::alphabet::URL_SAFE.as_str().as_bytes();
    let last = token.pop().context("an empty token")?;
    let next = alphabet
        .iter()
        .position(|&c| char::from(c) == last)
        .and_then(|at| alphabet.get(at + 1))
        .context("no character after the last")?;
    token.push(char::from(*next));
    Ok(token)
}

/// A claims patch, or metadata, with `{"$now": n}` replaced by the number now + n.
pub(crate) fn resolved(patch: &Value, now: u64) -> Result<Value> {
    Ok(match patch {
        Value::Object(members) => match placeholder(members) {
            Some(("$now", Value::Number(offset))) => match offset.as_i64() {
                Some(offset) => Value::from(i64::try_from(now)? + offset),
                #[allow(
                    clippy::cast_precision_loss,
                    reason = "seconds since 1970 stay below 2^53 for longer than tests run"
                )]
                None => Value::from(now as f64 + offset.as_f64().context("`$now` is no number")?),
            },
            Some(("$now", other)) => bail!("`$now` cannot be {other}"),
            _ => Value::Object(
                members
                    .iter()
                    .map(|(name, value)| Ok((name.clone(), resolved(value, now)?)))
                    .collect::<Result<Map<_, _>>>()?,
            ),
        },
        Value::Array(values) => Value::Array(values.iter().map(|value| resolved(value, now)).collect::<Result<_>>()?),
        scalar => scalar.clone(),
    })
}

/// A claims text with `$NOW+n`, `$NOW-n` and `$NOW` replaced by whole seconds.
fn with_times(text: &str, now: u64) -> Result<String> {
    let mut parts = text.split("$NOW");
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = |sign: &str| {
            let signed = part.strip_prefix(sign)?;
            let end = signed.find(|c: char| !c.is_ascii_digit());
            let (digits, rest) = signed.split_at(end.unwrap_or(signed.len()));
            (!digits.is_empty()).then_some((digits, rest))
        };
        let (seconds, rest) = if let Some((offset, rest)) = digits("+") {
            (now + offset.parse::<u64>()?, rest)
        } else if let Some((offset, rest)) = digits("-") {
            let earlier = now.checked_sub(offset.parse()?);
            (earlier.context("a time before 1970")?, rest)
        } else {
            (now, part)
        };
        result.push_str(&seconds.to_string());
        result.push_str(rest);
    }
    Ok(result)
}
