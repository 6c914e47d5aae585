//! What the environment of the VM fills in, where the document is silent.
//!
//! Member by member the document wins, and a variable whose member the document has is not looked
//! at. A variable without a text says nothing, as manifests leave one behind that have no value to
//! give; but `MULTI_TENANT_ENABLED` without one is a fault: what decides whether anything is
//! enforced must not get lost in silence.

use super::*;
use crate::config::env;
use crate::config::manager::{DISCOVERY_PATH, SETTINGS_PATH};

/// At most so many names are told.
const MAX_NAMES: usize = 16;

const URL_GRAMMAR: &str = "`http://` or `https://`, a host with a port where needed, and if need be a path of letters, \
                           digits, `-`, `.`, `_` and `~`; no user, no query, no fragment";

/// Fills the document as written, before it is judged, and settles whether the filter is enabled.
pub(super) fn fill(raw: &mut RawConfig, environment: &Environment, faults: &mut Faults) {
    for (name, nearest) in environment.misspelt().take(MAX_NAMES) {
        let accepted = format!("{nearest}, the nearest of the names that are known");
        faults.push(Pointer::variable(name), unacceptable("an unknown name", &accepted));
    }
    let mut source = Source { environment, faults };
    if raw.enabled.is_none() {
        raw.enabled = source.switch();
    }
    source.faults.demanding = raw.enabled == Some(true);
    source.text(&mut raw.service, "/service", env::SERVICE);
    source.text(&mut raw.environment, "/environment", env::ENVIRONMENT);

    if raw.tenant_manager.is_none() && source.says(env::URL) {
        raw.tenant_manager = Some(raw::RawTenantManager::default());
        source.faults.missing(
            Pointer::to("/tenant_manager/cluster"),
            "the name of an Envoy cluster, through which MULTI_TENANT_URL is reached",
        );
    }
    if let Some(manager) = &mut raw.tenant_manager {
        source.manager(manager);
    }
}

/// Where the values come from, and where their faults go.
struct Source<'a> {
    environment: &'a Environment,
    faults: &'a mut Faults,
}

impl<'a> Source<'a> {
    fn says(&self, name: &str) -> bool {
        self.environment.is_unreadable(name) || self.environment.var(name).is_some_and(|value| !value.is_empty())
    }

    /// The text of a variable that is to fill the member at `at`.
    fn value(&mut self, at: &'static str, name: &'static str) -> Option<&'a str> {
        if !self.says(name) {
            return None;
        }
        self.faults.filled.push((Pointer::to(at), name));
        let value = self.environment.var(name);
        if value.is_none() {
            self.refuse(at, "a value that is not UTF-8", "UTF-8");
        }
        value
    }

    fn refuse(&mut self, at: &'static str, found: &str, accepted: &str) {
        self.faults.push(Pointer::to(at), unacceptable(found, accepted));
    }

    fn switch(&mut self) -> Option<bool> {
        const AT: &str = "/enabled";
        const ACCEPTED: &str = "`true`, `false`";
        if self.environment.var(env::ENABLED) == Some("") {
            self.refuse(AT, "an empty environment variable MULTI_TENANT_ENABLED", ACCEPTED);
            return None;
        }
        match self.value(AT, env::ENABLED)? {
            "true" => return Some(true),
            "false" => return Some(false),
            _ => self.refuse(AT, "another word", ACCEPTED),
        }
        None
    }

    fn text(&mut self, member: &mut Option<String>, at: &'static str, name: &'static str) {
        if member.is_none() {
            *member = self.value(at, name).map(str::to_owned);
        }
    }

    /// A whole number, in a unit of which the member counts `unit`.
    fn number(&mut self, member: &mut Option<raw::Number>, at: &'static str, name: &'static str, unit: u64) {
        if member.is_some() {
            return;
        }
        let Some(value) = self.value(at, name) else {
            return;
        };
        let digits = value.bytes().all(|b| b.is_ascii_digit());
        let number = value.parse::<u64>().ok().filter(|_| digits);
        match number.and_then(|number| number.checked_mul(unit)) {
            Some(number) => *member = Some(number.into()),
            None => self.refuse(at, "no whole number within reach", "a whole number, in digits"),
        }
    }

    fn manager(&mut self, manager: &mut raw::RawTenantManager) {
        self.url(manager);
        if manager.api_keys.is_none() && self.value("/tenant_manager/api_keys", env::API_KEY).is_some() {
            manager.api_keys = Some(vec![raw::RawSecret {
                value: None,
                env: Some(env::API_KEY.to_owned()),
            }]);
        }
        let cache = manager.cache.get_or_insert_default();
        let breaker = manager.breaker.get_or_insert_default();
        for (member, at, name, unit) in [
            (
                &mut manager.timeout_ms,
                "/tenant_manager/timeout_ms",
                env::TIMEOUT,
                1_000,
            ),
            (
                &mut cache.ttl_seconds,
                "/tenant_manager/cache/ttl_seconds",
                env::CACHE_TTL,
                1,
            ),
            (
                &mut breaker.threshold,
                "/tenant_manager/breaker/threshold",
                env::BREAKER_THRESHOLD,
                1,
            ),
            (
                &mut breaker.open_seconds,
                "/tenant_manager/breaker/open_seconds",
                env::BREAKER_TIMEOUT,
                1,
            ),
        ] {
            self.number(member, at, name, unit);
        }
    }

    /// The authority, and what stands in front of the default paths.
    fn url(&mut self, manager: &mut raw::RawTenantManager) {
        let at = match (&manager.authority, &manager.path, &manager.discovery) {
            (None, ..) => "/tenant_manager/authority",
            (_, None, _) => "/tenant_manager/path",
            (.., Some(raw::RawDiscovery { path: None, .. })) => "/tenant_manager/discovery/path",
            _ => return,
        };
        let Some(url) = self.value(at, env::URL) else {
            return;
        };
        let Some((authority, prefix)) = parts(url) else {
            self.refuse(at, "an unusable text", URL_GRAMMAR);
            return;
        };
        manager.authority.get_or_insert_with(|| authority.to_owned());
        if prefix.is_empty() {
            return;
        }
        let discovery = manager.discovery.as_mut().map(|discovery| &mut discovery.path);
        for (path, default) in [(Some(&mut manager.path), SETTINGS_PATH), (discovery, DISCOVERY_PATH)] {
            if let Some(path @ None) = path {
                *path = Some(format!("/{prefix}{default}"));
            }
        }
    }
}

/// Authority and path of a URL of at most 1024 bytes, the path without the slashes around it.
fn parts(url: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = url.split_once(':')?;
    let rest = rest.strip_prefix("//")?;
    let is_http = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let path = path.strip_suffix('/').unwrap_or(path);
    let is_plain = path.is_empty() || Prefix::parse(&format!("/{path}")).is_some();
    let is_host = visible(authority).is_some() && !authority.bytes().any(|b| b"@?#\\".contains(&b));
    (is_http && is_plain && is_host && url.len() <= 1_024).then_some((authority, path))
}
