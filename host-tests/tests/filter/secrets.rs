//! Nothing secret is kept or said, whatever comes of a request.

use corpus::case::{Damage, Made};
use corpus::mint::Keys;
use serde_json::json;
use tiny_envoy::{Answer, HeaderMap, Outcome, PeerRequest, StreamId};

use crate::world::{ACCOUNTS, World, config, ms};

const API_KEYS: [&str; 2] = ["planted-api-key-one", "planted-api-key-two"];
const PASSWORD: &str = "planted-db-password";
const BROKER_PASSWORD: &str = "planted-broker-password";
const SUBJECT: &str = "planted-subject";
const COOKIE: &str = "planted-cookie";
const MANAGER_TEXT: &str = "planted-manager-text";
const ISSUER_TEXT: &str = "planted-issuer-text";
/// What an identity provider must not publish, and one day does.
const PRIVATE_KEY: &str = "cGxhbnRlZC1wcml2YXRlLWtleS1vZi10aGUtaWRw";

/// What must not show, by name.
struct Planted(Vec<(String, Vec<u8>)>);

impl Planted {
    fn new() -> Self {
        let words = [
            API_KEYS[0],
            API_KEYS[1],
            PASSWORD,
            BROKER_PASSWORD,
            SUBJECT,
            COOKIE,
            MANAGER_TEXT,
            ISSUER_TEXT,
            PRIVATE_KEY,
        ];
        let mut planted: Vec<_> = words
            .iter()
            .map(|word| ((*word).to_owned(), word.as_bytes().to_vec()))
            .collect();
        let hmac = Keys::shared().secret("main-hs256").expect("a secret");
        planted.push(("the HMAC secret".to_owned(), hmac.into_bytes()));
        Self(planted)
    }

    /// A token, and each of its parts that is long enough to be told from other text.
    fn add_token(&mut self, name: &str, bearer: &[u8]) {
        let token = bearer.strip_prefix(b"Bearer ").unwrap_or(bearer);
        for part in token.split(|byte| *byte == b'.').filter(|part| part.len() >= 16) {
            self.0.push((format!("a part of the token {name}"), part.to_vec()));
        }
    }

    #[track_caller]
    fn assert_absent(&self, place: &str, bytes: &[u8]) {
        for (name, secret) in &self.0 {
            let shows = bytes.windows(secret.len()).any(|window| window == secret);
            assert!(!shows, "{name} shows in {place}: {}", String::from_utf8_lossy(bytes));
        }
    }

    /// Looks at field lines, but for those in which the secret is meant to stand.
    #[track_caller]
    fn assert_absent_in(&self, place: &str, headers: &HeaderMap, but: &[&str]) {
        for (name, value) in headers.iter() {
            self.assert_absent(place, name);
            if !but.iter().any(|exempt| exempt.as_bytes() == name) {
                self.assert_absent(place, value);
            }
        }
    }
}

