//! Claims in dynamic metadata. The first byte chooses what the rest is:
//!
//! * the serialized metadata;
//! * claims as JSON, which are serialized the way that Envoy does;
//! * the eight bytes of the number in `exp`, also of one that JSON does not have.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value, json};
use tenant_policy::authn::MetadataPath;
use tenant_policy_fuzz::metadata::{NAMESPACE, PAYLOAD, double, entry, field, serialized, value_message};
use tenant_policy_fuzz::token::{self, signed};
use tenant_policy_fuzz::{AUDIENCE, ISSUER, NOW, TENANTS, World, claims, engine, tenant};

/// How deep claims may be and must be read all the same.
const DEPTH: usize = 8;

/// The largest metadata that is read.
const MAX_BYTES: usize = 256 * 1024;

fuzz_target!(|input: &[u8]| {
    let Some((choice, rest)) = input.split_first() else {
        return;
    };
    let path = MetadataPath {
        namespace: NAMESPACE.to_owned(),
        payload: PAYLOAD.to_owned(),
    };
    match choice % 3 {
        0 => {
            let claims = path.claims(rest);
            if let Some(claims) = &claims {
                assert!(claims.values().all(is_json), "{claims:?}");
            }
            believed(rest, claims.as_ref());
        }
        1 => {
            if let Ok(Value::Object(written)) = serde_json::from_slice(rest) {
                let metadata = serialized(&value_message(&Value::Object(written.clone())));
                let claims = path.claims(&metadata);
                let shallow = depth(&written) <= DEPTH && metadata.len() <= MAX_BYTES;
                assert!(claims.is_some() || !shallow, "{written:?} is not read");
                if let Some(claims) = &claims {
                    assert_eq!(*claims, as_doubles(&written));
                }
                believed(&metadata, claims.as_ref());
            }
        }
        _ => {
            if let Some(bytes) = rest.first_chunk() {
                expires(f64::from_le_bytes(*bytes));
            }
        }
    }
});

/// Claims with this `exp` hold until then, and never when it is no time.
fn expires(exp: f64) {
    let claims = json!({ "iss": ISSUER, "aud": AUDIENCE, "tenantId": "t-acme" });
    let mut members = vec![entry("exp", &double(exp))];
    for (name, value) in claims.as_object().into_iter().flatten() {
        members.push(entry(name, &value_message(value)));
    }
    let metadata = serialized(&field(5, &members.concat()));
    let mut expected = claims.as_object().cloned().unwrap_or_default();
    expected.insert("exp".to_owned(), json!(exp));
    believed(&metadata, Some(&expected));
}

/// The request is forwarded in the name of the tenant that the claims prove, and in nobody's else,
/// whatever its headers say.
fn believed(metadata: &[u8], claims: Option<&Map<String, Value>>) {
    let auth = json!({
        "mode": "upstream_metadata",
        "issuers": [{
            "issuer": ISSUER,
            "audiences": [AUDIENCE],
            "tenants": { "ids": [], "prefixes": [TENANTS] },
        }],
    });
    let (mut engine, world) = (engine(&auth), World::default());
    let payload = json!({ "iss": ISSUER, "aud": AUDIENCE, "exp": NOW + 60, "tenantId": "t-forged" }).to_string();
    let token = signed(br#"{"alg":"HS256","kid":"k"}"#, payload.as_bytes());
    let credential = [b"Bearer ", &token[..]].concat();
    let forged = token::encoded(&payload);
    let headers = [
        (&b"authorization"[..], &credential[..]),
        (b"x-jwt-payload", forged.as_bytes()),
        (b"x-tenant-id", b"t-forged"),
    ];
    assert_eq!(
        tenant(&mut engine, &world, &headers),
        None,
        "without metadata nobody has verified anything"
    );
    world.metadata.replace(Some(metadata.to_vec()));
    let proven = claims.and_then(|claims| claims::tenant(claims, 0)).map(str::as_bytes);
    assert_eq!(tenant(&mut engine, &world, &headers).as_deref(), proven);
    assert_eq!(tenant(&mut engine, &world, &[]).as_deref(), proven);
}

/// Whether JSON can say it: no number is infinite or none at all.
fn is_json(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.as_f64().is_some_and(f64::is_finite),
        Value::Array(list) => list.iter().all(is_json),
        Value::Object(members) => members.values().all(is_json),
        Value::Null | Value::Bool(_) | Value::String(_) => true,
    }
}

fn depth(members: &Map<String, Value>) -> usize {
    fn of(value: &Value) -> usize {
        match value {
            Value::Array(list) => 1 + list.iter().map(of).max().unwrap_or_default(),
            Value::Object(members) => depth(members),
            _ => 0,
        }
    }
    1 + members.values().map(of).max().unwrap_or_default()
}

/// Every number as what protobuf makes of it.
fn as_doubles(members: &Map<String, Value>) -> Map<String, Value> {
    fn of(value: &Value) -> Value {
        match value {
            Value::Number(number) => json!(number.as_f64()),
            Value::Array(list) => list.iter().map(of).collect(),
            Value::Object(members) => Value::Object(as_doubles(members)),
            other => other.clone(),
        }
    }
    members.iter().map(|(name, value)| (name.clone(), of(value))).collect()
}
