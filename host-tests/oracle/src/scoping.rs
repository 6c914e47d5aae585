//! What becomes of a key that is scoped to a tenant, and whose a key is that comes back.

use crate::target;

/// How a key is scoped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `{value}.{tenant}`.
    Routing,
    /// The same, with wildcards.
    Binding,
    /// `tenant:{tenant}:{value}`.
    Redis {
        /// Whether glob characters are allowed.
        pattern: bool,
    },
    /// The same, shorter.
    Idempotency,
    /// `{tenant}/{value}`.
    Storage,
}

/// Every kind.
pub const KINDS: [Kind; 6] = [
    Kind::Routing,
    Kind::Binding,
    Kind::Redis { pattern: false },
    Kind::Redis { pattern: true },
    Kind::Idempotency,
    Kind::Storage,
];

/// Whose a key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// The tenant's; what it was before it was scoped.
    Tenant(Vec<u8>),
    /// Another's, or perhaps.
    Other,
    /// Nobody's.
    Nobody,
}

/// The key in the tenant's scope; `None` when it is refused.
#[must_use]
pub fn scoped(kind: Kind, value: &[u8], tenant: &str) -> Option<Vec<u8>> {
    let text = text(value)?;
    let (scoped, longest) = match kind {
        Kind::Routing | Kind::Binding => {
            let wild = |word: &str| kind == Kind::Binding && (word == "*" || word == "#");
            let plain =
                |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_graphic() && c != '*' && c != '#');
            if !text.split('.').all(|word| wild(word) || plain(word)) {
                return None;
            }
            (format!("{text}.{tenant}"), 255)
        }
        Kind::Redis { .. } | Kind::Idempotency => {
            let globs = if kind == (Kind::Redis { pattern: false }) {
                "*?[]\\"
            } else {
                ""
            };
            let readable = text.chars().all(|c| !c.is_ascii_control() && !globs.contains(c));
            let single = !text.contains(',') || elements(text).all(|element| !is_of_another(element, tenant));
            if text.is_empty() || !readable || !single {
                return None;
            }
            let longest = if kind == Kind::Idempotency { 255 } else { 1_024 };
            (format!("tenant:{tenant}:{text}"), longest)
        }
        Kind::Storage => {
            let relative = text.trim_start_matches('/');
            if relative.is_empty() || !is_plain_path(relative) {
                return None;
            }
            (format!("{tenant}/{relative}"), 1_024)
        }
    };
    (scoped.len() <= longest).then(|| scoped.into_bytes())
}

/// Whose a key is that a request or a response carries.
#[must_use]
pub fn owner(kind: Kind, value: &[u8], tenant: &str) -> Owner {
    let Some(text) = text(value) else {
        return Owner::Other;
    };
    match kind {
        Kind::Routing | Kind::Binding => {
            let words: Vec<&str> = text.split('.').collect();
            let [before @ .., last] = &words[..] else {
                return Owner::Nobody;
            };
            match before {
                [] => Owner::Nobody,
                before if *last == tenant && before != [""] => Owner::Tenant(before.join(".").into_bytes()),
                _ if is_id(last) || last.contains('*') || last.contains('#') => Owner::Other,
                _ => Owner::Nobody,
            }
        }
        Kind::Redis { .. } | Kind::Idempotency => {
            let own = format!("tenant:{tenant}:");
            if !text.starts_with("tenant:") {
                Owner::Nobody
            } else if text.starts_with(&own) && text != own {
                Owner::Tenant(text[own.len()..].into())
            } else {
                Owner::Other
            }
        }
        Kind::Storage => {
            let relative = text.trim_start_matches('/');
            if !is_plain_path(relative) {
                return Owner::Other;
            }
            let own = format!("{tenant}/");
            let first = relative.split('/').next().unwrap_or_default();
            if relative.starts_with(&own) && relative[own.len()..].contains(|c| c != '/') {
                Owner::Tenant(relative[own.len()..].into())
            } else if relative.contains('/') && (is_id(first) || first.contains('%')) {
                Owner::Other
            } else {
                Owner::Nobody
            }
        }
    }
}

