//! The foreign function `verify_signature`, called by a guest.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING,
    ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
    RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
};
use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use prost::Message;
use tiny_envoy::Builder;

use crate::probe::{Probe, RETURNED, own_notes};

const TEXT: &[u8] = b"header.payload";
/// Texts of the answer, with the two bytes of protobuf before them.
const BAD_SIGNATURE: &str = "\x12\x26Failed to verify digest. Error code: 0";
const BAD_KEY: &str = "\x12\x23Failed to initialize digest verify.";

/// A guest that calls the function with its VM configuration, and tells the status and the answer.
fn world() -> Builder {
    Probe::new()
        .on(
            "request_headers",
            &format!(
                "(drop (call $get_buffer_bytes (i32.const 6) (i32.const 0) (i32.const 65535) {RETURNED}))
                 (call $note @'status' (call $call_foreign_function @'verify_signature'
                   (i32.load (i32.const 16)) (i32.load (i32.const 20)) {RETURNED}))
                 (call $tell @'answer')
                 (i32.const 0)"
            ),
        )
        .world()
}

/// What a guest sees of the answer.
#[derive(Debug, PartialEq)]
enum Told {
    Holds,
    Answer(String),
    Status(u32),
}

fn told(builder: Builder, arguments: &[u8]) -> Told {
    let mut envoy = builder.vm_config(arguments).start().expect("a world");
    envoy.get("/").send();
    envoy.assert_alive();
    let notes = own_notes(&envoy);
    let note = |name: &str| notes.iter().find_map(|note| note.strip_prefix(name)).expect("a note");
    match (note("status "), note("answer ")) {
        ("0", "\x08\x01") => Told::Holds,
        ("0", answer) => Told::Answer(answer.to_owned()),
        (status, _) => Told::Status(status.parse().expect("a number")),
    }
}

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

fn arguments(hash: &str, public_key: &[u8], signature: &[u8]) -> Arguments {
    Arguments {
        hash_function: hash.to_owned(),
        public_key: public_key.to_vec(),
        signature: signature.to_vec(),
        text: TEXT.to_vec(),
        public_key_pem: String::new(),
    }
}

fn verdict(hash: &str, public_key: &[u8], signature: &[u8]) -> Told {
    told(world(), &arguments(hash, public_key, signature).encode_to_vec())
}

fn bad_signature() -> Told {
    Told::Answer(BAD_SIGNATURE.to_owned())
}

fn bad_key() -> Told {
    Told::Answer(BAD_KEY.to_owned())
}

struct Rsa(RsaKeyPair);

impl Rsa {
    fn generate() -> Self {
        Self(RsaKeyPair::generate(KeySize::Rsa2048).expect("a key"))
    }

    fn spki(&self) -> Vec<u8> {
        AsDer::as_der(self.0.public_key()).expect("DER").as_ref().to_vec()
    }

    fn sign(&self, padding: &'static dyn RsaEncoding) -> Vec<u8> {
        let mut signature = vec![0; self.0.public_modulus_len()];
        let signed = self.0.sign(padding, &SystemRandom::new(), TEXT, &mut signature);
        signed.expect("a signature");
        signature
    }
}

/// The public key in DER, and a signature.
fn ecdsa(algorithm: &'static EcdsaSigningAlgorithm) -> (Vec<u8>, Vec<u8>) {
    let pair = EcdsaKeyPair::generate(algorithm).expect("a key");
    let spki = AsDer::as_der(pair.public_key()).expect("DER").as_ref().to_vec();
    let signature = pair.sign(&SystemRandom::new(), TEXT).expect("a signature");
    (spki, signature.as_ref().to_vec())
}

#[test]
fn rsa_pkcs1_is_verified_with_the_hash_that_is_asked_for() {
    let key = Rsa::generate();
    let spki = key.spki();
    let signature = key.sign(&RSA_PKCS1_SHA256);
    assert_eq!(verdict("sha256", &spki, &signature), Told::Holds);
    assert_eq!(verdict("SHA256", &spki, &signature), Told::Holds);
    assert_eq!(verdict("sha384", &spki, &signature), bad_signature());
    assert_eq!(verdict("sha384", &spki, &key.sign(&RSA_PKCS1_SHA384)), Told::Holds);
    assert_eq!(verdict("sha512", &spki, &key.sign(&RSA_PKCS1_SHA512)), Told::Holds);
    assert_eq!(verdict("sha256", &spki, &key.sign(&RSA_PSS_SHA256)), bad_signature());
    assert_eq!(verdict("sha256", &Rsa::generate().spki(), &signature), bad_signature());
    assert_eq!(verdict("sha256", &spki, b""), bad_signature());
    assert_eq!(verdict("sha256", &spki, &signature[1..]), bad_signature());
    let mut flipped = signature;
    flipped[100] ^= 1;
    assert_eq!(verdict("sha256", &spki, &flipped), bad_signature());
}

