//! Reads of a document what is asked for. Everything else is skipped by the parser and never decoded:
//! it may hold credentials.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// What is read of a value. What is not of its shape is an error, unless it says otherwise.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape {
    /// A string.
    Text,
    /// A string, or `null`.
    OptionalText,
    /// A string; a value of any other kind is skipped and read as `null`.
    TextOrSkipped,
    /// An object, or `null`. Of its members those that are named here, each of which may be left out and
    /// stands there at most once.
    Object(&'static [(&'static str, Shape)]),
    /// An object, or `null`. All its members, whose values are of one shape; of two with the same name
    /// the last counts.
    Members(&'static Shape),
}

/// Reads one JSON document. `None`: it is none, or not of the shape.
pub(crate) fn read(text: &[u8], shape: Shape) -> Option<Value> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value = shape.deserialize(&mut deserializer).ok()?;
    deserializer.end().ok()?;
    Some(value)
}

impl Shape {
    /// What is read of a member; `None` when it is skipped.
    fn of_member(self, name: &str) -> Option<Self> {
        match self {
            Self::Object(members) => members
                .iter()
                .find(|(member, _)| *member == name)
                .map(|(_, shape)| *shape),
            Self::Members(shape) => Some(*shape),
            Self::Text | Self::OptionalText | Self::TextOrSkipped => None,
        }
    }

    /// Reads a value that is neither a string nor an object.
    fn other<E: Error>(self, is_null: bool) -> Result<Value, E> {
        match self {
            Self::TextOrSkipped => Ok(Value::Null),
            Self::OptionalText | Self::Object(_) | Self::Members(_) if is_null => Ok(Value::Null),
            _ => Err(misshapen()),
        }
    }
}

/// Says nothing of what was there.
fn misshapen<E: Error>() -> E {
    E::custom("a value of another shape")
}

impl<'de> DeserializeSeed<'de> for Shape {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Shape {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of the shape")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        match self {
            Self::Text | Self::OptionalText | Self::TextOrSkipped => Ok(Value::String(text.to_owned())),
            Self::Object(_) | Self::Members(_) => Err(misshapen()),
        }
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.other(true)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Value, E> {
        self.other(false)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Value, E> {
        self.other(false)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Value, E> {
        self.other(false)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Value, E> {
        self.other(false)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, elements: A) -> Result<Value, A::Error> {
        IgnoredAny.visit_seq(elements)?;
        self.other(false)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut read = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let Some(shape) = self.of_member(&name) else {
                members.next_value::<IgnoredAny>()?;
                continue;
            };
            let value = members.next_value_seed(shape)?;
            if read.insert(name, value).is_some() && matches!(self, Self::Object(_)) {
                return Err(A::Error::custom("duplicate member name"));
            }
        }
        match self {
            Self::Object(_) | Self::Members(_) => Ok(Value::Object(read)),
            Self::Text | Self::OptionalText | Self::TextOrSkipped => self.other(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SHAPE: Shape = Shape::Object(&[
        ("id", Shape::Text),
        ("slug", Shape::OptionalText),
        ("host", Shape::TextOrSkipped),
        ("all", Shape::Members(&Shape::Object(&[("name", Shape::OptionalText)]))),
    ]);

    #[test]
    fn only_what_is_named_is_read() {
        let text = br#"{"id":"a","password":"hunter2","host":{"password":"hunter2"},"slug":null,
            "all":{"x":{"name":"n","password":["hunter2",{"a":1}]},"y":null,"z":{}}}"#;
        let read = read(text, SHAPE).unwrap();
        assert_eq!(
            read,
            json!({"id": "a", "host": null, "slug": null, "all": {"x": {"name": "n"}, "y": null, "z": {}}})
        );
    }

    #[test]
    fn what_has_another_shape_is_refused() {
        for text in [
            "",
            "{",
            "{} x",
            "[]",
            "1",
            r#""text""#,
            r#"{"id":null}"#,
            r#"{"id":1}"#,
            r#"{"id":["a"]}"#,
            r#"{"id":{"a":"b"}}"#,
            r#"{"slug":true}"#,
            r#"{"slug":{}}"#,
            r#"{"all":"x"}"#,
            r#"{"all":{"x":1.5}}"#,
            r#"{"all":{"x":[]}}"#,
            r#"{"id":"a","id":"b"}"#,
            r#"{"id":"a","\u0069d":"a"}"#,
            r#"{"all":{"x":{"name":"a","name":"a"}}}"#,
            r#"{"other":[}"#,
            r#"{"host":[1,}"#,
        ] {
            assert_eq!(read(text.as_bytes(), SHAPE), None, "{text}");
        }
    }

    #[test]
    fn of_members_with_one_name_the_last_counts_where_all_are_read() {
        let text = br#"{"all":{"x":{"name":"a"},"x":{"name":"b"}},"more":1,"more":2}"#;
        assert_eq!(read(text, SHAPE), Some(json!({"all": {"x": {"name": "b"}}})));
        assert_eq!(read(b"null", SHAPE), Some(Value::Null));
    }

    #[test]
    fn what_is_no_string_where_one_may_be_is_skipped() {
        for written in ["null", "true", "7", "-7", "7.5", r#"["v",{"a":[1]}]"#, r#"{"v":"w"}"#] {
            let text = format!(r#"{{"host":{written}}}"#);
            assert_eq!(read(text.as_bytes(), SHAPE), Some(json!({"host": null})), "{text}");
        }
    }
}
