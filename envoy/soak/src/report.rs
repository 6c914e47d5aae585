//! What came of a run, for people and for machines.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::director::{Fault, Log};
use crate::memory::{MAX_GROWTH, Sample, Trend};
use crate::plot;
use crate::run::Options;
use crate::tally::{Class, Latency, Tally};
use crate::world::WORKERS;

const MIB: f64 = 1_048_576.0;

/// Whether a run was good.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// Answers that the rules do not allow.
    pub wrong: u64,
    /// Requests without an answer.
    pub hung: u64,
    /// What else has gone wrong, in words: traps, requests that should not have arrived, lookups without proof.
    pub faults: Vec<String>,
    /// Some of all these, in words.
    pub examples: Vec<String>,
    /// Whether memory was flat; `None`: the run was too short to say.
    pub flat: Option<bool>,
}

impl Outcome {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.wrong == 0 && self.hung == 0 && self.faults.is_empty() && self.flat != Some(false)
    }
}

/// See the [module](self).
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// What chance came from.
    pub seed: u64,
    /// How long the clients worked, in seconds.
    pub seconds: f64,
    /// How many there were.
    pub clients: usize,
    /// Whether it was good.
    pub outcome: Outcome,
    /// Requests that were answered.
    pub answered: u64,
    /// Those per second.
    pub per_second: f64,
    /// Requests that reached the upstream.
    pub arrived: u64,
    /// Clients that left before the end of their request.
    pub left: u64,
    /// Requests whose connection broke instead of an answer; where that was not for the better it is among the wrong ones.
    pub broken: u64,
    /// Streams that the filter has ended.
    pub cut: u64,
    /// Answers by status and code.
    pub decisions: BTreeMap<String, u64>,
    /// How long they took, in milliseconds.
    pub latency_ms: BTreeMap<Class, Latency>,
    /// Faults of the Tenant Manager.
    pub troubles: Vec<Fault>,
    /// Seconds in which lookups failed by themselves.
    pub unplanned: u64,
    /// Tenant events sent, all of them acknowledged.
    pub events: u64,
    /// How often the keys have turned.
    pub turns: u64,
    /// How memory went.
    pub memory: Option<Trend>,
    /// Second by second.
    pub samples: Vec<Sample>,
}

impl Report {
    pub(crate) fn new(
        options: &Options,
        (started, ended): (Instant, Instant),
        tally: Tally,
        log: Log,
        arrived: u64,
    ) -> Self {
        let seconds = (ended - started).as_secs_f64();
        let answered = tally.decisions.values().sum();
        let memory = Trend::of(&log.samples);
        Self {
            seed: options.seed,
            seconds,
            clients: options.clients,
            answered,
            per_second: answered as f64 / seconds,
            arrived,
            left: tally.left,
            broken: tally.broken,
            cut: log.cut,
            latency_ms: tally.latencies(),
            decisions: tally.decisions,
            outcome: Outcome {
                wrong: tally.wrong,
                hung: tally.hung,
                faults: log.wrong,
                examples: tally.examples,
                flat: memory.and_then(|trend| trend.is_flat()),
            },
            troubles: log.faults,
            unplanned: log.unplanned,
            events: log.events,
            turns: log.turns,
            memory,
            samples: log.samples,
        }
    }

    /// Writes `report.md`, `report.json`, `memory.svg` and `traffic.svg` into a folder.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write(&self, into: &Path) -> Result<()> {
        std::fs::create_dir_all(into).with_context(|| format!("{} cannot be made", into.display()))?;
        std::fs::write(into.join("report.md"), self.markdown())?;
        std::fs::write(into.join("report.json"), serde_json::to_vec_pretty(self)?)?;
        std::fs::write(into.join("memory.svg"), plot::memory(self)?)?;
        std::fs::write(into.join("traffic.svg"), plot::traffic(self)?)?;
        Ok(())
    }

    /// The report for people.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        // Writing into a text cannot fail.
        let _ = self.write_markdown(&mut text);
        text
    }

    fn write_markdown(&self, text: &mut String) -> std::fmt::Result {
        let Outcome {
            wrong,
            hung,
            faults,
            examples,
            flat,
        } = &self.outcome;
        let verdict = if self.outcome.is_good() { "good" } else { "NOT GOOD" };
        writeln!(text, "# Soak: {verdict}\n")?;
        writeln!(
            text,
            "{:.0} s, {WORKERS} workers, {} clients, seed {}\n",
            self.seconds, self.clients, self.seed
        )?;
        writeln!(text, "| what | how many |\n|---|---|")?;
        for (what, count) in [
            ("wrong decisions", *wrong),
            ("requests without an answer", *hung),
            ("other faults", faults.len() as u64),
            ("requests answered", self.answered),
            ("requests that reached the upstream", self.arrived),
            ("clients that left early", self.left),
            ("connections that broke without an answer", self.broken),
            ("streams that the filter has cut", self.cut),
            ("faults of the Tenant Manager", self.troubles.len() as u64),
            ("seconds of unplanned failures of lookups", self.unplanned),
            ("tenant events acknowledged", self.events),
            ("turns of keys", self.turns),
        ] {
            writeln!(text, "| {what} | {count} |")?;
        }
        writeln!(text, "\n{:.0} requests per second.\n", self.per_second)?;
        if let Some(memory) = &self.memory {
            let said = match flat {
                Some(true) => "flat",
                Some(false) => "NOT flat",
                None => "too short to say",
            };
            writeln!(
                text,
                "Resident memory from second {:.0} on: mean {:.1} MiB, slope {:+.2} KiB/s, growth {:+.2} % (at most {:.0} %): {said}.\n",
                memory.from,
                memory.mean / MIB,
                memory.slope / 1_024.0,
                memory.growth() * 100.0,
                MAX_GROWTH * 100.0
            )?;
            writeln!(text, "![memory](memory.svg)\n\n![traffic](traffic.svg)\n")?;
        }
        writeln!(
            text,
            "| answers | count | p50 ms | p90 | p99 | p99.9 | max |\n|---|---|---|---|---|---|---|"
        )?;
        for (
            class,
            Latency {
                count,
                p50,
                p90,
                p99,
                p999,
                max,
            },
        ) in &self.latency_ms
        {
            writeln!(
                text,
                "| {class:?} | {count} | {p50:.2} | {p90:.2} | {p99:.2} | {p999:.2} | {max:.1} |"
            )?;
        }
        writeln!(text, "\n| decision | count |\n|---|---|")?;
        for (decision, count) in &self.decisions {
            writeln!(text, "| {decision} | {count} |")?;
        }
        writeln!(text, "\n| fault | from s | to s |\n|---|---|---|")?;
        for Fault { trouble, from, to } in &self.troubles {
            writeln!(text, "| {trouble} | {from:.1} | {to:.1} |")?;
        }
        for fault in faults.iter().chain(examples) {
            writeln!(text, "\n* {fault}")?;
        }
        Ok(())
    }
}
