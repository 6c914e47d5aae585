//! A hash that is the same in every build and on every worker, for what is told apart and never for what
//! callers choose.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

/// The hash of a text.
pub(crate) fn fingerprint(text: &(impl AsRef<[u8]> + ?Sized)) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(text.as_ref());
    hasher.finish()
}
