//! One set of the node's table: what up to eight tenants are known to be, as all workers share it.

use serde::{Deserialize, Serialize};

use super::freshness::{Age, Times};
use super::{Outcome, Record};
use crate::cell;
use crate::fingerprint::fingerprint;
use crate::node::Version;

/// How many entries a set holds.
const WAYS: usize = 8;
/// The same, for counting slots.
pub(super) const SLOTS: u32 = 8;
/// Of how many tenants it remembers when their last event was.
const MARKS: usize = 8;
/// Of how many refusals it remembers whom they were about.
const REFUSED: usize = 32;
/// Longest that a worker may hold a record, in milliseconds: what the configuration allows for its
/// three ages together, and the jitter.
const LONGEST_MS: u64 = 4 * 86_400_000;
/// The first byte of a stored set. Another number is another format, and void.
const FORMAT: u8 = 1;
/// How much earlier than the last one an event may come and still be applied.
const TOLERANCE_MS: i64 = 5_000;

/// A set. Stored whole under one key, so that every change of it is one compare-and-set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Set {
    /// Moves whenever something that a lookup may have asked about has been invalidated.
    generation: u64,
    /// Counts how often a lookup has learned that a tenant is refused or gone: a record of that tenant
    /// that was asked for before is outdated, another refusal is not.
    refusals: u64,
    /// Whom the last of them were about, by hash, the last at the end.
    refused: Vec<u32>,
    /// Until when a worker may hold a record that found no place here.
    crowded_until_ms: u64,
    entries: Vec<Entry>,
    marks: Vec<Mark>,
    /// How many fresh entries had to leave since it was read.
    #[serde(skip)]
    evicted: u64,
}

/// What is known of one tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) tenant: String,
    pub(super) of: Of,
    /// The base of the change log under which it was written; void under any other.
    pub(super) base: u64,
    pub(super) times: Times,
    /// Until when somebody asks about it: the lease of a refresh.
    pub(super) refreshed_until_ms: u64,
    /// Until when nobody may ask about it.
    pub(super) paused_until_ms: u64,
    /// `None`: nothing, the entry is there for its pause.
    pub(super) verdict: Option<Verdict>,
}

/// Whom an entry concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Of {
    /// Plugins with this configuration, by its hash: what the Tenant Manager has answered them.
    Configuration(u64),
    /// Plugins in front of this service and in this environment, by the hashes of their names: what an
    /// event says of the service.
    Service { service: u64, environment: u64 },
    /// Every plugin in this environment: what an event says of the tenant.
    Environment(u64),
}

/// An outcome as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Verdict {
    Found(Record),
    Refused(String),
    AccessDenied,
    NotProvisioned,
}

/// When the last event about a tenant was, in milliseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    tenant: String,
    /// Where it was, by the hash of the name.
    environment: u64,
    at_ms: i64,
}

/// What can be missed best comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Pause,
    Record,
    Refusal,
    Order,
}

/// Who is asking.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope {
    pub(super) configuration: u64,
    pub(super) service: u64,
    /// `None`: it does not say where it runs, and hears of every environment.
    pub(super) environment: Option<u64>,
}

impl Scope {
    /// Whether an event's refusal is for whoever is asking.
    fn is_concerned(self, of: Of) -> bool {
        let is_here = |environment| self.environment.is_none_or(|here| here == environment);
        match of {
            Of::Configuration(_) => false,
            Of::Service { service, environment } => service == self.service && is_here(environment),
            Of::Environment(environment) => is_here(environment),
        }
    }

    /// Where an event has happened that this plugin has received.
    pub(super) fn place(self) -> u64 {
        self.environment.unwrap_or_default()
    }
}

impl Verdict {
    /// The outcome as it is stored; `None` for one that is not.
    pub(super) fn of(outcome: &Outcome) -> Option<Self> {
        match outcome {
            Outcome::Found(record) => Some(Self::Found(Record::clone(record))),
            Outcome::Refused { status } => Some(Self::Refused(status.clone())),
            Outcome::AccessDenied => Some(Self::AccessDenied),
            Outcome::NotProvisioned => Some(Self::NotProvisioned),
            Outcome::NotFound | Outcome::Unavailable(_) => None,
        }
    }

