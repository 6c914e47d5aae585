use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, EcdsaVerificationAlgorithm, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384,
    RSA_PSS_2048_8192_SHA512, RsaPublicKeyComponents, UnparsedPublicKey,
};
use aws_lc_rs::{hmac, signature::RsaParameters};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL;

use super::*;
use crate::case::{Damage, Made, Token};

const NOW: u64 = 1_700_000_000;

fn decode(text: &str) -> Vec<u8> {
    BASE64URL.decode(text).expect("base64url")
}

fn text(token: &Token) -> String {
    let bytes = Keys::shared().token(token, NOW).expect("a token");
    String::from_utf8(bytes).expect("ASCII")
}

fn made(json: Value) -> Token {
    Token::Made(serde_json::from_value(json).expect("a token"))
}

/// Header and claims of a three-part token.
fn parsed(token: &str) -> (Value, Value) {
    let parts: Vec<_> = token.split('.').collect();
    let json = |part: &str| serde_json::from_slice(&decode(part)).expect("JSON");
    (json(parts[0]), json(parts[1]))
}

/// Verifies from the JWK alone, by the algorithm that the header names.
fn verifies(token: &str, key: &str) -> bool {
    let Some((input, signature)) = token.rsplit_once('.') else {
        return false;
    };
    let Ok(signature) = BASE64URL.decode(signature) else {
        return false;
    };
    let jwk = Keys::shared().jwk(key).expect("a key");
    let member = |name: &str| decode(jwk[name].as_str().expect("a text"));
    let rsa = |parameters: &RsaParameters| {
        let (n, e) = (member("n"), member("e"));
        let public = RsaPublicKeyComponents { n, e };
        public.verify(parameters, input.as_bytes(), &signature).is_ok()
    };
    let ecdsa = |algorithm: &'static EcdsaVerificationAlgorithm| {
        let point = [&[4][..], &member("x"), &member("y")].concat();
        let public = UnparsedPublicKey::new(algorithm, point);
        public.verify(input.as_bytes(), &signature).is_ok()
    };
    let hmac = |hash| {
        let key = hmac::Key::new(hash, &member("k"));
        hmac::verify(&key, input.as_bytes(), &signature).is_ok()
    };
    let header = BASE64URL.decode(input.split('.').next().expect("a part"));
    let header: Value = header.map_or(Value::Null, |h| serde_json::from_slice(&h).unwrap_or_default());
    match header["alg"].as_str().expect("an alg") {
        "RS256" => rsa(&RSA_PKCS1_2048_8192_SHA256),
        "RS384" => rsa(&RSA_PKCS1_2048_8192_SHA384),
        "RS512" => rsa(&RSA_PKCS1_2048_8192_SHA512),
        "PS256" => rsa(&RSA_PSS_2048_8192_SHA256),
        "PS384" => rsa(&RSA_PSS_2048_8192_SHA384),
        "PS512" => rsa(&RSA_PSS_2048_8192_SHA512),
        "ES256" => ecdsa(&ECDSA_P256_SHA256_FIXED),
        "ES384" => ecdsa(&ECDSA_P384_SHA384_FIXED),
        "EdDSA" => UnparsedPublicKey::new(&ED25519, member("x"))
            .verify(input.as_bytes(), &signature)
            .is_ok(),
        "HS256" => hmac(hmac::HMAC_SHA256),
        "HS384" => hmac(hmac::HMAC_SHA384),
        "HS512" => hmac(hmac::HMAC_SHA512),
        alg => panic!("{alg}"),
    }
}

#[test]
fn every_key_signs_tokens_that_its_jwk_verifies_and_no_other_does() {
    for (name, algorithm) in NAMES {
        let token = text(&made(json!({ "tenant": "acme", "key": name })));
        assert!(verifies(&token, name), "{name}");
        assert_eq!(parsed(&token).0["alg"], algorithm.name());
        let stranger = match name.split_once('-') {
            Some(("main", kind)) => {
                assert_eq!(kind, algorithm.name().to_lowercase());
                format!("other-{kind}")
            }
            Some((_, kind)) => format!("main-{kind}"),
            None => panic!("{name}"),
        };
        assert!(!verifies(&token, &stranger), "{name}");
    }
}

