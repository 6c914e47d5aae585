//! One JSON Web Key (RFC 7517 §4, RFC 7518 §6, RFC 8037 §2): from its members to a [`Key`].

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jwt_compact::alg::{Ed25519, Es256, Rsa};
use p256::pkcs8::EncodePublicKey;
use rsa::BigUint;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::{Algorithm, Key};

type VerifyingKey<A> = <A as jwt_compact::Algorithm>::VerifyingKey;

/// Smallest RSA modulus, in bits (RFC 7518 §3.3).
const MIN_RSA_BITS: usize = 2_048;
/// Largest RSA modulus, in bits: a bound on what one verification costs.
const MAX_RSA_BITS: usize = 4_096;
/// Shortest secret, in bytes: the length of the shortest hash (RFC 7518 §3.2).
const MIN_SECRET_BYTES: usize = 32;

/// Said of a secret that is shorter than the hash it would be used with.
pub(super) const SHORT_SECRET: &str = "HMAC secret shorter than the hash";

/// Said of a secret whose variable is not there.
pub(crate) const NO_SUCH_VARIABLE: &str = "the VM has no environment variable named by `k_env`";

/// The public or shared part of a key.
pub(super) enum Material {
    /// For `RS*` and `PS*`.
    Rsa(VerifyingKey<Rsa>),
    /// For ES256.
    P256(VerifyingKey<Es256>),
    /// For ES384.
    P384(p384::ecdsa::VerifyingKey),
    /// For EdDSA.
    Ed25519(VerifyingKey<Ed25519>),
    /// For `HS*`.
    Hmac(Zeroizing<Vec<u8>>),
}

/// Why a key of a set is not used.
pub(super) enum Unusable {
    /// Not meant for verification by us: no reason to say anything.
    Foreign,
    /// Meant for it, and wrong.
    Refused(&'static str),
}

/// Loads one key. `env` gives the secret of a key with `k_env`.
pub(super) fn load(jwk: &Value, env: &dyn Fn(&str) -> Option<String>) -> Result<Key, Unusable> {
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
    let stated = match members.get("alg") {
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
    let (material, public) = match (text("kty"), text("crv")) {
        (Some("RSA"), _) => rsa(members)?,
        (Some("EC"), Some("P-256")) => p256(members)?,
        (Some("EC"), Some("P-384")) => p384(members)?,
        (Some("OKP"), Some("Ed25519")) => ed25519(members)?,
        (Some("oct"), _) => (hmac(members, env)?, Vec::new()),
        (Some(_), _) => return Err(Unusable::Foreign),
        (None, _) => return Err(Unusable::Refused("`kty` is not a string")),
    };
    let key = Key {
        id,
        stated,
        material,
        public,
    };
    match stated {
        Some(algorithm) if !key.fits(algorithm) => Err(Unusable::Refused(match &key.material {
            Material::Hmac(_) if algorithm.is_symmetric() => SHORT_SECRET,
            _ => "`alg` does not fit `kty`",
        })),
        _ => Ok(key),
    }
}

type Loaded = (Material, Vec<u8>);

fn rsa(members: &Map<String, Value>) -> Result<Loaded, Unusable> {
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
    let [modulus, exponent] = [modulus, exponent].map(|number| BigUint::from_bytes_be(&number));
    let key = VerifyingKey::<Rsa>::new(modulus, exponent).map_err(|_| INVALID)?;
    let public = der(&key).ok_or(INVALID)?;
    Ok((Material::Rsa(key), public))
}

fn p256(members: &Map<String, Value>) -> Result<Loaded, Unusable> {
    const INVALID: Unusable = Unusable::Refused("not a point on P-256");
    let key = VerifyingKey::<Es256>::from_sec1_bytes(&point(members, 32, INVALID)?).map_err(|_| INVALID)?;
    let public = der(&p256::PublicKey::from(&key)).ok_or(INVALID)?;
    Ok((Material::P256(key), public))
}

fn p384(members: &Map<String, Value>) -> Result<Loaded, Unusable> {
    const INVALID: Unusable = Unusable::Refused("not a point on P-384");
    let key = p384::ecdsa::VerifyingKey::from_sec1_bytes(&point(members, 48, INVALID)?).map_err(|_| INVALID)?;
    let public = der(&p384::PublicKey::from(&key)).ok_or(INVALID)?;
    Ok((Material::P384(key), public))
}

/// A point whose coordinates take so many bytes, uncompressed (SEC 1 §2.3.3): 04, x, y.
fn point(members: &Map<String, Value>, coordinate_bytes: usize, invalid: Unusable) -> Result<Vec<u8>, Unusable> {
    let (x, y) = (bytes(members, "x")?, bytes(members, "y")?);
    if x.len() != coordinate_bytes || y.len() != coordinate_bytes {
        return Err(invalid);
    }
    Ok([&[4], x.as_slice(), y.as_slice()].concat())
}

fn ed25519(members: &Map<String, Value>) -> Result<Loaded, Unusable> {
    const INVALID: Unusable = Unusable::Refused("not a usable Ed25519 public key");
    let x = bytes(members, "x")?;
    let point = <&[u8; 32]>::try_from(x.as_slice()).map_err(|_| INVALID)?;
    let key = VerifyingKey::<Ed25519>::from_bytes(point).map_err(|_| INVALID)?;
    // A point of small order verifies signatures that nobody made.
    if key.is_weak() {
        return Err(INVALID);
    }
    Ok((Material::Ed25519(key), x))
}

fn hmac(members: &Map<String, Value>, env: &dyn Fn(&str) -> Option<String>) -> Result<Material, Unusable> {
    let secret = match (members.contains_key("k"), members.get("k_env").and_then(Value::as_str)) {
        (true, None) => bytes(members, "k")?,
        (false, Some(name)) => {
            let text = env(name).ok_or(Unusable::Refused(NO_SUCH_VARIABLE))?;
            decode(&text)?
        }
        _ => return Err(Unusable::Refused("either `k` or `k_env` must be given")),
    };
    if secret.len() < MIN_SECRET_BYTES {
        return Err(Unusable::Refused(SHORT_SECRET));
    }
    Ok(Material::Hmac(Zeroizing::new(secret)))
}

fn der(key: &impl EncodePublicKey) -> Option<Vec<u8>> {
    key.to_public_key_der().ok().map(p256::pkcs8::Document::into_vec)
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
