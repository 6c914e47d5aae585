//! `errors`: which denials are told in other words.

use super::*;
use crate::denial::Code;

pub(super) fn errors(raw: raw::RawErrors, at: &Pointer, faults: &mut Faults) -> Option<Errors> {
    let at = at.child("overrides");
    let overrides = all(raw.overrides.unwrap_or_default().0, |_, (name, raw)| {
        let at = at.child(&name);
        let known = Code::overridable().find(|code| code.as_str() == name);
        if known.is_none() {
            let names: Vec<_> = Code::overridable().map(|code| quoted(code.as_str())).collect();
            faults.push(
                at.clone(),
                unacceptable("no code that can be overridden", &names.join(", ")),
            );
        }
        let by = one(raw, &at, faults);
        Some((known?, by?))
    });
    overrides.map(Errors::new)
}

fn one(raw: raw::RawOverride, at: &Pointer, faults: &mut Faults) -> Option<Override> {
    if raw.status.is_none() && raw.code.is_none() && raw.title.is_none() && raw.message.is_none() {
        return faults.refuse(
            at.clone(),
            "nothing to override",
            "one or more of `status`, `code`, `title` and `message`",
        );
    }
    let status = match raw.status {
        None => Some(None),
        some => faults.number(at.child("status"), some, 0, 400..=599).map(Some),
    };
    let code = optional(
        raw.code,
        at.child("code"),
        faults,
        "1 to 64 visible ASCII characters",
        |code| code.len() <= 64 && code.bytes().all(|b| b.is_ascii_graphic()),
    );
    let title = optional(
        raw.title,
        at.child("title"),
        faults,
        "1 to 128 characters, no control characters",
        |title| is_line(title, 128),
    );
    let message = optional(
        raw.message,
        at.child("message"),
        faults,
        "1 to 512 characters, no control characters",
        |message| is_line(message, 512),
    );
    Some(Override {
        status: status?,
        code: code?,
        title: title?,
        message: message?,
    })
}

/// A text that need not be there, and if it is, is not empty and passes.
fn optional(
    text: Option<String>,
    at: Pointer,
    faults: &mut Faults,
    accepted: &str,
    passes: fn(&str) -> bool,
) -> Option<Option<String>> {
    match text {
        Some(text) if text.is_empty() || !passes(&text) => faults.refuse(at, quoted(&text), accepted),
        text => Some(text),
    }
}

fn is_line(text: &str, longest: usize) -> bool {
    text.chars().count() <= longest && !text.contains(char::is_control)
}
