//! What a request costs in the engine, without the host: `cargo bench -p benches`.
//!
//! Timings belong here and never in a test.

use corpus::case::Token;
use corpus::mint::Keys;
use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::json;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hint::black_box;
use tenant_policy::config::{self, Plugin};
use tenant_policy::engine::Engine;
use tenant_policy::errand::Answer;
use tenant_policy::flow::{RequestFlow, Step};
use tenant_policy::node::{Node, NotWritten, Shared, SignatureCheck, Version};
use tenant_policy::request::{Field, RequestHead};

const NOW: u64 = 1_800_000_000;

/// A node whose time stands still, which counts nothing and checks no signature. Its bell never rings:
/// what it shares is not read again.
#[derive(Default)]
struct StillNode {
    store: RefCell<BTreeMap<String, (u32, Vec<u8>)>>,
}

impl Node for StillNode {
    fn realtime_ms(&self) -> u64 {
        NOW * 1_000
    }

    fn monotonic_ms(&self) -> u64 {
        0
    }

    fn random(&self) -> u32 {
        0
    }

    fn shared(&self, key: &str) -> Shared {
        let store = self.store.borrow();
        store.get(key).map_or(Shared::NOTHING, |(version, value)| Shared {
            value: value.clone(),
            version: Version(*version),
        })
    }

    fn share(&self, key: &str, value: &[u8], _: Version) -> Result<(), NotWritten> {
        let mut store = self.store.borrow_mut();
        let version = store.get(key).map_or(1, |(version, _)| version + 1);
        store.insert(key.to_owned(), (version, value.to_vec()));
        Ok(())
    }

    fn bell(&self) -> Option<u64> {
        Some(0)
    }

    fn verify_signature(&self, _: &SignatureCheck<'_>) -> Option<bool> {
        None
    }

    fn dynamic_metadata(&self) -> Option<Vec<u8>> {
        None
    }
}

/// An engine that remembers so many tokens.
fn engine(remembers: usize) -> Engine {
    let document = json!({
        "version": "v1", "enabled": true, "service": "ledger",
        "auth": { "token_cache": { "max_entries": remembers }, "issuers": [
            { "issuer": "https://id.example.com", "algorithms": ["RS256", "ES256", "EdDSA"], "tenants": "any",
              "jwks": { "inline": { "$keys": ["main-rs256", "main-es256", "main-eddsa"] } } },
            { "issuer": "https://hmac.example.com", "algorithms": ["HS256"], "tenants": "any",
              "jwks": { "inline": { "$keys": ["main-hs256"] } } },
        ] },
        "tenant_manager": { "cluster": "tm", "authority": "tm", "api_keys": [{ "value": "k" }] },
        "scope": { "headers": [{ "name": "x-routing-key", "kind": "routing_key" }, { "name": "x-redis-key", "kind": "redis_key" }] },
    });
    let document = Keys::shared().expand_config(&document).expect("known keys");
    match config::compile(document.to_string().as_bytes(), &config::Environment::default())
        .map(|compiled| compiled.plugin)
    {
        Ok(Plugin::MultiTenant(config)) => Engine::new(*config),
        other => panic!("{other:?}"),
    }
}

/// A request as a browser or a service sends it, `authorization` aside.
fn request<'a>(path: &'a [u8], authorization: &'a [u8]) -> Vec<Field<'a>> {
    vec![
        (b":authority", b"api.example.com"),
        (b":path", path),
        (b":method", b"GET"),
        (b":scheme", b"https"),
        (b"user-agent", b"ledger-client/1.4"),
        (b"accept", b"application/json"),
        (b"accept-encoding", b"gzip"),
        (b"x-request-id", b"6f2c8f4e-5f0a-4d3b-9a55-1f0f6b0c5a11"),
        (b"x-forwarded-for", b"192.0.2.7"),
        (b"authorization", authorization),
        (b"x-routing-key", b"orders.created"),
        (b"x-redis-key", b"session:42"),
    ]
}

/// A tenant that is known, a token that is verified every time, or that is remembered.
fn warm(c: &mut Criterion) {
    let keys = ["main-rs256", "main-es256", "main-eddsa", "main-hs256"];
    let verified = keys.map(|key| (key, 0, format!("warm tenant, {key} verified")));
    let remembered = ("main-rs256", 1, "warm tenant, token remembered".to_owned());
    for (key, remembers, name) in verified.into_iter().chain([remembered]) {
        let (mut engine, node) = (engine(remembers), StillNode::default());
        let made = json!({ "tenant": "acme", "key": key });
        let token = Token::Made(serde_json::from_value(made).expect("a token"));
        let token = Keys::shared().token(&token, NOW).expect("a token");
        let authorization = [b"Bearer ", &token[..]].concat();
        let fields = request(b"/v1/accounts?limit=10", &authorization);
        let head = RequestHead::new(&fields);
        if let Step::Wait {
            begins: Some(lookup), ..
        } = RequestFlow::start(&mut engine, &head, &node)
        {
            engine.question(lookup, &node);
            let answer = Answer::Http {
                status: 200,
                retry_after_seconds: None,
                body: Some(br#"{"id":"acme","databases":{"ledger":{}}}"#),
            };
            engine.answered(lookup, answer, &node);
        }
        c.bench_function(&name, |b| {
            b.iter(|| {
                let step = RequestFlow::start(&mut engine, black_box(&head), &node);
                assert!(matches!(step, Step::Forward { .. }));
            });
        });
    }
}

fn without_a_token(c: &mut Criterion) {
    let (mut engine, node) = (engine(0), StillNode::default());
    for (name, path) in [
        ("public path", &b"/health/live"[..]),
        ("refused path", b"/a/%252e%252e/b"),
        ("no credential", b"/v1/accounts"),
    ] {
        let fields = request(path, b"");
        let head = RequestHead::new(&fields);
        c.bench_function(name, |b| {
            b.iter(|| RequestFlow::start(&mut engine, black_box(&head), &node))
        });
    }
}

criterion_group!(benches, warm, without_a_token);
criterion_main!(benches);
