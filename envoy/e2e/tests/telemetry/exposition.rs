//! The text that Envoy shows to a Prometheus.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, ensure};
use envoy_run::promtool;
use serde_json::json;
use tenant_policy::telemetry::{Counter, Gauge, Histogram};

use crate::names::{is_ours, ours};
use crate::series::{Line, lines};
use crate::traffic::{scene, send_all};

/// What promtool may find: Envoy writes no help for any metric, and it has integers only, so that a time of it is in
/// milliseconds, as those of its own are.
const ACCEPTED: [&str; 2] = [
    " no help text",
    "tenantgate_lookup_duration_ms metric names should not contain abbreviated units",
];

/// Buckets of a histogram of Envoy, its sum and its count.
const SERIES_OF_A_HISTOGRAM: usize = 22;

/// How the one gauge begins whose name is another in every Envoy.
const BELL: &str = "tenantgate_epoch_";

fn our_lines(text: &str) -> anyhow::Result<Vec<Line>> {
    let mut lines = lines(text)?;
    lines.retain(|line| is_ours(&line.name));
    Ok(lines)
}

#[tokio::test]
async fn promtool_finds_no_fault_in_what_the_filter_shows() -> anyhow::Result<()> {
    let scene = scene(json!({})).await?;
    let world = &scene.world;
    send_all(world).await?;
    let text = world.envoy.prometheus().await?;
    let checked = promtool(Path::new("."), &["check", "metrics"], &text).await?;
    let said = String::from_utf8_lossy(&checked.stderr);
    // 3: it has read all of it, and has something to say.
    ensure!(
        matches!(checked.status.code(), Some(0 | 3)),
        "{}: {said}",
        checked.status
    );
    for line in said.lines().filter(|line| is_ours(line)) {
        ensure!(ACCEPTED.iter().any(|accepted| line.ends_with(accepted)), "{line}");
    }
    let broken = text.replacen(
        "# TYPE tenant_connections_total counter",
        "# TYPE tenant_connections_total nonsense",
        1,
    );
    ensure!(broken != text, "the metric is there");
    let checked = promtool(Path::new("."), &["check", "metrics"], &broken).await?;
    ensure!(
        checked.status.code() == Some(1),
        "promtool would find a fault: {}",
        checked.status
    );
    scene.stop().await
}

#[tokio::test]
async fn the_shipped_tag_rules_make_clean_labels_of_every_tag() -> anyhow::Result<()> {
    let scene = scene(json!({})).await?;
    let world = &scene.world;
    let counts = send_all(world).await?;
    let shown = our_lines(&world.envoy.prometheus().await?)?;
    let (known, mut seen) = (ours(), BTreeSet::new());
    for line in &shown {
        let name = if line.name.starts_with(BELL) {
            "tenantgate_epoch"
        } else {
            &line.name
        };
        let labels = known
            .get(name)
            .with_context(|| format!("{line:?} is no metric of the filter"))?;
        let its_labels: BTreeSet<_> = line.labels.keys().filter(|label| *label != "le").cloned().collect();
        ensure!(its_labels == *labels, "{line:?} should have {labels:?}");
        let plain = |value: &String| value.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.+-".contains(&b));
        ensure!(line.labels.values().all(plain), "{line:?}");
        seen.insert(name);
    }
    let at_once = Counter::all()
        .filter(|counter| counter.shows_at_once())
        .map(Counter::name);
    for name in at_once {
        let base = name.split('.').next().unwrap_or_default();
        ensure!(seen.contains(base), "{base} is not there");
    }
    for (name, count) in counts {
        let mut parts = name.split('.');
        let base = parts.next().unwrap_or_default();
        let tags: Vec<_> = parts
            .filter_map(|part| part.trim_end_matches('~').split_once('='))
            .collect();
        let line = shown.iter().find(|line| {
            let has = |(tag, value): &(&str, &str)| line.labels.get(*tag).is_some_and(|found| found == value);
            line.name == base && tags.iter().all(has)
        });
        let line = line.with_context(|| format!("{name} is not there"))?;
        ensure!(line.value == count as f64, "{name} is {}, not {count}", line.value);
    }
    scene.stop().await
}

