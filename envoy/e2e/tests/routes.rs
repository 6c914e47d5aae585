//! What a route of Envoy says: the module of its requests, or that the filter is not for it.

use anyhow::ensure;
use envoy_e2e::{Message, Setup};
use envoy_run::Bootstrap;
use serde_json::{Value, json};

/// A route for a path, in front of the one for everything.
fn route(bootstrap: &mut Bootstrap, path: &str, change: impl FnOnce(&mut Value)) {
    let mut route = bootstrap.routes().last().cloned().unwrap_or_default();
    route["match"] = json!({ "prefix": path });
    change(&mut route);
    bootstrap.routes().insert(0, route);
}

fn with_modules(bootstrap: &mut Bootstrap) {
    let modules = [
        ("/ours/transaction", json!("transaction")),
        ("/ours/onboarding", json!("onboarding")),
        // The path rules say otherwise; the route has the last word.
        ("/v1/transactions/of-route", json!("onboarding")),
        ("/ours/strange", json!("no module")),
        ("/ours/empty", json!("")),
        ("/ours/long", json!("m".repeat(300))),
        ("/ours/number", json!(7)),
        ("/ours/list", json!(["transaction"])),
    ];
    for (path, module) in modules {
        route(bootstrap, path, |route| {
            route["metadata"]["filter_metadata"]["tenantgate"]["module"] = module;
        });
    }
    route(bootstrap, "/ours/silent", |route| {
        route["metadata"]["filter_metadata"]["tenantgate"]["other"] = "x".into();
        route["metadata"]["filter_metadata"]["module"]["module"] = "transaction".into();
    });
}

/// What comes of a request: the module that it is forwarded for, or a denial.
type Outcome = Result<&'static str, (u16, &'static str)>;

#[tokio::test]
async fn the_module_of_a_route_outranks_the_path_and_must_be_one() -> anyhow::Result<()> {
    let emit = json!({ "scope": { "emit": { "module": "x-tenant-module" } } });
    let world = Setup::of_corpus(emit)?.change(with_modules).start().await?;
    let rows: [(&str, &str, Outcome); 13] = [
        ("acme", "/ours/transaction/7", Ok("transaction")),
        ("acme", "/ours/onboarding/7", Ok("onboarding")),
        ("acme", "/v1/transactions/of-route", Ok("onboarding")),
        ("acme", "/v1/transactions/7", Ok("transaction")),
        ("acme", "/ours/silent", Ok("onboarding")),
        ("acme", "/elsewhere", Ok("onboarding")),
        ("half", "/ours/transaction/7", Err((503, "SERVICE_NOT_CONFIGURED"))),
        ("half", "/v1/transactions/of-route", Ok("onboarding")),
        ("acme", "/ours/strange", Err((404, "ROUTE_NOT_FOUND"))),
        ("acme", "/ours/empty", Err((404, "ROUTE_NOT_FOUND"))),
        ("acme", "/ours/long", Err((404, "ROUTE_NOT_FOUND"))),
        ("acme", "/ours/number", Err((404, "ROUTE_NOT_FOUND"))),
        ("acme", "/ours/list", Err((404, "ROUTE_NOT_FOUND"))),
    ];
    for (tenant, path, expected) in rows {
        let before = world.echo.total();
        let message = Message::of_tenant(tenant, path).line("x-tenant-module", "transaction");
        let reply = world.send(&message).await?;
        match expected {
            Ok(module) => {
                ensure!(reply.status == 200, "{path}: {} {}", reply.status, reply.text());
                let seen = world.last_forwarded()?;
                ensure!(
                    seen.values("x-tenant-module") == [module.as_bytes()],
                    "{path}: {seen:?}"
                );
            }
            Err((status, code)) => {
                ensure!(
                    reply.status == status && reply.code() == code,
                    "{path}: {} {}",
                    reply.status,
                    reply.text()
                );
                ensure!(world.echo.total() == before, "{path} was forwarded");
            }
        }
    }
    world.check_workers_live().await?;
    world.stop().await
}

#[tokio::test]
async fn a_route_is_asked_only_where_the_configuration_speaks_of_modules() -> anyhow::Result<()> {
    for (modules, expected) in [
        (Value::Null, 503),
        (json!({ "default": "ledger", "routes": null }), 200),
    ] {
        let config = json!({ "modules": modules, "scope": { "emit": { "module": "x-tenant-module" } } });
        let world = Setup::of_corpus(config)?.change(with_modules).start().await?;
        // The one module is named like the service then, and nobody has been granted it.
        let reply = world.send(&Message::of_tenant("acme", "/ours/transaction/7")).await?;
        ensure!(reply.status == expected, "{modules}: {} {}", reply.status, reply.text());
        world.stop().await?;
    }
    Ok(())
}

/// Switches a filter off for a route.
const DISABLED: &str = "type.googleapis.com/envoy.config.route.v3.FilterConfig";

fn with_a_route_of_its_own(bootstrap: &mut Bootstrap) {
    route(bootstrap, "/legacy", |route| {
        route["typed_per_filter_config"]["tenantgate"] = json!({ "@type": DISABLED, "disabled": true });
    });
}

#[tokio::test]
async fn on_a_route_that_switches_the_filter_off_nothing_is_touched() -> anyhow::Result<()> {
    let world = Setup::of_corpus(json!({}))?
        .change(with_a_route_of_its_own)
        .start()
        .await?;
    let message = Message::new("POST", "/legacy/../x?tenant=%00")
        .line("x-tenant-id", "anything")
        .line("x-storage-key", "../a")
        .line("authorization", "Bearer a.b.c")
        .line("x-note", b"\xff".to_vec())
        .body("body");
    let reply = world.send(&message).await?;
    ensure!(reply.status == 200, "{} {}", reply.status, reply.text());
    let seen = world.last_forwarded()?;
    ensure!(
        seen.target == "/legacy/../x?tenant=%00" && seen.body == b"body",
        "{seen:?}"
    );
    for (name, value) in [
        ("x-tenant-id", &b"anything"[..]),
        ("x-storage-key", b"../a"),
        ("authorization", b"Bearer a.b.c"),
        ("x-note", b"\xff"),
    ] {
        ensure!(seen.values(name) == [value], "{name}: {seen:?}");
    }
    for path in ["/legac", "/v1/legacy", "/Legacy/x"] {
        let reply = world.send(&Message::new("GET", path)).await?;
        ensure!(
            reply.status == 401 && reply.code() == "TENANT_ID_REQUIRED",
            "{path}: {}",
            reply.text()
        );
    }
    ensure!(world.echo.total() == 1 && world.tenant_manager.total() == 0);
    for (name, value) in world.envoy.stats().await? {
        let is_of_the_first = name.starts_with("wasmcustom.tenant_");
        ensure!(value == 0 || !is_of_the_first, "{name} is {value}");
    }
    world.stop().await
}
