//! What the peers of the filter were asked and what they said: the one source of the model's knowledge.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::script::{Answer, Change, Keys, Saying};

/// Moments of a world in the order in which they came about, within an instant too.
pub type Tick = u64;

/// A stretch of ticks in which something came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Not before this.
    pub from: Tick,
    /// Not after this.
    pub to: Tick,
}

impl Span {
    /// Whether this was over before the other began.
    pub fn is_before(self, other: Self) -> bool {
        self.to < other.from
    }
}

/// A call that a peer has got.
#[derive(Debug, Clone)]
pub struct Call {
    /// When it got it.
    pub asked: Tick,
    /// What it was asked and what it said.
    pub about: About,
    /// How long the answer takes, in milliseconds.
    pub delay_ms: u64,
    /// The host could not even begin it.
    pub is_refused: bool,
}

/// What a call was about.
#[derive(Debug, Clone)]
pub enum About {
    /// A tenant.
    Lookup {
        /// Its id.
        tenant: String,
        /// The place of the API key that it came with.
        key: Option<usize>,
        /// What was said.
        answer: Answer,
    },
    /// The list of active tenants: those on it, where it was given.
    List(Option<Vec<String>>),
    /// The keys of the remote issuer.
    Keys(Keys),
    /// A path that is not known.
    Strange(String),
}

/// What the peers share with the model.
#[derive(Debug, Default)]
pub struct Book {
    ticks: Tick,
    /// All calls, in their order.
    pub calls: Vec<Call>,
    /// What the Tenant Manager says of whom.
    pub tenants: BTreeMap<String, Saying>,
    /// What it says of everybody instead.
    pub fault: Option<Saying>,
    /// The API keys that it takes.
    pub takes: [bool; 2],
    /// What the identity provider says.
    pub keys: Option<Keys>,
}

/// See [`Book`].
#[derive(Debug, Clone, Default)]
pub struct Ledger(Arc<Mutex<Book>>);

impl Ledger {
    /// The book, until the guard is dropped.
    pub fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next tick.
    pub fn tick(&self) -> Tick {
        self.book().tick()
    }
}

impl Book {
    /// The next tick.
    pub fn tick(&mut self) -> Tick {
        self.ticks += 1;
        self.ticks
    }

    /// The Tenant Manager changes.
    pub fn change(&mut self, change: &Change) {
        match change {
            Change::Says(tenant, saying) => {
                self.tenants.insert(tenant.clone(), saying.clone());
            }
            Change::Fault(fault) => self.fault.clone_from(fault),
            Change::Takes(takes) => self.takes = *takes,
        }
    }
}
