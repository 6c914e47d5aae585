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
/// Why the value cannot be one: empty, a control byte, behind a comma a key of another tenant, a glob character (`* ? [ ] \`) without
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
/// Why the value cannot be one: empty, a control byte, behind a comma a key of another tenant, or a
/// result over 255 bytes.
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
    // To whoever reads the value as a list (RFC 9110 §5.6.1) it would hold a key of another's.
    if value.contains(',') && super::list_standing(value, |element| standing(element, tenant)) == Standing::Foreign {
        return Err("holds another tenant's key");
    }
    let scoped = format!("{SCOPE}{tenant}:{value}");
    if scoped.len() > max_bytes {
        return Err("is too long");
    }
    Ok(scoped)
}

/// Whose key it is.
pub(super) fn standing<'v>(value: &'v str, tenant: &str) -> Standing<'v> {
    let Some(scope) = value.strip_prefix(SCOPE) else {
        return Standing::Unscoped;
    };
    match scope.split_once(':') {
        Some((id, inner)) if id == tenant && !inner.is_empty() => Standing::Own(inner),
        _ => Standing::Foreign,
    }
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
    fn behind_a_comma_there_is_no_key_of_another_tenant() {
        for value in ["a,tenant:globex:b", "a, tenant:acme2:b", "a,b, tenant:x"] {
            assert!(key(value, "acme", false).is_err(), "{value:?}");
            assert!(idempotency_key(value, "acme").is_err(), "{value:?}");
        }
        for value in ["a,b", "a,tenant:acme:b", "tenants:a,b", ",", "tenant:globex:x"] {
            assert_eq!(key(value, "acme", false), Ok(format!("tenant:acme:{value}")));
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
            ("orders", Standing::Unscoped),
            ("", Standing::Unscoped),
        ] {
            assert_eq!(super::standing(value, "acme"), standing, "{value:?}");
        }
    }
}
