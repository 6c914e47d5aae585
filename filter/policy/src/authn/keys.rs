//! JSON Web Key sets (RFC 7517 §5): loading them, and choosing the one key that may verify.

use std::rc::Rc;

use serde_json::Value;

use super::algorithms::Family;
use super::jwk::{self, Unusable};
use super::{Algorithm, Jws, Refusal};
use crate::node::Node;

pub(super) use super::jwk::Material;

/// Most keys that are looked at in one set.
const MAX_KEYS: usize = 256;

/// A key that verifies.
pub struct Key {
    /// Its `kid`.
    pub(super) id: Option<String>,
    /// The only algorithm that it says it is for.
    pub(super) stated: Option<Algorithm>,
    pub(super) material: Material,
    /// Its public half: as SubjectPublicKeyInfo in DER (RFC 5280 §4.1) for RSA and EC, 32 bytes for
    /// Ed25519, nothing for a secret. Made once, it is what a host's own check is given, and
    /// what tells whether a key is still the same one after its set was fetched again.
    pub(super) public: Vec<u8>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Key {
    /// Whether the key may verify tokens of this algorithm: by its family, by its `alg` when it
    /// states one, by the length of a secret. An RSA key without `alg` verifies `RS*` only.
    pub(super) fn fits(&self, algorithm: Algorithm) -> bool {
        let by_family = match &self.material {
            Material::Rsa(_) => match algorithm.family() {
                Family::RsaPkcs1 => true,
                Family::RsaPss => self.stated.is_some(),
                _ => false,
            },
            Material::P256(_) => algorithm.family() == Family::P256,
            Material::P384(_) => algorithm.family() == Family::P384,
            Material::Ed25519(_) => algorithm.family() == Family::Ed25519,
            Material::Hmac(secret) => {
                algorithm.family() == Family::Hmac && secret.len() >= algorithm.hash().output_bytes()
            }
        };
        by_family && self.stated.is_none_or(|stated| stated == algorithm)
    }

    /// Whether `signature` over `message` holds. A key that does not fit the algorithm verifies
    /// nothing.
    pub fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8], node: &impl Node) -> bool {
        self.fits(algorithm) && algorithm.verify(self, message, signature, node)
    }

    /// Whether the two are one key with the same name and purpose. Secrets are never compared.
    fn is_same(&self, other: &Self) -> bool {
        !matches!(self.material, Material::Hmac(_))
            && self.id == other.id
            && self.stated == other.stated
            && self.public == other.public
    }
}

/// A key that was refused when its set was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedKey {
    /// Its place in the set, from 0.
    pub index: usize,
    /// Its `kid`, or `#` and its place.
    pub name: String,
    /// Why. Never key material.
    pub reason: &'static str,
}

/// The usable keys of an issuer; never empty.
#[derive(Debug)]
pub struct KeySet(pub(super) Vec<Rc<Key>>);

impl KeySet {
    /// Loads the keys of a JWK set for an issuer that allows `algorithms`. `env` gives the
    /// secret of a key with `k_env`.
    ///
    /// Keys for other purposes (`use` other than `sig`, `key_ops` without `verify`, unknown
    /// `kty`, `crv` or `alg`) are passed over, as is a key that stands there twice. Gives the
    /// set, unless no key is usable, and the keys that were refused: RSA under 2048 or over 4096
    /// bits, points off the curve, short secrets, an `alg` of another family, a `kid` that is
    /// not a non-empty string. Two keys with one `kid` that fit the same algorithm stay, and no
    /// token can name either; the second is reported.
    pub fn load(
        keys: &[Value],
        algorithms: &[Algorithm],
        env: &dyn Fn(&str) -> Option<String>,
    ) -> (Option<Self>, Vec<RefusedKey>) {
        Self::collect(keys, algorithms, |jwk| jwk::load(jwk, env))
    }

    /// Like [`KeySet::load`] for a set that came over the network: it holds no shared secrets,
    /// whatever it says.
    pub fn load_fetched(keys: &[Value], algorithms: &[Algorithm]) -> (Option<Self>, Vec<RefusedKey>) {
        Self::collect(keys, algorithms, |jwk| {
            if jwk.get("kty").is_some_and(|kty| kty == "oct") {
                return Err(Unusable::Refused("a fetched set must not hold shared secrets"));
            }
            jwk::load(jwk, &|_| None)
        })
    }

