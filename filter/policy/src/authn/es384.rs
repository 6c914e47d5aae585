//! ES384 (RFC 7518 §3.4) as `jwt-compact` would have it: on the crate `p384`.

use std::borrow::Cow;
use std::convert::Infallible;
use std::num::NonZeroUsize;

use jwt_compact::{Algorithm, AlgorithmSignature};
use p384::ecdsa::signature::Verifier;
use p384::ecdsa::{Signature, VerifyingKey};

/// Verifies only: there is no signing key.
#[derive(Debug)]
pub(super) struct Es384;

/// `r || s`, 48 bytes each, neither 0 nor past the order of the curve.
pub(super) struct Es384Signature(Signature);

impl AlgorithmSignature for Es384Signature {
    const LENGTH: Option<NonZeroUsize> = NonZeroUsize::new(96);

    fn try_from_slice(slice: &[u8]) -> anyhow::Result<Self> {
        Signature::from_slice(slice).map(Self).map_err(anyhow::Error::msg)
    }

    fn as_bytes(&self) -> Cow<'_, [u8]> {
        Cow::Owned(self.0.to_bytes().to_vec())
    }
}

impl Algorithm for Es384 {
    type SigningKey = Infallible;
    type VerifyingKey = VerifyingKey;
    type Signature = Es384Signature;

    fn name(&self) -> Cow<'static, str> {
        Cow::Borrowed("ES384")
    }

    fn sign(&self, key: &Infallible, _message: &[u8]) -> Es384Signature {
        match *key {}
    }

    fn verify_signature(&self, signature: &Es384Signature, key: &VerifyingKey, message: &[u8]) -> bool {
        key.verify(message, &signature.0).is_ok()
    }
}
