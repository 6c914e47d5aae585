//! Listeners that are removed while requests wait: each is answered or ended, nothing is left of the filter, and what
//! the node knows lasts as long as a listener with the filter's `vm_id`.

use std::time::Duration;

use anyhow::{Context, ensure};
use corpus::answer::Answer;
use envoy_e2e::{Connection, EVENTS_KEY, EVENTS_PATH, Message, Reply, bootstrap_between};
use envoy_run::{Bootstrap, Echo, Envoy, ListenerFile, Options, TENANT_EVENTS, TenantManager};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// How long anything may take that is waited for here: compiling the module again takes most of it.
const SOON: Duration = Duration::from_secs(60);

/// How often a condition is looked at while it is waited for.
const POLL: Duration = Duration::from_millis(20);

/// How long a removed listener still serves the connections that it has: long enough for a busy machine to answer
/// what waits, and so short that it is cut.
const LONG_DRAIN: Duration = Duration::from_secs(6);
const SHORT_DRAIN: Duration = Duration::from_secs(2);

/// How late a busy machine may be.
const LATE: Duration = Duration::from_secs(10);

const UPDATED: &str = "listener_manager.lds.update_success";
const DRAINING: &str = "listener_manager.total_listeners_draining";
const VMS: &str = "wasm.envoy.wasm.runtime.v8.active";
const CONSUMERS: &str = "wasmcustom.tenant_consumers_active";

/// An Envoy whose listeners are in a file.
struct Stage {
    echo: Echo,
    tenant_manager: TenantManager,
    listeners: ListenerFile,
    envoy: Envoy,
    updates: u64,
}

fn bootstrap(echo: &Echo, tenant_manager: &TenantManager) -> anyhow::Result<Bootstrap> {
    let patch = json!({
        "tenant_manager": { "timeout_ms": 12_000 },
        "environment": "staging",
        "events": { "path": EVENTS_PATH, "api_keys": [{ "value": EVENTS_KEY }] },
    });
    bootstrap_between(patch, echo, tenant_manager)?.tenant_events(0)
}

fn of(tenant: &str) -> Message {
    Message::of_tenant(tenant, "/v1/accounts")
}

impl Stage {
    async fn start(drain_time: Duration) -> anyhow::Result<Self> {
        let echo = Echo::start().await?;
        let tenant_manager = TenantManager::start(corpus::load(&corpus::cases_dir())?.base.tenants).await?;
        let mut listeners = ListenerFile::new()?;
        let options = Options {
            concurrency: 2,
            drain_time,
            ..Options::new(listeners.write(bootstrap(&echo, &tenant_manager)?)?)
        };
        Ok(Self {
            envoy: Envoy::start(options).await?,
            echo,
            tenant_manager,
            listeners,
            updates: 1,
        })
    }

    /// Has only listeners of these names from now on.
    async fn keep(&mut self, stays: impl Fn(&str) -> bool) -> anyhow::Result<()> {
        let bootstrap = bootstrap(&self.echo, &self.tenant_manager)?;
        self.listeners.write_some(bootstrap, stays)?;
        self.updates += 1;
        let updates = self.updates;
        self.envoy
            .wait_for_stat(UPDATED, SOON, |count| count == updates)
            .await?;
        Ok(())
    }

    /// Has them all again.
    async fn restore(&mut self) -> anyhow::Result<()> {
        self.keep(|_| true).await?;
        self.envoy.refresh_listeners().await
    }

    async fn send(&self, message: &Message) -> anyhow::Result<Reply> {
        let ingress = self.envoy.listener("ingress").context("there is no such listener")?;
        Connection::exchange(ingress, message).await
    }

    async fn suspend(&self, tenant: &str) -> anyhow::Result<()> {
        let event = json!({ "type": "tenant.suspended", "tenantId": tenant }).to_string();
        let message = Message::new("POST", EVENTS_PATH)
            .line("x-api-key", EVENTS_KEY)
            .body(event);
        let listener = self
            .envoy
            .listener(TENANT_EVENTS)
            .context("there is no such listener")?;
        let told = Connection::exchange(listener, &message).await?;
        ensure!(told.status == 200, "{} {}", told.status, told.text());
        Ok(())
    }

    /// So many requests for one tenant each, all of which wait for the Tenant Manager.
    async fn waiting(&self, tenants: &[&str]) -> anyhow::Result<JoinSet<anyhow::Result<Reply>>> {
        let ingress = self.envoy.listener("ingress").context("there is no such listener")?;
        let lookups = self.tenant_manager.total();
        self.tenant_manager.hold();
        let mut waiting = JoinSet::new();
        for tenant in tenants {
            let message = of(tenant);
            waiting.spawn(async move { Connection::exchange(ingress, &message).await });
        }
        self.tenant_manager.wait_for(lookups + tenants.len(), SOON).await?;
        Ok(waiting)
    }

