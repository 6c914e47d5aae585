//! Claims (RFC 7519 §4): when they hold, and what of them is kept.

use std::time::Duration;

use serde_json::{Map, Value};

use super::Refusal;
use crate::config::Auth;

/// The claims that later stages read: only strings, only those that the configuration names.
#[derive(Debug, Default)]
pub(super) struct Claims(Box<[(Box<str>, Box<str>)]>);

impl Claims {
    /// Keeps what `names` names.
    pub(super) fn keep(names: &[String], claims: &Map<String, Value>) -> Self {
        let kept = names.iter().filter_map(|name| {
            let text = claims.get(name)?.as_str()?;
            Some((name.as_str().into(), text.into()))
        });
        Self(kept.collect())
    }

    /// A claim by its exact name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let (_, text) = self.0.iter().find(|(other, _)| **other == *name)?;
        Some(text)
    }

    /// What the kept texts take, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let texts = self.0.iter().map(|(name, text)| name.len().saturating_add(text.len()));
        texts.fold(0, usize::saturating_add)
    }
}

/// When claims hold, in seconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Validity {
    /// Not before this; leeway is already taken off.
    pub(super) from: Option<f64>,
    /// Not at this nor after; leeway comes on top.
    pub(super) exp: Option<f64>,
}

impl Validity {
    /// Reads `exp`, `nbf` and `iat` (RFC 7519 §4.1.4–4.1.6): numbers only, fractions allowed.
    ///
    /// # Errors
    ///
    /// [`Refusal::NoExpiry`], [`Refusal::Expired`] and [`Refusal::NotYetValid`].
    pub(super) fn of(claims: &Map<String, Value>, auth: &Auth) -> Result<Self, Refusal> {
        let seconds = |value: &Value| value.as_f64().filter(|seconds| seconds.is_finite());
        let exp = match claims.get("exp") {
            None if auth.require_exp => return Err(Refusal::NoExpiry),
            None => None,
            Some(exp) => Some(seconds(exp).ok_or(Refusal::Expired)?),
        };
        let leeway = f64::from(auth.leeway_seconds);
        let mut from: Option<f64> = None;
        for name in ["nbf", "iat"] {
            if let Some(start) = claims.get(name) {
                let start = seconds(start).ok_or(Refusal::NotYetValid)? - leeway;
                from = Some(from.map_or(start, |from| from.max(start)));
            }
        }
        Ok(Self { from, exp })
    }

    /// Refused when `now ≥ exp + leeway`, `now < nbf − leeway` or `now < iat − leeway`.
    ///
    /// # Errors
    ///
    /// [`Refusal::Expired`] and [`Refusal::NotYetValid`].
    pub(super) fn check(self, now_ms: u64, auth: &Auth) -> Result<(), Refusal> {
        let now = seconds(now_ms);
        if self.exp.is_some_and(|exp| now >= exp + f64::from(auth.leeway_seconds)) {
            return Err(Refusal::Expired);
        }
        if self.from.is_some_and(|from| now < from) {
            return Err(Refusal::NotYetValid);
        }
        Ok(())
    }

    /// Whether the claims hold even without the leeway at their end: only so long is a verified
    /// token remembered.
    pub(super) fn holds_strictly(self, now_ms: u64) -> bool {
        let now = seconds(now_ms);
        self.exp.is_none_or(|exp| now < exp) && self.from.is_none_or(|from| now >= from)
    }
}

fn seconds(ms: u64) -> f64 {
    Duration::from_millis(ms).as_secs_f64()
}
