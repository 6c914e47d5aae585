//! What is still to be done with streams, a few of them in each call into the VM.
//!
//! The host does what a call has asked of streams when that call has returned, and each of it calls into the
//! VM again, at whose end the next is done: one within the other. On Envoy's V8 the stack is exhausted by
//! about 300 answers or 1000 resets, and the VM dies with everyone who waits in it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use tenant_policy::errand::Learned;

use crate::open::OpenStream;
use crate::waiting::Waiter;

/// How many streams are let go, answered or cut in one call.
const AT_ONCE: usize = 32;

/// What is to be done with one stream.
#[derive(Debug)]
pub(crate) enum Due {
    /// It goes on with its news; `None`: its deadline has passed.
    Wake(Waiter, Option<Rc<Learned>>),
    /// It is reset.
    Cut(OpenStream),
}

/// What is to be done with streams of one root context, in order.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    due: RefCell<VecDeque<Due>>,
    /// How many more may be done in this call.
    room: Cell<usize>,
}

impl Backlog {
    /// A call into the root context begins.
    pub(crate) fn begin(&self) {
        self.room.set(AT_ONCE);
    }

    pub(crate) fn extend(&self, due: impl Iterator<Item = Due>) {
        self.due.borrow_mut().extend(due);
    }

    /// What is to be done next, unless this call has done enough.
    pub(crate) fn next(&self) -> Option<Due> {
        let room = self.room.get().checked_sub(1)?;
        let due = self.due.borrow_mut().pop_front()?;
        self.room.set(room);
        Some(due)
    }

    /// Whether nothing is left to be done.
    pub(crate) fn is_empty(&self) -> bool {
        self.due.borrow().is_empty()
    }

    /// How many streams wait to go on.
    pub(crate) fn waiters(&self) -> usize {
        let due = self.due.borrow();
        due.iter().filter(|due| matches!(due, Due::Wake(..))).count()
    }
}
