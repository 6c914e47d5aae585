//! Envoys that are replaced or drained while requests come: each is answered, and a new process knows nothing of
//! what the old one had learned.

use std::time::Duration;

use anyhow::{Context, ensure};
use envoy_e2e::live::{self, Socket};
use envoy_e2e::{Connection, Message, Sample, Traffic, bootstrap_between};
use envoy_run::{Bootstrap, Echo, Envoy, HotRestart, Options, PARENT_REMAINS, TenantManager};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

/// How long anything may take that is waited for here.
const SOON: Duration = Duration::from_secs(60);

/// How often a condition is looked at while it is waited for.
const POLL: Duration = Duration::from_millis(20);

/// How long an Envoy drains.
const DRAIN: Duration = Duration::from_secs(5);

/// How long a request may take: longer than in the shipped bootstrap, since what it waits for is a whole Envoy that
/// starts.
const STREAM_TIMERS: Duration = Duration::from_secs(60);

const CLIENTS: usize = 3;

const ACTIVE: &str = "http.ingress.downstream_rq_active";

/// Who is behind Envoy and beside it.
struct Surroundings {
    echo: Echo,
    sockets: live::Upstream,
    tenant_manager: TenantManager,
}

impl Surroundings {
    async fn start() -> anyhow::Result<Self> {
        Ok(Self {
            echo: Echo::start().await?,
            sockets: live::Upstream::start(None).await?,
            tenant_manager: TenantManager::start(corpus::load(&corpus::cases_dir())?.base.tenants).await?,
        })
    }

    /// The shipped bootstrap among them, WebSockets with an upstream of their own.
    fn bootstrap(&self) -> anyhow::Result<Bootstrap> {
        // What is known outlasts the test, also that frozen is refused.
        let cache = json!({ "ttl_seconds": 600, "negative_ttl_seconds": 600 });
        let patient = json!({ "tenant_manager": { "timeout_ms": 50_000, "cache": cache } });
        let mut bootstrap = bootstrap_between(patient, &self.echo, &self.tenant_manager)?
            .add_cluster("sockets", self.sockets.address())?
            .upgrades(&["websocket"]);
        let timers = format!("{}s", STREAM_TIMERS.as_secs());
        bootstrap.hcm()["stream_idle_timeout"] = timers.clone().into();
        bootstrap.hcm()["request_timeout"] = timers.into();
        let sockets = json!({ "match": { "prefix": "/v1/socket" }, "route": { "cluster": "sockets" } });
        bootstrap.routes().insert(0, sockets);
        Ok(bootstrap)
    }
}

fn options(bootstrap: Bootstrap, hot_restart: HotRestart) -> Options {
    Options {
        concurrency: 2,
        drain_time: DRAIN,
        wasm_log_level: "warning".to_owned(),
        hot_restart,
        ..Options::new(bootstrap)
    }
}

fn of(tenant: &str) -> Message {
    Message::of_tenant(tenant, "/v1/accounts")
}

/// Requests of acme, which is always let in, of frozen, which never is, and of nobody. The node knows both, and half.
async fn traffic(envoy: &Envoy) -> anyhow::Result<Traffic> {
    for (tenant, status) in [("acme", 200), ("half", 200), ("frozen", 403)] {
        let reply = Connection::exchange(envoy.address(), &of(tenant)).await?;
        ensure!(reply.status == status, "{} {}", reply.status, reply.text());
    }
    let messages = [of("acme"), of("frozen"), Message::new("GET", "/v1/accounts")];
    Ok(Traffic::start(envoy.address(), CLIENTS, &messages))
}

/// Checks that each of them was answered, rightly and in time.
fn are_right(samples: &[Sample]) -> anyhow::Result<()> {
    for sample in samples {
        let seen = (sample.message, sample.status, sample.code.as_str());
        let is_right = matches!(
            seen,
            (0, 200, "") | (1, 403, "TENANT_SUSPENDED") | (2, 401, "TENANT_ID_REQUIRED")
        );
        ensure!(is_right && sample.took < STREAM_TIMERS, "{sample:?}");
    }
    Ok(())
}

