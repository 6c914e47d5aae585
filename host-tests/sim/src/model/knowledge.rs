//! What the filter can know: what it was told of tenants and keys, and when.

use std::collections::{BTreeMap, BTreeSet};

use crate::ledger::Span;
use crate::script::Answer;

/// A call about a tenant.
#[derive(Debug, Clone)]
pub(crate) struct Lookup {
    /// Its number among all calls.
    pub(crate) call: usize,
    /// Whom it is about.
    pub(crate) tenant: String,
    /// Who made it; unknown where the host could not even begin it.
    pub(crate) worker: Option<usize>,
    /// Which VM of that worker.
    pub(crate) life: u32,
    /// The configuration in force.
    pub(crate) config: usize,
    /// Whether an earlier configuration was still there, which may have made it.
    pub(crate) is_mixed: bool,
    /// The tick at which it was made.
    pub(crate) asked: Span,
    /// When it was made.
    pub(crate) asked_ms: u64,
    /// When its answer is there.
    pub(crate) ends_ms: u64,
    /// The place of its API key.
    pub(crate) key: Option<usize>,
    /// What the answer means.
    pub(crate) meaning: Meaning,
    /// When the answer was there.
    pub(crate) delivered: Option<Span>,
    /// Its VM has died before.
    pub(crate) is_lost: bool,
    /// The same question again, with the other API key.
    pub(crate) is_retry: bool,
    /// It was asked again with the other API key.
    pub(crate) is_retried: bool,
    /// Old configurations have gone while it was under way, whoever had asked.
    pub(crate) may_be_dropped: bool,
    /// As what the circuit breaker let it through.
    pub(crate) permit: super::breaker::Permit,
}

/// What an answer means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// A record of an active tenant with these modules, in a schema or not.
    Record(Vec<String>, Option<String>),
    /// A record of one that is not.
    Inactive,
    /// 403 with a status.
    Refused,
    /// 403 without.
    Denied,
    /// 404
    Unknown,
    /// 422
    Unprovisioned,
    /// The Tenant Manager is ill.
    Ill,
    /// 401
    Unauthorized,
    /// 429: leave it alone for so many milliseconds.
    Throttled(u64),
    /// 400 and the like.
    Rejected,
}

impl Meaning {
    /// What is made of an answer that takes so long.
    pub(crate) fn of(answer: &Answer, is_late: bool) -> Self {
        if is_late {
            return Self::Ill;
        }
        match answer {
            Answer::Active(modules) => Self::Record(modules.clone(), None),
            Answer::Schema(modules, schema) => Self::Record(modules.clone(), Some(schema.clone())),
            Answer::Inactive(_) => Self::Inactive,
            Answer::Refused(Some(status)) if !status.is_empty() && status != "active" => Self::Refused,
            Answer::Refused(_) => Self::Denied,
            Answer::Unknown => Self::Unknown,
            Answer::Unprovisioned => Self::Unprovisioned,
            Answer::Status(401) => Self::Unauthorized,
            Answer::Status(400..=499) => Self::Rejected,
            Answer::Throttled(after) => Self::Throttled((after.unwrap_or(1) * 1_000).clamp(1_000, 30_000)),
            Answer::OfOther
            | Answer::Garbage
            | Answer::Huge
            | Answer::Status(_)
            | Answer::Reset
            | Answer::Close
            | Answer::Silence
            | Answer::NoEndpoints => Self::Ill,
        }
    }

    /// Whether it says that the tenant must not be served.
    pub(crate) fn refuses(&self) -> bool {
        matches!(
            self,
            Self::Inactive | Self::Refused | Self::Denied | Self::Unknown | Self::Unprovisioned
        )
    }

    /// Whether it says nothing of the tenant.
    pub(crate) fn is_failure(&self) -> bool {
        matches!(
            self,
            Self::Ill | Self::Unauthorized | Self::Throttled(_) | Self::Rejected
        )
    }
}

/// Whether a schema can be used.
pub(crate) fn is_schema(text: &str) -> bool {
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let may_be = |c: char| c.is_ascii_alphanumeric() || c == '_';
    begins && text.len() <= 63 && text.chars().all(may_be)
}

