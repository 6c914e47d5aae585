//! Paths in an object store: `{tenant}/{value}`.

use crate::path::path_hazard;

/// Longest key, in bytes.
const MAX_BYTES: usize = 1_024;

/// Scopes an ASCII storage key. Leading slashes of the value are dropped.
///
/// # Errors
///
/// Why the value cannot be one: nothing left, a segment of dots only, every hazard of a path
/// ([`path_hazard`]), or a result over 1024 bytes.
pub(super) fn key(value: &str, tenant: &str) -> Result<String, &'static str> {
    let relative = value.trim_start_matches('/');
    if relative.is_empty() {
        return Err("is empty");
    }
    if path_hazard(relative.as_bytes()).is_some() || relative.split('/').any(is_dots_only) {
        return Err("is not a plain path");
    }
    let scoped = format!("{tenant}/{relative}");
    if scoped.len() > MAX_BYTES {
        return Err("is too long");
    }
    Ok(scoped)
}

/// Dots only, also when some of them are escaped and when spaces follow, which some file
/// systems cut off.
fn is_dots_only(segment: &str) -> bool {
    let plain = segment.replace("%2e", ".").replace("%2E", ".").replace("%20", " ");
    let name = plain.trim_end_matches(' ');
    !name.is_empty() && name.bytes().all(|b| b == b'.' || b == b' ')
}

#[cfg(test)]
mod tests {
    use super::key;

    #[test]
    fn the_tenant_is_the_first_segment() {
        for (value, expected) in [
            ("reports/a.html", "acme/reports/a.html"),
            ("/reports/a.html", "acme/reports/a.html"),
            ("///a", "acme/a"),
            ("acme/x", "acme/acme/x"),
            ("globex/x", "acme/globex/x"),
            ("a..b/c.", "acme/a..b/c."),
            ("a/", "acme/a/"),
            ("a%20b", "acme/a%20b"),
            ("a b", "acme/a b"),
        ] {
            assert_eq!(key(value, "acme").as_deref(), Ok(expected));
        }
        let longest = "a".repeat(1_024 - "acme/".len());
        assert!(key(&longest, "acme").is_ok());
    }

    #[test]
    fn what_could_leave_the_tenant_is_refused() {
        let too_long = "a".repeat(1_025 - "acme/".len());
        for value in [
            "",
            "/",
            "///",
            "..",
            "../globex/x",
            "a/../../globex",
            "a/./b",
            "...",
            "a/..../b",
            "%2e%2e/x",
            "a/%2E./b",
            "a/%252e%252e/b",
            "%2e%2e%2e",
            "..;/x",
            "a/.. /x",
            "..%20/x",
            ". ./x",
            "a%2fb",
            "a%5cb",
            "a\\b",
            "a#b",
            "a%00",
            "a\tb",
            "a%",
            "a%c0%af",
            too_long.as_str(),
        ] {
            assert!(key(value, "acme").is_err(), "{value:?}");
        }
    }
}
