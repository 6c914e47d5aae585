//! The streams that wait: each has one flow, one lookup and one deadline.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use tenant_policy::flow::RequestFlow;
use tenant_policy::resolve::LookupId;

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
    by_lookup: HashMap<LookupId, BTreeSet<u32>>,
    by_deadline: BTreeSet<(u64, u32)>,
}

impl Waiting {
    pub(crate) fn insert(&mut self, waiter: Waiter) {
        let stream = waiter.stream;
        self.remove(stream);
        self.by_lookup.entry(waiter.flow.lookup()).or_default().insert(stream);
        self.by_deadline.insert((waiter.flow.deadline_ms(), stream));
        self.waiters.insert(stream, waiter);
    }

    /// Takes a stream out, if it waits.
    pub(crate) fn remove(&mut self, stream: u32) -> Option<Waiter> {
        let waiter = self.waiters.remove(&stream)?;
        self.by_deadline.remove(&(waiter.flow.deadline_ms(), stream));
        let lookup = waiter.flow.lookup();
        if let Some(streams) = self.by_lookup.get_mut(&lookup) {
            streams.remove(&stream);
            if streams.is_empty() {
                self.by_lookup.remove(&lookup);
            }
        }
        Some(waiter)
    }

    /// Takes out everyone who waits for a lookup, in the order of arrival.
    pub(crate) fn for_lookup(&mut self, lookup: LookupId) -> Vec<Waiter> {
        let streams = self.by_lookup.remove(&lookup).unwrap_or_default();
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

    /// The next deadline, in monotonic milliseconds.
    pub(crate) fn next_deadline_ms(&self) -> Option<u64> {
        self.by_deadline.first().map(|(deadline_ms, _)| *deadline_ms)
    }
}
