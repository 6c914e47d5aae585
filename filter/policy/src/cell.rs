//! A value that the workers of a node share, changed by compare-and-set.

use serde::{Deserialize, Serialize};

use crate::node::{Node, NotWritten, Shared};

/// What is done with a stored value.
pub(crate) enum Change<T> {
    /// It is replaced by these bytes.
    To(Vec<u8>, T),
    /// It stays.
    None(T),
}

/// Changes what is stored under a key. `work` gets what is stored, and is called again, at most `attempts`
/// times in all, while other workers are faster.
///
/// # Errors
///
/// [`NotWritten`]: nothing has changed; `Outpaced` when others were faster every time.
pub(crate) fn update<T>(
    key: &str,
    attempts: usize,
    node: &impl Node,
    mut work: impl FnMut(&Shared) -> Change<T>,
) -> Result<T, NotWritten> {
    for _ in 0..attempts {
        let stored = node.shared(key);
        let (bytes, result) = match work(&stored) {
            Change::None(result) => return Ok(result),
            Change::To(bytes, result) => (bytes, result),
        };
        match node.share(key, &bytes, stored.version) {
            Ok(()) => return Ok(result),
            Err(NotWritten::Outpaced) => {}
            Err(NotWritten::Refused) => return Err(NotWritten::Refused),
        }
    }
    Err(NotWritten::Outpaced)
}

/// The stored form of a value: the number of its format, then its members.
pub(crate) fn encode(format: u8, value: &impl Serialize) -> Vec<u8> {
    // Strings and numbers always serialize; an empty value is none.
    postcard::to_extend(value, vec![format]).unwrap_or_default()
}

/// Reads a stored value; `None` where there is none, or one of another format.
pub(crate) fn decode<'a, T: Deserialize<'a>>(format: u8, bytes: &'a [u8]) -> Option<T> {
    let (found, members) = bytes.split_first()?;
    if *found != format {
        return None;
    }
    postcard::from_bytes(members).ok()
}
