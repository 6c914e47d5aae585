//! JSON Web Keys (RFC 7517), loaded one by one: an unusable key does not take its set down.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jwt_compact::alg::{Ed25519, Es256, Hs256Key, Rsa};
use jwt_compact::jwk::JsonWebKey;
use serde_json::{Map, Value};

use super::Algorithm;

type VerifyingKey<A> = <A as jwt_compact::Algorithm>::VerifyingKey;

/// Smallest RSA modulus, in bits (RFC 7518 §3.3).
const MIN_RSA_BITS: usize = 2_048;
/// Largest RSA modulus, in bits: a bound on what one verification costs.
const MAX_RSA_BITS: usize = 4_096;
/// Shortest HS256 secret, in bytes: the length of the hash (RFC 7518 §3.2).
const MIN_HS256_BYTES: usize = 32;
/// Most keys that are looked at in one set.
const MAX_KEYS: usize = 256;

/// The public or shared part of a key.
pub(super) enum Material {
    /// For RS256.
    Rsa(VerifyingKey<Rsa>),
    /// For ES256.
    P256(VerifyingKey<Es256>),
    /// For EdDSA.
    Ed25519(VerifyingKey<Ed25519>),
    /// For HS256.
    Hmac(Hs256Key),
}

/// A key that verifies.
pub struct Key {
    id: Option<String>,
    algorithm: Option<Algorithm>,
    material: Material,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Key {
    /// Whether the key may verify tokens of this algorithm: by its family, and by its `alg`
    /// when it states one.
    fn fits(&self, algorithm: Algorithm) -> bool {
        let family = match self.material {
            Material::Rsa(_) => Algorithm::Rs256,
            Material::P256(_) => Algorithm::Es256,
            Material::Ed25519(_) => Algorithm::EdDsa,
            Material::Hmac(_) => Algorithm::Hs256,
        };
        family == algorithm && self.algorithm.is_none_or(|stated| stated == algorithm)
    }

    /// Whether `signature` over `message` holds.
    pub fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        self.fits(algorithm) && algorithm.verify(&self.material, message, signature)
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

/// Why a key of a set is not used.
enum Unusable {
    /// Not meant for verification by us: no reason to say anything.
    Foreign,
    /// Meant for it, and wrong.
    Refused(&'static str),
}

/// The usable keys of an issuer; never empty.
#[derive(Debug)]
pub struct KeySet(Vec<Key>);

impl KeySet {
    /// Loads the keys of a JWK set for an issuer that allows `algorithms`. `env` gives the
    /// secret of a key with `k_env`.
    ///
    /// Keys for other purposes (`use` other than `sig`, `key_ops` without `verify`, unknown
    /// `kty`, `crv` or `alg`) are passed over. Gives the set, unless no key is usable, and the
    /// keys that were refused: RSA under 2048 or over 4096 bits, points off the curve, short
    /// secrets, an `alg` of another family, a `kid` that is not a non-empty string, a second
    /// key with the same `kid` and algorithm.
    pub fn load(
        keys: &[Value],
        algorithms: &[Algorithm],
        env: &dyn Fn(&str) -> Option<String>,
    ) -> (Option<Self>, Vec<RefusedKey>) {
        let mut usable: Vec<Key> = Vec::new();
        let mut refused = Vec::new();
        for (index, jwk) in keys.iter().enumerate().take(MAX_KEYS) {
            let name = match jwk.get("kid").and_then(Value::as_str) {
                Some(kid) if !kid.is_empty() => kid.to_owned(),
                _ => format!("#{index}"),
            };
            let loaded = load_key(jwk, env).and_then(|key| {
                let twin = |other: &Key| {
                    key.id.is_some() && other.id == key.id && algorithms.iter().any(|a| key.fits(*a) && other.fits(*a))
                };
                if !algorithms.iter().any(|algorithm| key.fits(*algorithm)) {
                    Err(Unusable::Foreign)
                } else if usable.iter().any(twin) {
                    Err(Unusable::Refused("another key with this `kid` fits the same algorithm"))
                } else {
                    Ok(key)
                }
            });
            match loaded {
                Ok(key) => usable.push(key),
                Err(Unusable::Foreign) => {}
                Err(Unusable::Refused(reason)) => refused.push(RefusedKey { index, name, reason }),
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

    /// The one key that may verify: with `kid` the key of that name that fits the algorithm,
    /// without it the only key that fits. `None` when there is none, or more than one.
    pub fn select(&self, algorithm: Algorithm, kid: Option<&str>) -> Option<&Key> {
        let mut fitting = self
            .0
            .iter()
            .filter(|key| key.fits(algorithm) && kid.is_none_or(|kid| key.id.as_deref() == Some(kid)));
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Some(key),
            _ => None,
        }
    }
}

fn load_key(jwk: &Value, env: &dyn Fn(&str) -> Option<String>) -> Result<Key, Unusable> {
    let members = jwk.as_object().ok_or(Unusable::Refused("not an object"))?;
    let text = |name: &str| members.get(name).and_then(Value::as_str);
    if members.get("use").is_some_and(|purpose| purpose != "sig") {
        return Err(Unusable::Foreign);
    }
    if let Some(operations) = members.get("key_ops") {
        let verifies = operations
            .as_array()
            .is_some_and(|list| list.iter().any(|operation| operation == "verify"));
        if !verifies {
            return Err(Unusable::Foreign);
        }
    }
    let algorithm = match members.get("alg") {
        None => None,
        Some(stated) => {
            let name = stated.as_str().ok_or(Unusable::Refused("`alg` is not a string"))?;
            Some(Algorithm::parse(name).ok_or(Unusable::Foreign)?)
        }
    };
    let id = match members.get("kid") {
        None => None,
        Some(Value::String(kid)) if !kid.is_empty() => Some(kid.clone()),
        Some(_) => return Err(Unusable::Refused("`kid` is not a non-empty string")),
    };
    let material = match (text("kty"), text("crv")) {
        (Some("RSA"), _) => rsa(members)?,
        (Some("EC"), Some("P-256")) => p256(members)?,
        (Some("OKP"), Some("Ed25519")) => ed25519(members)?,
        (Some("oct"), _) => hmac(members, env)?,
        (Some(_), _) => return Err(Unusable::Foreign),
        (None, _) => return Err(Unusable::Refused("`kty` is not a string")),
    };
    let key = Key {
        id,
        algorithm,
        material,
    };
    match algorithm {
        Some(stated) if !key.fits(stated) => Err(Unusable::Refused("`alg` does not fit `kty`")),
        _ => Ok(key),
    }
}

fn rsa(members: &Map<String, Value>) -> Result<Material, Unusable> {
    const INVALID: Unusable = Unusable::Refused("not a valid RSA public key");
    let modulus = bytes(members, "n")?;
    let exponent = bytes(members, "e")?;
    let bits = bit_length(&modulus);
    if bits < MIN_RSA_BITS {
        return Err(Unusable::Refused("RSA modulus under 2048 bits"));
    }
    if bits > MAX_RSA_BITS {
        return Err(Unusable::Refused("RSA modulus over 4096 bits"));
    }
    let odd = |number: &[u8]| number.last().is_some_and(|b| b & 1 == 1);
    if !odd(&modulus) || !odd(&exponent) || bit_length(&exponent) < 2 {
        return Err(INVALID);
    }
    let jwk = JsonWebKey::Rsa {
        modulus: Cow::Owned(modulus),
        public_exponent: Cow::Owned(exponent),
        private_parts: None,
    };
    VerifyingKey::<Rsa>::try_from(&jwk)
        .map(Material::Rsa)
        .map_err(|_| INVALID)
}

fn p256(members: &Map<String, Value>) -> Result<Material, Unusable> {
    let jwk = JsonWebKey::EllipticCurve {
        curve: Cow::Borrowed("P-256"),
        x: Cow::Owned(bytes(members, "x")?),
        y: Cow::Owned(bytes(members, "y")?),
        secret: None,
    };
    VerifyingKey::<Es256>::try_from(&jwk)
        .map(Material::P256)
        .map_err(|_| Unusable::Refused("not a point on P-256"))
}

fn ed25519(members: &Map<String, Value>) -> Result<Material, Unusable> {
    let jwk = JsonWebKey::KeyPair {
        curve: Cow::Borrowed("Ed25519"),
        x: Cow::Owned(bytes(members, "x")?),
        secret: None,
    };
    VerifyingKey::<Ed25519>::try_from(&jwk)
        .ok()
        // A point of small order verifies signatures that nobody made.
        .filter(|key| !key.is_weak())
        .map(Material::Ed25519)
        .ok_or(Unusable::Refused("not a usable Ed25519 public key"))
}

fn hmac(members: &Map<String, Value>, env: &dyn Fn(&str) -> Option<String>) -> Result<Material, Unusable> {
    let secret = match (members.contains_key("k"), members.get("k_env").and_then(Value::as_str)) {
        (true, None) => bytes(members, "k")?,
        (false, Some(name)) => {
            let text = env(name).ok_or(Unusable::Refused("the VM has no environment variable named by `k_env`"))?;
            decode(&text)?
        }
        _ => return Err(Unusable::Refused("either `k` or `k_env` must be given")),
    };
    if secret.len() < MIN_HS256_BYTES {
        return Err(Unusable::Refused("HMAC secret shorter than the hash"));
    }
    Ok(Material::Hmac(Hs256Key::new(secret)))
}

fn bytes(members: &Map<String, Value>, name: &'static str) -> Result<Vec<u8>, Unusable> {
    let text = members.get(name).and_then(Value::as_str).ok_or(Unusable::Refused(
        "a member with key material is missing or not a string",
    ))?;
    decode(text)
}

fn decode(text: &str) -> Result<Vec<u8>, Unusable> {
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| Unusable::Refused("key material is not base64url without padding"))
}

/// The number of bits of a big-endian number, leading zeros not counted.
fn bit_length(number: &[u8]) -> usize {
    let significant = number.iter().position(|b| *b != 0).unwrap_or(number.len());
    let rest = number.split_at(significant).1;
    let leading = rest.first().map_or(0, |b| b.leading_zeros());
    rest.len()
        .saturating_mul(8)
        .saturating_sub(usize::try_from(leading).unwrap_or_default())
}
