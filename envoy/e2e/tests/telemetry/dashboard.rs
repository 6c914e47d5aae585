//! `envoy/observability/grafana-dashboard.json`: what it asks for exists, and what exists is asked for.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::alerts::ENVOYS;
use crate::names::{named_in, ours};

/// What no panel shows, and why.
const LEFT_OUT: [(&str, &str); 1] = [(
    "tenantgate_epoch",
    "moves for the filter's own sake, and what it shows means nothing",
)];

/// The variables of the dashboard, with what they stand for in a test.
const VARIABLES: [(&str, &str); 3] = [("$__rate_interval", "5s"), ("$job", ".*"), ("$instance", ".*")];

pub(crate) fn dashboard() -> anyhow::Result<Value> {
    Ok(serde_json::from_str(include_str!(
        "../../../observability/grafana-dashboard.json"
    ))?)
}

/// Every query of a panel with the title of the panel, and that of the annotations.
fn queries() -> anyhow::Result<Vec<(String, String)>> {
    let dashboard = dashboard()?;
    let panels = dashboard["panels"].as_array().context("panels")?;
    let mut queries = Vec::new();
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let title = panel["title"].as_str().context("a title")?;
        for target in panel["targets"].as_array().context("targets")? {
            queries.push((title.to_owned(), target["expr"].as_str().context("a query")?.to_owned()));
        }
    }
    for annotation in dashboard["annotations"]["list"].as_array().context("annotations")? {
        queries.push((
            "annotations".to_owned(),
            annotation["expr"].as_str().context("a query")?.to_owned(),
        ));
    }
    Ok(queries)
}

/// Every query as Prometheus gets it, with the title of its panel.
pub(crate) fn filled_queries() -> anyhow::Result<Vec<(String, String)>> {
    let fill = |query: String| {
        VARIABLES
            .iter()
            .fold(query, |query, (variable, value)| query.replace(variable, value))
    };
    Ok(queries()?
        .into_iter()
        .map(|(title, query)| (title, fill(query)))
        .collect())
}

#[test]
fn every_metric_on_the_dashboard_exists_and_every_metric_is_on_it_or_left_out_for_a_reason() -> anyhow::Result<()> {
    let ours = ours();
    let mut shown = BTreeSet::new();
    for (title, query) in filled_queries()? {
        for metric in named_in(&query) {
            let exists = ours.contains_key(&metric) || ENVOYS.contains(&metric.as_str());
            ensure!(exists, "{title} asks for {metric}");
            shown.insert(metric);
        }
    }
    for metric in ours.keys() {
        let left_out = LEFT_OUT
            .iter()
            .any(|(name, reason)| name == metric && !reason.is_empty());
        ensure!(
            shown.contains(metric) != left_out,
            "{metric}: on the dashboard {}, left out {left_out}",
            !left_out
        );
    }
    Ok(())
}

#[test]
fn every_query_takes_the_chosen_jobs_and_instances_from_the_chosen_source() -> anyhow::Result<()> {
    for (title, query) in queries()? {
        let chosen = query.matches(r#"job=~"$job",instance=~"$instance""#).count();
        ensure!(chosen == query.matches('{').count() && chosen > 0, "{title}: {query}");
        ensure!(
            !filled_queries()?.iter().any(|(_, query)| query.contains('$')),
            "{title}"
        );
    }
    let dashboard = dashboard()?;
    let variables = dashboard["templating"]["list"].as_array().context("variables")?;
    let names: Vec<_> = variables
        .iter()
        .filter_map(|variable| variable["name"].as_str())
        .collect();
    ensure!(names == ["datasource", "job", "instance"], "{names:?}");
    let panels = dashboard["panels"].as_array().context("panels")?;
    let mut ids = BTreeSet::new();
    for panel in panels {
        ensure!(
            ids.insert(panel["id"].as_u64()),
            "{} has the id of another panel",
            panel["title"]
        );
        let is_row = panel["type"] == "row";
        ensure!(
            is_row || panel["datasource"]["uid"] == "${datasource}",
            "{}",
            panel["title"]
        );
        ensure!(
            is_row || panel["description"].as_str().is_some_and(|text| !text.is_empty()),
            "{}",
            panel["title"]
        );
    }
    Ok(())
}

#[test]
fn no_panel_lies_upon_another() -> anyhow::Result<()> {
    let dashboard = dashboard()?;
    let mut taken = BTreeSet::new();
    for panel in dashboard["panels"].as_array().context("panels")? {
        let side = |name: &str| panel["gridPos"][name].as_u64().context("a place");
        let (x, y, w, h) = (side("x")?, side("y")?, side("w")?, side("h")?);
        ensure!(x + w <= 24, "{} is too wide", panel["title"]);
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            ensure!(taken.insert(cell), "{} lies upon another", panel["title"]);
        }
    }
    Ok(())
}
