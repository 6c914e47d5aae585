//! Request targets: hazards and public paths, as the rules have them.

use percent_encoding::percent_decode;

/// Escapes inside escapes: so many layers are one too many, whatever they hide.
pub const TOO_MANY_LAYERS: usize = 8;

/// The part of a target that leads somewhere: up to the first `?`.
#[must_use]
pub fn before_query(target: &[u8]) -> &[u8] {
    match target.iter().position(|byte| *byte == b'?') {
        Some(end) => &target[..end],
        None => target,
    }
}

/// The path of a target in origin form (`/a?b`) or absolute form (`http://host:1/a?b`). `None` for
/// every other form, and for an authority that has more than a host and a port.
#[must_use]
pub fn path(target: &[u8]) -> Option<&[u8]> {
    let start = before_query(target);
    if start.first() == Some(&b'/') {
        return Some(start);
    }
    for scheme in ["http://", "https://"] {
        let Some((found, rest)) = start.split_at_checked(scheme.len()) else {
            continue;
        };
        if found.to_ascii_lowercase() != scheme.as_bytes() {
            continue;
        }
        let end = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
        let authority = std::str::from_utf8(&rest[..end]).ok()?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._~:[]".contains(c);
        return (!authority.is_empty() && authority.chars().all(plain)).then(|| &rest[end..]);
    }
    None
}

/// The text itself and what each further decoding makes of it, until nothing changes.
#[must_use]
pub fn layers(text: &[u8]) -> Vec<Vec<u8>> {
    let mut layers = vec![text.to_vec()];
    loop {
        let last = layers.last().cloned().unwrap_or_default();
        let next: Vec<u8> = percent_decode(&last).collect();
        if next == last {
            return layers;
        }
        layers.push(next);
    }
}

/// Whether a target is hazardous, query and all.
#[must_use]
pub fn is_hazardous(target: &[u8]) -> bool {
    target.contains(&b'#') || target.iter().any(|byte| is_control(*byte)) || is_hazardous_path(before_query(target))
}

/// Whether what stands before the query is.
pub(crate) fn is_hazardous_path(path: &[u8]) -> bool {
    let layers = layers(path);
    has_malformed_escape(path)
        || layers.len() > TOO_MANY_LAYERS
        || layers.iter().any(|layer| {
            let lower = layer.to_ascii_lowercase();
            contains(&lower, b"%2f")
                || layer.contains(&b'\\')
                || layer.iter().any(|byte| is_control(*byte))
                || has_overlong(layer)
                || layer.split(|byte| *byte == b'/').any(is_dot_segment)
        })
}

fn is_control(byte: u8) -> bool {
    byte < 0x20 || byte == 0x7f
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn has_malformed_escape(path: &[u8]) -> bool {
    (0..path.len()).any(|at| {
        let digit = |offset: usize| path.get(at + offset).is_some_and(u8::is_ascii_hexdigit);
        path[at] == b'%' && !(digit(1) && digit(2))
    })
}

/// `.` or `..`; the same before what some server cuts off; and the same among spaces, which some
/// server trims.
fn is_dot_segment(segment: &[u8]) -> bool {
    let end = segment
        .iter()
        .position(|byte| b";?#".contains(byte))
        .unwrap_or(segment.len());
    [&b"."[..], b".."].contains(&segment[..end].trim_ascii())
}

/// A UTF-8 sequence that is longer than it need be: its value fits into fewer bytes.
fn has_overlong(text: &[u8]) -> bool {
    text.windows(2).any(|pair| {
        let continuation = pair[1] & 0b1100_0000 == 0b1000_0000;
        let next = u32::from(pair[1] & 0b0011_1111);
        // Lead byte: payload bits that are zero there and in the top of the next byte say that a
        // shorter form exists.
        continuation
            && match pair[0] {
                0xE0 => next < 0x20,
                0xF0 => next < 0x10,
                0xF8 => next < 0x08,
                0xFC => next < 0x04,
                _ => false,
            }
    }) || text.iter().any(|byte| *byte == 0xC0 || *byte == 0xC1)
}

/// Whether a path is public under a prefix: the prefix itself, or continued by segments that no
/// server reads as anything but what stands there.
#[must_use]
pub fn is_under(prefix: &str, path: &[u8]) -> bool {
    const PCHAR: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,=:@";
    let Ok(path) = std::str::from_utf8(path) else {
        return false;
    };
    if path == prefix {
        return true;
    }
    let Some(rest) = path.strip_prefix(&format!("{prefix}/")) else {
        return false;
    };
    rest.split('/').all(|segment| {
        !segment.is_empty() && segment.chars().all(|c| PCHAR.contains(c)) && segment.chars().any(|c| c != '.')
    })
}

/// Whether a request with this method and target is public, where these prefixes are for every
/// method and nothing asks to change protocol.
#[must_use]
pub fn is_public(prefixes: &[&str], method: &str, target: &[u8]) -> bool {
    let special = ["CONNECT", "TRACE"].contains(&method.to_uppercase().as_str());
    !special
        && !is_hazardous(target)
        && path(target).is_some_and(|path| prefixes.iter().any(|prefix| is_under(prefix, path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hazards_are_what_the_rules_name() {
        for target in [
            &b"/a/../b"[..],
            b"/a/%2e",
            b"/a/%252e%252e;x",
            b"/a%2Fb",
            b"/a%255cb",
            b"/a#",
            b"/a?#",
            b"/a?\x01",
            b"/a%00",
            b"/a%",
            b"/%c0%ae",
            b"/%e0%80%af",
            b"/%2525252525252525",
        ] {
            assert!(is_hazardous(target), "{}", target.escape_ascii());
        }
        for target in [
            &b"/"[..],
            b"*",
            b"/a/..b",
            b"/100%25",
            b"/a?%2f/../%zz\\",
            b"/%e0%a0%80",
            b"/;/a",
        ] {
            assert!(!is_hazardous(target), "{}", target.escape_ascii());
        }
    }

    #[test]
    fn public_is_the_prefix_or_plain_segments_behind_it() {
        let public = |target: &[u8]| is_public(&["/health"], "GET", target);
        for target in [&b"/health"[..], b"/health/a.b?x=/../", b"HTTP://h:1/health"] {
            assert!(public(target), "{}", target.escape_ascii());
        }
        for target in [
            &b"/healthz"[..],
            b"/health/",
            b"/Health",
            b"/health;",
            b"/health/%61",
            b"http://u@h/health",
            b"",
        ] {
            assert!(!public(target), "{}", target.escape_ascii());
        }
        assert!(!is_public(&["/health"], "trace", b"/health"));
    }
}
