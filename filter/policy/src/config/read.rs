//! From text to [`RawConfig`], with every fault of shape and not only the first: a member that
//! does not fit is reported and left out, and the rest is read all the same.
//!
//! Serde's derived readers are not used here: they stop at the first fault, their messages may
//! quote a secret that stands in the wrong place, and what they grow to is a tenth of the module.

use serde_json::{Map, Value};

use super::error::{ConfigError, Pointer, Problem, shown};
use super::raw::RawConfig;
use crate::json;

/// At most so many faults of shape are listed.
const MAX_FAULTS: usize = 64;

/// Reads a document.
///
/// Gives what could be read, and every fault of shape up to [`MAX_FAULTS`].
pub(super) fn read(text: &[u8]) -> (RawConfig, Vec<ConfigError>) {
    let mut document = match json::parse(text) {
        Ok(document) => document,
        Err(error) => return (RawConfig::default(), vec![not_json(&error)]),
    };
    let mut misfits = Misfits::default();
    take_nulls(&mut document, &Pointer::default(), &mut misfits);
    let config = RawConfig::read(document, &Pointer::default(), &mut misfits);
    if misfits.0.len() >= MAX_FAULTS {
        return (RawConfig::default(), more(misfits.0));
    }
    (config.unwrap_or_default(), misfits.0)
}

/// What can be read from a value of the document.
pub(super) trait Read: Sized {
    /// Reads `value`, which stands at `at`. What does not fit is added to `misfits`; `None`: the
    /// whole of it.
    fn read(value: Value, at: &Pointer, misfits: &mut Misfits) -> Option<Self>;
}

impl Read for Value {
    fn read(value: Value, _: &Pointer, _: &mut Misfits) -> Option<Self> {
        Some(value)
    }
}

impl Read for bool {
    fn read(value: Value, at: &Pointer, misfits: &mut Misfits) -> Option<Self> {
        let read = value.as_bool();
        if read.is_none() {
            misfits.kind(&value, at, "a boolean");
        }
        read
    }
}

impl Read for String {
    fn read(value: Value, at: &Pointer, misfits: &mut Misfits) -> Option<Self> {
        match value {
            Value::String(text) => Some(text),
            other => {
                misfits.kind(&other, at, "a string");
                None
            }
        }
    }
}

/// An element that does not fit leaves one behind that says nothing: its neighbours keep their
/// places.
impl<T: Read + Default> Read for Vec<T> {
    fn read(value: Value, at: &Pointer, misfits: &mut Misfits) -> Option<Self> {
        let Value::Array(elements) = value else {
            misfits.kind(&value, at, "a list");
            return None;
        };
        let mut list = Vec::with_capacity(elements.len());
        for (index, element) in elements.into_iter().enumerate() {
            list.push(T::read(element, &at.child(index), misfits).unwrap_or_default());
        }
        Some(list)
    }
}

/// At most so many members of an object whose names are the author's own.
const MAX_MEMBERS: usize = 4_096;

/// An object whose member names are the author's own: each with what stands there, ordered by name.
/// A member that does not fit is reported and left out.
#[derive(Debug)]
pub(super) struct Members<T>(pub(super) Vec<(String, T)>);

impl<T> Default for Members<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Read> Read for Members<T> {
    fn read(value: Value, at: &Pointer, misfits: &mut Misfits) -> Option<Self> {
        let members = members(value, at, misfits)?;
        let mut read = Vec::with_capacity(members.len());
        for (name, value) in members {
            if let Some(value) = T::read(value, &shown_place(at, &name), misfits) {
                read.push((name, value));
            }
        }
        Some(Self(read))
    }
}

fn members(value: Value, at: &Pointer, misfits: &mut Misfits) -> Option<Map<String, Value>> {
    match value {
        Value::Object(members) if members.len() <= MAX_MEMBERS => Some(members),
        Value::Object(members) => {
            let found = format!("{} members", members.len());
            misfits.add(at, found, &format!("at most {MAX_MEMBERS}"));
            None
        }
        other => {
            misfits.kind(&other, at, "an object");
            None
        }
    }
}

/// An object with members that are known by name, each of them optional.
pub(super) trait Struct {
    /// Their names.
    fn members(&self) -> &'static [&'static str];

    /// Reads the member of that name, if there is one.
    fn take(&mut self, member: &str, value: Value, at: &Pointer, misfits: &mut Misfits);
}