/// A world in which everything holds a secret.
fn secretive() -> World {
    let keys: Vec<_> = API_KEYS.iter().map(|key| json!({ "value": key })).collect();
    let mut config = config(json!({
        "tenant_manager": { "api_keys": keys },
        "scope": {
            "emit": {
                "tenant_id": "x-tenant-id", "slug": "x-tenant-slug", "isolation_mode": "x-tenant-isolation-mode",
                "module": "x-tenant-module",
            },
            "properties": true,
            "response": [{ "name": "x-redis-key", "kind": "redis_key" }],
        },
        "rate_limit": { "requests_per_second": 1, "burst": 100, "headers": true },
        "telemetry": { "tenant_label": true },
    }));
    let remote = json!({
        "issuer": REMOTE, "algorithms": ["ES256"], "tenants": "any",
        "jwks": { "remote": {
            "cluster": "idp", "authority": "idp", "path": "/jwks", "timeout_ms": 500, "refresh_seconds": 10, "unknown_kid_cooldown_seconds": 1,
        } },
    });
    config["auth"]["issuers"].as_array_mut().expect("a list").push(remote);
    let mut sets = key_sets().into_iter().cycle();
    let world = World::start(&config, |builder| {
        let builder = builder.cluster("idp", move |_: &PeerRequest| sets.next().expect("without end"));
        builder.upstream(|request: &PeerRequest| {
            if request.headers.get("content-type").is_none() {
                return Answer::status(200);
            }
            // What leaks holds what nobody may see.
            Answer::json(200, PASSWORD).header("x-redis-key", format!("tenant:globex:{PASSWORD}"))
        })
    });
    let database =
        json!({ "postgresql": { "host": "db", "password": PASSWORD, "uri": format!("postgres://u:{PASSWORD}@db") } });
    let record = json!({
        "id": "acme", "tenantSlug": "acme", "status": "active", "secret": PASSWORD,
        "databases": { "onboarding": database },
        "messaging": { "rabbitmq": { "vhost": "v", "password": BROKER_PASSWORD } },
    });
    let mut other = record.clone();
    other["id"] = json!("somebody-else");
    let text = json!({ "status": MANAGER_TEXT, "error": PASSWORD, "code": MANAGER_TEXT });
    for (tenant, answer) in [
        ("acme", json!({ "record": record })),
        ("other-id", json!({ "record": other })),
        ("broken", json!({ "body": format!("{{\"password\":\"{PASSWORD}\"") })),
        ("cut-off", json!({ "record": record, "fault": "reset_mid_body" })),
        ("too-large", json!({ "record": record, "pad_to_bytes": 2_000_000 })),
        (
            "no-module",
            json!({ "record": { "databases": { "elsewhere": { "postgresql": { "password": PASSWORD } } } } }),
        ),
        ("bad-mode", json!({ "record": { "isolationMode": PASSWORD } })),
        (
            "moved",
            json!({ "status": 302, "headers": [["location", format!("/{PASSWORD}")]] }),
        ),
        ("barred", json!({ "status": 403, "body": { "error": PASSWORD } })),
        ("missing", json!({ "status": 404, "body": text })),
        ("empty", json!({ "status": 422, "body": text })),
        ("down", json!({ "status": 500, "body": text })),
        ("locked", json!({ "status": 401, "body": text })),
        ("silent", json!({ "fault": "silence" })),
    ] {
        world.answer(tenant, answer);
    }
    world
}

/// The issuer whose keys are fetched.
const REMOTE: &str = "https://remote.example.com";

/// What it answers, one after the other: a set with a private key and a shared secret in it, then
/// everything that is no set.
fn key_sets() -> Vec<Answer> {
    let mut leaking = Keys::shared().jwk("main-es256").expect("a key");
    leaking["d"] = json!(PRIVATE_KEY);
    let shared = json!({ "kty": "oct", "kid": "shared", "alg": "HS256", "k": PRIVATE_KEY });
    let bad = json!({ "kty": "EC", "kid": "bad", "crv": "P-256", "x": PRIVATE_KEY, "y": PRIVATE_KEY });
    let set = json!({ "keys": [leaking, shared, bad], "note": ISSUER_TEXT });
    vec![
        Answer::status(200).body(set.to_string()),
        Answer::status(500).body(ISSUER_TEXT),
        Answer::status(200).body(format!("{ISSUER_TEXT}{PRIVATE_KEY}")),
        Answer::status(302).header("location", format!("/{ISSUER_TEXT}")),
        Answer::status(200).body(json!({ "keys": [bad] }).to_string()),
        Answer::status(200).body(ISSUER_TEXT.repeat(20_000)),
        Answer::status(200).body(set.to_string()).reset_mid_body(),
    ]
}

const TENANTS: [&str; 14] = [
    "acme",
    "other-id",
    "broken",
    "cut-off",
    "too-large",
    "no-module",
    "bad-mode",
    "moved",
    "barred",
    "missing",
    "empty",
    "down",
    "locked",
    "silent",
];

