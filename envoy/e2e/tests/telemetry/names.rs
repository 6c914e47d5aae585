//! Which metrics there are, and which a query names.

use std::collections::{BTreeMap, BTreeSet};

use tenant_policy::telemetry::{Counter, Decision, Gauge, Histogram, tenant_counter};

/// Series of a histogram besides its buckets.
const OF_A_HISTOGRAM: [&str; 3] = ["_bucket", "_sum", "_count"];

/// Words of PromQL that are no metric where no parenthesis follows.
const KEYWORDS: [&str; 6] = ["and", "or", "unless", "offset", "bool", "inf"];

/// Words after which labels stand in parentheses.
const GROUPING: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

/// The metrics of the filter by the names that queries use, each with its labels.
pub(crate) fn ours() -> BTreeMap<String, BTreeSet<String>> {
    let mut ours = BTreeMap::<String, BTreeSet<String>>::new();
    let by_tenant = tenant_counter("", Decision::Allowed);
    for name in Counter::all().map(Counter::name).chain([by_tenant]) {
        let mut parts = name.split('.');
        let labels = ours.entry(parts.next().unwrap_or_default().to_owned()).or_default();
        labels.extend(parts.filter_map(|part| Some(part.split_once('=')?.0.to_owned())));
    }
    ours.extend(Gauge::ALL.map(|gauge| (gauge.name().to_owned(), BTreeSet::new())));
    let histogram = Histogram::LookupDuration.name();
    ours.extend(OF_A_HISTOGRAM.map(|end| (format!("{histogram}{end}"), BTreeSet::new())));
    ours
}

/// Whether a series is the filter's, by how the names of its metrics begin.
pub(crate) fn is_ours(name: &str) -> bool {
    name.starts_with("tenant_") || name.starts_with("tenantgate_")
}

/// The metrics that a PromQL query names: its words outside of braces, brackets and quotes that are no function, no
/// keyword and no label of a grouping. Whether it is a query at all Prometheus says better.
pub(crate) fn named_in(query: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut rest = query;
    let mut grouping = false;
    while let Some(first) = rest.chars().next() {
        let word: String = rest
            .chars()
            .take_while(|c| c.is_alphanumeric() || "_:".contains(*c))
            .collect();
        if !word.is_empty() {
            rest = rest[word.len()..].trim_start();
            let is_function = rest.starts_with('(') || ["by ", "without "].iter().any(|word| rest.starts_with(word));
            grouping = GROUPING.contains(&word.as_str());
            let is_number = word.starts_with(|c: char| c.is_ascii_digit());
            if !is_function && !grouping && !is_number && !KEYWORDS.contains(&word.as_str()) {
                names.insert(word);
            }
            continue;
        }
        let skipped = match first {
            '{' => rest.find('}'),
            '[' => rest.find(']'),
            '"' => rest[1..].find('"').map(|end| end + 1),
            '(' if grouping => rest.find(')'),
            _ => None,
        };
        grouping = false;
        rest = &rest[skipped.unwrap_or_default() + first.len_utf8()..];
    }
    names
}

#[test]
fn a_query_names_its_metrics_and_nothing_else() {
    let query = r#"histogram_quantile(0.99, sum by (le, job) (rate(a_bucket{x=~"b|c"}[5m]))) > 1.5e3 and on (job) (d offset 10m unless absent(e))"#;
    let names: Vec<_> = named_in(query).into_iter().collect();
    assert_eq!(names, ["a_bucket", "d", "e"]);
    assert_eq!(
        named_in("sum(rate(f[$__rate_interval]))")
            .into_iter()
            .collect::<Vec<_>>(),
        ["f"]
    );
}
