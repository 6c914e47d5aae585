//! The shape of a corpus file.
//!
//! A file is a [`Suite`]. `config` members are JSON merge patches (RFC 7396) over the
//! configuration in `base.yaml`, suite first, then case. Strings that become header names,
//! header values, paths, bodies or raw parts of tokens are Latin-1: one character is one byte,
//! so `"\xff"` is the byte 0xFF, which is not UTF-8. `{a*250}` in any of them, and in names of members,
//! stands for 250 letters `a` ([`crate::repeat`]).
//!
//! In a configuration and in an answer, `{ $keys: [name, …] }` stands for the JWK set of the named
//! keys, `{ $jwk: { key: name, with: {…} } }` for one JWK under a merge patch, and
//! `{ $secret: name }` for the base64url text of an HMAC key ([`crate::mint`]).
//!
//! Peers of the filter are the cluster `tenant-manager`, which answers by tenant id, and the cluster
//! `idp`, which answers by path. Both are there in every case.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::answer::Answer;

/// `base.yaml`: what every case starts from.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Base {
    /// The plugin configuration.
    pub config: Value,
    /// What the Tenant Manager answers, by tenant id; ids not named here are 404.
    pub tenants: BTreeMap<String, Answer>,
}

/// One corpus file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suite {
    /// The part of the specification that the cases are about.
    pub about: String,
    /// Patch over the base configuration for all cases of the file.
    #[serde(default)]
    pub config: Option<Value>,
    /// The cases, each independent of the others.
    pub cases: Vec<Case>,
}

/// One case: a world, some steps, what must come of them.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// A sentence that is true when the case passes.
    pub name: String,
    /// Whether the real Envoy runs it too.
    #[serde(default)]
    pub envoy: bool,
    /// Worker threads.
    #[serde(default = "one")]
    pub workers: usize,
    /// What the host lacks. Only in cases that the real Envoy does not run.
    #[serde(default)]
    pub without: Without,
    /// Patch over the suite's configuration.
    #[serde(default)]
    pub config: Option<Value>,
    /// The configuration as text instead, for what is not even JSON.
    #[serde(default)]
    pub raw_config: Option<String>,
    /// When given, the plugin must refuse its configuration, and one log line must contain
    /// all parts of each element. `steps` must be empty.
    #[serde(default)]
    pub refused: Option<Vec<Vec<String>>>,
    /// What the Tenant Manager answers, over the base.
    #[serde(default)]
    pub tenants: BTreeMap<String, Answer>,
    /// What the identity provider answers, by path with query; 404 on all others.
    #[serde(default)]
    pub idp: BTreeMap<String, Answer>,
    /// Whether Envoy's own `jwt_authn` stands in front of the filter and leaves the claims in the
    /// dynamic metadata `envoy.filters.http.jwt_authn` / `jwt_payload` of requests whose token it
    /// accepts; all others it lets pass as they are (`allow_missing_or_failed`). [`crate::jwt_authn`]
    /// says what it accepts, and stands in for it where there is none.
    #[serde(default)]
    pub jwt_authn: bool,
    /// The metadata of the route that every request takes, by namespace.
    #[serde(default)]
    pub route_metadata: Option<Value>,
    /// How often Envoy follows a redirect of the upstream by itself, with what it calls an internal
    /// redirect: the request then comes through the filter again.
    #[serde(default)]
    pub redirects: u32,
    /// What happens, in order.
    #[serde(default)]
    pub steps: Vec<Step>,
    /// What the filter must have said by the end: for each element one log line that contains all
    /// of its parts.
    #[serde(default)]
    pub logged: Vec<Vec<String>>,
    /// Counters by metric name, and by how much they have moved at the end.
    #[serde(default)]
    pub counters: BTreeMap<String, u64>,
}

/// What a host lacks that Envoy as it is built and shipped has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Without {
    /// Foreign functions.
    #[serde(default)]
    pub functions: Vec<Function>,
    /// How the names of stats begin that a `stats_matcher` rejects.
    #[serde(default)]
    pub stats: Vec<String>,
}

/// A foreign function that a filter may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Function {
    /// The host checks signatures of RSASSA-PKCS1-v1_5 and ECDSA.
    VerifySignature,
    /// Properties may be declared to last longer than their stream.
    DeclareProperty,
}

