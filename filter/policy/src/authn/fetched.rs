//! The fetched key sets of a worker, one for each issuer with `jwks.remote`.

use super::remote::{Prospect, RemoteKeys};
use super::{Issuer, KeySet, KeySource, RemoteJwks};
use crate::config::Auth;
use crate::errand::{Answer, Callout, FetchId};
use crate::node::Node;
use crate::remark::{Failure, Remark};
use crate::seats::{Seat, Seats};
use crate::telemetry::FetchFailure;

/// Most requests of a worker that wait for keys.
const MAX_WAITERS: usize = 256;
/// How often the log hears of an issuer whose keys go on failing for the same reason.
const COMPLAINT_MS: u64 = 60_000;
/// Most refused keys of one set that the log hears of by name.
const MAX_NAMED: usize = 8;

/// The fetched key sets, by the place of their issuer in the configuration.
#[derive(Debug)]
pub(super) struct FetchedKeys(Vec<Option<Fetched>>);

#[derive(Debug)]
struct Fetched {
    keys: RemoteKeys,
    /// The places for those who wait for these keys: each issuer has its share, so that the
    /// trouble of one is none of the others'.
    seats: Seats,
    /// What was complained about since the last good fetch, and until when it is not again.
    quiet: Vec<(FetchFailure, u64)>,
    last_failure: Option<Failure>,
}

/// What has become of the keys of some issuers.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Issuers with a new set: requests that wait for it should look again.
    pub(super) wakes: Vec<usize>,
    /// Issuers that have other keys than before, or none any more.
    pub(super) changed: Vec<usize>,
    /// Fetches that were begun and are to be started.
    pub(super) begun: Vec<FetchId>,
    /// What the log should hear of.
    pub(super) remarks: Vec<Remark>,
}

impl FetchedKeys {
    pub(super) fn new(auth: &Auth) -> Self {
        let is_remote = |issuer: &&Issuer| matches!(issuer.keys(), KeySource::Remote(_));
        let remotes = auth.issuers.iter().filter(is_remote).count();
        let share = MAX_WAITERS.checked_div(remotes).unwrap_or_default();
        let sets = auth.issuers.iter().enumerate().map(|(place, issuer)| {
            is_remote(&issuer).then(|| Fetched {
                keys: RemoteKeys::new(place),
                seats: Seats::new(share),
                quiet: Vec::new(),
                last_failure: None,
            })
        });
        Self(sets.collect())
    }

    /// The set of an issuer, while it may be used.
    pub(super) fn usable(&self, place: usize, now_ms: u64) -> Option<&KeySet> {
        self.0.get(place)?.as_ref()?.keys.usable(now_ms)
    }

    /// Whether the keys of an issuer are there, or stand in the configuration.
    pub(super) fn are_there(&self, place: usize, now_ms: u64) -> bool {
        !matches!(self.0.get(place), Some(Some(_))) || self.usable(place, now_ms).is_some()
    }

    /// See [`RemoteKeys::next_serial`].
    pub(super) fn next_serial(&self, place: usize) -> u64 {
        let fetched = self.0.get(place).and_then(Option::as_ref);
        fetched.map_or(0, |fetched| fetched.keys.next_serial())
    }

    /// See [`RemoteKeys::prospect`].
    pub(super) fn prospect(&mut self, auth: &Auth, place: usize, arrival: u64, now_ms: u64) -> Prospect {
        match (settings(auth, place), self.at(place)) {
            (Some((_, settings)), Some(fetched)) => fetched.keys.prospect(settings, arrival, now_ms),
            _ => Prospect::None,
        }
    }

    /// A place for one who waits, unless the issuer's share is taken.
    pub(super) fn seat(&self, place: usize) -> Option<Seat> {
        self.0.get(place)?.as_ref()?.seats.take()
    }

    /// See [`RemoteKeys::postpone`].
    pub(super) fn postpone(&mut self, fetch: FetchId, now_ms: u64) {
        if let Some(fetched) = self.at(fetch.issuer) {
            fetched.keys.postpone(now_ms);
        }
    }

    /// The call of a fetch; `None` when it was made before or is not wanted any more.
    pub(super) fn question(&mut self, auth: &Auth, fetch: FetchId, node: &impl Node) -> Option<Callout> {
        let (_, settings) = settings(auth, fetch.issuer)?;
        self.at(fetch.issuer)?.keys.question(settings, fetch.serial, node)
    }

