//! What was seen, as lines that two hosts can be compared by.

use crate::table::Row;

/// What of a value is shown at most, in bytes; as in the probe.
const SHOWN: usize = 120;

/// What one host showed of a row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen(pub Vec<String>);

impl Seen {
    /// Whether it is what the row says.
    pub fn is_expected(&self, row: &Row) -> bool {
        self.in_order(row) == Self(row.see.clone()).in_order(row)
    }

    /// Its lines, sorted where the row leaves their order open.
    #[must_use]
    pub fn in_order(&self, row: &Row) -> Self {
        let mut lines = self.0.clone();
        if row.unordered {
            lines.sort();
        }
        Self(lines)
    }
}

/// A message as it was received.
#[derive(Debug, Clone, Default)]
pub(crate) struct Message {
    pub(crate) headers: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Message {
    /// A line for each name.
    pub(crate) fn lines(&self, who: &str, names: &[String]) -> Vec<String> {
        if names.is_empty() {
            return vec![who.to_owned()];
        }
        let line = |name: &String| {
            let shown = match name.strip_prefix("trailer ") {
                Some(name) => values(&self.trailers, name),
                None if name == "body" => quoted(&self.body),
                None => values(&self.headers, name),
            };
            format!("{who} {name} = {shown}")
        };
        names.iter().map(line).collect()
    }
}

fn values(fields: &[(Vec<u8>, Vec<u8>)], name: &str) -> String {
    let found = fields.iter().filter(|(found, _)| found == name.as_bytes());
    let values: Vec<_> = found.map(|(_, value)| quoted(value)).collect();
    if values.is_empty() {
        "absent".to_owned()
    } else {
        values.join(" | ")
    }
}

pub(crate) fn quoted(bytes: &[u8]) -> String {
    match bytes.get(..SHOWN) {
        Some(start) if bytes.len() > SHOWN => format!("\"{}\"… {} bytes", start.escape_ascii(), bytes.len()),
        _ => format!("\"{}\"", bytes.escape_ascii()),
    }
}

/// The line that a probe has logged for this row, if this is one.
pub(crate) fn logged<'a>(row: &Row, message: &'a str) -> Option<&'a str> {
    let (_, line) = message.split_once("conformance ")?;
    line.strip_prefix(row.id.as_str())?.strip_prefix(": ")
}
