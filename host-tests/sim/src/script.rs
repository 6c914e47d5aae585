//! What happens in a world, as plain data: whoever plays it draws nothing at random any more.

use serde::{Deserialize, Serialize};

/// A world and everything that is done to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Script {
    /// What the world is like.
    pub setup: Setup,
    /// What is done, in the order of its time.
    pub ops: Vec<Timed>,
}

/// A world before anything happens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Setup {
    /// Of the host's randomness.
    pub host_seed: u64,
    /// Workers besides the main thread, at least 1.
    pub workers: usize,
    /// `allow_on_headers_stop_iteration`.
    pub holds_headers_only: bool,
    /// What the host does not let the filter do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refuses: Option<Edit>,
    /// The configuration that it starts with, then those that [`Op::Update`] names by their place.
    pub configs: Vec<Knobs>,
    /// What the Tenant Manager says of whom. Everybody else it does not know.
    pub tenants: Vec<(String, Saying)>,
    /// What the identity provider answers.
    pub keys: Keys,
}

/// A way to edit a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Edit {
    /// Field lines are taken out.
    Remove,
    /// A field line takes the place of all of its name.
    Set,
    /// A field line is added to those of its name.
    Add,
}

/// What of the configuration differs from world to world.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Knobs {
    /// `cache.ttl_seconds`
    pub ttl_s: u64,
    /// `cache.stale_while_revalidate_seconds`
    pub stale_s: u64,
    /// `cache.stale_if_error_seconds`
    pub fallback_s: u64,
    /// `cache.negative_ttl_seconds`
    pub negative_s: u64,
    /// `cache.max_entries`
    pub max_entries: u64,
    /// `cache.shared_slots`
    pub shared_slots: u64,
    /// `tenant_manager.timeout_ms`
    pub timeout_ms: u64,
    /// `tenant_manager.max_waiters`
    pub max_waiters: u64,
    /// `breaker.threshold`
    pub threshold: u32,
    /// `breaker.open_seconds`
    pub open_s: u64,
    /// Whether there are two API keys rather than one.
    pub two_api_keys: bool,
    /// `on_unavailable: allow`
    pub allows_unverified: bool,
    /// `auth.leeway_seconds`
    pub leeway_s: u64,
    /// `auth.token_cache.max_entries`
    pub remembered_tokens: u64,
    /// The issuer whose keys are fetched, if there is one.
    pub remote: Option<Remote>,
    /// `rate_limit`
    pub rate: Option<Rate>,
    /// `discovery.interval_seconds`
    pub discovery_s: Option<u64>,
    /// Whether `x-idempotency` must be there.
    pub required_key: bool,
    /// `enforce.cut_streams`
    #[serde(default)]
    pub cuts_streams: bool,
    /// `scope.response`, for keys of storage and of Redis
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub guards: bool,
    /// `enforcement: report`, and what is decided is told to others.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reports: bool,
}

/// The times of an issuer whose keys are fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remote {
    /// `timeout_ms`
    pub timeout_ms: u64,
    /// `refresh_seconds`
    pub refresh_s: u64,
    /// `max_stale_seconds`
    pub max_stale_s: u64,
    /// `unknown_kid_cooldown_seconds`
    pub cooldown_s: u64,
}

/// The rate limit of every tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// `requests_per_second`
    pub per_second: u64,
    /// `burst`
    pub burst: u64,
}

/// Something that is done at a time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Timed {
    /// When, in milliseconds since the world began.
    pub at_ms: u64,
    /// Before what is due by then besides has happened.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rushed: bool,
    /// What.
    pub op: Op,
}

/// Something that is done to a world.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// A request comes to a worker.
    Request(Request),
    /// The host sends a request through the filter again.
    Again(Again),
    /// More of the body of an open request.
    Body(u32),
    /// An open request ends, with these trailers.
    End(u32, Vec<(String, String)>),
    /// The client of a request leaves.
    Leave(u32),
    /// Somebody tells a worker of events.
    Tell(Delivery),
    /// The Tenant Manager changes.
    Manager(Change),
    /// The identity provider changes.
    Idp(Keys),
    /// A worker's VM dies.
    Kill(usize),
    /// A configuration is put in force, by its place.
    Update(usize),
    /// A configuration is put in force, and every worker takes it over when it gets to it.
    UpdateLater(usize),
    /// What is there of old configurations ends.
    Drain,
    /// Several workers at the same instant, switching before every act on what they share.
    Burst {
        /// Who goes on where.
        schedule: u64,
        /// What comes to the workers, to each in this order.
        acts: Vec<Act>,
    },
}

/// A part of a burst.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// A request.
    Request(Request),
    /// Events.
    Tell(Delivery),
    /// What is due for a worker happens.
    Settle(usize),
}

/// A request of a client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Its number; no other has it.
    pub id: u32,
    /// The worker that gets it.
    pub worker: usize,
    /// Its method.
    pub method: String,
    /// Its target.
    pub path: String,
    /// What it says of its caller.
    pub credential: Credential,
    /// Field lines besides.
    pub headers: Vec<(String, String)>,
    /// Bytes of body.
    pub body: usize,
    /// Trailers.
    pub trailers: Vec<(String, String)>,
    /// It stays open until [`Op::End`] or [`Op::Leave`].
    pub stays_open: bool,
}

