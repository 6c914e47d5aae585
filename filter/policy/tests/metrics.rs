//! `docs/metrics.md` against the code: neither names a metric, a label or a value that the other does not have.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that meets the impossible should stop"
)]

use std::collections::{BTreeMap, BTreeSet};

use tenant_policy::denial::Code;
use tenant_policy::telemetry::{Counter, Decision, Gauge, Histogram, tenant_counter};

const REFERENCE: &str = include_str!("../../../docs/metrics.md");
const OPERATIONS: &str = include_str!("../../../docs/operations.md");
/// Files whose rules make labels of tags.
const TAG_RULES: [&str; 3] = [
    REFERENCE,
    include_str!("../../../envoy/envoy.yaml"),
    include_str!("../../../examples/envoy-minimal.yaml"),
];

/// How every metric begins.
const PREFIXES: [&str; 2] = ["tenant_", "tenantgate_"];

/// The series that Envoy makes of a histogram: 19 bounds, the open end, sum and count.
const SERIES_OF_A_HISTOGRAM: usize = 22;

/// A metric as the reference must have it.
#[derive(Debug, Default)]
struct Metric {
    /// The second column.
    kind: String,
    /// Every value of each label.
    labels: BTreeMap<String, BTreeSet<String>>,
}

/// There is no list of them; another one does not compile here.
fn histograms() -> [Histogram; 1] {
    match Histogram::LookupDuration {
        Histogram::LookupDuration => [Histogram::LookupDuration],
    }
}

fn metrics() -> BTreeMap<String, Metric> {
    let mut metrics = BTreeMap::<String, Metric>::new();
    // The tenants are not to be listed; one stands for all.
    let by_tenant = Decision::ALL
        .iter()
        .map(|decision| tenant_counter("aggregate", *decision));
    for name in Counter::all().map(Counter::name).chain(by_tenant) {
        let mut parts = name.split('.');
        let metric = metrics.entry(parts.next().unwrap_or_default().to_owned()).or_default();
        for part in parts {
            let (label, value) = part.trim_end_matches('~').split_once('=').unwrap_or_default();
            let values = metric.labels.entry(label.to_owned()).or_default();
            values.insert(value.to_owned());
        }
    }
    for metric in metrics.values_mut() {
        let labels = metric.labels.keys().map(|label| format!(", `{label}`"));
        metric.kind = format!("counter{}", labels.collect::<String>());
    }
    let gauges = Gauge::ALL.map(|gauge| (gauge.name(), "gauge"));
    let others = gauges
        .into_iter()
        .chain(histograms().map(|histogram| (histogram.name(), "histogram")));
    for (name, kind) in others {
        metrics.entry(name.to_owned()).or_default().kind = kind.to_owned();
    }
    metrics
}

/// The cells of every row whose first cell is one word in backticks, by that word.
fn rows(text: &str) -> Vec<(&str, Vec<&str>)> {
    let rows = text.lines().filter_map(|line| {
        let mut cells = line.strip_prefix('|')?.strip_suffix('|')?.split('|').map(str::trim);
        let word = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
        (!word.contains('`')).then(|| (word, cells.collect()))
    });
    rows.collect()
}

/// The part of the reference under the heading with this anchor, without its subsections.
fn section(anchor: &str) -> Option<&'static str> {
    REFERENCE.split("\n## ").find(|part| {
        let heading = part.lines().next().unwrap_or_default();
        heading.to_lowercase().replace(' ', "-") == anchor
    })
}

