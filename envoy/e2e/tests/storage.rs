//! `storage_path` in front of a store: whatever the path that a client sends, and whatever Envoy makes of
//! it first, what reaches the store is inside the tenant's folder, however the store reads it.

#[path = "paths/upstream.rs"]
mod upstream;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, ensure};
use envoy_e2e::{KeepAlive, Message, Reply, Setup};
use envoy_run::Bootstrap;
use fastrand::Rng;
use oracle::upstream as readers;
use oracle::{spelling, target};
use serde_json::json;

use crate::upstream::Upstream;

/// Whatever the machine: always the same targets.
const SEED: u64 = 0x7374_6f72;

/// How many targets each test sends.
const TARGETS: usize = 900;

/// How many connections they come on.
const CLIENTS: usize = 4;

/// What is in front of the store, and the folder in it that everything must be in.
const PREFIX: &str = "/storage";
const FOLDER: &[u8] = b"/storage/acme/";

const STARTS: [&str; 12] = [
    "/storage/a",
    "/storage/a/b.txt",
    "/storage/a/b.txt?versionId=/../globex",
    "/storage/acme/a",
    "/storage/globex/a",
    "/storage/acme/globex/a",
    "/storage",
    "/storage/",
    "/storage//a",
    "/storages/a",
    "/v1/accounts/storage/a",
    "/v1/storage",
];

/// What leads out of a folder for some reader or other.
const PIECES: [&[u8]; 18] = [
    b"/../",
    b"/..",
    b"../",
    b"%2e%2e/",
    b"/%2e%2e%2f",
    b"%252e%252e%252f",
    b"%25252e%25252e/",
    b"/..;/",
    b"/.%00./",
    b"%5c..%5c",
    b"\\..\\",
    b"%c0%ae%c0%ae/",
    b"%2F",
    b"//",
    b"/./",
    b"..%3b/",
    b"globex",
    b"%",
];

fn generated() -> Vec<Vec<u8>> {
    let mut targets: BTreeSet<Vec<u8>> = STARTS.iter().map(|start| start.as_bytes().to_vec()).collect();
    let mut rng = Rng::with_seed(SEED);
    for start in STARTS {
        targets.extend(spelling::ALL.iter().map(|spelling| spelling.of(start.as_bytes(), 1)));
    }
    while targets.len() < TARGETS {
        let mut target = rng.choice(STARTS).unwrap_or_default().as_bytes().to_vec();
        for _ in 0..rng.usize(1..3) {
            if rng.bool() {
                let spelling = rng.choice(spelling::ALL).expect("there are some");
                target = spelling.of(&target, rng.usize(..32));
            } else {
                let place = rng.usize(1..=target.len());
                target.splice(place..place, rng.choice(PIECES).unwrap_or_default().iter().copied());
            }
        }
        targets.insert(target);
    }
    let mut targets: Vec<_> = targets.into_iter().collect();
    rng.shuffle(&mut targets);
    targets
}

/// Checks what came of a target, and gives its kind.
fn judge(reply: &Reply) -> anyhow::Result<&'static str> {
    if reply.header("x-seen-tenant").is_none() {
        return match (reply.status, reply.code().as_str()) {
            (400, "KEY_REJECTED") => Ok("no key"),
            (400, "PATH_REJECTED") => Ok("hazardous"),
            // Envoy has not asked the filter.
            (400 | 404, "") => Ok("not served"),
            (status, _) => anyhow::bail!("{status} {}", reply.text()),
        };
    }
    let seen = &reply.body;
    let told = || seen.escape_ascii().to_string();
    ensure!(!target::is_hazardous(seen), "{} is hazardous", told());
    let mut is_in_store = false;
    let leads_there = readers::covers(PREFIX, target::before_query(seen));
    for reading in readers::readings(seen) {
        let stays = !leads_there || readers::covers(PREFIX, &reading);
        ensure!(stays, "{} may be read as {}", told(), reading.escape_ascii());
        if readers::covers_in_any_case(PREFIX, &reading) {
            is_in_store = true;
            // The folder itself, for a reader who drops parameters or spaces, is the tenant's as well.
            let is_inside = reading.starts_with(FOLDER) || [&reading[..], b"/"].concat() == FOLDER;
            ensure!(is_inside, "{} may be read as {}", told(), reading.escape_ascii());
        }
    }
    let tenant = reply.header("x-seen-tenant").unwrap_or_default();
    match (tenant.as_str(), is_in_store) {
        ("acme", true) => Ok("inside"),
        ("acme", false) => Ok("elsewhere"),
        // Of the spellings some are of public paths.
        ("", false) => Ok("public"),
        _ => anyhow::bail!("{} in the name of `{tenant}`", told()),
    }
}

