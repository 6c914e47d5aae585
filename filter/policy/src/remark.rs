//! What the log should hear of besides denials: one line each, bounded in number by whoever makes
//! them, nothing secret in them.

use std::fmt;

use crate::authn::RefusedKey;
use crate::config::shown;
use crate::resolve::Useless;
use crate::telemetry::{FetchFailure, LookupFailure};
use crate::tenant_id::TenantId;

/// Something that an operator should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remark {
    /// Lookups fail; said once a minute and kind.
    LookupsFail {
        /// How.
        failure: LookupFailure,
        /// The status of the answer, where there was one.
        status: Option<u16>,
        /// About whom the last of them was.
        tenant: TenantId,
        /// The Envoy cluster that was called.
        cluster: String,
    },
    /// Another API key than before is accepted.
    KeyPreferred {
        /// The Envoy cluster that was called.
        cluster: String,
        /// Its place in the configuration, from 1.
        place: usize,
    },
    /// The circuit to the Tenant Manager has opened.
    CircuitOpened {
        /// The Envoy cluster that is left alone.
        cluster: String,
        /// How many lookups failed one after the other.
        failures: u32,
        /// For how long.
        seconds: u64,
    },
    /// The circuit to the Tenant Manager has closed.
    CircuitClosed {
        /// The Envoy cluster that is asked again.
        cluster: String,
    },
    /// The list of active tenants changes nothing.
    ListUseless(Useless),
    /// The keys of an issuer cannot be fetched; said once a minute, issuer and reason.
    FetchesFail {
        /// What its tokens say in `iss`.
        issuer: String,
        /// The Envoy cluster that was called.
        cluster: String,
        /// Why.
        failure: Failure,
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
    /// A fetched set holds more such keys than are named.
    MoreKeysRefused {
        /// What its tokens say in `iss`.
        issuer: String,
        /// How many.
        unnamed: usize,
    },
    /// The keys of an issuer can be fetched again, after it was said that they cannot.
    FetchesAgain {
        /// What its tokens say in `iss`.
        issuer: String,
    },
    /// The keys of an issuer are others than before.
    KeysChanged {
        /// What its tokens say in `iss`.
        issuer: String,
        /// How many there are now.
        keys: usize,
        /// The `kid`s of the first of them.
        names: Vec<String>,
    },
    /// The last good set of an issuer has served too long and is gone.
    KeysExpired {
        /// What its tokens say in `iss`.
        issuer: String,
        /// Why the last fetch failed.
        last_failure: Option<Failure>,
    },
}

/// Why a fetch of keys brought no set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// The kind.
    pub kind: FetchFailure,
    /// The status of the answer, where there was one.
    pub status: Option<u16>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.name())?;
        match self.status {
            Some(status) => write!(f, " (status {status})"),
            None => Ok(()),
        }
    }
}

impl Remark {
    /// Whether somebody should act.
    pub fn is_warning(&self) -> bool {
        match self {
            Self::LookupsFail { .. }
            | Self::KeyPreferred { .. }
            | Self::CircuitOpened { .. }
            | Self::ListUseless(_)
            | Self::FetchesFail { .. }
            | Self::KeyRefused { .. }
            | Self::MoreKeysRefused { .. }
            | Self::KeysExpired { .. } => true,
            Self::CircuitClosed { .. } | Self::FetchesAgain { .. } | Self::KeysChanged { .. } => false,
        }
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LookupsFail {
                failure,
                status,
                tenant,
                cluster,
            } => {
                write!(f, "tenant lookups fail: {}", failure.name())?;
                if let Some(status) = status {
                    write!(f, " (status {status})")?;
                }
                write!(
                    f,
                    ": {}; last for tenant={} in cluster `{}` (each worker says this once a minute)",
                    failure.meaning(),
                    tenant.as_str(),
                    shown(cluster)
                )
            }
            Self::KeyPreferred { cluster, place } => write!(
                f,
                "API key {place} serves cluster `{}` now: the other one is answered with 401",
                shown(cluster)
            ),
            Self::CircuitOpened {
                cluster,
                failures,
                seconds,
            } => write!(
                f,
                "circuit to the tenant manager in cluster `{}` open for {seconds} s after {failures} failures: known tenants \
                 are served from the cache, others answered 503",
                shown(cluster)
            ),
            Self::CircuitClosed { cluster } => {
                write!(
                    f,
                    "circuit to the tenant manager in cluster `{}` closed",
                    shown(cluster)
                )
            }
            Self::ListUseless(why) => write!(f, "the list of active tenants changes nothing: {}", why.meaning()),
            Self::FetchesFail {
                issuer,
                cluster,
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
                    "keys of issuer `{}` cannot be fetched from cluster `{}`: {failure}: {}; {meanwhile} (each worker says \
                     this once a minute)",
                    shown(issuer),
                    shown(cluster),
                    failure.kind.meaning(),
                )
            }
            Self::KeyRefused { issuer, key } => write!(
                f,
                "key `{}` of issuer `{}` refused: {}",
                shown(&key.name),
                shown(issuer),
                key.reason
            ),
            Self::MoreKeysRefused { issuer, unnamed } => {
                write!(f, "{unnamed} more keys of issuer `{}` refused", shown(issuer))
            }
            Self::FetchesAgain { issuer } => write!(f, "keys of issuer `{}` are fetched again", shown(issuer)),
            Self::KeysChanged { issuer, keys, names } => {
                write!(f, "issuer `{}` has {keys} usable keys now", shown(issuer))?;
                let mut before = ": ";
                for name in names {
                    write!(f, "{before}`{}`", shown(name))?;
                    before = ", ";
                }
                let more = keys.saturating_sub(names.len());
                if more > 0 && !names.is_empty() {
                    write!(f, " and {more} more")?;
                }
                Ok(())
            }
            Self::KeysExpired { issuer, last_failure } => {
                write!(
                    f,
                    "the last good keys of issuer `{}` have served too long: its tokens are answered 503",
                    shown(issuer)
                )?;
                match last_failure {
                    Some(failure) => write!(f, "; the last fetch failed: {failure}"),
                    None => Ok(()),
                }
            }
        }
    }
}