impl Function {
    /// Its name to the host.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::VerifySignature => "verify_signature",
            Self::DeclareProperty => "declare_property",
        }
    }
}

/// One thing that happens.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// A request, and what comes of it.
    Request(Box<Request>),
    /// Time passes. Only in cases that the real Envoy does not run.
    AdvanceMs(u64),
    /// The Tenant Manager answers differently from now on.
    Tenants(BTreeMap<String, Answer>),
    /// The identity provider answers differently on these paths from now on.
    Idp(BTreeMap<String, Answer>),
}

/// A request and its expectation.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// `GET` when absent.
    #[serde(default = "get")]
    pub method: String,
    /// The raw request target, `/v1/accounts` when absent.
    #[serde(default = "accounts")]
    pub path: String,
    /// The credential: sent as `authorization: Bearer …`.
    #[serde(default)]
    pub token: Option<Token>,
    /// Further field lines, in order; may repeat. `{token}` in a value is replaced by the
    /// credential of `token`, in which case no `authorization` is added by itself.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// Dynamic metadata that filters in front have left, by namespace. Only in cases that the real
    /// Envoy does not run; those say [`Case::jwt_authn`]. `{ $now: n }` as in [`Made::claims`].
    #[serde(default)]
    pub metadata: Option<Value>,
    /// A body.
    #[serde(default)]
    pub body: Option<String>,
    /// Trailers; make the request chunked.
    #[serde(default)]
    pub trailers: Vec<(String, String)>,
    /// What the upstream answers to the passes of this request, in turn; 200 to every further one.
    #[serde(default)]
    pub upstream: Vec<Answer>,
    /// The worker that gets the request (the real Envoy chooses for itself).
    #[serde(default)]
    pub worker: usize,
    /// How often the same request is sent, one after another; the expectation holds for each,
    /// `tm_calls` and `idp_calls` for all of them together.
    #[serde(default = "one")]
    pub times: usize,
    /// What must come of it.
    pub expect: Expect,
}

/// As a case has it that says nothing but what must come of it.
impl Default for Request {
    fn default() -> Self {
        Self {
            method: get(),
            path: accounts(),
            token: None,
            headers: Vec::new(),
            metadata: None,
            body: None,
            trailers: Vec::new(),
            upstream: Vec::new(),
            worker: 0,
            times: one(),
            expect: Expect::default(),
        }
    }
}

/// What must come of a request. Exactly one of `forwarded` and `denied` is given.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// The request reached the upstream, in its last pass like this.
    #[serde(default)]
    pub forwarded: Option<Forwarded>,
    /// The filter answered by itself, like this. The upstream saw nothing, or the passes before.
    #[serde(default)]
    pub denied: Option<Denied>,
    /// How many passes reached the upstream, where redirects are followed: otherwise one of a request
    /// that is forwarded, none of one that is denied.
    #[serde(default)]
    pub passes: Option<usize>,
    /// What the client got of a request that was forwarded.
    #[serde(default)]
    pub response: Option<Response>,
    /// The request was forwarded, but its response held back: the filter answered by itself, like this.
    #[serde(default)]
    pub blocked: Option<Denied>,
    /// Properties that the filter has left for the access log, or not where there is no value.
    #[serde(default)]
    pub properties: BTreeMap<String, Option<String>>,
    /// How many requests the Tenant Manager got during this step, where that matters.
    #[serde(default)]
    pub tm_calls: Option<usize>,
    /// What the last request to the Tenant Manager during this step was like.
    #[serde(default)]
    pub tm_request: Option<Forwarded>,
    /// How many requests the identity provider got during this step, where that matters and where
    /// nothing else makes it ask: every worker and the main thread fetch by themselves too.
    #[serde(default)]
    pub idp_calls: Option<usize>,
    /// What the last request to the identity provider during this step was like.
    #[serde(default)]
    pub idp_request: Option<Forwarded>,
    /// Substrings that no log line of this step may hold.
    #[serde(default)]
    pub log_absent: Vec<String>,
}

