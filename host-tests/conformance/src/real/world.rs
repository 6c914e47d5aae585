//! One process, and the rows that are played on it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use corpus::answer::Answer;
use envoy_run::{By, Envoy, Options, Recorded, Scripted};
use tokio::time::{Instant, sleep};

use crate::lines::{Message, Seen, logged};
use crate::real::bootstrap::{Peers, listener_of};
use crate::real::client::Client;
use crate::real::listeners::Listeners;
use crate::table::{Row, Step, Table, otherwise};

/// How long what a row says may take to be seen.
const SOON: Duration = Duration::from_secs(20);

/// How often it is looked at.
const POLL: Duration = Duration::from_millis(25);

const LONGEST_POLL: Duration = Duration::from_millis(200);

/// How long nothing more must come where a row says that something does not come.
const QUIET: Duration = Duration::from_millis(100);

/// How many lines of the log an error shows.
const LAST_LINES: usize = 20;

/// A server that answers by path what the table says, 200 elsewhere.
#[derive(Debug)]
pub(super) struct Anything;

impl By for Anything {
    fn name(target: &str) -> Option<&str> {
        Some(target.split_once('?').map_or(target, |(path, _)| path))
    }

    fn otherwise() -> Answer {
        otherwise()
    }
}

#[derive(Debug)]
pub(super) struct World {
    envoy: Envoy,
    upstream: Scripted<Anything>,
    peer: Scripted<Anything>,
    listeners: Listeners,
}

impl World {
    /// Starts Envoy with a listener for each of the rows' stages.
    pub(super) async fn start(table: &Table, module: &Path, rows: Vec<&Row>) -> anyhow::Result<Self> {
        let answers: BTreeMap<_, _> = table.answers.clone();
        let upstream = Scripted::start(answers.clone()).await?;
        let peer = Scripted::start(answers).await?;
        let peers = Peers {
            upstream: upstream.address(),
            peer: peer.address(),
            refused: closed_port()?,
        };
        // Those of all rows are alike.
        let (concurrency, drain_seconds) = rows.first().map_or((1, 0), |row| {
            let stage = table.stage(row);
            (stage.workers, stage.drain_seconds)
        });
        let (listeners, bootstrap) = Listeners::of(table, module, rows, peers)?;
        let options = Options {
            concurrency,
            drain_time: Duration::from_secs(drain_seconds),
            ..Options::new(bootstrap)
        };
        Ok(Self {
            envoy: Envoy::start(options).await?,
            upstream,
            peer,
            listeners,
        })
    }

    /// Plays one row.
    pub(super) async fn play(&self, table: &Table, row: &Row) -> anyhow::Result<Seen> {
        let seen = self.play_steps(table, row).await;
        seen.with_context(|| {
            let log = self.envoy.logs().lines();
            log[log.len().saturating_sub(LAST_LINES)..].join("\n")
        })
    }

    async fn play_steps(&self, table: &Table, row: &Row) -> anyhow::Result<Seen> {
        let name = listener_of(table, row);
        let address = self.envoy.listener(&name).context("its listener is not there")?;
        // The script of a root context has its say from the start on.
        let is_whole = row.root.is_some() || table.stage(row).own_vm;
        let mark = if is_whole { 0 } else { self.envoy.logs().mark() };
        let mut client = Client::new(address, mark);
        for step in &row.steps {
            self.step(&mut client, table, row, step)
                .await
                .with_context(|| format!("{step:?}"))?;
        }
        client.read_all();
        // A row that does not say yet what must be seen is being written.
        let is_said = |seen: &Seen| !row.see.is_empty() && seen.is_expected(row);
        let deadline = Instant::now()
            + if row.see.is_empty() {
                Duration::from_secs(1)
            } else {
                SOON
            };
        let mut seen = self.seen(&client, row).await?;
        let mut pause = POLL;
        while !is_said(&seen) && Instant::now() < deadline {
            sleep(pause).await;
            // Looking is not for nothing, and what takes long takes longer.
            pause = (pause * 2).min(LONGEST_POLL);
            seen = self.seen(&client, row).await?;
        }
        if seen.0.iter().any(|line| line.ends_with(" none")) {
            sleep(QUIET).await;
        }
        // What comes only after it looked complete is part of what was seen.
        self.seen(&client, row).await
    }

