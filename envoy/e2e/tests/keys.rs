//! Keys that are fetched over HTTP, on the real Envoy: rotation under traffic, and identity providers
//! that are down or talk nonsense.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use corpus::answer::{Answer, Fault};
use corpus::case::{Made, Token};
use corpus::mint::Keys;
use envoy_e2e::{Connection, Message, Reply, Setup, World, now, with_keys};
use envoy_run::{Bootstrap, Envoy, IdentityProvider};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// How long anything may take that is waited for here.
const SOON: Duration = Duration::from_secs(30);

/// The `timeout_ms` of fetches.
const TIMEOUT: Duration = Duration::from_millis(1000);

/// When a request that waits for keys is answered at the latest.
const DEADLINE: Duration = TIMEOUT.saturating_add(Duration::from_millis(500));

/// What a busy machine may add to that. The exact bound is shown in virtual time, by the corpus.
const SCHEDULING: Duration = Duration::from_secs(4);

const FETCHES: &str = "wasmcustom.tenantgate_jwks_fetches_total";

const OLD: &str = "main-rs256";
const NEW: &str = "main-es256";

/// One issuer whose keys are fetched from the path `/jwks`.
fn setup(max_stale_seconds: u32) -> anyhow::Result<Setup> {
    let remote = json!({
        "cluster": "idp",
        "authority": "id.example.com",
        "path": "/jwks",
        "timeout_ms": TIMEOUT.as_millis() as u64,
        "refresh_seconds": 2,
        "max_stale_seconds": max_stale_seconds,
        "unknown_kid_cooldown_seconds": 1,
    });
    let issuer = json!({
        "issuer": "https://id.example.com",
        "audiences": ["api"],
        "algorithms": ["RS256", "ES256", "EdDSA"],
        "jwks": { "remote": remote },
    });
    Setup::of_corpus(json!({ "tenant_manager": null, "auth": { "issuers": [issuer] } }))
}

fn paths(answer: Answer) -> BTreeMap<String, Answer> {
    BTreeMap::from([("/jwks".to_owned(), answer)])
}

fn answering(body: Value) -> Answer {
    Answer {
        body: Some(body),
        ..Answer::default()
    }
}

fn set(keys: &[&str]) -> anyhow::Result<BTreeMap<String, Answer>> {
    with_keys(&paths(answering(json!({ "$keys": keys }))))
}

/// A request with a valid token of tenant `acme` under this key, which nobody has seen if `subject` is new.
fn message(key: &str, subject: &str) -> anyhow::Result<Message> {
    let made = Made {
        tenant: Some("acme".to_owned()),
        key: Some(key.to_owned()),
        claims: Some(json!({ "sub": subject })),
        ..Made::default()
    };
    let token = Keys::shared().token(&Token::Made(Box::new(made)), now())?;
    let message = Message::new("GET", "/v1/accounts");
    Ok(message.line("authorization", [b"Bearer ", &token[..]].concat()))
}

fn told(reply: &Reply) -> String {
    format!("{} {} after {:?}", reply.status, reply.text(), reply.took)
}

fn is_unavailable(reply: &Reply) -> bool {
    let retry_after = reply.header("retry-after").and_then(|value| value.parse::<u64>().ok());
    reply.status == 503 && reply.code() == "KEYS_UNAVAILABLE" && retry_after.is_some_and(|seconds| seconds >= 1)
}

/// Sends never-seen tokens until one is answered as wanted; all before must be answered as is allowed
/// meanwhile.
async fn until(
    world: &World,
    key: &str,
    wanted: impl Fn(&Reply) -> bool,
    meanwhile: impl Fn(&Reply) -> bool,
) -> anyhow::Result<Reply> {
    let deadline = Instant::now() + SOON;
    for attempt in 0.. {
        let reply = world.send(&message(key, &format!("until-{attempt}"))?).await?;
        if wanted(&reply) {
            return Ok(reply);
        }
        ensure!(meanwhile(&reply), "{}", told(&reply));
        ensure!(Instant::now() < deadline, "still {}", told(&reply));
        sleep(Duration::from_millis(20)).await;
    }
    anyhow::bail!("no attempt was made")
}