    /// Whether it is a record of a tenant that may be served.
    pub(super) fn is_record(&self) -> bool {
        matches!(self, Self::Found(record) if record.is_active())
    }

    pub(super) fn outcome(self) -> Outcome {
        match self {
            Self::Found(record) => Outcome::Found(record.into()),
            Self::Refused(status) => Outcome::Refused { status },
            Self::AccessDenied => Outcome::AccessDenied,
            Self::NotProvisioned => Outcome::NotProvisioned,
        }
    }
}

impl Entry {
    /// Whether it is a refusal by an event.
    fn is_order(&self) -> bool {
        !matches!(self.of, Of::Configuration(_))
    }

    fn is_record(&self) -> bool {
        self.verdict.as_ref().is_some_and(Verdict::is_record)
    }

    fn rank(&self, now_ms: u64) -> Rank {
        match (&self.verdict, self.is_order() && self.times.age(now_ms) == Age::Fresh) {
            (None, _) => Rank::Pause,
            (Some(verdict), _) if verdict.is_record() => Rank::Record,
            (Some(_), false) => Rank::Refusal,
            (Some(_), true) => Rank::Order,
        }
    }

    fn is_spent(&self, base: u64, now_ms: u64) -> bool {
        self.base != base || self.has_passed(now_ms)
    }

    fn has_passed(&self, now_ms: u64) -> bool {
        // With what is forgotten its pause would be: it stays for as long, and answers nobody.
        self.times.age(now_ms) == Age::Spent && self.paused_until_ms <= now_ms
    }

    /// Whether it was written after everything has changed, by somebody who has heard of it earlier:
    /// bases count up.
    fn is_of_later(&self, base: u64) -> bool {
        (1..=u64::from(u32::MAX)).contains(&self.base.wrapping_sub(base))
    }
}

impl Set {
    /// Reads a stored set. What cannot be read is empty and has a generation that no lookup has seen.
    pub(super) fn decode(bytes: &[u8], version: Version) -> Self {
        if bytes.is_empty() && version == Version::ABSENT {
            return Self::default();
        }
        cell::decode(FORMAT, bytes).unwrap_or_else(|| Self::unreadable(version))
    }

