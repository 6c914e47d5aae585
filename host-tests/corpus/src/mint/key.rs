//! Key material: generating it, showing its public half, signing with it.

use anyhow::{Result, anyhow};
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384,
    RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaKeyPair,
};
use aws_lc_rs::{error::Unspecified, hmac};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL;
use serde_json::{Value, json};

/// What kind of key it is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Family {
    Rsa,
    P256,
    Ed25519,
    Hmac,
}

#[derive(Debug)]
pub(super) enum Key {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Hmac([u8; 64]),
}

impl Key {
    pub(super) fn generate(family: Family) -> Result<Self> {
        let key = || -> Result<Self, Unspecified> {
            Ok(match family {
                Family::Rsa => Self::Rsa(RsaKeyPair::generate(KeySize::Rsa2048)?),
                Family::P256 => Self::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?),
                Family::Ed25519 => Self::Ed25519(Ed25519KeyPair::generate()?),
                Family::Hmac => {
                    let mut secret = [0; 64];
                    SystemRandom::new().fill(&mut secret)?;
                    Self::Hmac(secret)
                }
            })
        };
        key().map_err(|_| anyhow!("no {family:?} key could be generated"))
    }

    /// The algorithm in the key's name.
    pub(super) fn alg(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "RS256",
            Self::P256(_) => "ES256",
            Self::Ed25519(_) => "EdDSA",
            Self::Hmac(_) => "HS256",
        }
    }

    pub(super) fn jwk(&self, kid: &str) -> Result<Value> {
        let mut jwk = match self {
            Self::Rsa(pair) => {
                let public = pair.public_key();
                json!({
                    "kty": "RSA",
                    "n": BASE64URL.encode(public.modulus().big_endian_without_leading_zero()),
                    "e": BASE64URL.encode(public.exponent().big_endian_without_leading_zero()),
                })
            }
            Self::P256(pair) => {
                // SEC 1, uncompressed: 04, x, y.
                let point = pair.public_key().as_ref();
                let (Some(x), Some(y)) = (point.get(1..33), point.get(33..65)) else {
                    return Err(anyhow!("a P-256 point of {} bytes", point.len()));
                };
                json!({ "kty": "EC", "crv": "P-256", "x": BASE64URL.encode(x), "y": BASE64URL.encode(y) })
            }
            Self::Ed25519(pair) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": BASE64URL.encode(pair.public_key()) })
            }
            Self::Hmac(secret) => json!({ "kty": "oct", "k": BASE64URL.encode(secret) }),
        };
        let labels = json!({ "kid": kid, "use": "sig", "alg": self.alg() });
        json_patch::merge(&mut jwk, &labels);
        Ok(jwk)
    }

    pub(super) fn sign(&self, alg: &str, input: &[u8]) -> Result<Vec<u8>> {
        let failed = |_| anyhow!("signing {alg} failed");
        if let Some(hash) = hmac_hash(alg) {
            return Ok(hmac_tag(hash, &self.hmac_secret()?, input));
        }
        match self {
            Self::Rsa(pair) => {
                let padding = match alg {
                    "RS384" => &RSA_PKCS1_SHA384,
                    "RS512" => &RSA_PKCS1_SHA512,
                    "PS256" => &RSA_PSS_SHA256,
                    "PS384" => &RSA_PSS_SHA384,
                    "PS512" => &RSA_PSS_SHA512,
                    _ => &RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &SystemRandom::new(), input, &mut signature)
                    .map_err(failed)?;
                Ok(signature)
            }
            Self::P256(pair) => Ok(pair
                .sign(&SystemRandom::new(), input)
                .map_err(failed)?
                .as_ref()
                .to_vec()),
            Self::Ed25519(pair) => Ok(pair.sign(input).as_ref().to_vec()),
            Self::Hmac(secret) => Ok(hmac_tag(hmac::HMAC_SHA256, secret, input)),
        }
    }

    /// The secret for HS*: an HMAC key's own, otherwise the public key in DER.
    fn hmac_secret(&self) -> Result<Vec<u8>> {
        let der = |_| anyhow!("a public key has no DER form");
        Ok(match self {
            Self::Hmac(secret) => secret.to_vec(),
            Self::Rsa(pair) => AsDer::as_der(pair.public_key()).map_err(der)?.as_ref().to_vec(),
            Self::P256(pair) => AsDer::as_der(pair.public_key()).map_err(der)?.as_ref().to_vec(),
            Self::Ed25519(pair) => AsDer::as_der(pair.public_key()).map_err(der)?.as_ref().to_vec(),
        })
    }
}

fn hmac_hash(alg: &str) -> Option<hmac::Algorithm> {
    match alg {
        "HS256" => Some(hmac::HMAC_SHA256),
        "HS384" => Some(hmac::HMAC_SHA384),
        "HS512" => Some(hmac::HMAC_SHA512),
        _ => None,
    }
}

fn hmac_tag(hash: hmac::Algorithm, secret: &[u8], input: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hash, secret), input).as_ref().to_vec()
}
