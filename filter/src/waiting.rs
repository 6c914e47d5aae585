//! The streams that wait: each has one flow, one lookup and one deadline.

use std::collections::HashMap;

use tenant_policy::flow::RequestFlow;
use tenant_policy::resolve::LookupId;

/// A stream that waits.
#[derive(Debug)]
pub(crate) struct Waiter {
    /// The stream's context.
    pub(crate) stream: u32,
    /// What is left of its request.
    pub(crate) flow: RequestFlow,
    /// Its `x-request-id`, for the log.
    pub(crate) request_id: String,
}

/// The waiting streams of one root context. How many there may be is the engine's business: a
/// flow holds a seat.
#[derive(Debug, Default)]
pub(crate) struct Waiting(HashMap<u32, Waiter>);

impl Waiting {
    pub(crate) fn insert(&mut self, waiter: Waiter) {
        self.0.insert(waiter.stream, waiter);
    }

    /// Takes a stream out that is gone.
    pub(crate) fn remove(&mut self, stream: u32) {
        self.0.remove(&stream);
    }

    /// Whether a stream waits.
    pub(crate) fn holds(&self, stream: u32) -> bool {
        self.0.contains_key(&stream)
    }

    /// Takes out everyone who waits for a lookup, in the order of arrival.
    pub(crate) fn for_lookup(&mut self, lookup: LookupId) -> Vec<Waiter> {
        self.take(|waiter| waiter.flow.lookup() == lookup)
    }

    /// Takes out everyone whose deadline has passed, in the order of arrival.
    pub(crate) fn overdue(&mut self, now_ms: u64) -> Vec<Waiter> {
        self.take(|waiter| waiter.flow.deadline_ms() <= now_ms)
    }

    /// The next deadline, in monotonic milliseconds.
    pub(crate) fn next_deadline_ms(&self) -> Option<u64> {
        self.0.values().map(|waiter| waiter.flow.deadline_ms()).min()
    }

    fn take(&mut self, wanted: impl Fn(&Waiter) -> bool) -> Vec<Waiter> {
        let mut taken: Vec<Waiter> = self
            .0
            .extract_if(|_, waiter| wanted(waiter))
            .map(|(_, waiter)| waiter)
            .collect();
        taken.sort_by_key(|waiter| waiter.stream);
        taken
    }
}
