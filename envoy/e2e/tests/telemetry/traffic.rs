//! Traffic of every kind that moves a metric.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use corpus::answer::Answer;
use corpus::case::{Made, Token};
use corpus::mint::Keys;
use envoy_e2e::{Connection, EVENTS_PATH, Message, Setup, World, now};
use envoy_run::{IdentityProvider, TENANT_EVENTS};
use serde_json::{Value, json};
use tokio::time::Instant;

/// How long anything may take that is waited for.
pub(crate) const SOON: Duration = Duration::from_secs(30);

const ACCOUNTS: &str = "/v1/accounts";
/// Where the service gives one tenant the key of another.
const LEAK: &str = "/v1/leak";
/// May ask once a second.
const LIMITED: &str = "limited";

/// What [`send_all`] leaves behind, by the name under which Envoy knows it.
pub(crate) type Counts = BTreeMap<String, u64>;

/// A world in which everything can happen, and the service behind it. The bootstrap's tag rules are the shipped ones.
pub(crate) struct Scene {
    pub(crate) world: World,
    service: Service,
}

/// A service that answers by path.
type Service = IdentityProvider;

impl Scene {
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.world.stop().await?;
        self.service.stop().await;
        Ok(())
    }
}

/// A service that mixes tenants up on one path.
async fn service() -> anyhow::Result<Service> {
    let fine = Answer {
        body: Some(json!({})),
        ..Answer::default()
    };
    let leak = Answer {
        headers: vec![("x-storage-key".to_owned(), "globex/report".to_owned())],
        ..fine.clone()
    };
    let paths = [("/health", &fine), (ACCOUNTS, &fine), (LEAK, &leak)];
    let paths = paths.map(|(path, answer)| (path.to_owned(), answer.clone()));
    Ok(Service::start(paths.into()).await?)
}

/// Its configuration under a patch.
pub(crate) async fn scene(patch: Value) -> anyhow::Result<Scene> {
    let service = service().await?;
    let world = world(patch)?.upstream(service.address()).start().await?;
    Ok(Scene { world, service })
}

fn world(patch: Value) -> anyhow::Result<Setup> {
    let fetched = json!({
        "issuer": "https://other.example.com",
        "algorithms": ["ES384"],
        "tenants": { "prefixes": ["other-"] },
        "jwks": { "remote": { "cluster": "idp", "authority": "other.example.com", "path": "/nothing", "timeout_ms": 500 } },
    });
    let base = envoy_e2e::base_config(json!({}))?;
    let mut issuers = base["auth"]["issuers"].as_array().context("issuers")?.clone();
    issuers.push(fetched);
    let mut config = envoy_e2e::base_config(patch)?;
    config["auth"]["issuers"] = issuers.into();
    config["tenant_manager"]["breaker"] = json!({ "threshold": 2, "open_seconds": 1 });
    config["scope"]["response"] = json!([{ "name": "x-storage-key", "kind": "storage_key" }]);
    let narrow = json!({ "requests_per_second": 1, "burst": 1 });
    config["rate_limit"] = json!({ "requests_per_second": 1000, "burst": 1000, "overrides": { LIMITED: narrow } });
    let mut tenants = corpus::load(&corpus::cases_dir())?.base.tenants;
    let limited = json!({ "id": LIMITED, "databases": { "onboarding": {} } });
    let limited = Answer {
        record: Some(limited),
        ..Answer::default()
    };
    tenants.insert(LIMITED.to_owned(), limited);
    Setup::new(config).tenants(tenants).workers(2).tenant_events()
}

fn made(made: Made) -> anyhow::Result<Message> {
    let token = Keys::shared().token(&Token::Made(Box::new(made)), now())?;
    Ok(Message::new("GET", ACCOUNTS).line("authorization", [b"Bearer ", &token[..]].concat()))
}

fn claims(tenant: &str, claims: Value) -> anyhow::Result<Message> {
    made(Made {
        tenant: Some(tenant.to_owned()),
        claims: Some(claims),
        ..Made::default()
    })
}