    fn unreadable(version: Version) -> Self {
        Self {
            generation: (1 << 32) | u64::from(version.0),
            crowded_until_ms: u64::MAX,
            ..Self::default()
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        cell::encode(FORMAT, self)
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// How many refusals [`Set::note_refusal`] has noted.
    pub(super) fn refusals(&self) -> u64 {
        self.refusals
    }

    /// Makes every record of the tenant outdated that is being asked for.
    pub(super) fn note_refusal(&mut self, tenant: &str) {
        self.refusals = self.refusals.saturating_add(1);
        let over = self.refused.len().saturating_add(1).saturating_sub(REFUSED);
        self.refused.drain(..over);
        self.refused.push(short_hash(tenant));
    }

    /// Whether the tenant was refused since there were so many refusals, as far as is remembered.
    pub(super) fn was_refused_since(&self, tenant: &str, refusals: u64) -> bool {
        let missed = self
            .refusals
            .checked_sub(refusals)
            .and_then(|missed| usize::try_from(missed).ok());
        let first = missed.and_then(|missed| self.refused.len().checked_sub(missed));
        match first.and_then(|first| self.refused.get(first..)) {
            Some(since) => since.contains(&short_hash(tenant)),
            None => true,
        }
    }

    /// Whether somebody who has heard that everything has changed since `base` has written here.
    pub(super) fn is_ahead_of(&self, base: u64) -> bool {
        self.entries.iter().any(|entry| entry.is_of_later(base))
    }

    /// How many records it holds, refusals not counted.
    pub(super) fn records(&self) -> usize {
        self.entries.iter().filter(|entry| entry.is_record()).count()
    }

    /// How many fresh entries had to leave since it was read.
    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Whether a record of the tenant would find a place without pushing out a fresh one.
    pub(super) fn has_room_for(&self, tenant: &str, base: u64, now_ms: u64) -> bool {
        let is_kept = |entry: &&Entry| {
            entry.tenant != tenant && !entry.is_spent(base, now_ms) && entry.times.age(now_ms) == Age::Fresh
        };
        self.entries.iter().filter(is_kept).count() < WAYS
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes out what claims to have been written later than that.
    pub(super) fn drop_later(&mut self, base: u64) {
        self.entries.retain(|entry| !entry.is_of_later(base));
    }

    /// The refusal by an event that holds for whoever is asking.
    pub(super) fn order(&self, tenant: &str, scope: Scope, base: u64, now_ms: u64) -> Option<&Entry> {
        self.orders(tenant, scope, base, now_ms)
            .find(|entry| entry.times.age(now_ms) == Age::Fresh)
    }

    /// The refusal by an event that has come to its end, as long as nobody has said that the tenant may
    /// be served again.
    pub(super) fn past_order(&self, tenant: &str, scope: Scope, base: u64, now_ms: u64) -> Option<&Entry> {
        self.orders(tenant, scope, base, now_ms)
            .find(|entry| entry.times.age(now_ms) != Age::Fresh)
    }

    /// Takes out the refusals by events that have come to their end.
    pub(super) fn drop_past_orders(&mut self, tenant: &str, scope: Scope, now_ms: u64) {
        self.entries.retain(|entry| {
            entry.tenant != tenant || !scope.is_concerned(entry.of) || entry.times.age(now_ms) == Age::Fresh
        });
    }

    fn orders(&self, tenant: &str, scope: Scope, base: u64, now_ms: u64) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| {
            scope.is_concerned(entry.of) && entry.tenant == tenant && !entry.is_spent(base, now_ms)
        })
    }

    /// What the Tenant Manager has said of it, not forgotten yet.
    pub(super) fn answer(&self, tenant: &str, scope: Scope, base: u64, now_ms: u64) -> Option<&Entry> {
        let of = Of::Configuration(scope.configuration);
        self.entries
            .iter()
            .find(|entry| entry.of == of && entry.tenant == tenant && !entry.is_spent(base, now_ms))
    }

    pub(super) fn answer_mut(&mut self, tenant: &str, scope: Scope, base: u64, now_ms: u64) -> Option<&mut Entry> {
        let of = Of::Configuration(scope.configuration);
        self.entries
            .iter_mut()
            .find(|entry| entry.of == of && entry.tenant == tenant && !entry.is_spent(base, now_ms))
    }

    /// Puts an entry in the place of the one about the same, or in a free place, or in that of
    /// what can best be missed: a record before a refusal, the older before the newer, and a
    /// refusal only for a refusal. Gives whether it has a place now.
    pub(super) fn put(&mut self, entry: Entry, now_ms: u64) -> bool {
        self.entries
            .retain(|other| other.of != entry.of || other.tenant != entry.tenant);
        self.sweep(entry.base, now_ms);
        if self.entries.len() >= WAYS {
            let worst = self
                .entries
                .iter()
                .enumerate()
                .min_by_key(|(_, other)| (other.rank(now_ms), other.times.fresh_until_ms()))
                .map(|(place, other)| (place, other.rank(now_ms)));
            match worst {
                Some((place, rank)) if rank <= entry.rank(now_ms) => {
                    let gone = self.entries.remove(place);
                    if gone.times.age(now_ms) == Age::Fresh {
                        self.evicted = self.evicted.saturating_add(1);
                    }
                    // A worker may go on holding it; that must be known when its tenant is refused.
                    self.crowd(gone.times.spent_at_ms());
                    if rank > Rank::Record {
                        self.move_on();
                    }
                }
                _ => {
                    self.crowd(entry.times.spent_at_ms());
                    return false;
                }
            }
        }
        self.entries.push(entry);
        true
    }

    /// Notes that a worker may hold something that has no place here.
    pub(super) fn crowd(&mut self, until_ms: u64) {
        self.crowded_until_ms = self.crowded_until_ms.max(until_ms);
    }

    /// Whether some worker of whoever is asking may hold a record of the tenant.
    pub(super) fn may_be_held(&mut self, tenant: &str, scope: Scope, now_ms: u64) -> bool {
        // Nothing is held longer: a set that could not be read is not crowded for ever.
        self.crowded_until_ms = self.crowded_until_ms.min(now_ms.saturating_add(LONGEST_MS));
        let own = Of::Configuration(scope.configuration);
        now_ms < self.crowded_until_ms
            || self.entries.iter().any(|entry| {
                entry.of == own && entry.tenant == tenant && entry.is_record() && !entry.has_passed(now_ms)
            })
    }

    /// Takes out what the Tenant Manager has said of a tenant to anybody. Gives whether there was a
    /// record.
    pub(super) fn forget(&mut self, tenant: &str, keeps_refusals: bool, base: u64, now_ms: u64) -> bool {
        let had = self
            .entries
            .iter()
            .any(|entry| entry.tenant == tenant && entry.is_record() && !entry.is_spent(base, now_ms));
        self.entries.retain_mut(|entry| {
            if entry.tenant != tenant || entry.is_order() {
                return true;
            }
            // That it was refused is worth knowing while nobody can be asked.
            entry.times = entry.times.outdated(now_ms);
            keeps_refusals && entry.verdict.is_some() && !entry.is_record()
        });
        had
    }

    /// Takes out what an outcome takes the place of: what the Tenant Manager has said to whoever is
    /// asking.
    pub(super) fn replace(&mut self, tenant: &str, scope: Scope, (refuses, spent_at_ms): (bool, u64)) {
        let own = Of::Configuration(scope.configuration);
        let longest_ms = self
            .entries
            .iter()
            .filter(|entry| entry.of == own && entry.tenant == tenant && entry.is_record())
            .map(|entry| entry.times.spent_at_ms())
            .max();
        // Jitter: whoever learned it earlier may hold it longer than what is known here from now on.
        if let Some(longest_ms) = longest_ms.filter(|longest_ms| !refuses && spent_at_ms < *longest_ms) {
            self.crowd(longest_ms);
        }
        self.entries.retain(|entry| entry.tenant != tenant || entry.of != own);
    }

    /// Takes back what events have said of a tenant to whoever is asking.
    pub(super) fn lift(&mut self, tenant: &str, scope: Scope) {
        self.entries
            .retain(|entry| entry.tenant != tenant || !scope.is_concerned(entry.of));
    }

    /// Makes every lookup under way outdated.
    pub(super) fn move_on(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }

    /// Notes the time of an event; false when a later one has been applied already.
    pub(super) fn mark(&mut self, tenant: &str, scope: Scope, at_ms: i64) -> bool {
        let environment = scope.place();
        let known = self
            .marks
            .iter()
            .position(|mark| mark.tenant == tenant && mark.environment == environment);
        let last_ms = known
            .and_then(|place| self.marks.get(place))
            .map_or(i64::MIN, |mark| mark.at_ms);
        if at_ms.saturating_add(TOLERANCE_MS) < last_ms {
            return false;
        }
        if let Some(place) = known.or((self.marks.len() >= MARKS).then_some(0)) {
            self.marks.remove(place);
        }
        self.marks.push(Mark {
            tenant: tenant.to_owned(),
            environment,
            at_ms: at_ms.max(last_ms),
        });
        true
    }

    /// Takes out what is void.
    pub(super) fn sweep(&mut self, base: u64, now_ms: u64) {
        self.entries
            .retain(|entry| !entry.has_passed(now_ms) && (entry.base == base || entry.is_of_later(base)));
    }
}

/// Tells tenants apart well enough to spare most of them another lookup.
fn short_hash(tenant: &str) -> u32 {
    u32::try_from(fingerprint(tenant) >> u32::BITS).unwrap_or_default()
}

#[cfg(test)]
mod tests;
