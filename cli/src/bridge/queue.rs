//! What waits for one Envoy, oldest first.
//!
//! Two bounds hold, of messages and of bytes. What goes beyond them pushes the oldest out, and then stands for all that was
//! pushed out one `cache.invalidate_all` in front of what is left: after it the Envoy asks anew about everybody, so
//! it cannot have missed anything. It leaves only by being delivered.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::message::{MAX_BODY_BYTES, invalidate_all};

/// How many bytes of messages may wait for one Envoy.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// How many events go into one request. The filter applies them one after the other on a worker's thread.
const MAX_EVENTS: usize = 256;

/// The queue of one Envoy.
#[derive(Debug)]
pub(crate) struct Queue {
    environment: String,
    max_messages: usize,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Numbers rise without gaps.
    waiting: VecDeque<Event>,
    bytes: usize,
    last: u64,
    lost: Option<Lost>,
    /// Up to this number events are on their way.
    on_the_way: u64,
    /// How many messages were pushed out while they were: whether they are lost is not known yet.
    pushed_out: usize,
    /// Up to this number one event goes at a time.
    singly: u64,
    closed: bool,
}

#[derive(Debug)]
struct Event {
    number: u64,
    body: Bytes,
    since: Instant,
    invalidates_all: bool,
}

/// What stands for all events up to a number that are not there any more.
#[derive(Debug)]
struct Lost {
    through: u64,
    event: Bytes,
    since: Instant,
}

/// Events that are sent together. They stay in the queue until it is told what became of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Batch {
    /// The event, or a JSON array of several. Below [`MAX_BODY_BYTES`].
    pub(crate) body: Bytes,
    /// How many there are.
    pub(crate) events: usize,
    /// How many of them come from Redis; the others are the bridge's own.
    pub(crate) messages: usize,
    through: u64,
}

/// What became of a refused batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It had several events: each goes alone now, so that one does not take the others with it.
    Split,
    /// It was one message, which is gone.
    Dropped,
    /// It was an invalidation, which cannot be left out.
    Kept,
}

/// How a queue is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Length {
    /// Events that wait, one for all that was lost included.
    pub(crate) events: usize,
    /// For how long the oldest has.
    pub(crate) oldest: Duration,
}

impl Queue {
    /// An empty queue for at most so many messages.
    pub(crate) fn new(environment: &str, max_messages: usize) -> Self {
        Self {
            environment: environment.to_owned(),
            max_messages: max_messages.max(1),
            state: Mutex::default(),
            changed: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a message and returns how many were lost for it.
    pub(crate) fn push(&self, message: Bytes) -> usize {
        self.add(message, false)
    }

    /// Adds an invalidation of everything, unless one is the newest that waits already. Returns how many messages
    /// were lost for it.
    pub(crate) fn invalidate_all(&self) -> usize {
        if self.state().waiting.back().is_some_and(|event| event.invalidates_all) {
            return 0;
        }
        self.add(invalidate_all(&self.environment), true)
    }

    fn add(&self, body: Bytes, invalidates_all: bool) -> usize {
        let mut state = self.state();
        state.last += 1;
        state.bytes += body.len();
        let event = Event {
            number: state.last,
            body,
            since: Instant::now(),
            invalidates_all,
        };
        state.waiting.push_back(event);
        let mut lost = 0;
        while state.waiting.len() > self.max_messages || state.bytes > MAX_BYTES {
            let Some(oldest) = state.pop() else { break };
            match usize::from(!oldest.invalidates_all) {
                message if oldest.number <= state.on_the_way => state.pushed_out += message,
                message => lost += message,
            }
            state.lose(oldest.number, oldest.since, &self.environment);
        }
        drop(state);
        self.changed.notify_one();
        lost
    }

    /// What is to be sent next, when there is something. None when the queue is closed and empty. The batch is on its
    /// way until [`Queue::delivered`] or [`Queue::failed`].
    pub(crate) async fn next(&self) -> Option<Batch> {
        loop {
            let changed = self.changed.notified();
            {
                let mut state = self.state();
                match state.batch() {
                    Some(batch) => {
                        state.on_the_way = batch.through;
                        return Some(batch);
                    }
                    None if state.closed => return None,
                    None => {}
                }
            }
            changed.await;
        }
    }

    /// The batch has arrived.
    pub(crate) fn delivered(&self, batch: &Batch) {
        let mut state = self.state();
        (state.on_the_way, state.pushed_out) = (0, 0);
        state.drop_through(batch.through);
        // What was pushed out while it was on its way has arrived with it, unless still more was.
        if state.lost.as_ref().is_some_and(|lost| lost.through <= batch.through) {
            state.lost = None;
        }
    }

    /// The batch has not arrived. Returns how many messages were lost with it, having been pushed out meanwhile.
    pub(crate) fn failed(&self) -> usize {
        let mut state = self.state();
        state.on_the_way = 0;
        std::mem::take(&mut state.pushed_out)
    }

    /// The batch was refused for what is in it.
    pub(crate) fn refused(&self, batch: &Batch) -> Refusal {
        let mut state = self.state();
        if batch.events > 1 {
            state.singly = batch.through;
            return Refusal::Split;
        }
        if batch.messages == 0 {
            return Refusal::Kept;
        }
        state.drop_through(batch.through);
        Refusal::Dropped
    }

    /// The batch is given up: an invalidation of everything takes the place of its messages. Returns how many were lost.
    pub(crate) fn give_up(&self, batch: &Batch) -> usize {
        let mut state = self.state();
        let since = state.oldest().unwrap_or_else(Instant::now);
        let lost = state.drop_through(batch.through);
        state.lose(batch.through, since, &self.environment);
        lost
    }

    /// Takes nothing more: [`Queue::next`] ends when all is sent.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_one();
    }

    /// How it is doing.
    pub(crate) fn length(&self) -> Length {
        let state = self.state();
        Length {
            events: state.waiting.len() + usize::from(state.lost.is_some()),
            oldest: state.oldest().map_or(Duration::ZERO, |since| since.elapsed()),
        }
    }
}

impl State {
    fn pop(&mut self) -> Option<Event> {
        let event = self.waiting.pop_front()?;
        self.bytes -= event.body.len();
        Some(event)
    }

