//! `errors`: which denials are told in other words.

use super::*;
use crate::denial::Code;

/// The overrides; what cannot be one is a fault, and left out.
pub(super) fn errors(raw: raw::RawErrors, at: &Pointer, faults: &mut Faults) -> Errors {
    let at = at.child("overrides");
    let mut overrides = Vec::new();
    for (name, raw) in raw.overrides.unwrap_or_default().0 {
        let at = at.child(&name);
        match Code::OVERRIDABLE.iter().find(|code| code.as_str() == name) {
            Some(code) => overrides.push((*code, one(raw, &at, faults))),
            None => {
                let names: Vec<_> = Code::OVERRIDABLE.iter().map(|code| quoted(code.as_str())).collect();
                faults.push(at, unacceptable("no code that can be overridden", &names.join(", ")));
            }
        }
    }
    Errors::new(overrides)
}

fn one(raw: raw::RawOverride, at: &Pointer, faults: &mut Faults) -> Override {
    let raw::RawOverride {
        status,
        code,
        title,
        message,
    } = raw;
    if status.is_none() && code.is_none() && title.is_none() && message.is_none() {
        let accepted = "one or more of `status`, `code`, `title` and `message`";
        faults.push(at.clone(), unacceptable("nothing to override", accepted));
    }
    let is_line = |text: &str| !text.contains(char::is_control);
    let mut text = |member, text: Option<String>, longest, passes: fn(&str) -> bool, accepted| {
        let fits = |text: &str| (1..=longest).contains(&characters(text)) && passes(text);
        if let Some(text) = text.as_deref().filter(|text| !fits(text)) {
            faults.push(at.child(member), unacceptable(quoted(text), accepted));
        }
        text
    };
    let is_word = |text: &str| text.bytes().all(|b| b.is_ascii_graphic());
    let code = text("code", code, 64, is_word, "1 to 64 visible ASCII characters");
    let title = text(
        "title",
        title,
        128,
        is_line,
        "1 to 128 characters, no control characters",
    );
    let message = text(
        "message",
        message,
        512,
        is_line,
        "1 to 512 characters, no control characters",
    );
    Override {
        status: status.and_then(|status| faults.number(at.child("status"), Some(status), 0, 400..=599)),
        code,
        title,
        message,
    }
}

/// How many characters a text has: as many as bytes that begin one.
fn characters(text: &str) -> usize {
    text.bytes().filter(|b| b & 0b1100_0000 != 0b1000_0000).count()
}