fn tokens(world: &World) -> Vec<(String, Vec<u8>)> {
    let plain = |tenant: &str| Made {
        tenant: Some(tenant.to_owned()),
        claims: Some(json!({ "sub": SUBJECT, "email": SUBJECT })),
        ..Made::default()
    };
    let mut tokens: Vec<_> = TENANTS
        .iter()
        .map(|tenant| ((*tenant).to_owned(), plain(tenant)))
        .collect();
    let mut odd = |name: &str, made: Made| tokens.push((name.to_owned(), made));
    for damage in [
        Damage::FlipSignature,
        Damage::DropSignature,
        Damage::AddPart,
        Damage::SwapClaims,
    ] {
        odd(
            &format!("{damage:?}"),
            Made {
                damage: Some(damage),
                ..plain("acme")
            },
        );
    }
    odd(
        "hmac",
        Made {
            key: Some("main-hs256".to_owned()),
            ..plain("acme")
        },
    );
    odd(
        "stranger",
        Made {
            key: Some("other-rs256".to_owned()),
            ..plain("acme")
        },
    );
    odd(
        "expired",
        Made {
            claims: Some(json!({ "sub": SUBJECT, "exp": 1 })),
            ..plain("acme")
        },
    );
    for (name, kid) in [("remote", "main-es256"), ("remote, unknown key", SUBJECT)] {
        odd(
            name,
            Made {
                key: Some("main-es256".to_owned()),
                header: Some(json!({ "kid": kid })),
                claims: Some(json!({ "iss": REMOTE, "sub": SUBJECT })),
                ..plain("acme")
            },
        );
    }
    odd(
        "wrong kid",
        Made {
            header: Some(json!({ "kid": SUBJECT })),
            ..plain("acme")
        },
    );
    odd(
        "wrong iss",
        Made {
            claims: Some(json!({ "iss": SUBJECT })),
            ..plain("acme")
        },
    );
    odd(
        "wrong aud",
        Made {
            claims: Some(json!({ "aud": SUBJECT })),
            ..plain("acme")
        },
    );
    odd(
        "no tenant",
        Made {
            tenant: None,
            ..plain("acme")
        },
    );
    odd(
        "bad tenant",
        Made {
            claims: Some(json!({ "tenantId": format!(" {SUBJECT}") })),
            ..plain("acme")
        },
    );
    odd(
        "tenant of no string",
        Made {
            claims: Some(json!({ "tenantId": [SUBJECT] })),
            ..plain("acme")
        },
    );
    tokens
        .into_iter()
        .map(|(name, made)| (name, world.bearer_of(made)))
        .collect()
}

/// Sends a token in every way there is; gives the streams.
fn send(world: &mut World, bearer: &[u8]) -> Vec<StreamId> {
    let cookie = format!("session={COOKIE}");
    let plain = |world: &mut World, path: &str, key: &[u8]| {
        let request = world
            .envoy
            .post(path)
            .header("authorization", bearer)
            .header("cookie", &cookie);
        request.header("x-redis-key", key).body(PASSWORD).send()
    };
    let naked = world
        .envoy
        .get(ACCOUNTS)
        .header("authorization", &bearer["Bearer ".len()..])
        .send();
    let twice = world
        .envoy
        .get(ACCOUNTS)
        .header("authorization", bearer)
        .header("authorization", bearer)
        .send();
    let grpc = world
        .envoy
        .post(ACCOUNTS)
        .header("content-type", "application/grpc")
        .header("authorization", bearer)
        .send();
    let query = format!(
        "{ACCOUNTS}?access_token={}",
        String::from_utf8_lossy(&bearer["Bearer ".len()..])
    );
    let in_query = world.envoy.get(query).header("cookie", &cookie).send();
    let key_refused = plain(world, ACCOUNTS, format!("{PASSWORD}*").as_bytes());
    vec![
        plain(world, ACCOUNTS, b"k"),
        plain(world, "/health", b"k"),
        plain(world, &format!("/v1/../{PASSWORD}"), b"k"),
        naked,
        twice,
        grpc,
        in_query,
        key_refused,
    ]
}

