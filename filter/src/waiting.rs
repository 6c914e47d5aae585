//! The streams that wait: each has one flow, one thing that it waits for and one deadline.

use std::collections::{BTreeSet, HashMap};
use std::ops::RangeInclusive;
use std::rc::Rc;

use tenant_policy::errand::Awaited;
use tenant_policy::flow::RequestFlow;

use crate::http::Exchange;

/// A stream that waits.
#[derive(Debug)]
pub(crate) struct Waiter {
    /// The stream's context.
    pub(crate) stream: u32,
    /// What is left of its request.
    pub(crate) flow: RequestFlow,
    /// What is known of the stream besides.
    pub(crate) exchange: Rc<Exchange>,
}

/// The waiting streams of one root context. How many there may be is the engine's business: a
/// flow holds a seat.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    waiters: HashMap<u32, Waiter>,
    /// Each stream twice: by its deadline and by what it waits for.
    index: BTreeSet<(By, u32)>,
}

/// What a waiting stream is found by. Deadlines come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum By {
    /// In monotonic milliseconds.
    Deadline(u64),
    Awaited(Awaited),
}

impl Waiter {
    fn index(&self) -> [(By, u32); 2] {
        [By::Deadline(self.flow.deadline_ms()), By::Awaited(self.flow.awaits())].map(|by| (by, self.stream))
    }
}

impl Waiting {
    pub(crate) fn insert(&mut self, waiter: Waiter) {
        let stream = waiter.stream;
        self.remove(stream);
        self.index.extend(waiter.index());
        self.waiters.insert(stream, waiter);
    }

    /// Takes a stream out, if it waits.
    pub(crate) fn remove(&mut self, stream: u32) -> Option<Waiter> {
        let waiter = self.waiters.remove(&stream)?;
        for entry in waiter.index() {
            self.index.remove(&entry);
        }
        Some(waiter)
    }

    /// Takes out everyone who waits for this, in the order of arrival.
    pub(crate) fn for_awaited(&mut self, awaited: Awaited) -> Vec<Waiter> {
        let by = By::Awaited(awaited);
        self.take((by, 0)..=(by, u32::MAX))
    }

    /// Takes out everyone whose deadline has passed, the most overdue first.
    pub(crate) fn overdue(&mut self, now_ms: u64) -> Vec<Waiter> {
        self.take((By::Deadline(0), 0)..=(By::Deadline(now_ms), u32::MAX))
    }

    fn take(&mut self, range: RangeInclusive<(By, u32)>) -> Vec<Waiter> {
        let streams: Vec<u32> = self.index.range(range).map(|(_, stream)| *stream).collect();
        streams.into_iter().filter_map(|stream| self.remove(stream)).collect()
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.waiters.len()
    }

    /// The next deadline, in monotonic milliseconds.
    pub(crate) fn next_deadline_ms(&self) -> Option<u64> {
        match self.index.first()? {
            (By::Deadline(deadline_ms), _) => Some(*deadline_ms),
            (By::Awaited(_), _) => None,
        }
    }
}
