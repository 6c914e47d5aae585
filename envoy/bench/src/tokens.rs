//! Credentials, made before anything is measured.

use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result, anyhow};
use corpus::case::{Damage, Made, Token};
use corpus::mint::Keys;
use http::HeaderValue;
use serde_json::json;

/// How many tenants there are, and how many tokens are used again and again: one of each tenant.
pub(crate) const TENANTS: usize = 1_000;

/// The key that signs, RSA of 2048 bits.
pub(crate) const KEY: &str = "main-rs256";

/// Values of `authorization`, RS256. Every process has a key of its own.
#[derive(Debug)]
pub(crate) struct Tokens {
    /// One of each tenant, in the order of [`tenant`].
    pub(crate) seen: Arc<[HeaderValue]>,
    /// All different; whoever sends one sends it once.
    pub(crate) fresh: Arc<[HeaderValue]>,
    /// The first of the seen ones with another signature.
    pub(crate) forged: HeaderValue,
}

impl Tokens {
    /// Makes the tokens of all tenants and that many more, on all cores. They are good for an hour.
    ///
    /// # Errors
    /// When the corpus refuses to make them.
    pub(crate) fn make(fresh: usize) -> Result<Self> {
        Ok(Self {
            seen: sign(0, TENANTS)?,
            fresh: sign(TENANTS, fresh)?,
            forged: one(0, Some(Damage::FlipSignature))?,
        })
    }
}

/// The id of a tenant; token `n` is one of tenant `n % TENANTS`.
pub(crate) fn tenant(n: usize) -> String {
    format!("tenant-{:04}", n % TENANTS)
}

fn sign(first: usize, count: usize) -> Result<Arc<[HeaderValue]>> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let share = count.div_ceil(threads).max(1);
    let numbers: Vec<usize> = (first..first + count).collect();
    let shares = thread::scope(|scope| {
        let signing: Vec<_> = numbers
            .chunks(share)
            .map(|share| scope.spawn(move || share.iter().map(|&n| one(n, None)).collect::<Result<Vec<_>>>()))
            .collect();
        let signed = signing.into_iter().map(|thread| thread.join());
        signed
            .map(|share| share.map_err(|_| anyhow!("a thread that signs tokens has panicked"))?)
            .collect::<Result<Vec<_>>>()
    })?;
    Ok(shares.into_iter().flatten().collect())
}

fn one(n: usize, damage: Option<Damage>) -> Result<HeaderValue> {
    let made = Made {
        tenant: Some(tenant(n)),
        key: Some(KEY.to_owned()),
        claims: Some(json!({ "jti": format!("{n:012}"), "scope": "ledger:read ledger:write" })),
        damage,
        ..Made::default()
    };
    let token = Keys::shared().token(&Token::Made(Box::new(made)), envoy_run::now())?;
    HeaderValue::from_bytes(&[b"Bearer ", &token[..]].concat()).context("a token that is no header value")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_token_is_made_twice() {
        let tokens = Tokens::make(7).expect("tokens");
        assert_eq!((tokens.seen.len(), tokens.fresh.len()), (TENANTS, 7));
        let all: HashSet<_> = tokens.seen.iter().chain(tokens.fresh.iter()).collect();
        assert_eq!(all.len(), TENANTS + 7);
        assert!(!all.contains(&tokens.forged));
    }
}