/// What a peer received.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forwarded {
    /// The request target as received; not looked at when absent.
    #[serde(default)]
    pub path: Option<String>,
    /// Header name → the values of its field lines in order, `[]` when it must be absent.
    /// A string is short for a list of one.
    #[serde(default)]
    pub headers: BTreeMap<String, Lines>,
    /// The body as received; not looked at when absent.
    #[serde(default)]
    pub body: Option<String>,
    /// Trailers as received, likewise.
    #[serde(default)]
    pub trailers: BTreeMap<String, Lines>,
}

/// A response as the client sees it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Response {
    /// HTTP status; 200 when absent.
    #[serde(default = "ok")]
    pub status: u16,
    /// Response headers, as in [`Forwarded`].
    #[serde(default)]
    pub headers: BTreeMap<String, Lines>,
    /// The body as received; not looked at when absent.
    #[serde(default)]
    pub body: Option<String>,
    /// Trailers as received, likewise. An upstream sends them to whoever says `te: trailers`.
    #[serde(default)]
    pub trailers: BTreeMap<String, Lines>,
}

/// A denial as the client sees it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Denied {
    /// HTTP status.
    pub status: u16,
    /// The member `code` of the body. The body must be exactly `code`, `title`, `message`.
    /// Absent for a gRPC reply.
    #[serde(default)]
    pub code: Option<String>,
    /// The member `title`; not looked at when absent.
    #[serde(default)]
    pub title: Option<String>,
    /// The member `message`; not looked at when absent.
    #[serde(default)]
    pub message: Option<String>,
    /// Response headers, as in [`Forwarded`].
    #[serde(default)]
    pub headers: BTreeMap<String, Lines>,
}

/// The values of a header's field lines.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Lines {
    /// One field line.
    One(String),
    /// Any number of them, none included.
    Many(Vec<String>),
}

/// A credential.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Token {
    /// A valid token of this tenant, signed with the key `main-rs256`.
    Tenant(String),
    /// Anything else.
    Made(Box<Made>),
}

/// A token made to measure.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Made {
    /// A name under which the token is kept: the first request of a case that says it makes the
    /// token, later ones send the same bytes, whatever else they say.
    #[serde(default)]
    pub kept: Option<String>,
    /// The whole credential as it stands; nothing else is looked at.
    #[serde(default)]
    pub raw: Option<String>,
    /// The tenant, put into `tenantId`; absent leaves the claim out.
    #[serde(default)]
    pub tenant: Option<String>,
    /// The key that signs, `main-rs256` when absent. Chooses `alg` and `kid` too.
    #[serde(default)]
    pub key: Option<String>,
    /// The algorithm of the signature, where the header's is not it.
    #[serde(default)]
    pub signed_as: Option<String>,
    /// Merge patch over the JOSE header `{"alg":…,"kid":…,"typ":"JWT"}`.
    #[serde(default)]
    pub header: Option<Value>,
    /// Merge patch over the claims `{"iss":…,"aud":"api","sub":"user-1","iat":now,"exp":now+3600,"tenantId":…}`.
    /// `{ $now: -5 }` stands for the time of sending minus five seconds, as a number.
    #[serde(default)]
    pub claims: Option<Value>,
    /// The JOSE header as text instead, for what is not a JSON object.
    #[serde(default)]
    pub raw_header: Option<String>,
    /// The claims as text instead; `$NOW+n` and `$NOW-n` are replaced.
    #[serde(default)]
    pub raw_claims: Option<String>,
    /// What is done to the finished token.
    #[serde(default)]
    pub damage: Option<Damage>,
}

/// What is done to a finished token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Damage {
    /// One bit of the signature is flipped.
    FlipSignature,
    /// The claims are exchanged for those of tenant `globex` after signing.
    SwapClaims,
    /// The signature is empty, its dot stays.
    DropSignature,
    /// The signature and its dot are gone.
    DropThirdPart,
    /// A fourth part is added.
    AddPart,
    /// The header part carries its `=` padding. The signature is made over the padded text, so
    /// that the padding is the only fault.
    Pad,
    /// The last character of the signature gets non-zero trailing bits.
    TrailingBits,
    /// The signature is cut to half.
    HalveSignature,
    /// The signature is as long as it was, and all zeros.
    ZeroSignature,
}

fn one() -> usize {
    1
}

fn ok() -> u16 {
    200
}

fn get() -> String {
    "GET".to_owned()
}

fn accounts() -> String {
    "/v1/accounts".to_owned()
}
