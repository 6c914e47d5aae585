//! The table.

use std::path::PathBuf;

use crate::setup::Setup;
use crate::statistics::Median;
use crate::subject::{Cost, Subject};

/// What one subject has cost, round by round.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) setup: Setup,
    pub(crate) module: Option<usize>,
    pub(crate) costs: Vec<Cost>,
}

/// Setups that answer a question together: what the first costs more than the second.
const QUESTIONS: [(Setup, Setup); 6] = [
    (Setup::Fresh, Setup::JwtFresh),
    (Setup::Fresh, Setup::JwtHeader),
    (Setup::Seen, Setup::JwtCache),
    (Setup::Seen, Setup::Identity),
    (Setup::Tenancy, Setup::Lua),
    (Setup::Tenancy, Setup::Authz),
];

/// Everything measured, as lines.
pub(crate) fn lines(all: &[Series], modules: &[PathBuf]) -> Vec<String> {
    let mut lines = vec![format!(
        "{:<16} {:>28}   {:>28}   {:>10}",
        "setup", "CPU µs/request", "more than `none`, µs", "requests/s"
    )];
    let baseline = all.iter().find(|series| series.setup == Setup::None);
    lines.extend(all.iter().map(|series| {
        let cost = Median::of(series.costs.iter().map(|cost| cost.cpu_us));
        let overhead = baseline
            .filter(|baseline| !std::ptr::eq(*baseline, series))
            .and_then(|baseline| difference(series, baseline));
        let rate = Median::of(series.costs.iter().map(|cost| cost.per_second));
        let name = series.name(modules);
        let rate = rate.map_or_else(String::new, |rate| format!("{:.0}", rate.value));
        format!("{name:<16} {:>28}   {:>28}   {rate:>10}", shown(cost), shown(overhead))
    }));
    let mut compared = questions(all, modules);
    compared.extend(modules_compared(all, modules));
    if !compared.is_empty() {
        lines.push(String::new());
        lines.push("paired, round by round: what the first costs more than the second, µs/request".to_owned());
        lines.extend(compared);
    }
    lines
}

fn questions(all: &[Series], modules: &[PathBuf]) -> Vec<String> {
    let of = |setup| all.iter().filter(move |series| series.setup == setup);
    let baseline = of(Setup::None).next();
    let mut lines = Vec::new();
    for (first, second) in QUESTIONS {
        for first in of(first) {
            // Two setups of ours are compared within one module.
            for second in of(second).filter(|second| second.module.is_none() || second.module == first.module) {
                let overheads =
                    baseline.and_then(|baseline| Some((difference(first, baseline)?, difference(second, baseline)?)));
                let ratio = overheads.map_or_else(String::new, |(first, second)| {
                    format!("   overhead × {:.2}", first.value / second.value)
                });
                lines.push(format!("{}{ratio}", compared(first, second, modules)));
            }
        }
    }
    lines
}

/// The same setup with the module named last and with the one named first.
fn modules_compared(all: &[Series], modules: &[PathBuf]) -> Vec<String> {
    let firsts = all.iter().filter(|series| series.module == Some(0));
    let pairs = firsts.flat_map(|first| {
        let others = all
            .iter()
            .filter(|other| other.setup == first.setup && other.module > first.module);
        others.map(move |other| (other, first))
    });
    pairs.map(|(other, first)| compared(other, first, modules)).collect()
}

fn compared(first: &Series, second: &Series, modules: &[PathBuf]) -> String {
    let names = format!("{} − {}", first.name(modules), second.name(modules));
    format!("{names:<32} {:>24}", shown(difference(first, second)))
}

/// What `series` costs more than `than`, from rounds in which both ran.
fn difference(series: &Series, than: &Series) -> Option<Median> {
    let rounds = series.costs.iter().zip(&than.costs);
    Median::of(rounds.map(|(cost, than)| cost.cpu_us - than.cpu_us))
}

fn shown(median: Option<Median>) -> String {
    median.map_or_else(String::new, |median| {
        format!("{:.1}  [{:.1} … {:.1}]", median.value, median.low, median.high)
    })
}

impl Series {
    /// Of a subject that has not been measured yet.
    pub(crate) fn empty(subject: &Subject) -> Self {
        Self {
            setup: subject.setup,
            module: subject.module,
            costs: Vec::new(),
        }
    }

    /// The setup, with the letter of its module where there are several.
    fn name(&self, modules: &[PathBuf]) -> String {
        match self.module {
            Some(module) if modules.len() > 1 => format!("{} ({})", self.setup.name(), letter(module)),
            _ => self.setup.name(),
        }
    }
}

/// A for the first module.
pub(crate) fn letter(module: usize) -> char {
    (b'A'..=b'Z').nth(module).map_or('?', char::from)
}
