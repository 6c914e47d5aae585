//! From the text of a case to bytes on the wire.

use anyhow::{Context, Result, anyhow};
use serde_json::Value;

use crate::case::{Lines, Request};
use crate::mint::{Keys, resolved};

/// A header as it travels: name and value, neither necessarily UTF-8.
pub type Field = (Vec<u8>, Vec<u8>);

/// The bytes of a Latin-1 text: one character is one byte.
///
/// # Errors
/// When a character is above U+00FF.
pub fn latin1(text: &str) -> Result<Vec<u8>> {
    text.chars()
        .map(|c| u8::try_from(u32::from(c)).map_err(|_| anyhow!("`{c}` in `{text}` is not a Latin-1 character")))
        .collect()
}

impl Request {
    /// The field lines of this request in the order in which they are sent, without `host`,
    /// `content-length` and whatever else the client adds by itself.
    ///
    /// The credential comes first as `authorization: Bearer …`, unless a value says `{token}`:
    /// then it stands there and nowhere else. Time is in seconds since 1970 and is what `$now`
    /// means in the token.
    ///
    /// # Errors
    /// When the token cannot be made or a text is not Latin-1.
    pub fn field_lines(&self, keys: &Keys, now_unix_seconds: u64) -> Result<Vec<Field>> {
        let token = self
            .token
            .as_ref()
            .map(|token| keys.token(token, now_unix_seconds))
            .transpose()?;
        let placed = self.headers.iter().any(|(_, value)| value.contains(TOKEN));
        let mut lines = Vec::new();
        if let (Some(token), false) = (&token, placed) {
            lines.push((b"authorization".to_vec(), [b"Bearer ", &token[..]].concat()));
        }
        for (name, value) in &self.headers {
            lines.push((latin1(name)?, with_token(value, token.as_deref())?));
        }
        Ok(lines)
    }

    /// The dynamic metadata of this request, by namespace, with the times of `$now` in them. Time is
    /// in seconds since 1970.
    ///
    /// # Errors
    /// When a `$now` is no number.
    pub fn filter_metadata(&self, now_unix_seconds: u64) -> Result<Option<Value>> {
        let metadata = self.metadata.as_ref();
        metadata
            .map(|metadata| resolved(metadata, now_unix_seconds))
            .transpose()
    }

    /// The body in bytes.
    ///
    /// # Errors
    /// When it is not Latin-1.
    pub fn body_bytes(&self) -> Result<Option<Vec<u8>>> {
        self.body.as_deref().map(latin1).transpose()
    }

    /// The trailers in bytes.
    ///
    /// # Errors
    /// When they are not Latin-1.
    pub fn trailer_lines(&self) -> Result<Vec<Field>> {
        self.trailers
            .iter()
            .map(|(name, value)| Ok((latin1(name)?, latin1(value)?)))
            .collect()
    }
}

impl Lines {
    /// The values as a list.
    #[must_use]
    pub fn values(&self) -> &[String] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Many(values) => values,
        }
    }
}

/// Stands for the credential in a header value.
const TOKEN: &str = "{token}";

fn with_token(value: &str, token: Option<&[u8]>) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for (index, part) in value.split(TOKEN).enumerate() {
        if index > 0 {
            bytes.extend_from_slice(token.context("a header says `{token}` but the request has no token")?);
        }
        bytes.extend(latin1(part)?);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(json: serde_json::Value) -> Request {
        let mut whole = serde_json::json!({ "expect": { "forwarded": {} } });
        json_patch::merge(&mut whole, &json);
        serde_json::from_value(whole).expect("a request")
    }

    #[test]
    fn latin1_is_one_byte_per_character() {
        assert_eq!(latin1("a\u{ff}\u{0}").expect("latin-1"), b"a\xff\0");
        assert!(latin1("€").is_err());
    }

    #[test]
    fn the_credential_comes_first_unless_it_is_placed() {
        let plain = request(serde_json::json!({ "token": { "raw": "t" }, "headers": [["a", "1"]] }));
        let lines = plain.field_lines(Keys::shared(), 0).expect("lines");
        assert_eq!(
            lines,
            [
                (b"authorization".to_vec(), b"Bearer t".to_vec()),
                (b"a".to_vec(), b"1".to_vec()),
            ]
        );
        let placed = request(serde_json::json!({
            "token": { "raw": "t" },
            "headers": [["Authorization", "bearer  {token}"], ["x", "{token}\u{e9}{token}"]],
        }));
        let lines = placed.field_lines(Keys::shared(), 0).expect("lines");
        assert_eq!(
            lines,
            [
                (b"Authorization".to_vec(), b"bearer  t".to_vec()),
                (b"x".to_vec(), b"t\xe9t".to_vec()),
            ]
        );
    }

    #[test]
    fn a_placed_token_needs_a_token() {
        let request = request(serde_json::json!({ "headers": [["x", "{token}"]] }));
        assert!(request.field_lines(Keys::shared(), 0).is_err());
    }
}
