//! From text to [`RawConfig`], with every fault of shape and not only the first: a member that
//! does not fit is reported, taken out, and the rest is read again.

use std::fmt;

use serde_json::Value;
use serde_path_to_error::{Path, Segment};

use super::error::{ConfigError, Pointer, Problem, shown};
use super::raw::RawConfig;
use crate::json::{self, Object};

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
    let mut faults = Vec::new();
    take_nulls(&mut document, &Pointer::default(), &mut faults);
    if faults.len() >= MAX_FAULTS {
        return (RawConfig::default(), more(faults));
    }
    loop {
        let error = match serde_path_to_error::deserialize::<_, Object<RawConfig>>(&document) {
            Ok(Object(config)) => return (config, faults),
            Err(error) => error,
        };
        let expected = expected(&error.inner().to_string());
        let (pointer, found) = Steps::from(error.path()).cut(&mut document, &expected);
        faults.push(ConfigError {
            pointer,
            problem: unacceptable(found, &expected.to_string()),
        });
        if faults.len() >= MAX_FAULTS {
            return (RawConfig::default(), more(faults));
        }
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
fn take_nulls(value: &mut Value, at: &Pointer, faults: &mut Vec<ConfigError>) {
    match value {
        Value::Object(members) => members.retain(|name, value| {
            let at = shown_place(at, name);
            if value.is_null() {
                if faults.len() < MAX_FAULTS {
                    let problem = unacceptable("null", "a value, or no such member");
                    faults.push(ConfigError { pointer: at, problem });
                }
                return false;
            }
            if !at.as_str().ends_with("/jwks/inline/keys") {
                take_nulls(value, &at, faults);
            }
            true
        }),
        // In a list it is an element like any other, and no list here has room for it.
        Value::Array(elements) => {
            for (index, element) in elements.iter_mut().enumerate() {
                take_nulls(element, &at.child(index), faults);
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

/// The way from the document to a fault.
struct Steps(Vec<String>);

impl From<&Path> for Steps {
    fn from(path: &Path) -> Self {
        Self(
            path.iter()
                .filter_map(|segment| match segment {
                    Segment::Seq { index } => Some(index.to_string()),
                    Segment::Map { key } => Some(key.clone()),
                    Segment::Enum { .. } | Segment::Unknown => None,
                })
                .collect(),
        )
    }
}

impl Steps {
    /// Takes the faulty value out of `document`, so that the next reading meets the next fault,
    /// and says what it was. An element of a list leaves a neutral one behind: its neighbours
    /// keep their places.
    fn cut(&self, document: &mut Value, expected: &Expected) -> (Pointer, String) {
        let Some((last, way)) = self.0.split_last() else {
            let found = describe(document).to_owned();
            *document = expected.neutral();
            return (Pointer::default(), found);
        };
        let mut pointer = Pointer::default();
        let mut place = document;
        for step in way {
            pointer = pointer.child(step);
            let next = match place {
                Value::Object(members) => members.get_mut(step),
                Value::Array(elements) => step.parse().ok().and_then(|index: usize| elements.get_mut(index)),
                _ => None,
            };
            match next {
                Some(next) => place = next,
                None => return (pointer, "nothing usable".to_owned()),
            }
        }
        let removed = match place {
            Value::Object(members) => members.remove(last),
            Value::Array(elements) => last
                .parse()
                .ok()
                .and_then(|index: usize| elements.get_mut(index))
                .map(|element| std::mem::replace(element, expected.neutral())),
            _ => None,
        };
        let found = match (expected, removed) {
            (Expected::KnownMember(_), _) => "an unknown member".to_owned(),
            (Expected::Word(_), Some(Value::String(word))) => format!("`{}`", shown(&word)),
            (_, Some(value)) => describe(&value).to_owned(),
            (_, None) => "nothing usable".to_owned(),
        };
        (shown_place(&pointer, last), found)
    }
}

/// Where a misplaced name may be a secret.
const SECRET_PLACE: &str = "/api_keys";

/// What would have been accepted, in our words. It speaks of the types in this file, never of
/// the document: Serde's own message may quote a secret that stands in the wrong place.
enum Expected {
    List,
    Text,
    KnownMember(String),
    /// One of a few words. Nobody writes a secret there.
    Word(String),
    Other(String),
}

fn expected(message: &str) -> Expected {
    let accepted = message
        .rsplit_once("expected ")
        .map_or("a valid value", |(_, rest)| rest);
    let names = accepted.strip_prefix("one of ").unwrap_or(accepted).to_owned();
    match accepted {
        _ if message.starts_with("unknown field") => Expected::KnownMember(names),
        "a sequence" => Expected::List,
        "a string" => Expected::Text,
        words if words.starts_with('`') => Expected::Word(names),
        _ => Expected::Other(names),
    }
}

impl Expected {
    /// A value of the expected type that says nothing.
    fn neutral(&self) -> Value {
        match self {
            Self::Text => Value::String(String::new()),
            _ => Value::Object(serde_json::Map::new()),
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::List => f.write_str("a list"),
            Self::Text => f.write_str("a string"),
            Self::KnownMember(names) | Self::Word(names) | Self::Other(names) => f.write_str(names),
        }
    }
}

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
