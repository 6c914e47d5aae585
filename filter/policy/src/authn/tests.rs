use corpus::case::{self, Made};
use corpus::mint::Keys;
use serde_json::{Value, json};

use super::*;
use crate::config::{Environment, Plugin, compile};
use crate::world::{NOW, World};

fn auth(patch: Value) -> crate::config::Config {
    let mut issuer = json!({
        "issuer": "https://id.example.com",
        "audiences": ["api"],
        "algorithms": ["RS256", "ES256", "EdDSA"],
        "jwks": { "inline": { "$keys": ["main-rs256", "main-es256", "main-eddsa"] } },
    });
    if let (Value::Object(issuer), Value::Object(patch)) = (&mut issuer, patch) {
        issuer.extend(patch);
    }
    let document = json!({ "version": "v1", "enabled": true, "service": "ledger", "auth": { "issuers": [issuer] } });
    let document = Keys::shared().expand_config(&document).unwrap();
    match compile(document.to_string().as_bytes(), &Environment::default()).map(|compiled| compiled.plugin) {
        Ok(Plugin::MultiTenant(config)) => *config,
        other => panic!("{other:?}"),
    }
}

fn verify(auth: &Auth, token: &[u8]) -> Result<(), Refusal> {
    let world = World::default();
    let authentication = Authenticator::new(auth).verify(auth, token, Now::of(&world), &world);
    authentication.map(drop)
}

fn refusal(config: &crate::config::Config, made: Made) -> Option<Refusal> {
    let token = Keys::shared().token(&case::Token::Made(Box::new(made)), NOW).unwrap();
    verify(&config.auth, &token).err()
}

fn made(json: Value) -> Made {
    serde_json::from_value(json).unwrap()
}

#[test]
fn each_check_has_its_own_reason() {
    let config = auth(json!({}));
    for (token, expected) in [
        (json!({ "tenant": "acme" }), None),
        (json!({ "tenant": "acme", "key": "main-es256" }), None),
        (json!({ "tenant": "acme", "key": "main-eddsa" }), None),
        (json!({ "raw": "abc" }), Some(Refusal::Malformed)),
        (json!({ "raw": "a.b.c.d" }), Some(Refusal::Malformed)),
        (json!({ "raw": "a".repeat(20_000) }), Some(Refusal::TooLong)),
        (
            json!({ "tenant": "acme", "damage": "trailing_bits" }),
            Some(Refusal::Malformed),
        ),
        (json!({ "tenant": "acme", "raw_header": "{}x" }), Some(Refusal::Header)),
        (
            json!({ "tenant": "acme", "header": { "crit": ["x"] } }),
            Some(Refusal::Critical),
        ),
        (
            json!({ "tenant": "acme", "header": { "b64": false } }),
            Some(Refusal::Critical),
        ),
        (json!({ "tenant": "acme", "header": { "b64": true } }), None),
        (
            json!({ "tenant": "acme", "header": { "typ": "jwe" } }),
            Some(Refusal::Type),
        ),
        (
            json!({ "tenant": "acme", "header": { "alg": "none" } }),
            Some(Refusal::Algorithm),
        ),
        (
            json!({ "tenant": "acme", "header": { "alg": "HS256" } }),
            Some(Refusal::Algorithm),
        ),
        (
            json!({ "tenant": "acme", "header": { "alg": "ES256" } }),
            Some(Refusal::KeyUnknown),
        ),
        (
            json!({ "tenant": "acme", "header": { "kid": "nobody" } }),
            Some(Refusal::KeyUnknown),
        ),
        (
            json!({ "tenant": "acme", "header": { "kid": "" } }),
            Some(Refusal::KeyUnknown),
        ),
        (json!({ "raw_claims": "[]" }), Some(Refusal::Claims)),
        (
            json!({ "tenant": "acme", "claims": { "iss": "x" } }),
            Some(Refusal::Issuer),
        ),
        (
            json!({ "tenant": "acme", "damage": "flip_signature" }),
            Some(Refusal::Signature),
        ),
        (
            json!({ "tenant": "acme", "damage": "swap_claims" }),
            Some(Refusal::Signature),
        ),
        (
            json!({ "tenant": "acme", "key": "other-rs256", "header": { "kid": "main-rs256" } }),
            Some(Refusal::Signature),
        ),
        (
            json!({ "tenant": "acme", "claims": { "exp": null } }),
            Some(Refusal::NoExpiry),
        ),
        (
            json!({ "tenant": "acme", "claims": { "exp": NOW - 60 } }),
            Some(Refusal::Expired),
        ),
        (json!({ "tenant": "acme", "claims": { "exp": NOW - 59 } }), None),
        (
            json!({ "tenant": "acme", "claims": { "nbf": NOW + 61 } }),
            Some(Refusal::NotYetValid),
        ),
        (
            json!({ "tenant": "acme", "claims": { "iat": NOW + 61 } }),
            Some(Refusal::NotYetValid),
        ),
        (
            json!({ "tenant": "acme", "claims": { "aud": "other" } }),
            Some(Refusal::Audience),
        ),
    ] {
        assert_eq!(refusal(&config, made(token.clone())), expected, "{token}");
    }
}

