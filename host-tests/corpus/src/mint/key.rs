//! Key material: generating it, showing its public half, signing with it.

use anyhow::{Context, Result, anyhow};
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING,
    ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384,
    RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
};
use aws_lc_rs::{error::Unspecified, hmac};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL;
use serde_json::{Value, json};

use super::algorithm::Algorithm;

/// A key and the algorithm that it is named after.
#[derive(Debug)]
pub(super) struct Key {
    algorithm: Algorithm,
    material: Material,
}

#[derive(Debug)]
enum Material {
    Rsa(RsaKeyPair),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Hmac([u8; 64]),
}

impl Key {
    pub(super) fn generate(algorithm: Algorithm) -> Result<Self> {
        let material = || -> Result<Material, Unspecified> {
            Ok(match algorithm {
                Algorithm::Rs256
                | Algorithm::Rs384
                | Algorithm::Rs512
                | Algorithm::Ps256
                | Algorithm::Ps384
                | Algorithm::Ps512 => Material::Rsa(RsaKeyPair::generate(KeySize::Rsa2048)?),
                Algorithm::Es256 => Material::Ecdsa(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?),
                Algorithm::Es384 => Material::Ecdsa(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING)?),
                Algorithm::EdDsa => Material::Ed25519(Ed25519KeyPair::generate()?),
                Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512 => {
                    let mut secret = [0; 64];
                    SystemRandom::new().fill(&mut secret)?;
                    Material::Hmac(secret)
                }
            })
        };
        let material = material().map_err(|_| anyhow!("no key for {} could be generated", algorithm.name()))?;
        Ok(Self { algorithm, material })
    }

    /// The algorithm in the key's name.
    pub(super) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub(super) fn jwk(&self, kid: &str) -> Result<Value> {
        let mut jwk = match &self.material {
            Material::Rsa(pair) => {
                let public = pair.public_key();
                json!({
                    "kty": "RSA",
                    "n": BASE64URL.encode(public.modulus().big_endian_without_leading_zero()),
                    "e": BASE64URL.encode(public.exponent().big_endian_without_leading_zero()),
                })
            }
            Material::Ecdsa(pair) => {
                // SEC 1, uncompressed: 04, x, y, both as long as the field.
                let point = pair.public_key().as_ref();
                let coordinates = point.strip_prefix(&[4]).context("a compressed point")?;
                let (x, y) = coordinates.split_at(coordinates.len() / 2);
                let crv = match x.len() {
                    32 => "P-256",
                    48 => "P-384",
                    other => return Err(anyhow!("a coordinate of {other} bytes")),
                };
                json!({ "kty": "EC", "crv": crv, "x": BASE64URL.encode(x), "y": BASE64URL.encode(y) })
            }
            Material::Ed25519(pair) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": BASE64URL.encode(pair.public_key()) })
            }
            Material::Hmac(secret) => json!({ "kty": "oct", "k": BASE64URL.encode(secret) }),
        };
        let labels = json!({ "kid": kid, "use": "sig", "alg": self.algorithm.name() });
        json_patch::merge(&mut jwk, &labels);
        Ok(jwk)
    }

    pub(super) fn sign(&self, alg: &str, input: &[u8]) -> Result<Vec<u8>> {
        let failed = |_| anyhow!("signing {alg} failed");
        let asked = Algorithm::parse(alg);
        if let Some(hash) = asked.and_then(hmac_hash) {
            return Ok(hmac_tag(hash, &self.hmac_secret()?, input));
        }
        match &self.material {
            Material::Rsa(pair) => {
                let padding = asked.and_then(rsa_padding).or_else(|| rsa_padding(self.algorithm));
                let padding = padding.context("an RSA key for another algorithm")?;
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &SystemRandom::new(), input, &mut signature)
                    .map_err(failed)?;
                Ok(signature)
            }
            Material::Ecdsa(pair) => Ok(pair
                .sign(&SystemRandom::new(), input)
                .map_err(failed)?
                .as_ref()
                .to_vec()),
            Material::Ed25519(pair) => Ok(pair.sign(input).as_ref().to_vec()),
            Material::Hmac(secret) => {
                let hash = hmac_hash(self.algorithm).context("a secret for another algorithm")?;
                Ok(hmac_tag(hash, secret, input))
            }
        }
    }

    /// An ECDSA signature in DER, which JWS does not want.
    ///
    /// # Errors
    /// When this is no such key.
    pub(super) fn sign_in_der(&self, input: &[u8]) -> Result<Vec<u8>> {
        let Material::Ecdsa(pair) = &self.material else {
            return Err(anyhow!("only ECDSA signatures have a DER form"));
        };
        let algorithm = match self.algorithm {
            Algorithm::Es384 => &ECDSA_P384_SHA384_ASN1_SIGNING,
            _ => &ECDSA_P256_SHA256_ASN1_SIGNING,
        };
        let failed = |_| anyhow!("signing in DER failed");
        let private = pair.to_pkcs8v1().map_err(failed)?;
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, private.as_ref()).map_err(|error| anyhow!("{error}"))?;
        let signature = pair.sign(&SystemRandom::new(), input).map_err(failed)?;
        Ok(signature.as_ref().to_vec())
    }

    /// The secret for HS*: an HMAC key's own, otherwise the public key in DER.
    fn hmac_secret(&self) -> Result<Vec<u8>> {
        let der = |_| anyhow!("a public key has no DER form");
        Ok(match &self.material {
            Material::Hmac(secret) => secret.to_vec(),
            Material::Rsa(pair) => AsDer::as_der(pair.public_key()).map_err(der)?.as_ref().to_vec(),
            Material::Ecdsa(pair) => AsDer::as_der(pair.public_key()).map_err(der)?.as_ref().to_vec(),
            Material::Ed25519(pair) => AsDer::as_der(pair.public_key()).map_err(der)?.as_ref().to_vec(),
        })
    }
}

fn rsa_padding(algorithm: Algorithm) -> Option<&'static dyn RsaEncoding> {
    Some(match algorithm {
        Algorithm::Rs256 => &RSA_PKCS1_SHA256,
        Algorithm::Rs384 => &RSA_PKCS1_SHA384,
        Algorithm::Rs512 => &RSA_PKCS1_SHA512,
        Algorithm::Ps256 => &RSA_PSS_SHA256,
        Algorithm::Ps384 => &RSA_PSS_SHA384,
        Algorithm::Ps512 => &RSA_PSS_SHA512,
        _ => return None,
    })
}

fn hmac_hash(algorithm: Algorithm) -> Option<hmac::Algorithm> {
    Some(match algorithm {
        Algorithm::Hs256 => hmac::HMAC_SHA256,
        Algorithm::Hs384 => hmac::HMAC_SHA384,
        Algorithm::Hs512 => hmac::HMAC_SHA512,
        _ => return None,
    })
}

fn hmac_tag(hash: hmac::Algorithm, secret: &[u8], input: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hash, secret), input).as_ref().to_vec()
}