    /// Waits until the listener takes no connection.
    async fn until_closed(&self) -> anyhow::Result<()> {
        let ingress = self.envoy.listener("ingress").context("there is no such listener")?;
        let deadline = Instant::now() + SOON;
        while TcpStream::connect(ingress).await.is_ok() {
            ensure!(Instant::now() < deadline, "it takes connections on and on");
            sleep(POLL).await;
        }
        Ok(())
    }
}

#[tokio::test]
async fn who_waits_on_a_listener_that_goes_is_answered_and_the_node_keeps_what_another_one_needs() -> anyhow::Result<()>
{
    let mut stage = Stage::start(LONG_DRAIN).await?;
    for tenant in ["acme", "half"] {
        ensure!(stage.send(&of(tenant)).await?.status == 200);
    }
    stage.suspend("half").await?;
    let vms = stage.envoy.stat(VMS).await?;
    let mut lookups = stage.tenant_manager.total();
    for round in 0..2 {
        let (cold, unknown) = (format!("cold-{round}"), format!("unknown-{round}"));
        let record = Answer {
            record: Some(json!({ "id": cold, "databases": { "onboarding": {} } })),
            ..Answer::default()
        };
        stage.tenant_manager.merge([(cold.clone(), record)].into());
        let mut waiting = stage.waiting(&[&cold, &unknown]).await?;
        lookups += 2;
        stage.keep(|name| name == TENANT_EVENTS).await?;
        stage.until_closed().await?;
        stage.tenant_manager.release();
        let mut statuses = Vec::new();
        while let Some(reply) = waiting.join_next().await {
            statuses.push(reply??.status);
        }
        statuses.sort_unstable();
        ensure!(statuses == [200, 404], "{statuses:?}");
        stage.envoy.wait_for_stat(DRAINING, SOON, |count| count == 0).await?;

        stage.restore().await?;
        ensure!(stage.send(&of("acme")).await?.status == 200);
        let refused = stage.send(&of("half")).await?;
        ensure!(
            refused.code() == "TENANT_SUSPENDED",
            "{} {}",
            refused.status,
            refused.text()
        );
        ensure!(stage.tenant_manager.total() == lookups, "the node has forgotten");
        stage
            .envoy
            .wait_for_stat(VMS, SOON, |count| count == vms)
            .await
            .with_context(|| format!("after round {round}"))?;
    }
    stage.envoy.stop().await?;
    Ok(())
}

#[tokio::test]
async fn who_waits_longer_than_a_listener_drains_is_cut_and_without_any_listener_all_is_forgotten() -> anyhow::Result<()>
{
    let mut stage = Stage::start(SHORT_DRAIN).await?;
    for tenant in ["acme", "half"] {
        ensure!(stage.send(&of(tenant)).await?.status == 200);
    }
    stage.suspend("half").await?;
    let vms = stage.envoy.stat(VMS).await?;
    for round in 0..2 {
        let mut waiting = stage.waiting(&["globex", "unknown"]).await?;
        stage.keep(|_| false).await?;
        let began = Instant::now();
        while let Some(reply) = waiting.join_next().await {
            // The connection is closed under it.
            let error = reply?.expect_err("nobody has answered the lookup");
            ensure!(
                began.elapsed() < SHORT_DRAIN + LATE,
                "{error:#} after {:?}",
                began.elapsed()
            );
        }
        // What is answered now has nobody to go to.
        stage.tenant_manager.release();
        stage
            .envoy
            .wait_for_stat(VMS, SOON, |count| count == 0)
            .await
            .with_context(|| format!("after round {round}"))?;

        let lookups = stage.tenant_manager.total();
        stage.restore().await?;
        for tenant in ["acme", "half"] {
            let reply = stage.send(&of(tenant)).await?;
            ensure!(reply.status == 200, "{tenant}: {} {}", reply.status, reply.text());
        }
        let asked = stage.tenant_manager.total() - lookups;
        ensure!(asked == 2, "{asked} lookups by a node that knows nothing");
        ensure!(
            stage.envoy.stat(CONSUMERS).await? == 2,
            "it counts those that it has forgotten"
        );
        stage.envoy.wait_for_stat(VMS, SOON, |count| count == vms).await?;
    }
    stage.envoy.stop().await?;
    Ok(())
}
