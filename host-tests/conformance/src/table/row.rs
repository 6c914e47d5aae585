//! What a row says: the scripts of the probe, the steps around it, and what must be seen.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::table::PLAIN;
use crate::table::request::Request;
use crate::vectors::Vectors;

/// A script's operations by callback.
pub type Program = BTreeMap<String, Vec<Value>>;

/// One behaviour of a host.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Its name, unique in the table.
    pub id: String,
    /// The facts that it shows; `none` when it was found here.
    pub facts: Facts,
    /// The behaviour in a sentence.
    pub says: String,
    /// Why only the real Envoy plays it.
    #[serde(default)]
    pub only_envoy: Option<String>,
    /// The name of its stage.
    #[serde(default = "plain")]
    pub stage: String,
    /// The script of the root context.
    #[serde(default)]
    pub root: Option<Program>,
    /// The script of its requests.
    #[serde(default)]
    pub probe: Program,
    /// What happens, a `GET` of `/` when nothing is said.
    #[serde(default = "one_request")]
    pub steps: Vec<Step>,
    /// What is looked at besides what the probe logs.
    #[serde(default)]
    pub look: Look,
    /// Whether the order of lines is left open: where threads write them.
    #[serde(default)]
    pub unordered: bool,
    /// What must be seen, line by line.
    pub see: Vec<String>,
}

/// The facts that a row shows.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Facts {
    /// By id.
    Known(Vec<String>),
    /// In the word `none`.
    None(NoFacts),
}

/// The word `none`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoFacts {
    /// The row was found by asking.
    None,
}

impl Facts {
    /// The ids.
    pub fn ids(&self) -> &[String] {
        match self {
            Self::Known(ids) => ids,
            Self::None(NoFacts::None) => &[],
        }
    }
}

/// What happens to the host from outside.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Step {
    /// A whole request.
    Request(Request),
    /// The head of a request whose body is still to come.
    Open(Request),
    /// A piece of the body of the stream that was opened last.
    Send(String),
    /// Its end, without trailers.
    End,
    /// Its end by trailers.
    Trailers(Vec<(String, Value)>),
    /// The client of the last request leaves.
    Leave,
    /// The probe has logged this line, so many times.
    Wait(Wait),
    /// The client of the last request has its response.
    Answered,
    /// The plugin is given another configuration, with this script for the root context, and takes it.
    Update(Program),
    /// The same, and it is refused: everything stays as it was.
    Refused(Program),
    /// The plugin is loaded, and nothing else is looked at but whether the host takes it.
    Start,
}

/// See [`Step::Wait`].
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Wait {
    /// Once.
    Line(String),
    /// So many times.
    Times(String, usize),
}

impl Wait {
    pub(crate) fn line(&self) -> (&str, usize) {
        match self {
            Self::Line(line) => (line, 1),
            Self::Times(line, times) => (line, *times),
        }
    }
}

/// What is looked at, by the names of headers; `body`, `trailer x` and, of responses, `:status` are such
/// names too.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Look {
    /// Of each request that came to the upstream.
    pub upstream: Option<Vec<String>>,
    /// Of each callout that came to the peer.
    pub peer: Option<Vec<String>>,
    /// Of each response; whether there is one.
    pub response: Option<Vec<String>>,
    /// Counters and gauges of the plugin.
    pub stats: Vec<String>,
    /// Stats of the real Envoy itself.
    pub envoy_stats: Vec<String>,
    /// Lines of the real Envoy's access log.
    pub access_log: bool,
    /// Texts that a line of the real Envoy's own log has.
    pub log: Vec<String>,
}

fn plain() -> String {
    PLAIN.to_owned()
}

fn one_request() -> Vec<Step> {
    vec![Step::Request(Request::default())]
}

impl Row {
    /// Puts bytes in the places of what stands for them.
    pub(super) fn expand(&mut self, vectors: &Vectors<'_>) -> anyhow::Result<()> {
        let steps = self.steps.iter_mut().filter_map(|step| match step {
            Step::Request(request) | Step::Open(request) => request.probe.as_mut(),
            Step::Update(program) | Step::Refused(program) => Some(program),
            _ => None,
        });
        let programs = self.root.iter_mut().chain([&mut self.probe]).chain(steps);
        for operation in programs.flat_map(BTreeMap::values_mut).flatten() {
            vectors.expand(operation)?;
        }
        Ok(())
    }

    /// The plugin configuration.
    pub fn configuration(&self) -> String {
        self.root.as_ref().map_or_else(String::new, |root| self.script(root))
    }

    /// The script of a request, none for a bare one.
    pub fn script_of(&self, request: &Request) -> Option<String> {
        let program = request.probe.as_ref().unwrap_or(&self.probe);
        (!request.bare).then(|| self.script(program))
    }

    fn script(&self, program: &Program) -> String {
        json!({ "row": self.id, "on": program }).to_string()
    }

    /// The row with another script for the root context.
    #[must_use]
    pub fn updated(&self, root: &Program) -> Self {
        Self {
            root: Some(root.clone()),
            ..self.clone()
        }
    }

    /// Whether the plugin is given another configuration on the way.
    pub fn has_updates(&self) -> bool {
        let is_update = |step: &Step| matches!(step, Step::Update(_) | Step::Refused(_));
        self.steps.iter().any(is_update)
    }

    /// Whether the row is about loading the plugin only.
    pub fn is_start(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Start))
    }
}