/// Reads the members of `object`, in the order of the document; false: `value` is no object.
pub(super) fn structure(object: &mut dyn Struct, value: Value, at: &Pointer, misfits: &mut Misfits) -> bool {
    let Value::Object(members) = value else {
        misfits.kind(&value, at, "an object");
        return false;
    };
    let known = object.members();
    for (name, value) in members {
        let at = shown_place(at, &name);
        if known.contains(&name.as_str()) {
            object.take(&name, value, &at, misfits);
        } else {
            misfits.add(&at, "an unknown member", &alternatives(known));
        }
    }
    true
}

/// Which of `words` the value is.
pub(super) fn one_of(words: &[&str], value: &Value, at: &Pointer, misfits: &mut Misfits) -> Option<usize> {
    let place = value
        .as_str()
        .and_then(|text| words.iter().position(|word| *word == text));
    if place.is_none() {
        misfits.word(value, at, &in_backticks(words).join(", "));
    }
    place
}

/// The faults of shape that were found so far, at most [`MAX_FAULTS`].
#[derive(Default)]
pub(super) struct Misfits(Vec<ConfigError>);

impl Misfits {
    fn add(&mut self, at: &Pointer, found: impl Into<String>, accepted: &str) {
        if self.0.len() < MAX_FAULTS {
            self.0.push(ConfigError {
                pointer: at.clone(),
                problem: unacceptable(found, accepted),
            });
        }
    }

    /// A value of the wrong kind.
    fn kind(&mut self, found: &Value, at: &Pointer, accepted: &str) {
        self.add(at, describe(found), accepted);
    }

    /// Not one of a few words. Nobody writes a secret there: what was written is shown.
    pub(super) fn word(&mut self, found: &Value, at: &Pointer, accepted: &str) {
        match found {
            Value::String(word) => self.add(at, format!("`{}`", shown(word)), accepted),
            other => self.kind(other, at, accepted),
        }
    }
}

fn in_backticks(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| format!("`{name}`")).collect()
}

fn alternatives(names: &[&str]) -> String {
    match in_backticks(names).as_slice() {
        [one, other] => format!("{one} or {other}"),
        names => names.join(", "),
    }
}

/// Says that the list is cut; of the rest of the document nothing is known.
fn more(mut faults: Vec<ConfigError>) -> Vec<ConfigError> {
    faults.push(ConfigError {
        pointer: Pointer::default(),
        problem: Problem::More,
    });
    faults
}

/// The pointer of a member, or of what it stands in where its name may be a misplaced secret.
fn shown_place(place: &Pointer, name: &str) -> Pointer {
    let is_ours = matches!(name, "value" | "env") || name.bytes().all(|b| b.is_ascii_digit());
    let is_secret = place.as_str().contains(SECRET_PLACE);
    if is_secret && !is_ours {
        place.clone()
    } else {
        place.child(name)
    }
}

/// `null` is no way to leave a member out: templates produce it by accident, and a default would
/// silently take the place of what was meant. Only keys of a JWK set, which are others'
/// documents, may hold it.
fn take_nulls(value: &mut Value, at: &Pointer, misfits: &mut Misfits) {
    match value {
        Value::Object(members) => members.retain(|name, value| {
            let at = shown_place(at, name);
            if value.is_null() {
                misfits.add(&at, "null", "a value, or no such member");
                return false;
            }
            if !at.as_str().ends_with("/jwks/inline/keys") {
                take_nulls(value, &at, misfits);
            }
            true
        }),
        // In a list it is an element like any other, and no list here has room for it.
        Value::Array(elements) => {
            for (index, element) in elements.iter_mut().enumerate() {
                take_nulls(element, &at.child(index), misfits);
            }
        }
        _ => {}
    }
}

fn not_json(error: &serde_json::Error) -> ConfigError {
    let reason = match error.classify() {
        serde_json::error::Category::Eof => "it ends early",
        serde_json::error::Category::Data => "duplicate member name",
        serde_json::error::Category::Syntax | serde_json::error::Category::Io => "syntax error",
    };
    ConfigError {
        pointer: Pointer::default(),
        problem: Problem::NotJson {
            reason,
            line: error.line(),
            column: error.column(),
        },
    }
}

/// Where a misplaced name may be a secret.
const SECRET_PLACE: &str = "/api_keys";

/// A value's type. Not the value: what stands in the wrong place may be a secret.
pub(super) fn describe(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

pub(super) fn unacceptable(found: impl Into<String>, accepted: &str) -> Problem {
    Problem::Unacceptable {
        found: found.into(),
        accepted: accepted.to_owned(),
    }
}

#[cfg(test)]
mod tests;