/// Waits until every worker and the main thread have fetched twice more. Those that began after this
/// was called have been answered by then, but for the last of each.
async fn refreshed(idp: &IdentityProvider, vms: usize) -> anyhow::Result<()> {
    idp.wait_for(idp.total() + 3 * vms, SOON).await
}

/// What the clients of [`traffic`] are to send: tokens of these keys in turn.
type Plan = watch::Sender<Option<&'static [&'static str]>>;

/// Clients that send one request after another, each on a connection of its own, so that all workers
/// get some. Half of the tokens were never seen before. Whatever is not a 200 ends it.
fn traffic(envoy: &Envoy, plan: &Plan, clients: usize) -> JoinSet<anyhow::Result<BTreeMap<&'static str, usize>>> {
    let mut running = JoinSet::new();
    for client in 0..clients {
        let (address, plan) = (envoy.address(), plan.subscribe());
        running.spawn(async move {
            let mut served = BTreeMap::new();
            let mut seen = BTreeMap::new();
            for number in 0_usize.. {
                let Some(keys) = *plan.borrow() else { break };
                let key = keys[number % keys.len()];
                let fresh = message(key, &format!("{client}-{number}"))?;
                let sent = match number / keys.len() % 2 {
                    0 => seen.entry(key).or_insert(fresh).clone(),
                    _ => fresh,
                };
                let reply = Connection::exchange(address, &sent).await?;
                ensure!(
                    reply.status == 200,
                    "a valid token of {key} got {} while {keys:?} were sent",
                    told(&reply)
                );
                *served.entry(key).or_default() += 1;
            }
            Ok(served)
        });
    }
    running
}

#[tokio::test]
async fn keys_rotate_under_traffic_without_one_wrong_refusal() -> anyhow::Result<()> {
    const WORKERS: u32 = 3;
    const VMS: usize = WORKERS as usize + 1;
    let only_old = paths(answering(json!({ "$keys": [OLD] })));
    let world = setup(600)?.workers(WORKERS).idp(&only_old)?.start().await?;
    let plan = Plan::new(Some(&[OLD]));
    let mut clients = traffic(&world.envoy, &plan, 4);

    let rotation = async {
        refreshed(&world.idp, VMS).await?;
        // The new key is used in the moment in which it is published.
        world.idp.set(set(&[OLD, NEW])?);
        plan.send_replace(Some(&[OLD, NEW]));
        refreshed(&world.idp, VMS).await?;
        // Nobody signs with the old key any more, later it goes.
        plan.send_replace(Some(&[NEW]));
        refreshed(&world.idp, VMS).await?;
        world.idp.set(set(&[NEW])?);

        // Every worker learns it by itself, and what it remembers of old tokens is gone with the key.
        let deadline = Instant::now() + SOON;
        let old = message(OLD, "again")?;
        let mut refused_in_a_row = 0;
        while refused_in_a_row < 20 * WORKERS {
            let reply = world.send(&old).await?;
            match reply.status {
                200 => refused_in_a_row = 0,
                401 if reply.code() == "TOKEN_INVALID" => refused_in_a_row += 1,
                _ => anyhow::bail!("a token of the old key got {}", told(&reply)),
            }
            ensure!(Instant::now() < deadline, "the old key is believed still");
        }
        anyhow::Ok(())
    };
    let served = tokio::select! {
        done = rotation => {
            done?;
            plan.send_replace(None);
            let mut served: BTreeMap<&str, usize> = BTreeMap::new();
            while let Some(client) = clients.join_next().await {
                for (key, count) in client?? {
                    *served.entry(key).or_default() += count;
                }
            }
            served
        }
        // A client ends early only when something was refused.
        Some(client) = clients.join_next() => {
            client??;
            anyhow::bail!("a client ended before it was told to")
        }
    };
    for key in [OLD, NEW] {
        let count = served.get(key).copied().unwrap_or_default();
        ensure!(count >= 50, "only {count} requests with tokens of {key}");
    }
    world.check_workers_live().await?;
    world.stop().await
}

