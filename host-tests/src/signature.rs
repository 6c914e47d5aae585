//! Envoy's foreign function `verify_signature`: protobuf around [`native_signature`].

use native_signature::{Refused, verify};
use prost::Message;

use crate::abi::Status;

/// What Envoy takes: `envoy.source.extensions.common.wasm.VerifySignatureArguments`.
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
    #[prost(string, tag = "5")]
    public_key_pem: String,
}

/// What Envoy answers: `envoy.source.extensions.common.wasm.VerifySignatureResult`.
#[derive(Clone, PartialEq, Message)]
struct Answer {
    #[prost(bool, tag = "1")]
    result: bool,
    #[prost(string, tag = "2")]
    error: String,
}

/// The foreign function: protobuf in, protobuf out.
///
/// Arguments that are no protobuf, or that name no key or two, are a bad argument. Everything else
/// succeeds and says in its answer whether the signature holds.
pub(crate) fn verify_signature(arguments: &[u8]) -> Result<Vec<u8>, Status> {
    let arguments = Arguments::decode(arguments).map_err(|_| Status::BadArgument)?;
    if arguments.public_key.is_empty() == arguments.public_key_pem.is_empty() {
        return Err(Status::BadArgument);
    }
    assert!(
        arguments.public_key_pem.is_empty(),
        "not modelled by the tiny Envoy: verify_signature with a key in PEM"
    );
    let verdict = verify(
        &arguments.hash_function,
        &arguments.public_key,
        &arguments.signature,
        &arguments.text,
    );
    let answer = match verdict {
        Ok(()) => Answer {
            result: true,
            error: String::new(),
        },
        Err(Refused::Unmodelled(what)) => panic!("not modelled by the tiny Envoy: verify_signature of {what}"),
        Err(refused) => Answer {
            result: false,
            error: refused.to_string(),
        },
    };
    Ok(answer.encode_to_vec())
}
