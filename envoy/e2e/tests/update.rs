//! A configuration update while Envoy runs.

use std::time::Duration;

use anyhow::ensure;
use envoy_e2e::{Connection, Message, bootstrap_between};
use envoy_run::{Echo, Envoy, ListenerFile, Options, TenantManager};
use serde_json::{Value, json};

/// How long anything may take that is waited for here: compiling the module again takes most of it.
const SOON: Duration = Duration::from_secs(60);

/// Tenant records in the cache of the node.
const CONSUMERS: &str = "wasmcustom.tenant_consumers_active";

const UPDATED: &str = "listener_manager.lds.update_success";

#[tokio::test]
async fn what_is_known_of_tenants_outlives_an_update_that_does_not_concern_it() -> anyhow::Result<()> {
    let echo = Echo::start().await?;
    let tenants = corpus::load(&corpus::cases_dir())?.base.tenants;
    let tenant_manager = TenantManager::start(tenants).await?;
    let bootstrap = |patch: Value| bootstrap_between(patch, &echo, &tenant_manager);
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
    envoy.refresh_listeners().await?;

    send(&envoy, "acme").await?;
    let seen = echo.requests().pop().unwrap_or_default();
    ensure!(seen.values("x-tenant-module") == [b"onboarding"], "{:?}", seen.headers);
    ensure!(
        tenant_manager.total() == 3,
        "{} lookups: the node still knows",
        tenant_manager.total()
    );
    ensure!(envoy.stat(CONSUMERS).await? == 3);

    // How long a record is fresh concerns what is known.
    listeners.write(bootstrap(
        json!({ "tenant_manager": { "cache": { "ttl_seconds": 60 } } }),
    )?)?;
    envoy.wait_for_stat(UPDATED, SOON, |updates| updates == 3).await?;
    envoy.refresh_listeners().await?;
    send(&envoy, "acme").await?;
    ensure!(
        tenant_manager.total() == 4,
        "{} lookups: under another configuration it is asked anew",
        tenant_manager.total()
    );
    envoy.stop().await?;
    Ok(())
}
