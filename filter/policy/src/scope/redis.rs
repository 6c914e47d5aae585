//! Redis keys and idempotency keys: `tenant:{tenant}:{value}`.

use super::Standing;

/// Longest Redis key, in bytes.
const MAX_BYTES: usize = 1_024;
/// Longest idempotency key, in bytes.
const MAX_IDEMPOTENCY_BYTES: usize = 255;
/// What every scope begins with.
const SCOPE: &str = "tenant:";

/// Scopes an ASCII Redis key. With `pattern` glob characters are allowed in the value; the
/// scope itself never holds one.
///
/// # Errors
///
/// Why the value cannot be one: empty, a control byte, a glob character (`* ? [ ] \`) without
/// `pattern`, or a result over 1024 bytes.
pub(super) fn key(value: &str, tenant: &str, pattern: bool) -> Result<String, &'static str> {
    if !pattern && value.contains(['*', '?', '[', ']', '\\']) {
        return Err("holds a pattern character");
    }
    scoped(value, tenant, MAX_BYTES)
}

/// Scopes an ASCII idempotency key.
///
/// # Errors
///
/// Why the value cannot be one: empty, a control byte, or a result over 255 bytes.
pub(super) fn idempotency_key(value: &str, tenant: &str) -> Result<String, &'static str> {
    scoped(value, tenant, MAX_IDEMPOTENCY_BYTES)
}

fn scoped(value: &str, tenant: &str, max_bytes: usize) -> Result<String, &'static str> {
    if value.is_empty() {
        return Err("is empty");
    }
    if value.bytes().any(|b| b.is_ascii_control()) {
        return Err("holds a control byte");
    }
    let scoped = format!("{SCOPE}{tenant}:{value}");
    if scoped.len() > max_bytes {
        return Err("is too long");
    }
    Ok(scoped)
}

/// Whose key it is. A value may be a list by commas: one foreign key in it is enough.
pub(super) fn standing<'v>(value: &'v str, tenant: &str) -> Standing<'v> {
    let own = |element: &'v str| {
        let (id, inner) = element.strip_prefix(SCOPE)?.split_once(':')?;
        (id == tenant && !inner.is_empty()).then_some(inner)
    };
    let is_foreign = |element: &'v str| {
        let element = element.trim();
        element.starts_with(SCOPE) && own(element).is_none()
    };
    if value.split(',').any(is_foreign) {
        return Standing::Foreign;
    }
    own(value).map_or(Standing::Unscoped, Standing::Own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tenant_comes_first() {
        let longest = "a".repeat(1_024 - "tenant:acme:".len());
        for value in [
            "orders",
            "a:b",
            "tenant:acme:orders",
            "tenant:globex:orders",
            "a b",
            longest.as_str(),
        ] {
            assert_eq!(key(value, "acme", false), Ok(format!("tenant:acme:{value}")));
        }
        assert_eq!(key("orders:*", "acme", true).as_deref(), Ok("tenant:acme:orders:*"));
    }

    #[test]
    fn what_is_no_single_key_is_refused() {
        let too_long = "a".repeat(1_025 - "tenant:acme:".len());
        for value in ["", "a*", "a?", "[a]", "a]", "a\\b", "a\nb", "a\0", too_long.as_str()] {
            assert!(key(value, "acme", false).is_err(), "{value:?}");
        }
        assert!(key("a\r*", "acme", true).is_err(), "a pattern is still a line");
    }

    #[test]
    fn an_idempotency_key_is_short_and_may_hold_anything_visible() {
        let longest = "a".repeat(255 - "tenant:acme:".len());
        for value in ["a", "a*b?[c]\\", "tenant:acme:a", longest.as_str()] {
            assert_eq!(idempotency_key(value, "acme"), Ok(format!("tenant:acme:{value}")));
        }
        let too_long = "a".repeat(256 - "tenant:acme:".len());
        for value in ["", "a\n", "\0", too_long.as_str()] {
            assert!(idempotency_key(value, "acme").is_err(), "{value:?}");
        }
    }

    #[test]
    fn whose_a_key_is_its_scope_says() {
        for (value, standing) in [
            ("tenant:acme:orders", Standing::Own("orders")),
            ("tenant:acme:tenant:globex:x", Standing::Own("tenant:globex:x")),
            ("tenant:acme:a,b", Standing::Own("a,b")),
            ("tenant:globex:orders", Standing::Foreign),
            ("tenant:acmé:orders", Standing::Foreign),
            ("tenant:acme", Standing::Foreign),
            ("tenant:acme:", Standing::Foreign),
            ("tenant:acme2:x", Standing::Foreign),
            ("tenant:acme:a, tenant:globex:b", Standing::Foreign),
            ("a,tenant:globex:b", Standing::Foreign),
            ("orders", Standing::Unscoped),
            ("", Standing::Unscoped),
        ] {
            assert_eq!(super::standing(value, "acme"), standing, "{value:?}");
        }
    }
}
