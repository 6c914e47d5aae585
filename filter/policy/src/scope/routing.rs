//! AMQP routing keys: `{value}.{tenant}`.

/// Longest routing key, in bytes (AMQP 0-9-1, `shortstr`).
const MAX_BYTES: usize = 255;

/// Scopes an ASCII routing key.
///
/// # Errors
///
/// Why the value cannot be one: empty, an empty word between dots, a wildcard, a space or
/// control byte, or a result over 255 bytes.
pub(super) fn key(value: &str, tenant: &str) -> Result<String, &'static str> {
    if value.is_empty() {
        return Err("is empty");
    }
    if value.split('.').any(str::is_empty) {
        return Err("has an empty word");
    }
    if value.bytes().any(|b| b.is_ascii_control() || b == b' ') {
        return Err("holds a space or a control byte");
    }
    if value.contains(['*', '#']) {
        return Err("holds a wildcard");
    }
    let scoped = format!("{value}.{tenant}");
    if scoped.len() > MAX_BYTES {
        return Err("is too long");
    }
    Ok(scoped)
}

#[cfg(test)]
mod tests {
    use super::key;

    #[test]
    fn the_tenant_becomes_the_last_word() {
        let longest = "a".repeat(255 - ".acme".len());
        for value in ["orders", "orders.created", "acme", "orders.acme", longest.as_str()] {
            assert_eq!(key(value, "acme"), Ok(format!("{value}.acme")));
        }
    }

    #[test]
    fn what_could_reach_another_queue_is_refused() {
        let too_long = "a".repeat(256 - ".acme".len());
        for value in [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "*",
            "#",
            "a.*",
            "a#",
            "a b",
            "a\tb",
            "a\0",
            "a\x7f",
            too_long.as_str(),
        ] {
            assert!(key(value, "acme").is_err(), "{value:?}");
        }
    }
}
