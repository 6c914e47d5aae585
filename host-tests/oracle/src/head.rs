//! The head of a request as the upstream must see it.

use crate::scoping::{self, Kind};

/// A field line.
pub type Line = (Vec<u8>, Vec<u8>);

/// A header with keys in it, and what its lines become.
pub type Keys = (&'static str, Vec<Vec<u8>>);

/// What is owned and scoped.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Headers that only the filter sets, besides every `x-tenant-*`.
    pub owned: Vec<&'static str>,
    /// Headers with keys in them.
    pub scoped: Vec<(&'static str, Kind)>,
    /// Headers that go besides.
    pub dropped: Vec<&'static str>,
    /// Whether a header may name another path than the target does.
    pub keeps_paths: bool,
}

/// Where the lines stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// They will be scoped.
    Tenant,
    /// They will not: the head of a public request, trailers.
    Nobody,
}

const PATHS: [&str; 2] = ["x-original-url", "x-rewrite-url"];
const METHODS: [&str; 3] = ["x-http-method-override", "x-http-method", "x-method-override"];

/// A name as a server may know it that has variables for headers.
#[must_use]
pub fn folded(name: &[u8]) -> String {
    let mut folded = String::new();
    for byte in name {
        let c = char::from(byte.to_ascii_lowercase());
        let c = if c.is_ascii_alphanumeric() { c } else { '-' };
        if c != '-' || !folded.ends_with('-') {
            folded.push(c);
        }
    }
    folded
}

/// The lines that only the filter may set, and those that look like them.
#[must_use]
pub fn is_owned(rules: &Rules, name: &[u8]) -> bool {
    let read = folded(name);
    !name.starts_with(b":")
        && (read.starts_with("x-tenant-") || rules.owned.iter().any(|own| folded(own.as_bytes()) == read))
}

/// Whether a line must not reach the upstream as it is.
#[must_use]
pub fn must_go(rules: &Rules, name: &[u8], place: Place) -> bool {
    if name.starts_with(b":") {
        return false;
    }
    let read = folded(name);
    let plain = name.to_ascii_lowercase();
    let may_exchange = place == Place::Nobody || !rules.keeps_paths;
    is_owned(rules, name)
        || rules.dropped.iter().any(|dropped| dropped.as_bytes() == plain)
        || rules.scoped.iter().any(|(scoped, _)| {
            folded(scoped.as_bytes()) == read && (place == Place::Nobody || scoped.as_bytes() != plain)
        })
        || (may_exchange && PATHS.contains(&&*read))
        || (place == Place::Nobody && METHODS.contains(&&*read))
}

/// The lines that stay, in their order.
#[must_use]
pub fn clean(rules: &Rules, lines: &[Line], place: Place) -> Vec<Line> {
    lines
        .iter()
        .filter(|(name, _)| !must_go(rules, name, place))
        .cloned()
        .collect()
}

/// The lines of each scoped header in the tenant's scope; `None` when one of them is refused.
#[must_use]
pub fn keys(rules: &Rules, lines: &[Line], tenant: &str) -> Option<Vec<Keys>> {
    rules
        .scoped
        .iter()
        .map(|(name, kind)| {
            let of_name = lines
                .iter()
                .filter(|(line, _)| line.eq_ignore_ascii_case(name.as_bytes()));
            let scoped: Option<Vec<_>> = of_name
                .map(|(_, value)| scoping::scoped(*kind, value, tenant))
                .collect();
            Some((*name, scoped?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        Rules {
            owned: vec!["x-user"],
            scoped: vec![("x-key", Kind::Storage)],
            dropped: vec!["authorization"],
            keeps_paths: true,
        }
    }

    fn left(names: &[&str], place: Place) -> Vec<String> {
        let lines: Vec<Line> = names
            .iter()
            .map(|name| (name.as_bytes().to_vec(), Vec::new()))
            .collect();
        let left = clean(&rules(), &lines, place);
        left.into_iter()
            .map(|(name, _)| String::from_utf8(name).unwrap_or_default())
            .collect()
    }

    #[test]
    fn what_looks_like_an_owned_name_goes() {
        let names = ["X_User", "x-tenant-x", "x.tenant..id", "Authorization", "x_key"];
        assert!(left(&names, Place::Tenant).is_empty());
        let names = ["x-key", "x-tenant", ":path", "xuser", "x-http-method"];
        assert_eq!(left(&names, Place::Tenant), names);
        assert_eq!(left(&names, Place::Nobody), ["x-tenant", ":path", "xuser"]);
    }

    #[test]
    fn every_line_of_a_scoped_header_is_scoped_or_none() {
        let line = |value: &str| (b"X-Key".to_vec(), value.as_bytes().to_vec());
        let scoped = keys(&rules(), &[line("a"), line("b")], "acme");
        assert_eq!(
            scoped,
            Some(vec![("x-key", vec![b"acme/a".to_vec(), b"acme/b".to_vec()])])
        );
        assert_eq!(keys(&rules(), &[line("a"), line("..")], "acme"), None);
    }
}
