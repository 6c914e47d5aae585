//! The table.

use std::path::PathBuf;

use crate::setup::Setup;
use crate::statistics::Median;
use crate::subject::Cost;

/// What is measured under one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) setup: Setup,
    /// Which module, by its place on the command line; `None` where none runs.
    pub(crate) module: Option<usize>,
}

/// What it has cost.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) key: Key,
    /// Start by start, and in each round by round.
    pub(crate) starts: Vec<Vec<Cost>>,
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
    let baseline = all.iter().find(|series| series.key.setup == Setup::None);
    lines.extend(all.iter().map(|series| {
        let overhead = baseline
            .filter(|baseline| baseline.key != series.key)
            .and_then(|baseline| difference(series, baseline));
        let rate = series.median(|cost| cost.per_second);
        let rate = rate.map_or_else(String::new, |rate| format!("{:.0}", rate.value));
        let cost = shown(series.median(|cost| cost.cpu_us));
        let name = series.key.name(modules);
        format!("{name:<16} {cost:>28}   {:>28}   {rate:>10}", shown(overhead))
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

/// What the last start has shown, in a line: CPU µs/request of each.
pub(crate) fn last_start(all: &[Series], modules: &[PathBuf]) -> String {
    let shown = all.iter().filter_map(|series| {
        let cost = Median::of(series.starts.last()?.iter().map(|cost| cost.cpu_us))?;
        Some(format!("{} {:.1}", series.key.name(modules), cost.value))
    });
    shown.collect::<Vec<_>>().join(", ")
}

fn questions(all: &[Series], modules: &[PathBuf]) -> Vec<String> {
    let of = |setup| all.iter().filter(move |series| series.key.setup == setup);
    let baseline = of(Setup::None).next();
    let mut lines = Vec::new();
    for (first, second) in QUESTIONS {
        for first in of(first) {
            // Two setups of ours are compared within one module.
            let module = first.key.module;
            for second in of(second).filter(|second| second.key.module.is_none_or(|other| Some(other) == module)) {
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

/// The same setup with each further module and with the one named first.
fn modules_compared(all: &[Series], modules: &[PathBuf]) -> Vec<String> {
    let firsts = all.iter().filter(|series| series.key.module == Some(0));
    let pairs = firsts.flat_map(|first| {
        let others = all
            .iter()
            .filter(|other| other.key.setup == first.key.setup && other.key.module > first.key.module);
        others.map(move |other| (other, first))
    });
    pairs.map(|(other, first)| compared(other, first, modules)).collect()
}

fn compared(first: &Series, second: &Series, modules: &[PathBuf]) -> String {
    let names = format!("{} − {}", first.key.name(modules), second.key.name(modules));
    format!("{names:<32} {:>24}", shown(difference(first, second)))
}

/// What `series` costs more than `than`, from rounds in which both ran.
fn difference(series: &Series, than: &Series) -> Option<Median> {
    let starts = series.starts.iter().zip(&than.starts);
    Median::of(starts.filter_map(|(costs, than)| {
        let rounds = costs.iter().zip(than);
        Some(Median::of(rounds.map(|(cost, than)| cost.cpu_us - than.cpu_us))?.value)
    }))
}

fn shown(median: Option<Median>) -> String {
    median.map_or_else(String::new, |median| {
        format!("{:.1}  [{:.1} … {:.1}]", median.value, median.low, median.high)
    })
}

impl Series {
    /// Over the starts, of the median over each one's rounds.
    fn median(&self, figure: impl Fn(&Cost) -> f64) -> Option<Median> {
        let starts = self.starts.iter();
        Median::of(starts.filter_map(|costs| Some(Median::of(costs.iter().map(&figure))?.value)))
    }
}

impl Key {
    /// The setup, with the letter of its module where there are several.
    fn name(self, modules: &[PathBuf]) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn series(setup: Setup, module: Option<usize>, starts: &[&[f64]]) -> Series {
        let cost = |&cpu_us: &f64| Cost {
            cpu_us,
            per_second: 1000.0,
        };
        Series {
            key: Key { setup, module },
            starts: starts.iter().map(|costs| costs.iter().map(cost).collect()).collect(),
        }
    }

    #[test]
    fn what_hits_a_whole_round_does_not_show_in_a_difference() {
        let calm = series(Setup::None, None, &[&[20.0, 90.0, 20.0], &[21.0, 21.0, 21.0]]);
        let busy = series(Setup::Seen, Some(0), &[&[30.0, 100.0, 30.0], &[31.0, 31.0, 31.0]]);
        let (value, low, high) = (10.0, 10.0, 10.0);
        assert_eq!(difference(&busy, &calm), Some(Median { value, low, high }));
    }

    #[test]
    fn starts_count_and_not_rounds() {
        let baseline = series(Setup::None, None, &[&[20.0; 3], &[20.0; 3], &[20.0; 3]]);
        let moved = series(Setup::Seen, Some(0), &[&[30.0; 3], &[34.0; 3], &[31.0; 3]]);
        let (value, low, high) = (11.0, 10.0, 14.0);
        assert_eq!(difference(&moved, &baseline), Some(Median { value, low, high }));
    }

    #[test]
    fn modules_are_compared_setup_by_setup() {
        let all = [
            series(Setup::None, None, &[&[20.0]]),
            series(Setup::Seen, Some(0), &[&[30.0]]),
            series(Setup::Seen, Some(1), &[&[33.0]]),
            series(Setup::JwtCache, None, &[&[25.0]]),
        ];
        let lines = lines(&all, &["a.wasm".into(), "b.wasm".into()]).join("\n");
        let lines = lines
            .split(' ')
            .filter(|word| !word.is_empty())
            .collect::<Vec<_>>()
            .join(" ");
        for expected in [
            "seen (B) − seen (A) 3.0 [3.0 … 3.0]",
            "seen (A) − jwt-cache 5.0 [5.0 … 5.0] overhead × 2.00",
            "seen (B) − jwt-cache 8.0 [8.0 … 8.0] overhead × 2.60",
        ] {
            assert!(lines.contains(expected), "{expected}\n\n{lines}");
        }
        assert_eq!(lines.matches(" − ").count(), 3, "{lines}");
    }
}
