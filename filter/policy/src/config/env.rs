//! The environment variables of the VM, and which of their names mean something.

use std::ffi::OsString;
use std::fmt;

/// How every name of the canonical set begins but two, which others use as well.
const PREFIX: &str = "MULTI_TENANT_";

pub(super) const ENABLED: &str = "MULTI_TENANT_ENABLED";
pub(super) const SERVICE: &str = "APPLICATION_NAME";
pub(super) const ENVIRONMENT: &str = "ENVIRONMENT_NAME";
pub(super) const URL: &str = "MULTI_TENANT_URL";
pub(super) const TIMEOUT: &str = "MULTI_TENANT_TIMEOUT";
pub(super) const CACHE_TTL: &str = "MULTI_TENANT_CACHE_TTL_SEC";
pub(super) const BREAKER_THRESHOLD: &str = "MULTI_TENANT_CIRCUIT_BREAKER_THRESHOLD";
pub(super) const BREAKER_TIMEOUT: &str = "MULTI_TENANT_CIRCUIT_BREAKER_TIMEOUT_SEC";
pub(super) const API_KEY: &str = "MULTI_TENANT_SERVICE_API_KEY";

/// Every name with the prefix that means something: those that the filter reads, then those that
/// mean something to services, or to the bridge, and nothing here.
const KNOWN: [&str; 15] = [
    ENABLED,
    URL,
    TIMEOUT,
    CACHE_TTL,
    BREAKER_THRESHOLD,
    BREAKER_TIMEOUT,
    API_KEY,
    "MULTI_TENANT_MAX_TENANT_POOLS",
    "MULTI_TENANT_IDLE_TIMEOUT_SEC",
    "MULTI_TENANT_CONNECTIONS_CHECK_INTERVAL_SEC",
    "MULTI_TENANT_REDIS_HOST",
    "MULTI_TENANT_REDIS_PORT",
    "MULTI_TENANT_REDIS_PASSWORD",
    "MULTI_TENANT_REDIS_CA_CERT",
    "MULTI_TENANT_REDIS_TLS",
];

/// The environment variables of the VM. It shows names, never values: secrets are among them.
#[derive(Default)]
pub struct Environment {
    /// `None`: a value that is not UTF-8.
    variables: Vec<(String, Option<String>)>,
}

impl Environment {
    /// Takes variables, as `std::env::vars_os` gives them. Of two of one name the first counts.
    pub fn of<N: Into<OsString>, V: Into<OsString>>(variables: impl IntoIterator<Item = (N, V)>) -> Self {
        let variables = variables.into_iter().map(|(name, value)| {
            let name = name.into().to_string_lossy().into_owned();
            (name, value.into().into_string().ok())
        });
        Self {
            variables: variables.collect(),
        }
    }

    /// The value of a variable; `None`: there is none that is UTF-8.
    pub fn var(&self, name: &str) -> Option<&str> {
        self.find(name)?.as_deref()
    }

    /// What is wrong where [`Environment::var`] has nothing to give.
    pub(super) fn absence(&self, name: &str) -> &'static str {
        if self.is_unreadable(name) {
            "a variable whose value is not UTF-8"
        } else {
            "a variable that the VM does not have"
        }
    }

    /// Whether there is a variable of that name, whose value is not UTF-8.
    pub(super) fn is_unreadable(&self, name: &str) -> bool {
        self.find(name).is_some_and(Option::is_none)
    }

    /// The names that look like ours and are not, each with the one that is meant most likely.
    pub(super) fn misspelt(&self) -> impl Iterator<Item = (&str, &'static str)> {
        self.variables.iter().filter_map(|(name, _)| {
            let rest = name.strip_prefix(PREFIX)?;
            (!KNOWN.contains(&name.as_str())).then(|| (name.as_str(), nearest(rest)))
        })
    }

    fn find(&self, name: &str) -> Option<&Option<String>> {
        self.variables
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, value)| value)
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.variables.iter().map(|(name, _)| name))
            .finish()
    }
}

/// The known name that takes the fewest changes to come to from `rest`, a name without the prefix;
/// of several the first.
fn nearest(rest: &str) -> &'static str {
    let known = KNOWN.iter().min_by_key(|known| {
        let known = known.strip_prefix(PREFIX).unwrap_or_default();
        distance(rest, known)
    });
    known.copied().unwrap_or(ENABLED)
}

/// How many bytes must be inserted and deleted to make one text of the other. A byte that is
/// replaced counts twice, so that a name that was cut short is near to the whole one; its case does
/// not count. Of a text longer than any known one, only the start is looked at.
fn distance(one: &str, other: &str) -> usize {
    // The distances of the start of `one` so far from every start of `other`.
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, x) in one.bytes().take(64).enumerate() {
        let mut diagonal = index;
        let mut left = index.saturating_add(1);
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (y, cell) in other.bytes().zip(row.iter_mut().skip(1)) {
            let above = *cell;
            *cell = if x.eq_ignore_ascii_case(&y) {
                diagonal
            } else {
                above.min(left).saturating_add(1)
            };
            (diagonal, left) = (above, *cell);
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests;