#[test]
fn the_alg_in_the_header_is_signed_where_the_key_can() {
    for (key, alg) in [
        ("main-rs256", "RS512"),
        ("main-rs256", "PS256"),
        ("main-ps384", "RS384"),
        ("main-ps512", "PS256"),
        ("main-hs256", "HS512"),
        ("main-hs512", "HS256"),
    ] {
        let token = text(&made(json!({ "key": key, "header": { "alg": alg } })));
        assert_eq!(parsed(&token).0["alg"], alg);
        assert!(verifies(&token, key), "{alg}");
    }
}

#[test]
fn a_signature_may_be_of_another_algorithm_than_the_header_says() {
    let token = text(&made(json!({ "key": "main-hs256", "signed_as": "HS512" })));
    assert_eq!(parsed(&token).0["alg"], "HS256");
    let (input, signature) = token.rsplit_once('.').expect("parts");
    let tag = Keys::shared().sign("main-hs256", "HS512", input.as_bytes());
    assert_eq!(decode(signature), tag.expect("a tag"));
}

#[test]
fn a_confused_algorithm_is_signed_under_the_public_key() {
    let keys = Keys::shared();
    for key in ["main-rs256", "main-ps256", "main-es256", "main-es384", "main-eddsa"] {
        let tag = keys.sign(key, "HS256", b"input").expect("a tag");
        assert_eq!(tag.len(), 32, "{key}");
        assert_eq!(keys.sign(key, "HS256", b"input").expect("a tag"), tag);
    }
}

#[test]
fn a_plain_token_has_the_documented_header_and_claims() {
    let token = text(&Token::Tenant("acme".to_owned()));
    let (header, claims) = parsed(&token);
    assert_eq!(header, json!({ "alg": "RS256", "kid": "main-rs256", "typ": "JWT" }));
    assert_eq!(
        claims,
        json!({ "iss": "https://id.example.com", "aud": "api", "sub": "user-1",
            "iat": NOW, "exp": NOW + 3600, "tenantId": "acme" })
    );
    assert!(verifies(&token, "main-rs256"));
}

#[test]
fn shared_secrets_have_an_issuer_of_their_own_and_no_tenant_means_no_claim() {
    let (header, claims) = parsed(&text(&made(json!({ "key": "main-hs256" }))));
    assert_eq!(header["kid"], "main-hs256");
    assert_eq!(claims["iss"], "https://hmac.example.com");
    assert_eq!(claims.get("tenantId"), None);
}

#[test]
fn patches_merge_and_times_are_numbers() {
    let token = made(json!({
        "tenant": "acme",
        "header": { "typ": null, "crit": ["x"] },
        "claims": { "aud": null, "exp": { "$now": -5 }, "nbf": { "$now": 0.5 },
            "deep": { "at": [{ "$now": 1 }] } },
    }));
    let (header, claims) = parsed(&text(&token));
    assert_eq!(header, json!({ "alg": "RS256", "kid": "main-rs256", "crit": ["x"] }));
    assert_eq!(claims.get("aud"), None);
    assert_eq!(claims["exp"], json!(NOW - 5));
    assert_eq!(claims["nbf"], json!(1_700_000_000.5));
    assert_eq!(claims["deep"], json!({ "at": [NOW + 1] }));
}

