//! A real Prometheus that scrapes a real Envoy.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use envoy_e2e::{Message, bootstrap_between};
use envoy_run::{Echo, Envoy, ListenerFile, Options, Prometheus, TenantManager};
use serde_json::json;

use crate::alerts::{ENVOYS, ENVOYS_WITH_LDS, alerts, folder};
use crate::dashboard::filled_queries;
use crate::traffic::{SOON, scene, send_all};

#[tokio::test]
async fn a_prometheus_answers_with_what_the_filter_counted() -> anyhow::Result<()> {
    let scene = scene(json!({})).await?;
    let world = &scene.world;
    let prometheus = Prometheus::start(world.envoy.admin(), &[]).await?;
    let counts = send_all(world).await?;
    let suspended = counts["tenantgate_denials_total.code=TENANT_SUSPENDED~"] as f64;
    let query = r#"tenantgate_denials_total{code="TENANT_SUSPENDED"}"#;
    let series = prometheus
        .wait_for(query, SOON, |series| {
            series.first().is_some_and(|one| one.value == suspended)
        })
        .await?;
    let [one] = &series[..] else {
        anyhow::bail!("one series: {series:?}");
    };
    let admin = world.envoy.admin().to_string();
    let labels = [
        ("__name__", "tenantgate_denials_total"),
        ("code", "TENANT_SUSPENDED"),
        ("instance", &admin),
        ("job", "envoy"),
    ];
    let labels: BTreeMap<_, _> = labels
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    ensure!(one.labels == labels, "{:?}", one.labels);
    // Envoy adds up histograms every five seconds.
    let lookups = "tenantgate_lookup_duration_ms_count";
    prometheus
        .wait_for(lookups, SOON, |series| {
            series.first().is_some_and(|one| one.value >= 5.0)
        })
        .await?;
    for metric in ENVOYS {
        ensure!(
            !prometheus.query(metric).await?.is_empty(),
            "Envoy does not show {metric}"
        );
    }
    prometheus.stop().await?;
    scene.stop().await
}

#[tokio::test]
async fn every_query_of_the_dashboard_is_answered() -> anyhow::Result<()> {
    let scene = scene(json!({})).await?;
    let world = &scene.world;
    let prometheus = Prometheus::start(world.envoy.admin(), &[]).await?;
    let scraped = "count_over_time(tenantgate_breaker_state[10s])";
    prometheus
        .wait_for(scraped, SOON, |series| {
            series.first().is_some_and(|one| one.value >= 2.0)
        })
        .await?;
    for (title, query) in filled_queries()? {
        prometheus.query(&query).await.with_context(|| title)?;
    }
    prometheus.stop().await?;
    scene.stop().await
}

#[tokio::test]
async fn every_alert_is_evaluated_and_one_that_must_fires_and_no_other() -> anyhow::Result<()> {
    let scene = scene(json!({})).await?;
    let world = &scene.world;
    let prometheus = Prometheus::start(world.envoy.admin(), &[folder().canonicalize()?.join("alerts.yaml")]).await?;
    let scraped = "count_over_time(tenantgate_breaker_state[10s])";
    prometheus
        .wait_for(scraped, SOON, |series| {
            series.first().is_some_and(|one| one.value >= 2.0)
        })
        .await?;
    let stranger = Message::new("POST", envoy_e2e::EVENTS_PATH).body("{}");
    let listener = world
        .envoy
        .listener(envoy_run::TENANT_EVENTS)
        .context("no listener for events")?;
    let reply = envoy_e2e::Connection::exchange(listener, &stranger).await?;
    ensure!(reply.status == 401, "{}", reply.text());
    let fires = r#"ALERTS{alertstate="firing"}"#;
    let firing = prometheus.wait_for(fires, SOON, |series| !series.is_empty()).await?;
    let names: Vec<_> = firing.iter().filter_map(|one| one.labels.get("alertname")).collect();
    ensure!(names == ["TenantgateEventsUnauthorized"], "{names:?}");
    let rules = prometheus.rules().await?;
    ensure!(rules.len() == alerts()?.len(), "{} rules", rules.len());
    for rule in rules {
        ensure!(rule.health == "ok", "{rule:?}");
    }
    prometheus.stop().await?;
    scene.stop().await
}

#[tokio::test]
async fn a_refused_update_of_a_listener_shows_where_the_alert_looks() -> anyhow::Result<()> {
    let echo = Echo::start().await?;
    let tenant_manager = TenantManager::start(corpus::load(&corpus::cases_dir())?.base.tenants).await?;
    let mut listeners = ListenerFile::new()?;
    let good = bootstrap_between(json!({}), &echo, &tenant_manager)?;
    let envoy = Envoy::start(Options::new(listeners.write(good)?)).await?;
    let prometheus = Prometheus::start(envoy.admin(), &[]).await?;
    for metric in ENVOYS_WITH_LDS {
        let before = prometheus.wait_for(metric, SOON, |series| !series.is_empty()).await?;
        ensure!(before.iter().all(|one| one.value == 0.0), "{metric}: {before:?}");
    }

    let faulty = json!({ "tenant_manager": { "timeout_ms": 0 } });
    listeners.write(bootstrap_between(faulty, &echo, &tenant_manager)?)?;
    for metric in ENVOYS_WITH_LDS {
        prometheus
            .wait_for(metric, SOON, |series| series.iter().any(|one| one.value == 1.0))
            .await?;
    }
    let message = Message::of_tenant("acme", "/v1/accounts");
    let reply = envoy_e2e::Connection::exchange(envoy.address(), &message).await?;
    ensure!(
        reply.status == 200,
        "{}: the document before it serves on",
        reply.text()
    );
    prometheus.stop().await?;
    envoy.stop().await?;
    Ok(())
}