    async fn step(&self, client: &mut Client, table: &Table, row: &Row, step: &Step) -> anyhow::Result<()> {
        match step {
            Step::Request(request) => client.request(row, request).await,
            Step::Open(request) => client.open(row, request).await,
            Step::Send(text) => client.send(text).await,
            Step::End => client.end(&[]).await,
            Step::Trailers(trailers) => client.end(trailers).await,
            Step::Leave => client.leave(),
            Step::Wait(wait) => {
                let (line, times) = wait.line();
                let deadline = Instant::now() + SOON;
                loop {
                    let logged = self.logged(row, client.mark()).await?;
                    if logged.iter().filter(|found| *found == line).count() >= times {
                        return Ok(());
                    }
                    ensure!(Instant::now() < deadline, "it has not come; so far {logged:#?}");
                    sleep(POLL).await;
                }
            }
            Step::Answered => client.answered(SOON).await,
            Step::Update(root) => {
                let is_taken = self.listeners.update(&self.envoy, table, &row.updated(root)).await?;
                ensure!(is_taken, "it is refused");
                Ok(())
            }
            Step::Refused(root) => {
                let is_taken = self.listeners.update(&self.envoy, table, &row.updated(root)).await?;
                ensure!(!is_taken, "it is taken");
                Ok(())
            }
            Step::Start => Ok(()),
        }
    }

    async fn logged(&self, row: &Row, mark: usize) -> anyhow::Result<Vec<String>> {
        let lines = self.envoy.logged_since(mark).await?;
        let lines = lines.iter().filter_map(|line| logged(row, line));
        Ok(lines.map(str::to_owned).collect())
    }

    async fn seen(&self, client: &Client, row: &Row) -> anyhow::Result<Seen> {
        let look = &row.look;
        let mut lines = self.logged(row, client.mark()).await?;
        if let Some(names) = &look.upstream {
            lines.extend(crate::lines_of("upstream", &received(&self.upstream, row), names));
        }
        if let Some(names) = &look.peer {
            lines.extend(crate::lines_of("peer", &received(&self.peer, row), names));
        }
        if let Some(names) = &look.response {
            lines.extend(client.responses(names));
        }
        if !look.stats.is_empty() || !look.envoy_stats.is_empty() {
            let stats = self.envoy.stats().await?;
            let own = look.stats.iter().map(|name| (name, format!("wasmcustom.{name}")));
            let all = own.chain(look.envoy_stats.iter().map(|name| (name, name.clone())));
            for (name, full) in all {
                let value = stats.get(&full);
                let shown = value.map_or_else(|| "none".to_owned(), ToString::to_string);
                lines.push(format!("stat {name} = {shown}"));
            }
        }
        if look.access_log {
            let log = self.envoy.access_log().lines();
            lines.extend(log.iter().filter_map(|line| logged(row, line)).map(str::to_owned));
        }
        if !look.log.is_empty() {
            let log = self.envoy.logged_since(0).await?;
            lines.extend(look.log.iter().map(|text| has(&log, text)));
        }
        Ok(Seen(lines))
    }

    pub(super) async fn stop(self) -> anyhow::Result<()> {
        self.envoy.stop().await?;
        self.upstream.stop().await;
        self.peer.stop().await;
        Ok(())
    }
}

/// Whether one of these lines has this text.
pub(super) fn has(log: &[String], text: &str) -> String {
    let there = log.iter().any(|line| line.contains(text));
    format!("log {text} = {there}")
}

fn received(server: &Scripted<Anything>, row: &Row) -> Vec<Message> {
    let requests = server.requests().into_iter();
    let own = requests.filter(|request| request.values("x-row") == [row.id.as_bytes()]);
    own.map(message).collect()
}

fn message(request: Recorded) -> Message {
    let field = |(name, value): (String, Vec<u8>)| {
        let name = if name == "host" { ":authority".to_owned() } else { name };
        (name.into_bytes(), value)
    };
    let mut headers = vec![
        (b":method".to_vec(), request.method.into_bytes()),
        (b":path".to_vec(), request.target.into_bytes()),
    ];
    headers.extend(request.headers.into_iter().map(field));
    Message {
        headers,
        body: request.body,
        trailers: request.trailers.into_iter().map(field).collect(),
    }
}

/// A port on which nobody listens: one that was free a moment ago.
fn closed_port() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
