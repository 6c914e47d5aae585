//! From the document as written to a configuration that cannot be wrong.

mod api_keys;
mod auth;
mod environment;
mod errors;
mod events;
mod issuer;
mod rate_limit;
mod scope;
mod tenant_manager;

use std::num::NonZeroUsize;
use std::ops::RangeInclusive;

use super::error::{ConfigError, Pointer, Problem, shown};
use super::raw::{self, RawConfig};
use super::read::{self, unacceptable};
use super::*;
use crate::fingerprint::fingerprint;

/// A configuration, and what its author should know besides.
#[derive(Debug)]
pub struct Compiled {
    /// What to run.
    pub plugin: Plugin,
    /// Keys that were refused while their sets stay usable. Each is a warning and a count.
    pub warnings: Vec<ConfigError>,
}

/// Compiles a document, whose silence the environment of the VM fills.
///
/// # Errors
///
/// Every fault that was found: of shape, then of the environment, then in the order of the
/// document's members. With `enabled: false` faults of shape, of names and impossible values are
/// reported, missing requirements are not.
pub fn compile(text: &[u8], env: &Environment) -> Result<Compiled, Vec<ConfigError>> {
    let (mut raw, shape) = read::read(text);
    let mut faults = Faults {
        demanding: false,
        list: shape,
        filled: Vec::new(),
        warnings: Vec::new(),
        claimed: Vec::new(),
    };
    environment::fill(&mut raw, env, &mut faults);
    let enabled = faults.demanding;
    let root = Pointer::default();
    if raw.version.is_none() {
        faults.always_missing(root.child("version"), "`v1`");
    }
    let config = config(raw, fingerprint(text), &mut faults, env);
    if !faults.list.is_empty() {
        return Err(faults.list);
    }
    let plugin = match config {
        Some(config) if enabled => Plugin::MultiTenant(Box::new(config)),
        _ if enabled => {
            // Every way to `None` reports a fault, so this cannot be reached; if it were, the
            // filter must not load.
            return Err(vec![ConfigError {
                pointer: root,
                problem: Problem::More,
            }]);
        }
        _ => Plugin::SingleTenant,
    };
    Ok(Compiled {
        plugin,
        warnings: faults.warnings,
    })
}

/// Collects faults. Of a place that is already faulty nothing more is said.
struct Faults {
    /// Whether missing requirements are faults.
    demanding: bool,
    list: Vec<ConfigError>,
    /// Places that the environment has filled, each with the variable that did.
    filled: Vec<(Pointer, &'static str)>,
    warnings: Vec<ConfigError>,
    /// Headers that have a meaning already.
    claimed: Vec<HeaderName>,
}

impl Faults {
    fn push(&mut self, pointer: Pointer, problem: Problem) {
        let is_whole = |fault: &ConfigError| matches!(fault.problem, Problem::Count { .. }) && fault.pointer != pointer;
        if !self
            .list
            .iter()
            .any(|fault| fault.pointer.touches(&pointer) && !is_whole(fault))
        {
            let problem = self.traced(&pointer, problem);
            self.list.push(ConfigError { pointer, problem });
        }
    }

    /// Says of a value that does not stand in the document where it does.
    fn traced(&self, pointer: &Pointer, problem: Problem) -> Problem {
        let filled = self.filled.iter().find(|(place, _)| place.touches(pointer));
        match (filled, problem) {
            (Some((_, name)), Problem::Unacceptable { found, accepted }) => Problem::Unacceptable {
                found: format!("{found} (the environment variable {name})"),
                accepted,
            },
            (_, problem) => problem,
        }
    }

    /// A variable that the document names, and that has nothing to give.
    fn unset(&mut self, pointer: Pointer, env: &Environment, name: &str) {
        if self.demanding || env.is_unreadable(name) {
            self.push(pointer, unacceptable(env.absence(name), VARIABLE));
        }
    }

    /// A fault of a list as a whole: it hides none of its elements and is hidden by none.
    fn push_whole(&mut self, pointer: Pointer, problem: Problem) {
        if !self.list.iter().any(|fault| fault.pointer == pointer) {
            self.list.push(ConfigError { pointer, problem });
        }
    }

