//! Dynamic metadata, as Envoy hands them to a plugin that reads the property `metadata`.

use std::collections::BTreeMap;

use prost::Message;
use serde_json::Value;

/// The property `["metadata"]` of a stream: `envoy.config.core.v3.Metadata` in protobuf, whose
/// `filter_metadata` are the members of this object. As in Envoy every number is a double.
///
/// # Panics
/// When `filter_metadata` is not an object of objects: that is what the type can hold.
#[must_use]
pub fn metadata(filter_metadata: &Value) -> Vec<u8> {
    let namespaces = filter_metadata.as_object().expect("namespaces");
    let filter_metadata = namespaces
        .iter()
        .map(|(namespace, members)| {
            let members = members.as_object().expect("a namespace holds members");
            (namespace.clone(), structure(members))
        })
        .collect();
    Metadata { filter_metadata }.encode_to_vec()
}

/// The properties that a plugin reads where the route has these `filter_metadata`.
///
/// # Panics
/// When they are not an object of objects.
pub(crate) fn route_metadata(filter_metadata: &Value) -> Vec<(Vec<u8>, Vec<u8>)> {
    let namespaces = filter_metadata.as_object().expect("namespaces");
    assert!(namespaces.values().all(Value::is_object), "a namespace holds members");
    let mut properties = Vec::new();
    leaves(&mut properties, ROUTE_METADATA, filter_metadata);
    properties
}

/// Where a plugin finds the metadata of a route.
pub(crate) const ROUTE_METADATA: &[u8] = b"xds\0route_metadata\0filter_metadata";

fn leaves(properties: &mut Vec<(Vec<u8>, Vec<u8>)>, path: &[u8], json: &Value) {
    let value = match json {
        Value::Object(members) => {
            for (name, member) in members {
                leaves(properties, &[path, b"\0", name.as_bytes()].concat(), member);
            }
            return;
        }
        Value::String(text) => text.clone().into_bytes(),
        Value::Number(number) => number
            .as_f64()
            .expect("a JSON number is a double")
            .to_le_bytes()
            .to_vec(),
        Value::Bool(flag) => vec![u8::from(*flag)],
        Value::Null | Value::Array(_) => panic!("not modelled by the tiny Envoy: {json} in the metadata of a route"),
    };
    properties.push((path.to_vec(), value));
}

/// `envoy.config.core.v3.Metadata`, without its `typed_filter_metadata`.
#[derive(Clone, PartialEq, Message)]
struct Metadata {
    #[prost(btree_map = "string, message", tag = "1")]
    filter_metadata: BTreeMap<String, Struct>,
}

/// `google.protobuf.Struct`.
#[derive(Clone, PartialEq, Message)]
struct Struct {
    #[prost(btree_map = "string, message", tag = "1")]
    fields: BTreeMap<String, AnyValue>,
}

/// `google.protobuf.Value`.
#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6")]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Kind {
    #[prost(int32, tag = "1")]
    Null(i32),
    #[prost(double, tag = "2")]
    Number(f64),
    #[prost(string, tag = "3")]
    String(String),
    #[prost(bool, tag = "4")]
    Bool(bool),
    #[prost(message, tag = "5")]
    Struct(Struct),
    #[prost(message, tag = "6")]
    List(List),
}

/// `google.protobuf.ListValue`.
#[derive(Clone, PartialEq, Message)]
struct List {
    #[prost(message, repeated, tag = "1")]
    values: Vec<AnyValue>,
}

fn structure(members: &serde_json::Map<String, Value>) -> Struct {
    Struct {
        fields: members
            .iter()
            .map(|(name, member)| (name.clone(), any(member)))
            .collect(),
    }
}

fn any(json: &Value) -> AnyValue {
    let kind = match json {
        Value::Null => Kind::Null(0),
        Value::Bool(flag) => Kind::Bool(*flag),
        Value::Number(number) => Kind::Number(number.as_f64().expect("a JSON number is a double")),
        Value::String(text) => Kind::String(text.clone()),
        Value::Array(values) => Kind::List(List {
            values: values.iter().map(any).collect(),
        }),
        Value::Object(members) => Kind::Struct(structure(members)),
    };
    AnyValue { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn metadata_are_the_bytes_that_envoy_sends() {
        // Field 1, an entry of the map: key "n", value a Struct with one field "a".
        let entry = |value: &[u8]| {
            let field = [&[0x0a, 1, b'a', 0x12, value.len() as u8][..], value].concat();
            let fields = [&[0x0a, field.len() as u8][..], &field].concat();
            let namespace = [&[0x0a, 1, b'n', 0x12, fields.len() as u8][..], &fields].concat();
            [&[0x0a, namespace.len() as u8][..], &namespace].concat()
        };
        for (json, value) in [
            (json!("x"), &[0x1a, 1, b'x'][..]),
            (json!(1), &[0x11, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f]),
            (json!(true), &[0x20, 1]),
            (json!(null), &[0x08, 0]),
            (json!([false]), &[0x32, 4, 0x0a, 2, 0x20, 0]),
            (json!({ "b": "" }), &[0x2a, 9, 0x0a, 7, 0x0a, 1, b'b', 0x12, 2, 0x1a, 0]),
        ] {
            assert_eq!(metadata(&json!({ "n": { "a": json } })), entry(value), "{json}");
        }
        assert_eq!(metadata(&json!({})), [0_u8; 0]);
    }
}
