//! The way back: configured response headers are un-scoped for the caller, and what another tenant's
//! scope is on is withheld.
//!
//! Rules in the order they are applied:
//!
//! 1. A field line whose value is in another tenant's scope, or might be, is 502
//!    `TENANT_LEAK_BLOCKED`: the whole response is withheld. So is one that cannot be read as text,
//!    and one that holds such a value as an element of a list (RFC 9110 §5.6.1): any hop may have
//!    made one line of several.
//! 2. A value in the tenant's own scope loses it; one in nobody's scope stays.
//! 3. Trailers come too late to withhold anything: there such a field is taken out.

use super::{Edit, Standing, standing_of_list};
use crate::config::ResponseRule;
use crate::denial::Denial;
use crate::request::RequestHead;
use crate::tenant_id::TenantId;

/// The edits for the head of the response to a tenant's request.
///
/// # Errors
///
/// [`Denial::LeakBlocked`] when it holds a key of another tenant.
pub fn edits(rules: &[ResponseRule], head: &RequestHead<'_>, tenant: &TenantId) -> Result<Vec<Edit>, Denial> {
    let mut edits = Vec::new();
    for rule in rules {
        let name = rule.name.as_str().as_bytes();
        let mut is_changed = false;
        let mut values = Vec::new();
        for value in head.values(name) {
            match standing_of_list(rule.kind, value, tenant.as_str()) {
                Standing::Foreign => {
                    return Err(Denial::LeakBlocked {
                        header: rule.name.as_str().to_owned(),
                    });
                }
                Standing::Unscoped => values.push(value.to_vec()),
                Standing::Own(inner) => {
                    is_changed = true;
                    values.push(inner.as_bytes().to_vec());
                }
            }
        }
        if is_changed {
            edits.extend(values.into_iter().enumerate().map(|(position, value)| {
                if position == 0 {
                    Edit::Set(name.to_vec(), value)
                } else {
                    Edit::Add(name.to_vec(), value)
                }
            }));
        }
    }
    Ok(edits)
}

/// The edits for the trailers of the response; how many names held a key of another tenant.
pub fn trailer_edits(rules: &[ResponseRule], trailers: &RequestHead<'_>, tenant: &TenantId) -> (Vec<Edit>, u64) {
    let mut all = Vec::new();
    let mut leaks: u64 = 0;
    for rule in rules {
        match edits(std::slice::from_ref(rule), trailers, tenant) {
            Ok(edits) => all.extend(edits),
            Err(_) => {
                leaks = leaks.saturating_add(1);
                all.push(Edit::Remove(rule.name.as_str().as_bytes().to_vec()));
            }
        }
    }
    (all, leaks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Kind;
    use crate::scope::HeaderName;

    fn rules() -> Vec<ResponseRule> {
        [("x-storage-key", Kind::Storage), ("x-redis-key", Kind::Redis)]
            .map(|(name, kind)| ResponseRule {
                name: HeaderName::parse(name).unwrap(),
                kind,
            })
            .into()
    }

    fn acme() -> TenantId {
        TenantId::parse("acme", false).unwrap()
    }

    fn edited(fields: &[(&str, &str)]) -> Result<Vec<Edit>, Denial> {
        let fields: Vec<_> = fields.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect();
        edits(&rules(), &RequestHead::new(&fields), &acme())
    }

    #[test]
    fn the_tenants_own_scope_is_taken_off_every_line() {
        let edits = edited(&[
            ("x-storage-key", "acme/a"),
            ("other", "acme/a"),
            ("x-storage-key", "plain"),
            ("x-storage-key", "acme/b/c"),
        ]);
        let name = || b"x-storage-key".to_vec();
        assert_eq!(
            edits,
            Ok(vec![
                Edit::Set(name(), b"a".to_vec()),
                Edit::Add(name(), b"plain".to_vec()),
                Edit::Add(name(), b"b/c".to_vec()),
            ])
        );
        assert_eq!(edited(&[("x-storage-key", "plain"), ("x-redis-key", "k")]), Ok(vec![]));
    }

    #[test]
    fn one_foreign_line_withholds_the_response() {
        for fields in [
            [("x-storage-key", "acme/a"), ("x-storage-key", "globex/a")],
            [("x-redis-key", "tenant:globex:k"), ("x-storage-key", "acme/a")],
            [("x-storage-key", "acme/é"), ("x", "y")],
            [("x-storage-key", "acme/a, globex/secret"), ("x", "y")],
            [("x-redis-key", "a,tenant:globex:k"), ("x", "y")],
        ] {
            assert!(matches!(edited(&fields), Err(Denial::LeakBlocked { .. })), "{fields:?}");
        }
    }

    #[test]
    fn in_trailers_a_foreign_field_goes() {
        let fields: [(&[u8], &[u8]); 2] = [(b"x-redis-key", b"tenant:acme:k"), (b"x-storage-key", b"globex/a")];
        let (edits, leaks) = trailer_edits(&rules(), &RequestHead::new(&fields), &acme());
        assert_eq!(leaks, 1);
        assert_eq!(
            edits,
            [
                Edit::Remove(b"x-storage-key".to_vec()),
                Edit::Set(b"x-redis-key".to_vec(), b"k".to_vec()),
            ]
        );
    }
}
