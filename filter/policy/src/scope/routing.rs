//! AMQP routing and binding keys: `{value}.{tenant}`.

use super::Standing;
use crate::tenant_id;

/// Longest routing or binding key, in bytes (AMQP 0-9-1, `shortstr`).
const MAX_BYTES: usize = 255;

/// Scopes an ASCII routing key.
///
/// # Errors
///
/// Why the value cannot be one: empty, an empty word between dots, a wildcard, a space or
/// control byte, or a result over 255 bytes.
pub(super) fn key(value: &str, tenant: &str) -> Result<String, &'static str> {
    scoped(value, tenant, |word| !word.contains(['*', '#']))
}

/// Scopes an ASCII binding key: like a routing key, with the wildcards `*` and `#` as whole words. The
/// tenant behind them stays a word that a routing key must end in.
///
/// # Errors
///
/// As [`key`], and a wildcard that is part of a word.
pub(super) fn binding_key(value: &str, tenant: &str) -> Result<String, &'static str> {
    scoped(value, tenant, |word| {
        matches!(word, "*" | "#") || !word.contains(['*', '#'])
    })
}

fn scoped(value: &str, tenant: &str, is_word: impl Fn(&str) -> bool) -> Result<String, &'static str> {
    if value.is_empty() {
        return Err("is empty");
    }
    if value.split('.').any(str::is_empty) {
        return Err("has an empty word");
    }
    if value.bytes().any(|b| b.is_ascii_control() || b == b' ') {
        return Err("holds a space or a control byte");
    }
    if !value.split('.').all(is_word) {
        return Err("holds a wildcard");
    }
    let scoped = format!("{value}.{tenant}");
    if scoped.len() > MAX_BYTES {
        return Err("is too long");
    }
    Ok(scoped)
}

/// Whose key it is, by its last word. One that ends in a wildcard is everybody's, and so another
/// tenant's too.
pub(super) fn standing<'v>(value: &'v str, tenant: &str) -> Standing<'v> {
    match value.rsplit_once('.') {
        Some((inner, last)) if last == tenant && !inner.is_empty() => Standing::Own(inner),
        Some((_, last)) if tenant_id::is_well_formed(last) || last.contains(['*', '#']) => Standing::Foreign,
        _ => Standing::Unscoped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn wildcards_of_a_binding_key_are_whole_words_before_the_tenant() {
        for value in ["#", "*", "orders.*", "orders.#", "#.created", "*.*", "orders"] {
            assert_eq!(binding_key(value, "acme"), Ok(format!("{value}.acme")));
        }
        for value in ["", "a*", "#a", "**", "##", "a.*b", "a..#", "#.", "* ", "a.\t"] {
            assert!(binding_key(value, "acme").is_err(), "{value:?}");
        }
    }

    #[test]
    fn whose_a_key_is_its_last_word_says() {
        for (value, standing) in [
            ("orders.created.acme", Standing::Own("orders.created")),
            ("#.acme", Standing::Own("#")),
            ("orders.globex", Standing::Foreign),
            ("orders.acme.globex", Standing::Foreign),
            ("orders.ACME", Standing::Foreign),
            ("orders.#", Standing::Foreign),
            ("orders", Standing::Unscoped),
            ("acme", Standing::Unscoped),
            (".acme", Standing::Foreign),
            ("", Standing::Unscoped),
        ] {
            assert_eq!(super::standing(value, "acme"), standing, "{value:?}");
        }
    }
}
