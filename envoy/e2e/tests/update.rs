//! A configuration update while Envoy runs.

use std::time::Duration;

use anyhow::ensure;
use envoy_e2e::{Connection, Message, base_config, module};
use envoy_run::{Bootstrap, Echo, Envoy, ListenerFile, Options, TenantManager};
use serde_json::{Value, json};

/// How long anything may take that is waited for here: compiling the module again takes most of it.
const SOON: Duration = Duration::from_secs(60);

/// Tenant records in the caches of all workers.
const CONSUMERS: &str = "wasmcustom.tenant_consumers_active";

const UPDATED: &str = "listener_manager.lds.update_success";

#[tokio::test]
async fn the_gauge_of_cached_tenants_follows_the_caches_through_an_update() -> anyhow::Result<()> {
    let echo = Echo::start().await?;
    let tenants = corpus::load(&corpus::cases_dir())?.base.tenants;
    let tenant_manager = TenantManager::start(tenants).await?;
    let bootstrap = |patch: Value| -> anyhow::Result<Bootstrap> {
        Ok(Bootstrap::shipped()?
            .wasm(module()?)
            .plugin_config(&base_config(patch)?.to_string())
            .cluster_endpoint("upstream", echo.address())?
            .cluster_endpoint("tenant-manager", tenant_manager.address())?
            .listener_port(0)
            .admin_port(0))
    };
    let mut listeners = ListenerFile::new()?;
    let options = Options {
        drain_time: Duration::from_secs(1),
        ..Options::new(listeners.write(bootstrap(json!({}))?)?)
    };
    let mut envoy = Envoy::start(options).await?;
    let send = async |envoy: &Envoy, tenant: &str| {
        let reply = Connection::exchange(envoy.address(), &Message::of_tenant(tenant, "/v1/accounts")).await?;
        ensure!(reply.status == 200, "{} {}", reply.status, reply.text());
        anyhow::Ok(reply)
    };

    for tenant in ["acme", "globex", "half"] {
        send(&envoy, tenant).await?;
    }
    ensure!(envoy.stat(CONSUMERS).await? == 3);

    // The new configuration says something that shows.
    let emit = json!({ "scope": { "emit": { "module": "x-tenant-module" } } });
    listeners.write(bootstrap(emit)?)?;
    envoy.wait_for_stat(UPDATED, SOON, |updates| updates == 2).await?;
    // The old cache goes with the last of the old listener, and its records with it.
    envoy.wait_for_stat(CONSUMERS, SOON, |records| records == 0).await?;
    envoy.refresh_listeners().await?;

    send(&envoy, "acme").await?;
    let seen = echo.requests().pop().unwrap_or_default();
    ensure!(seen.values("x-tenant-module") == [b"onboarding"], "{:?}", seen.headers);
    ensure!(
        tenant_manager.total() == 4,
        "{} lookups: the new cache begins empty",
        tenant_manager.total()
    );
    ensure!(envoy.stat(CONSUMERS).await? == 1);
    envoy.stop().await?;
    Ok(())
}
