//! Prometheus' text format, as far as Envoy writes it.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};

/// One line with a value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Line {
    /// The name of the series.
    pub(crate) name: String,
    /// Labels by name.
    pub(crate) labels: BTreeMap<String, String>,
    /// The value.
    pub(crate) value: f64,
}

/// Every line with a value. No label that Envoy shows here holds a quote, a comma or a brace; promtool has a parser
/// that says whether all of it is well-formed.
pub(crate) fn lines(text: &str) -> anyhow::Result<Vec<Line>> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| one(line).with_context(|| line.to_owned())).collect()
}

fn one(line: &str) -> anyhow::Result<Line> {
    let (series, value) = line.rsplit_once(' ').context("no value")?;
    let (name, labels) = series.split_once('{').context("no labels")?;
    let labels = labels.strip_suffix('}').context("labels have no end")?;
    let pairs = labels.split(',').filter(|pair| !pair.is_empty()).map(|pair| {
        let (label, value) = pair.split_once('=').context("no label")?;
        ensure!(value.starts_with('"') && value.ends_with('"'), "no quotes");
        Ok((label.to_owned(), value.trim_matches('"').to_owned()))
    });
    Ok(Line {
        name: name.to_owned(),
        labels: pairs.collect::<anyhow::Result<_>>()?,
        value: value.parse()?,
    })
}