/// An internal redirect: a request whose upstream has answered with one comes again, with the head that its
/// upstream got, unless nothing has got to an upstream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Again {
    /// The number of the request that was redirected.
    pub of: u32,
    /// Its number from now on; no other has it.
    pub id: u32,
    /// Its target from now on.
    pub path: String,
    /// Field lines that a filter in front of this one has added since.
    pub added: Vec<(String, String)>,
}

/// What a request says of its caller.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Credential {
    /// Nothing.
    Absent,
    /// A header that is no credential, as it stands.
    Unusable(String),
    /// A header with a credential that is no token, as it stands.
    Garbage(String),
    /// A token.
    Token(Token),
    /// Two field lines with this good token.
    Twice(Token),
}

/// A token.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Token {
    /// The tenant that it names.
    pub tenant: String,
    /// Who issued it.
    pub issuer: Issuer,
    /// `exp`, in seconds since the world began.
    pub expires_s: i64,
    /// Makes tokens differ that are alike otherwise.
    pub serial: u8,
    /// What is wrong with it.
    pub flaw: Option<Flaw>,
}

/// An issuer of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Issuer {
    /// Its secret stands in the configuration.
    Secret,
    /// Its public key stands in the configuration.
    Inline,
    /// Its keys are fetched; signed with the key of this place in [`crate::tokens::REMOTE_KEYS`].
    Remote(usize),
}

/// What is wrong with a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flaw {
    /// Somebody else's key has signed it, under the right `kid`.
    OthersKey,
    /// A bit of the signature is flipped.
    FlippedSignature,
    /// The claims are not those that were signed.
    OtherClaims,
    /// `alg: none`, no signature.
    Unsigned,
    /// A `kid` that the issuer has never had.
    UnknownKid,
    /// An issuer that is not configured.
    UnknownIssuer,
    /// Not valid before long after the world's end.
    NotYet,
    /// No `exp`.
    Endless,
    /// No `tenantId`, but an `organization_id`.
    NoTenant,
    /// A `tenantId` that is none.
    BadTenant,
    /// The issuer may not name this tenant.
    ForeignTenant,
    /// No flaw at all, where the issuer has one key: no `kid`.
    NoKid,
}

/// What the Tenant Manager says, and how long it takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saying {
    /// What.
    pub answer: Answer,
    /// After how many milliseconds.
    pub delay_ms: u64,
}

/// What the Tenant Manager says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// 200 and a record of an active tenant with these modules.
    Active(Vec<String>),
    /// 200 and a record of an active tenant with these modules, all of them in this schema.
    Schema(Vec<String>, String),
    /// 200 and a record with another status.
    Inactive(String),
    /// 200 and a good record of somebody else.
    OfOther,
    /// 403 with a status, or without.
    Refused(Option<String>),
    /// 404
    Unknown,
    /// 422
    Unprovisioned,
    /// 200 and no record.
    Garbage,
    /// 200 and a record that is too large.
    Huge,
    /// Another status.
    Status(u16),
    /// 429, with `retry-after`.
    Throttled(Option<u64>),
    /// It breaks off in the middle of a good record.
    Reset,
    /// The connection is closed before a status.
    Close,
    /// Nothing, ever.
    Silence,
    /// The cluster has no endpoint.
    NoEndpoints,
}

/// How the Tenant Manager changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Of a tenant it says this.
    Says(String, Saying),
    /// Of everybody it says this, until `None`.
    Fault(Option<Saying>),
    /// Which of the two API keys it takes.
    Takes([bool; 2]),
}

/// What the identity provider answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keys {
    /// What.
    pub answer: KeysAnswer,
    /// After how many milliseconds.
    pub delay_ms: u64,
}

/// What the identity provider answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeysAnswer {
    /// A set of these of [`crate::tokens::REMOTE_KEYS`], at least one.
    Set(Vec<usize>),
    /// A status without a set.
    Status(u16),
    /// 200 and no set.
    Garbage,
    /// 200 and a set of which no key can be used, one of them secret.
    Unusable,
    /// It breaks off.
    Reset,
    /// Nothing, ever.
    Silence,
    /// The cluster has no endpoint.
    NoEndpoints,
}

/// Events on their way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    /// The worker that is told.
    pub worker: usize,
    /// The key they come with.
    pub key: EventKey,
    /// Cut off, so that it cannot be read.
    pub is_cut_off: bool,
    /// The events.
    pub events: Vec<Event>,
}

/// The key that events come with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKey {
    /// The right one.
    Right,
    /// Another.
    Wrong,
    /// None.
    Absent,
}

/// A tenant event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// `event_type`
    pub kind: String,
    /// `tenant_id`
    pub tenant: String,
    /// `timestamp`, in milliseconds since the world began; may be before that.
    pub happened_ms: Option<i64>,
    /// `environment`
    pub environment: Option<String>,
    /// `payload.service_name`
    pub service: Option<String>,
    /// `{"type","tenantId"}`
    pub is_short: bool,
}
