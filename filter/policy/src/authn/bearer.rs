//! The credential of a request (RFC 6750 §2.1, RFC 9110 §11.6.2).

use crate::request::RequestHead;
use crate::scope::HeaderName;

/// The `token68` after `Bearer` in the only field line of `header`.
///
/// `None`, as if nothing had been sent, for: no line or several, another scheme, a bare token,
/// an empty one, a tab, a comma, or anything else that is not scheme, spaces, `token68`.
/// The scheme is compared without regard to case. Envoy joins several `authorization` lines
/// with a comma, which no `token68` holds.
pub fn credential<'a>(head: &RequestHead<'a>, header: &HeaderName) -> Option<&'a [u8]> {
    candidate(head, header).filter(|token| is_token68(token))
}

/// What stands where [`credential`] looks, whatever it is made of.
pub(super) fn candidate<'a>(head: &RequestHead<'a>, header: &HeaderName) -> Option<&'a [u8]> {
    let value = head.only(header.as_str().as_bytes())?;
    let (scheme, rest) = value.split_at_checked(b"Bearer".len())?;
    let token = rest.trim_ascii_start_spaces();
    let spaced = token.len() < rest.len();
    (scheme.eq_ignore_ascii_case(b"Bearer") && spaced).then_some(token)
}

trait TrimSpaces {
    fn trim_ascii_start_spaces(&self) -> &Self;
}

impl TrimSpaces for [u8] {
    /// Without leading spaces; a tab is not a space (RFC 9110 §11.4 asks for `1*SP`).
    fn trim_ascii_start_spaces(&self) -> &Self {
        let start = self.iter().position(|b| *b != b' ').unwrap_or(self.len());
        self.split_at(start).1
    }
}

/// `1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="`.
pub(super) fn is_token68(text: &[u8]) -> bool {
    let end = text
        .iter()
        .rposition(|b| *b != b'=')
        .map_or(0, |last| last.saturating_add(1));
    let (body, _padding) = text.split_at(end);
    !body.is_empty()
        && body
            .iter()
            .all(|b| matches!(b, b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'+' | b'/'))
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[&[u8]]) -> Option<Vec<u8>> {
        let fields: Vec<_> = lines.iter().map(|value| (&b"authorization"[..], *value)).collect();
        credential(&RequestHead::new(&fields), &HeaderName::parse("authorization").unwrap()).map(<[u8]>::to_vec)
    }

    #[test]
    fn one_bearer_credential_is_taken_as_it_stands() {
        for (value, token) in [
            (&b"Bearer abc.DEF.1-2"[..], &b"abc.DEF.1-2"[..]),
            (b"bearer x", b"x"),
            (b"BEARER x", b"x"),
            (b"Bearer    x", b"x"),
            (b"Bearer a~+/._-9==", b"a~+/._-9=="),
        ] {
            assert_eq!(of(&[value]).as_deref(), Some(token), "{}", value.escape_ascii());
        }
    }

    #[test]
    fn everything_else_is_no_credential() {
        for value in [
            &b""[..],
            b"Bearer",
            b"Bearer ",
            b"Bearer   ",
            b"Bearer\tx",
            b"Bearer \tx",
            b" Bearer x",
            b"Bearer x ",
            b"Bearer x y",
            b"Bearer x,Bearer y",
            b"Bearer x, y",
            b"Bearer =",
            b"Bearer a=b",
            b"Bearerx",
            b"Basic abc",
            b"abc.def.ghi",
            b"Bearer \xff",
            b"Bearer x\x00",
        ] {
            assert_eq!(of(&[value]), None, "{}", value.escape_ascii());
        }
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[b"Bearer x", b"Bearer x"]), None, "two lines, even equal ones");
    }
}