#[tokio::test]
async fn a_provider_that_is_down_at_the_start_is_asked_until_it_is_up() -> anyhow::Result<()> {
    let mut world = setup(600)?.without_idp().start().await?;
    let reply = world.send(&message(OLD, "first")?).await?;
    ensure!(is_unavailable(&reply), "{}", told(&reply));
    ensure!(reply.took <= DEADLINE + SCHEDULING, "{}", told(&reply));
    ensure!(world.echo.total() == 0, "it was forwarded");
    let public = world.send(&Message::new("GET", "/health")).await?;
    ensure!(public.status == 200, "a public path needs no keys: {}", told(&public));
    let forged = world.send(&message(OLD, "x")?.target(b"/v1/../x")).await?;
    ensure!(
        forged.status == 400,
        "nor does a path that is refused: {}",
        told(&forged)
    );

    world.idp.set(set(&[OLD])?);
    world.idp.resume().await?;
    until(&world, OLD, |reply| reply.status == 200, is_unavailable).await?;
    world.check_workers_live().await?;
    world.stop().await
}

#[tokio::test]
async fn a_provider_that_goes_down_later_is_missed_only_when_its_keys_are_too_old() -> anyhow::Result<()> {
    let mut world = setup(6)?
        .idp(&paths(answering(json!({ "$keys": [OLD] }))))?
        .start()
        .await?;
    let seen = message(OLD, "seen")?;
    let reply = world.send(&seen).await?;
    ensure!(reply.status == 200, "{}", told(&reply));

    world.idp.pause().await;
    let before = world.envoy.stat(FETCHES).await?;
    // Known keys serve, remembered tokens or not, while fetches fail. What they do not have is refused.
    world
        .envoy
        .wait_for_stat(FETCHES, SOON, |fetches| fetches >= before + 2)
        .await?;
    for message in [&seen, &message(OLD, "unseen")?] {
        let reply = world.send(message).await?;
        ensure!(reply.status == 200, "{}", told(&reply));
    }
    let reply = world.send(&message(NEW, "unknown")?).await?;
    ensure!(
        reply.status == 401 && reply.code() == "TOKEN_INVALID",
        "{}",
        told(&reply)
    );

    let reply = until(&world, OLD, is_unavailable, |reply| reply.status == 200).await?;
    ensure!(reply.took <= DEADLINE + SCHEDULING, "{}", told(&reply));
    let reply = world.send(&seen).await?;
    ensure!(
        is_unavailable(&reply),
        "a remembered token outlives its keys: {}",
        told(&reply)
    );

    world.idp.resume().await?;
    until(&world, OLD, |reply| reply.status == 200, is_unavailable).await?;
    let reply = world.send(&seen).await?;
    ensure!(reply.status == 200, "{}", told(&reply));
    world.check_workers_live().await?;
    world.stop().await
}

/// A way to fail, how it is counted, and the answer.
type Failure = (&'static str, &'static str, Answer);

fn failures() -> Vec<Failure> {
    let good = || answering(json!({ "$keys": [OLD, NEW] }));
    let faulty = |fault| Answer {
        fault: Some(fault),
        ..good()
    };
    let status = |status| Answer {
        status: Some(status),
        ..good()
    };
    let large = Answer {
        pad_to_bytes: Some(10_000_000),
        ..good()
    };
    vec![
        ("answering 500", "server_error", status(500)),
        ("answering 429", "unexpected_status", status(429)),
        ("answering garbage", "bad_set", answering(json!("\u{1}garbage {"))),
        ("answering HTML", "bad_set", answering(json!("<html>welcome</html>"))),
        ("answering 10 MB", "too_large", large),
        (
            "closing before headers",
            "server_error",
            faulty(Fault::CloseBeforeHeaders),
        ),
        ("resetting mid-body", "unreachable", faulty(Fault::ResetMidBody)),
        ("silent", "server_error", faulty(Fault::Silence)),
    ]
}

