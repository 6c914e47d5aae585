//! A filter that crashes, on the real Envoy with the settings of the shipped bootstrap: what it costs, whom, and
//! that nobody slips through meanwhile.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use corpus::answer::Answer;
use envoy_e2e::live::{self, Socket};
use envoy_e2e::{CRASH, Callback, Connection, Message, Reply, Setup, Traffic, World, crashing, module};
use envoy_run::{Bootstrap, IdentityProvider};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// How long anything may take that is waited for here.
const SOON: Duration = Duration::from_secs(30);

/// How often a condition is looked at while it is waited for.
const POLL: Duration = Duration::from_millis(20);

/// `stream_idle_timeout` and `request_timeout` of the shipped bootstrap, each.
const STREAM_TIMERS: Duration = Duration::from_secs(15);

/// How late a busy machine may be with a timer and a reply.
const LATE: Duration = Duration::from_secs(10);

const RELOADED: &str = "wasm.tenantgate.vm_reload_success";
const VMS: &str = "wasm.envoy.wasm.runtime.v8.active";
const ACTIVE: &str = "http.ingress.downstream_rq_active";

/// A module that can crash, in a file.
struct Crashing(TempDir);

impl Crashing {
    fn new() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        std::fs::write(
            folder.path().join("crashing.wasm"),
            crashing(&std::fs::read(module()?)?)?,
        )?;
        Ok(Self(folder))
    }

    /// Has Envoy load it.
    fn load(&self) -> impl Fn(&mut Bootstrap) + use<> {
        let file = self.0.path().join("crashing.wasm");
        move |bootstrap| bootstrap.plugin()["vm_config"]["code"] = json!({ "local": { "filename": file } })
    }

    async fn world(&self, workers: u32) -> anyhow::Result<World> {
        let patient = json!({ "tenant_manager": { "timeout_ms": 12_000 } });
        let setup = Setup::of_corpus(patient)?.workers(workers).change(self.load());
        setup.tenant_events()?.start().await
    }
}

fn of(tenant: &str) -> Message {
    Message::of_tenant(tenant, "/v1/accounts")
}

/// A request of acme that crashes the filter.
fn crash_in(callback: Callback) -> Message {
    let message = of("acme").method("POST").body("to be read");
    message.line(CRASH, callback.letter())
}

fn suspension(tenant: &str) -> serde_json::Value {
    json!({ "event_id": "1", "event_type": "tenant.suspended", "tenant_id": tenant, "environment": "staging" })
}

/// Whether Envoy itself refused a request because there was no filter to ask.
fn is_for_want_of_a_filter(reply: &Reply) -> bool {
    reply.status == 503 && reply.code().is_empty()
}

/// Sends requests of acme until one is served, with one of nobody and one of globex, which is suspended, beside
/// each: what is not refused by the filter is refused by Envoy.
async fn until_served(world: &World) -> anyhow::Result<()> {
    let deadline = Instant::now() + SOON;
    loop {
        let nobody = world.send(&Message::new("GET", "/v1/accounts")).await?;
        ensure!(
            nobody.status == 401 || is_for_want_of_a_filter(&nobody),
            "{}",
            nobody.text()
        );
        let globex = world.send(&of("globex")).await?;
        ensure!(
            globex.code() == "TENANT_SUSPENDED" || is_for_want_of_a_filter(&globex),
            "{} {}",
            globex.status,
            globex.text()
        );
        let acme = world.send(&of("acme")).await?;
        if acme.status == 200 {
            return Ok(());
        }
        ensure!(is_for_want_of_a_filter(&acme), "{} {}", acme.status, acme.text());
        ensure!(Instant::now() < deadline, "nobody is served any more");
        sleep(POLL).await;
    }
}

/// Waits until the log says that this callback has crashed.
async fn until_crashed(world: &World, callback: &str) -> anyhow::Result<()> {
    let (deadline, sign) = (Instant::now() + SOON, format!("Function: {callback} failed"));
    while !world
        .envoy
        .logged_since(0)
        .await?
        .iter()
        .any(|line| line.contains(&sign))
    {
        ensure!(Instant::now() < deadline, "`{callback}` has not crashed");
        sleep(POLL).await;
    }
    Ok(())
}

