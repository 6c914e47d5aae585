//! The servers behind the proxy, all of them at once: what each might take a target for.

use std::collections::BTreeSet;

use percent_encoding::percent_decode;

use crate::target::before_query;

/// How often some server decodes at most.
const MAX_DECODINGS: usize = 3;

/// Something that a server may do to a path.
type Habit = fn(&[u8]) -> Vec<u8>;

/// What a server may do to a path before it decides what the path means, each of it or not, in this
/// order.
const HABITS: [Habit; 7] = [
    cut_at_query,
    with_slashes_for_backslashes,
    behind_host,
    without_parameters,
    without_spaces,
    with_slashes_collapsed,
    with_dots_resolved,
];

/// Every path that some server may take the target for: decoded up to three times, parameters cut
/// off, a host in front, slashes collapsed, dots resolved, or not, in every combination. A target that does not begin
/// with `/` is left as it stands. Case stays: a server that ignores it compares so.
#[must_use]
pub fn readings(target: &[u8]) -> BTreeSet<Vec<u8>> {
    let path = before_query(target).to_vec();
    if path.first() != Some(&b'/') {
        return BTreeSet::from([path]);
    }
    let mut decoded = path.clone();
    let mut readings = BTreeSet::from([path]);
    for _ in 0..MAX_DECODINGS {
        decoded = percent_decode(&decoded).collect();
        readings.insert(decoded.clone());
    }
    for habit in HABITS {
        let read: Vec<_> = readings.iter().map(|reading| habit(reading)).collect();
        readings.extend(read);
    }
    readings
}

/// Cut at a `?` or `#` that decoding has brought to light.
fn cut_at_query(path: &[u8]) -> Vec<u8> {
    path.split(|byte| matches!(byte, b'?' | b'#'))
        .next()
        .unwrap_or_default()
        .to_vec()
}

fn with_slashes_for_backslashes(path: &[u8]) -> Vec<u8> {
    path.iter()
        .map(|byte| if *byte == b'\\' { b'/' } else { *byte })
        .collect()
}

/// To parsers of references (RFC 3986 §4.2), what follows `//` is a host and no part of the path.
fn behind_host(path: &[u8]) -> Vec<u8> {
    let Some(reference) = path.strip_prefix(b"//") else {
        return path.to_vec();
    };
    let host = reference.iter().take_while(|byte| **byte == b'/').count();
    let end = reference[host..].iter().position(|byte| *byte == b'/');
    end.map_or(Vec::new(), |end| reference[host + end..].to_vec())
}

fn without_parameters(path: &[u8]) -> Vec<u8> {
    let name = |segment: &[u8]| segment.split(|byte| *byte == b';').next().unwrap_or_default().to_vec();
    path.split(|byte| *byte == b'/')
        .map(name)
        .collect::<Vec<_>>()
        .join(&b'/')
}

fn without_spaces(path: &[u8]) -> Vec<u8> {
    path.split(|byte| *byte == b'/')
        .map(<[u8]>::trim_ascii)
        .collect::<Vec<_>>()
        .join(&b'/')
}

fn with_slashes_collapsed(path: &[u8]) -> Vec<u8> {
    let segments = path.split(|byte| *byte == b'/').filter(|segment| !segment.is_empty());
    from_segments(segments)
}

fn with_dots_resolved(path: &[u8]) -> Vec<u8> {
    let mut read: Vec<&[u8]> = Vec::new();
    for segment in path.split(|byte| *byte == b'/').skip(1) {
        match segment {
            b"." => {}
            b".." => drop(read.pop()),
            name => read.push(name),
        }
    }
    from_segments(read)
}

fn from_segments<'a>(segments: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut path = Vec::new();
    for segment in segments {
        path.push(b'/');
        path.extend(segment);
    }
    path
}

/// Whether a reading is the prefix or continues it with `/`, for a server to which case matters.
#[must_use]
pub fn covers(prefix: &str, reading: &[u8]) -> bool {
    reading
        .strip_prefix(prefix.as_bytes())
        .is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

/// The same for a server that ignores case.
#[must_use]
pub fn covers_in_any_case(prefix: &str, reading: &[u8]) -> bool {
    covers(&prefix.to_ascii_lowercase(), &reading.to_ascii_lowercase())
}

/// Whether some server, case-sensitive as they are, takes the target for a path that none of these
/// prefixes covers.
#[must_use]
pub fn may_leave(prefixes: &[&str], target: &[u8]) -> bool {
    readings(target)
        .iter()
        .any(|reading| !prefixes.iter().any(|prefix| covers(prefix, reading)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_differ_in_what_they_read() {
        for (target, reading) in [
            (&b"/health/../v1"[..], &b"/v1"[..]),
            (b"/health/%2e%2e/v1", b"/v1"),
            (b"/health/%25252e%252e/v1", b"/v1"),
            (b"/health/..;x/v1", b"/v1"),
            (b"/health%2f..%5Cv1", b"/v1"),
            (b"//v1//", b"/v1"),
            (b"//host/v1", b"/v1"),
            (b"///host/v1;x", b"/v1"),
            (b"/v1%3fx?y", b"/v1"),
            (b"/v1;a/b%20/", b"/v1/b"),
            (b"/v1;a/b", b"/v1;a/b"),
        ] {
            assert!(readings(target).contains(reading), "{}", target.escape_ascii());
        }
        assert_eq!(readings(b"/health/live?x"), BTreeSet::from([b"/health/live".to_vec()]));
    }

    #[test]
    fn a_plain_path_stays_where_it_is_and_a_disguised_one_may_not() {
        assert!(!may_leave(&["/health"], b"/health/live?/../v1"));
        for target in [
            &b"/health/%2e%2e/v1"[..],
            b"/health/..;/v1",
            b"/health\\..\\v1",
            b"/healthz",
            b"*",
        ] {
            assert!(may_leave(&["/health"], target), "{}", target.escape_ascii());
        }
    }
}
