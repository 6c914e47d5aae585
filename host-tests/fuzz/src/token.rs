//! Tokens under a secret that the fuzzer does not know.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::{AUDIENCE, ISSUER, TENANTS};

/// The name of the key.
pub const KEY_ID: &str = "k";

/// Base64url as tokens have it.
#[must_use]
pub fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The token of these two texts, signed with HS256.
#[must_use]
pub fn signed(header: &[u8], claims: &[u8]) -> Vec<u8> {
    let input = format!("{}.{}", encoded(header), encoded(claims));
    let signature = encoded(mac(&secret(), input.as_bytes()));
    format!("{input}.{signature}").into_bytes()
}

/// HMAC with SHA-256.
#[must_use]
pub fn mac(secret: &[u8], message: &[u8]) -> Vec<u8> {
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(secret).expect("a secret of any length");
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

/// The `auth` block under which these tokens hold.
#[must_use]
pub fn auth() -> Value {
    let key = json!({ "kty": "oct", "kid": KEY_ID, "alg": "HS256", "k": encoded(secret()) });
    json!({ "issuers": [{
        "issuer": ISSUER,
        "audiences": [AUDIENCE],
        "algorithms": ["HS256"],
        "tenants": { "ids": [], "prefixes": [TENANTS] },
        "jwks": { "inline": { "keys": [key] } },
    }] })
}

fn secret() -> Vec<u8> {
    b"a secret of this process".repeat(3)
}