#[test]
fn nothing_secret_shows_whatever_comes_of_a_request() {
    let mut world = secretive();
    let mut planted = Planted::new();
    let mut codes = std::collections::BTreeSet::new();
    for (name, bearer) in tokens(&world) {
        planted.add_token(&name, &bearer);
        let streams = send(&mut world, &bearer);
        world.envoy.advance(ms(2_000));
        for stream in streams {
            for (property, value) in world.envoy.all_filter_state(stream) {
                planted.assert_absent("the name of a property", &property);
                planted.assert_absent("a property", &value);
            }
            match world.envoy.outcome(stream) {
                Outcome::Replied(reply) => {
                    planted.assert_absent("a reply's body", &reply.body);
                    planted.assert_absent("a reply's details", reply.details.as_bytes());
                    planted.assert_absent_in("a reply's headers", &reply.headers, &[]);
                    codes.insert(reply.details);
                }
                Outcome::Forwarded(request) => {
                    let own = ["authorization", "cookie", ":path"];
                    planted.assert_absent_in("a forwarded request", &request.headers, &own);
                    codes.insert("forwarded".to_owned());
                }
                other => panic!("{name}: {other:?}"),
            }
        }
    }
    for callout in world.envoy.callouts() {
        // The API key goes to the Tenant Manager and to nobody else.
        let own: &[&str] = if callout.cluster == "idp" { &[] } else { &["x-api-key"] };
        planted.assert_absent_in("a callout", &callout.request.headers, own);
        planted.assert_absent("a callout's body", &callout.request.body);
    }
    // Every answer of the issuer has been read, and been complained about.
    let fetches = world
        .envoy
        .callouts()
        .iter()
        .filter(|callout| callout.cluster == "idp")
        .count();
    assert!(fetches >= 7, "{fetches} fetches");
    for line in world.envoy.logs() {
        planted.assert_absent("the log", line.message.as_bytes());
    }
    for name in world.envoy.metrics().keys() {
        planted.assert_absent("the metrics", name.as_bytes());
    }
    for (key, entry) in world.envoy.shared_data() {
        planted.assert_absent("a key of the shared data", &key);
        planted.assert_absent("the shared data", &entry.value);
    }
    // The search is worth something only if it has seen every kind of outcome.
    for code in [
        "forwarded",
        "tenantgate_PATH_REJECTED",
        "tenantgate_KEY_REJECTED",
        "tenantgate_TENANT_ID_REQUIRED",
        "tenantgate_TENANT_ID_INVALID",
        "tenantgate_TOKEN_INVALID",
        "tenantgate_TENANT_ACCESS_DENIED",
        "tenantgate_TENANT_NOT_FOUND",
        "tenantgate_TENANT_NOT_PROVISIONED",
        "tenantgate_SERVICE_NOT_CONFIGURED",
        "tenantgate_TENANT_MANAGER_UNAVAILABLE",
        "tenantgate_TENANT_LEAK_BLOCKED",
    ] {
        assert!(codes.contains(code), "no request came to {code}: {codes:#?}");
    }
    world.assert_healthy();
}

#[test]
fn a_refused_configuration_does_not_say_its_secrets() {
    let mut config = config(json!({
        "tenant_manager": { "api_keys": API_KEYS.map(|key| json!({ "value": key })), "timeout_ms": 0 },
        "service": "not a service",
    }));
    config["auth"]["issuers"][1]["algorithms"] = json!(["HS256", "nonsense"]);
    let error = tiny_envoy::TinyEnvoy::builder()
        .plugin(&crate::world::plugin())
        .config(config.to_string())
        .start()
        .expect_err("three faults");
    let planted = Planted::new();
    assert!(error.logs.len() >= 3, "{:#?}", error.logs);
    for line in error.logs {
        planted.assert_absent("the log", line.message.as_bytes());
    }
}