#[test]
fn an_hmac_over_a_public_key_is_no_signature() {
    let config = auth(json!({}));
    let token = made(json!({ "tenant": "acme", "key": "main-rs256", "header": { "alg": "HS256" } }));
    assert_eq!(refusal(&config, token), Some(Refusal::Algorithm));
}

#[test]
fn signatures_of_any_length_are_judged_and_none_panics() {
    let config = auth(json!({}));
    let shared = auth(
        json!({ "issuer": "https://hmac.example.com", "algorithms": ["HS256"], "jwks": { "inline": { "$keys": ["main-hs256"] } } }),
    );
    let claims = json!({ "iss": "https://hmac.example.com" });
    for (config, key) in [
        (&config, "main-rs256"),
        (&config, "main-es256"),
        (&config, "main-eddsa"),
        (&shared, "main-hs256"),
    ] {
        let token = made(
            json!({ "tenant": "acme", "key": key, "claims": if key == "main-hs256" { claims.clone() } else { json!({}) } }),
        );
        let token = Keys::shared().token(&case::Token::Made(Box::new(token)), NOW).unwrap();
        assert!(verify(&config.auth, &token).is_ok(), "{key}");
        let text = String::from_utf8(token).unwrap();
        let (signed, _) = text.rsplit_once('.').unwrap();
        for length in (0..=600).filter(|length| length % 4 != 1) {
            let token = format!("{signed}.{}", "A".repeat(length));
            let refusal = verify(&config.auth, token.as_bytes()).err();
            assert_eq!(refusal, Some(Refusal::Signature), "{key} {length}");
        }
    }
}

fn load(keys: Value, algorithms: &[Algorithm]) -> (usize, Vec<&'static str>) {
    let keys = keys.as_array().unwrap().clone();
    let (set, refused) = KeySet::load(&keys, algorithms, &|_| None);
    let usable = set.map_or(0, |set| format!("{set:?}").matches("Key {").count());
    (usable, refused.into_iter().map(|key| key.reason).collect())
}

#[test]
fn keys_for_other_purposes_are_passed_over_in_silence() {
    let keys = Keys::shared();
    let with = |member: &str, value: Value| {
        let mut jwk = keys.jwk("main-rs256").unwrap();
        jwk[member] = value;
        jwk
    };
    let set = json!([
        with("use", json!("enc")),
        with("key_ops", json!(["encrypt"])),
        with("kty", json!("AKP")),
        with("alg", json!("RSA-OAEP")),
        { "kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA" },
        { "kty": "OKP", "crv": "X25519", "x": "AA" },
        keys.jwk("main-eddsa").unwrap(),
    ]);
    assert_eq!(load(set, &[Algorithm::Rs256, Algorithm::Es256]), (0, vec![]));
}