/// Sends every target, and gives how many there were of each kind.
async fn judge_all(change: fn(&mut Bootstrap)) -> anyhow::Result<BTreeMap<&'static str, usize>> {
    let upstream = Upstream::start().await?;
    let config = json!({ "scope": { "path": [{ "prefix": PREFIX, "kind": "storage_path" }] } });
    let setup = Setup::of_corpus(config)?.upstream(upstream.address()).change(change);
    let world = setup.start().await?;
    let plain = Message::of_tenant("acme", "/");
    let targets = generated();
    let shares = targets.chunks(TARGETS.div_ceil(CLIENTS)).map(async |share| {
        let mut client = KeepAlive::new(world.envoy.address());
        let mut kinds = Vec::new();
        for target in share {
            let reply = client.send(&plain.clone().target(target)).await?;
            kinds.push(judge(&reply).with_context(|| target.escape_ascii().to_string())?);
        }
        anyhow::Ok(kinds)
    });
    let mut counts = BTreeMap::new();
    for kind in futures_util::future::try_join_all(shares).await?.concat() {
        *counts.entry(kind).or_default() += 1;
    }
    world.check_workers_live().await?;
    world.stop().await?;
    Ok(counts)
}

/// Every kind must have been there often, or a test shows nothing.
fn ensure_all_kinds(counts: &BTreeMap<&str, usize>, kinds: &[(&str, usize)]) -> anyhow::Result<()> {
    for (kind, least) in kinds {
        let count = counts.get(kind).copied().unwrap_or_default();
        ensure!(count >= *least, "only {count} targets were {kind}: {counts:?}");
    }
    Ok(())
}

#[tokio::test]
async fn what_reaches_the_store_is_inside_the_tenant_as_the_client_wrote_it() -> anyhow::Result<()> {
    let counts = judge_all(|_| {}).await?;
    ensure_all_kinds(
        &counts,
        &[("inside", 70), ("elsewhere", 50), ("no key", 50), ("hazardous", 200)],
    )
}

#[tokio::test]
async fn so_it_is_behind_an_envoy_that_normalises_paths() -> anyhow::Result<()> {
    let counts = judge_all(|bootstrap| {
        bootstrap.hcm()["normalize_path"] = true.into();
        bootstrap.hcm()["merge_slashes"] = true.into();
    });
    let counts = counts.await?;
    ensure_all_kinds(
        &counts,
        &[("inside", 70), ("elsewhere", 50), ("no key", 50), ("hazardous", 100)],
    )
}

#[tokio::test]
async fn so_it_is_behind_an_envoy_that_unescapes_slashes_too() -> anyhow::Result<()> {
    let counts = judge_all(|bootstrap| {
        bootstrap.hcm()["normalize_path"] = true.into();
        bootstrap.hcm()["merge_slashes"] = true.into();
        bootstrap.hcm()["path_with_escaped_slashes_action"] = "UNESCAPE_AND_FORWARD".into();
    });
    let counts = counts.await?;
    ensure_all_kinds(
        &counts,
        &[("inside", 70), ("elsewhere", 50), ("no key", 50), ("hazardous", 100)],
    )
}

#[tokio::test]
async fn a_plain_path_gets_its_tenant_and_keeps_its_query() -> anyhow::Result<()> {
    let upstream = Upstream::start().await?;
    let config = json!({ "scope": { "path": [{ "prefix": PREFIX, "kind": "storage_path" }] } });
    let world = Setup::of_corpus(config)?.upstream(upstream.address()).start().await?;
    let longest = format!("/storage/{}", "k".repeat(1_024 - FOLDER.len()));
    let rows = [
        ("/storage/a", Some("/storage/acme/a")),
        (
            "/storage/a/b%20c?x=%2F..%2f&y",
            Some("/storage/acme/a/b%20c?x=%2F..%2f&y"),
        ),
        ("/storage/acme/a", Some("/storage/acme/acme/a")),
        ("/storage/globex/a", Some("/storage/acme/globex/a")),
        ("/storage///a", Some("/storage/acme/a")),
        ("/storages/a", Some("/storages/a")),
        ("/storage", None),
        ("/storage/", None),
        ("/storage?prefix=globex/", None),
    ];
    for (target, expected) in rows {
        let reply = world.send(&Message::of_tenant("acme", target)).await?;
        match expected {
            Some(expected) => ensure!(reply.text() == expected, "{target}: {} {}", reply.status, reply.text()),
            None => ensure!(
                reply.code() == "KEY_REJECTED",
                "{target}: {} {}",
                reply.status,
                reply.text()
            ),
        }
    }
    ensure!(world.send(&Message::of_tenant("acme", &longest)).await?.status == 200);
    let reply = world.send(&Message::of_tenant("acme", &format!("{longest}k"))).await?;
    ensure!(
        reply.code() == "KEY_REJECTED",
        "what does not fit is refused, not cut: {}",
        reply.text()
    );
    world.stop().await
}
