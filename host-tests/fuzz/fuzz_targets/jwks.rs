//! A key set as it came over the network: what of it is used, and that nobody but the holder of a key
//! verifies anything with it.

#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use tenant_policy::authn::{AcceptedTypes, Algorithm, Jws, KeySet};
use tenant_policy::engine::Engine;
use tenant_policy::errand::{Answer, Answered};
use tenant_policy::flow::{RequestFlow, Step};
use tenant_policy::request::RequestHead;
use tenant_policy_fuzz::token::{encoded, mac};
use tenant_policy_fuzz::{ISSUER, NOW, World, claims, engine};

const ALGORITHMS: [&str; 12] = [
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA",
];

/// Most keys of a set that are looked at.
const MAX_KEYS: usize = 256;

/// How many names of keys are tried. The others differ from them in nothing that counts.
const NAMES: usize = 3;

fuzz_target!(|body: &[u8]| {
    let all = ALGORITHMS.map(|name| Algorithm::parse(name).expect("an algorithm"));
    let keys = match claims::object(body).map(|mut set| set.remove("keys")) {
        Some(Some(Value::Array(keys))) => keys,
        _ => Vec::new(),
    };
    let (set, refused) = KeySet::load_fetched(&keys, &all);
    let usable = set.as_ref().map_or(0, KeySet::len);
    assert!(set.is_none() || usable > 0, "a set without a key");
    assert!(usable <= keys.len().min(MAX_KEYS), "{usable} of {} keys", keys.len());
    assert!(
        refused.windows(2).all(|pair| pair[0].index < pair[1].index),
        "{refused:?}"
    );
    for key in &refused {
        let kid = keys[key.index]
            .get("kid")
            .and_then(Value::as_str)
            .filter(|kid| !kid.is_empty());
        assert!(
            key.index < keys.len() && (key.name == format!("#{}", key.index) || kid == Some(&key.name)),
            "{key:?}"
        );
    }
    if keys.iter().all(|key| key.get("kty").is_some_and(|kty| kty == "oct")) {
        assert!(set.is_none(), "a shared secret came over the network");
    }
    if keys.len() <= MAX_KEYS / 2 {
        let twice = KeySet::load_fetched(&[&keys[..], &keys].concat(), &all).0;
        assert_eq!(
            twice.as_ref().map_or(0, KeySet::len),
            usable,
            "when each key stands there twice"
        );
        let reversed: Vec<_> = keys.iter().rev().cloned().collect();
        let reversed = KeySet::load_fetched(&reversed, &all).0;
        assert_eq!(reversed.as_ref().map_or(0, KeySet::len), usable, "in the other order");
    }
    if let Some(set) = &set {
        nobody_signs(set, &keys, &all);
    }
    fetched(body, usable);
});

/// Signatures that need no private key hold under none of these keys.
fn nobody_signs(set: &KeySet, keys: &[Value], all: &[Algorithm]) {
    let accepted = AcceptedTypes::new(&[]).expect("no types");
    let mut names: Vec<_> = keys
        .iter()
        .filter_map(|key| key.get("kid")?.as_str())
        .map(Some)
        .take(NAMES)
        .collect();
    names.push(None);
    let one = |length: usize| [vec![0; length - 1], vec![1]].concat();
    let secrets = keys
        .iter()
        .filter_map(|key| URL_SAFE_NO_PAD.decode(key.get("k")?.as_str()?).ok());
    let secrets: Vec<Vec<u8>> = secrets.take(NAMES).chain([Vec::new()]).collect();
    for name in ALGORITHMS {
        for kid in &names {
            let header = match kid {
                Some(kid) => json!({ "alg": name, "kid": kid }),
                None => json!({ "alg": name }),
            };
            let signed = format!("{}.e30", encoded(header.to_string()));
            let signatures = match name {
                "EdDSA" | "ES256" => vec![vec![0; 64], one(64), vec![0xff; 64]],
                "ES384" => vec![vec![0; 96], one(96), vec![0xff; 96]],
                "HS256" => secrets.iter().map(|secret| mac(secret, signed.as_bytes())).collect(),
                "HS384" | "HS512" => vec![Vec::new()],
                _ => vec![vec![0; 256], one(256), one(512)],
            };
            for signature in signatures {
                let token = format!("{signed}.{}", encoded(&signature));
                if let Ok(jws) = Jws::parse(token.as_bytes(), &accepted) {
                    assert!(set.verify(&jws, all, &World::default()).is_err(), "{token} holds");
                }
            }
        }
    }
}

/// The same bytes as the answer to a fetch: the engine uses a set exactly when it has a key for it, and
/// its requests wait or are refused, all of them.
fn fetched(body: &[u8], usable: usize) {
    let (mut engine, world) = (engine(&remote()), World::default());
    let (errands, _) = engine.tick(&world);
    assert_eq!(errands.len(), 1, "keys are fetched at the start");
    for errand in errands {
        assert!(engine.question(errand, &world).is_some());
        let answer = Answer::Http {
            status: 200,
            retry_after_seconds: None,
            body: Some(body),
        };
        let Answered::Over { news, .. } = engine.answered(errand, answer, &world) else {
            panic!("a fetch is one call")
        };
        assert!(news.is_none() || usable > 0, "news of a set that cannot be used");
    }
    let payload = json!({ "iss": ISSUER, "exp": NOW + 60, "tenantId": "t-acme" });
    for (name, length) in [("RS256", 256), ("ES256", 64), ("HS256", 32), ("none", 0)] {
        let header = encoded(json!({ "alg": name }).to_string());
        let token = format!(
            "Bearer {header}.{}.{}",
            encoded(payload.to_string()),
            encoded(vec![0; length])
        );
        assert!(!forwards(&mut engine, &world, &token), "{token}");
    }
}

fn forwards(engine: &mut Engine, world: &World, credential: &str) -> bool {
    let fields = [
        (&b":method"[..], &b"GET"[..]),
        (b":path", b"/v1"),
        (b"authorization", credential.as_bytes()),
    ];
    matches!(
        RequestFlow::start(engine, &RequestHead::new(&fields), world),
        Step::Forward { .. }
    )
}

fn remote() -> Value {
    json!({ "issuers": [{
        "issuer": ISSUER,
        "algorithms": ALGORITHMS[3..],
        "jwks": { "remote": { "cluster": "idp", "authority": "id.example.com", "path": "/keys" } },
    }] })
}
