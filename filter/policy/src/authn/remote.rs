//! The keys of an issuer that are fetched over HTTP, as one worker has them.
//!
//! Rules:
//!
//! 1. The first fetch begins with the worker. One fetch is under way at a time.
//! 2. A good set is fresh for `refresh_seconds` and fetched anew at 80 to 90 % of that; each
//!    worker draws its own moment.
//! 3. A fetch that fails is repeated after 1 s, then after twice the time, up to 10 s; of each
//!    pause between half and all is taken. Meanwhile the last good set serves until
//!    `max_stale_seconds` after its freshness; then there is none.
//! 4. Without a set, tokens of the issuer wait for one.
//! 5. A token that names a key which the set does not have begins a fetch and waits for it, once
//!    per `unknown_kid_cooldown_seconds`. Only a good fetch that began after the token came proves
//!    that its key does not exist; while fetches fail it waits for the next.

use serde_json::Value;

use super::{Algorithm, KeySet, RefusedKey, RemoteJwks};
use crate::errand::{Answer, Callout, FetchId, deadline_ms};
use crate::json;
use crate::node::{Node, part_of};
use crate::remark::Failure;
use crate::telemetry::{Counter, FetchFailure};

/// Largest set that is read, in bytes.
pub(crate) const MAX_SET_BYTES: usize = 256 * 1024;
/// The pause after the first failed fetch, and the longest.
const FIRST_PAUSE_MS: u64 = 1_000;
const LONGEST_PAUSE_MS: u64 = 10_000;

/// The keys of one issuer.
#[derive(Debug)]
pub(super) struct RemoteKeys {
    issuer: usize,
    set: Option<Held>,
    fetch: Option<Fetch>,
    next_serial: u64,
    /// The last fetch that brought a set.
    last_good: Option<u64>,
    next_fetch_ms: u64,
    failures: u32,
    /// Until when unknown `kid`s begin no fetch.
    cooldown_until_ms: u64,
    /// What was last said of keys that cannot be used.
    refused: Vec<RefusedKey>,
}

#[derive(Debug)]
struct Held {
    keys: KeySet,
    usable_until_ms: u64,
}

#[derive(Debug)]
struct Fetch {
    serial: u64,
    asked: bool,
    /// When it is over, answered or not.
    ends_ms: u64,
}

/// What came of a fetch.
#[derive(Debug)]
pub(super) struct News {
    /// Whether other keys than before are there.
    pub(super) changed: bool,
    /// Keys that cannot be used and of which nothing was said before.
    pub(super) refused: Vec<RefusedKey>,
    /// Why there is no new set.
    pub(super) failure: Option<Failure>,
}

/// What a token that needs other keys than there are can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Prospect {
    /// Wait for a fetch that is under way or will come.
    Wait,
    /// Begin this one and wait for it.
    Begin(FetchId),
    /// There is nothing to wait for.
    None,
}

impl RemoteKeys {
    pub(super) fn new(issuer: usize) -> Self {
        Self {
            issuer,
            set: None,
            fetch: None,
            next_serial: 0,
            last_good: None,
            next_fetch_ms: 0,
            failures: 0,
            cooldown_until_ms: 0,
            refused: Vec::new(),
        }
    }

    /// The set, while it may be used.
    pub(super) fn usable(&self, now_ms: u64) -> Option<&KeySet> {
        let held = self.set.as_ref().filter(|held| now_ms < held.usable_until_ms)?;
        Some(&held.keys)
    }

    /// The serial of the next fetch: those before it began before whoever comes now.
    pub(super) fn next_serial(&self) -> u64 {
        self.next_serial
    }

    /// What a token can do that came when `arrival` was the next serial, and whose key is not
    /// there.
    pub(super) fn prospect(&mut self, settings: &RemoteJwks, arrival: u64, now_ms: u64) -> Prospect {
        if self.usable(now_ms).is_none() {
            return match self.begin_due(settings, now_ms) {
                Some(fetch) => Prospect::Begin(fetch),
                None => Prospect::Wait,
            };
        }
        if self.fetch.is_some() {
            return Prospect::Wait;
        }
        let is_proven = self.last_good.is_some_and(|serial| serial >= arrival);
        if is_proven {
            return Prospect::None;
        }
        if self.failures > 0 {
            return Prospect::Wait;
        }
        if now_ms < self.cooldown_until_ms {
            return Prospect::None;
        }
        self.cooldown_until_ms = now_ms.saturating_add(settings.unknown_kid_cooldown_ms);
        Prospect::Begin(self.begin(settings, now_ms))
    }

    /// Begins the next fetch if its time has come.
    pub(super) fn begin_due(&mut self, settings: &RemoteJwks, now_ms: u64) -> Option<FetchId> {
        (self.fetch.is_none() && self.next_fetch_ms <= now_ms).then(|| self.begin(settings, now_ms))
    }

    /// Takes back a fetch that was begun and cannot be started at once: it is due now, or since
    /// whenever it was. A due time that moved on would keep the host's timer from ever ringing.
    pub(super) fn postpone(&mut self, now_ms: u64) {
        self.fetch = None;
        self.next_fetch_ms = self.next_fetch_ms.min(now_ms);
    }

    fn begin(&mut self, settings: &RemoteJwks, now_ms: u64) -> FetchId {
        let serial = self.next_serial;
        self.next_serial = serial.wrapping_add(1);
        self.fetch = Some(Fetch {
            serial,
            asked: false,
            ends_ms: deadline_ms(now_ms, settings.timeout_ms),
        });
        FetchId {
            issuer: self.issuer,
            serial,
        }
    }