#[tokio::test]
async fn nonsense_from_a_provider_is_counted_and_changes_no_keys() -> anyhow::Result<()> {
    let world = setup(600)?
        .idp(&paths(answering(json!({ "$keys": [OLD] }))))?
        .start()
        .await?;
    for (what, reason, answer) in failures() {
        let counter = format!("wasmcustom.tenantgate_jwks_fetch_errors_total.reason={reason}~");
        let reply = world.send(&message(OLD, what)?).await?;
        ensure!(reply.status == 200, "before {what}: {}", told(&reply));
        let before = world.envoy.stat(&counter).await?;
        world.idp.set(with_keys(&paths(answer))?);
        // An unknown key makes the worker fetch at once, whatever pause it is in; the main thread, which
        // sees no requests, fails at its own pace.
        let deadline = Instant::now() + SOON;
        while world.envoy.stat(&counter).await? < before + 3 {
            let reply = world.send(&message(NEW, what)?).await?;
            ensure!(reply.status == 401, "{what}: a key was taken in: {}", told(&reply));
            ensure!(Instant::now() < deadline, "{what} is not counted as {reason}");
            sleep(Duration::from_millis(50)).await;
        }
        let reply = world.send(&message(OLD, &format!("{what}, unseen"))?).await?;
        ensure!(reply.status == 200, "while {what}: {}", told(&reply));
        world.idp.set(set(&[OLD])?);
        world.check_workers_live().await.context(what)?;
    }
    world.stop().await
}

#[tokio::test]
async fn nonsense_at_the_start_is_as_good_as_no_answer() -> anyhow::Result<()> {
    for (what, _, answer) in failures() {
        let world = setup(600)?.idp(&paths(answer))?.start().await?;
        let reply = world.send(&message(OLD, "first")?).await.context(what)?;
        ensure!(is_unavailable(&reply), "{what}: {}", told(&reply));
        ensure!(reply.took <= DEADLINE + SCHEDULING, "{what}: {}", told(&reply));
        world.idp.set(set(&[OLD])?);
        let served = until(&world, OLD, |reply| reply.status == 200, is_unavailable).await;
        served.context(what)?;
        world.check_workers_live().await.context(what)?;
        world.stop().await?;
    }
    Ok(())
}

/// Moves the filter in front of Envoy's own `jwt_authn`: too early for its metadata.
fn too_early(bootstrap: &mut Bootstrap) {
    if let Some(filters) = bootstrap.hcm()["http_filters"].as_array_mut() {
        filters.swap(0, 1);
    }
}

#[tokio::test]
async fn without_metadata_nothing_passes_however_good_the_token() -> anyhow::Result<()> {
    let config = json!({ "tenant_manager": null, "auth": { "mode": "upstream_metadata", "issuers": null } });
    let setup = Setup::of_corpus(config)?;
    let behind = setup.clone().jwt_authn(true);
    for (what, setup, wanted) in [
        ("behind jwt_authn", behind.clone(), 200),
        ("in front of jwt_authn", behind.change(too_early), 401),
        ("without jwt_authn", setup, 401),
    ] {
        let world = setup.start().await?;
        let good = message(OLD, "good")?;
        let forged = message("other-rs256", "forged")?;
        for round in 0..3 {
            let reply = world.send(&good).await?;
            ensure!(reply.status == wanted, "{what}, round {round}: {}", told(&reply));
            let reply = world.send(&forged.clone().line("x-tenant-id", "acme")).await?;
            let refused = reply.status == 401 && reply.code() == "TENANT_ID_REQUIRED";
            ensure!(refused, "{what}, round {round}, forged: {}", told(&reply));
        }
        let forwarded = if wanted == 200 { 3 } else { 0 };
        ensure!(world.echo.total() == forwarded, "{what}: {} passed", world.echo.total());
        world.check_workers_live().await?;
        world.stop().await?;
    }
    Ok(())
}
