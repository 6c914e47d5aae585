//! Keys that are refused when they are loaded.

use corpus::mint::Keys;
use serde_json::{Value, json};
use tiny_envoy::Level;

use crate::world::{World, config, forwarded_for, world};

const REFUSED: &str = "tenantgate_keys_refused_total";

/// The base's issuer of shared secrets, with one more key.
fn with_another(key: &Value) -> Value {
    let good = Keys::shared().jwk("main-hs256").expect("a key");
    config(json!({ "auth": { "issuers": [{
        "issuer": "https://hmac.example.com", "algorithms": ["HS256"], "tenants": "any",
        "jwks": { "inline": { "keys": [key, good] } },
    }] } }))
}

#[test]
fn a_bad_key_beside_a_good_one_is_counted_and_named_and_the_good_one_works() {
    let secret = "c2hvcnQtc2VjcmV0";
    let bad = json!({ "kty": "oct", "kid": "stubby-key", "alg": "HS256", "k": secret });
    let mut world = World::start(&with_another(&bad), |builder| builder);
    assert!(world.envoy.metric(REFUSED).is_some_and(|count| count > 0));
    let logs = world.envoy.logs();
    let named = |line: &&tiny_envoy::LogLine| line.level == Level::Warn && line.message.contains("stubby-key");
    assert!(logs.iter().any(|line| named(&line)), "{logs:#?}");
    assert!(logs.iter().all(|line| !line.message.contains(secret)), "{logs:#?}");
    assert_eq!(forwarded_for(world.run("acme")), "acme");
    let after = world.envoy.metric(REFUSED);
    world.run("acme");
    assert_eq!(world.envoy.metric(REFUSED), after, "requests do not move it");
    world.assert_healthy();
}

#[test]
fn a_key_for_another_purpose_is_passed_over_in_silence() {
    let foreign = json!({ "kty": "oct", "kid": "wrapping-key", "use": "enc", "k": "c2hvcnQtc2VjcmV0" });
    let world = World::start(&with_another(&foreign), |builder| builder);
    assert_eq!(world.envoy.metric(REFUSED), Some(0));
    let logs = world.envoy.logs();
    assert!(
        logs.iter().all(|line| !line.message.contains("wrapping-key")),
        "{logs:#?}"
    );
}

#[test]
fn good_keys_are_not_counted() {
    assert_eq!(world(json!({})).envoy.metric(REFUSED), Some(0));
}