/// Requests with the status and code that each must get; no code where it is forwarded. In this order, since the
/// last ones open the circuit.
fn requests() -> anyhow::Result<Vec<(Message, u16, &'static str)>> {
    let of = |tenant: &str| Message::of_tenant(tenant, ACCOUNTS);
    let bare = Message::new("GET", ACCOUNTS);
    Ok(vec![
        (Message::new("GET", "/health"), 200, ""),
        (of("acme"), 200, ""),
        (of("acme"), 200, ""),
        (of("globex").line("x-storage-key", "a/b"), 200, ""),
        (bare.clone(), 401, "TENANT_ID_REQUIRED"),
        (bare.line("authorization", "Bearer a.b.c"), 401, "TOKEN_INVALID"),
        (claims("acme", json!({ "exp": 1 }))?, 401, "TOKEN_INVALID"),
        (
            claims("acme", json!({ "iss": "https://nobody.example.com" }))?,
            401,
            "TOKEN_INVALID",
        ),
        (of("not a tenant"), 401, "TENANT_ID_INVALID"),
        (of("acme").target(b"/v1/%2e%2e/x"), 400, "PATH_REJECTED"),
        (of("acme").line("x-storage-key", "../x"), 400, "KEY_REJECTED"),
        (of("frozen"), 403, "TENANT_SUSPENDED"),
        (of("frozen"), 403, "TENANT_SUSPENDED"),
        (of("barred"), 403, "TENANT_ACCESS_DENIED"),
        (of("nobody"), 404, "TENANT_NOT_FOUND"),
        (of("empty"), 422, "TENANT_NOT_PROVISIONED"),
        (of("half").target(b"/v1/transactions"), 503, "SERVICE_NOT_CONFIGURED"),
        (of("acme").target(LEAK.as_bytes()), 502, "TENANT_LEAK_BLOCKED"),
        (of("broken-1"), 503, "TENANT_MANAGER_UNAVAILABLE"),
        (of("broken-2"), 503, "TENANT_MANAGER_UNAVAILABLE"),
        (of("broken-3"), 503, "CIRCUIT_OPEN"),
    ])
}

/// Sends requests of the tenant with the low limit until one is refused. The second is, unless more than a second passes.
async fn refuse_one_for_its_rate(world: &World) -> anyhow::Result<()> {
    let until = Instant::now() + SOON;
    while Instant::now() < until {
        let reply = world.send(&Message::of_tenant(LIMITED, ACCOUNTS)).await?;
        if reply.status == 429 {
            return Ok(());
        }
        ensure!(reply.status == 200, "{} {}", reply.status, reply.text());
    }
    anyhow::bail!("the rate is not limited")
}

/// Sends all of it, and says how often each code must have been counted.
pub(crate) async fn send_all(world: &World) -> anyhow::Result<Counts> {
    let broken = Answer {
        status: Some(500),
        ..Answer::default()
    };
    let broken = (1..=3).map(|number| (format!("broken-{number}"), broken.clone()));
    world.tenant_manager.merge(broken.collect());
    let mut counts = Counts::new();
    let mut count = |name: String| *counts.entry(name).or_default() += 1;
    refuse_one_for_its_rate(world).await?;
    count("tenantgate_denials_total.code=TENANT_RATE_LIMITED~".to_owned());
    for (message, status, code) in requests()? {
        let reply = world.send(&message).await?;
        ensure!(
            (reply.status, reply.code().as_str()) == (status, code),
            "{} {}: {message:?}",
            reply.status,
            reply.text()
        );
        if !code.is_empty() {
            count(format!("tenantgate_denials_total.code={code}~"));
        }
    }
    count("tenantgate_response_leaks_total".to_owned());
    let events = [
        (
            json!({ "type": "tenant.cache.invalidate", "tenantId": "acme" }),
            200,
            "tenant_cache_invalidate",
            "applied",
        ),
        (
            json!({ "type": "tenant.renamed", "tenantId": "acme" }),
            200,
            "unknown",
            "unknown",
        ),
        (json!({ "type": "tenant.updated" }), 400, "tenant_updated", "malformed"),
    ];
    for (event, status, kind, outcome) in events {
        let reply = world.tell(&event).await?;
        ensure!(reply.status == status, "{} {}", reply.status, reply.text());
        count(format!("tenantgate_events_total.type={kind}~.outcome={outcome}~"));
    }
    count("tenantgate_denials_total.code=EVENTS_MALFORMED~".to_owned());
    let listener = world.envoy.listener(TENANT_EVENTS).context("no listener for events")?;
    let stranger = Message::new("POST", EVENTS_PATH).body("{}");
    let reply = Connection::exchange(listener, &stranger).await?;
    ensure!(reply.status == 401, "{} {}", reply.status, reply.text());
    count("tenantgate_denials_total.code=EVENTS_UNAUTHORIZED~".to_owned());
    // The identity provider knows no path at all.
    world
        .envoy
        .wait_for_stat(
            "wasmcustom.tenantgate_jwks_fetch_errors_total.reason=unexpected_status~",
            SOON,
            |n| n > 0,
        )
        .await?;
    world.check_workers_live().await?;
    Ok(counts)
}