    fn always_missing(&mut self, pointer: Pointer, accepted: &str) {
        let accepted = accepted.to_owned();
        self.push(pointer, Problem::Missing { accepted });
    }

    fn missing(&mut self, pointer: Pointer, accepted: &str) {
        if self.demanding {
            self.always_missing(pointer, accepted);
        }
    }

    fn refuse<T>(&mut self, pointer: Pointer, found: impl Into<String>, accepted: &str) -> Option<T> {
        self.push(pointer, unacceptable(found, accepted));
        None
    }

    /// Gives a header its one meaning. A second one, also under a look-alike, is a fault: a
    /// credential must not be scoped like a key, nor a key emitted like a tenant.
    fn claim(&mut self, pointer: Pointer, name: &HeaderName) {
        if self.claimed.iter().any(|other| other.folds_like(name)) {
            self.push(
                pointer,
                unacceptable(quoted(name.as_str()), "a header that nothing else in the document uses"),
            );
        }
        self.claimed.push(name.clone());
    }

    /// A text that must be there and parse. What does not is shown.
    fn required<T>(
        &mut self,
        pointer: Pointer,
        text: Option<String>,
        accepted: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        self.required_told(pointer, text, quoted, accepted, parse)
    }

    /// Like [`Faults::required`], with what a fault says of a text that does not parse.
    fn required_told<T>(
        &mut self,
        pointer: Pointer,
        text: Option<String>,
        told: fn(&str) -> String,
        accepted: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        match text {
            Some(text) => parse(&text).or_else(|| self.refuse(pointer, told(&text), accepted)),
            None => {
                self.missing(pointer, accepted);
                None
            }
        }
    }

    /// A whole number within bounds, or its default.
    fn number<T: TryFrom<u64>>(
        &mut self,
        pointer: Pointer,
        value: Option<raw::Number>,
        default: u64,
        bounds: RangeInclusive<u64>,
    ) -> Option<T> {
        T::try_from(self.bounded(pointer, value, default, bounds)?).ok()
    }

    fn bounded(
        &mut self,
        pointer: Pointer,
        value: Option<raw::Number>,
        default: u64,
        bounds: RangeInclusive<u64>,
    ) -> Option<u64> {
        let number = match &value {
            None => Some(default),
            Some(value) => value.as_u64().filter(|number| bounds.contains(number)),
        };
        if number.is_none() {
            let found = match &value {
                Some(serde_json::Value::Number(number)) => format!("`{number}`"),
                other => other.as_ref().map_or("nothing", read::describe).to_owned(),
            };
            let accepted = format!("a whole number from {} to {}", bounds.start(), bounds.end());
            self.push(pointer, unacceptable(found, &accepted));
        }
        number
    }

    /// Whole seconds within bounds, or their default, as milliseconds.
    fn milliseconds(
        &mut self,
        pointer: Pointer,
        value: Option<raw::Number>,
        default: u64,
        bounds: RangeInclusive<u64>,
    ) -> Option<u64> {
        let seconds: u64 = self.number(pointer, value, default, bounds)?;
        seconds.checked_mul(1_000)
    }

    fn cluster(&mut self, pointer: Pointer, name: Option<String>) -> Option<String> {
        self.required(pointer, name, "the name of an Envoy cluster", visible)
    }