    /// Takes in what came of a fetch.
    pub(super) fn answered(
        &mut self,
        auth: &Auth,
        fetch: FetchId,
        answer: Answer<'_>,
        node: &impl Node,
        changes: &mut Changes,
    ) {
        let place = fetch.issuer;
        let (Some((issuer, settings)), Some(fetched)) = (settings(auth, place), self.at(place)) else {
            return;
        };
        let news = fetched
            .keys
            .answered(settings, issuer.algorithms(), fetch.serial, answer, node);
        let Some(news) = news else {
            return;
        };
        let name = || issuer.name().to_owned();
        let unnamed = news.refused.len().saturating_sub(MAX_NAMED);
        let named = news.refused.into_iter().take(MAX_NAMED);
        changes
            .remarks
            .extend(named.map(|key| Remark::KeyRefused { issuer: name(), key }));
        if unnamed > 0 {
            let issuer = name();
            changes.remarks.push(Remark::MoreKeysRefused { issuer, unnamed });
        }
        let now_ms = node.monotonic_ms();
        match news.failure {
            Some(failure) => changes
                .remarks
                .extend(fetched.complaint(issuer, settings, failure, now_ms)),
            None if !fetched.quiet.is_empty() => {
                fetched.quiet.clear();
                changes.remarks.push(Remark::FetchesAgain { issuer: name() });
            }
            None => {}
        }
        if news.changed {
            changes.changed.push(place);
            let keys = fetched.keys.usable(now_ms);
            changes.remarks.push(Remark::KeysChanged {
                issuer: name(),
                keys: keys.map_or(0, KeySet::len),
                names: keys.map(|keys| keys.names(MAX_NAMED)).unwrap_or_default(),
            });
        }
        if news.failure.is_none() {
            changes.wakes.push(place);
        }
    }

    /// Does what is due by time alone: ends fetches whose answer got lost, begins those whose time
    /// has come, lets go of sets that have served too long.
    pub(super) fn tick(&mut self, auth: &Auth, node: &impl Node) -> Changes {
        let now_ms = node.monotonic_ms();
        let mut changes = Changes::default();
        for place in 0..self.0.len() {
            let overdue = self.at(place).and_then(|fetched| fetched.keys.overdue(now_ms));
            if let Some(fetch) = overdue {
                self.answered(auth, fetch, Answer::Unreachable, node, &mut changes);
            }
            let (Some((issuer, settings)), Some(fetched)) = (settings(auth, place), self.at(place)) else {
                continue;
            };
            changes.begun.extend(fetched.keys.begin_due(settings, now_ms));
            if fetched.keys.expire(now_ms) {
                changes.changed.push(place);
                changes.remarks.push(Remark::KeysExpired {
                    issuer: issuer.name().to_owned(),
                    last_failure: fetched.last_failure,
                });
            }
        }
        changes
    }

    /// When [`FetchedKeys::tick`] has something to do, in monotonic milliseconds.
    pub(super) fn due_ms(&self) -> Option<u64> {
        self.0.iter().flatten().map(|fetched| fetched.keys.due_ms()).min()
    }

    fn at(&mut self, place: usize) -> Option<&mut Fetched> {
        self.0.get_mut(place)?.as_mut()
    }
}

impl Fetched {
    /// What the log should hear of a failure, if it has not heard the same within a minute.
    fn complaint(&mut self, issuer: &Issuer, settings: &RemoteJwks, failure: Failure, now_ms: u64) -> Option<Remark> {
        self.last_failure = Some(failure);
        self.quiet.retain(|(_, until_ms)| now_ms < *until_ms);
        let is_quiet = self.quiet.iter().any(|(kind, _)| *kind == failure.kind);
        // The first attempt may come before Envoy's clusters are ready, or in a mere validation of the
        // configuration.
        let may_be_early = failure.kind == FetchFailure::Unreachable && self.keys.failures() < 2;
        if is_quiet || may_be_early {
            return None;
        }
        self.quiet.push((failure.kind, now_ms.saturating_add(COMPLAINT_MS)));
        Some(Remark::FetchesFail {
            issuer: issuer.name().to_owned(),
            cluster: settings.cluster.clone(),
            failure,
            serving: self.keys.usable(now_ms).is_some(),
        })
    }
}

fn settings(auth: &Auth, place: usize) -> Option<(&Issuer, &RemoteJwks)> {
    let issuer = auth.issuers.get(place)?;
    match issuer.keys() {
        KeySource::Remote(settings) => Some((issuer, settings)),
        KeySource::Inline(_) | KeySource::Elsewhere => None,
    }
}
