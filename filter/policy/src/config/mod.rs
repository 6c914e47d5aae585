//! The configuration: one JSON document, compiled once into values that cannot be wrong.
//!
//! [`compile()`] gives a [`Plugin`], or every fault of the document at once. What is not written
//! takes the default that stands with its field below. A member that this version does not
//! know is a fault: a limit that is configured but not applied would be worse than none.

mod compile;
mod env;
mod error;
mod errors;
mod fingerprint;
mod manager;
mod raw;
mod read;

use std::fmt;

pub use compile::{Compiled, compile};
pub use env::Environment;
pub(crate) use error::shown;
pub use error::{ConfigError, Pointer, Problem};
pub use errors::{Errors, Override};
pub use manager::{Breaker, Cache, Discovery, OnUnavailable, PathTemplate, TenantManager};

use crate::authn::{AcceptedTypes, Issuer, KeySource, MetadataPath};
use crate::path::Prefix;
use crate::scope::HeaderName;
use crate::tenant_id::{TenantId, TenantIdRules};

/// What the document asks for.
#[derive(Debug)]
pub enum Plugin {
    /// `enabled: false`, the default: the filter is the identity.
    SingleTenant,
    /// Tenancy is enforced.
    MultiTenant(Box<Config>),
}

/// A compiled configuration.
#[derive(Debug)]
pub struct Config {
    /// The hash of the document: another one is another configuration.
    pub fingerprint: u64,
    /// `{service}` of the Tenant Manager's paths.
    pub service: ServiceName,
    /// Where this proxy runs: tenant events of another environment are not for it. There whenever
    /// `events` is.
    pub environment: Option<Name>,
    /// Stage 1.
    pub paths: Paths,
    /// Stage 1 too: which module a path belongs to.
    pub modules: Modules,
    /// Stage 2.
    pub auth: Auth,
    /// Stage 3.
    pub tenant_id: TenantIdRules,
    /// Stage 4; `None`: the verified claim is enough and nothing is asked.
    pub tenant_manager: Option<TenantManager>,
    /// `enforcement`: true for `report`: what would be denied is counted and forwarded without a tenant.
    pub reports_only: bool,
    /// `enforce`.
    pub enforce: Enforce,
    /// Stage 5; `None`: without limits.
    pub rate_limit: Option<RateLimit>,
    /// Stage 6.
    pub scope: Scope,
    /// `telemetry`.
    pub telemetry: Telemetry,
    /// Where tenant events arrive; `None`: nowhere. Only together with `tenant_manager`.
    pub events: Option<Events>,
    /// Denials in other words.
    pub errors: Errors,
}

/// `enforce`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Enforce {
    /// `cut_streams`: whether streams that were let go end when their tenant is refused. Default false.
    pub cut_streams: bool,
}

impl Config {
    /// Whether streams of a tenant that is refused are cut. Where nothing is denied, nothing is cut.
    pub fn cuts_streams(&self) -> bool {
        self.enforce.cut_streams && !self.reports_only
    }

    /// What is enforced, in one line for the log: names and numbers, nothing secret. `signatures`
    /// says who checks them.
    pub fn summary(&self, signatures: &str) -> String {
        let manager = self
            .tenant_manager
            .as_ref()
            .map_or("none", |manager| manager.cluster.as_str());
        format!(
            "service={} environment={} {} tenant_manager={manager} events={}",
            self.service.as_str(),
            self.environment.as_ref().map_or("none", Name::as_str),
            self.auth.summary(signatures),
            self.events.as_ref().map_or("off", |events| events.path.as_str()),
        )
    }
}

/// `paths`.
#[derive(Debug, Clone)]
pub struct Paths {
    /// `public`, in order. Default: `/health`, `/version`, `/swagger` with any method.
    pub public: Vec<PublicPath>,
    /// `hazardous`: true for `reject`, the default; false for `protect`.
    pub reject_hazardous: bool,
    /// `connect`: true for `allow`; default `deny`.
    pub allow_connect: bool,
}

/// One rule of `paths.public`.
#[derive(Debug, Clone)]
pub struct PublicPath {
    /// What is public.
    pub prefix: Prefix,
    /// With which methods; `None`: with any.
    pub methods: Option<Vec<String>>,
}

