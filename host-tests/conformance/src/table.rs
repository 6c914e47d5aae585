//! The table as data: facts, stages and rows, read from `table/*.yaml`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use corpus::answer::Answer;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::vectors::Vectors;

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

/// Where a row is played: how the plugin is loaded, and what stands around it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Stage {
    /// Worker threads.
    pub workers: u32,
    /// Whether a VM is to be used by one row only: because it dies, or is loaded in another way.
    pub own_vm: bool,
    /// `allow_on_headers_stop_iteration`.
    pub allow_on_headers_stop_iteration: bool,
    /// What becomes of a dead VM, in Envoy's words: `FAIL_CLOSED`, `FAIL_RELOAD` or `FAIL_OPEN`.
    pub failure_policy: Option<String>,
    /// The least time between two loads of a VM, in milliseconds.
    pub reload_backoff_ms: u64,
    /// Environment variables of the VM.
    pub environment: BTreeMap<String, String>,
    /// The VM configuration.
    pub vm_configuration: Option<String>,
    /// Hostcalls that the plugin may not make.
    pub restricted: BTreeSet<String>,
    /// The metadata of the route.
    pub route_metadata: Option<Value>,
    /// The largest body that is buffered, in bytes.
    pub buffer_limit: Option<u32>,
    /// How many redirects the router follows.
    pub internal_redirects: u32,
    /// How long what is old stays after an update, in seconds.
    pub drain_seconds: u64,
    /// Changes that only the real Envoy can be given.
    pub envoy: EnvoyOnly,
}

impl Default for Stage {
    fn default() -> Self {
        Self {
            workers: 1,
            own_vm: false,
            allow_on_headers_stop_iteration: false,
            failure_policy: None,
            reload_backoff_ms: 1_000,
            environment: BTreeMap::new(),
            vm_configuration: None,
            restricted: BTreeSet::new(),
            route_metadata: None,
            buffer_limit: None,
            internal_redirects: 0,
            drain_seconds: 600,
            envoy: EnvoyOnly::default(),
        }
    }
}

/// RFC 7396 patches of parts of a bootstrap, and filters around the plugin.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EnvoyOnly {
    /// Of the `PluginConfig`.
    pub plugin: Value,
    /// Of the HTTP connection manager.
    pub hcm: Value,
    /// Of the listener.
    pub listener: Value,
    /// Of the one route; in a list, other routes come before it.
    pub route: Value,
    /// Routes before the one that takes everything.
    pub routes: Vec<Value>,
    /// Filters in front of the plugin.
    pub before: Vec<Value>,
    /// Filters behind it.
    pub behind: Vec<Value>,
    /// What the access log has of each request, as a format of Envoy.
    pub access_log: Option<String>,
    /// The plugin is there but disabled.
    pub disabled: bool,
    /// The plugin runs once more, as a service of its own on the main thread.
    pub singleton: bool,
    /// Of the whole bootstrap. Such a row has a process of its own.
    pub root: Value,
}

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

/// A request of a client. In values `\xNN` is a byte.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Request {
    /// The method.
    pub method: String,
    /// The request target.
    pub path: String,
    /// Field lines.
    pub headers: Vec<(String, Value)>,
    /// Further field lines `x-many-N`, so many.
    pub many: u32,
    /// The body.
    pub body: Option<Value>,
    /// Trailers.
    pub trailers: Vec<(String, Value)>,
    /// The worker, or the connection that is kept to one: rows with two workers only.
    pub on: Option<usize>,
    /// A script of its own.
    pub probe: Option<Program>,
    /// Without any script: what the root context says is done.
    pub bare: bool,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            method: "GET".to_owned(),
            path: "/".to_owned(),
            headers: Vec::new(),
            many: 0,
            body: None,
            trailers: Vec::new(),
            on: None,
            probe: None,
            bare: false,
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
    "plain".to_owned()
}

fn one_request() -> Vec<Step> {
    vec![Step::Request(Request::default())]
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
        table.stages.entry(plain()).or_default();
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

impl Row {
    /// Puts bytes in the places of what stands for them.
    fn expand(&mut self, vectors: &Vectors<'_>) -> anyhow::Result<()> {
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

/// Bytes of a text in which `\xNN` is a byte.
pub(crate) fn unescaped(text: &str) -> Vec<u8> {
    let mut parts = text.split("\\x");
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let byte = part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.expect("two hexadecimal digits behind \\x"));
        bytes.extend(part.get(2..).unwrap_or_default().as_bytes());
    }
    bytes
}

impl Request {
    /// Field lines besides the pseudo headers, those of the table's own in front.
    pub(crate) fn lines(&self, row: &Row) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut lines = vec![(b"x-row".to_vec(), row.id.clone().into_bytes())];
        lines.extend(
            row.script_of(self)
                .map(|script| (b"x-probe".to_vec(), script.into_bytes())),
        );
        lines.extend(pairs(&self.headers));
        lines.extend((0..self.many).map(|number| (format!("x-many-{number}").into_bytes(), b"1".to_vec())));
        lines
    }

    /// The body.
    pub(crate) fn body_bytes(&self) -> Vec<u8> {
        self.body.as_ref().map(bytes).unwrap_or_default()
    }
}

/// The bytes of a text in which `\xNN` is a byte, or of `{ repeat, times }`.
fn bytes(value: &Value) -> Vec<u8> {
    match value {
        Value::String(text) => unescaped(text),
        Value::Object(one) => {
            let times = one.get("times").and_then(Value::as_u64).unwrap_or_default();
            let text = one.get("repeat").and_then(Value::as_str).unwrap_or_default();
            text.as_bytes().repeat(usize::try_from(times).unwrap_or_default())
        }
        _ => Vec::new(),
    }
}

pub(crate) fn pairs(list: &[(String, Value)]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let pairs = list.iter();
    pairs
        .map(|(name, value)| (name.clone().into_bytes(), bytes(value)))
        .collect()
}
