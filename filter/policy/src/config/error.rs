//! Configuration faults, written for the person who must mend them.

use std::fmt;

/// One fault of a configuration document.
///
/// It names the place, what stands there and what would be accepted. Strings of the document
/// are shown only where they cannot be secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{pointer}: {problem}")]
pub struct ConfigError {
    /// JSON pointer (RFC 6901) to the place; empty for the whole document.
    pub pointer: Pointer,
    /// What is wrong there.
    pub problem: Problem,
}

/// A JSON pointer that shows itself as `the document` when it is empty; or, where the document is
/// not at fault, the name of an environment variable.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pointer(String);

impl Pointer {
    /// The pointer of `member` below this one, escaped by RFC 6901 §3. A long name is cut, and
    /// what could forge a log line is escaped.
    pub fn child(&self, member: impl fmt::Display) -> Self {
        self.below(&member.to_string())
    }

    fn below(&self, member: &str) -> Self {
        let member = shown(member).replace('~', "~0").replace('/', "~1");
        Self(format!("{}/{member}", self.0))
    }

    /// The pointer that stands there, all of it in names of ours.
    pub(super) fn to(text: &'static str) -> Self {
        Self(text.to_owned())
    }

    /// No pointer at all: the name of an environment variable, about which there is something to say.
    pub(super) fn variable(name: &str) -> Self {
        Self(shown(name))
    }

    /// The pointer as text, empty for the whole document.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether one of the two pointers leads through the other.
    pub fn touches(&self, other: &Self) -> bool {
        let through = |outer: &str, inner: &str| {
            inner
                .strip_prefix(outer)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        through(&self.0, &other.0) || through(&other.0, &self.0)
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_str() {
            "" => f.write_str("the document"),
            pointer if pointer.starts_with('/') => f.write_str(pointer),
            name => write!(f, "the environment variable {name}"),
        }
    }
}

/// A text as it may stand in a log line: bounded, nothing in it that ends a line or moves a
/// cursor.
pub(crate) fn shown(text: &str) -> String {
    let start: String = text.chars().take(64).flat_map(char::escape_debug).collect();
    let more = if text.chars().nth(64).is_some() { "…" } else { "" };
    start + more
}

/// What is wrong at a place of the document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A value of the wrong type, or outside the accepted values.
    #[error("found {found}, accepted: {accepted}")]
    Unacceptable {
        /// What stands there.
        found: String,
        /// What would be accepted.
        accepted: String,
    },
    /// A list of the wrong length. It says nothing about the elements.
    #[error("found {found}, accepted: {accepted}")]
    Count {
        /// How many there are.
        found: String,
        /// How many may be.
        accepted: &'static str,
    },
    /// Something that the enabled filter needs is not there.
    #[error("missing, accepted: {accepted}")]
    Missing {
        /// What would be accepted.
        accepted: String,
    },
    /// A key of a JWK set that cannot be used.
    #[error("key `{name}` refused: {reason}")]
    Key {
        /// Its `kid`, or its position in the set.
        name: String,
        /// Why; never key material.
        reason: &'static str,
    },
    /// The document is not JSON, or not strict JSON.
    #[error(
        "not a JSON document: {reason} at line {line}, column {column}; accepted: one JSON object without duplicate member names"
    )]
    NotJson {
        /// Syntax error, duplicate member name or early end.
        reason: &'static str,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// There were more faults than are listed.
    #[error("more faults follow once these are mended")]
    More,
}
