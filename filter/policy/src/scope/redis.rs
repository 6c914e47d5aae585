//! Redis keys: `tenant:{tenant}:{value}`.

/// Longest key, in bytes.
const MAX_BYTES: usize = 1_024;

/// Scopes an ASCII Redis key. With `pattern` glob characters are allowed in the value; the
/// scope itself never holds one.
///
/// # Errors
///
/// Why the value cannot be one: empty, a control byte, a glob character (`* ? [ ] \`) without
/// `pattern`, or a result over 1024 bytes.
pub(super) fn key(value: &str, tenant: &str, pattern: bool) -> Result<String, &'static str> {
    if value.is_empty() {
        return Err("is empty");
    }
    if value.bytes().any(|b| b.is_ascii_control()) {
        return Err("holds a control byte");
    }
    if !pattern && value.contains(['*', '?', '[', ']', '\\']) {
        return Err("holds a pattern character");
    }
    let scoped = format!("tenant:{tenant}:{value}");
    if scoped.len() > MAX_BYTES {
        return Err("is too long");
    }
    Ok(scoped)
}

#[cfg(test)]
mod tests {
    use super::key;

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
}
