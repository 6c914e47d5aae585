//! Where the engine and a publisher disagree, stated by number and with a reason.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::published::{Expectation, Report, Verdict, folder};

/// An entry of `disagreements.yaml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    set: String,
    /// Numbers of tests, and spans of them as `first-last`.
    ids: Vec<Ids>,
    published: Expectation,
    engine: Verdict,
    because: String,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Ids {
    One(u32),
    Span(String),
}

impl Ids {
    fn each(&self) -> std::ops::RangeInclusive<u32> {
        match self {
            Self::One(id) => *id..=*id,
            Self::Span(span) => {
                let (first, last) = span.split_once('-').expect("first-last");
                let number = |text: &str| text.parse::<u32>().expect("a number");
                number(first)..=number(last)
            }
        }
    }
}

fn entries() -> Vec<Entry> {
    let path = folder().join("disagreements.yaml");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_norway::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The sets that entries name.
pub(crate) fn sets() -> BTreeSet<String> {
    entries().into_iter().map(|entry| entry.set).collect()
}

/// What is wrong with a judged set: ways that differ, disagreements that are not listed, entries
/// that are not (or no longer) true.
pub(crate) fn faults(set: &str, report: &Report) -> Vec<String> {
    let mut listed = BTreeMap::new();
    let mut faults = Vec::new();
    for entry in entries().iter().filter(|entry| entry.set == set) {
        if entry.because.trim().is_empty() {
            faults.push("an entry has no reason".to_owned());
        }
        for id in entry.ids.iter().flat_map(Ids::each) {
            if listed.insert(id, (entry.published, entry.engine)).is_some() {
                faults.push(format!("{id} is listed twice"));
            }
        }
    }
    for test in &report.judged {
        let (id, comment) = (test.id, &test.comment);
        if test.pure != test.native {
            faults.push(format!(
                "{id} ({comment}): pure Rust {:?}, the host {:?}",
                test.pure, test.native
            ));
        }
        let agrees = matches!(
            (test.expected, test.pure),
            (Expectation::Valid, Verdict::Accepts) | (Expectation::Invalid, Verdict::Refuses)
        );
        let found = (test.expected, test.pure);
        match listed.remove(&id) {
            None if agrees => {}
            None => faults.push(format!("{id} ({comment}): {found:?}, and not listed")),
            Some(_) if agrees => faults.push(format!("{id} ({comment}) is listed, and there is no disagreement")),
            Some(stated) if stated != found => {
                faults.push(format!("{id} ({comment}): listed as {stated:?}, found {found:?}"));
            }
            Some(_) => {}
        }
    }
    faults.extend(
        listed
            .keys()
            .map(|id| format!("{id} is listed, and there is no such test")),
    );
    faults
}
