//! Calls that the shell makes for the engine, and what requests wait for.

use std::fmt;

use crate::remark::Remark;
use crate::resolve::{ListId, LookupId, Tidings};

/// What a waiting request is given beyond the time of the call, for the way of the answer.
pub(crate) const GRACE_MS: u64 = 500;

/// When a wait that begins now ends, answered or not, in monotonic milliseconds.
pub(crate) fn deadline_ms(now_ms: u64, timeout_ms: u32) -> u64 {
    now_ms.saturating_add(u64::from(timeout_ms)).saturating_add(GRACE_MS)
}

/// A call that is to be made, by what it is for. Never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Errand {
    /// To the Tenant Manager, about a tenant.
    Lookup(LookupId),
    /// To an issuer, for its keys.
    Fetch(FetchId),
    /// To the Tenant Manager, for the list of active tenants.
    List(ListId),
}

/// Names one fetch of an issuer's keys by this worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FetchId {
    /// The place of the issuer in the configuration.
    pub(crate) issuer: usize,
    /// Counts the fetches of that issuer.
    pub(crate) serial: u64,
}

impl Errand {
    const BYTES: usize = 17;

    /// The errand in bytes, for a host's queue.
    pub fn to_bytes(self) -> Vec<u8> {
        let (kind, issuer, serial) = match self {
            Self::Lookup(lookup) => (0u8, 0, lookup.number()),
            Self::Fetch(FetchId { issuer, serial }) => (1, u64::try_from(issuer).unwrap_or(u64::MAX), serial),
            Self::List(ListId(number)) => (2, 0, number),
        };
        let mut bytes = Vec::with_capacity(Self::BYTES);
        bytes.push(kind);
        bytes.extend(issuer.to_le_bytes());
        bytes.extend(serial.to_le_bytes());
        bytes
    }

    /// The errand that [`Errand::to_bytes`] wrote; `None` for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let (issuer, serial) = rest.split_first_chunk()?;
        let issuer = usize::try_from(u64::from_le_bytes(*issuer)).ok()?;
        let serial = u64::from_le_bytes(serial.try_into().ok()?);
        match (kind, issuer) {
            (0, 0) => Some(Self::Lookup(LookupId::from_number(serial))),
            (1, issuer) => Some(Self::Fetch(FetchId { issuer, serial })),
            (2, 0) => Some(Self::List(ListId(serial))),
            _ => None,
        }
    }
}

/// What a request waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Awaited {
    /// The end of a lookup.
    Lookup(LookupId),
    /// News of the keys of the issuer at this place.
    Keys(usize),
}

/// An HTTP call that the shell makes.
#[derive(Clone, PartialEq, Eq)]
pub struct Callout {
    /// The Envoy cluster.
    pub cluster: String,
    /// Pseudo-headers and headers. They may hold an API key: not for logs.
    pub headers: Vec<(&'static str, String)>,
    /// How long the answer may take, in milliseconds; never 0.
    pub timeout_ms: u32,
}

impl fmt::Debug for Callout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callout")
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

/// What came of a call.
#[derive(Debug, Clone, Copy)]
pub enum Answer<'a> {
    /// Headers and a body.
    Http {
        /// `:status`; 0 when it cannot be read.
        status: u16,
        /// `Retry-After` in whole seconds (RFC 9110 §10.2.3), where the answer has one in that form.
        retry_after_seconds: Option<u32>,
        /// The body, or `None` when it is larger than [`crate::engine::Engine::max_body_bytes`].
        body: Option<&'a [u8]>,
    },
    /// The call could not be made, or was reset.
    Unreachable,
}

/// What an answer leads to.
#[derive(Debug)]
pub enum Answered {
    /// It is asked once more.
    Again(Callout),
    /// The errand is over.
    Over {
        /// Who stops waiting, and what they learn.
        news: Option<(Awaited, Learned)>,
        /// What the log should hear of.
        remarks: Vec<Remark>,
    },
}

impl Answered {
    /// Nobody asked, or not any more.
    pub(crate) const FORGOTTEN: Self = Self::Over {
        news: None,
        remarks: Vec::new(),
    };
}

/// What waiting requests learn.
#[derive(Debug, Clone)]
pub enum Learned {
    /// What is known of the tenant.
    Tenant(Tidings),
    /// That the keys of their issuer are worth another look.
    Keys,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_errand_survives_the_queue_and_nothing_else_does() {
        for errand in [
            Errand::Lookup(LookupId::from_number(u64::MAX)),
            Errand::Fetch(FetchId { issuer: 31, serial: 7 }),
            Errand::List(ListId(9)),
        ] {
            let bytes = errand.to_bytes();
            assert_eq!(bytes.len(), Errand::BYTES);
            assert_eq!(Errand::from_bytes(&bytes), Some(errand));
            assert_eq!(Errand::from_bytes(&bytes[..16]), None);
            assert_eq!(Errand::from_bytes(&[bytes, vec![0]].concat()), None);
        }
        assert_eq!(Errand::from_bytes(&[3; Errand::BYTES]), None);
        assert_eq!(Errand::from_bytes(&[]), None);
    }
}