#[test]
fn raw_parts_are_taken_byte_for_byte_and_signed() {
    let claims = r#"{"exp":$NOW+60,"iat":$NOW-60, "nbf":$NOW,"tenantId":"a","tenantId":"b"}"#;
    let header = r#" {"alg":"ES256","alg":"ES256","kid":"main-es256"}"#;
    let token = text(&made(json!({
        "key": "main-es256", "raw_header": header, "raw_claims": claims,
    })));
    let parts: Vec<_> = token.split('.').collect();
    assert_eq!(decode(parts[0]), header.as_bytes());
    assert_eq!(
        decode(parts[1]),
        br#"{"exp":1700000060,"iat":1699999940, "nbf":1700000000,"tenantId":"a","tenantId":"b"}"#
    );
    assert!(verifies(&token, "main-es256"));
    let raw = made(json!({ "raw": "not a\u{ff}token" }));
    let raw = Keys::shared().token(&raw, NOW).expect("bytes");
    assert_eq!(raw, b"not a\xfftoken");
}

#[test]
fn a_header_that_is_not_json_is_still_signed() {
    let token = text(&made(json!({ "raw_header": "no json" })));
    let parts: Vec<_> = token.split('.').collect();
    assert_eq!(decode(parts[0]), b"no json");
    assert_eq!(decode(parts[2]).len(), 256);
}

fn damaged(key: &str, damage: Damage) -> (String, String) {
    // Ed25519 and HMAC signatures are the same every time, so that damage can be told from chance.
    let token = |damage| {
        let made = Made {
            key: Some(key.to_owned()),
            tenant: Some("acme".to_owned()),
            damage,
            ..Made::default()
        };
        text(&Token::Made(Box::new(made)))
    };
    (token(None), token(Some(damage)))
}

#[test]
fn damages_do_what_they_say() {
    for key in ["main-eddsa", "main-hs256", "main-hs384", "main-hs512"] {
        let split = |damage| {
            let (whole, broken) = damaged(key, damage);
            let parts = |token: &str| token.split('.').map(str::to_owned).collect::<Vec<_>>();
            (parts(&whole), parts(&broken), broken)
        };

        let (whole, broken, token) = split(Damage::FlipSignature);
        assert_eq!(whole[..2], broken[..2]);
        let (before, after) = (decode(&whole[2]), decode(&broken[2]));
        let bits: u32 = before.iter().zip(&after).map(|(a, b)| (a ^ b).count_ones()).sum();
        assert_eq!((bits, before.len()), (1, after.len()));
        assert!(!verifies(&token, key));

        let (whole, broken, token) = split(Damage::SwapClaims);
        assert_eq!((&whole[0], &whole[2]), (&broken[0], &broken[2]));
        assert_eq!(parsed(&token).1["tenantId"], "globex");
        assert!(!verifies(&token, key));

        let (whole, broken, _) = split(Damage::DropSignature);
        assert_eq!(broken, [whole[0].as_str(), &whole[1], ""]);

        let (whole, broken, _) = split(Damage::DropThirdPart);
        assert_eq!(broken, whole[..2]);

        let (whole, broken, _) = split(Damage::AddPart);
        assert_eq!((&broken[..3], broken.len()), (&whole[..], 4));

        let (whole, broken, _) = split(Damage::ZeroSignature);
        assert_eq!(decode(&broken[2]), vec![0; decode(&whole[2]).len()]);

        let (whole, broken, _) = split(Damage::HalveSignature);
        let (before, after) = (decode(&whole[2]), decode(&broken[2]));
        assert_eq!(after, before[..before.len() / 2]);
    }
}

#[test]
fn trailing_bits_change_the_text_but_no_byte() {
    let lenient = base64::engine::GeneralPurpose::new(
        &base64::alphabet::URL_SAFE,
        base64::engine::general_purpose::NO_PAD.with_decode_allow_trailing_bits(true),
    );
    for key in ["main-eddsa", "main-hs256", "main-hs512"] {
        let (whole, broken) = damaged(key, Damage::TrailingBits);
        assert_ne!(whole, broken);
        assert_eq!(whole.len(), broken.len());
        let part = |token: &str| token.rsplit('.').next().expect("a part").to_owned();
        let (before, after) = (part(&whole), part(&broken));
        assert!(BASE64URL.decode(&after).is_err());
        assert_eq!(lenient.decode(&after).expect("bytes"), decode(&before));
    }
    for none in [
        json!({ "key": "main-hs256", "header": { "alg": "HS384" }, "damage": "trailing_bits" }),
        json!({ "key": "main-es384", "damage": "trailing_bits" }),
    ] {
        assert!(Keys::shared().token(&made(none), NOW).is_err());
    }
}

