//! A bounded number of places for those who wait.

use std::cell::Cell;
use std::rc::Rc;

/// A number of places.
#[derive(Debug)]
pub(crate) struct Seats {
    taken: Rc<Cell<usize>>,
    max: usize,
}

/// A place. Dropping it frees it, however the wait ends.
#[derive(Debug)]
pub(crate) struct Seat(Rc<Cell<usize>>);

impl Seats {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            taken: Rc::default(),
            max,
        }
    }

    /// A place, unless all are taken.
    pub(crate) fn take(&self) -> Option<Seat> {
        if self.taken.get() >= self.max {
            return None;
        }
        self.taken.set(self.taken.get().saturating_add(1));
        Some(Seat(Rc::clone(&self.taken)))
    }

    /// Whether a place is free.
    pub(crate) fn are_left(&self) -> bool {
        self.taken.get() < self.max
    }

    #[cfg(test)]
    pub(crate) fn taken(&self) -> usize {
        self.taken.get()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}
