//! The table as data: facts, stages and rows, read from `table/*.yaml`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use corpus::answer::Answer;
use serde::Deserialize;
use serde_json::Value;

pub use crate::table::request::Request;
pub(crate) use crate::table::request::{pairs, unescaped};
pub use crate::table::row::{Facts, Look, NoFacts, Program, Row, Step, Wait};
pub use crate::table::stage::{EnvoyOnly, Stage};
use crate::vectors::Vectors;

mod request;
mod row;
mod stage;

/// The stage of rows that name none.
const PLAIN: &str = "plain";

/// Something that was measured, and that rows show.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fact {
    /// Its section and a name: `5-timeout`.
    pub id: String,
    /// The fact in a sentence.
    pub says: String,
    /// Why no row can show it: a measured cost, the format of a file, what needs a machine of its own.
    #[serde(default)]
    pub figure: Option<String>,
}

/// The whole table.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// The register.
    pub facts: Vec<Fact>,
    /// By name.
    pub stages: BTreeMap<String, Stage>,
    /// What peer and upstream answer, by path; 200 with the body `ok` elsewhere.
    pub answers: BTreeMap<String, Answer>,
    /// Bytes by name, for `{ vector: name }` in scripts.
    pub vectors: BTreeMap<String, String>,
    /// In the order of their files.
    pub rows: Vec<Row>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    facts: Vec<Fact>,
    #[serde(default)]
    stages: BTreeMap<String, Stage>,
    #[serde(default)]
    answers: BTreeMap<String, Answer>,
    #[serde(default)]
    vectors: BTreeMap<String, String>,
    #[serde(default)]
    rows: Vec<Row>,
}

/// Where the table is.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("table")
}

impl Table {
    /// Reads every file of a folder.
    ///
    /// # Errors
    /// A file that cannot be read, an id or a name that is there twice, a stage that is not there.
    pub fn load(folder: &Path) -> anyhow::Result<Self> {
        let mut paths: Vec<_> = std::fs::read_dir(folder)?
            .map(|entry| Ok(entry?.path()))
            .collect::<std::io::Result<_>>()?;
        paths.sort();
        let mut table = Self::default();
        for path in paths {
            let text = std::fs::read_to_string(&path)?;
            // As JSON, in which the steps of a row are members and no tags.
            let json: Value = serde_norway::from_str(&text).with_context(|| path.display().to_string())?;
            let file: File = serde_json::from_value(json).with_context(|| path.display().to_string())?;
            table.facts.extend(file.facts);
            table.rows.extend(file.rows);
            table.answers.extend(file.answers);
            table.vectors.extend(file.vectors);
            for (name, stage) in file.stages {
                ensure!(!table.stages.contains_key(&name), "there are two stages `{name}`");
                table.stages.insert(name, stage);
            }
        }
        table.stages.entry(PLAIN.to_owned()).or_default();
        table.check()?;
        let vectors = Vectors::new(&table.vectors)?;
        for row in &mut table.rows {
            row.expand(&vectors).with_context(|| format!("row `{}`", row.id))?;
        }
        Ok(table)
    }

    fn check(&self) -> anyhow::Result<()> {
        for (what, ids) in [
            ("facts", self.facts.iter().map(|fact| &fact.id).collect::<Vec<_>>()),
            ("rows", self.rows.iter().map(|row| &row.id).collect()),
        ] {
            let mut known = BTreeSet::new();
            for id in ids {
                ensure!(known.insert(id), "there are two {what} `{id}`");
            }
        }
        for row in &self.rows {
            ensure!(
                self.stages.contains_key(&row.stage),
                "row `{}`: there is no stage `{}`",
                row.id,
                row.stage
            );
        }
        Ok(())
    }

    /// The stage of a row.
    pub fn stage(&self, row: &Row) -> &Stage {
        &self.stages[&row.stage]
    }

    /// What peer and upstream answer to a request target.
    pub fn answer(&self, target: &str) -> Answer {
        let path = target.split_once('?').map_or(target, |(path, _)| path);
        self.answers.get(path).cloned().unwrap_or_else(otherwise)
    }

    /// The rows that show a fact.
    pub fn rows_of<'a>(&'a self, fact: &'a Fact) -> impl Iterator<Item = &'a Row> {
        self.rows.iter().filter(|row| row.facts.ids().contains(&fact.id))
    }

    /// What is wrong between register and rows: facts that no row shows and that are no figures, and
    /// rows that name what is no fact.
    pub fn gaps(&self) -> Vec<String> {
        let unshown = self
            .facts
            .iter()
            .filter(|fact| fact.figure.is_none() && self.rows_of(fact).next().is_none())
            .map(|fact| format!("no row shows the fact `{}`: {}", fact.id, fact.says));
        let known: BTreeSet<_> = self.facts.iter().map(|fact| &fact.id).collect();
        let unknown = self.rows.iter().flat_map(|row| {
            let ids = row.facts.ids().iter().filter(|id| !known.contains(id));
            ids.map(|id| format!("row `{}` shows `{id}`, which is no fact", row.id))
        });
        let empty = self
            .rows
            .iter()
            .filter(|row| matches!(&row.facts, Facts::Known(ids) if ids.is_empty()))
            .map(|row| format!("row `{}` shows no fact and does not say so", row.id));
        let silent = self
            .rows
            .iter()
            .filter(|row| row.see.is_empty())
            .map(|row| format!("row `{}` does not say what must be seen", row.id));
        unshown.chain(unknown).chain(empty).chain(silent).collect()
    }
}

/// What is answered on paths that nobody described.
pub(crate) fn otherwise() -> Answer {
    Answer {
        body: Some("ok".into()),
        ..Answer::default()
    }
}
