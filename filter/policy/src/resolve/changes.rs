//! The change log of the node: which tenants have been invalidated, so that no worker goes on
//! trusting its own cache.
//!
//! Whoever changes something about a tenant writes its set first, then the log, then rings the bell.
//! A worker compares the bell with what it heard last before it trusts its cache; after a change it
//! reads the log and drops the tenants that are new in it. When it has missed more than the log
//! holds, it drops everything. So once the bell has been rung, no worker serves what was there
//! before.

use serde::{Deserialize, Serialize};

use crate::cell::{self, Change};
use crate::node::{Node, NotWritten, Version};

const KEY: &str = "tenantgate.changes";
/// The first byte of the stored log. Another number is another format, and void.
const FORMAT: u8 = 1;
/// How many tenants the log names.
const NAMED: usize = 64;
/// Most sets that a table may be configured to have. The host never frees a key: what says that there are more was
/// not written here.
const MAX_SETS: u32 = 131_072;
/// How often a write is tried again. Every failed attempt is another worker's success.
pub(super) const ATTEMPTS: usize = 1_000;

/// The log as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Changes {
    /// Counts the changes.
    epoch: u64,
    layout: Layout,
    /// The tenants of the last changes, the last of them at the end. Empty after a change of everything.
    tenants: Vec<String>,
}

/// Where the node's table has what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Layout {
    /// Entries written under another base are void.
    pub(super) base: u64,
    /// How many sets the table has; from 1 to [`MAX_SETS`].
    pub(super) sets: u32,
    /// What tenants are hashed with, so that nobody can choose tenants of one set.
    pub(super) seed: (u64, u64),
}

/// What a worker knows of the log.
#[derive(Debug)]
pub(super) struct Log {
    /// How many sets the configuration asks for.
    sets: u32,
    heard: Heard,
    known: Option<Known>,
}

#[derive(Debug)]
struct Known {
    epoch: u64,
    layout: Layout,
}

/// Up to where a worker has heard. Equal means that nothing has changed in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Heard {
    /// Nothing yet.
    #[default]
    Nothing,
    /// The bell, this often.
    Bell(u64),
    /// This write of the log, on hosts without a bell.
    Write(u32),
}

/// What a worker must drop.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Nothing.
    None,
    /// These tenants.
    Tenants(Vec<String>),
    /// Everything.
    Everything,
}

/// Changes that have been published, as the numbers of the first and the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Published {
    before: u64,
    after: u64,
}

impl Log {
    /// A worker that has heard nothing; the table shall have that many sets.
    pub(super) fn new(sets: u32) -> Self {
        Self {
            sets: sets.max(1),
            heard: Heard::default(),
            known: None,
        }
    }

    /// Where the table has what; `None` while the host does not let it be shared.
    pub(super) fn layout(&self) -> Option<Layout> {
        self.known.as_ref().map(|known| known.layout)
    }

    /// Up to where this worker has heard.
    pub(super) fn heard(&self) -> Heard {
        self.heard
    }

    /// Whether nothing has changed since `heard`.
    pub(super) fn is_current(&self, heard: Heard, node: &impl Node) -> bool {
        match heard {
            // Where nothing can be shared nothing can have changed either.
            Heard::Nothing => self.known.is_none() && Changes::decode(&node.shared(KEY).value).is_none(),
            Heard::Bell(number) => node.bell() == Some(number),
            Heard::Write(version) => node.shared(KEY).version == Version(version),
        }
    }

    /// Hears what has changed.
    pub(super) fn listen(&mut self, node: &impl Node) -> News {
        for _ in 0..ATTEMPTS {
            match self.try_listen(node) {
                Ok(news) => return news,
                // Another worker has begun the log, or moved the table: at once, because a lookup that begins
                // now must know its generation.
                Err(NotWritten::Outpaced) => {}
                Err(NotWritten::Refused) => break,
            }
        }
        self.known = None;
        self.heard = Heard::Nothing;
        News::Everything
    }

    fn try_listen(&mut self, node: &impl Node) -> Result<News, NotWritten> {
        // Before the log is read: what is rung for later is heard later.
        let bell = node.bell();
        if let (Heard::Bell(before), Some(now), Some(_)) = (self.heard, bell, &self.known)
            && before == now
        {
            return Ok(News::None);
        }
        let stored = node.shared(KEY);
        let heard = match bell {
            Some(number) => Heard::Bell(number),
            None => Heard::Write(stored.version.0),
        };
        if self.known.is_some() && self.heard == heard {
            return Ok(News::None);
        }
        let Some(changes) = Changes::decode(&stored.value) else {
            self.known = Some(self.begin(stored.version, node)?);
            self.heard = Heard::Nothing;
            return Ok(News::Everything);
        };
        let news = match &self.known {
            Some(known) => changes.since(known),
            None if changes.layout.sets != self.sets => {
                // The newest configuration has its way; what lay elsewhere is void.
                let changes = changes.without_content(self.sets);
                self.write(&changes, stored.version, node)?;
                self.known = Some(changes.known());
                return Ok(News::Everything);
            }
            None => News::Everything,
        };
        self.known = Some(changes.known());
        self.heard = heard;
        Ok(news)
    }

