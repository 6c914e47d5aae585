//! The requests of a row, and bytes as a row writes them.

use serde::Deserialize;
use serde_json::Value;

use crate::table::row::{Program, Row};

/// A request of a client. In values `\xNN` is a byte.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Request {
    /// The method.
    pub method: String,
    /// The request target.
    pub path: String,
    /// Field lines.
    pub headers: Vec<(String, Value)>,
    /// Further field lines `x-many-N`, so many.
    pub many: u32,
    /// The body.
    pub body: Option<Value>,
    /// Trailers.
    pub trailers: Vec<(String, Value)>,
    /// The worker, or the connection that is kept to one: rows with two workers only.
    pub on: Option<usize>,
    /// A script of its own.
    pub probe: Option<Program>,
    /// Without any script: what the root context says is done.
    pub bare: bool,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            method: "GET".to_owned(),
            path: "/".to_owned(),
            headers: Vec::new(),
            many: 0,
            body: None,
            trailers: Vec::new(),
            on: None,
            probe: None,
            bare: false,
        }
    }
}

/// Bytes of a text in which `\xNN` is a byte.
pub(crate) fn unescaped(text: &str) -> Vec<u8> {
    let mut parts = text.split("\\x");
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let byte = part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.expect("two hexadecimal digits behind \\x"));
        bytes.extend(part.get(2..).unwrap_or_default().as_bytes());
    }
    bytes
}

impl Request {
    /// Field lines besides the pseudo headers, those of the table's own in front.
    pub(crate) fn lines(&self, row: &Row) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut lines = vec![(b"x-row".to_vec(), row.id.clone().into_bytes())];
        lines.extend(
            row.script_of(self)
                .map(|script| (b"x-probe".to_vec(), script.into_bytes())),
        );
        lines.extend(pairs(&self.headers));
        lines.extend((0..self.many).map(|number| (format!("x-many-{number}").into_bytes(), b"1".to_vec())));
        lines
    }

    /// The body.
    pub(crate) fn body_bytes(&self) -> Vec<u8> {
        self.body.as_ref().map(bytes).unwrap_or_default()
    }
}

/// The bytes of a text in which `\xNN` is a byte, or of `{ repeat, times }`.
fn bytes(value: &Value) -> Vec<u8> {
    match value {
        Value::String(text) => unescaped(text),
        Value::Object(one) => {
            let times = one.get("times").and_then(Value::as_u64).unwrap_or_default();
            let text = one.get("repeat").and_then(Value::as_str).unwrap_or_default();
            text.as_bytes().repeat(usize::try_from(times).unwrap_or_default())
        }
        _ => Vec::new(),
    }
}

pub(crate) fn pairs(list: &[(String, Value)]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let pairs = list.iter();
    pairs
        .map(|(name, value)| (name.clone().into_bytes(), bytes(value)))
        .collect()
}
