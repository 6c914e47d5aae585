//! Stage 2: who is asking? Nothing about a tenant is looked at before this stage has passed.
//!
//! Rules in the order they are applied; the first that fails ends the request with 401:
//!
//! 1. Exactly one credential, `Bearer` and a `token68` ([`bearer`]).
//! 2. At most `auth.max_token_bytes`. A token that was verified before, by this worker and to the
//!    last byte, still holds unless its time or its key is over ([`verified`]).
//! 3. Three base64url parts; a JOSE header and claims that are strict JSON objects ([`jws`]).
//! 4. `iss` names a configured issuer, `alg` is in its allow-list ([`issuer`]).
//! 5. `exp`, `nbf`, `iat` and `aud` hold now ([`claims`]).
//! 6. Exactly one of the issuer's keys fits `alg` and `kid`, and the signature holds ([`keys`]).
//!    Where keys are fetched and the one that is needed is not there, the request may wait
//!    ([`remote`]); 503 `KEYS_UNAVAILABLE` when it has waited in vain for a set.
//!
//! Nothing of a token is believed before rule 6 has passed; the rules before it can only refuse.
//!
//! With `auth.mode: upstream_metadata` rules 1 to 3 and 6 are another filter's: the claims come
//! from the request's dynamic metadata ([`metadata`]) and no header is looked at. `iss`, `aud` and
//! the times are checked all the same; without `issuers` any `iss` and `aud` will do.
//!
//! `jku`, `x5u`, `x5c` and `jwk` of a token are neither followed nor used (RFC 8725 §3.10).

mod algorithms;
mod bearer;
mod claims;
mod es384;
mod fetched;
mod issuer;
mod jwk;
mod jws;
mod keys;
mod metadata;
mod refusal;
mod remote;
mod verified;

use std::fmt;
use std::rc::Rc;

use serde_json::{Map, Value};

pub use algorithms::Algorithm;
pub use bearer::credential;
pub use issuer::{Issuer, KeySource, RemoteJwks, TenantSet};
pub use jws::{AcceptedTypes, Jws};
pub use keys::{Key, KeySet, RefusedKey};
pub use metadata::MetadataPath;
pub use refusal::Refusal;

pub(crate) use jwk::NO_SUCH_VARIABLE;
pub(crate) use remote::MAX_SET_BYTES;

use crate::config::{Auth, ClaimsSource};
use crate::denial::Denial;
use crate::errand::{Answer, Answered, Awaited, Callout, Errand, FetchId, Learned, deadline_ms};
use crate::json;
use crate::node::{Node, Now};
use crate::remark::Remark;
use crate::request::RequestHead;
use crate::seats::Seat;
use crate::telemetry::Counter;
use claims::{Claims, Validity};
use fetched::{Changes, FetchedKeys};
use remote::Prospect;
use verified::{Verdict, VerifiedTokens};

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
pub(crate) struct KeyWait {
    /// The place of the issuer.
    issuer: usize,
    /// Which fetch would be the next when the request came.
    arrival: u64,
    /// The fetch that must be started for it.
    pub(crate) begins: Option<Errand>,
    /// When the request is answered by itself, in monotonic milliseconds.
    pub(crate) deadline_ms: u64,
    token: Box<[u8]>,
    _seat: Seat,
}

impl fmt::Debug for KeyWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyWait")
            .field("issuer", &self.issuer)
            .field("deadline_ms", &self.deadline_ms)
            .finish_non_exhaustive()
    }
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
    fetched: FetchedKeys,
}