    /// Begins a log where there is none that can be read.
    fn begin(&self, version: Version, node: &impl Node) -> Result<Known, NotWritten> {
        let changes = self.beginning(node);
        self.write(&changes, version, node)?;
        Ok(changes.known())
    }

    fn beginning(&self, node: &impl Node) -> Changes {
        let random = || (u64::from(node.random()) << 32) | u64::from(node.random());
        Changes {
            epoch: 0,
            layout: Layout {
                base: random(),
                sets: self.sets,
                seed: (random(), random()),
            },
            tenants: Vec::new(),
        }
    }

    fn write(&self, changes: &Changes, expected: Version, node: &impl Node) -> Result<(), NotWritten> {
        node.share(KEY, &changes.encode(), expected)?;
        node.ring();
        Ok(())
    }

    /// Has the log read again at the next [`Log::listen`], whatever the bell says: somebody who
    /// does not ring has written it.
    pub(super) fn distrust(&mut self) {
        self.heard = Heard::Nothing;
    }

    /// Tells every worker that these tenants have changed. Their sets have been written by then, under
    /// `layout`.
    ///
    /// # Errors
    ///
    /// [`NotWritten::Outpaced`] when the table lies elsewhere by now: the sets must be written again.
    pub(super) fn publish(&self, tenants: &[&str], layout: Layout, node: &impl Node) -> Result<Published, NotWritten> {
        self.change(node, |changes| {
            if changes.layout != layout {
                return Err(NotWritten::Outpaced);
            }
            Ok(changes.with(tenants))
        })
    }

    /// Tells every worker that everything has changed, and makes everything stored void.
    ///
    /// # Errors
    ///
    /// When the host does not let the log be written.
    pub(super) fn publish_everything(&self, node: &impl Node) -> Result<(), NotWritten> {
        self.change(node, |changes| {
            let sets = changes.layout.sets;
            Ok(changes.without_content(sets))
        })
        .map(|_| ())
    }

    fn change(
        &self,
        node: &impl Node,
        work: impl Fn(Changes) -> Result<Changes, NotWritten>,
    ) -> Result<Published, NotWritten> {
        let published = cell::update(KEY, ATTEMPTS, node, |stored| {
            let Some(changes) = Changes::decode(&stored.value) else {
                // Somebody else has written there, and has not rung. Whoever hears of the new log
                // drops everything.
                return Change::To(self.beginning(node).encode(), (true, Err(NotWritten::Outpaced)));
            };
            let before = changes.epoch;
            match work(changes) {
                Ok(changes) => {
                    let after = changes.epoch;
                    Change::To(changes.encode(), (true, Ok(Published { before, after })))
                }
                Err(why) => Change::None((false, Err(why))),
            }
        });
        // Others may be faster for ever, but then the table lies where it lay.
        let (has_changed, published) = published.map_err(|_| NotWritten::Refused)?;
        if has_changed {
            node.ring();
        }
        published
    }

    /// Spares this worker its own changes, when nobody else's came between.
    pub(super) fn skip(&mut self, published: Published) {
        if let Some(known) = self.known.as_mut().filter(|known| known.epoch == published.before) {
            known.epoch = published.after;
        }
    }
}

impl Changes {
    fn decode(bytes: &[u8]) -> Option<Self> {
        cell::decode::<Self>(FORMAT, bytes).filter(|changes| (1..=MAX_SETS).contains(&changes.layout.sets))
    }

    fn encode(&self) -> Vec<u8> {
        cell::encode(FORMAT, self)
    }

    fn known(&self) -> Known {
        Known {
            epoch: self.epoch,
            layout: self.layout,
        }
    }

    fn since(&self, known: &Known) -> News {
        if self.layout != known.layout {
            return News::Everything;
        }
        let Some(missed) = self.epoch.checked_sub(known.epoch) else {
            return News::Everything;
        };
        if missed == 0 {
            return News::None;
        }
        let first = usize::try_from(missed)
            .ok()
            .and_then(|missed| self.tenants.len().checked_sub(missed));
        match first.and_then(|first| self.tenants.get(first..)) {
            Some(tenants) => News::Tenants(tenants.to_vec()),
            None => News::Everything,
        }
    }

    fn with(mut self, tenants: &[&str]) -> Self {
        let more = u64::try_from(tenants.len()).unwrap_or(u64::MAX);
        self.epoch = self.epoch.saturating_add(more);
        self.tenants.extend(tenants.iter().map(|tenant| (*tenant).to_owned()));
        let over = self.tenants.len().saturating_sub(NAMED);
        self.tenants.drain(..over);
        self
    }

    fn without_content(mut self, sets: u32) -> Self {
        self.epoch = self.epoch.saturating_add(1);
        self.layout.base = self.layout.base.wrapping_add(1);
        self.layout.sets = sets;
        self.tenants.clear();
        self
    }
}

#[cfg(test)]
mod tests;