#[test]
fn rsa_keys_of_1024_bits_are_taken() {
    let decode = |text: &str| BASE64.decode(text).expect("base64");
    // Made with OpenSSL: `genrsa 1024`, `rsa -pubout`, `dgst -sha256 -sign`.
    let spki = decode(
        "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDMuxt/yyuxArHi0c96dKynfuHpVfMXYzgAqGBNupPJMe+6vByBdPG8HFo/riAsfHsw\
         zbDuvimyaMhNcwpDGu2Y3gAfGymoClfK2o4rJ0ZscDWLxDSyJc72d+FC6l9idckCdHesQIJPRhbf+drcM8ecw3/QI6l/xjZa7u7Rvu+7\
         xwIDAQAB",
    );
    let mut signature = decode(
        "trcKqQKlqCZWu4ScacWRjo7hV1TDzIWqjXAsc31B2rd0VlT3LO7/Si37otXABa+oDGgISrr12dT9Idm9sXBOOcHCHjU7rPpZvGJD2h14\
         1xDQ/5Xg5kvuDi8TjJJqbuBwb0HQHBJArnH9nkemyh8rSI3vQ7YevQGqfFPQ3Htz7uI=",
    );
    assert_eq!(verdict("sha256", &spki, &signature), Told::Holds);
    signature[0] ^= 1;
    assert_eq!(verdict("sha256", &spki, &signature), bad_signature());
}

#[test]
fn ecdsa_wants_its_signature_in_der() {
    for (algorithm, hash) in [
        (&ECDSA_P256_SHA256_ASN1_SIGNING, "sha256"),
        (&ECDSA_P384_SHA384_ASN1_SIGNING, "sha384"),
        (&ECDSA_P521_SHA512_ASN1_SIGNING, "sha512"),
    ] {
        let (spki, signature) = ecdsa(algorithm);
        assert_eq!(verdict(hash, &spki, &signature), Told::Holds, "{hash}");
        let trailing = [&signature[..], b"\0"].concat();
        assert_eq!(verdict(hash, &spki, &trailing), bad_signature(), "{hash}");
        let other = if hash == "sha256" { "sha512" } else { "sha256" };
        assert_eq!(verdict(other, &spki, &signature), bad_signature(), "{hash}");
    }
    let (spki, raw) = ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING);
    assert_eq!(raw.len(), 64);
    assert_eq!(verdict("sha256", &spki, &raw), bad_signature());
}

#[test]
fn only_a_key_in_its_envelope_is_a_key_and_what_follows_it_is_not_looked_at() {
    let key = Rsa::generate();
    let signature = key.sign(&RSA_PKCS1_SHA256);
    let spki = key.spki();
    let trailing = [&spki[..], b"more"].concat();
    assert_eq!(verdict("sha256", &trailing, &signature), Told::Holds);
    let pkcs1 = key.0.public_key().as_ref();
    assert_eq!(verdict("sha256", pkcs1, &signature), bad_key());
    assert_eq!(verdict("sha256", &spki[..spki.len() - 1], &signature), bad_key());
    assert_eq!(verdict("sha256", b"-----BEGIN PUBLIC KEY-----", &signature), bad_key());

    let (spki, signature) = ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING);
    let point = &spki[spki.len() - 65..];
    assert_eq!(verdict("sha256", point, &signature), bad_key());

    let pair = Ed25519KeyPair::generate().expect("a key");
    let spki = AsDer::as_der(pair.public_key()).expect("DER");
    let signature = pair.sign(TEXT);
    assert_eq!(verdict("sha512", spki.as_ref(), signature.as_ref()), bad_key());
}

#[test]
fn hashes_have_one_name() {
    let key = Rsa::generate();
    let signature = key.sign(&RSA_PKCS1_SHA256);
    for (name, answer) in [
        ("SHA-256", "\x12\x19SHA-256 is not supported."),
        ("", "\x12\x12 is not supported."),
        ("md5", "\x12\x15md5 is not supported."),
    ] {
        let expected = Told::Answer(answer.to_owned());
        assert_eq!(verdict(name, &key.spki(), &signature), expected, "{name}");
    }
}

#[test]
fn arguments_that_make_no_sense_are_a_bad_argument() {
    let key = Rsa::generate();
    let good = arguments("sha256", &key.spki(), &key.sign(&RSA_PKCS1_SHA256));
    let bytes = good.encode_to_vec();
    assert_eq!(told(world(), &bytes), Told::Holds);
    let two_keys = Arguments {
        public_key_pem: "-----BEGIN PUBLIC KEY-----".to_owned(),
        ..good.clone()
    };
    let no_key = Arguments {
        public_key: Vec::new(),
        ..good
    };
    for wrong in [
        two_keys.encode_to_vec(),
        no_key.encode_to_vec(),
        Vec::new(),
        b"\xff".to_vec(),
        bytes[..bytes.len() - 1].to_vec(),
        [&b"\x0a\x01\xff"[..], &bytes].concat(),
    ] {
        assert_eq!(told(world(), &wrong), Told::Status(2), "{}", wrong.escape_ascii());
    }
}

#[test]
fn a_host_may_lack_it() {
    let lacking = world().without_foreign_function("verify_signature");
    assert_eq!(told(lacking, b""), Told::Status(1));
}
