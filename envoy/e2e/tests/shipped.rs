//! `envoy/envoy.yaml` as an operator copies it: it loads, and what it says takes effect.

use anyhow::ensure;
use envoy_e2e::{Connection, Message, module};
use envoy_run::{Bootstrap, Echo, Envoy, Options};

/// The shipped bootstrap with nothing changed but where the module and the upstream are, and ports.
async fn shipped(echo: &Echo) -> anyhow::Result<Envoy> {
    let bootstrap = Bootstrap::shipped()?
        .wasm(module()?)
        .plugin_env("MULTI_TENANT_SERVICE_API_KEY", "shipped-api-key")
        .plugin_env("TENANTGATE_EVENTS_KEY", "shipped-events-key")
        .cluster_endpoint("upstream", echo.address())?
        .listener_port(0)
        .admin_port(0);
    Ok(Envoy::start(Options::new(bootstrap)).await?)
}

#[tokio::test]
async fn it_serves_public_paths_and_refuses_the_rest() -> anyhow::Result<()> {
    let echo = Echo::start().await?;
    let envoy = shipped(&echo).await?;
    let send = async |message: Message| Connection::exchange(envoy.address(), &message).await;

    let public = send(
        Message::new("GET", "/health")
            .line("x-tenant-id", "acme")
            .line("x_note", "1"),
    )
    .await?;
    ensure!(public.status == 200, "{} {}", public.status, public.text());
    let seen = echo.requests().pop().unwrap_or_default();
    ensure!(
        seen.values("x-tenant-id").is_empty() && seen.values("x_note").is_empty(),
        "{:?}",
        seen.headers
    );

    let protected = send(Message::new("GET", "/v1/accounts")).await?;
    ensure!(
        protected.status == 401 && protected.code() == "TENANT_ID_REQUIRED",
        "{}",
        protected.text()
    );
    let merged = send(Message::new("GET", "//health/../health/./live")).await?;
    ensure!(merged.status == 200, "{} {}", merged.status, merged.text());
    let escaped = send(Message::new("GET", "/health%2flive")).await?;
    ensure!(escaped.status == 400, "{} {}", escaped.status, escaped.text());
    ensure!(echo.total() == 2, "the upstream saw {:?}", echo.requests());

    for line in envoy.logged_since(0).await? {
        ensure!(!line.contains("shipped-"), "the log holds a key: {line}");
    }
    envoy.stop().await?;
    Ok(())
}

#[tokio::test]
async fn it_does_not_load_without_the_api_key_that_it_names() -> anyhow::Result<()> {
    let echo = Echo::start().await?;
    let bootstrap = Bootstrap::shipped()?
        .wasm(module()?)
        .plugin_env("ANOTHER_NAME", "x")
        .cluster_endpoint("upstream", echo.address())?
        .listener_port(0)
        .admin_port(0);
    let error = Envoy::start(Options::new(bootstrap))
        .await
        .expect_err("a fault of the configuration");
    let told = error
        .log()
        .iter()
        .any(|line| line.contains("/tenant_manager/api_keys/0/env"));
    ensure!(told, "{error}");
    Ok(())
}
