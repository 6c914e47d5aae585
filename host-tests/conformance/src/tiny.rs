//! Rows on the tiny Envoy.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use corpus::answer::{Answer, Fault};
use tiny_envoy::{Builder, FailurePolicy, HeaderMap, PeerRequest, RequestBuilder, StreamId, TinyEnvoy};

use crate::lines::{Message, Seen, logged};
use crate::table::{Request, Row, Step, Table, pairs, unescaped};

/// How long a row goes on in virtual time when nothing ends it.
const LONG: Duration = Duration::from_secs(2);

/// How long ago the VMs were loaded when the first request comes.
const START: Duration = Duration::from_secs(1);

/// In what steps time passes while something is waited for.
const MOMENT: Duration = Duration::from_millis(5);

/// Plays a row with this module.
///
/// # Errors
/// When a step cannot be done, or what is waited for does not come.
pub fn play(table: &Arc<Table>, row: &Row, module: &Path) -> anyhow::Result<Seen> {
    let started = builder(table, row, module)?.start();
    if row.is_start() {
        let how = if started.is_ok() { "accepted" } else { "refused" };
        return Ok(Seen(vec![format!("start {how}")]));
    }
    let mut stage = Playing {
        row,
        envoy: started?,
        streams: Vec::new(),
    };
    // What the start set going has happened when the first request comes.
    stage.envoy.advance(START);
    for step in &row.steps {
        stage.step(step).with_context(|| format!("{step:?}"))?;
    }
    stage.envoy.advance(LONG);
    Ok(stage.seen())
}

fn builder(table: &Arc<Table>, row: &Row, module: &Path) -> anyhow::Result<Builder> {
    let stage = table.stage(row);
    let workers = usize::try_from(stage.workers)?;
    let mut builder = TinyEnvoy::builder()
        .wasm(module)
        .config(row.configuration())
        .vm_id("conformance")
        .workers(workers)
        .allow_on_headers_stop_iteration(stage.allow_on_headers_stop_iteration)
        .internal_redirects(stage.internal_redirects)
        .drain_time(Duration::from_secs(stage.drain_seconds))
        .upstream(answering(table))
        .cluster("peer", answering(table))
        .cluster("refused", |_: &PeerRequest| tiny_envoy::Answer::close_before_headers())
        .cluster("empty", |_: &PeerRequest| tiny_envoy::Answer::no_endpoints());
    builder = match stage.failure_policy.as_deref() {
        None | Some("FAIL_CLOSED") => builder.failure_policy(FailurePolicy::Closed),
        Some("FAIL_RELOAD") => {
            builder.failure_policy(FailurePolicy::Reload(Duration::from_millis(stage.reload_backoff_ms)))
        }
        Some("FAIL_OPEN") => builder.failure_policy(FailurePolicy::Open),
        Some(other) => bail!("the tiny Envoy has no policy {other}"),
    };
    for (name, value) in &stage.environment {
        builder = builder.env(name, value);
    }
    for name in &stage.restricted {
        builder = builder.restrict_capability(name);
    }
    if let Some(text) = &stage.vm_configuration {
        builder = builder.vm_config(text.as_bytes());
    }
    if let Some(metadata) = &stage.route_metadata {
        builder = builder.route_metadata(metadata);
    }
    if let Some(limit) = stage.buffer_limit {
        builder = builder.buffer_limit(usize::try_from(limit)?);
    }
    Ok(builder)
}

fn answering(table: &Arc<Table>) -> impl FnMut(&PeerRequest) -> tiny_envoy::Answer + Send + 'static {
    let table = Arc::clone(table);
    move |request: &PeerRequest| scripted(&table.answer(&request.path()))
}

/// An answer of the table in the words of the tiny Envoy.
fn scripted(answer: &Answer) -> tiny_envoy::Answer {
    let mut scripted = tiny_envoy::Answer::json(answer.status(), answer.body_bytes());
    for (name, value) in &answer.headers {
        scripted = scripted.header(name, value);
    }
    for (name, value) in &answer.trailers {
        scripted = scripted.trailer(name, value);
    }
    let scripted = match answer.fault {
        None => scripted,
        Some(Fault::ResetMidBody) => scripted.reset_mid_body(),
        Some(Fault::CloseBeforeHeaders) => tiny_envoy::Answer::close_before_headers(),
        Some(Fault::Silence) => tiny_envoy::Answer::silence(),
    };
    scripted.after(Duration::from_millis(answer.delay_ms))
}

struct Playing<'a> {
    row: &'a Row,
    envoy: TinyEnvoy,
    streams: Vec<StreamId>,
}

