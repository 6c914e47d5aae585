//! What Envoy's foreign function `verify_signature` says of a signature, on aws-lc: never on the
//! crates that the filter verifies with, so that one cannot hide a mistake of the other.
//!
//! As Envoy was measured to, it takes RSA PKCS#1 v1.5 from 1024 bits up and ECDSA on P-256, P-384
//! and P-521 with signatures in DER, with any hash; keys are a `SubjectPublicKeyInfo` in DER, and
//! what follows one is not looked at. Ed25519 and PSS it has not.
//!
//! Not modelled, and a failure of the test that asks for it: keys in PEM, and the few pairs of hash
//! and key that aws-lc-rs does not offer ([`Refused::Unmodelled`]). RSA keys under 1024 or over
//! 8192 bits, and keys in another encoding than the one that aws-lc writes (compressed points),
//! were not measured; here they verify nothing.

#![warn(missing_docs)]

/// The example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA1_ASN1, ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA384_ASN1, ECDSA_P256_SHA512_ASN1,
    ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ECDSA_P384_SHA512_ASN1, ECDSA_P521_SHA1_ASN1,
    ECDSA_P521_SHA224_ASN1, ECDSA_P521_SHA256_ASN1, ECDSA_P521_SHA384_ASN1, ECDSA_P521_SHA512_ASN1, ParsedPublicKey,
    RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY, RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
    RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY, RSA_PKCS1_2048_8192_SHA384, VerificationAlgorithm,
};

/// Why a signature does not hold. Shown as Envoy says it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no hash of this name.
    #[error("{0} is not supported.")]
    Hash(String),
    /// This is no key that signatures are verified with.
    #[error("Failed to initialize digest verify.")]
    Key,
    /// It is not this key's signature of this text.
    #[error("Failed to verify digest. Error code: 0")]
    Signature,
    /// Envoy would know; this model of it does not.
    #[error("{0}")]
    Unmodelled(&'static str),
}

/// What the foreign function does with arguments that can be decoded. `hash_function` is a name such
/// as `sha256`, in any case; `public_key` a `SubjectPublicKeyInfo` in DER.
///
/// # Errors
/// Everything but a signature that holds.
pub fn verify(hash_function: &str, public_key: &[u8], signature: &[u8], text: &[u8]) -> Result<(), Refused> {
    let hash = Hash::parse(hash_function).ok_or_else(|| Refused::Hash(hash_function.to_owned()))?;
    let algorithm = Family::of(public_key).ok_or(Refused::Key)?.algorithm(hash)?;
    let key = ParsedPublicKey::new(algorithm, public_key).map_err(|_| Refused::Key)?;
    key.verify_sig(text, signature).map_err(|_| Refused::Signature)
}

#[derive(Debug, Clone, Copy)]
enum Hash {
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    fn parse(name: &str) -> Option<Self> {
        let known = [
            ("sha1", Self::Sha1),
            ("sha224", Self::Sha224),
            ("sha256", Self::Sha256),
            ("sha384", Self::Sha384),
            ("sha512", Self::Sha512),
        ];
        let found = known.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, hash)| hash)
    }
}

/// The kinds of keys that Envoy verifies with.
#[derive(Debug, Clone, Copy)]
enum Family {
    Rsa,
    P256,
    P384,
    P521,
}

impl Family {
    /// The kind of this key. aws-lc also takes bare points and RSA keys without their envelope, which
    /// Envoy does not: what it read must be what it would write.
    fn of(public_key: &[u8]) -> Option<Self> {
        let kinds: [(Self, &'static dyn VerificationAlgorithm); 4] = [
            (Self::Rsa, &RSA_PKCS1_2048_8192_SHA384),
            (Self::P256, &ECDSA_P256_SHA256_ASN1),
            (Self::P384, &ECDSA_P384_SHA384_ASN1),
            (Self::P521, &ECDSA_P521_SHA512_ASN1),
        ];
        let reads = |algorithm| {
            let key = ParsedPublicKey::new(algorithm, public_key).ok()?;
            let written = key.as_der().ok()?;
            Some(public_key.starts_with(written.as_ref()))
        };
        let found = kinds.into_iter().find(|(_, algorithm)| reads(*algorithm) == Some(true));
        found.map(|(family, _)| family)
    }

    fn algorithm(self, hash: Hash) -> Result<&'static dyn VerificationAlgorithm, Refused> {
        Ok(match (self, hash) {
            (Self::Rsa, Hash::Sha1) => &RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY,
            (Self::Rsa, Hash::Sha256) => &RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
            (Self::Rsa, Hash::Sha384) => &RSA_PKCS1_2048_8192_SHA384,
            (Self::Rsa, Hash::Sha512) => &RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY,
            (Self::P256, Hash::Sha1) => &ECDSA_P256_SHA1_ASN1,
            (Self::P256, Hash::Sha256) => &ECDSA_P256_SHA256_ASN1,
            (Self::P256, Hash::Sha384) => &ECDSA_P256_SHA384_ASN1,
            (Self::P256, Hash::Sha512) => &ECDSA_P256_SHA512_ASN1,
            (Self::P384, Hash::Sha256) => &ECDSA_P384_SHA256_ASN1,
            (Self::P384, Hash::Sha384) => &ECDSA_P384_SHA384_ASN1,
            (Self::P384, Hash::Sha512) => &ECDSA_P384_SHA512_ASN1,
            (Self::P521, Hash::Sha1) => &ECDSA_P521_SHA1_ASN1,
            (Self::P521, Hash::Sha224) => &ECDSA_P521_SHA224_ASN1,
            (Self::P521, Hash::Sha256) => &ECDSA_P521_SHA256_ASN1,
            (Self::P521, Hash::Sha384) => &ECDSA_P521_SHA384_ASN1,
            (Self::P521, Hash::Sha512) => &ECDSA_P521_SHA512_ASN1,
            (Self::Rsa, Hash::Sha224) => return Err(Refused::Unmodelled("RSA with SHA-224")),
            (Self::P256, Hash::Sha224) => return Err(Refused::Unmodelled("P-256 with SHA-224")),
            (Self::P384, Hash::Sha1 | Hash::Sha224) => {
                return Err(Refused::Unmodelled("P-384 with SHA-1 or SHA-224"));
            }
        })
    }
}