    fn collect(
        keys: &[Value],
        algorithms: &[Algorithm],
        load: impl Fn(&Value) -> Result<Key, Unusable>,
    ) -> (Option<Self>, Vec<RefusedKey>) {
        let mut usable: Vec<Rc<Key>> = Vec::new();
        let mut refused = Vec::new();
        for (index, jwk) in keys.iter().enumerate().take(MAX_KEYS) {
            let name = match jwk.get("kid").and_then(Value::as_str) {
                Some(kid) if !kid.is_empty() => kid.to_owned(),
                _ => format!("#{index}"),
            };
            let mut refuse = |reason| {
                let name = name.clone();
                refused.push(RefusedKey { index, name, reason });
            };
            match load(jwk) {
                Ok(key) if !algorithms.iter().any(|algorithm| key.fits(*algorithm)) => {
                    let short = |algorithm: &Algorithm| algorithm.is_symmetric() && key.stated.is_none();
                    if matches!(key.material, Material::Hmac(_)) && algorithms.iter().any(short) {
                        refuse(jwk::SHORT_SECRET);
                    }
                }
                Ok(key) if usable.iter().any(|other| other.is_same(&key)) => {}
                Ok(key) => {
                    let is_twin = |other: &Rc<Key>| {
                        key.id.is_some()
                            && other.id == key.id
                            && algorithms.iter().any(|a| key.fits(*a) && other.fits(*a))
                    };
                    if usable.iter().any(is_twin) {
                        refuse("another key with this `kid` fits the same algorithm: neither can be named");
                    }
                    usable.push(Rc::new(key));
                }
                Err(Unusable::Foreign) => {}
                Err(Unusable::Refused(reason)) => refuse(reason),
            }
        }
        if keys.len() > MAX_KEYS {
            let reason = "a set has at most 256 keys; this one and those behind it are not used";
            refused.push(RefusedKey {
                index: MAX_KEYS,
                name: format!("#{MAX_KEYS}"),
                reason,
            });
        }
        ((!usable.is_empty()).then_some(Self(usable)), refused)
    }

    /// How many keys there are; never none.
    #[expect(clippy::len_without_is_empty, reason = "it never is")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The `kid`s of the first keys, at most `max`.
    pub(super) fn names(&self, max: usize) -> Vec<String> {
        let names = self.0.iter().filter_map(|key| key.id.clone());
        names.take(max).collect()
    }

    /// Whether some key is of this name.
    pub(super) fn knows(&self, kid: &str) -> bool {
        self.0.iter().any(|key| key.id.as_deref() == Some(kid))
    }

    /// Whether this very key is one of the set.
    pub(super) fn holds(&self, key: &Rc<Key>) -> bool {
        self.0.iter().any(|other| Rc::ptr_eq(other, key))
    }

    /// Whether both sets have the same keys.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let within = |inner: &Self, outer: &Self| inner.0.iter().all(|key| outer.0.iter().any(|k| k.is_same(key)));
        within(self, other) && within(other, self)
    }

    /// Takes over every key that `older` has too, so that it stays the same to whoever holds it.
    pub(super) fn keep_known(&mut self, older: &Self) {
        for key in &mut self.0 {
            if let Some(known) = older.0.iter().find(|other| other.is_same(key)) {
                *key = Rc::clone(known);
            }
        }
    }

    /// The one key that may verify: with `kid` the key of that name that fits the algorithm,
    /// without it the only key that fits.
    pub fn select(&self, algorithm: Algorithm, kid: Option<&str>) -> Result<&Rc<Key>, Refusal> {
        let mut fitting = self
            .0
            .iter()
            .filter(|key| key.fits(algorithm) && kid.is_none_or(|kid| key.id.as_deref() == Some(kid)));
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Ok(key),
            (None, _) => Err(Refusal::KeyUnknown),
            (Some(_), Some(_)) => Err(Refusal::KeyAmbiguous),
        }
    }

    /// Verifies a signature under an issuer that allows `algorithms`; gives the key that did.
    ///
    /// # Errors
    ///
    /// [`Refusal::Algorithm`], [`Refusal::KeyUnknown`], [`Refusal::KeyAmbiguous`] and
    /// [`Refusal::Signature`].
    pub fn verify(&self, jws: &Jws<'_>, algorithms: &[Algorithm], node: &impl Node) -> Result<&Rc<Key>, Refusal> {
        let algorithm = jws.algorithm(algorithms)?;
        let key = self.select(algorithm, jws.key_id())?;
        if key.verifies(algorithm, jws.signed(), jws.signature(), node) {
            Ok(key)
        } else {
            Err(Refusal::Signature)
        }
    }
}
