//! Rate limits per tenant, on all workers together. `RATE_SECONDS` says how long the rate is measured;
//! two seconds unless it is set.

use std::time::Duration;

use anyhow::{Context, ensure};
use envoy_e2e::{KeepAlive, Message, Sample, Setup, Traffic, World};
use serde_json::{Value, json};

/// How long the rate is measured, in seconds.
const RATE_SECONDS: &str = "RATE_SECONDS";

const LIMITED: &str = "wasmcustom.tenantgate_denials_total.code=TENANT_RATE_LIMITED~";

const WORKERS: u32 = 4;

const CLIENTS: usize = 16;

async fn world(workers: u32, rate_limit: Value) -> anyhow::Result<World> {
    let setup = Setup::of_corpus(json!({ "rate_limit": rate_limit }))?;
    setup.workers(workers).start().await
}

fn of(tenant: &str) -> Message {
    Message::of_tenant(tenant, "/v1/accounts")
}

/// From the first request to the last answer.
fn elapsed(samples: &[Sample]) -> anyhow::Result<f64> {
    let first = samples.iter().map(|sample| sample.began).min().context("no traffic")?;
    let last = samples
        .iter()
        .map(|sample| sample.began + sample.took)
        .max()
        .context("no traffic")?;
    Ok((last - first).as_secs_f64())
}

