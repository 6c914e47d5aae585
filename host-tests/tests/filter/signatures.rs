//! Hosts with a check of signatures of their own, without one, and with one that cannot be relied on.

use corpus::case::{Damage, Made};
use serde_json::json;
use tiny_envoy::{Builder, Status};

use crate::world::{World, config, denied, forwarded_for};

/// What a host may know of.
const FUNCTION: &str = "verify_signature";

/// Keys of every kind that a host can check, and one that it cannot.
const KEYS: [&str; 6] = [
    "main-rs256",
    "main-rs384",
    "main-rs512",
    "main-es256",
    "main-es384",
    "main-ps256",
];

fn world(tune: impl FnOnce(Builder) -> Builder) -> World {
    let algorithms = KEYS.map(|name| name.trim_start_matches("main-").to_uppercase());
    let issuer = json!({ "issuer": "https://id.example.com", "audiences": ["api"], "algorithms": algorithms,
        "tenants": "any", "jwks": { "inline": { "$keys": KEYS } } });
    World::start(&config(json!({ "auth": { "issuers": [issuer] } })), tune)
}

/// Good tokens pass and broken ones do not.
fn assert_verifies(world: &mut World) {
    for key in KEYS {
        for (damage, passes) in [
            (None, true),
            (Some(Damage::FlipSignature), false),
            (Some(Damage::SwapClaims), false),
        ] {
            let bearer = world.bearer_of(Made {
                tenant: Some("acme".to_owned()),
                key: Some(key.to_owned()),
                damage,
                ..Made::default()
            });
            let outcome = world
                .envoy
                .get(crate::world::ACCOUNTS)
                .header("authorization", bearer)
                .run();
            if passes {
                assert_eq!(forwarded_for(outcome), "acme", "{key}");
            } else {
                assert_eq!(denied(outcome), (401, "TOKEN_INVALID".to_owned()), "{key} {damage:?}");
            }
        }
    }
    world.assert_healthy();
}

/// What the filter says that it verifies with.
fn says(world: &World) -> &'static str {
    let logs = world.envoy.logs();
    let says = |what: &str| logs.iter().any(|line| line.message.contains(what));
    match (says("signatures: native"), says("signatures: pure Rust")) {
        (true, false) => "native",
        (false, true) => "pure Rust",
        _ => panic!("{logs:#?}"),
    }
}

fn asked(world: &World) -> u64 {
    world
        .envoy
        .hostcalls()
        .get("proxy_call_foreign_function")
        .copied()
        .unwrap_or(0)
}

#[test]
fn a_host_that_checks_signatures_is_asked_for_rsa_and_ecdsa() {
    let mut world = world(|builder| builder);
    assert_eq!(says(&world), "native");
    let before = asked(&world);
    assert_verifies(&mut world);
    // Three tokens of each of five keys; PSS is not asked about.
    assert_eq!(asked(&world) - before, 15);
}

#[test]
fn without_such_a_host_the_filter_verifies_by_itself() {
    let mut world = world(|builder| builder.without_foreign_function(FUNCTION));
    assert_eq!(says(&world), "pure Rust");
    let before = asked(&world);
    assert_verifies(&mut world);
    assert_eq!(asked(&world), before);
}

#[test]
fn a_host_that_says_yes_to_everything_or_never_is_not_believed() {
    type Function = fn(&[u8]) -> Result<Vec<u8>, Status>;
    let odd: [Function; 5] = [
        |_| Ok(vec![8, 1]),
        |_| Ok(vec![8, 0]),
        |_| Ok(Vec::new()),
        |_| Ok(b"something else".to_vec()),
        |_| Err(Status::InternalFailure),
    ];
    for function in odd {
        let mut world = world(|builder| builder.foreign_function(FUNCTION, function));
        assert_eq!(says(&world), "pure Rust");
        assert_verifies(&mut world);
    }
}