/// Every word in backticks outside of examples, also where a line breaks in it.
fn quoted(text: &str) -> BTreeSet<String> {
    let mut is_code = false;
    let lines = text.lines().filter(|line| {
        let is_fence = line.starts_with("```");
        is_code ^= is_fence;
        !is_fence && !is_code
    });
    let text = lines.collect::<Vec<_>>().join(" ");
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_reference_has_every_metric_with_its_kind_and_labels_and_no_other() {
    let table = section("all-of-them").expect("the table");
    let said: BTreeMap<_, _> = rows(table)
        .into_iter()
        .map(|(name, cells)| (name.to_owned(), cells[0].to_owned()))
        .collect();
    let meant: BTreeMap<_, _> = metrics()
        .into_iter()
        .map(|(name, metric)| (name, metric.kind))
        .collect();
    assert_eq!(said, meant);
}

#[test]
fn every_metric_says_when_it_moves_and_what_to_do() {
    for (name, cells) in rows(section("all-of-them").expect("the table")) {
        assert_eq!(cells.len(), 3, "{name}");
        assert!(cells.iter().all(|cell| !cell.is_empty()), "{name}");
    }
}

#[test]
fn every_label_has_a_section_with_exactly_its_values() {
    let metrics = metrics();
    for (name, cells) in rows(section("all-of-them").expect("the table")) {
        let labels = &metrics[name].labels;
        if labels.is_empty() {
            continue;
        }
        let anchor = cells[2].split("](#").nth(1).and_then(|rest| rest.split(')').next());
        let anchor = anchor.unwrap_or_else(|| panic!("{name} links to no section about its labels"));
        let section = section(anchor).unwrap_or_else(|| panic!("{name} links to #{anchor}, which is not there"));
        let (quoted, values) = (quoted(section), labels.values().flatten().collect::<BTreeSet<_>>());
        for value in &values {
            assert!(
                quoted.contains(*value),
                "#{anchor} does not explain `{value}` of {name}"
            );
        }
        for (word, _) in rows(section) {
            let is_value = values.contains(&word.to_owned()) || labels.contains_key(word);
            assert!(is_value, "#{anchor} explains `{word}`, which {name} cannot have");
        }
    }
}

#[test]
fn every_metric_that_the_pages_mention_exists() {
    let metrics = metrics();
    let values: BTreeSet<_> = metrics
        .values()
        .flat_map(|metric| metric.labels.values())
        .flatten()
        .collect();
    for word in [REFERENCE, OPERATIONS].into_iter().flat_map(quoted) {
        let name: String = word
            .chars()
            .take_while(|c| c.is_ascii_lowercase() || *c == '_')
            .collect();
        let is_metric = PREFIXES
            .iter()
            .any(|prefix| name.len() > prefix.len() && name.starts_with(prefix));
        // What a configuration, a file or an upstream calls so.
        let others = ["tenant_id", "tenant_manager", "tenant_filter", "tenantgate_epoch_"];
        let is_other = values.contains(&name) || others.contains(&name.as_str());
        assert!(
            !is_metric || is_other || metrics.contains_key(&name),
            "`{word}` is no metric"
        );
    }
}

#[test]
fn every_tag_is_made_a_label() {
    for label in metrics().values().flat_map(|metric| metric.labels.keys()) {
        let rule = format!("{{ tag_name: {label}, regex: '(\\.{label}=(.*?)~)' }}");
        for file in TAG_RULES {
            assert!(
                file.contains(&rule),
                "{rule} is missing in a file that begins {:?}",
                file.lines().next()
            );
        }
    }
}

#[test]
fn the_reference_says_how_many_series_there_are() {
    let series = Counter::all().count() + Gauge::ALL.len() + histograms().len() * SERIES_OF_A_HISTOGRAM;
    assert!(REFERENCE.contains(&format!("at most {series} series")), "{series}");
}

#[test]
fn the_runbook_has_a_row_for_every_code_with_its_status() {
    let rows = rows(OPERATIONS);
    for code in Code::ALL {
        let mut row = rows.iter().filter(|(word, _)| *word == code.as_str());
        let (_, cells) = row.next().unwrap_or_else(|| panic!("no row about {}", code.as_str()));
        assert_eq!(cells[0], code.status().to_string(), "{}", code.as_str());
    }
}
