//! The surroundings that the other tests trust, without the filter: Envoy runs and ends, the servers
//! say what they saw and break as they are told.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use corpus::answer::{Answer, Fault};
use envoy_e2e::{Connection, Message};
use envoy_run::{Bootstrap, Echo, Envoy, Options, StartError, TenantManager};
use serde_json::json;

const SOON: Duration = Duration::from_secs(10);

fn bare(echo: &Echo) -> anyhow::Result<Options> {
    let bootstrap = Bootstrap::shipped()?.without_filter().listener_port(0).admin_port(0);
    Ok(Options::new(
        bootstrap
            .cluster_endpoint("upstream", echo.address())?
            .trailers("upstream", true)?,
    ))
}

#[tokio::test]
async fn envoys_run_side_by_side_and_end() -> anyhow::Result<()> {
    let echo = Echo::start().await?;
    let (first, second) = tokio::join!(Envoy::start(bare(&echo)?), Envoy::start(bare(&echo)?));
    let (first, second) = (first?, second?);
    ensure!(first.address() != second.address() && first.admin() != second.admin());
    for envoy in [&first, &second] {
        let reply = Connection::exchange(envoy.address(), &Message::new("GET", "/some/path?q=1")).await?;
        let seen: serde_json::Value = serde_json::from_slice(&reply.body)?;
        ensure!(seen["path"] == "/some/path?q=1" && seen["method"] == "GET", "{seen}");
        envoy
            .wait_for_stat("http.ingress.downstream_rq_2xx", SOON, |count| count == 1)
            .await?;
    }
    let (address, logs) = (first.address(), first.access_log().clone());
    first.stop().await?;
    ensure!(
        Connection::open(address).await.is_err(),
        "a stopped Envoy still listens"
    );
    let logged = logs.lines();
    let entry: serde_json::Value = serde_json::from_str(logged.first().context("no access log")?)?;
    ensure!(
        entry["path"] == "/some/path" && entry["details"] == "via_upstream",
        "{entry}"
    );
    second.stop().await?;
    Ok(())
}

#[tokio::test]
async fn an_upstream_sees_bytes_and_trailers_as_they_were_sent() -> anyhow::Result<()> {
    let echo = Echo::start().await?;
    let envoy = Envoy::start(bare(&echo)?).await?;
    let message = Message::new("POST", "/x")
        .line("X-Twice", "1")
        .line("x-twice", b"\xff")
        .body(vec![b'b'; 2500])
        .trailers([(b"x-end".to_vec(), b"\xfe".to_vec())]);
    let reply = Connection::exchange(envoy.address(), &message).await?;
    ensure!(reply.status == 200, "{} {}", reply.status, reply.text());
    let seen = echo.requests().pop().context("the upstream got nothing")?;
    ensure!(seen.complete && seen.body == vec![b'b'; 2500]);
    ensure!(seen.values("x-twice") == [&b"1"[..], b"\xff"], "{:?}", seen.headers);
    ensure!(seen.trailer_values("x-end") == [b"\xfe"], "{:?}", seen.trailers);
    envoy.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_refused_bootstrap_is_an_error_with_the_log() -> anyhow::Result<()> {
    let echo = Echo::start().await?;
    let mut options = bare(&echo)?;
    options.bootstrap.hcm()["stat_prefix"] = json!({ "not": "a string" });
    match Envoy::start(options).await {
        Err(StartError::Exited { status, log }) => {
            ensure!(!status.success());
            ensure!(log.iter().any(|line| line.contains("stat_prefix")), "{log:?}");
        }
        other => anyhow::bail!("{other:?}"),
    }
    let options = Options {
        binary: "/nowhere/envoy".into(),
        ..bare(&echo)?
    };
    ensure!(matches!(Envoy::start(options).await, Err(StartError::Missing(_))));
    Ok(())
}

#[tokio::test]
async fn a_tenant_manager_breaks_as_it_is_told() -> anyhow::Result<()> {
    let broken = |fault| Answer {
        fault: Some(fault),
        body: Some(json!({ "id": "a" })),
        ..Answer::default()
    };
    let answers = BTreeMap::from([
        (
            "whole".to_owned(),
            Answer {
                status: Some(403),
                pad_to_bytes: Some(99),
                ..Answer::default()
            },
        ),
        ("closing".to_owned(), broken(Fault::CloseBeforeHeaders)),
        ("resetting".to_owned(), broken(Fault::ResetMidBody)),
        ("silent".to_owned(), broken(Fault::Silence)),
    ]);
    let mut manager = TenantManager::start(answers).await?;
    let address = manager.address();
    let ask = |tenant: &str| Message::new("GET", format!("/tenants/{tenant}/services/ledger/settings"));

    let whole = Connection::exchange(address, &ask("whole")).await?;
    ensure!(whole.status == 403 && whole.body.len() == 99, "{whole:?}");
    ensure!(Connection::exchange(address, &ask("nobody")).await?.status == 404);
    let closing = format!(
        "{:#}",
        Connection::exchange(address, &ask("closing"))
            .await
            .expect_err("no reply")
    );
    ensure!(closing.contains("no reply"), "{closing}");
    let resetting = format!(
        "{:#}",
        Connection::exchange(address, &ask("resetting"))
            .await
            .expect_err("half a reply")
    );
    ensure!(resetting.contains("broke off"), "{resetting}");

    let silent = ask("silent");
    let asking = Connection::exchange(address, &silent);
    tokio::select! {
        reply = asking => anyhow::bail!("an answer: {reply:?}"),
        asked = manager.wait_for(5, SOON) => asked?,
    }
    manager.pause().await;
    ensure!(
        Connection::open(address).await.is_err(),
        "a paused server still listens"
    );
    manager.resume().await?;
    ensure!(Connection::exchange(address, &ask("whole")).await?.status == 403);
    ensure!(
        manager
            .requests()
            .last()
            .is_some_and(|last| last.target == "/tenants/whole/services/ledger/settings")
    );
    manager.stop().await;
    Ok(())
}
