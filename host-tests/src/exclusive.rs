//! What all threads of a world may touch, one of them at a time.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

/// Something that the workers of a world share. Only one worker runs at any moment, so nobody ever
/// waits for it: whoever finds it taken has broken that rule.
pub(crate) struct Exclusive<T: ?Sized>(pub(crate) Arc<Mutex<T>>);

impl<T> Exclusive<T> {
    pub(crate) fn new(content: T) -> Self {
        Self(Arc::new(Mutex::new(content)))
    }
}

impl<T: ?Sized> Exclusive<T> {
    /// Takes it until the guard is dropped.
    ///
    /// # Panics
    /// Somebody has it, this very thread perhaps.
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        match self.0.try_lock() {
            Ok(guard) => guard,
            // A test that failed while it had it says so by itself.
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => panic!("a part of the world is used in two places at once"),
        }
    }
}

impl<T: ?Sized> Clone for Exclusive<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: ?Sized> fmt::Debug for Exclusive<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exclusive").finish_non_exhaustive()
    }
}