/// Checks that nothing is left of the VMs that have crashed. Each listener keeps one that it shared with the other,
/// on each worker, until it needs it itself.
async fn no_vm_is_left(world: &World, before: u64) -> anyhow::Result<()> {
    let deadline = Instant::now() + SOON;
    loop {
        let told = world.tell(&suspension("globex")).await?;
        ensure!(
            told.status == 200 || is_for_want_of_a_filter(&told),
            "{} {}",
            told.status,
            told.text()
        );
        let sent = world.send(&of("acme")).await?;
        let vms = world.envoy.stat(VMS).await?;
        if told.status == 200 && sent.status == 200 && vms == before {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{vms} VMs, {before} at first");
        sleep(POLL).await;
    }
}

#[tokio::test]
async fn a_crash_costs_one_request_and_the_worker_knows_afterwards_what_the_node_knew() -> anyhow::Result<()> {
    let crashing = Crashing::new()?;
    let world = crashing.world(1).await?;
    ensure!(world.send(&of("acme")).await?.status == 200);
    ensure!(world.send(&of("globex")).await?.status == 200);
    let told = world.tell(&suspension("globex")).await?;
    ensure!(told.status == 200, "{}", told.text());
    let lookups = world.tenant_manager.total();
    let (vms, counters) = (world.envoy.stat(VMS).await?, world.envoy.stats().await?);

    let in_a_stream = [
        Callback::RequestHeaders,
        Callback::RequestBody,
        Callback::ResponseHeaders,
        Callback::Log,
    ];
    for (reloads, callback) in (1..).zip(in_a_stream) {
        let forwarded = world.echo.total();
        let reply = world.send(&crash_in(callback)).await?;
        let is_answered = callback == Callback::Log;
        ensure!(
            if is_answered {
                reply.status == 200
            } else {
                is_for_want_of_a_filter(&reply)
            },
            "{callback:?}: {} {}",
            reply.status,
            reply.text()
        );
        let is_held = callback == Callback::RequestHeaders;
        ensure!(
            !is_held || world.echo.total() == forwarded,
            "it passed the crash in its headers"
        );
        until_served(&world).await?;
        world
            .envoy
            .wait_for_stat(RELOADED, SOON, |count| count == reloads)
            .await?;
    }
    // The timer belongs to no request, and the next one finds the VM dead.
    ensure!(world.send(&crash_in(Callback::Tick)).await?.status == 200);
    until_crashed(&world, "proxy_on_tick").await?;
    until_served(&world).await?;
    world.envoy.wait_for_stat(RELOADED, SOON, |count| count == 5).await?;

    ensure!(
        world.tenant_manager.total() == lookups,
        "the Tenant Manager was asked again"
    );
    for seen in world.echo.requests() {
        ensure!(
            matches!(seen.values("x-tenant-id")[..], [b"acme" | b"globex"]),
            "{seen:?}"
        );
    }
    no_vm_is_left(&world, vms).await?;
    let now = world.envoy.stats().await?;
    for (name, before) in counters.iter().filter(|(name, _)| name.starts_with("wasmcustom.")) {
        let is_counter = name.contains("_total");
        ensure!(
            !is_counter || now.get(name) >= Some(before),
            "{name} was {before} and is {:?}",
            now.get(name)
        );
    }
    world.stop().await
}

#[tokio::test]
async fn whoever_waits_when_the_filter_crashes_is_ended_by_the_stream_timers() -> anyhow::Result<()> {
    let crashing = Crashing::new()?;
    let served = |path: &str| {
        (
            path.to_owned(),
            Answer {
                status: Some(200),
                ..Answer::default()
            },
        )
    };
    let upstream = IdentityProvider::start([served("/v1/accounts"), served("/v1/pending")].into()).await?;
    let waiting: Vec<_> = (0..4).map(|number| format!("waiting-{number}")).collect();
    let records: BTreeMap<_, _> = waiting.iter().map(|tenant| (tenant.clone(), record(tenant))).collect();
    let patient = json!({ "tenant_manager": { "timeout_ms": 12_000 } });
    let setup = Setup::of_corpus(patient)?
        .tenants(records)
        .upstream(upstream.address())
        .change(crashing.load());
    let world = setup.tenant_events()?.start().await?;
    ensure!(world.send(&of("acme")).await?.status == 200);
    ensure!(world.tell(&suspension("globex")).await?.status == 200);
    let lookups = world.tenant_manager.total();

    // One is with the upstream, six wait for the Tenant Manager, two of these with bytes that never end.
    upstream.hold();
    let address = world.envoy.address();
    let send = |message: Message| async move { Connection::exchange(address, &message).await };
    let pending = tokio::spawn(send(Message::of_tenant("acme", "/v1/pending")));
    upstream.wait_for(2, SOON).await?;
    world.tenant_manager.hold();
    let mut waiters = JoinSet::new();
    for tenant in &waiting {
        waiters.spawn(send(Message::of_tenant(tenant, "/v1/waiting")));
    }
    let post = Message::of_tenant("waiting-0", "/v1/waiting").method("POST");
    let socket = Message::of_tenant("waiting-1", "/v1/waiting")
        .line("connection", "upgrade")
        .line("upgrade", "websocket")
        .line("sec-websocket-version", "13")
        .line("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    let endless = [post.line("content-length", "100000"), socket];
    let endless = endless.map(|message| tokio::spawn(trickle(address, message.bytes())));
    world.tenant_manager.wait_for(lookups + 4, SOON).await?;
    world.envoy.wait_for_stat(ACTIVE, SOON, |active| active == 7).await?;

    ensure!(is_for_want_of_a_filter(
        &world.send(&crash_in(Callback::RequestHeaders)).await?
    ));
    upstream.release();
    let pending = pending.await??;
    ensure!(
        is_for_want_of_a_filter(&pending),
        "its response met no filter: {} {}",
        pending.status,
        pending.text()
    );
    ensure!(pending.took < STREAM_TIMERS, "{:?}", pending.took);
    // Those who come now are served: what had been asked by the VM that is gone is asked anew.
    world.tenant_manager.release();
    until_served(&world).await?;
    for tenant in &waiting {
        let reply = world.send(&of(tenant)).await?;
        ensure!(reply.status == 200, "{tenant}: {} {}", reply.status, reply.text());
    }
    ensure!(world.tenant_manager.total() == lookups + 8);

    while let Some(reply) = waiters.join_next().await {
        let reply = reply??;
        ensure!(
            [408, 503, 504].contains(&reply.status),
            "{} {}",
            reply.status,
            reply.text()
        );
        ensure!(reply.took < STREAM_TIMERS + LATE, "{:?}", reply.took);
    }
    for trickling in endless {
        let (status, took) = trickling.await??;
        ensure!(status == "HTTP/1.1 503 Service Unavailable", "{status}");
        ensure!(took < STREAM_TIMERS + LATE, "{took:?}");
    }
    let passed = upstream
        .requests()
        .into_iter()
        .filter(|seen| seen.target == "/v1/waiting");
    ensure!(passed.count() == 0, "one that waited has passed");
    world.envoy.wait_for_stat(ACTIVE, SOON, |active| active == 0).await?;
    world.stop().await
}

/// Sends these bytes and then one more again and again, which keeps the stream from being idle, until a reply comes.
/// Returns its first line, and after which time it came.
async fn trickle(address: SocketAddr, head: Vec<u8>) -> anyhow::Result<(String, Duration)> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(&head).await?;
    let (reader, mut writer) = stream.split();
    let (mut reader, mut line, began) = (BufReader::new(reader), String::new(), Instant::now());
    let endless = async {
        loop {
            sleep(10 * POLL).await;
            // Envoy may have closed its side; then the reply is there.
            let _ = writer.write_all(b"x").await;
        }
    };
    tokio::select! {
        read = timeout(STREAM_TIMERS + LATE, reader.read_line(&mut line)) => drop(read.context("no reply")??),
        () = endless => {}
    }
    Ok((line.trim_end().to_owned(), began.elapsed()))
}

fn record(tenant: &str) -> Answer {
    Answer {
        record: Some(json!({ "id": tenant, "databases": { "onboarding": {} } })),
        ..Answer::default()
    }
}

#[tokio::test]
async fn a_lookup_that_crashes_the_filter_leaves_nobody_unanswered() -> anyhow::Result<()> {
    let crashing = Crashing::new()?;
    let crash = async |callback: Callback| {
        let world = crashing.world(1).await?;
        ensure!(world.send(&of("acme")).await?.status == 200);
        ensure!(world.tell(&suspension("globex")).await?.status == 200);
        // It waits for what it crashes itself.
        let cold = of("half").line(CRASH, callback.letter());
        let (reply, served) = tokio::join!(world.send(&cold), async {
            until_crashed(&world, callback.export()).await?;
            until_served(&world).await
        });
        served?;
        let reply = reply?;
        ensure!([503, 504].contains(&reply.status), "{} {}", reply.status, reply.text());
        ensure!(reply.took < STREAM_TIMERS + LATE, "{:?}", reply.took);
        // The lease of a lookup that nobody holds any more blocks nobody.
        let reply = world.send(&of("half")).await?;
        ensure!(reply.status == 200, "{} {}", reply.status, reply.text());
        world.envoy.wait_for_stat(ACTIVE, SOON, |active| active == 0).await?;
        world.stop().await
    };
    tokio::try_join!(crash(Callback::QueueReady), crash(Callback::HttpCallResponse))?;
    Ok(())
}

#[tokio::test]
async fn a_stream_that_is_open_ends_with_its_next_byte_once_the_filter_has_crashed() -> anyhow::Result<()> {
    let crashing = Crashing::new()?;
    let upstream = live::Upstream::start(None).await?;
    let setup = Setup::of_corpus(json!({}))?
        .upstream(upstream.address())
        .change(crashing.load());
    let world = setup.start().await?;
    let mut socket = Socket::open(world.envoy.address(), "acme").await?;
    socket.is_open().await?;
    ensure!(is_for_want_of_a_filter(
        &world.send(&crash_in(Callback::RequestHeaders)).await?
    ));
    let began = Instant::now();
    let end = socket.is_open().await.expect_err("its filter is gone");
    ensure!(began.elapsed() < STREAM_TIMERS, "{end:#}");
    // The next one opens as if nothing had been.
    let deadline = Instant::now() + SOON;
    while let Err(error) = Socket::open(world.envoy.address(), "acme").await {
        ensure!(Instant::now() < deadline, "{error:#}");
        sleep(POLL).await;
    }
    world.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_crash_upon_crash_lets_nobody_in_and_keeps_nobody_waiting() -> anyhow::Result<()> {
    const CRASHES: u64 = 20;
    const CLIENTS: usize = 6;
    let crashing = Crashing::new()?;
    let world = crashing.world(2).await?;
    ensure!(world.send(&of("acme")).await?.status == 200);
    ensure!(world.tell(&suspension("globex")).await?.status == 200);
    let vms = world.envoy.stat(VMS).await?;
    let messages = [of("acme"), of("globex"), Message::new("GET", "/v1/accounts")];
    let traffic = Traffic::start(world.envoy.address(), CLIENTS, &messages);
    for crash in 1..=CRASHES {
        // One that finds its worker's VM dead, within the back-off, crashes nothing.
        world.send(&crash_in(Callback::RequestHeaders)).await?;
        world
            .envoy
            .wait_for_stat(RELOADED, SOON, |count| count >= crash / 2)
            .await?;
    }
    let samples = traffic.stop().await?;
    let mut served = 0;
    for sample in &samples {
        let seen = (sample.message, sample.status, sample.code.as_str());
        served += usize::from(seen == (0, 200, ""));
        let is_right = matches!(
            seen,
            (0, 200, "") | (1, 403, "TENANT_SUSPENDED") | (2, 401, "TENANT_ID_REQUIRED") | (_, 503, "")
        );
        ensure!(is_right, "{sample:?}");
        ensure!(sample.took < STREAM_TIMERS, "{sample:?}");
    }
    ensure!(served > 0, "nobody was served: {} requests", samples.len());
    for seen in world.echo.requests() {
        ensure!(seen.values("x-tenant-id") == [b"acme"], "{seen:?}");
    }
    until_served(&world).await?;
    no_vm_is_left(&world, vms).await?;
    world.stop().await
}

#[tokio::test]
async fn the_module_that_ships_holds_no_trap() -> anyhow::Result<()> {
    let shipped = std::fs::read(module()?)?;
    ensure!(!shipped.windows(CRASH.len()).any(|bytes| bytes == CRASH.as_bytes()));
    let world = Setup::of_corpus(json!({}))?.start().await?;
    for callback in Callback::ALL {
        let reply = world.send(&crash_in(callback)).await?;
        ensure!(reply.status == 200, "{callback:?}: {} {}", reply.status, reply.text());
    }
    world.check_workers_live().await?;
    world.stop().await
}
