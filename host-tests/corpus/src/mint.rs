//! Keys and tokens, made fresh in every process, each key when it is first needed.
//!
//! | name | what it is |
//! |---|---|
//! | `main-rs256`, `main-rs384`, `main-rs512` | RSA, 2048 bits, for PKCS#1 v1.5 |
//! | `main-ps256`, `main-ps384`, `main-ps512` | RSA, 2048 bits, for PSS |
//! | `main-es256`, `main-es384` | ECDSA on P-256 and on P-384 |
//! | `main-eddsa` | Ed25519 |
//! | `main-hs256`, `main-hs384`, `main-hs512` | HMAC secrets of 64 bytes, so that each is enough for every hash |
//! | `other-…` | the same again; they belong to an attacker and are in no key set unless a case names them |
//!
//! A key's `kid` is its name, its `alg` the algorithm in it. Signatures come from aws-lc, so that a mistake in the crates that
//! the filter verifies with cannot hide itself.

mod algorithm;
mod attempt;
mod key;
mod token;

use std::sync::{LazyLock, OnceLock};

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

use self::algorithm::Algorithm;
pub use self::attempt::Attempt;
use self::key::Key;
pub(crate) use self::token::resolved;

/// Every key there is; see the [module](self).
#[derive(Debug, Default)]
pub struct Keys {
    made: [OnceLock<Key>; NAMES.len()],
}

/// The names of the keys and what each is for.
const NAMES: [(&str, Algorithm); 24] = [
    ("main-rs256", Algorithm::Rs256),
    ("main-rs384", Algorithm::Rs384),
    ("main-rs512", Algorithm::Rs512),
    ("main-ps256", Algorithm::Ps256),
    ("main-ps384", Algorithm::Ps384),
    ("main-ps512", Algorithm::Ps512),
    ("main-es256", Algorithm::Es256),
    ("main-es384", Algorithm::Es384),
    ("main-eddsa", Algorithm::EdDsa),
    ("main-hs256", Algorithm::Hs256),
    ("main-hs384", Algorithm::Hs384),
    ("main-hs512", Algorithm::Hs512),
    ("other-rs256", Algorithm::Rs256),
    ("other-rs384", Algorithm::Rs384),
    ("other-rs512", Algorithm::Rs512),
    ("other-ps256", Algorithm::Ps256),
    ("other-ps384", Algorithm::Ps384),
    ("other-ps512", Algorithm::Ps512),
    ("other-es256", Algorithm::Es256),
    ("other-es384", Algorithm::Es384),
    ("other-eddsa", Algorithm::EdDsa),
    ("other-hs256", Algorithm::Hs256),
    ("other-hs384", Algorithm::Hs384),
    ("other-hs512", Algorithm::Hs512),
];

impl Keys {
    /// The keys of this process.
    #[must_use]
    pub fn shared() -> &'static Self {
        static SHARED: LazyLock<Keys> = LazyLock::new(Keys::default);
        &SHARED
    }

    /// Whether there is a key of this name.
    #[must_use]
    pub fn knows(name: &str) -> bool {
        NAMES.iter().any(|(known, _)| *known == name)
    }

    /// What a verifier gets: a public JWK with `kid`, `use: sig` and `alg`; for HMAC the `oct`
    /// JWK with its secret.
    ///
    /// # Errors
    /// When there is no such key.
    pub fn jwk(&self, name: &str) -> Result<Value> {
        self.key(name)?.jwk(name)
    }

    /// The JWK set `{"keys": […]}` of these keys in this order.
    ///
    /// # Errors
    /// When one of them does not exist.
    pub fn jwk_set<S: AsRef<str>>(&self, names: &[S]) -> Result<Value> {
        let keys: Vec<_> = names
            .iter()
            .map(|name| self.jwk(name.as_ref()))
            .collect::<Result<_>>()?;
        Ok(json!({ "keys": keys }))
    }

    /// A configuration with `{"$keys": [name, …]}` replaced by the JWK set of those keys,
    /// `{"$jwk": {"key": name, "with": {…}}}` by the JWK of that key under a merge patch and
    /// `{"$secret": name}` by the base64url text of an HMAC key, at any depth.
    ///
    /// # Errors
    /// When a key does not exist, or a secret is asked of a key that has none.
    pub fn expand_config(&self, config: &Value) -> Result<Value> {
        Ok(match config {
            Value::Object(members) => match placeholder(members) {
                Some(("$keys", Value::Array(names))) => {
                    let names: Vec<_> = names
                        .iter()
                        .map(|name| name.as_str().context("`$keys` lists names"))
                        .collect::<Result<_>>()?;
                    self.jwk_set(&names)?
                }
                Some(("$jwk", Value::Object(said))) => self.patched_jwk(said)?,
                Some(("$secret", Value::String(name))) => Value::String(self.secret(name)?),
                Some((member, other)) => bail!("`{member}` cannot be {other}"),
                None => Value::Object(
                    members
                        .iter()
                        .map(|(name, value)| Ok((name.clone(), self.expand_config(value)?)))
                        .collect::<Result<_>>()?,
                ),
            },
            Value::Array(values) => Value::Array(
                values
                    .iter()
                    .map(|value| self.expand_config(value))
                    .collect::<Result<_>>()?,
            ),
            scalar => scalar.clone(),
        })
    }

    fn patched_jwk(&self, said: &Map<String, Value>) -> Result<Value> {
        let name = said.get("key").and_then(Value::as_str);
        let mut jwk = self.jwk(name.context("`$jwk` names its `key`")?)?;
        for (member, patch) in said {
            match member.as_str() {
                "key" => {}
                "with" => json_patch::merge(&mut jwk, patch),
                other => bail!("`$jwk` has no member `{other}`"),
            }
        }
        Ok(jwk)
    }

    /// The base64url text of an HMAC key, as in the member `k` of its JWK.
    ///
    /// # Errors
    /// When there is no such key or it is not an HMAC key.
    pub fn secret(&self, name: &str) -> Result<String> {
        match self.jwk(name)?.get("k") {
            Some(Value::String(secret)) => Ok(secret.clone()),
            _ => bail!("key `{name}` is not an HMAC secret"),
        }
    }

    /// A signature as JWS wants it, not yet base64url.
    ///
    /// `alg` is honoured where the key can: an RSA key signs RS* and PS*, an HMAC key HS*. An
    /// asymmetric key that is told HS* makes the HMAC under its own public key in DER, which is
    /// what a verifier that confuses the two would accept. Any other `alg` (`none`, nonsense) is
    /// signed with the algorithm in the key's name.
    ///
    /// # Errors
    /// When there is no such key.
    pub fn sign(&self, name: &str, alg: &str, signing_input: &[u8]) -> Result<Vec<u8>> {
        self.key(name)?.sign(alg, signing_input)
    }

    fn key(&self, name: &str) -> Result<&Key> {
        let (slot, (_, algorithm)) = self
            .made
            .iter()
            .zip(NAMES)
            .find(|(_, (known, _))| *known == name)
            .with_context(|| format!("there is no key `{name}`"))?;
        if let Some(key) = slot.get() {
            return Ok(key);
        }
        let key = Key::generate(algorithm)?;
        Ok(slot.get_or_init(|| key))
    }
}

/// The only member of an object, when its name begins with `$`.
fn placeholder(members: &Map<String, Value>) -> Option<(&str, &Value)> {
    let mut members = members.iter();
    match (members.next(), members.next()) {
        (Some((name, value)), None) if name.starts_with('$') => Some((name, value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
