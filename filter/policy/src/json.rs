//! Strict JSON: what RFC 8259 leaves open is refused here.
//!
//! Every document from outside that decides something (JOSE header, claims, configuration) is
//! read by [`parse`]: a member name that occurs twice in one object is an error wherever it
//! stands, because two readers of such a document may disagree about it (RFC 8725 §2.4 in
//! spirit). Unpaired surrogate escapes, invalid UTF-8, trailing bytes and nesting deeper than
//! 128 are errors too; those come with `serde_json`.

mod shape;

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

pub(crate) use self::shape::{Shape, read};

/// Reads one JSON document and refuses duplicate member names at any depth.
///
/// # Errors
///
/// The position and kind of the first violation; never the content of the document.
pub fn parse(text: &[u8]) -> Result<Value, serde_json::Error> {
    serde_json::from_slice::<Strict>(text).map(|Strict(value)| value)
}

/// Like [`parse`], for documents that must be an object; `None` for everything else.
pub fn parse_object(text: &[u8]) -> Option<Map<String, Value>> {
    match parse(text) {
        Ok(Value::Object(members)) => Some(members),
        Ok(_) | Err(_) => None,
    }
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Strict)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without duplicate member names")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("number is not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(element)) = elements.next_element()? {
            list.push(element);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some((name, Strict(value))) = entries.next_entry::<String, Strict>()? {
            if members.insert(name, value).is_some() {
                return Err(de::Error::custom("duplicate member name"));
            }
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        for (text, why) in [
            (r#"{"a":1,"a":1}"#, "duplicate at the top"),
            (r#"{"a":1,"\u0061":2}"#, "duplicate after unescaping"),
            (r#"{"x":[{"b":1,"b":2}]}"#, "duplicate deep inside"),
            (r#"{"a":"\ud800"}"#, "unpaired leading surrogate"),
            (r#"{"a":"\udc00x"}"#, "unpaired trailing surrogate"),
            (r#"{"a":1} x"#, "trailing bytes"),
            (r#"{"a":1e999}"#, "number out of range"),
            ("{\"a\":\"\u{1}\"}", "raw control byte in a string"),
            ("", "nothing at all"),
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{why}: {text}");
        }
        assert!(parse(b"{\"a\":\"\xff\"}").is_err(), "invalid UTF-8");
        let deep = "[".repeat(200) + &"]".repeat(200);
        assert!(parse(deep.as_bytes()).is_err(), "nesting without bound");
    }

    #[test]
    fn ordinary_documents_arrive_as_they_are() {
        let text = r#"{"a":[1,-2,3.5,true,null,"é"],"b":{"a":1}}"#;
        let plain: Value = serde_json::from_str(text).unwrap();
        assert_eq!(parse(text.as_bytes()).unwrap(), plain);
        assert!(parse_object(b"[]").is_none());
        assert!(parse_object(b"{}").is_some_and(|members| members.is_empty()));
    }
}
