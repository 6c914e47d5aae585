//! `errors`: denials in the words of another service.

use crate::denial::Code;

/// `errors`. Default: every denial as it is.
#[derive(Debug, Clone, Default)]
pub struct Errors {
    overrides: Vec<(Code, Override)>,
}

impl Errors {
    /// Of two for one code the first counts.
    pub fn new(overrides: Vec<(Code, Override)>) -> Self {
        Self { overrides }
    }

    /// What is said instead for `code`, if anything.
    pub fn of(&self, code: Code) -> Option<&Override> {
        self.overrides.iter().find(|(of, _)| *of == code).map(|(_, by)| by)
    }
}

/// One member of `errors.overrides`; `None`: as it is.
#[derive(Debug, Clone, Default)]
pub struct Override {
    /// The HTTP status, 400 to 599.
    pub status: Option<u16>,
    /// The code in the body, 1 to 64 bytes of visible ASCII.
    pub code: Option<String>,
    /// The title, 1 to 128 characters, none of them a control character.
    pub title: Option<String>,
    /// The message, 1 to 512 characters, none of them a control character.
    pub message: Option<String>,
}