#[test]
fn padding_is_the_only_fault_of_a_padded_token() {
    for (name, _) in NAMES {
        let (_, token) = damaged(name, Damage::Pad);
        let (input, signature) = token.rsplit_once('.').expect("parts");
        let header = input.split('.').next().expect("a header");
        assert!(header.ends_with('='), "{header}");
        assert!(BASE64URL.decode(header).is_err());
        let bytes = base64::prelude::BASE64_URL_SAFE.decode(header).expect("padded");
        let json: Value = serde_json::from_slice(&bytes).expect("JSON");
        assert_eq!(json["kid"], name);
        if name == "main-eddsa" {
            let again = Keys::shared().sign(name, "EdDSA", input.as_bytes());
            assert_eq!(again.expect("a signature"), decode(signature));
        }
    }
}

#[test]
fn configurations_are_expanded_at_any_depth() {
    let keys = Keys::shared();
    let config = json!({ "a": [{ "jwks": { "inline": { "$keys": ["main-es256", "main-hs256"] } } }],
        "b": { "k": { "$secret": "main-hs256" } }, "c": 1 });
    let expanded = keys.expand_config(&config).expect("a configuration");
    let set = &expanded["a"][0]["jwks"]["inline"]["keys"];
    assert_eq!(set[0], keys.jwk("main-es256").expect("a key"));
    assert_eq!(set[1]["k"], expanded["b"]["k"]);
    assert_eq!(expanded["c"], 1);
    let bare = keys.expand_config(&json!([{ "$jwk": { "key": "main-es256", "with": { "alg": null, "kid": "k" } } }]));
    let bare = bare.expect("a key")[0].clone();
    assert_eq!((bare.get("alg"), &bare["kid"]), (None, &json!("k")));
    assert_eq!(bare["x"], set[0]["x"]);
    for wrong in [
        json!({ "$jwk": { "with": {} } }),
        json!({ "$jwk": { "key": "main-es256", "patch": {} } }),
        json!({ "$keys": ["nobody"] }),
        json!({ "$keys": "main-es256" }),
        json!({ "$secret": "main-es256" }),
        json!([{ "$kyes": [] }]),
    ] {
        assert!(keys.expand_config(&wrong).is_err(), "{wrong}");
    }
}

#[test]
fn public_keys_carry_nothing_private() {
    for (name, algorithm) in NAMES {
        let jwk = Keys::shared().jwk(name).expect("a key");
        assert_eq!(jwk["kid"], name);
        assert_eq!(jwk["use"], "sig");
        assert_eq!(jwk.get("d"), None);
        assert_eq!(jwk.get("k").is_some(), algorithm.is_symmetric());
    }
}

#[test]
fn attempts_hold_where_they_say_so() {
    let keys = Keys::shared();
    for name in ["main-rs256", "main-es256", "main-es384", "main-eddsa"] {
        let alg = keys.key(name).expect("a key").algorithm().name();
        let header = BASE64URL.encode(json!({ "alg": alg }).to_string());
        let input = format!("{header}.cGF5bG9hZA");
        let mut dice = fastrand::Rng::with_seed(7);
        let attempts = keys.attempts(name, input.as_bytes(), &mut dice).expect("attempts");
        assert!(attempts.iter().any(|attempt| attempt.holds), "{name}");
        for attempt in attempts {
            let token = format!("{input}.{}", BASE64URL.encode(&attempt.signature));
            assert_eq!(verifies(&token, name), attempt.holds, "{name}: {}", attempt.what);
        }
    }
}
