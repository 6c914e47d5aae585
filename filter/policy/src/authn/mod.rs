//! Stage 2: who is asking? Nothing about a tenant is looked at before this stage has passed.
//!
//! Rules in the order they are applied; the first that fails ends the request with 401:
//!
//! 1. Exactly one credential, `Bearer` and a `token68` ([`bearer`]).
//! 2. At most `auth.max_token_bytes`. A token that was verified before, by this worker and to the
//!    last byte, still holds unless its time or its key is over ([`verified`]).
//! 3. Three base64url parts; a JOSE header and claims that are strict JSON objects ([`jws`]).
//! 4. `iss` names a configured issuer, `alg` is in its allow-list ([`issuer`]).
//! 5. Exactly one of its keys fits `alg` and `kid`, and the signature holds ([`keys`]). Where keys
//!    are fetched and the one that is needed is not there, the request may wait ([`remote`]);
//!    503 `KEYS_UNAVAILABLE` when it has waited in vain for the first set.
//! 6. `exp`, `nbf`, `iat` and `aud` hold now ([`claims`]).
//!
//! With `auth.mode: upstream_metadata` rules 1 to 3 and 5 are another filter's: the claims come
//! from the request's dynamic metadata ([`metadata`]) and no header is looked at. `iss`, `aud` and
//! the times are checked all the same; without `issuers` any `iss` and `aud` will do.
//!
//! `jku`, `x5u`, `x5c` and `jwk` of a token are neither followed nor used (RFC 8725 §3.10).

mod algorithms;
mod bearer;
mod claims;
mod es384;
mod issuer;
mod jwk;
mod jws;
mod keys;
mod metadata;
mod refusal;
mod remote;
mod verified;

use std::rc::Rc;

use serde_json::{Map, Value};

pub use algorithms::Algorithm;
pub use issuer::{Issuer, KeySource, RemoteJwks, TenantSet};
pub use jws::{AcceptedTypes, Jws};
pub use keys::{Key, KeySet, RefusedKey};
pub use metadata::MetadataPath;
pub use refusal::Refusal;

pub(crate) use remote::MAX_SET_BYTES;

use crate::config::{Auth, ClaimsSource};
use crate::denial::Denial;
use crate::errand::{Answer, Answered, Awaited, Callout, Errand, FetchId, GRACE_MS, Learned};
use crate::json;
use crate::node::{Node, Now};
use crate::remark::Remark;
use crate::request::RequestHead;
use crate::seats::{Seat, Seats};
use crate::telemetry::{Counter, FetchFailure};
use claims::{Claims, Validity};
use remote::{Prospect, RemoteKeys};
use verified::{Verdict, VerifiedTokens};

/// Most requests of a worker that wait for keys.
const MAX_WAITERS: usize = 256;
/// How often the log hears of an issuer whose keys go on failing.
const COMPLAINT_MS: u64 = 60_000;

/// The proof that this stage has passed: claims whose signature and times held.
#[derive(Debug)]
pub struct Verified<'a> {
    claims: Rc<Claims>,
    issuer: Option<&'a Issuer>,
}

impl<'a> Verified<'a> {
    /// A claim at the top level that is a string, by its exact name. Only those are kept that the
    /// configuration names.
    pub fn claim(&self, name: &str) -> Option<&str> {
        self.claims.get(name)
    }

    /// The issuer whose tenants this may name; `None`: any.
    pub fn issuer(&self) -> Option<&'a Issuer> {
        self.issuer
    }
}

/// What stage 2 makes of a request.
#[derive(Debug)]
pub(crate) enum Authentication<'a> {
    /// The caller is believed.
    Verified(Verified<'a>),
    /// The key of its token is not there yet.
    Wait(KeyWait),
}

/// A request that waits for keys.
#[derive(Debug)]
pub(crate) struct KeyWait {
    /// The place of the issuer.
    issuer: u32,
    /// Which fetch would be the next when the request came.
    arrival: u64,
    /// The fetch that must be started for it.
    pub(crate) begins: Option<Errand>,
    /// When the request is answered by itself, in monotonic milliseconds.
    pub(crate) deadline_ms: u64,
    token: Box<[u8]>,
    _seat: Seat,
}

impl KeyWait {
    pub(crate) fn awaits(&self) -> Awaited {
        Awaited::Keys(self.issuer)
    }
}

/// The state of this stage, per worker.
#[derive(Debug)]
pub(crate) struct Authenticator {
    tokens: VerifiedTokens,
    /// By the place of the issuer.
    remotes: Vec<Option<Remote>>,
    seats: Seats,
}

