//! What the log should hear of besides denials: one line each, bounded in number by whoever makes
//! them, nothing secret in them.

use std::fmt;

use crate::authn::RefusedKey;
use crate::config::shown;
use crate::telemetry::{FetchFailure, LookupFailure};

/// Something that an operator should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remark {
    /// Lookups fail; said once a minute and kind.
    LookupsFail(LookupFailure),
    /// The keys of an issuer cannot be fetched; said once a minute and issuer.
    FetchesFail {
        /// What its tokens say in `iss`.
        issuer: String,
        /// Why.
        failure: FetchFailure,
        /// Whether the last good set serves meanwhile.
        serving: bool,
    },
    /// A fetched set holds a key that cannot be used; said when it is seen first.
    KeyRefused {
        /// What its tokens say in `iss`.
        issuer: String,
        /// The key.
        key: RefusedKey,
    },
    /// The keys of an issuer are others than before.
    KeysChanged {
        /// What its tokens say in `iss`.
        issuer: String,
        /// How many there are now.
        keys: usize,
    },
    /// The last good set of an issuer has served too long and is gone.
    KeysExpired {
        /// What its tokens say in `iss`.
        issuer: String,
    },
}

impl Remark {
    /// Whether somebody should act.
    pub fn is_warning(&self) -> bool {
        match self {
            Self::LookupsFail(_) | Self::FetchesFail { .. } | Self::KeyRefused { .. } | Self::KeysExpired { .. } => {
                true
            }
            Self::KeysChanged { .. } => false,
        }
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LookupsFail(failure) => write!(
                f,
                "tenant lookups fail: {}: {} (said once a minute)",
                failure.name(),
                failure.meaning()
            ),
            Self::FetchesFail {
                issuer,
                failure,
                serving,
            } => {
                let meanwhile = if *serving {
                    "the last good set serves"
                } else {
                    "there is no set, tokens of this issuer are answered 503"
                };
                write!(
                    f,
                    "keys of issuer `{}` cannot be fetched: {}: {}; {meanwhile} (said once a minute)",
                    shown(issuer),
                    failure.name(),
                    failure.meaning(),
                )
            }
            Self::KeyRefused { issuer, key } => write!(
                f,
                "key `{}` of issuer `{}` refused: {}",
                shown(&key.name),
                shown(issuer),
                key.reason
            ),
            Self::KeysChanged { issuer, keys } => write!(f, "issuer `{}` has {keys} usable keys now", shown(issuer)),
            Self::KeysExpired { issuer } => write!(
                f,
                "the last good keys of issuer `{}` have served too long: its tokens are answered 503",
                shown(issuer)
            ),
        }
    }
}
