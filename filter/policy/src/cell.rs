//! A value that the workers of a node share, changed by compare-and-set.

use crate::node::{Node, NotWritten, Shared};

/// What is done with a stored value.
pub(crate) enum Change<T> {
    /// It is replaced by these bytes.
    To(Vec<u8>, T),
    /// It stays.
    None(T),
}

/// Changes what is stored under a key. `work` gets the stored bytes, empty where there are none, and is
/// called again, at most `attempts` times in all, while other workers are faster.
///
/// # Errors
///
/// [`NotWritten`]: nothing has changed; `Outpaced` when others were faster every time.
pub(crate) fn update<T>(
    key: &str,
    attempts: usize,
    node: &impl Node,
    mut work: impl FnMut(&[u8]) -> Change<T>,
) -> Result<T, NotWritten> {
    for _ in 0..attempts {
        let Shared { value, version } = node.shared(key);
        let (bytes, result) = match work(&value) {
            Change::None(result) => return Ok(result),
            Change::To(bytes, result) => (bytes, result),
        };
        match node.share(key, &bytes, version) {
            Ok(()) => return Ok(result),
            Err(NotWritten::Outpaced) => {}
            Err(NotWritten::Refused) => return Err(NotWritten::Refused),
        }
    }
    Err(NotWritten::Outpaced)
}
