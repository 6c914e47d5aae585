//! `Bearer`, in any case; one or more spaces; a `token68` (RFC 9110 §11.2); nothing else.

/// Where a reader of the value stands, one byte at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// So many letters of the scheme have been read.
    Scheme(usize),
    /// At least one space has been.
    Spaces,
    /// At least one character of the token has been, the first of them at this offset.
    Token(usize),
    /// At least one `=` has been.
    Padding(usize),
    /// There is no credential.
    Nothing,
}

/// The token of these field lines, all that the request has of the header; `None` when that is not
/// exactly one credential.
#[must_use]
pub fn credential<'a>(lines: &[&'a [u8]]) -> Option<&'a [u8]> {
    let [value] = lines else { return None };
    let mut place = Place::Scheme(0);
    for (offset, byte) in value.iter().enumerate() {
        place = step(place, offset, *byte);
    }
    match place {
        Place::Token(start) | Place::Padding(start) => value.get(start..),
        Place::Scheme(_) | Place::Spaces | Place::Nothing => None,
    }
}

fn step(place: Place, offset: usize, byte: u8) -> Place {
    const LETTERS: [(u8, u8); 6] = [
        (b'B', b'b'),
        (b'E', b'e'),
        (b'A', b'a'),
        (b'R', b'r'),
        (b'E', b'e'),
        (b'R', b'r'),
    ];
    match (place, byte) {
        (Place::Scheme(read), _) if read < LETTERS.len() => {
            if byte == LETTERS[read].0 || byte == LETTERS[read].1 {
                Place::Scheme(read + 1)
            } else {
                Place::Nothing
            }
        }
        (Place::Scheme(_) | Place::Spaces, b' ') => Place::Spaces,
        (Place::Spaces, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'+' | b'/') => {
            Place::Token(offset)
        }
        (Place::Token(start), b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'+' | b'/') => {
            Place::Token(start)
        }
        (Place::Token(start) | Place::Padding(start), b'=') => Place::Padding(start),
        _ => Place::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_one_line_of_scheme_spaces_and_token() {
        for (value, token) in [
            (&b"Bearer abc"[..], Some(&b"abc"[..])),
            (b"bEaReR   a.b-c_d~e+f/9==", Some(b"a.b-c_d~e+f/9==")),
            (b"Bearer", None),
            (b"Bearer ", None),
            (b"Bearerx", None),
            (b"Bearer\tx", None),
            (b"Bearer x y", None),
            (b"Bearer x,y", None),
            (b"Bearer =", None),
            (b"Bearer a=b", None),
            (b" Bearer a", None),
            (b"Basic a", None),
        ] {
            assert_eq!(credential(&[value]), token, "{}", value.escape_ascii());
        }
        assert_eq!(credential(&[]), None);
        assert_eq!(credential(&[b"Bearer a", b"Bearer a"]), None);
    }
}