/// Sends a message that waits for the Tenant Manager, which holds its answers from now on.
async fn waiting(
    surroundings: &Surroundings,
    envoy: &Envoy,
    tenant: &str,
) -> anyhow::Result<tokio::task::JoinHandle<anyhow::Result<envoy_e2e::Reply>>> {
    let (address, message, lookups) = (envoy.address(), of(tenant), surroundings.tenant_manager.total());
    surroundings.tenant_manager.hold();
    let waiting = tokio::spawn(async move { Connection::exchange(address, &message).await });
    surroundings.tenant_manager.wait_for(lookups + 1, SOON).await?;
    Ok(waiting)
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hot_restart_leaves_no_request_unanswered_and_begins_cold() -> anyhow::Result<()> {
    let mut surroundings = Surroundings::start().await?;
    let first = Envoy::start(options(surroundings.bootstrap()?, HotRestart::First)).await?;
    let address = first.address();
    let traffic = traffic(&first).await?;
    let mut socket = Socket::open(address, "acme").await?;
    let waiter = waiting(&surroundings, &first, "globex").await?;

    let next = surroundings.bootstrap()?.listener_port(address.port());
    let base_id = first.base_id()?;
    let second = Envoy::start(options(next, HotRestart::Second(base_id))).await?;
    ensure!(second.address() == address, "it listens at {}", second.address());
    let before = surroundings.tenant_manager.total();
    surroundings.tenant_manager.release();
    let reply = waiter.await??;
    ensure!(reply.status == 200, "who waited: {} {}", reply.status, reply.text());
    socket.is_open().await.context("while the old Envoy drains")?;

    // The new one asks about everybody anew.
    ensure!(Connection::exchange(address, &of("acme")).await?.status == 200);
    ensure!(Connection::exchange(address, &of("frozen")).await?.status == 403);
    surroundings.tenant_manager.wait_for(before + 1, SOON).await?;
    surroundings.tenant_manager.pause().await;
    let reply = Connection::exchange(address, &of("half")).await?;
    ensure!(
        reply.code() == "TENANT_MANAGER_UNAVAILABLE",
        "what only the old one knew: {} {}",
        reply.status,
        reply.text()
    );
    surroundings.tenant_manager.resume().await?;
    let deadline = Instant::now() + SOON;
    while Connection::exchange(address, &of("half")).await?.status != 200 {
        ensure!(Instant::now() < deadline, "it does not recover");
        sleep(POLL).await;
    }

    let status = first.ends(DRAIN + PARENT_REMAINS + SOON).await?;
    ensure!(status.success(), "{status}");
    ensure!(
        socket.is_open().await.is_err(),
        "it cannot outlive the process that carries it"
    );
    ensure!(Connection::exchange(address, &of("acme")).await?.status == 200);
    are_right(&traffic.stop().await?)?;
    second.stop().await?;
    // Envoy leaves what its processes shared.
    std::fs::remove_file(format!("/dev/shm/envoy_shared_memory_{base_id}0"))?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_envoy_answers_what_it_has_and_takes_nothing_new() -> anyhow::Result<()> {
    let surroundings = Surroundings::start().await?;
    let envoy = Envoy::start(options(surroundings.bootstrap()?, HotRestart::Disabled)).await?;
    let traffic = traffic(&envoy).await?;
    let waiter = waiting(&surroundings, &envoy, "globex").await?;
    let mut socket = Socket::open(envoy.address(), "acme").await?;

    envoy.tell_admin("/healthcheck/fail").await?;
    envoy.tell_admin("/drain_listeners?graceful").await?;
    ensure!(!envoy.is_ready().await, "nobody would be sent elsewhere");
    let began = Instant::now();
    // A load balancer needs a moment until it sends nobody here any more.
    let served = surroundings.echo.total() + 3;
    surroundings.echo.wait_for(served, SOON).await?;
    are_right(&traffic.stop().await?)?;

    socket.is_open().await.context("while it drains")?;
    let deadline = Instant::now() + DRAIN + SOON;
    while TcpStream::connect(envoy.address()).await.is_ok() {
        ensure!(Instant::now() < deadline, "it takes connections on and on");
        sleep(POLL).await;
    }
    ensure!(began.elapsed() >= DRAIN, "after {:?} nobody is let in", began.elapsed());
    surroundings.tenant_manager.release();
    let reply = waiter.await??;
    ensure!(reply.status == 200, "who waited: {} {}", reply.status, reply.text());
    drop(socket);
    envoy.wait_for_stat(ACTIVE, SOON, |active| active == 0).await?;
    envoy.stop().await?;
    Ok(())
}
