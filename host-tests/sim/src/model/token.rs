//! What may be made of a credential.

use std::collections::BTreeSet;

use super::passes::Pass;
use super::{Model, Seen, Settled};
use crate::script::{Credential, Flaw, Issuer, Token};
use crate::tokens::{REMOTE_PREFIX, REMOTE_TENANT};

/// What may become of a request at the stages of token and tenant id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Verdict {
    /// It may go on, as this tenant.
    pub(super) tenant: Option<String>,
    /// It may be denied with these codes.
    pub(super) codes: BTreeSet<&'static str>,
}

impl Verdict {
    fn denied(code: &'static str) -> Self {
        Self {
            tenant: None,
            codes: BTreeSet::from([code]),
        }
    }
}

/// More than waits for keys on one worker before some are turned away.
const MANY_WAITERS: usize = 200;

impl Model {
    /// What may be made of the credential of a request, all along until it was decided.
    pub(super) fn verdict(&self, settled: &Settled) -> Verdict {
        if let Pass::Second(tenant) = self.pass(&settled.seen) {
            // The first pass has proven it.
            return Verdict {
                tenant: Some(tenant),
                codes: BTreeSet::new(),
            };
        }
        match &settled.seen.request.credential {
            Credential::Absent | Credential::Unusable(_) | Credential::Twice(_) => {
                Verdict::denied("TENANT_ID_REQUIRED")
            }
            Credential::Garbage(_) => Verdict::denied("TOKEN_INVALID"),
            Credential::Token(token) => self.of_token(token, settled),
        }
    }

    /// Whether a token may hold now or later.
    pub(super) fn may_hold_ever(&self, token: &Token, seen: &Seen) -> bool {
        match token.flaw {
            None | Some(Flaw::NoKid) => self.holds_at(token, seen, seen.begun_ms) && self.is_configured(token, seen),
            Some(_) => false,
        }
    }

    fn is_configured(&self, token: &Token, seen: &Seen) -> bool {
        match token.issuer {
            Issuer::Secret | Issuer::Inline => true,
            Issuer::Remote(_) => {
                self.knobs(seen.config).remote.is_some()
                    && (token.tenant == REMOTE_TENANT || token.tenant.starts_with(REMOTE_PREFIX))
            }
        }
    }

    fn holds_at(&self, token: &Token, seen: &Seen, at_ms: u64) -> bool {
        let leeway_s = i64::try_from(self.knobs(seen.config).leeway_s).expect("a small number");
        let ends_ms = (token.expires_s + leeway_s) * 1_000;
        i64::try_from(at_ms).expect("a small number") < ends_ms
    }

    fn of_token(&self, token: &Token, settled: &Settled) -> Verdict {
        let seen = &settled.seen;
        let refused = Verdict::denied("TOKEN_INVALID");
        if matches!(token.flaw, Some(Flaw::UnknownIssuer)) {
            return refused;
        }
        let is_remote = matches!(token.issuer, Issuer::Remote(_));
        if is_remote && self.knobs(seen.config).remote.is_none() {
            return refused;
        }
        let mut verdict = Verdict::default();
        let (can_verify, cannot) = self.can_verify(token, settled);
        verdict.codes.extend(cannot);
        let latest_ms = if is_remote { settled.decided_ms } else { seen.begun_ms };
        // What was in time when it came may be late when its key has come.
        let is_in_time = self.holds_at(token, seen, seen.begun_ms);
        if !is_in_time || !self.holds_at(token, seen, latest_ms) {
            verdict.codes.insert("TOKEN_INVALID");
        }
        if can_verify && is_in_time {
            match token.flaw {
                None | Some(Flaw::NoKid) if self.is_configured(token, seen) => {
                    verdict.tenant = Some(token.tenant.clone());
                }
                Some(Flaw::NoTenant) => {
                    verdict.codes.insert("TENANT_ID_REQUIRED");
                }
                Some(Flaw::BadTenant) => {
                    verdict.codes.insert("TENANT_ID_INVALID");
                }
                _ => {
                    verdict.codes.insert("TOKEN_INVALID");
                }
            }
            // Which of two faults is told first is nobody's business.
            if is_remote && token.flaw.is_some() {
                verdict.codes.insert("TOKEN_INVALID");
            }
        }
        verdict
    }

    /// Whether the signature can have held, and with which codes it can have been refused.
    fn can_verify(&self, token: &Token, settled: &Settled) -> (bool, Vec<&'static str>) {
        let is_signed = !matches!(
            token.flaw,
            Some(
                Flaw::OthersKey
                    | Flaw::FlippedSignature
                    | Flaw::OtherClaims
                    | Flaw::Unsigned
                    | Flaw::UnknownKid
                    | Flaw::NotYet
                    | Flaw::Endless
            )
        );
        let Issuer::Remote(place) = token.issuer else {
            return if is_signed {
                (true, Vec::new())
            } else {
                (false, vec!["TOKEN_INVALID"])
            };
        };
        let mut codes = Vec::new();
        let mut can = false;
        for set in self.possible_sets(settled) {
            match set {
                None => codes.push("KEYS_UNAVAILABLE"),
                Some(set) if is_signed && set.contains(&place) => can = true,
                Some(_) => codes.push("TOKEN_INVALID"),
            }
        }
        let waiting = self.waiting.get(&settled.seen.request.worker);
        let many = waiting.is_some_and(|waiting| waiting.len() >= MANY_WAITERS);
        if !is_signed || many {
            codes.push("TOKEN_INVALID");
        }
        (can, codes)
    }

    /// The key sets that the worker of a request may have had until it was decided; `None`: none.
    fn possible_sets(&self, settled: &Settled) -> Vec<Option<Vec<usize>>> {
        let seen = &settled.seen;
        let remote = self.knobs(seen.config).remote.expect("looked at before");
        let usable_ms = (remote.refresh_s + remote.max_stale_s) * 1_000;
        let fetches = self.knowledge.fetches.get(&seen.request.worker);
        let good = fetches
            .into_iter()
            .flatten()
            .filter(|fetch| fetch.set.is_some() && fetch.life == seen.life && fetch.delivered.is_some());
        let has_updated = self.has_updated();
        let mut sets = vec![None];
        for fetch in good {
            let delivered = fetch.delivered.expect("looked at before");
            if settled.decided.is_before(delivered) {
                continue;
            }
            let ends_ms = fetch.ends_ms + usable_ms;
            // Which of several configurations has fetched it cannot be told.
            if delivered.is_before(seen.begun) && !has_updated {
                sets.clear();
            }
            if seen.begun_ms < ends_ms {
                sets.push(fetch.set.clone());
            }
            if ends_ms <= settled.decided_ms {
                sets.push(None);
            }
        }
        sets
    }
}
