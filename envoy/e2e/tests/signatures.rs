//! Envoy's own check of signatures against the engine's: the same tokens, thousands of them, good
//! and broken, and the same verdicts.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL;
use bytes::Bytes;
use corpus::mint::Keys;
use envoy_e2e::{Setup, World, now};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tenant_policy::authn::{AcceptedTypes, Algorithm, Jws, KeySet, Refusal};
use tenant_policy::node::{Node, SignatureCheck};
use tokio::net::TcpStream;

/// What the host can check: the keys that sign, and how many tokens each signs.
const SIGNERS: [(&str, usize); 5] = [
    ("main-rs256", 15),
    ("main-rs384", 15),
    ("main-rs512", 15),
    ("main-es256", 9),
    ("main-es384", 9),
];

/// Fewest tokens that are sent.
const ENOUGH: usize = 2_500;

/// How many connections are kept alive, each used for one request after the other.
const CONNECTIONS: usize = 8;

/// A node that offers nothing: the engine verifies by itself.
struct NoHost;

impl Node for NoHost {
    fn realtime_ms(&self) -> u64 {
        0
    }

    fn monotonic_ms(&self) -> u64 {
        0
    }

    fn random(&self) -> u32 {
        0
    }

    fn verify_signature(&self, _: &SignatureCheck<'_>) -> Option<bool> {
        None
    }

    fn dynamic_metadata(&self) -> Option<Vec<u8>> {
        None
    }
}

/// A token, and what the engine says of it when it verifies by itself.
#[derive(Debug, Clone)]
struct Judged {
    what: String,
    token: String,
    /// `None`: it is accepted.
    refusal: Option<Refusal>,
}

/// Every token, in the order of their making; no two are the same.
fn tokens() -> anyhow::Result<Vec<Judged>> {
    let keys = Keys::shared();
    let jwks = SIGNERS.map(|(name, _)| keys.jwk(name));
    let jwks = jwks.into_iter().collect::<anyhow::Result<Vec<Value>>>()?;
    let algorithms = SIGNERS.map(|(name, _)| name.trim_start_matches("main-").to_uppercase());
    let algorithms: Vec<_> = algorithms.iter().filter_map(|name| Algorithm::parse(name)).collect();
    let (set, refused) = KeySet::load(&jwks, &algorithms, &|_| None);
    ensure!(refused.is_empty(), "{refused:?}");
    let set = set.context("keys")?;
    let types = AcceptedTypes::new(&["JWT".to_owned()]).context("types")?;

    let mut dice = fastrand::Rng::with_seed(0x5164);
    let mut judged = BTreeMap::new();
    for (name, count) in SIGNERS {
        let alg = name.trim_start_matches("main-").to_uppercase();
        for serial in 0..count {
            let header = BASE64URL.encode(json!({ "alg": alg, "kid": name, "typ": "JWT" }).to_string());
            let claims = json!({ "iss": "https://id.example.com", "aud": "api", "tenantId": "acme",
                "exp": now() + 3600, "serial": serial, "more": "x".repeat(dice.usize(..200)) });
            let signed = format!("{header}.{}", BASE64URL.encode(claims.to_string()));
            for attempt in keys.attempts(name, signed.as_bytes(), &mut dice)? {
                let token = format!("{signed}.{}", BASE64URL.encode(&attempt.signature));
                let verified = Jws::parse(token.as_bytes(), &types)
                    .and_then(|jws| set.verify(&jws, &algorithms, &NoHost).map(drop));
                let what = format!("{name} {serial}: {}", attempt.what);
                ensure!(verified.is_ok() == attempt.holds, "{what}: {verified:?} {token}");
                let refusal = verified.err();
                judged.insert(token.clone(), Judged { what, token, refusal });
            }
        }
    }
    Ok(judged.into_values().collect())
}

/// Sends these tokens one after the other over one connection. Says which were answered otherwise
/// than the engine says.
async fn ask(address: SocketAddr, tokens: Vec<Judged>) -> anyhow::Result<Vec<String>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut client, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let mut differences = Vec::new();
    for judged in tokens {
        client.ready().await.context("the connection is kept alive")?;
        let request = hyper::Request::get("/v1/accounts")
            .header("host", "ledger.example.com")
            .header("authorization", format!("Bearer {}", judged.token))
            .body(Empty::<Bytes>::new())?;
        let reply = client.send_request(request).await?;
        let status = reply.status().as_u16();
        let body = reply.into_body().collect().await?.to_bytes();
        let code = serde_json::from_slice::<Value>(&body).unwrap_or_default();
        let accepted = match (status, code["code"].as_str()) {
            (200, _) => true,
            (401, Some("TOKEN_INVALID")) => false,
            other => bail!("{}: {other:?}", judged.what),
        };
        if accepted != judged.refusal.is_none() {
            differences.push(format!(
                "{}: {status}, the engine {:?}: {}",
                judged.what, judged.refusal, judged.token
            ));
        }
    }
    connection.abort();
    Ok(differences)
}

async fn world() -> anyhow::Result<World> {
    let names = SIGNERS.map(|(name, _)| name);
    let algorithms = names.map(|name| name.trim_start_matches("main-").to_uppercase());
    let issuer = json!({ "issuer": "https://id.example.com", "audiences": ["api"], "algorithms": algorithms,
        "tenants": "any", "jwks": { "inline": { "$keys": names } } });
    Setup::of_corpus(json!({ "auth": { "issuers": [issuer] } }))?
        .workers(2)
        .start()
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoy_and_the_engine_say_the_same_of_thousands_of_signatures() -> anyhow::Result<()> {
    let world = world().await?;
    let log = world.envoy.logged_since(0).await?;
    ensure!(
        log.iter().any(|line| line.contains("signatures=native")),
        "the host's check is not in use: {log:?}"
    );

    let tokens = Arc::new(tokio::task::spawn_blocking(tokens).await??);
    ensure!(tokens.len() >= ENOUGH, "{} tokens", tokens.len());
    let mut connections = tokio::task::JoinSet::new();
    for first in 0..CONNECTIONS {
        let share: Vec<_> = tokens.iter().skip(first).step_by(CONNECTIONS).cloned().collect();
        connections.spawn(ask(world.envoy.address(), share));
    }
    let mut differences = Vec::new();
    while let Some(found) = connections.join_next().await {
        differences.extend(found??);
    }
    ensure!(
        differences.is_empty(),
        "{} differ\n{}",
        differences.len(),
        differences.join("\n")
    );

    // None of the answers came from a cache or from an earlier check.
    let refused = tokens.iter().filter(|judged| judged.refusal.is_some()).count();
    let stat = |name: &'static str| world.envoy.stat(name);
    let checked = stat("wasmcustom.tenantgate_tokens_verified_total").await?;
    ensure!(
        checked == tokens.len() as u64,
        "{checked} of {} were checked",
        tokens.len()
    );
    let refusals = stat("wasmcustom.tenantgate_auth_refusals_total.reason=signature~").await?;
    ensure!(
        refusals == refused as u64,
        "{refusals} of {refused} were refused for their signature"
    );
    world.check_workers_live().await?;
    world.stop().await
}