/// `modules`. Without the block there is one module, named like the service.
#[derive(Debug, Clone)]
pub struct Modules {
    /// Whether there is such a block: only then a route of the host may name the module. To ask for it
    /// costs every request a call, and not a cheap one.
    pub from_route: bool,
    /// The module of paths that no route covers; `None`: they are refused.
    pub default: Option<Module>,
    /// The first route that covers a path wins.
    pub routes: Vec<ModuleRoute>,
}

impl Modules {
    /// Every module that some path belongs to; one may come several times.
    pub fn all(&self) -> impl Iterator<Item = &Module> {
        self.routes.iter().map(|route| &route.module).chain(&self.default)
    }

    /// Whether some path belongs to the module of that name.
    pub fn knows(&self, name: &str) -> bool {
        self.all().any(|module| module.as_str() == name)
    }
}

/// One rule of `modules.routes`.
#[derive(Debug, Clone)]
pub struct ModuleRoute {
    /// The paths.
    pub prefix: Prefix,
    /// Their module.
    pub module: Module,
}

/// `auth`.
#[derive(Debug)]
pub struct Auth {
    /// Longest credential that is looked at, in bytes. Default 16384, at most 65536.
    pub max_token_bytes: usize,
    /// Whether a token without `exp` is refused. Default true.
    pub require_exp: bool,
    /// How far the clocks of issuer and node may differ, in seconds. Default 60, at most 600.
    pub leeway_seconds: u32,
    /// `typ` values that are accepted. Default `JWT` and `at+jwt`.
    pub accepted_types: AcceptedTypes,
    /// Whether the upstream receives the credential. Default true.
    pub forward_token: bool,
    /// Where the credential stands. Default `authorization`.
    pub header: HeaderName,
    /// Who may sign. Empty only in mode `upstream_metadata`, where it means anyone.
    pub issuers: Vec<Issuer>,
    /// `mode` and `upstream_metadata`.
    pub source: ClaimsSource,
    /// `token_cache`.
    pub token_cache: TokenCache,
    /// The claims that later stages read.
    pub kept_claims: Vec<String>,
}

impl Auth {
    fn summary(&self, signatures: &str) -> String {
        let issuers = self.issuers.len();
        if let ClaimsSource::Metadata(path) = &self.source {
            let (namespace, payload) = (shown(&path.namespace), shown(&path.payload));
            return format!("auth=upstream_metadata({namespace}/{payload}) issuers={issuers}");
        }
        let (mut keys, mut remote) = (0usize, 0usize);
        for issuer in &self.issuers {
            match issuer.keys() {
                KeySource::Inline(set) => keys = keys.saturating_add(set.len()),
                KeySource::Remote(_) => remote = remote.saturating_add(1),
                KeySource::Elsewhere => {}
            }
        }
        format!("auth=verify issuers={issuers} inline_keys={keys} remote_key_sets={remote} signatures={signatures}")
    }
}

/// Where claims come from.
#[derive(Debug, Clone)]
pub enum ClaimsSource {
    /// `mode: verify`, the default: from the token, once its signature holds.
    Credential,
    /// `mode: upstream_metadata`: from what a filter before this one has verified.
    Metadata(MetadataPath),
}

/// `auth.token_cache`, per worker.
#[derive(Debug, Clone, Copy)]
pub struct TokenCache {
    /// Most tokens remembered. Default 10000, at most 1000000; 0 remembers none.
    pub max_entries: usize,
    /// Most bytes taken, the tokens themselves and some 256 for each. Default 16 MiB, at most 256 MiB.
    pub max_bytes: usize,
    /// How long a token is remembered at most, in milliseconds. Default 300 s, 1 s to one day.
    pub ttl_ms: u64,
}

/// `scope`.
#[derive(Debug)]
pub struct Scope {
    /// Headers that the filter sets.
    pub emit: Emit,
    /// `headers`: what is scoped, in order.
    pub rules: Vec<ScopeRule>,
    /// `path`: prefixes of the object store, in order. No public path covers one, and none covers a
    /// public path.
    pub paths: Vec<Prefix>,
    /// `response`: what is un-scoped on the way back.
    pub response: Vec<ResponseRule>,
    /// `emit_claims`: which claim goes into which header.
    pub claims: Vec<(String, HeaderName)>,
    /// `properties`: whether other filters and the access log are told. Default false.
    pub properties: bool,
}

impl Scope {
    /// Whether there is anything that must not be scoped twice.
    pub fn has_keys(&self) -> bool {
        !self.rules.is_empty() || !self.paths.is_empty()
    }
}

