//! The table as it was played, side by side.

use std::fmt::Write as _;

use crate::lines::Seen;
use crate::table::{Row, Table};

/// What came of a row on one host.
#[derive(Debug, Clone)]
pub enum Side {
    /// It was played.
    Seen(Seen),
    /// It could not be played to its end.
    Failed(String),
    /// It is not played there.
    Left,
}

/// What came of a row.
#[derive(Debug, Clone)]
pub struct Played {
    /// On the tiny Envoy.
    pub tiny: Side,
    /// On the real one.
    pub envoy: Side,
}

impl Side {
    /// In a word: whether it is what the row says.
    pub fn word(&self, row: &Row) -> &'static str {
        match self {
            Self::Seen(seen) if seen.is_expected(row) => "as said",
            Self::Seen(_) => "otherwise",
            Self::Failed(_) => "failed",
            Self::Left => "not modelled",
        }
    }

    fn is_good(&self, row: &Row) -> bool {
        matches!(self, Self::Left) || self.word(row) == "as said"
    }

    fn lines(&self, row: &Row) -> Option<Vec<String>> {
        match self {
            Self::Seen(seen) => Some(seen.in_order(row).0),
            Self::Failed(why) => Some(why.lines().map(str::to_owned).collect()),
            Self::Left => None,
        }
    }
}

impl Played {
    /// Whether both hosts did what the row says.
    pub fn is_good(&self, row: &Row) -> bool {
        self.tiny.is_good(row) && self.envoy.is_good(row)
    }

    /// What differs, in full; empty when nothing does.
    pub fn difference(&self, row: &Row) -> String {
        if self.is_good(row) {
            return String::new();
        }
        let mut text = format!("{}\n", row.says);
        let said = Seen(row.see.clone()).in_order(row).0;
        let sides = [("tiny", self.tiny.lines(row)), ("envoy", self.envoy.lines(row))];
        list(&mut text, "said", &said, &said);
        for (name, lines) in sides {
            list(&mut text, name, &lines.unwrap_or_default(), &said);
        }
        text
    }
}

fn list(text: &mut String, name: &str, lines: &[String], said: &[String]) {
    let _infallible = writeln!(text, "  {name}:");
    for line in lines {
        let mark = if said.contains(line) { ' ' } else { '!' };
        let _infallible = writeln!(text, "  {mark} {line}");
    }
}

/// The played rows as a table in Markdown, then the register with the rows of each fact.
pub fn markdown(table: &Table, played: &[(&Row, Played)]) -> String {
    let good = played.iter().filter(|(row, played)| played.is_good(row)).count();
    let both = played.iter().filter(|(row, _)| row.only_envoy.is_none()).count();
    let mut text = format!(
        "# Conformance\n\n{} rows, {good} as said; {both} on both hosts, {} on the real Envoy only. {} facts, {} of them figures.\n\n\
         | row | what | tiny | envoy | verdict |\n|---|---|---|---|---|\n",
        played.len(),
        played.len() - both,
        table.facts.len(),
        table.facts.iter().filter(|fact| fact.figure.is_some()).count(),
    );
    for (row, played) in played {
        let verdict = if played.is_good(row) { "ok" } else { "DIFFERS" };
        let tiny = row.only_envoy.as_ref().map_or_else(
            || played.tiny.word(row).to_owned(),
            |why| format!("not modelled: {why}"),
        );
        let _infallible = writeln!(
            text,
            "| `{}` | {} | {} | {} | {verdict} |",
            row.id,
            cell(&row.says),
            cell(&tiny),
            played.envoy.word(row)
        );
    }
    text += "\n## Facts\n\n| fact | what | rows |\n|---|---|---|\n";
    for fact in &table.facts {
        let rows: Vec<_> = table.rows_of(fact).map(|row| format!("`{}`", row.id)).collect();
        let figure = fact.figure.as_ref().map(|why| format!("figure: {why}"));
        let shown = rows.into_iter().chain(figure).collect::<Vec<_>>().join(", ");
        let _infallible = writeln!(text, "| `{}` | {} | {} |", fact.id, cell(&fact.says), cell(&shown));
    }
    text
}

/// The played rows for a terminal.
pub fn plain(played: &[(&Row, Played)]) -> String {
    let width = played.iter().map(|(row, _)| row.id.len()).max().unwrap_or_default();
    let says = played
        .iter()
        .map(|(row, _)| row.says.chars().count().min(90))
        .max()
        .unwrap_or_default();
    let mut text = String::new();
    for (row, played) in played {
        let sentence: String = row.says.chars().take(90).collect();
        let verdict = if played.is_good(row) { "ok" } else { "DIFFERS" };
        let _infallible = writeln!(
            text,
            "{:width$}  {sentence:says$}  {:12}  {:9}  {verdict}",
            row.id,
            played.tiny.word(row),
            played.envoy.word(row)
        );
    }
    text
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
