//! Credentials, made of what a script says of them.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use corpus::case::{Damage, Made};
use corpus::mint::Keys;
use serde_json::{Value, json};
use tiny_envoy::START_UNIX_SECONDS;

use crate::script::{Flaw, Issuer, Token};

/// The issuer whose secret stands in the configuration.
pub const SECRET_ISSUER: &str = "https://hmac.example.com";
/// The issuer whose public key stands in the configuration.
pub const INLINE_ISSUER: &str = "https://id.example.com";
/// The issuer whose keys are fetched.
pub const REMOTE_ISSUER: &str = "https://remote.example.com";

/// The key of [`SECRET_ISSUER`].
pub const SECRET_KEY: &str = "main-hs256";
/// The key of [`INLINE_ISSUER`].
pub const INLINE_KEY: &str = "main-es256";
/// The keys that [`REMOTE_ISSUER`] signs with, one after the other.
pub const REMOTE_KEYS: [&str; 4] = ["main-es256", "main-eddsa", "main-rs256", "other-eddsa"];

/// What [`REMOTE_ISSUER`] may name: ids that begin like this, and [`REMOTE_TENANT`].
pub const REMOTE_PREFIX: &str = "eu-";
/// See [`REMOTE_PREFIX`].
pub const REMOTE_TENANT: &str = "acme";

/// A claim of every token that nobody may see but the upstream.
pub const SUBJECT: &str = "planted-subject";

/// The token itself. Made once in a process, so that many worlds can use it.
pub fn minted(token: &Token) -> Arc<str> {
    static MINTED: LazyLock<Mutex<HashMap<Token, Arc<str>>>> = LazyLock::new(Mutex::default);
    /// More of them than worlds can have in common.
    const MOST: usize = 200_000;
    let mut minted = MINTED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = minted.get(token) {
        return Arc::clone(known);
    }
    let made: Arc<str> = mint(token).into();
    if minted.len() >= MOST {
        minted.clear();
    }
    minted.insert(token.clone(), Arc::clone(&made));
    made
}

fn mint(token: &Token) -> String {
    let (key, others, issuer) = match token.issuer {
        Issuer::Secret => (SECRET_KEY, "other-hs256", SECRET_ISSUER),
        Issuer::Inline => (INLINE_KEY, "other-es256", INLINE_ISSUER),
        Issuer::Remote(place) => (REMOTE_KEYS[place], "other-es256", REMOTE_ISSUER),
    };
    let start = i64::try_from(START_UNIX_SECONDS).expect("seconds since 1970 fit");
    let mut claims = json!({
        "iss": issuer, "iat": start - 10_000, "exp": start + token.expires_s,
        "sub": format!("{SUBJECT}-{}", token.serial), "organization_id": "org-of-nobody",
    });
    let mut made = Made {
        tenant: Some(token.tenant.clone()),
        key: Some(key.to_owned()),
        ..Made::default()
    };
    match token.flaw {
        None => {}
        Some(Flaw::OthersKey) => {
            made.key = Some(others.to_owned());
            made.header = Some(json!({ "kid": key }));
        }
        Some(Flaw::FlippedSignature) => made.damage = Some(Damage::FlipSignature),
        Some(Flaw::OtherClaims) => made.damage = Some(Damage::SwapClaims),
        Some(Flaw::Unsigned) => {
            made.header = Some(json!({ "alg": "none" }));
            made.damage = Some(Damage::DropSignature);
        }
        Some(Flaw::UnknownKid) => made.header = Some(json!({ "kid": "of-nobody" })),
        Some(Flaw::UnknownIssuer) => claims["iss"] = json!("https://nobody.example.com"),
        Some(Flaw::NotYet) => claims["nbf"] = json!(start + 10_000_000),
        Some(Flaw::Endless) => claims["exp"] = Value::Null,
        Some(Flaw::NoTenant) => {
            made.tenant = None;
            claims["organization_id"] = json!(token.tenant);
        }
        Some(Flaw::BadTenant) => made.tenant = Some(format!("{}/..", token.tenant)),
        Some(Flaw::ForeignTenant) => {}
        Some(Flaw::NoKid) => made.header = Some(json!({ "kid": null })),
    }
    made.claims = Some(claims);
    let token = Keys::shared().token(&corpus::case::Token::Made(Box::new(made)), START_UNIX_SECONDS);
    String::from_utf8(token.expect("keys that exist, damage that can be done")).expect("tokens are ASCII")
}

/// A JWK set of the remote issuer.
pub fn key_set(places: &[usize]) -> Value {
    let names: Vec<_> = places.iter().map(|place| REMOTE_KEYS[*place]).collect();
    Keys::shared().jwk_set(&names).expect("keys that exist")
}