    /// The call of a fetch; `None` when it was made before or is not wanted any more.
    pub(super) fn question(&mut self, settings: &RemoteJwks, serial: u64, node: &impl Node) -> Option<Callout> {
        let fetch = self.fetch.as_mut()?;
        if fetch.serial != serial || std::mem::replace(&mut fetch.asked, true) {
            return None;
        }
        node.count(Counter::JwksFetches);
        Some(Callout {
            cluster: settings.cluster.clone(),
            headers: vec![
                (":method", "GET".to_owned()),
                (":path", settings.path.clone()),
                (":authority", settings.authority.clone()),
                ("accept", "application/json".to_owned()),
            ],
            timeout_ms: settings.timeout_ms,
        })
    }

    /// Takes an answer in; `None` when nobody waits for it any more.
    pub(super) fn answered(
        &mut self,
        settings: &RemoteJwks,
        algorithms: &[Algorithm],
        serial: u64,
        answer: Answer<'_>,
        node: &impl Node,
    ) -> Option<News> {
        self.fetch.take_if(|fetch| fetch.serial == serial)?;
        let now_ms = node.monotonic_ms();
        let status = match answer {
            Answer::Http { status, .. } => Some(status),
            Answer::Unreachable => None,
        };
        let (set, refused) = read(answer, algorithms);
        let refused = self.unsaid(refused);
        for _ in &refused {
            node.count(Counter::KeysRefused);
        }
        match set {
            Ok(keys) => {
                let changed = self.set.as_ref().is_none_or(|held| !keys.is_same(&held.keys));
                self.set = Some(Held {
                    keys,
                    usable_until_ms: now_ms
                        .saturating_add(settings.refresh_ms)
                        .saturating_add(settings.max_stale_ms),
                });
                self.failures = 0;
                self.last_good = Some(serial);
                let earliest = settings.refresh_ms.saturating_sub(settings.refresh_ms / 5);
                self.next_fetch_ms = now_ms
                    .saturating_add(earliest)
                    .saturating_add(part_of(settings.refresh_ms / 10, node));
                Some(News {
                    changed,
                    refused,
                    failure: None,
                })
            }
            Err(kind) => {
                node.count(Counter::JwksFetchErrors(kind));
                let pause_ms = FIRST_PAUSE_MS
                    .checked_shl(self.failures)
                    .map_or(LONGEST_PAUSE_MS, |ms| ms.min(LONGEST_PAUSE_MS));
                self.failures = self.failures.saturating_add(1).min(8);
                let half = pause_ms / 2;
                self.next_fetch_ms = now_ms.saturating_add(half).saturating_add(part_of(half, node));
                Some(News {
                    changed: false,
                    refused,
                    failure: Some(Failure { kind, status }),
                })
            }
        }
    }

    /// How many fetches have failed since the last good one; of many only that they are many.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// The fetch whose answer got lost with whatever should have brought it.
    pub(super) fn overdue(&self, now_ms: u64) -> Option<FetchId> {
        let fetch = self.fetch.as_ref().filter(|fetch| fetch.ends_ms <= now_ms)?;
        Some(FetchId {
            issuer: self.issuer,
            serial: fetch.serial,
        })
    }

    /// Lets go of a set that has served too long; gives whether there was one.
    pub(super) fn expire(&mut self, now_ms: u64) -> bool {
        self.set.take_if(|held| held.usable_until_ms <= now_ms).is_some()
    }

    /// When there is something to do, in monotonic milliseconds.
    pub(super) fn due_ms(&self) -> u64 {
        let fetch_ms = self.fetch.as_ref().map_or(self.next_fetch_ms, |fetch| fetch.ends_ms);
        let set_ms = self.set.as_ref().map_or(u64::MAX, |held| held.usable_until_ms);
        fetch_ms.min(set_ms)
    }

    /// Those of `refused` of which nothing was said when the set was read last.
    fn unsaid(&mut self, refused: Option<Vec<RefusedKey>>) -> Vec<RefusedKey> {
        let Some(refused) = refused else {
            return Vec::new();
        };
        let is_said = |key: &&RefusedKey| {
            let same = |said: &RefusedKey| said.name == key.name && said.reason == key.reason;
            !self.refused.iter().any(same)
        };
        let unsaid = refused.iter().filter(is_said).cloned().collect();
        self.refused = refused;
        unsaid
    }
}

/// Reads an answer: a 200 with a JWK set in which at least one key is usable. The keys that are
/// not are told beside it where a set was read at all.
fn read(answer: Answer<'_>, algorithms: &[Algorithm]) -> (Result<KeySet, FetchFailure>, Option<Vec<RefusedKey>>) {
    let body = match answer {
        Answer::Unreachable => return (Err(FetchFailure::Unreachable), None),
        Answer::Http { status: 200, body, .. } => body,
        Answer::Http { status: 500..=599, .. } => return (Err(FetchFailure::ServerError), None),
        Answer::Http { .. } => return (Err(FetchFailure::UnexpectedStatus), None),
    };
    let Some(body) = body else {
        return (Err(FetchFailure::TooLarge), None);
    };
    let members = json::parse_object(body);
    let Some(keys) = members
        .as_ref()
        .and_then(|members| members.get("keys"))
        .and_then(Value::as_array)
    else {
        return (Err(FetchFailure::BadSet), None);
    };
    let (set, refused) = KeySet::load_fetched(keys, algorithms);
    (set.ok_or(FetchFailure::NoUsableKey), Some(refused))
}

#[cfg(test)]
mod tests;