#[derive(Debug)]
struct Remote {
    keys: RemoteKeys,
    /// Until when failures are not complained about again.
    quiet_until_ms: u64,
}

impl Authenticator {
    pub(crate) fn new(auth: &Auth) -> Self {
        let remotes = auth.issuers.iter().zip(0u32..).map(|(issuer, place)| {
            matches!(issuer.keys(), KeySource::Remote(_)).then(|| Remote {
                keys: RemoteKeys::new(place),
                quiet_until_ms: 0,
            })
        });
        Self {
            tokens: VerifiedTokens::new(auth.token_cache),
            remotes: remotes.collect(),
            seats: Seats::new(MAX_WAITERS),
        }
    }

    /// Applies the rules of this stage.
    ///
    /// # Errors
    ///
    /// [`Denial::CredentialMissing`] when nothing usable was given, [`Denial::TokenInvalid`] else.
    pub(crate) fn authenticate<'a>(
        &mut self,
        auth: &'a Auth,
        head: &RequestHead<'_>,
        now: Now,
        node: &impl Node,
    ) -> Result<Authentication<'a>, Denial> {
        match &auth.source {
            ClaimsSource::Credential => {
                let token = bearer::credential(head, &auth.header).ok_or(Denial::CredentialMissing)?;
                self.verify(auth, token, now, node).map_err(Denial::TokenInvalid)
            }
            ClaimsSource::Metadata(path) => {
                let claims = node.dynamic_metadata().and_then(|metadata| path.claims(&metadata));
                let claims = claims.ok_or(Denial::CredentialMissing)?;
                believe(auth, &claims, now)
                    .map(Authentication::Verified)
                    .map_err(Denial::TokenInvalid)
            }
        }
    }

    fn verify<'a>(
        &mut self,
        auth: &'a Auth,
        token: &[u8],
        now: Now,
        node: &impl Node,
    ) -> Result<Authentication<'a>, Refusal> {
        if token.len() > auth.max_token_bytes {
            return Err(Refusal::TooLong);
        }
        if let Some(verified) = self.recall(auth, token, now) {
            return Ok(Authentication::Verified(verified));
        }
        match self.check(auth, token, now, node) {
            Ok(verified) => Ok(Authentication::Verified(verified)),
            Err(Failed::Refused(refusal)) => Err(refusal),
            Err(Failed::KeyNotThere { issuer, settings }) => {
                let arrival = self.remote(issuer).map_or(0, |remote| remote.keys.next_serial());
                let deadline_ms = now
                    .monotonic_ms
                    .saturating_add(u64::from(settings.timeout_ms))
                    .saturating_add(GRACE_MS);
                let seat = self.seats.take().ok_or(Refusal::KeyWaitOverloaded)?;
                let wait = KeyWait {
                    issuer,
                    arrival,
                    begins: None,
                    deadline_ms,
                    token: token.into(),
                    _seat: seat,
                };
                self.wait(wait, settings, now, node).map(Authentication::Wait)
            }
        }
    }

    /// Looks again for a request that waits, after news of its issuer's keys.
    ///
    /// # Errors
    ///
    /// As [`Authenticator::authenticate`].
    pub(crate) fn again<'a>(
        &mut self,
        auth: &'a Auth,
        wait: KeyWait,
        now: Now,
        node: &impl Node,
    ) -> Result<Authentication<'a>, Denial> {
        match self.check(auth, &wait.token, now, node) {
            Ok(verified) => Ok(Authentication::Verified(verified)),
            Err(Failed::Refused(refusal)) => Err(Denial::TokenInvalid(refusal)),
            Err(Failed::KeyNotThere { settings, .. }) => self
                .wait(wait, settings, now, node)
                .map(Authentication::Wait)
                .map_err(Denial::TokenInvalid),
        }
    }

    /// What becomes of a request whose deadline has passed: without a set it is the keys' fault,
    /// with one the token's.
    pub(crate) fn give_up(&self, wait: &KeyWait, now: Now) -> Denial {
        match self
            .remote(wait.issuer)
            .and_then(|remote| remote.keys.usable(now.monotonic_ms))
        {
            Some(_) => Denial::TokenInvalid(Refusal::KeyUnknown),
            None => Denial::KeysUnavailable,
        }
    }

    fn wait(&mut self, wait: KeyWait, settings: &RemoteJwks, now: Now, node: &impl Node) -> Result<KeyWait, Refusal> {
        let remote = self.remote_mut(wait.issuer).ok_or(Refusal::KeyUnknown)?;
        let begins = match remote.keys.prospect(settings, wait.arrival, now.monotonic_ms, node) {
            Prospect::Wait => None,
            Prospect::Begin(fetch) => Some(Errand::Fetch(fetch)),
            Prospect::None => return Err(Refusal::KeyUnknown),
        };
        Ok(KeyWait { begins, ..wait })
    }

    /// A token that was verified before and whose issuer still has keys.
    fn recall<'a>(&mut self, auth: &'a Auth, token: &[u8], now: Now) -> Option<Verified<'a>> {
        let verdict = self.tokens.recall(token, now)?;
        let (issuer, claims) = (verdict.issuer, Rc::clone(&verdict.claims));
        if let Some(Some(remote)) = self.remotes.get(issuer) {
            remote.keys.usable(now.monotonic_ms)?;
        }
        let issuer = auth.issuers.get(issuer)?;
        Some(Verified {
            claims,
            issuer: Some(issuer),
        })
    }

    /// Rules 3 to 6.
    fn check<'a>(
        &mut self,
        auth: &'a Auth,
        token: &[u8],
        now: Now,
        node: &impl Node,
    ) -> Result<Verified<'a>, Failed<'a>> {
        let jws = Jws::parse(token, &auth.accepted_types)?;
        let claims = json::parse_object(&jws.payload()?).ok_or(Refusal::Claims)?;
        let (place, issuer) = issuer::named(&auth.issuers, claims.get("iss"))?;
        jws.algorithm(issuer.algorithms())?;
        let remote = self.remotes.get(place).and_then(Option::as_ref);
        let keys = match (issuer.keys(), remote) {
            (KeySource::Inline(keys), _) => Ok(keys),
            (KeySource::Remote(settings), Some(remote)) => {
                let has_key = |keys: &&KeySet| jws.key_id().is_none_or(|kid| keys.knows(kid));
                remote.keys.usable(now.monotonic_ms).filter(has_key).ok_or(settings)
            }
            (KeySource::Remote(_), None) | (KeySource::Elsewhere, _) => return Err(Refusal::KeyUnknown.into()),
        };
        let keys = match keys {
            Ok(keys) => keys,
            Err(settings) => {
                // Who would be refused anyway neither waits nor has keys fetched.
                hold(auth, issuer, &claims, now)?;
                let issuer = u32::try_from(place).map_err(|_| Refusal::KeyUnknown)?;
                return Err(Failed::KeyNotThere { issuer, settings });
            }
        };
        node.count(Counter::TokensVerified);
        let key = Rc::clone(keys.verify(&jws, issuer.algorithms(), node)?);
        let validity = hold(auth, issuer, &claims, now)?;
        let claims = Rc::new(Claims::keep(&auth.kept_claims, &claims));
        let verdict = Verdict {
            issuer: place,
            key,
            named: jws.key_id().is_some(),
            claims: Rc::clone(&claims),
            validity,
        };
        if self.tokens.remember(token, verdict, now) {
            node.count(Counter::TokenCacheEvictions);
        }
        Ok(Verified {
            claims,
            issuer: Some(issuer),
        })
    }

    /// The call of a fetch; `None` when it was made before or is not wanted any more.
    pub(crate) fn question(&mut self, auth: &Auth, fetch: FetchId) -> Option<Callout> {
        let settings = settings(auth, fetch.issuer)?.1;
        self.remote_mut(fetch.issuer)?.keys.question(settings, fetch.serial)
    }

    /// Takes in what came of a fetch.
    pub(crate) fn answered(&mut self, auth: &Auth, fetch: FetchId, answer: Answer<'_>, node: &impl Node) -> Answered {
        let place = fetch.issuer;
        let (Some((issuer, settings)), Some(remote)) = (settings(auth, place), self.remote_mut(place)) else {
            return Answered::FORGOTTEN;
        };
        let Some(news) = remote
            .keys
            .answered(settings, issuer.algorithms(), fetch.serial, answer, node)
        else {
            return Answered::FORGOTTEN;
        };
        let now_ms = node.monotonic_ms();
        let mut remarks: Vec<Remark> = news
            .refused
            .into_iter()
            .map(|key| Remark::KeyRefused {
                issuer: issuer.name().to_owned(),
                key,
            })
            .collect();
        remarks.extend(
            news.failure
                .and_then(|failure| remote.complaint(issuer, failure, now_ms)),
        );
        if news.changed {
            remarks.push(self.keys_changed(issuer, place, now_ms));
        }
        Answered::Over {
            news: news.wakes.then_some((Awaited::Keys(place), Learned::Keys)),
            remarks,
        }
    }

    fn keys_changed(&mut self, issuer: &Issuer, place: u32, now_ms: u64) -> Remark {
        let remote = usize::try_from(place)
            .ok()
            .and_then(|at| self.remotes.get(at)?.as_ref());
        let keys = remote.and_then(|remote| remote.keys.usable(now_ms));
        if let Ok(at) = usize::try_from(place) {
            self.tokens.keys_changed(at, keys);
        }
        Remark::KeysChanged {
            issuer: issuer.name().to_owned(),
            keys: keys.map_or(0, KeySet::len),
        }
    }

    /// Does what is due by time alone: gives the fetches to make, and says what has come to its
    /// end.
    pub(crate) fn tick(&mut self, auth: &Auth, node: &impl Node) -> (Vec<Errand>, Vec<Remark>) {
        let now_ms = node.monotonic_ms();
        let (mut errands, mut remarks) = (Vec::new(), Vec::new());
        for place in (0u32..).take(self.remotes.len()) {
            let Some((issuer, settings)) = settings(auth, place) else {
                continue;
            };
            let overdue = self.remote(place).and_then(|remote| remote.keys.overdue(now_ms));
            if let Some(fetch) = overdue
                && let Answered::Over { remarks: more, .. } = self.answered(auth, fetch, Answer::Unreachable, node)
            {
                remarks.extend(more);
            }
            let Some(remote) = self.remote_mut(place) else {
                continue;
            };
            let begun = remote.keys.begin_due(settings, now_ms, node);
            errands.extend(begun.map(Errand::Fetch));
            if remote.keys.expire(now_ms) {
                remarks.push(Remark::KeysExpired {
                    issuer: issuer.name().to_owned(),
                });
                if let Ok(at) = usize::try_from(place) {
                    self.tokens.keys_changed(at, None);
                }
            }
        }
        (errands, remarks)
    }

    /// When [`Authenticator::tick`] has something to do, in monotonic milliseconds.
    pub(crate) fn due_ms(&self) -> Option<u64> {
        self.remotes.iter().flatten().map(|remote| remote.keys.due_ms()).min()
    }

    fn remote(&self, place: u32) -> Option<&Remote> {
        self.remotes.get(usize::try_from(place).ok()?)?.as_ref()
    }

    fn remote_mut(&mut self, place: u32) -> Option<&mut Remote> {
        self.remotes.get_mut(usize::try_from(place).ok()?)?.as_mut()
    }
}

