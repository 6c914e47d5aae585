//! Bytes as a script writes them, and as a log line shows them.

use serde_json::Value;

/// What of a value is shown at most, in bytes.
const SHOWN: usize = 120;

/// The bytes of an argument: a text in which `\xNN` is a byte, a number in decimal, `{ "hex": … }`, or
/// `{ "repeat": text, "times": n }`.
pub(crate) fn bytes(argument: Option<&Value>) -> Vec<u8> {
    match argument {
        Some(Value::String(text)) => unescaped(text),
        Some(Value::Number(number)) => number.to_string().into_bytes(),
        Some(Value::Object(one)) if one.contains_key("hex") => hex(one["hex"].as_str().unwrap_or_default()),
        Some(Value::Object(one)) => {
            let times = one.get("times").and_then(Value::as_u64).unwrap_or_default();
            bytes(one.get("repeat")).repeat(usize::try_from(times).unwrap_or_default())
        }
        _ => Vec::new(),
    }
}

fn unescaped(text: &str) -> Vec<u8> {
    let mut parts = text.split("\\x");
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        bytes.extend(part.get(..2).map(hex).unwrap_or_default());
        bytes.extend(part.get(2..).unwrap_or_default().as_bytes());
    }
    bytes
}

fn hex(digits: &str) -> Vec<u8> {
    let places = (0..digits.len() / 2).map(|at| digits.get(at * 2..at * 2 + 2));
    places.filter_map(|pair| u8::from_str_radix(pair?, 16).ok()).collect()
}

/// Bytes in quotes, in ASCII, the rest of long ones counted.
pub(crate) fn quoted(bytes: &[u8]) -> String {
    match bytes.get(..SHOWN) {
        Some(start) if bytes.len() > SHOWN => format!("\"{}\"… {} bytes", start.escape_ascii(), bytes.len()),
        _ => format!("\"{}\"", bytes.escape_ascii()),
    }
}

/// The arguments of an operation as its line shows them: objects are left out.
pub(crate) fn arguments(operation: &[Value]) -> String {
    let words = operation.iter().filter_map(|argument| match argument {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Array(parts) => Some(parts.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(".")),
        _ => None,
    });
    words.collect::<Vec<_>>().join(" ")
}
