//! Header names, and edits of a header map.

use std::borrow::Cow;

use crate::config::Emit;

/// A lower-case field name (RFC 9110 §5.1), not a pseudo-header.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HeaderName(String);

/// Names that HTTP or Envoy itself acts upon. Scoping or emitting one of them would break the
/// exchange, or hand the caller's credential to whoever reads a key.
const PROTOCOL: [&str; 16] = [
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-request-id",
];

impl HeaderName {
    /// A non-empty lower-case `token` of at most 128 bytes.
    pub fn parse(text: &str) -> Option<Self> {
        let valid = (1..=128).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&b));
        valid.then(|| Self(text.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the filter may set this header without breaking the exchange.
    pub fn may_be_rewritten(&self) -> bool {
        !PROTOCOL.contains(&self.as_str()) && !self.0.starts_with("x-envoy-")
    }

    /// Whether the name is in the filter's own `x-tenant-*`, by its folded form.
    pub fn is_reserved(&self) -> bool {
        fold(self.0.as_bytes()).starts_with(b"x-tenant-")
    }

    /// Whether a server that folds names would take the two for one.
    pub fn folds_like(&self, other: &Self) -> bool {
        fold(self.0.as_bytes()) == fold(other.0.as_bytes())
    }
}

impl Emit {
    /// The emitted headers, each with its member of the configuration.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, &HeaderName)> {
        [
            ("tenant_id", Some(&self.tenant_id)),
            ("slug", self.slug.as_ref()),
            ("isolation_mode", self.isolation_mode.as_ref()),
            ("schema", self.schema.as_ref()),
            ("module", self.module.as_ref()),
            ("vhost", self.vhost.as_ref()),
        ]
        .into_iter()
        .filter_map(|(member, name)| name.map(|name| (member, name)))
    }
}

/// One change to a header map. Applied in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// All field lines of the name go.
    Remove(Vec<u8>),
    /// One field line takes the place of all of that name.
    Set(Vec<u8>, Vec<u8>),
    /// A further field line.
    Add(Vec<u8>, Vec<u8>),
}

impl Edit {
    /// The name of the header that is changed.
    pub fn name(&self) -> &[u8] {
        match self {
            Self::Remove(name) | Self::Set(name, _) | Self::Add(name, _) => name,
        }
    }
}

/// The edits of stage 0 and those of stage 6 in one list. What is set anyway need not be removed
/// first: setting replaces every line.
pub fn after(sanitizing: Vec<Edit>, mut edits: Vec<Edit>) -> Vec<Edit> {
    let is_set = |earlier: &Edit| edits.iter().any(|edit| edit.name() == earlier.name());
    let mut all: Vec<Edit> = sanitizing.into_iter().filter(|earlier| !is_set(earlier)).collect();
    all.append(&mut edits);
    all
}

/// A name as a server may read it that maps names to variables: lower case, every byte that is
/// not a letter or digit a `-`, runs of them one.
pub fn fold(name: &[u8]) -> Cow<'_, [u8]> {
    let mut before = 0;
    let is_folded = name.iter().all(|b| {
        let plain = matches!(b, b'a'..=b'z' | b'0'..=b'9') || (*b == b'-' && before != b'-');
        before = *b;
        plain
    });
    if is_folded {
        return Cow::Borrowed(name);
    }
    let mut folded: Vec<u8> = Vec::with_capacity(name.len());
    for b in name {
        if b.is_ascii_alphanumeric() {
            folded.push(b.to_ascii_lowercase());
        } else if folded.last() != Some(&b'-') {
            folded.push(b'-');
        }
    }
    Cow::Owned(folded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_a_server_may_confuse_fold_to_one() {
        for name in [
            "x-tenant-id",
            "X-Tenant-Id",
            "x_tenant_id",
            "x..tenant_-id",
            "X--TENANT--ID",
        ] {
            assert_eq!(fold(name.as_bytes()).as_ref(), b"x-tenant-id", "{name}");
        }
        assert_eq!(fold(b"\xffa").as_ref(), b"-a");
    }

    #[test]
    fn names_that_http_acts_upon_are_not_rewritten() {
        for name in ["authorization", "host", "content-length", "x-envoy-original-path"] {
            assert!(!HeaderName::parse(name).unwrap().may_be_rewritten(), "{name}");
        }
        for bad in ["", ":path", "X-Upper", "a b", "é"] {
            assert!(HeaderName::parse(bad).is_none(), "{bad}");
        }
    }
}