    fn authority(&mut self, pointer: Pointer, text: Option<String>) -> Option<String> {
        self.required_told(pointer, text, untold, "a host name, with a port where needed", |text| {
            visible(text).filter(|text| !text.contains(['/', '@', '?', '#']))
        })
    }
}

/// What is said of an authority or a path that cannot be used: a credential may stand in it.
fn untold(_: &str) -> String {
    "an unusable text".to_owned()
}

fn visible(text: &str) -> Option<String> {
    (!text.is_empty() && text.len() <= 255 && text.bytes().all(|b| b.is_ascii_graphic())).then(|| text.to_owned())
}

/// A text of the document as faults show it.
fn quoted(text: &str) -> String {
    format!("`{}`", shown(text))
}

const VARIABLE: &str = "the name of one that `vm_config.environment_variables` gives it";
const NAME: &str = "a letter or digit, then letters, digits, `-` and `_`, at most 256 bytes";
const PREFIX: &str =
    "one or more `/`-separated segments of letters, digits, `-`, `.`, `_`, `~`, none empty or dots only";
const HEADER: &str = "a lower-case header field name that is not a pseudo-header and that HTTP itself does not use";

fn config(raw: RawConfig, fingerprint: u64, faults: &mut Faults, env: &Environment) -> Option<Config> {
    let root = Pointer::default();
    let service = faults.required(root.child("service"), raw.service, NAME, Name::new);
    let environment = match raw.environment {
        None => {
            if raw.events.is_some() {
                faults.missing(
                    root.child("environment"),
                    "a name: `events` takes those of this environment only",
                );
            }
            Some(None)
        }
        some => faults
            .required(root.child("environment"), some, NAME, Name::new)
            .map(Some),
    };
    let paths = paths(raw.paths.unwrap_or_default(), &root.child("paths"), faults);
    let modules = modules(raw.modules, service.as_ref(), &root.child("modules"), faults);
    let tenant_id = tenant_id_rules(raw.tenant_id.unwrap_or_default(), &root.child("tenant_id"), faults);
    let auth = auth::auth(raw.auth, tenant_id.as_ref(), &root.child("auth"), faults, env);
    let manager_at = root.child("tenant_manager");
    let has_tenant_manager =
        raw.tenant_manager.is_some() || faults.list.iter().any(|fault| fault.pointer.touches(&manager_at));
    let tenant_manager = match raw.tenant_manager {
        Some(block) => tenant_manager::tenant_manager(block, &manager_at, faults, env).map(Some),
        None => Some(None),
    };
    let surroundings = scope::Surroundings {
        has_record: has_tenant_manager,
        public: paths.as_ref().map(|paths| paths.public.as_slice()),
        tenant_claim: tenant_id.as_ref().map(|rules| rules.claim.as_str()),
    };
    let scope = scope::scope(
        raw.scope.unwrap_or_default(),
        &surroundings,
        &root.child("scope"),
        faults,
    );
    let enforce = enforce(
        raw.enforce.unwrap_or_default(),
        has_tenant_manager,
        &root.child("enforce"),
        faults,
    );
    let rate_limit = match raw.rate_limit {
        Some(block) => rate_limit::rate_limit(block, tenant_id.as_ref(), &root.child("rate_limit"), faults).map(Some),
        None => Some(None),
    };
    let telemetry = telemetry(raw.telemetry.unwrap_or_default(), &root.child("telemetry"), faults);
    if raw.events.is_some() && !has_tenant_manager {
        faults.missing(
            manager_at,
            "a block: without one there is nothing that `events` could keep up to date",
        );
    }
    let events = match raw.events {
        Some(block) => {
            let public = paths.as_ref().map(|paths| paths.public.as_slice());
            events::events(block, public, &root.child("events"), faults, env).map(Some)
        }
        None => Some(None),
    };
    let errors = errors::errors(raw.errors.unwrap_or_default(), &root.child("errors"), faults);
    let scope = scope?;
    let mut auth = auth?;
    auth.kept_claims
        .extend(scope.claims.iter().map(|(claim, _)| claim.clone()));
    Some(Config {
        fingerprint,
        service: service?,
        environment: environment?,
        enforce: enforce?,
        reports_only: raw.enforcement == Some(raw::Enforcement::Report),
        paths: paths?,
        modules: modules?,
        auth,
        tenant_id: tenant_id?,
        tenant_manager: tenant_manager?,
        rate_limit: rate_limit?,
        scope,
        telemetry: telemetry?,
        events: events?,
        errors,
    })
}

fn enforce(raw: raw::RawEnforce, has_tenant_manager: bool, at: &Pointer, faults: &mut Faults) -> Option<Enforce> {
    let cut_streams = raw.cut_streams.unwrap_or(false);
    if cut_streams && !has_tenant_manager {
        return faults.refuse(
            at.child("cut_streams"),
            "true",
            "nothing without `tenant_manager`: no tenant is ever refused",
        );
    }
    Some(Enforce { cut_streams })
}

fn telemetry(raw: raw::RawTelemetry, at: &Pointer, faults: &mut Faults) -> Option<Telemetry> {
    let max_tenants = faults.number(at.child("max_tenants"), raw.max_tenants, 1_000, 1..=10_000)?;
    Some(Telemetry {
        labelled_tenants: raw.tenant_label.unwrap_or(false).then_some(max_tenants),
    })
}

fn paths(raw: raw::RawPaths, at: &Pointer, faults: &mut Faults) -> Option<Paths> {
    let public = match raw.public {
        None => ["/health", "/version", "/swagger"]
            .iter()
            .map(|prefix| {
                Some(PublicPath {
                    prefix: Prefix::parse(prefix)?,
                    methods: None,
                })
            })
            .collect(),
        Some(rules) => {
            let at = at.child("public");
            all(rules, |index, rule| {
                let at = at.child(index);
                let prefix = faults.required(at.child("prefix"), rule.prefix, PREFIX, Prefix::parse);
                let methods = match rule.methods {
                    None => Some(None),
                    Some(names) => methods(names, &at.child("methods"), faults).map(Some),
                };
                Some(PublicPath {
                    prefix: prefix?,
                    methods: methods?,
                })
            })
        }
    };
    Some(Paths {
        public: public?,
        reject_hazardous: raw.hazardous != Some(raw::Hazardous::Protect),
        allow_connect: raw.connect == Some(raw::Connect::Allow),
    })
}

/// Whether some public prefix covers a path or is covered by it.
fn is_partly_public(public: Option<&[PublicPath]>, prefix: &Prefix) -> bool {
    public
        .unwrap_or_default()
        .iter()
        .any(|rule| rule.prefix.overlaps(prefix))
}

fn methods(names: Vec<String>, at: &Pointer, faults: &mut Faults) -> Option<Vec<String>> {
    if names.is_empty() {
        return faults.refuse(
            at.clone(),
            "an empty list",
            "at least one method, or no `methods` for any",
        );
    }
    all(names, |index, name| {
        if name == "CONNECT" || name == "TRACE" || name.is_empty() || !name.bytes().all(|b| b.is_ascii_uppercase()) {
            return faults.refuse(
                at.child(index),
                quoted(&name),
                "an upper-case method other than `CONNECT` and `TRACE`",
            );
        }
        Some(name)
    })
}

fn modules(raw: Option<raw::RawModules>, service: Option<&Name>, at: &Pointer, faults: &mut Faults) -> Option<Modules> {
    let Some(raw) = raw else {
        return Some(Modules {
            from_route: false,
            default: service.cloned(),
            routes: Vec::new(),
        });
    };
    let default = match raw.default {
        None => Some(None),
        some => faults.required(at.child("default"), some, NAME, Name::new).map(Some),
    };
    let routes_at = at.child("routes");
    let routes = all(raw.routes.unwrap_or_default(), |index, route| {
        let at = routes_at.child(index);
        let prefix = faults.required(at.child("prefix"), route.prefix, PREFIX, Prefix::parse);
        let module = faults.required(at.child("module"), route.module, NAME, Name::new);
        Some(ModuleRoute {
            prefix: prefix?,
            module: module?,
        })
    });
    let modules = Modules {
        from_route: true,
        default: default?,
        routes: routes?,
    };
    if modules.default.is_none() && modules.routes.is_empty() {
        faults.missing(
            at.clone(),
            "`default`, `routes` or both: with neither every path is refused",
        );
    }
    Some(modules)
}

fn tenant_id_rules(raw: raw::RawTenantId, at: &Pointer, faults: &mut Faults) -> Option<TenantIdRules> {
    let claim = raw.claim.unwrap_or_else(|| "tenantId".to_owned());
    if claim.is_empty() || claim.len() > 256 {
        return faults.refuse(at.child("claim"), quoted(&claim), "a claim name of 1 to 256 bytes");
    }
    Some(TenantIdRules {
        claim,
        fold_uuid: raw.fold_uuid.unwrap_or(false),
    })
}

/// Compiles every element, also after one has failed, so that all faults are found.
fn all<T, U>(list: impl IntoIterator<Item = T>, mut compile: impl FnMut(usize, T) -> Option<U>) -> Option<Vec<U>> {
    let mut compiled = Vec::new();
    let mut is_whole = true;
    for (index, element) in list.into_iter().enumerate() {
        match compile(index, element) {
            Some(element) => compiled.push(element),
            None => is_whole = false,
        }
    }
    is_whole.then_some(compiled)
}
