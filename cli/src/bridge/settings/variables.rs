//! The variables that concern the bridge.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::{CA_CERT, ENVIRONMENT, EVENTS_KEY, Fault, HOST, PASSWORD, PORT, TLS};

const REDIS_PREFIX: &str = "MULTI_TENANT_REDIS_";
const REDIS: [&str; 5] = [HOST, PORT, PASSWORD, TLS, CA_CERT];
const OTHERS: [&str; 2] = [ENVIRONMENT, EVENTS_KEY];

/// What the environment of the process says, as far as it concerns the bridge. No `Debug`: it holds secrets.
#[derive(Default)]
pub(crate) struct Variables {
    values: BTreeMap<&'static str, String>,
    faults: Vec<Fault>,
}

impl Variables {
    /// Picks what concerns the bridge out of an environment ([`std::env::vars_os`]).
    pub(crate) fn of(environment: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut variables = Self::default();
        for (name, value) in environment {
            // A name that is no UTF-8 is none of ours.
            let Some(name) = name.to_str() else { continue };
            let known = REDIS.iter().chain(&OTHERS).find(|known| **known == name);
            match (known, value.into_string()) {
                (None, _) if name.starts_with(REDIS_PREFIX) => variables.faults.push(unknown(name)),
                (None, _) => {}
                (Some(_), Ok(value)) if value.is_empty() => {}
                (Some(known), Ok(value)) => drop(variables.values.insert(known, value)),
                (Some(known), Err(_)) => variables.faults.push(Fault::new(*known, "is not UTF-8")),
            }
        }
        variables.faults.sort_by_key(ToString::to_string);
        variables
    }

    /// What a variable says; one that says nothing is not there.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// What is wrong with names and encodings.
    pub(super) fn faults(&self) -> Vec<Fault> {
        self.faults.clone()
    }
}

/// A name that looks like ours and is not, so that what was meant would silently not be done.
fn unknown(name: &str) -> Fault {
    let rest = |name: &str| name.strip_prefix(REDIS_PREFIX).unwrap_or_default().to_owned();
    // Kubernetes describes a Service named `multi-tenant-redis` in variables of these forms.
    let link = rest(name).starts_with("SERVICE_") || rest(name).starts_with("PORT_");
    if link {
        let what = "unknown; it looks like a service link of Kubernetes: set `enableServiceLinks: false` in the pod";
        return Fault::new(name, what);
    }
    // Prefers what begins alike: `PASS` is more of `PASSWORD` than of `PORT`.
    let alike = |known: &&str| strsim::jaro_winkler(&rest(name), &rest(known));
    match REDIS.iter().max_by(|one, other| alike(one).total_cmp(&alike(other))) {
        Some(nearest) => Fault::new(name, format!("unknown; the nearest known variable is {nearest}")),
        None => Fault::new(name, "unknown"),
    }
}