impl Playing<'_> {
    fn step(&mut self, step: &Step) -> anyhow::Result<()> {
        match step {
            Step::Request(request) => {
                let (lines, body) = (request.lines(self.row), request.body_bytes());
                let mut sending = sending(&mut self.envoy, request, lines).body(body);
                for (name, value) in pairs(&request.trailers) {
                    sending = sending.trailer(name, value);
                }
                let stream = sending.send();
                self.streams.push(stream);
                self.envoy.settle();
            }
            Step::Open(request) => {
                let lines = request.lines(self.row);
                let stream = sending(&mut self.envoy, request, lines).open();
                self.streams.push(stream);
                self.envoy.settle();
            }
            Step::Send(text) => {
                let stream = self.last()?;
                self.envoy.send_body(stream, unescaped(text));
                self.envoy.settle();
            }
            Step::End => {
                let stream = self.last()?;
                self.envoy.end(stream);
            }
            Step::Trailers(trailers) => {
                let stream = self.last()?;
                let trailers = pairs(trailers);
                let trailers: Vec<_> = trailers
                    .iter()
                    .map(|(name, value)| Ok((std::str::from_utf8(name)?, value.as_slice())))
                    .collect::<anyhow::Result<_>>()?;
                self.envoy.send_trailers(stream, &trailers);
            }
            Step::Leave => {
                let stream = self.last()?;
                self.envoy.disconnect(stream);
            }
            Step::Wait(wait) => {
                let (line, times) = wait.line();
                self.until(|playing| playing.logged().iter().filter(|found| *found == line).count() >= times)?;
            }
            Step::Answered => {
                let stream = self.last()?;
                self.until(|playing| playing.envoy.is_finished(stream))?;
            }
            Step::Update(root) => self.envoy.update(self.row.updated(root).configuration())?,
            Step::Refused(root) => {
                let update = self.envoy.update(self.row.updated(root).configuration());
                ensure!(update.is_err(), "it is taken");
            }
            Step::Start => {}
        }
        Ok(())
    }

    fn last(&self) -> anyhow::Result<StreamId> {
        self.streams.last().copied().context("there is no stream")
    }

    fn until(&mut self, is_so: impl Fn(&Self) -> bool) -> anyhow::Result<()> {
        self.envoy.settle();
        let end = self.envoy.elapsed() + LONG;
        while !is_so(self) {
            ensure!(self.envoy.elapsed() < end, "it has not come; so far {:#?}", self.seen());
            self.envoy.advance(MOMENT);
        }
        Ok(())
    }

    fn logged(&self) -> Vec<String> {
        let logs = self.envoy.logs();
        let lines = logs.iter().filter_map(|line| logged(self.row, &line.message));
        lines.map(str::to_owned).collect()
    }

    fn seen(&self) -> Seen {
        let look = &self.row.look;
        let mut lines = self.logged();
        if let Some(names) = &look.upstream {
            let seen = self
                .streams
                .iter()
                .filter_map(|stream| self.envoy.upstream_saw(*stream));
            let messages: Vec<_> = seen.map(received).collect();
            lines.extend(crate::lines_of("upstream", &messages, names));
        }
        if let Some(names) = &look.peer {
            let callouts = self.envoy.callouts().into_iter();
            let messages: Vec<_> = callouts.map(|callout| received(callout.request)).collect();
            lines.extend(crate::lines_of("peer", &messages, names));
        }
        if let Some(names) = &look.response {
            for stream in &self.streams {
                let response = self.envoy.response(*stream);
                lines.extend(match response {
                    Some(response) if self.envoy.is_answered(*stream) => Message {
                        headers: fields(&response.headers),
                        body: response.body,
                        trailers: fields(&response.trailers),
                    }
                    .lines("response", names),
                    _ if self.envoy.is_finished(*stream) => vec!["response closed".to_owned()],
                    _ => vec!["response none".to_owned()],
                });
            }
        }
        for name in &look.stats {
            let value = self.envoy.metric(name);
            let shown = value.map_or_else(|| "none".to_owned(), |value| value.to_string());
            lines.push(format!("stat {name} = {shown}"));
        }
        Seen(lines)
    }
}

fn sending<'a>(envoy: &'a mut TinyEnvoy, request: &Request, lines: Vec<(Vec<u8>, Vec<u8>)>) -> RequestBuilder<'a> {
    let mut sending = envoy
        .request(&request.method, &request.path)
        .worker(request.on.unwrap_or_default());
    for (name, value) in lines {
        sending = sending.header(name, value);
    }
    sending
}

fn received(request: PeerRequest) -> Message {
    Message {
        headers: fields(&request.headers),
        body: request.body,
        trailers: fields(&request.trailers),
    }
}

fn fields(map: &HeaderMap) -> Vec<(Vec<u8>, Vec<u8>)> {
    map.iter()
        .map(|(name, value)| (name.to_vec(), value.to_vec()))
        .collect()
}
