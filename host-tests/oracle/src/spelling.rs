//! Other ways to write a path. Some server or other reads each of them as the path that it was made of,
//! or as one quite near; a test that has one target makes many of it.

/// A way to write a path differently at one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spelling {
    /// The byte there as an escape, so many times over, its digits in upper case or not.
    Escaped {
        /// How many layers, from 1.
        layers: usize,
        /// `%2F` rather than `%2f`.
        upper: bool,
    },
    /// The letter there in the other case.
    OtherCase,
    /// This text in front of the nearest slash: what stands between two segments, or at the end of one.
    BeforeSlash(&'static [u8]),
    /// This text instead of the nearest slash.
    ForSlash(&'static [u8]),
    /// This text right there, segment or not.
    Inserted(&'static [u8]),
    /// This text at the end.
    Appended(&'static [u8]),
    /// This text in front: a way to the path that begins elsewhere.
    Behind(&'static [u8]),
}

/// All of them, for the public prefix `/health`.
pub const ALL: &[Spelling] = &[
    Spelling::Escaped { layers: 1, upper: true },
    Spelling::Escaped {
        layers: 1,
        upper: false,
    },
    Spelling::Escaped { layers: 2, upper: true },
    Spelling::Escaped {
        layers: 3,
        upper: false,
    },
    Spelling::Escaped {
        layers: 9,
        upper: false,
    },
    Spelling::OtherCase,
    Spelling::BeforeSlash(b"/."),
    Spelling::BeforeSlash(b"/%2e"),
    Spelling::BeforeSlash(b"/x/.."),
    Spelling::BeforeSlash(b"/x/%2e%2e"),
    Spelling::BeforeSlash(b"/x/.%252E"),
    Spelling::BeforeSlash(b"/x/..;"),
    Spelling::BeforeSlash(b"/x/..%20"),
    Spelling::BeforeSlash(b"/x/..;a=b"),
    Spelling::BeforeSlash(b"/x/%2e%2e%3b"),
    Spelling::BeforeSlash(b"/x/%c0%ae%c0%ae"),
    Spelling::BeforeSlash(b"/..."),
    Spelling::BeforeSlash(b";"),
    Spelling::BeforeSlash(b";a=b"),
    Spelling::BeforeSlash(b"%3Ba=b"),
    Spelling::BeforeSlash(b"/;"),
    Spelling::BeforeSlash(b"/"),
    Spelling::BeforeSlash(b"//"),
    Spelling::BeforeSlash(b"%20"),
    Spelling::BeforeSlash(b"%09"),
    Spelling::BeforeSlash(b"%00"),
    Spelling::BeforeSlash(b"."),
    Spelling::BeforeSlash(b"?"),
    Spelling::BeforeSlash(b"%3f"),
    Spelling::BeforeSlash(b"#"),
    Spelling::BeforeSlash(b"%23"),
    Spelling::BeforeSlash(b";%3f"),
    Spelling::BeforeSlash(b";a%23"),
    Spelling::ForSlash(b"%2f"),
    Spelling::ForSlash(b"%2F"),
    Spelling::ForSlash(b"%252f"),
    Spelling::ForSlash(b"\\"),
    Spelling::ForSlash(b"%5c"),
    Spelling::ForSlash(b"/\\"),
    Spelling::ForSlash(b"%c0%af"),
    Spelling::ForSlash(b"%e0%80%af"),
    Spelling::ForSlash(b"%ef%bc%8f"),
    Spelling::Inserted(b"%"),
    Spelling::Inserted(b"%2"),
    Spelling::Inserted(b"%zz"),
    Spelling::Inserted(b"%u002f"),
    Spelling::Inserted(b"\t"),
    Spelling::Inserted(b" "),
    Spelling::Inserted(b"\x7f"),
    Spelling::Inserted(b"\xc3\xa9"),
    Spelling::Inserted(b"\xc0\xaf"),
    Spelling::Inserted(b"|"),
    Spelling::Inserted(b":"),
    Spelling::Inserted(b"@"),
    Spelling::Inserted(b"*"),
    Spelling::Appended(b"/"),
    Spelling::Appended(b"/."),
    Spelling::Appended(b"/.."),
    Spelling::Appended(b"?x=/health"),
    Spelling::Appended(b"?/../health"),
    Spelling::Appended(b"#/health"),
    Spelling::Appended(b"%3F/health"),
    Spelling::Appended(b";/health"),
    Spelling::Appended(b"/../health"),
    Spelling::Appended(b"/..%2fhealth"),
    Spelling::Appended(b"/health"),
    Spelling::Behind(b"/health/.."),
    Spelling::Behind(b"/health/%2e%2e"),
    Spelling::Behind(b"/health/..;"),
    Spelling::Behind(b"/health/x/../.."),
    Spelling::Behind(b"/health%2f.."),
    Spelling::Behind(b"/health\\.."),
    Spelling::Behind(b"/health;/.."),
    Spelling::Behind(b"/health?"),
    Spelling::Behind(b"/health%3f/.."),
    Spelling::Behind(b"/health#"),
    Spelling::Behind(b"/"),
    Spelling::Behind(b"http://any.example"),
    Spelling::Behind(b"HTTP://any.example:80"),
    Spelling::Behind(b"http://any.example/health/.."),
    Spelling::Behind(b"http://health"),
    Spelling::Behind(b"//health"),
];

impl Spelling {
    /// The path written so at the place, of which any number will do.
    #[must_use]
    pub fn of(self, path: &[u8], place: usize) -> Vec<u8> {
        let at = place % path.len().max(1);
        let slash = place % (path.iter().filter(|byte| **byte == b'/').count() + 1);
        let (before, from) = path.split_at(at.min(path.len()));
        match self {
            Self::Escaped { layers, upper } => match from {
                [byte, after @ ..] => [before, &escaped(*byte, layers, upper), after].concat(),
                [] => path.to_vec(),
            },
            Self::OtherCase => match from {
                [byte, after @ ..] if byte.is_ascii_alphabetic() => [before, &[byte ^ 0x20], after].concat(),
                _ => path.to_vec(),
            },
            Self::BeforeSlash(text) => {
                let (before, from) = path.split_at(nth_slash(path, slash));
                [before, text, from].concat()
            }
            Self::ForSlash(text) => {
                let (before, from) = path.split_at(nth_slash(path, slash));
                [before, text, from.strip_prefix(b"/").unwrap_or(from)].concat()
            }
            Self::Inserted(text) => [before, text, from].concat(),
            Self::Appended(text) => [path, text].concat(),
            Self::Behind(text) => [text, path].concat(),
        }
    }
}

/// Where the slash of this number stands; the end when there are not so many.
fn nth_slash(path: &[u8], number: usize) -> usize {
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    slashes.map(|(at, _)| at).nth(number).unwrap_or(path.len())
}

fn escaped(byte: u8, layers: usize, upper: bool) -> Vec<u8> {
    let digits = if upper {
        format!("{byte:02X}")
    } else {
        format!("{byte:02x}")
    };
    format!("%{}{digits}", "25".repeat(layers.saturating_sub(1))).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::readings;

    #[test]
    fn a_spelling_changes_one_place() {
        for (spelling, place, written) in [
            (Spelling::Escaped { layers: 1, upper: true }, 2, &b"/v%31/x"[..]),
            (
                Spelling::Escaped {
                    layers: 3,
                    upper: false,
                },
                3,
                b"/v1%25252fx",
            ),
            (Spelling::OtherCase, 1, b"/V1/x"),
            (Spelling::OtherCase, 2, b"/v1/x"),
            (Spelling::BeforeSlash(b";a"), 1, b"/v1;a/x"),
            (Spelling::BeforeSlash(b";a"), 2, b"/v1/x;a"),
            (Spelling::ForSlash(b"\\"), 1, b"/v1\\x"),
            (Spelling::Inserted(b"%"), 4, b"/v1/%x"),
            (Spelling::Appended(b"?q"), 0, b"/v1/x?q"),
            (Spelling::Behind(b"/health/.."), 0, b"/health/../v1/x"),
        ] {
            let found = spelling.of(b"/v1/x", place);
            assert_eq!(found, written, "{spelling:?}: {}", found.escape_ascii());
        }
    }

    #[test]
    fn most_spellings_are_read_as_the_path_by_some_server() {
        let is_read = |spelling: &&Spelling| {
            let written = (0..10).map(|place| spelling.of(b"/v1/x", place));
            written
                .into_iter()
                .any(|written| readings(&written).contains(&b"/v1/x"[..]))
        };
        let read = ALL.iter().filter(is_read).count();
        assert!(read * 2 > ALL.len(), "{read} of {}", ALL.len());
    }
}