/// The same of a value of a response: some hop may have made it of several.
#[must_use]
pub fn owner_of_list(kind: Kind, value: &[u8], tenant: &str) -> Owner {
    let is_foreign = |element: &[u8]| owner(kind, element, tenant) == Owner::Other;
    if value
        .split(|byte| *byte == b',')
        .any(|element| is_foreign(element.trim_ascii()))
    {
        return Owner::Other;
    }
    owner(kind, value, tenant)
}

/// What a tenant's id looks like.
#[must_use]
pub fn is_id(text: &str) -> bool {
    let tail = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    (1..=256).contains(&text.len()) && text.chars().all(tail) && !text.starts_with(['-', '_'])
}

fn text(value: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(value).ok()?;
    text.chars().all(|c| c < '\u{80}').then_some(text)
}

fn elements(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim_ascii)
}

fn is_of_another(element: &str, tenant: &str) -> bool {
    let own = format!("tenant:{tenant}:");
    element.starts_with("tenant:") && !(element.starts_with(&own) && element != own)
}

/// Whether it leads where it seems to. A `?` begins no query here.
fn is_plain_path(path: &str) -> bool {
    let dots = |segment: &str| {
        let read = segment.to_ascii_lowercase().replace("%2e", ".").replace("%20", " ");
        read.chars().all(|c| c == '.' || c == ' ') && read.contains('.')
    };
    !target::is_hazardous_path(path.as_bytes()) && !path.contains('#') && !path.split('/').any(dots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scoped_key_is_the_tenants_and_nobody_elses() {
        for (kind, value, expected) in [
            (Kind::Routing, "a.b", Some("a.b.acme")),
            (Kind::Routing, "a.*", None),
            (Kind::Routing, "a..b", None),
            (Kind::Binding, "a.*", Some("a.*.acme")),
            (Kind::Binding, "a*", None),
            (Kind::Redis { pattern: false }, "a b", Some("tenant:acme:a b")),
            (Kind::Redis { pattern: false }, "a*", None),
            (Kind::Redis { pattern: true }, "a*", Some("tenant:acme:a*")),
            (Kind::Redis { pattern: true }, "a, tenant:globex:b", None),
            (
                Kind::Idempotency,
                "tenant:globex:b",
                Some("tenant:acme:tenant:globex:b"),
            ),
            (Kind::Storage, "//a/b", Some("acme/a/b")),
            (Kind::Storage, "a/%2e%2e", None),
            (Kind::Storage, "a/. .", None),
            (Kind::Storage, "", None),
        ] {
            let scoped = scoped(kind, value.as_bytes(), "acme");
            assert_eq!(scoped.as_deref(), expected.map(str::as_bytes), "{kind:?} {value}");
            if let Some(scoped) = scoped {
                let inner = value.trim_start_matches('/').as_bytes().to_vec();
                assert_eq!(owner(kind, &scoped, "acme"), Owner::Tenant(inner), "{kind:?} {value}");
                assert_eq!(owner(kind, &scoped, "acm"), Owner::Other, "{kind:?} {value}");
            }
        }
        for kind in KINDS {
            assert_eq!(scoped(kind, "é".as_bytes(), "acme"), None);
            assert_eq!(scoped(kind, &b"a".repeat(1_024), "acme"), None);
        }
    }

    #[test]
    fn one_foreign_element_makes_a_list_foreign() {
        let kind = Kind::Redis { pattern: false };
        assert_eq!(owner_of_list(kind, b"a, tenant:globex:b", "acme"), Owner::Other);
        assert_eq!(
            owner_of_list(kind, b"tenant:acme:a,b", "acme"),
            Owner::Tenant(b"a,b".to_vec())
        );
        assert_eq!(owner_of_list(Kind::Storage, b"a.pdf", "acme"), Owner::Nobody);
    }
}
