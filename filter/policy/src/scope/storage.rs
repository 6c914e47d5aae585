//! Paths in an object store: `{tenant}/{value}`, in a header or in the request's own path behind a
//! prefix.

use super::Standing;
use crate::path::path_hazard;
use crate::tenant_id;

/// Longest key, in bytes.
pub(super) const MAX_BYTES: usize = 1_024;

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
    if !is_plain(relative) {
        return Err("is not a plain path");
    }
    let scoped = format!("{tenant}/{relative}");
    if scoped.len() > MAX_BYTES {
        return Err("is too long");
    }
    Ok(scoped)
}

/// Whether a path leads where it seems to, however it is decoded and normalised.
pub(super) fn is_plain(path: &str) -> bool {
    path_hazard(path.as_bytes()).is_none() && !path.split('/').any(is_dots_only)
}

/// Dots only, also when some of them are escaped and when spaces follow, which some file
/// systems cut off.
fn is_dots_only(segment: &str) -> bool {
    let plain = segment.replace("%2e", ".").replace("%2E", ".").replace("%20", " ");
    let name = plain.trim_end_matches(' ');
    !name.is_empty() && name.bytes().all(|b| b == b'.' || b == b' ')
}

/// Whose path it is, by its first segment. What could be read in several ways is another
/// tenant's.
pub(super) fn standing<'v>(value: &'v str, tenant: &str) -> Standing<'v> {
    let relative = value.trim_start_matches('/');
    if !is_plain(relative) {
        return Standing::Foreign;
    }
    match relative.split_once('/') {
        Some((first, inner)) if first == tenant && !inner.trim_start_matches('/').is_empty() => Standing::Own(inner),
        Some((first, _)) if tenant_id::is_well_formed(first) || first.contains('%') => Standing::Foreign,
        _ => Standing::Unscoped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn whose_a_path_is_its_first_segment_says() {
        for (value, standing) in [
            ("acme/reports/a", Standing::Own("reports/a")),
            ("/acme/a", Standing::Own("a")),
            ("acme/globex/a", Standing::Own("globex/a")),
            ("globex/a", Standing::Foreign),
            ("//globex/a", Standing::Foreign),
            ("%67lobex/a", Standing::Foreign),
            ("acme/../globex/a", Standing::Foreign),
            ("acme%2f..%2fglobex/a", Standing::Foreign),
            ("ACME/a", Standing::Foreign),
            ("acme/", Standing::Foreign),
            ("report.pdf", Standing::Unscoped),
            ("reports.d/a", Standing::Unscoped),
            ("", Standing::Unscoped),
        ] {
            assert_eq!(super::standing(value, "acme"), standing, "{value:?}");
        }
    }
}
