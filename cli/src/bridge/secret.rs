//! Values that are never shown.

use std::fmt;
use std::path::{Path, PathBuf};

use http::HeaderValue;

/// How long a secret may be, in bytes.
const MAX_BYTES: usize = 4096;

/// A secret that is used and never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    /// Takes what an operator has written.
    ///
    /// # Errors
    /// When it is empty, over 4096 bytes, or has control characters, as a file of several lines has.
    pub(crate) fn new(text: &str) -> Result<Self, BadSecret> {
        match text.len() {
            0 => Err(BadSecret::Empty),
            length if length > MAX_BYTES => Err(BadSecret::TooLong),
            _ if text.chars().any(char::is_control) => Err(BadSecret::Control),
            _ => Ok(Self(text.to_owned())),
        }
    }

    /// The secret as the value of a header, which says that it is not to be shown.
    ///
    /// # Errors
    /// When it is not printable ASCII without spaces.
    pub(crate) fn header(&self) -> Result<HeaderValue, BadSecret> {
        if !self.0.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(BadSecret::NoHeader);
        }
        let mut value = HeaderValue::from_str(&self.0).map_err(|_| BadSecret::NoHeader)?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// The secret itself, to be sent and nothing else.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Why a secret cannot be used. It never says what was found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadSecret {
    #[error("is empty")]
    Empty,
    #[error("is longer than {MAX_BYTES} bytes")]
    TooLong,
    #[error("holds control characters, or more than one line")]
    Control,
    #[error("holds something else than printable ASCII without spaces")]
    NoHeader,
    #[error("cannot be read: {0}")]
    Unreadable(std::io::ErrorKind),
}

/// Where a secret comes from. A file is read whenever the secret is asked for, so that it can be rotated.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    Fixed(Secret),
    File(PathBuf),
}

impl Source {
    /// The secret as it is now. Line ends at the end of a file do not belong to it.
    ///
    /// # Errors
    /// When the file cannot be read or holds no secret.
    pub(crate) fn read(&self) -> Result<Secret, BadSecret> {
        match self {
            Self::Fixed(secret) => Ok(secret.clone()),
            Self::File(path) => from_file(path),
        }
    }
}

fn from_file(path: &Path) -> Result<Secret, BadSecret> {
    let text = std::fs::read_to_string(path).map_err(|error| BadSecret::Unreadable(error.kind()))?;
    Secret::new(text.trim_end_matches(['\r', '\n']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown() {
        let secret = Secret::new("hunter2").expect("a secret");
        assert!(!format!("{secret:?} {:?}", Source::Fixed(secret.clone())).contains("hunter2"));
    }

    #[test]
    fn a_file_is_read_anew_and_its_line_end_is_no_part_of_it() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let source = Source::File(file.path().to_owned());
        std::fs::write(file.path(), "old\n").expect("written");
        assert_eq!(source.read().expect("a secret").expose(), "old");
        std::fs::write(file.path(), "new\r\n").expect("written");
        assert_eq!(source.read().expect("a secret").expose(), "new");
        std::fs::write(file.path(), "\n").expect("written");
        assert!(matches!(source.read(), Err(BadSecret::Empty)));
    }

    #[test]
    fn what_no_header_can_carry_is_no_key_but_may_be_a_password() {
        for bad in ["", "a\nb", &"x".repeat(MAX_BYTES + 1)] {
            assert!(Secret::new(bad).is_err(), "{bad:?}");
        }
        for password in ["a b", "é"] {
            assert!(Secret::new(password).expect("a password").header().is_err());
        }
        let header = Secret::new("k-1").expect("a key").header().expect("a header");
        assert!(header.is_sensitive() && header == "k-1");
    }
}
