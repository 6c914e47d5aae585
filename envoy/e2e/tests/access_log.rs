//! The access log of the shipped bootstrap: its `tenant` is what the filter has proven, or nothing.

use std::time::Duration;

use anyhow::{Context, ensure};
use corpus::wire::Field;
use envoy_e2e::{Message, Setup, World};
use serde_json::{Value, json};

/// How long a line of the access log may take.
const SOON: Duration = Duration::from_secs(10);

/// The next lines of the access log after the first `mark`, as many as there were requests.
async fn logged(world: &World, mark: usize, requests: usize) -> anyhow::Result<Vec<Value>> {
    let log = world.envoy.access_log();
    let poll = async {
        while log.mark() < mark + requests {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, poll)
        .await
        .with_context(|| format!("{} of {requests} lines came", log.mark() - mark))?;
    let lines = log.since(mark);
    lines.iter().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// The lines by which a client may try to say who it is.
fn spoofed() -> Vec<Field> {
    let names = ["x-tenant-id", "X-Tenant-ID", "x_tenant_id", "x-tenant-slug"];
    names.map(|name| (name.into(), b"victim".to_vec())).into()
}

#[tokio::test]
async fn a_denied_request_is_not_logged_under_the_tenant_that_it_claims() -> anyhow::Result<()> {
    let world = Setup::of_corpus(json!({}))?.start().await?;
    let of = |tenant: &str| Message::of_tenant(tenant, "/v1/accounts");
    let rows = [
        // At once.
        ("without a token", Message::new("GET", "/v1/accounts"), 401),
        (
            "with a bad token",
            Message::new("GET", "/v1/accounts").line("authorization", "Bearer a.b.c"),
            401,
        ),
        ("with a hazardous path", Message::new("GET", "/health/../v1"), 400),
        // After a lookup, then from the cache.
        ("of a suspended tenant", of("frozen"), 403),
        ("of a tenant known to be suspended", of("frozen"), 403),
        ("of an unknown tenant", of("nobody"), 404),
        (
            "with a key that is refused",
            of("acme").line("x-storage-key", "../x"),
            400,
        ),
    ];
    for (what, message, status) in rows {
        let mark = world.envoy.access_log().mark();
        let reply = world.send(&message.lines(spoofed())).await.context(what)?;
        let line = logged(&world, mark, 1).await.context(what)?.remove(0);
        ensure!(
            reply.status == status && line["status"] == status,
            "{what}: {} {line}",
            reply.status
        );
        ensure!(line["tenant"].is_null(), "{what}: {line}");
        ensure!(!line.to_string().contains("victim"), "{what}: {line}");
    }
    ensure!(world.echo.total() == 0, "the upstream saw {:?}", world.echo.requests());
    world.stop().await
}

#[tokio::test]
async fn a_request_that_passes_is_logged_under_its_proven_tenant_or_none() -> anyhow::Result<()> {
    let world = Setup::of_corpus(json!({}))?.start().await?;
    let rows = [
        (Message::of_tenant("acme", "/v1/accounts?key=secret"), json!("acme")),
        (Message::new("GET", "/health"), Value::Null),
    ];
    for (message, tenant) in rows {
        let mark = world.envoy.access_log().mark();
        ensure!(world.send(&message.lines(spoofed())).await?.status == 200);
        let line = logged(&world, mark, 1).await?.remove(0);
        ensure!(line["tenant"] == tenant && line["details"] == "via_upstream", "{line}");
        ensure!(!line.to_string().contains("secret"), "{line}");
    }
    world.stop().await
}