/// What an event has done to a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// What is known is forgotten.
    Forget,
    /// That, and earlier refusals end.
    Lift,
    /// That, and it is refused.
    Refuse,
}

/// An event that was applied.
#[derive(Debug, Clone)]
pub(crate) struct Applied {
    /// About whom; `None`: everybody.
    pub(crate) tenant: Option<String>,
    /// What it does.
    pub(crate) effect: Effect,
    /// From its sending to its acknowledgement.
    pub(crate) span: Span,
    /// When it was acknowledged.
    pub(crate) at_ms: u64,
    /// How long a refusal holds at least.
    pub(crate) for_ms: u64,
    /// How long at most.
    pub(crate) for_most_ms: u64,
}

/// A fetch of keys.
#[derive(Debug, Clone)]
pub(crate) struct Fetch {
    /// Which VM of its worker.
    pub(crate) life: u32,
    /// When its answer is there.
    pub(crate) ends_ms: u64,
    /// The set; `None` where none came of it.
    pub(crate) set: Option<Vec<usize>>,
    /// When the answer was there.
    pub(crate) delivered: Option<Span>,
    /// Its VM has died before.
    pub(crate) is_lost: bool,
    /// Old configurations have gone while it was under way, whoever had asked.
    pub(crate) may_be_dropped: bool,
}

/// Everything that was learned.
#[derive(Debug, Default)]
pub(crate) struct Knowledge {
    /// All lookups, by the number of their call.
    pub(crate) lookups: BTreeMap<usize, Lookup>,
    /// The calls about each tenant.
    pub(crate) of: BTreeMap<String, Vec<usize>>,
    /// Events that were applied, in their order.
    pub(crate) applied: Vec<Applied>,
    /// By worker, what it fetched.
    pub(crate) fetches: BTreeMap<usize, Vec<Fetch>>,
    /// When lists of active tenants came, and who was on them.
    pub(crate) lists: Vec<(Span, u64, BTreeSet<String>)>,
    /// When configurations were put in force.
    pub(crate) updates: Vec<(Span, u64)>,
}

impl Knowledge {
    /// The lookups about a tenant, the last first.
    pub(crate) fn about(&self, tenant: &str) -> impl Iterator<Item = &Lookup> {
        let calls = self.of.get(tenant).map(Vec::as_slice).unwrap_or_default();
        calls.iter().rev().filter_map(|call| self.lookups.get(call))
    }

    /// Events that concern a tenant, the last first.
    pub(crate) fn events(&self, tenant: &str) -> impl Iterator<Item = &Applied> {
        let concerns = move |event: &&Applied| event.tenant.as_deref().is_none_or(|id| id == tenant);
        self.applied.iter().rev().filter(concerns)
    }

    /// Whether what a lookup has brought was certainly void for whoever asked at `span`: an event that
    /// came after it was begun has been acknowledged before.
    pub(crate) fn is_void(&self, lookup: &Lookup, span: Span) -> bool {
        self.events(&lookup.tenant)
            .any(|event| lookup.asked.is_before(event.span) && event.span.is_before(span))
    }

    /// Whether anything may have come between the beginning of a lookup and a moment that could keep what
    /// it brought from being remembered: an event, a list, a refusal, a configuration, of whomever. A lookup
    /// begins in the instant in which its call goes out, but other things may happen in between.
    pub(crate) fn may_be_overtaken(&self, lookup: &Lookup, until: Span) -> bool {
        let is_between =
            |span: Span, at_ms| (!span.is_before(lookup.asked) || at_ms == lookup.asked_ms) && !until.is_before(span);
        self.applied.iter().any(|event| is_between(event.span, event.at_ms))
            || self.lists.iter().any(|(span, at_ms, _)| is_between(*span, *at_ms))
            || self.updates.iter().any(|(span, at_ms)| is_between(*span, *at_ms))
            || self.lookups.values().any(|other| {
                let is_over = other.delivered.is_some_and(|span| is_between(span, other.ends_ms));
                other.call != lookup.call && other.meaning.refuses() && is_over
            })
    }
}
