//! Dynamic metadata, serialized the way that Envoy does.

use serde_json::{Value, json};

use crate::{AUDIENCE, ISSUER, NOW};

/// Whose metadata they are.
pub const NAMESPACE: &str = "envoy.filters.http.jwt_authn";
/// Where the claims stand in them.
pub const PAYLOAD: &str = "jwt_payload";

/// Those of a request whose token names this tenant, and a `sub`.
#[must_use]
pub fn of(tenant: &str, sub: &str) -> Vec<u8> {
    let claims = json!({ "iss": ISSUER, "aud": AUDIENCE, "exp": NOW + 100_000_000, "tenantId": tenant, "sub": sub });
    serialized(&value_message(&claims))
}

/// `envoy.config.core.v3.Metadata` with these claims, a `google.protobuf.Value`, between others.
#[must_use]
pub fn serialized(claims: &[u8]) -> Vec<u8> {
    let header = entry("header", &value_message(&json!({ "alg": "RS256" })));
    let ours = [header, entry(PAYLOAD, claims)].concat();
    let other = entry(
        PAYLOAD,
        &value_message(&json!({ "iss": ISSUER, "tenantId": "t-other" })),
    );
    [entry("envoy.filters.http.other", &other), entry(NAMESPACE, &ours)].concat()
}

/// A member of a `google.protobuf.Struct`, or of the map in `Metadata`: both are field 1.
#[must_use]
pub fn entry(name: &str, value: &[u8]) -> Vec<u8> {
    field(1, &[field(1, name.as_bytes()), field(2, value)].concat())
}

/// A `google.protobuf.Struct`.
#[must_use]
pub fn object<'a>(members: impl IntoIterator<Item = (&'a str, &'a Value)>) -> Vec<u8> {
    members
        .into_iter()
        .flat_map(|(name, value)| entry(name, &value_message(value)))
        .collect()
}

/// A `google.protobuf.Value`.
#[must_use]
pub fn value_message(value: &Value) -> Vec<u8> {
    match value {
        Value::Null => vec![0x08, 0],
        Value::Number(number) => double(number.as_f64().unwrap_or_default()),
        Value::String(text) => field(3, text.as_bytes()),
        Value::Bool(value) => vec![0x20, u8::from(*value)],
        Value::Object(members) => field(5, &object(members.iter().map(|(name, value)| (name.as_str(), value)))),
        Value::Array(list) => {
            let values: Vec<u8> = list.iter().flat_map(|value| field(1, &value_message(value))).collect();
            field(6, &values)
        }
    }
}

/// A `google.protobuf.Value` of a number.
#[must_use]
pub fn double(number: f64) -> Vec<u8> {
    [&[0x11][..], &number.to_le_bytes()].concat()
}

/// A field with bytes of a known length.
#[must_use]
pub fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut message = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length >= 0x80 {
        message.push(u8::try_from(length & 0x7f).unwrap_or_default() | 0x80);
        length >>= 7;
    }
    message.push(u8::try_from(length).unwrap_or_default());
    message.extend(bytes);
    message
}