#[test]
fn bad_keys_are_refused_by_reason_and_the_others_stay() {
    let keys = Keys::shared();
    let patched = |name: &str, member: &str, value: Value| {
        let mut jwk = keys.jwk(name).unwrap();
        jwk[member] = value;
        jwk
    };
    let small = "AQAB".repeat(30);
    let set = json!([
        keys.jwk("main-rs256").unwrap(),
        keys.jwk("main-rs256").unwrap(),
        patched("other-rs256", "kid", json!("main-rs256")),
        patched("other-rs256", "n", json!(small)),
        patched("other-rs256", "e", json!("Ag")),
        patched("other-rs256", "e", json!("AQ")),
        patched("other-rs256", "n", json!("not base64!")),
        patched("other-rs256", "alg", json!("ES256")),
        patched("other-rs256", "kid", json!("")),
        patched("main-es256", "y", keys.jwk("other-es256").unwrap()["y"].clone()),
        patched("main-eddsa", "x", json!("AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")),
        { "kty": "oct", "k": "c2hvcnQ" },
        "not an object",
    ]);
    let (usable, reasons) = load(
        set,
        &[Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa, Algorithm::Hs256],
    );
    assert_eq!(usable, 2);
    assert_eq!(
        reasons,
        [
            "another key with this `kid` fits the same algorithm: neither can be named",
            "RSA modulus under 2048 bits",
            "not a valid RSA public key",
            "not a valid RSA public key",
            "key material is not base64url without padding",
            "`alg` does not fit `kty`",
            "`kid` is not a non-empty string",
            "not a point on P-256",
            "not a usable Ed25519 public key",
            "HMAC secret shorter than the hash",
            "not an object",
        ]
    );
}

#[test]
fn an_rsa_signature_has_one_spelling() {
    let keys = Keys::shared();
    for name in ["main-ps256", "main-ps384", "main-ps512", "main-rs256"] {
        let jwk = keys.jwk(name).unwrap();
        let algorithm = Algorithm::parse(jwk["alg"].as_str().unwrap()).unwrap();
        let (set, _) = KeySet::load(std::slice::from_ref(&jwk), &[algorithm], &|_| None);
        let set = set.unwrap();
        let key = set.select(algorithm, Some(name)).unwrap();
        let number = |text: &str| {
            use base64::Engine;
            let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).unwrap();
            rsa::BigUint::from_bytes_be(&bytes)
        };
        let modulus = number(jwk["n"].as_str().unwrap());
        let world = World::default();
        // Not every signature leaves room for the modulus; another message makes another signature.
        let found = (0..200).any(|round| {
            let message = format!("message {round}");
            let signature = keys.sign(name, algorithm.name(), message.as_bytes()).unwrap();
            assert!(
                key.verifies(algorithm, message.as_bytes(), &signature, &world),
                "{name}"
            );
            let other = (rsa::BigUint::from_bytes_be(&signature) + &modulus).to_bytes_be();
            let fits = other.len() == signature.len();
            assert!(
                !fits || !key.verifies(algorithm, message.as_bytes(), &other, &world),
                "{name}"
            );
            fits
        });
        assert!(found, "{name}: no signature left room");
    }
}

#[test]
fn of_a_set_the_first_256_keys_are_looked_at() {
    let jwk = Keys::shared().jwk("main-eddsa").unwrap();
    let named = |n: usize| {
        let mut jwk = jwk.clone();
        jwk["kid"] = json!(format!("k{n}"));
        jwk
    };
    let keys: Vec<Value> = (0..257).map(named).collect();
    let (set, refused) = KeySet::load(&keys, &[Algorithm::EdDsa], &|_| None);
    let set = set.unwrap();
    assert_eq!(set.len(), 256);
    assert!(set.knows("k255") && !set.knows("k256"));
    assert_eq!(refused.iter().map(|key| key.index).collect::<Vec<_>>(), [256]);
}