impl Authenticator {
    pub(crate) fn new(auth: &Auth) -> Self {
        Self {
            tokens: VerifiedTokens::new(auth.token_cache),
            fetched: FetchedKeys::new(auth),
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
                let token =
                    bearer::candidate(head, &auth.header).ok_or(Denial::CredentialMissing(Refusal::NoCredential))?;
                // What was verified before was a token68 too, to the last byte.
                if let Some(verified) = self.recall(auth, token, now) {
                    return Ok(Authentication::Verified(verified));
                }
                if !bearer::is_token68(token) {
                    return Err(Denial::CredentialMissing(Refusal::NoCredential));
                }
                self.verify(auth, token, now, node).map_err(Denial::TokenInvalid)
            }
            ClaimsSource::Metadata(path) => {
                let claims = node.dynamic_metadata().and_then(|metadata| path.claims(&metadata));
                let claims = claims.ok_or(Denial::CredentialMissing(Refusal::NoMetadata))?;
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
        match self.check(auth, token, now, node) {
            Ok(verified) => Ok(Authentication::Verified(verified)),
            Err(Failed::Refused(refusal)) => Err(refusal),
            Err(Failed::KeyNotThere { issuer, timeout_ms }) => {
                let now_ms = now.monotonic_ms;
                let arrival = self.fetched.next_serial(issuer);
                let fetch = self.prospect(auth, issuer, arrival, now_ms)?;
                let Some(seat) = self.fetched.seat(issuer) else {
                    // Nobody waits for it here, and the next who comes will need it all the same.
                    if let Some(fetch) = fetch {
                        self.fetched.postpone(fetch, now_ms);
                    }
                    return Err(Refusal::KeyWaitOverloaded);
                };
                Ok(Authentication::Wait(KeyWait {
                    issuer,
                    arrival,
                    begins: fetch.map(Errand::Fetch),
                    deadline_ms: deadline_ms(now_ms, timeout_ms),
                    token: token.into(),
                    _seat: seat,
                }))
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
        // Of those who wait with one token, the first has it verified for all.
        if let Some(verified) = self.recall(auth, &wait.token, now) {
            return Ok(Authentication::Verified(verified));
        }
        match self.check(auth, &wait.token, now, node) {
            Ok(verified) => Ok(Authentication::Verified(verified)),
            Err(Failed::Refused(refusal)) => Err(Denial::TokenInvalid(refusal)),
            Err(Failed::KeyNotThere { .. }) => {
                let fetch = self
                    .prospect(auth, wait.issuer, wait.arrival, now.monotonic_ms)
                    .map_err(Denial::TokenInvalid)?;
                let begins = fetch.map(Errand::Fetch);
                Ok(Authentication::Wait(KeyWait { begins, ..wait }))
            }
        }
    }

    /// What becomes of a request whose deadline has passed: without a set it is the keys' fault,
    /// with one the token's.
    pub(crate) fn give_up(&self, auth: &Auth, wait: &KeyWait, now: Now) -> Denial {
        if self.fetched.are_there(wait.issuer, now.monotonic_ms) {
            return Denial::TokenInvalid(Refusal::KeyUnknown);
        }
        let issuer = auth.issuers.get(wait.issuer).map(Issuer::name);
        Denial::KeysUnavailable {
            issuer: issuer.unwrap_or_default().to_owned(),
        }
    }

    /// Whether a token whose key is not there may wait for it; with the fetch that it begins.
    fn prospect(&mut self, auth: &Auth, issuer: usize, arrival: u64, now_ms: u64) -> Result<Option<FetchId>, Refusal> {
        match self.fetched.prospect(auth, issuer, arrival, now_ms) {
            Prospect::Wait => Ok(None),
            Prospect::Begin(fetch) => Ok(Some(fetch)),
            Prospect::None => Err(Refusal::KeyUnknown),
        }
    }

    /// A token that was verified before and whose issuer still has keys.
    fn recall<'a>(&mut self, auth: &'a Auth, token: &[u8], now: Now) -> Option<Verified<'a>> {
        let verdict = self.tokens.recall(token, now)?;
        if !self.fetched.are_there(verdict.issuer, now.monotonic_ms) {
            return None;
        }
        Some(Verified {
            claims: Rc::clone(&verdict.claims),
            issuer: Some(auth.issuers.get(verdict.issuer)?),
        })
    }

    /// Rules 3 to 6.
    fn check<'a>(&mut self, auth: &'a Auth, token: &[u8], now: Now, node: &impl Node) -> Result<Verified<'a>, Failed> {
        let jws = Jws::parse(token, &auth.accepted_types)?;
        let claims = json::parse_object(&jws.payload()?).ok_or(Refusal::Claims)?;
        let (place, issuer) = issuer::named(&auth.issuers, claims.get("iss"))?;
        jws.algorithm(issuer.algorithms())?;
        // Before the key: who would be refused anyway has no signature checked, waits for nothing and
        // has nothing fetched.
        let validity = hold(auth, issuer, &claims, now)?;
        let keys = match issuer.keys() {
            KeySource::Inline(keys) => keys,
            KeySource::Remote(settings) => {
                let has_key = |keys: &&KeySet| jws.key_id().is_none_or(|kid| keys.knows(kid));
                match self.fetched.usable(place, now.monotonic_ms).filter(has_key) {
                    Some(keys) => keys,
                    None => {
                        return Err(Failed::KeyNotThere {
                            issuer: place,
                            timeout_ms: settings.timeout_ms,
                        });
                    }
                }
            }
            KeySource::Elsewhere => return Err(Refusal::KeyUnknown.into()),
        };
        node.count(Counter::TokensVerified);
        keys.verify(&jws, issuer.algorithms(), node)?;
        let claims = Rc::new(Claims::keep(&auth.kept_claims, &claims));
        let verdict = Verdict {
            issuer: place,
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
    pub(crate) fn question(&mut self, auth: &Auth, fetch: FetchId, node: &impl Node) -> Option<Callout> {
        self.fetched.question(auth, fetch, node)
    }

    /// Takes in what came of a fetch.
    pub(crate) fn answered(&mut self, auth: &Auth, fetch: FetchId, answer: Answer<'_>, node: &impl Node) -> Answered {
        let mut changes = Changes::default();
        self.fetched.answered(auth, fetch, answer, node, &mut changes);
        self.forget_tokens(&changes);
        let wakes = changes.wakes.contains(&fetch.issuer);
        Answered::Over {
            news: wakes.then_some((Awaited::Keys(fetch.issuer), Learned::Keys)),
            remarks: changes.remarks,
        }
    }

    /// Does what is due by time alone: gives the fetches to make, and says what has come to its
    /// end. Requests that wait for a fetch whose answer got lost have a deadline of their own.
    pub(crate) fn tick(&mut self, auth: &Auth, node: &impl Node) -> (Vec<Errand>, Vec<Remark>) {
        let changes = self.fetched.tick(auth, node);
        self.forget_tokens(&changes);
        (changes.begun.into_iter().map(Errand::Fetch).collect(), changes.remarks)
    }

    /// When [`Authenticator::tick`] has something to do, in monotonic milliseconds.
    pub(crate) fn due_ms(&self) -> Option<u64> {
        self.fetched.due_ms()
    }

    fn forget_tokens(&mut self, changes: &Changes) {
        for place in &changes.changed {
            self.tokens.forget(*place);
        }
    }
}

/// Why a token is not verified.
enum Failed {
    Refused(Refusal),
    /// It might be, with a key that its issuer may have by now.
    KeyNotThere {
        issuer: usize,
        timeout_ms: u32,
    },
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Rule 5.
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