#[tokio::test]
async fn no_traffic_makes_more_series_than_the_reference_says() -> anyhow::Result<()> {
    let scene = scene(json!({})).await?;
    let world = &scene.world;
    send_all(world).await?;
    let most = Counter::all().count() + Gauge::ALL.len() + SERIES_OF_A_HISTOGRAM;
    let reference = include_str!("../../../../docs/metrics.md");
    ensure!(reference.contains(&format!("at most {most} series")), "{most}");
    ensure!(!Histogram::LookupDuration.name().is_empty(), "the one histogram");
    let shown = our_lines(&world.envoy.prometheus().await?)?.len();
    ensure!(shown <= most, "{shown} series, {most} at most");
    // Whatever a client says is no label.
    for number in 0..20 {
        let made = format!("made-up-{number}");
        let message = envoy_e2e::Message::of_tenant(&made, format!("/v1/{made}").as_str());
        world.send(&message.line("x-tenant-id", made.as_str())).await?;
    }
    let text = world.envoy.prometheus().await?;
    ensure!(our_lines(&text)?.len() == shown, "no series more");
    ensure!(!text.contains("made-up"), "nothing of what a client says");
    scene.stop().await
}

#[tokio::test]
async fn tenants_have_labels_up_to_the_bound_and_are_one_beyond() -> anyhow::Result<()> {
    const MOST: usize = 2;
    let scene = scene(json!({ "telemetry": { "tenant_label": true, "max_tenants": MOST } })).await?;
    let world = &scene.world;
    let counts = send_all(world).await?;
    let text = world.envoy.prometheus().await?;
    let shown = our_lines(&text)?;
    let by_tenant: Vec<_> = shown
        .iter()
        .filter(|line| line.name == "tenantgate_tenant_requests_total")
        .collect();
    ensure!(by_tenant.len() <= 2 * (MOST + 1), "{by_tenant:?}");
    let tenants: BTreeSet<_> = by_tenant.iter().filter_map(|line| line.labels.get("tenant")).collect();
    ensure!(
        tenants.into_iter().eq(["acme", "aggregate", "limited"]),
        "{by_tenant:?}"
    );
    let sum = |decision: &str, tenant: &str| -> f64 {
        let has = |line: &&&Line| line.labels["tenant"].contains(tenant) && line.labels["decision"] == decision;
        by_tenant.iter().filter(has).map(|line| line.value).sum()
    };
    // Two that pass, and one whose response is withheld.
    ensure!(sum("allowed", "acme") == 3.0, "{by_tenant:?}");
    let nobody_known = ["PATH_", "TENANT_ID_", "TOKEN_", "EVENTS_", "TENANT_LEAK_"];
    let denied = counts.iter().filter(|(name, _)| {
        let code = name.strip_prefix("tenantgate_denials_total.code=");
        code.is_some_and(|code| !nobody_known.iter().any(|begin| code.starts_with(begin)))
    });
    let denied: u64 = denied.map(|(_, count)| count).sum();
    ensure!(
        sum("denied", "") == denied as f64,
        "{denied} were denied: {by_tenant:?}"
    );
    let decided = sum("allowed", "") + sum("denied", "");
    let aggregated = shown
        .iter()
        .find(|line| line.name == "tenantgate_tenant_labels_aggregated_total");
    ensure!(
        aggregated.is_some_and(|line| line.value > 0.0 && line.value < decided),
        "{aggregated:?}"
    );
    let checked = promtool(Path::new("."), &["check", "metrics"], &text).await?;
    ensure!(matches!(checked.status.code(), Some(0 | 3)), "{}", checked.status);
    scene.stop().await
}

#[tokio::test]
async fn a_report_counts_what_it_lets_go_by_code() -> anyhow::Result<()> {
    let scene = scene(json!({ "enforcement": "report" })).await?;
    let world = &scene.world;
    let reply = world.send(&envoy_e2e::Message::new("GET", "/v1/accounts")).await?;
    ensure!(reply.status == 200, "{} {}", reply.status, reply.text());
    let reply = world
        .send(&envoy_e2e::Message::of_tenant("frozen", "/v1/accounts"))
        .await?;
    ensure!(reply.status == 200, "{} {}", reply.status, reply.text());
    let shown = our_lines(&world.envoy.prometheus().await?)?;
    let would_deny = shown.iter().filter(|line| line.name == "tenantgate_would_deny_total");
    let codes: Vec<_> = would_deny
        .map(|line| (line.labels["code"].as_str(), line.value))
        .collect();
    ensure!(
        codes == [("TENANT_ID_REQUIRED", 1.0), ("TENANT_SUSPENDED", 1.0)],
        "{codes:?}"
    );
    let denials = shown.iter().filter(|line| line.name == "tenantgate_denials_total");
    ensure!(denials.map(|line| line.value).sum::<f64>() == 0.0, "nothing is denied");
    scene.stop().await
}