impl Remote {
    fn complaint(&mut self, issuer: &Issuer, failure: FetchFailure, now_ms: u64) -> Option<Remark> {
        if now_ms < self.quiet_until_ms {
            return None;
        }
        self.quiet_until_ms = now_ms.saturating_add(COMPLAINT_MS);
        Some(Remark::FetchesFail {
            issuer: issuer.name().to_owned(),
            failure,
            serving: self.keys.usable(now_ms).is_some(),
        })
    }
}

/// Why a token is not verified.
enum Failed<'a> {
    Refused(Refusal),
    /// It might be, with a key that its issuer may have by now.
    KeyNotThere {
        issuer: u32,
        settings: &'a RemoteJwks,
    },
}

impl From<Refusal> for Failed<'_> {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

fn settings(auth: &Auth, place: u32) -> Option<(&Issuer, &RemoteJwks)> {
    let issuer = auth.issuers.get(usize::try_from(place).ok()?)?;
    match issuer.keys() {
        KeySource::Remote(settings) => Some((issuer, settings)),
        KeySource::Inline(_) | KeySource::Elsewhere => None,
    }
}

/// Rule 6.
fn hold(auth: &Auth, issuer: &Issuer, claims: &Map<String, Value>, now: Now) -> Result<Validity, Refusal> {
    let validity = Validity::of(claims, auth)?;
    validity.check(now.realtime_ms, auth)?;
    if !issuer.accepts_audience(claims.get("aud")) {
        return Err(Refusal::Audience);
    }
    Ok(validity)
}

/// What is left to check of claims that another filter has verified.
fn believe<'a>(auth: &'a Auth, claims: &Map<String, Value>, now: Now) -> Result<Verified<'a>, Refusal> {
    let issuer = if auth.issuers.is_empty() {
        Validity::of(claims, auth)?.check(now.realtime_ms, auth)?;
        None
    } else {
        let (_, issuer) = issuer::named(&auth.issuers, claims.get("iss"))?;
        hold(auth, issuer, claims, now)?;
        Some(issuer)
    };
    Ok(Verified {
        claims: Rc::new(Claims::keep(&auth.kept_claims, claims)),
        issuer,
    })
}

#[cfg(test)]
mod tests;
