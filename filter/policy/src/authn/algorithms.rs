//! The signature algorithms (RFC 7518 §3, RFC 8037). `none` does not exist.

use jwt_compact::AlgorithmSignature;
use jwt_compact::alg::{Ed25519, Es256, Hs256, Rsa};

use super::keys::Material;

/// An algorithm that the filter verifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
    /// HMAC with SHA-256.
    Hs256,
}

impl Algorithm {
    const ALL: [Self; 4] = [Self::Rs256, Self::Es256, Self::EdDsa, Self::Hs256];

    /// The name in `alg`, exact case (RFC 7515 §4.1.1).
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
            Self::Hs256 => "HS256",
        }
    }

    /// The algorithm of that name; `None` for every other text, `none` included.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// All names, for messages.
    pub fn names() -> String {
        Self::ALL.map(|algorithm| format!("`{}`", algorithm.name())).join(", ")
    }

    /// Whether signer and verifier share one secret.
    pub fn is_symmetric(self) -> bool {
        match self {
            Self::Hs256 => true,
            Self::Rs256 | Self::Es256 | Self::EdDsa => false,
        }
    }

    /// Whether `signature` over `message` holds under `key`. A key of another family, or a
    /// signature of the wrong length, verifies nothing. HMACs are compared in constant time.
    pub(super) fn verify(self, key: &Material, message: &[u8], signature: &[u8]) -> bool {
        match (self, key) {
            (Self::Rs256, Material::Rsa(key)) => holds(&Rsa::rs256(), key, message, signature),
            (Self::Es256, Material::P256(key)) => holds(&Es256, key, message, signature),
            (Self::EdDsa, Material::Ed25519(key)) => holds(&Ed25519, key, message, signature),
            (Self::Hs256, Material::Hmac(key)) => holds(&Hs256, key, message, signature),
            (Self::Rs256 | Self::Es256 | Self::EdDsa | Self::Hs256, _) => false,
        }
    }
}

fn holds<A: jwt_compact::Algorithm>(algorithm: &A, key: &A::VerifyingKey, message: &[u8], signature: &[u8]) -> bool {
    // The library's own callers check the length first; its HMAC signature panics on another one.
    if A::Signature::LENGTH.is_some_and(|length| length.get() != signature.len()) {
        return false;
    }
    A::Signature::try_from_slice(signature).is_ok_and(|signature| algorithm.verify_signature(&signature, key, message))
}
