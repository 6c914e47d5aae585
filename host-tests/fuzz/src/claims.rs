//! When a header and claims are good, written down a second time.

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::token::KEY_ID;
use crate::{AUDIENCE, ISSUER, NOW, TENANTS};

/// How far clocks may differ, in seconds.
pub const LEEWAY: f64 = 60.0;

/// A JSON object without duplicate members at any depth.
#[must_use]
pub fn object(text: &[u8]) -> Option<Map<String, Value>> {
    match document(text)? {
        Value::Object(members) => Some(members),
        _ => None,
    }
}

/// A JSON document without duplicate members at any depth.
#[must_use]
pub fn document(text: &[u8]) -> Option<Value> {
    let Members(written) = serde_json::from_slice(text).ok()?;
    let value = serde_json::from_slice(text).ok()?;
    (written == members(&value)).then_some(value)
}

/// How many members a text has in all its objects, equal names counted each.
struct Members(usize);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Counting;

        impl<'de> Visitor<'de> for Counting {
            type Value = Members;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("JSON")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut count = 0;
                while let Some((_, Members(inside))) = map.next_entry::<IgnoredAny, Members>()? {
                    count += 1 + inside;
                }
                Ok(Members(count))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Members, A::Error> {
                let mut count = 0;
                while let Some(Members(inside)) = list.next_element()? {
                    count += inside;
                }
                Ok(Members(count))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Members, E> {
                Ok(Members(0))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Members, E> {
                Ok(Members(0))
            }

            fn visit_u64<E>(self, _: u64) -> Result<Members, E> {
                Ok(Members(0))
            }

            fn visit_f64<E>(self, _: f64) -> Result<Members, E> {
                Ok(Members(0))
            }

            fn visit_str<E>(self, _: &str) -> Result<Members, E> {
                Ok(Members(0))
            }

            fn visit_unit<E>(self) -> Result<Members, E> {
                Ok(Members(0))
            }
        }

        deserializer.deserialize_any(Counting)
    }
}

fn members(value: &Value) -> usize {
    match value {
        Value::Object(map) => map.values().map(|value| 1 + members(value)).sum(),
        Value::Array(list) => list.iter().map(members).sum(),
        _ => 0,
    }
}

/// Whether this is the header of a token that [`crate::token::signed`] makes good.
#[must_use]
pub fn is_good_header(header: &Map<String, Value>) -> bool {
    let typ = match header.get("typ") {
        None => true,
        Some(Value::String(typ)) => {
            ["jwt", "at+jwt", "application/jwt", "application/at+jwt"].contains(&typ.to_ascii_lowercase().as_str())
        }
        Some(_) => false,
    };
    typ && header.get("alg").is_some_and(|alg| alg == "HS256")
        && header.get("kid").is_none_or(|kid| kid == KEY_ID)
        && !header.contains_key("crit")
        && header.get("b64").is_none_or(|b64| *b64 == Value::Bool(true))
}

/// The tenant that claims prove at this time, `passed` seconds after [`NOW`].
#[must_use]
pub fn tenant(claims: &Map<String, Value>, passed: u64) -> Option<&str> {
    let now = (NOW + passed) as f64;
    let time =
        |name: &str, holds: &dyn Fn(f64) -> bool| claims.get(name).map(|value| value.as_f64().is_some_and(holds));
    let in_time = time("exp", &|exp| now < exp + LEEWAY) == Some(true)
        && time("nbf", &|nbf| now >= nbf - LEEWAY) != Some(false)
        && time("iat", &|iat| now >= iat - LEEWAY) != Some(false);
    let audience = match claims.get("aud") {
        Some(Value::String(aud)) => aud == AUDIENCE,
        Some(Value::Array(list)) => list.iter().all(Value::is_string) && list.iter().any(|aud| aud == AUDIENCE),
        _ => false,
    };
    let tenant = claims.get("tenantId")?.as_str()?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let named = tenant.len() <= 256 && tenant.chars().all(allowed) && tenant.starts_with(TENANTS);
    let issued = claims.get("iss").is_some_and(|iss| iss == ISSUER);
    (in_time && audience && named && issued).then_some(tenant)
}
