//! What must not happen.

use std::any::Any;
use std::fmt;

use serde::{Deserialize, Serialize};

/// What must hold in every world, after every step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// No request is forwarded with a tenant other than its token's, nor any owned header that it did not
    /// earn; keys are in its own scope.
    Identity,
    /// The Tenant Manager hears of nobody whom no verified token has named.
    AuthBeforeTenant,
    /// Whoever waits is answered or let go once, in time.
    Answered,
    /// Once a refusal or an invalidation is acknowledged, nobody is forwarded by what was known before.
    Refusal,
    /// The Tenant Manager is not asked more often than it must be.
    Calls,
    /// Everything that can grow stays within its bound.
    Bounds,
    /// No VM dies, and nothing secret shows.
    Integrity,
    /// The decision is one that what is known of token and tenant allows.
    Decision,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Identity => {
                "(a) no tenant but the token's, no owned header that was not earned, keys in the own scope"
            }
            Self::AuthBeforeTenant => {
                "(b) no call to the Tenant Manager about anybody whom no verified token has named"
            }
            Self::Answered => "(c) whoever waits is answered or let go once, in time",
            Self::Refusal => "(d) once it is acknowledged, nobody is forwarded by what was known before",
            Self::Calls => "(e) the Tenant Manager is asked no more than it must be",
            Self::Bounds => "(f) everything stays within its bound",
            Self::Integrity => "(g) no VM dies, nothing secret shows",
            Self::Decision => "(h) every decision is one that the rules allow",
        })
    }
}

/// Something that must not happen has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The rule that was broken.
    pub rule: Rule,
    /// How.
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  rule: {}", self.what, self.rule)
    }
}

impl Rule {
    /// It is broken, like this.
    pub fn broken<T>(self, what: impl Into<String>) -> Result<T, Fault> {
        Err(Fault {
            rule: self,
            what: what.into(),
        })
    }
}

impl Fault {
    /// Something has panicked.
    #[must_use]
    pub fn of_panic(what: &str, payload: &(dyn Any + Send)) -> Self {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
        Self {
            rule: Rule::Integrity,
            what: format!("{what} broke off: {}", text.unwrap_or("a panic")),
        }
    }

    /// What faults have in common that are one and the same.
    #[must_use]
    pub fn likeness(&self) -> (Rule, Vec<String>) {
        let is_code =
            |word: &&str| word.len() > 4 && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
        let words = self.what.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        (self.rule, words.filter(is_code).map(str::to_owned).collect())
    }
}
