//! The streams that wait: each has one flow, one thing that it waits for and one deadline.

use std::collections::{BTreeSet, HashMap};
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
    by_awaited: HashMap<Awaited, BTreeSet<u32>>,
    by_deadline: BTreeSet<(u64, u32)>,
}

impl Waiting {
    pub(crate) fn insert(&mut self, waiter: Waiter) {
        let stream = waiter.stream;
        self.remove(stream);
        self.by_awaited.entry(waiter.flow.awaits()).or_default().insert(stream);
        self.by_deadline.insert((waiter.flow.deadline_ms(), stream));
        self.waiters.insert(stream, waiter);
    }

    /// Takes a stream out, if it waits.
    pub(crate) fn remove(&mut self, stream: u32) -> Option<Waiter> {
        let waiter = self.waiters.remove(&stream)?;
        self.by_deadline.remove(&(waiter.flow.deadline_ms(), stream));
        let awaited = waiter.flow.awaits();
        if let Some(streams) = self.by_awaited.get_mut(&awaited) {
            streams.remove(&stream);
            if streams.is_empty() {
                self.by_awaited.remove(&awaited);
            }
        }
        Some(waiter)
    }

    /// Takes out everyone who waits for this, in the order of arrival.
    pub(crate) fn for_awaited(&mut self, awaited: Awaited) -> Vec<Waiter> {
        let streams = self.by_awaited.remove(&awaited).unwrap_or_default();
        streams.into_iter().filter_map(|stream| self.remove(stream)).collect()
    }

    /// Takes out everyone whose deadline has passed, the most overdue first.
    pub(crate) fn overdue(&mut self, now_ms: u64) -> Vec<Waiter> {
        let streams: Vec<u32> = self
            .by_deadline
            .iter()
            .take_while(|(deadline_ms, _)| *deadline_ms <= now_ms)
            .map(|(_, stream)| *stream)
            .collect();
        streams.into_iter().filter_map(|stream| self.remove(stream)).collect()
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.waiters.len()
    }

    /// The next deadline, in monotonic milliseconds.
    pub(crate) fn next_deadline_ms(&self) -> Option<u64> {
        self.by_deadline.first().map(|(deadline_ms, _)| *deadline_ms)
    }
}
