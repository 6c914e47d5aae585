//! Claims that another filter has verified (`auth.mode: upstream_metadata`), read from the
//! request's dynamic metadata: `filter_metadata[namespace][payload]`.
//!
//! The metadata is taken as a whole, as the protobuf message that Envoy keeps: there every value
//! has its type. Read claim by claim, a number would be eight bytes, and some numbers spell a
//! tenant id.

use prost::Message;
use serde_json::{Map, Number, Value as Json};

/// Largest metadata that is read, in bytes.
const MAX_BYTES: usize = 256 * 1024;

/// Where the claims stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataPath {
    /// `upstream_metadata.namespace`, default `envoy.filters.http.jwt_authn`.
    pub namespace: String,
    /// `upstream_metadata.payload`, default `jwt_payload`.
    pub payload: String,
}

/// `envoy.config.core.v3.Metadata`, as far as it is read.
///
/// Maps are read as what they are on the wire, lists of entries: of two with one key the last counts.
#[derive(Clone, PartialEq, Message)]
struct Metadata {
    #[prost(message, repeated, tag = "1")]
    filter_metadata: Vec<Namespace>,
}

#[derive(Clone, PartialEq, Message)]
struct Namespace {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<Struct>,
}

/// `google.protobuf.Struct`.
#[derive(Clone, PartialEq, Message)]
struct Struct {
    #[prost(message, repeated, tag = "1")]
    fields: Vec<Field>,
}

#[derive(Clone, PartialEq, Message)]
struct Field {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<Value>,
}

/// `google.protobuf.Value`.
#[derive(Clone, PartialEq, Message)]
struct Value {
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
    Text(String),
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
    values: Vec<Value>,
}

impl MetadataPath {
    /// The claims in a request's metadata; `None` when there are none at this place, or the bytes
    /// are no metadata of at most 256 KiB. Nesting is bounded by the decoder.
    pub fn claims(&self, metadata: &[u8]) -> Option<Map<String, Json>> {
        if metadata.len() > MAX_BYTES {
            return None;
        }
        let metadata = Metadata::decode(metadata).ok()?;
        let mut namespaces = metadata.filter_metadata.into_iter();
        let namespace = namespaces.rfind(|entry| entry.key == self.namespace)?.value?;
        let mut fields = namespace.fields.into_iter();
        match fields.rfind(|field| field.key == self.payload)?.value?.kind? {
            Kind::Struct(claims) => Some(object(claims)),
            _ => None,
        }
    }
}

fn object(members: Struct) -> Map<String, Json> {
    let mut object = Map::new();
    for Field { key, value } in members.fields {
        object.insert(key, value.map_or(Json::Null, json));
    }
    object
}

/// A number that JSON does not have becomes null, which is no time and no tenant.
fn json(value: Value) -> Json {
    match value.kind {
        None | Some(Kind::Null(_)) => Json::Null,
        Some(Kind::Number(number)) => Number::from_f64(number).map_or(Json::Null, Json::Number),
        Some(Kind::Text(text)) => Json::String(text),
        Some(Kind::Bool(value)) => Json::Bool(value),
        Some(Kind::Struct(members)) => Json::Object(object(members)),
        Some(Kind::List(list)) => Json::Array(list.values.into_iter().map(json).collect()),
    }
}

#[cfg(test)]
mod tests;
