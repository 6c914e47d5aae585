//! The request's own path in front of an object store: `{prefix}/{tenant}/{rest}`, query kept.
//!
//! Rules in the order they are applied:
//!
//! 1. The first rule of `scope.path` whose prefix covers the path, byte for byte, scopes it.
//! 2. A path that only a lenient server would take for one under a prefix (`/Storage/x`,
//!    `//storage/x`, `/sto%72age/x`), or any hazardous one, cannot be scoped: it is refused.
//! 3. What follows the prefix is held to the rules of a storage key; the whole path to its length.

use super::storage;
use crate::path::{self, Prefix};
use crate::request::RequestHead;

/// What the rules of `scope.path` say of a request's path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// No prefix covers it.
    Elsewhere,
    /// The prefix covers it.
    Covered {
        /// The rule's prefix.
        prefix: Prefix,
        /// The whole target, query included.
        target: Vec<u8>,
    },
    /// It may lead under a prefix or not, depending on who reads it.
    Ambiguous,
}

impl Target {
    /// What `prefixes` say of the path of `head`.
    pub(super) fn of(prefixes: &[Prefix], head: &RequestHead<'_>) -> Self {
        let target = head.target().unwrap_or_default();
        if prefixes.is_empty() {
            return Self::Elsewhere;
        }
        let path = path::path_of(target);
        let is_plain = path::hazard(target).is_none();
        let covers = |prefix: &&Prefix| prefix.covers(path);
        // An absolute-form target is covered too, and cannot be put together again.
        match prefixes.iter().find(covers) {
            Some(prefix) if is_plain && target.starts_with(b"/") => Self::Covered {
                prefix: prefix.clone(),
                target: target.to_vec(),
            },
            Some(_) => Self::Ambiguous,
            None if !is_plain || prefixes.iter().any(|prefix| prefix.may_cover(path)) => Self::Ambiguous,
            // Whatever form that is: nobody knows what the next hop takes it for. `OPTIONS *` and `CONNECT`
            // have no path.
            None if !path.starts_with(b"/") && !matches!(path, b"" | b"*") => Self::Ambiguous,
            None => Self::Elsewhere,
        }
    }

    /// The target to go on with; `None`: as it is.
    ///
    /// # Errors
    ///
    /// Why it cannot be scoped.
    pub(super) fn scoped(&self, tenant: &str) -> Result<Option<Vec<u8>>, &'static str> {
        let Some((prefix, rest, query)) = self.parts()? else {
            return Ok(None);
        };
        let key = storage::key(rest, tenant)?;
        let mut scoped = format!("{}/{key}", prefix.as_str()).into_bytes();
        if scoped.len() > storage::MAX_BYTES {
            return Err("is too long");
        }
        scoped.extend_from_slice(query);
        Ok(Some(scoped))
    }

    /// Checks a target that an earlier pass has scoped.
    ///
    /// # Errors
    ///
    /// Why it cannot be left as it is.
    pub(super) fn check(&self, tenant: &str) -> Result<(), &'static str> {
        let Some((_, rest, _)) = self.parts()? else {
            return Ok(());
        };
        match storage::standing(rest, tenant) {
            super::Standing::Own(_) => Ok(()),
            super::Standing::Foreign | super::Standing::Unscoped => Err("is outside the tenant's scope"),
        }
    }

    fn parts(&self) -> Result<Option<Parts<'_>>, &'static str> {
        match self {
            Self::Elsewhere => Ok(None),
            Self::Ambiguous => Err("is ambiguous"),
            Self::Covered { prefix, target } => {
                let end = target.iter().position(|b| *b == b'?').unwrap_or(target.len());
                let (path, query) = target.split_at(end);
                let rest = prefix.rest(path).unwrap_or_default();
                Ok(Some((prefix, super::ascii(rest)?, query)))
            }
        }
    }
}

/// Prefix, what follows it, and the query with its `?`.
type Parts<'t> = (&'t Prefix, &'t str, &'t [u8]);

#[cfg(test)]
mod tests {
    use super::*;

    fn target(path: &str) -> Target {
        let prefixes = ["/storage", "/v1/blobs"].map(|prefix| Prefix::parse(prefix).unwrap());
        let fields: [(&[u8], &[u8]); 2] = [(b":method", b"GET"), (b":path", path.as_bytes())];
        Target::of(&prefixes, &RequestHead::new(&fields))
    }

    fn scoped(path: &str) -> Result<Option<String>, &'static str> {
        let scoped = target(path).scoped("acme")?;
        Ok(scoped.map(|bytes| String::from_utf8(bytes).unwrap()))
    }

    #[test]
    fn the_tenant_follows_the_prefix() {
        for (path, expected) in [
            ("/storage/a", "/storage/acme/a"),
            ("/storage/a/b?x=/../y&z", "/storage/acme/a/b?x=/../y&z"),
            ("/storage//a", "/storage/acme/a"),
            ("/storage/acme/a", "/storage/acme/acme/a"),
            ("/storage/globex/a", "/storage/acme/globex/a"),
            ("/storage/a%20b/", "/storage/acme/a%20b/"),
            ("/v1/blobs/a", "/v1/blobs/acme/a"),
        ] {
            assert_eq!(scoped(path), Ok(Some(expected.to_owned())), "{path}");
        }
        for path in [
            "/",
            "http://host/other",
            "/storages/a",
            "/v1/blob/a",
            "/a/storage/b",
            "/?/storage/a",
            "*",
        ] {
            assert_eq!(scoped(path), Ok(None), "{path}");
        }
    }

    #[test]
    fn what_may_be_read_as_a_prefix_is_refused() {
        for path in [
            "/Storage/a",
            "//storage/a",
            "/storage;v=1/a",
            "/sto%72age/a",
            "/sto%2572age/a",
            "/storage/",
            "/storage",
            "/storage?x",
            "/storage///",
            "/storage/../a",
            "/a/../storage/b",
            "/storage/a%2fb",
            "/storage/...",
            "/storage/a%00",
            "http://host/storage/a",
            "http://user@host/storage/a",
            "ftp://host/storage/a",
            "//host/storage/a",
            "///host//storage/a",
        ] {
            assert!(scoped(path).is_err(), "{path}");
        }
    }

    #[test]
    fn the_whole_path_is_bounded_and_the_query_is_not_counted() {
        let rest = |length: usize| "a".repeat(length - "/storage/acme/".len());
        assert!(scoped(&format!("/storage/{}?{}", rest(1_024), rest(2_000))).is_ok());
        assert!(scoped(&format!("/storage/{}", rest(1_025))).is_err());
    }

    #[test]
    fn a_path_that_was_scoped_before_must_still_be_inside() {
        for path in ["/storage/acme/a", "/storage/acme/a?x", "/other"] {
            assert_eq!(target(path).check("acme"), Ok(()), "{path}");
        }
        for path in [
            "/storage/a",
            "/storage/globex/a",
            "/storage/acme",
            "/storage/acme/",
            "/Storage/acme/a",
        ] {
            assert!(target(path).check("acme").is_err(), "{path}");
        }
    }
}
