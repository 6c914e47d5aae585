//! `envoy/observability/alerts.yaml`: it loads, it fires where it must, and it says what to do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use envoy_run::promtool;
use serde_json::Value;

use crate::names::{is_ours, named_in, ours};

const OPERATIONS: &str = include_str!("../../../../docs/operations.md");
const TESTS: &str = include_str!("../../../observability/alerts_test.yaml");

/// What an alert that nobody can act upon lacks.
const ANNOTATIONS: [&str; 3] = ["summary", "description", "runbook_url"];

/// Metrics of Envoy itself that alerts and dashboard use. That they exist is checked on the real Envoy.
pub(crate) const ENVOYS: [&str; 5] = [
    "envoy_listener_manager_listener_modified",
    "envoy_server_concurrency",
    "envoy_wasm_tenantgate_vm_reload_backoff",
    "envoy_wasm_tenantgate_vm_reload_failure",
    "envoy_wasm_tenantgate_vm_reload_success",
];

/// What an Envoy has besides where its listeners come by LDS.
pub(crate) const ENVOYS_WITH_LDS: [&str; 1] = ["envoy_listener_manager_lds_update_rejected"];

/// Whether an Envoy has it, in one setup or the other.
fn is_envoys(metric: &str) -> bool {
    ENVOYS.iter().chain(&ENVOYS_WITH_LDS).any(|one| *one == metric)
}

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../observability")
}

/// Every alert, by name.
pub(crate) fn alerts() -> anyhow::Result<BTreeMap<String, Value>> {
    let file: Value = serde_norway::from_str(include_str!("../../../observability/alerts.yaml"))?;
    let groups = file["groups"].as_array().context("groups")?;
    let rules = groups.iter().filter_map(|group| group["rules"].as_array()).flatten();
    let mut alerts = BTreeMap::new();
    for rule in rules {
        let name = rule["alert"].as_str().context("an alert has a name")?;
        ensure!(
            alerts.insert(name.to_owned(), rule.clone()).is_none(),
            "{name} stands there twice"
        );
    }
    Ok(alerts)
}

/// The anchors of the headings of a page.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = page.lines().filter(|line| line.starts_with('#'));
    let anchor = |line: &str| {
        let heading = line.trim_start_matches('#').trim().to_lowercase();
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.collect::<String>().replace(' ', "-")
    };
    headings.map(anchor).collect()
}

#[tokio::test]
async fn promtool_takes_the_rules() -> anyhow::Result<()> {
    let checked = promtool(&folder(), &["check", "rules", "alerts.yaml"], "").await?;
    ensure!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    Ok(())
}

#[tokio::test]
async fn every_alert_fires_where_it_must_and_is_silent_where_it_must() -> anyhow::Result<()> {
    let tested = promtool(&folder(), &["test", "rules", "alerts_test.yaml"], "").await?;
    let said = [tested.stdout, tested.stderr].concat();
    ensure!(tested.status.success(), "{}", String::from_utf8_lossy(&said));
    for name in alerts()?.keys() {
        ensure!(
            TESTS.contains(&format!("{{alertname=\"{name}\"}}")),
            "{name} fires in no test"
        );
    }
    Ok(())
}

#[test]
fn every_alert_says_how_urgent_it_is_what_it_is_and_what_to_do() -> anyhow::Result<()> {
    let anchors = anchors(OPERATIONS);
    for (name, alert) in alerts()? {
        let severity = alert["labels"]["severity"].as_str().unwrap_or_default();
        ensure!(["page", "ticket"].contains(&severity), "{name}: {severity}");
        for annotation in ANNOTATIONS {
            let text = alert["annotations"][annotation].as_str().unwrap_or_default();
            ensure!(!text.is_empty(), "{name} has no {annotation}");
        }
        let runbook = alert["annotations"]["runbook_url"].as_str().unwrap_or_default();
        let anchor = runbook.strip_prefix("docs/operations.md#").unwrap_or_default();
        ensure!(
            anchors.contains(anchor),
            "{name} leads to {runbook}, which is not there"
        );
    }
    Ok(())
}

#[test]
fn the_runbook_lists_every_alert_as_it_is() -> anyhow::Result<()> {
    let rows = OPERATIONS.lines().filter_map(|line| line.strip_prefix("| `Tenantgate"));
    let listed: BTreeSet<_> = rows.map(|row| format!("| `Tenantgate{row}")).collect();
    let alerts = alerts()?;
    ensure!(
        listed.len() == alerts.len(),
        "{} rows, {} alerts",
        listed.len(),
        alerts.len()
    );
    for (name, alert) in alerts {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (severity, summary) = (
            text(&alert["labels"]["severity"]),
            text(&alert["annotations"]["summary"]),
        );
        let anchor = text(&alert["annotations"]["runbook_url"]);
        let anchor = anchor.trim_start_matches("docs/operations.md");
        let begins = format!("| `{name}` | {severity} | {summary} | ");
        let row = listed.iter().find(|row| row.starts_with(&begins));
        ensure!(
            row.is_some_and(|row| row.contains(&format!("]({anchor})"))),
            "{begins}… ({anchor})"
        );
    }
    Ok(())
}

#[test]
fn every_metric_in_an_alert_exists() -> anyhow::Result<()> {
    let ours = ours();
    for (name, alert) in alerts()? {
        let metrics = named_in(alert["expr"].as_str().unwrap_or_default());
        ensure!(!metrics.is_empty(), "{name}");
        for metric in metrics {
            let exists = ours.contains_key(&metric) || is_envoys(&metric);
            ensure!(exists, "{name} asks for {metric}");
        }
    }
    Ok(())
}

#[test]
fn every_metric_in_a_test_of_alerts_exists() -> anyhow::Result<()> {
    let ours = ours();
    let file: Value = serde_norway::from_str(TESTS)?;
    let tests = file["tests"].as_array().context("tests")?;
    let series = tests
        .iter()
        .filter_map(|test| test["input_series"].as_array())
        .flatten();
    for series in series {
        let series = series["series"].as_str().unwrap_or_default();
        let name = series.split('{').next().unwrap_or_default();
        ensure!(ours.contains_key(name) || is_envoys(name), "{series}");
        let labels = series
            .split(['{', ','])
            .skip(1)
            .filter_map(|pair| pair.split('=').next());
        for label in labels.filter(|label| is_ours(name) && !["instance", "job", "le"].contains(label)) {
            ensure!(ours[name].contains(label), "{series} has a label `{label}`");
        }
    }
    Ok(())
}