fn admitted(samples: &[Sample]) -> anyhow::Result<f64> {
    for sample in samples {
        let is_expected = sample.status == 200 || sample.status == 429 && sample.code == "TENANT_RATE_LIMITED";
        ensure!(is_expected, "{} {}", sample.status, sample.code);
    }
    let admitted = samples.iter().filter(|sample| sample.status == 200).count();
    Ok(f64::from(u32::try_from(admitted)?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_workers_together_admit_what_is_configured() -> anyhow::Result<()> {
    let seconds = match std::env::var(RATE_SECONDS) {
        Ok(text) => text.parse().context(RATE_SECONDS)?,
        Err(_) => 2,
    };
    // The bucket holds what comes while nobody is scheduled, so that nothing of the rate is lost.
    let (rate, burst) = (100_u32, 100_u32);
    let world = world(WORKERS, json!({ "requests_per_second": rate, "burst": burst })).await?;
    // So that the lookup is over, and its request long forgotten in the bucket.
    ensure!(world.send(&of("acme")).await?.status == 200);
    let traffic = Traffic::start(world.envoy.address(), CLIENTS, &[of("acme")]);
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let samples = traffic.stop().await?;

    let (elapsed, admitted) = (elapsed(&samples)?, admitted(&samples)?);
    let expected = f64::from(burst) + f64::from(rate) * elapsed;
    let offered = f64::from(u32::try_from(samples.len())?);
    println!("{offered} offered, {admitted} admitted in {elapsed:.2} s, {expected:.0} expected");
    ensure!(offered >= 2.0 * expected, "{offered} are not too many");
    ensure!(
        admitted <= expected + f64::from(WORKERS),
        "{admitted} of {expected} were admitted"
    );
    ensure!(
        admitted >= expected * 0.98 - f64::from(WORKERS),
        "{admitted} of {expected} were admitted"
    );
    let mut workers = 0;
    for (name, value) in world.envoy.stats().await? {
        workers += usize::from(name.contains(".worker_") && name.ends_with(".downstream_cx_total") && value > 0);
    }
    ensure!(workers >= 2, "the connections were on {workers} workers");
    world.check_workers_live().await?;
    world.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_at_fifty_times_its_limit_takes_nothing_from_another() -> anyhow::Result<()> {
    const LIMIT: f64 = 4.0;
    let greedy = json!({ "requests_per_second": 4, "burst": 4 });
    let limits = json!({ "requests_per_second": 1, "burst": 1000, "overrides": { "acme": greedy } });
    let world = world(WORKERS, limits).await?;
    let traffic = Traffic::start(world.envoy.address(), CLIENTS, &[of("acme")]);
    let mut neighbour = KeepAlive::new(world.envoy.address());
    let mut served = 0;
    let mut offered = 0;
    // Its bucket has room for all of these.
    while served < 900 && (served < 200 || offered < 2_000) {
        for _ in 0..20 {
            let reply = neighbour.send(&of("globex")).await?;
            ensure!(
                reply.status == 200,
                "request {served}: {} {}",
                reply.status,
                reply.text()
            );
            served += 1;
        }
        offered = world.envoy.stat(LIMITED).await?;
    }
    let samples = traffic.stop().await?;
    let (elapsed, admitted) = (elapsed(&samples)?, admitted(&samples)?);
    let allowed = LIMIT + LIMIT * elapsed;
    println!(
        "{} offered, {admitted} of {allowed:.1} admitted; {served} of the other",
        samples.len()
    );
    ensure!(
        samples.len() as f64 >= 50.0 * LIMIT * elapsed,
        "{} in {elapsed} s are not too many",
        samples.len()
    );
    ensure!(
        admitted <= allowed + f64::from(WORKERS),
        "{admitted} of {allowed} were admitted"
    );
    world.check_workers_live().await?;
    world.stop().await
}

/// Sends requests of a tenant until one is refused, and gives those before and that one.
async fn until_refused(world: &World, tenant: &str) -> anyhow::Result<(Vec<envoy_e2e::Reply>, envoy_e2e::Reply)> {
    let mut client = KeepAlive::new(world.envoy.address());
    let mut admitted = Vec::new();
    for _ in 0..200 {
        let reply = client.send(&of(tenant)).await?;
        if reply.status != 200 {
            return Ok((admitted, reply));
        }
        admitted.push(reply);
    }
    anyhow::bail!("none of 200 requests of {tenant} was refused")
}

#[tokio::test]
async fn a_refusal_says_when_to_come_back_and_fields_say_what_is_left() -> anyhow::Result<()> {
    let world = world(1, json!({ "requests_per_second": 1, "burst": 5, "headers": true })).await?;
    let (admitted, refused) = until_refused(&world, "acme").await?;
    ensure!(admitted.len() >= 5, "{} were admitted", admitted.len());
    let mut before = 5;
    for (number, reply) in admitted.iter().enumerate() {
        ensure!(
            reply.header("ratelimit-policy").as_deref() == Some(r#""tenant";q=5;w=5"#),
            "{reply:?}"
        );
        let field = reply.header("ratelimit").context("no ratelimit")?;
        let left = field
            .strip_prefix(r#""tenant";r="#)
            .and_then(|rest| rest.split_once(";t="));
        let (left, until_full) = left.with_context(|| field.clone())?;
        let (left, until_full): (u64, u64) = (left.parse()?, until_full.parse()?);
        // One second gives one back.
        ensure!(left <= 4 && left + 1 >= before, "{number}: {field} after {before}");
        ensure!(number > 0 || left == 4, "{field}");
        ensure!((5 - left..=6 - left).contains(&until_full), "{field}");
        before = left;
    }
    ensure!(
        refused.status == 429 && refused.code() == "TENANT_RATE_LIMITED",
        "{}",
        refused.text()
    );
    ensure!(refused.header("retry-after").as_deref() == Some("1"), "{refused:?}");
    ensure!(
        refused.header("ratelimit-policy").as_deref() == Some(r#""tenant";q=5;w=5"#),
        "{refused:?}"
    );
    ensure!(
        refused.header("ratelimit").as_deref() == Some(r#""tenant";r=0;t=5"#),
        "{refused:?}"
    );
    // Who has no tenant has no limit.
    let public = world.send(&Message::new("GET", "/health")).await?;
    ensure!(
        public.status == 200 && public.header("ratelimit").is_none(),
        "{public:?}"
    );
    world.stop().await
}

#[tokio::test]
async fn overrides_are_for_their_tenant_alone_and_nobody_is_told_unasked() -> anyhow::Result<()> {
    let large = json!({ "requests_per_second": 1, "burst": 40 });
    let limits = json!({ "requests_per_second": 1, "burst": 2, "overrides": { "acme": large } });
    let world = world(2, limits).await?;
    for (tenant, burst) in [("globex", 2), ("acme", 40), ("half", 2)] {
        let (admitted, refused) = until_refused(&world, tenant).await?;
        let admitted_or_told = admitted.iter().chain([&refused]);
        ensure!(
            admitted.len() >= burst && admitted.len() < burst + 20,
            "{tenant}: {}",
            admitted.len()
        );
        for reply in admitted_or_told {
            let told = reply.header("ratelimit").or(reply.header("ratelimit-policy"));
            ensure!(told.is_none(), "{tenant}: {reply:?}");
        }
        ensure!(
            refused.header("retry-after").as_deref() == Some("1"),
            "{tenant}: {refused:?}"
        );
    }
    world.stop().await
}
