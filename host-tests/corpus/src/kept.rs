//! Tokens that a case sends more than once.

use std::borrow::Cow;
use std::collections::BTreeMap;

use anyhow::Result;

use crate::case::{Made, Request, Token};
use crate::mint::Keys;

/// The tokens that a run of a case has kept so far, by their names ([`Made::kept`]).
#[derive(Debug, Default)]
pub struct Kept(BTreeMap<String, Token>);

impl Kept {
    /// The request as it is sent now: a token that is to be kept is made on its first use, and is the
    /// same bytes from then on. `now_unix_seconds` as for [`Keys::token`].
    ///
    /// # Errors
    /// As [`Keys::token`].
    pub fn in_place<'a>(
        &mut self,
        request: &'a Request,
        keys: &Keys,
        now_unix_seconds: u64,
    ) -> Result<Cow<'a, Request>> {
        let kept = match &request.token {
            Some(token @ Token::Made(made)) => made.kept.as_ref().map(|name| (name, token)),
            _ => None,
        };
        let Some((name, token)) = kept else {
            return Ok(Cow::Borrowed(request));
        };
        if !self.0.contains_key(name) {
            let bytes = keys.token(token, now_unix_seconds)?;
            let made = Made {
                // One character per byte, as `raw` is read.
                raw: Some(bytes.into_iter().map(char::from).collect()),
                ..Made::default()
            };
            self.0.insert(name.clone(), Token::Made(Box::new(made)));
        }
        Ok(Cow::Owned(Request {
            token: self.0.get(name).cloned(),
            ..request.clone()
        }))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_kept_token_stays_the_same_and_others_do_not() {
        let request = |token| -> Request {
            serde_json::from_value(json!({ "token": token, "expect": { "forwarded": {} } })).expect("a request")
        };
        let keys = Keys::shared();
        let mut kept = Kept::default();
        let mut sent = |request: &Request, now| {
            let request = kept.in_place(request, keys, now).expect("a request");
            request.field_lines(keys, now).expect("field lines")
        };
        let first = request(json!({ "kept": "early", "tenant": "acme", "key": "main-es256" }));
        let early = sent(&first, 1_000);
        assert_eq!(sent(&first, 2_000), early);
        assert_eq!(sent(&request(json!({ "kept": "early" })), 3_000), early);
        assert_ne!(
            sent(&request(json!({ "kept": "late", "tenant": "acme" })), 3_000),
            early
        );
        let plain = request(json!("acme"));
        assert_ne!(sent(&plain, 1_000), sent(&plain, 2_000));
    }
}
