//! `enforcement: report`: what would be denied is counted and logged, and goes on without a tenant.

use anyhow::ensure;
use corpus::answer::Answer;
use corpus::wire::Field;
use envoy_e2e::{Message, Setup, World};
use serde_json::{Value, json};

async fn world(patch: Value) -> anyhow::Result<World> {
    let mut config = json!({ "enforcement": "report", "scope": { "properties": true } });
    for (name, value) in patch.as_object().into_iter().flatten() {
        config[name] = value.clone();
    }
    Setup::of_corpus(config)?.start().await
}

/// What a client may send that must not arrive where no tenant is proven.
fn untrusted() -> Vec<Field> {
    let names = [
        "x-tenant-id",
        "X-Tenant-Slug",
        "x_tenant_id",
        "x-routing-key",
        "X-Redis-Key",
        "x-storage-key",
        "x.storage.key",
    ];
    names.map(|name| (name.into(), b"victim".to_vec())).into()
}

fn would_deny(code: &str) -> String {
    format!("wasmcustom.tenantgate_would_deny_total.code={code}~")
}

fn denials(code: &str) -> String {
    format!("wasmcustom.tenantgate_denials_total.code={code}~")
}

#[tokio::test]
async fn what_would_be_denied_goes_on_without_a_tenant_and_is_counted() -> anyhow::Result<()> {
    let world = world(json!({ "paths": { "hazardous": "reject" } })).await?;
    let of = |tenant: &str| Message::of_tenant(tenant, "/v1/accounts");
    let rows = [
        (Message::new("GET", "/v1/accounts"), 401, "TENANT_ID_REQUIRED", ""),
        (
            Message::new("GET", "/v1/accounts").line("authorization", "Bearer a.b.c"),
            401,
            "TOKEN_INVALID",
            "",
        ),
        (Message::new("GET", "/v1/a%2fb"), 400, "PATH_REJECTED", ""),
        (of("frozen"), 403, "TENANT_SUSPENDED", "frozen"),
        (of("frozen"), 403, "TENANT_SUSPENDED", "frozen"),
        (of("barred"), 403, "TENANT_ACCESS_DENIED", "barred"),
        (of("nobody"), 404, "TENANT_NOT_FOUND", "nobody"),
        (of("empty"), 422, "TENANT_NOT_PROVISIONED", "empty"),
        (
            of("half").target(b"/v1/transactions"),
            503,
            "SERVICE_NOT_CONFIGURED",
            "half",
        ),
        (of("acme").line("x-storage-key", "../a"), 400, "KEY_REJECTED", "acme"),
    ];
    for (message, status, code, tenant) in rows {
        let (count, mark) = (world.envoy.stat(&would_deny(code)).await?, world.envoy.logs().mark());
        let total = world.echo.total();
        let post = message.method("POST").line("x-note", "stays").body("body");
        let reply = world.send(&post.lines(untrusted())).await?;
        ensure!(reply.status == 200, "{code}: {} {}", reply.status, reply.text());
        ensure!(world.echo.total() == total + 1, "{code}");
        let seen = world.last_forwarded()?;
        for (name, value) in &seen.headers {
            ensure!(value != b"victim" && !name.starts_with("x-tenant"), "{code}: {name}");
        }
        ensure!(seen.values("x-storage-key").is_empty(), "{code}");
        ensure!(
            seen.values("x-note") == [b"stays"] && seen.body == b"body",
            "{code}: {seen:?}"
        );
        ensure!(
            world.envoy.stat(&would_deny(code)).await? == count + 1,
            "{code} is not counted"
        );
        ensure!(
            world.envoy.stat(&denials(code)).await? == 0,
            "{code} is counted as a denial"
        );
        let log = world.envoy.logged_since(mark).await?;
        let mut expected = format!("would deny {status} {code}");
        if !tenant.is_empty() {
            expected += &format!(" tenant={tenant}");
        }
        let told = log.iter().filter(|line| line.contains(&expected)).count();
        ensure!(told == 1, "{expected}: {log:?}");
    }
    world.check_workers_live().await?;
    world.stop().await
}

#[tokio::test]
async fn what_would_be_admitted_is_scoped_as_ever_and_public_paths_are_public() -> anyhow::Result<()> {
    let world = world(json!({})).await?;
    let keys = Message::of_tenant("acme", "/v1/accounts")
        .line("x-storage-key", "a")
        .line("x-tenant-id", "victim");
    ensure!(world.send(&keys).await?.status == 200);
    let seen = world.last_forwarded()?;
    ensure!(
        seen.values("x-storage-key") == [b"acme/a"] && seen.values("x-tenant-id") == [b"acme"],
        "{seen:?}"
    );
    ensure!(
        world
            .send(&Message::new("GET", "/health").lines(untrusted()))
            .await?
            .status
            == 200
    );
    let seen = world.last_forwarded()?;
    ensure!(!seen.headers.iter().any(|(_, value)| value == b"victim"), "{seen:?}");
    for (name, value) in world.envoy.stats().await? {
        ensure!(value == 0 || !name.contains("would_deny"), "{name} is {value}");
    }
    world.stop().await
}

#[tokio::test]
async fn a_rate_and_a_leak_are_reported_too() -> anyhow::Result<()> {
    let limit = json!({ "requests_per_second": 1, "burst": 1 });
    let config =
        json!({ "rate_limit": limit, "scope": { "response": [{ "name": "x-storage-key", "kind": "storage_key" }] } });
    let world = world(config).await?;
    let message = Message::of_tenant("acme", "/v1/accounts");
    for _ in 0..2 {
        ensure!(world.send(&message).await?.status == 200);
    }
    ensure!(world.envoy.stat(&would_deny("TENANT_RATE_LIMITED")).await? == 1);
    world.echo.will_answer([Answer {
        headers: vec![("x-storage-key".to_owned(), "globex/a".to_owned())],
        ..Answer::default()
    }]);
    // Whose request is reported has no tenant, whose response could be looked at.
    let reply = world.send(&Message::of_tenant("half", "/v1/accounts")).await?;
    ensure!(
        reply.status == 200 && reply.header("x-storage-key").as_deref() == Some("globex/a"),
        "{reply:?}"
    );
    ensure!(world.envoy.stat(&would_deny("TENANT_LEAK_BLOCKED")).await? == 1);
    ensure!(world.envoy.stat("wasmcustom.tenantgate_response_leaks_total").await? == 1);
    world.stop().await
}

#[tokio::test]
async fn a_websocket_that_would_be_denied_is_not_disturbed() -> anyhow::Result<()> {
    let world = world(json!({})).await?;
    let handshake = Message::new("GET", "/v1/socket")
        .line("connection", "Upgrade, x-note")
        .line("upgrade", "websocket")
        .line("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .line("x-tenant-id", "victim");
    // The upstream takes no notice of the upgrade; what counts is that it was asked.
    let reply = world.send(&handshake).await?;
    let seen = world.last_forwarded()?;
    ensure!(seen.values("upgrade") == [b"websocket"], "{} {seen:?}", reply.status);
    ensure!(seen.values("x-tenant-id").is_empty(), "{seen:?}");
    ensure!(world.envoy.stat(&would_deny("TENANT_ID_REQUIRED")).await? == 1);
    world.stop().await
}
