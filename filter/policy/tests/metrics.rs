//! The metrics reference in `docs/operations.md` against the code: neither names anything that the other does
//! not have.

use std::collections::{BTreeMap, BTreeSet};

use tenant_policy::telemetry::{Counter, Gauge, Histogram};

const REFERENCE: &str = include_str!("../../../docs/operations.md");
/// Files whose rules make labels of tags.
const TAG_RULES: [&str; 3] = [
    REFERENCE,
    include_str!("../../../envoy/envoy.yaml"),
    include_str!("../../../examples/envoy-minimal.yaml"),
];

/// How every metric begins.
const PREFIXES: [&str; 2] = ["tenant_", "tenantgate_"];

/// The kind and tags of every metric, as the second column of the reference says them, and every value
/// that a tag can have.
fn metrics() -> (BTreeMap<String, String>, BTreeMap<String, BTreeSet<String>>) {
    let (mut metrics, mut values) = (BTreeMap::new(), BTreeMap::<String, BTreeSet<String>>::new());
    for counter in Counter::all() {
        let name = counter.name();
        let mut parts = name.split('.');
        let base = parts.next().unwrap_or_default().to_owned();
        let mut kind = "counter".to_owned();
        for part in parts {
            let (tag, value) = part.trim_end_matches('~').split_once('=').unwrap_or_default();
            kind = format!("{kind}, `{tag}`");
            values.entry(tag.to_owned()).or_default().insert(value.to_owned());
        }
        metrics.insert(base, kind);
    }
    for gauge in Gauge::ALL {
        metrics.insert(gauge.name().to_owned(), "gauge".to_owned());
    }
    // There is no list of them; another one does not compile here.
    let histogram = match Histogram::LookupDuration {
        Histogram::LookupDuration => Histogram::LookupDuration,
    };
    metrics.insert(histogram.name().to_owned(), "histogram".to_owned());
    (metrics, values)
}

/// The first two columns of every row of a table whose first column is a word in backticks that begins like
/// a metric.
fn rows() -> BTreeMap<String, String> {
    let rows = REFERENCE.lines().filter_map(|line| {
        let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
        let name = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
        let is_metric = !name.contains('`') && PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        is_metric.then(|| (name.to_owned(), cells.next().unwrap_or_default().to_owned()))
    });
    // Rows about reasons begin with words that look alike.
    let values = metrics().1;
    let is_value = |name: &str| values.values().any(|all| all.contains(name));
    rows.filter(|(name, _)| !is_value(name)).collect()
}

/// Every word in backticks outside of examples, also where a line breaks in it.
fn quoted() -> BTreeSet<String> {
    let mut is_code = false;
    let lines = REFERENCE.lines().filter(|line| {
        let is_fence = line.starts_with("```");
        is_code ^= is_fence;
        !is_fence && !is_code
    });
    let text = lines.collect::<Vec<_>>().join(" ");
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_reference_has_every_metric_with_its_kind_and_tags_and_no_other() {
    assert_eq!(rows(), metrics().0);
}

#[test]
fn every_metric_that_the_page_mentions_exists() {
    let (metrics, values) = metrics();
    let is_value = |word: &str| values.values().any(|all| all.contains(word));
    for word in quoted() {
        let name: String = word
            .chars()
            .take_while(|c| c.is_ascii_lowercase() || *c == '_')
            .collect();
        let is_metric = PREFIXES
            .iter()
            .any(|prefix| name.len() > prefix.len() && name.starts_with(prefix));
        // What a configuration, a file or an upstream calls so.
        let is_other = is_value(&name) || ["tenant_id", "tenant_manager", "tenant_filter"].contains(&name.as_str());
        assert!(
            !is_metric || is_other || metrics.contains_key(&name),
            "`{word}` is no metric"
        );
    }
}

#[test]
fn every_value_of_a_tag_is_explained() {
    let quoted = quoted();
    for (tag, values) in metrics().1 {
        for value in values {
            assert!(quoted.contains(&value), "{tag} can be `{value}`");
        }
    }
}

#[test]
fn every_tag_is_made_a_label() {
    for tag in metrics().1.keys() {
        let rule = format!("{{ tag_name: {tag}, regex: '(\\.{tag}=(.*?)~)' }}");
        for file in TAG_RULES {
            assert!(
                file.contains(&rule),
                "{rule} is missing in a file that begins {:?}",
                file.lines().next()
            );
        }
    }
}
