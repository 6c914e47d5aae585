//! The signature algorithms (RFC 7518 §3, RFC 8037). `none` does not exist.

use jwt_compact::AlgorithmSignature;
use jwt_compact::alg::{Ed25519, Es256, Hs256, Hs256Key, Hs384, Hs384Key, Hs512, Hs512Key, Rsa};

use super::es384::Es384;
use super::keys::{Key, Material};
use crate::node::{Hash, Node, SignatureCheck};

/// An algorithm that the filter verifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    Hs256,
    /// HMAC with SHA-384.
    Hs384,
    /// HMAC with SHA-512.
    Hs512,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256, MGF1 with SHA-256 and a salt of 32 bytes.
    Ps256,
    /// RSASSA-PSS with SHA-384, MGF1 with SHA-384 and a salt of 48 bytes.
    Ps384,
    /// RSASSA-PSS with SHA-512, MGF1 with SHA-512 and a salt of 64 bytes.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
}

/// What kind of key an algorithm needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Hmac,
    /// `RS*`: what an RSA key without `alg` verifies.
    RsaPkcs1,
    /// `PS*`: an RSA key that says so.
    RsaPss,
    P256,
    P384,
    Ed25519,
}

impl Algorithm {
    /// Every algorithm there is.
    pub const ALL: [Self; 12] = [
        Self::Hs256,
        Self::Hs384,
        Self::Hs512,
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
    ];

    /// The name in `alg`, exact case (RFC 7515 §4.1.1).
    pub fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
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

    pub(super) fn family(self) -> Family {
        match self {
            Self::Hs256 | Self::Hs384 | Self::Hs512 => Family::Hmac,
            Self::Rs256 | Self::Rs384 | Self::Rs512 => Family::RsaPkcs1,
            Self::Ps256 | Self::Ps384 | Self::Ps512 => Family::RsaPss,
            Self::Es256 => Family::P256,
            Self::Es384 => Family::P384,
            Self::EdDsa => Family::Ed25519,
        }
    }

    /// The hash that the algorithm is made with. Ed25519 has its own, SHA-512, inside.
    pub(super) fn hash(self) -> Hash {
        match self {
            Self::Hs256 | Self::Rs256 | Self::Ps256 | Self::Es256 => Hash::Sha256,
            Self::Hs384 | Self::Rs384 | Self::Ps384 | Self::Es384 => Hash::Sha384,
            Self::Hs512 | Self::Rs512 | Self::Ps512 | Self::EdDsa => Hash::Sha512,
        }
    }

    /// Whether signer and verifier share one secret.
    pub fn is_symmetric(self) -> bool {
        self.family() == Family::Hmac
    }

    /// Whether `signature` over `message` holds under `key`. A key of another family, or a
    /// signature of the wrong length, verifies nothing. HMACs are compared in constant time.
    ///
    /// RSASSA-PKCS1-v1_5 and ECDSA go to the host where it offers to check them; everything else,
    /// and everything on other hosts, is done here.
    pub(super) fn verify(self, key: &Key, message: &[u8], signature: &[u8], node: &impl Node) -> bool {
        if let Some(holds) = self.ask_host(key, message, signature, node) {
            return holds;
        }
        match (self, &key.material) {
            (Self::Hs256, Material::Hmac(secret)) => holds(&Hs256, &Hs256Key::new(secret), message, signature),
            (Self::Hs384, Material::Hmac(secret)) => holds(&Hs384, &Hs384Key::new(secret), message, signature),
            (Self::Hs512, Material::Hmac(secret)) => holds(&Hs512, &Hs512Key::new(secret), message, signature),
            (Self::Rs256, Material::Rsa(key)) => holds(&Rsa::rs256(), key, message, signature),
            (Self::Rs384, Material::Rsa(key)) => holds(&Rsa::rs384(), key, message, signature),
            (Self::Rs512, Material::Rsa(key)) => holds(&Rsa::rs512(), key, message, signature),
            (Self::Ps256, Material::Rsa(key)) => holds(&Rsa::ps256(), key, message, signature),
            (Self::Ps384, Material::Rsa(key)) => holds(&Rsa::ps384(), key, message, signature),
            (Self::Ps512, Material::Rsa(key)) => holds(&Rsa::ps512(), key, message, signature),
            (Self::Es256, Material::P256(key)) => holds(&Es256, key, message, signature),
            (Self::Es384, Material::P384(key)) => holds(&Es384, key, message, signature),
            (Self::EdDsa, Material::Ed25519(key)) => holds(&Ed25519, key, message, signature),
            (
                Self::Hs256
                | Self::Hs384
                | Self::Hs512
                | Self::Rs256
                | Self::Rs384
                | Self::Rs512
                | Self::Ps256
                | Self::Ps384
                | Self::Ps512
                | Self::Es256
                | Self::Es384
                | Self::EdDsa,
                _,
            ) => false,
        }
    }

    /// The host's verdict; `None` where it has none to give.
    ///
    /// A host wants ECDSA signatures in DER, JWS has them as `r || s`. They are taken apart as
    /// strictly as in the pure way, so that both refuse the same: two numbers of exactly the
    /// curve's length, neither 0 nor past the order.
    fn ask_host(self, key: &Key, message: &[u8], signature: &[u8], node: &impl Node) -> Option<bool> {
        let check = |signature: &[u8]| {
            node.verify_signature(&SignatureCheck {
                hash: self.hash(),
                public_key: key.public.as_slice(),
                signature,
                message,
            })
        };
        match (self.family(), &key.material) {
            (Family::RsaPkcs1, Material::Rsa(_)) => check(signature),
            (Family::P256, Material::P256(_)) => match p256::ecdsa::Signature::from_slice(signature) {
                Ok(signature) => check(signature.to_der().as_bytes()),
                Err(_) => Some(false),
            },
            (Family::P384, Material::P384(_)) => match p384::ecdsa::Signature::from_slice(signature) {
                Ok(signature) => check(signature.to_der().as_bytes()),
                Err(_) => Some(false),
            },
            _ => None,
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