    /// Returns how many messages are gone.
    fn drop_through(&mut self, number: u64) -> usize {
        let mut messages = 0;
        while self.waiting.front().is_some_and(|event| event.number <= number) {
            messages += usize::from(self.pop().is_some_and(|event| !event.invalidates_all));
        }
        messages
    }

    fn lose(&mut self, through: u64, since: Instant, environment: &str) {
        match &mut self.lost {
            Some(lost) => lost.through = lost.through.max(through),
            none => {
                let event = invalidate_all(environment);
                *none = Some(Lost { through, event, since });
            }
        }
    }

    fn oldest(&self) -> Option<Instant> {
        let lost = self.lost.as_ref().map(|lost| lost.since);
        lost.or_else(|| self.waiting.front().map(|event| event.since))
    }

    fn batch(&self) -> Option<Batch> {
        let lost = self.lost.as_ref().map(|lost| (lost.through, &lost.event, true));
        let waiting = self
            .waiting
            .iter()
            .map(|event| (event.number, &event.body, event.invalidates_all));
        let mut chosen: Vec<&Bytes> = Vec::new();
        // Two brackets, and one comma less than there are events.
        let (mut through, mut bytes, mut messages) = (0, 1, 0);
        for (number, body, own) in lost.into_iter().chain(waiting) {
            bytes += body.len() + ",".len();
            let room = chosen.len() < MAX_EVENTS && bytes < MAX_BODY_BYTES && through > self.singly;
            // The first always fits: a message alone needs no brackets.
            if !chosen.is_empty() && !room {
                break;
            }
            chosen.push(body);
            through = number;
            messages += usize::from(!own);
        }
        Some(Batch {
            body: joined(&chosen)?,
            events: chosen.len(),
            messages,
            through,
        })
    }
}

/// One event as it is, several as an array.
fn joined(events: &[&Bytes]) -> Option<Bytes> {
    let (first, others) = events.split_first()?;
    if others.is_empty() {
        return Some((*first).clone());
    }
    let mut array = BytesMut::with_capacity(events.iter().map(|event| event.len() + 1).sum::<usize>() + 1);
    array.put_u8(b'[');
    array.put_slice(first);
    for event in others {
        array.put_u8(b',');
        array.put_slice(event);
    }
    array.put_u8(b']');
    Some(array.freeze())
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
