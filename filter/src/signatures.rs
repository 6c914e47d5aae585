//! The host's own check of signatures: the foreign function `verify_signature`, as Envoy has it.
//!
//! It is used only where it has shown, when the plugin was configured, that it knows a good
//! signature from a broken one; a host may have another function of that name. Its answer is
//! believed in one form only: status 0 and exactly `08 01`, which is `result: true`.

use prost::Message;
use tenant_policy::node::{Hash, SignatureCheck};

use crate::host;

/// The name of the function.
const FUNCTION: &str = "verify_signature";

/// `VerifySignatureArguments`.
#[derive(Clone, PartialEq, Message)]
struct Arguments {
    #[prost(string, tag = "1")]
    hash_function: String,
    #[prost(bytes = "vec", tag = "2")]
    public_key: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    signature: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    text: Vec<u8>,
}

/// `VerifySignatureResult { result: true }` and nothing else.
const HOLDS: &[u8] = &[0x08, 0x01];

/// The host's verdict; `None` when the host gives none: there is no such function, or it could not
/// be called.
pub(crate) fn verify(check: &SignatureCheck<'_>) -> Option<bool> {
    let arguments = Arguments {
        hash_function: check.hash.name().to_owned(),
        public_key: check.public_key.to_vec(),
        signature: check.signature.to_vec(),
        text: check.message.to_vec(),
    };
    let answer = host::call_foreign_function(FUNCTION, &arguments.encode_to_vec()).ok()?;
    Some(answer == HOLDS)
}

/// Whether the host's check can be relied on: it accepts a good signature of each kind and refuses
/// it over another text.
pub(crate) fn are_native() -> bool {
    KNOWN.iter().all(|known| {
        let over = |message| {
            verify(&SignatureCheck {
                hash: known.hash,
                public_key: known.public_key,
                signature: known.signature,
                message,
            })
        };
        over(KNOWN_MESSAGE) == Some(true) && over(b"another message") == Some(false)
    })
}

/// A signature that holds.
struct Known {
    hash: Hash,
    public_key: &'static [u8],
    signature: &'static [u8],
}

/// What the known signatures are made over.
const KNOWN_MESSAGE: &[u8] = b"tenantgate";

/// One of each kind. Their private keys were thrown away; nothing else is signed with them.
const KNOWN: [Known; 3] = [
    Known {
        hash: Hash::Sha256,
        public_key: include_bytes!("signatures/rsa-2048.spki"),
        signature: include_bytes!("signatures/rsa-2048-sha256.signature"),
    },
    Known {
        hash: Hash::Sha256,
        public_key: include_bytes!("signatures/p256.spki"),
        signature: include_bytes!("signatures/p256-sha256.signature"),
    },
    Known {
        hash: Hash::Sha384,
        public_key: include_bytes!("signatures/p384.spki"),
        signature: include_bytes!("signatures/p384-sha384.signature"),
    },
];
