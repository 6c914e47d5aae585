//! What the engine asks of its surroundings.

use crate::telemetry::{Counter, Decision, Gauge, Histogram};

/// The node as one worker sees it: its clocks, its counters, the store that its workers share, and
/// what the host can do.
///
/// The filter implements it with hostcalls, tests with plain values. None of the methods but
/// [`Node::share`] can fail, and each may be called at any time but [`Node::dynamic_metadata`],
/// [`Node::route_module`] and [`Node::earlier_pass`], which are about the present request. What has a body here, a node may do without: it keeps no statistics then, and
/// workers share nothing.
pub trait Node {
    /// The real time as milliseconds since the Unix epoch. For token times only: it may jump.
    fn realtime_ms(&self) -> u64;

    /// A clock that never goes back, in milliseconds from an arbitrary start that all workers of the
    /// node have in common. For everything that lasts.
    fn monotonic_ms(&self) -> u64;

    /// A number that workers do not have in common, evenly spread. For jitter, not for secrets.
    fn random(&self) -> u32;

    /// Adds one to a node-wide counter.
    fn count(&self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Adds to a node-wide counter.
    fn add(&self, _counter: Counter, _by: u64) {}

    /// Adds one to what a tenant's requests are counted by; `label` is the tenant, or what stands for all
    /// that have no label of their own.
    fn count_tenant(&self, _label: &str, _decision: Decision) {}

    /// Moves a node-wide gauge.
    fn adjust(&self, _gauge: Gauge, _by: i64) {}

    /// Sets a node-wide gauge.
    fn set(&self, _gauge: Gauge, _to: u64) {}

    /// Adds a sample to a node-wide histogram.
    fn observe(&self, _histogram: Histogram, _sample: u64) {}

    /// What the workers of the node share under a key.
    fn shared(&self, _key: &str) -> Shared {
        Shared::NOTHING
    }

    /// Writes what the workers share under a key, if nobody has written there since it was read.
    ///
    /// # Errors
    ///
    /// [`NotWritten`]; nothing has changed then.
    fn share(&self, _key: &str, _value: &[u8], _expected: Version) -> Result<(), NotWritten> {
        Err(NotWritten::Refused)
    }

    /// A number that moves whenever [`Node::ring`] is called by a worker of the node; `None` where the
    /// host has no cheap one.
    fn bell(&self) -> Option<u64> {
        None
    }

    /// Moves the number of [`Node::bell`].
    fn ring(&self) {}

    /// The host's own check of a signature; `None` where it has none to offer. The sizes of keys
    /// and their binding to algorithms are not its business.
    fn verify_signature(&self, check: &SignatureCheck<'_>) -> Option<bool>;

    /// The dynamic metadata of the present request, as `envoy.config.core.v3.Metadata` in
    /// protobuf; `None` where there is none.
    fn dynamic_metadata(&self) -> Option<Vec<u8>>;

    /// The module that the metadata of the route name (`filter_metadata.tenantgate.module`), where
    /// the host has chosen a route whose metadata do.
    fn route_module(&self) -> Option<Vec<u8>> {
        None
    }

    /// Whether the host keeps what a pass leaves behind.
    fn keeps_passes(&self) -> bool {
        false
    }

    /// What an earlier pass of the request through the filter has left behind
    /// ([`crate::flow::Property::Pass`]).
    fn earlier_pass(&self) -> Earlier {
        Earlier::Unknowable
    }
}

/// What is known of an earlier pass of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Earlier {
    /// It has left this.
    Noted(Vec<u8>),
    /// There was none, or it has left nothing.
    Nothing,
    /// The host does not keep what is left behind.
    Unknowable,
}

/// What the workers share under one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shared {
    /// The bytes; empty where nothing was ever written.
    pub value: Vec<u8>,
    /// What [`Node::share`] wants to know. Every write gives a key another one.
    pub version: Version,
}

impl Shared {
    /// A key that was never written.
    pub const NOTHING: Self = Self {
        value: Vec::new(),
        version: Version::ABSENT,
    };
}

/// Which of the writes to a key was seen last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version(pub u32);

impl Version {
    /// Of a key that was never written: hosts of ABI 0.2.1 take any version for a missing key and this
    /// one for no other.
    pub const ABSENT: Self = Self(u32::MAX);
}

/// Why a write did not happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotWritten {
    /// Somebody else has written in between.
    Outpaced,
    /// The host refused.
    Refused,
}

/// Both clocks, read once for all that a request does at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// See [`Node::realtime_ms`].
    pub realtime_ms: u64,
    /// See [`Node::monotonic_ms`].
    pub monotonic_ms: u64,
}

impl Now {
    /// Reads both clocks.
    pub fn of(node: &impl Node) -> Self {
        Self {
            realtime_ms: node.realtime_ms(),
            monotonic_ms: node.monotonic_ms(),
        }
    }
}

/// A signature to check: RSASSA-PKCS1-v1_5, or ECDSA on P-256 or P-384.
#[derive(Debug, Clone, Copy)]
pub struct SignatureCheck<'a> {
    /// The hash that it was made with.
    pub hash: Hash,
    /// The key, as SubjectPublicKeyInfo in DER.
    pub public_key: &'a [u8],
    /// The signature; of ECDSA in DER (RFC 3279 §2.2.3).
    pub signature: &'a [u8],
    /// What was signed.
    pub message: &'a [u8],
}

/// A hash of the SHA-2 family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hash {
    /// 32 bytes.
    Sha256,
    /// 48 bytes.
    Sha384,
    /// 64 bytes.
    Sha512,
}

impl Hash {
    /// The name as hosts know it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// The length of its output.
    pub fn output_bytes(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

/// A random part of `whole`, from nothing to all of it.
pub(crate) fn part_of(whole: u64, node: &impl Node) -> u64 {
    let share = u128::from(whole).saturating_mul(u128::from(node.random())) >> u32::BITS;
    u64::try_from(share).unwrap_or(whole)
}