/// `scope.emit`: what is told to the upstream, and under which header name.
#[derive(Debug)]
pub struct Emit {
    /// The tenant id, always. Default `x-tenant-id`.
    pub tenant_id: HeaderName,
    /// The record's `tenantSlug`.
    pub slug: Option<HeaderName>,
    /// `isolated` or `schema`.
    pub isolation_mode: Option<HeaderName>,
    /// The module's schema, in schema mode.
    pub schema: Option<HeaderName>,
    /// The module of the path.
    pub module: Option<HeaderName>,
    /// The module's RabbitMQ virtual host.
    pub vhost: Option<HeaderName>,
}

impl Emit {
    /// Whether the upstream is told where a tenant's data lies, by schema or vhost: only a record
    /// that names the tenant it is about will do then.
    pub fn tells_places(&self) -> bool {
        self.schema.is_some() || self.vhost.is_some()
    }
}

/// One rule of `scope.headers`.
#[derive(Debug)]
pub struct ScopeRule {
    /// The header whose field lines are scoped.
    pub name: HeaderName,
    /// How.
    pub kind: Kind,
    /// Redis keys only: whether glob characters are allowed.
    pub pattern: bool,
    /// Whether the absence of the header is refused.
    pub required: bool,
}

raw::word! {
    /// How a key is scoped to a tenant.
    pub enum Kind {
        /// An AMQP routing key: `{value}.{tenant}`.
        Routing = "routing_key",
        /// An AMQP binding key: `{value}.{tenant}`.
        Binding = "binding_key",
        /// A Redis key: `tenant:{tenant}:{value}`.
        Redis = "redis_key",
        /// An idempotency key: `tenant:{tenant}:{value}`.
        Idempotency = "idempotency_key",
        /// A path in an object store: `{tenant}/{value}`.
        Storage = "storage_key",
        /// The request's own path, in front of an object store: `{prefix}/{tenant}/{rest}`.
        StoragePath = "storage_path",
    }
}

/// One rule of `scope.response`.
#[derive(Debug)]
pub struct ResponseRule {
    /// The header whose field lines are un-scoped.
    pub name: HeaderName,
    /// How they are scoped.
    pub kind: Kind,
}

/// `rate_limit`.
#[derive(Debug, Clone)]
pub struct RateLimit {
    /// For tenants without an override.
    pub default: Limit,
    /// `overrides`, ordered by tenant, each tenant once.
    pub overrides: Vec<(TenantId, Limit)>,
    /// `shared_slots`, in sets of eight: how many tenants' limits the node keeps at once. Default 16384 slots, 8 to
    /// 1048576.
    pub shared_sets: u32,
    /// `headers`: whether callers are told of their limits. Default false.
    pub headers: bool,
}

impl RateLimit {
    /// The limit of a tenant.
    pub fn of(&self, tenant: &TenantId) -> &Limit {
        let place = self.overrides.binary_search_by(|(other, _)| other.cmp(tenant));
        place
            .ok()
            .and_then(|place| self.overrides.get(place))
            .map_or(&self.default, |(_, limit)| limit)
    }
}

/// How many requests a tenant may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// How many on average. Default 100, 1 to 1000000.
    pub requests_per_second: u32,
    /// How many at once. Default 200, 1 to 1000000.
    pub burst: u32,
}

/// `telemetry`.
#[derive(Debug, Clone, Copy)]
pub struct Telemetry {
    /// `tenant_label` and `max_tenants`: how many tenants have counters of their own; `None`: none.
    /// `max_tenants` is 1000 by default, 1 to 10000.
    pub labelled_tenants: Option<usize>,
}

/// `events`.
#[derive(Debug)]
pub struct Events {
    /// The path of the filter itself on which events arrive. No public path covers it, and it
    /// covers none.
    pub path: String,
    /// One or two values of `X-API-Key`.
    pub api_keys: Vec<Secret>,
}

/// A name by the grammar of a tenant id: `[a-zA-Z0-9][a-zA-Z0-9_-]*`, at most 256 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Name(std::rc::Rc<str>);

/// The service that the filter stands in front of.
pub type ServiceName = Name;

/// A part of a service with databases of its own.
pub type Module = Name;

impl Name {
    /// Checks the grammar; `None` when it is violated.
    pub fn new(text: &str) -> Option<Self> {
        crate::tenant_id::is_well_formed(text).then(|| Self(text.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A secret. It does not show itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret text.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The secret, for the one place that must send it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests;
