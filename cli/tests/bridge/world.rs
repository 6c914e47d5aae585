//! A bridge as a process, and Envoys that answer as they are told.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use corpus::answer::Answer;
use envoy_run::IdentityProvider;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// How long anything may take: the bridge's own waits are at most half of it.
const DEADLINE: Duration = Duration::from_secs(60);

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(10);

/// The key that every bridge has unless its test says otherwise.
pub(crate) const KEY: &str = "k-events-1";

const PATH: &str = "/-/tenantgate/events";

pub(crate) const ALL: &str = "cache.invalidate_all";

/// Waits for something.
pub(crate) async fn until<T>(what: &str, mut looked_for: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = looked_for().await {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        sleep(POLL).await;
    }
}

/// An Envoy's events path.
#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) server: IdentityProvider,
}

impl Receiver {
    /// One that takes everything.
    pub(crate) async fn start() -> Self {
        let server = IdentityProvider::start(BTreeMap::new()).await.expect("a server");
        let receiver = Self { server };
        receiver.answer(200);
        receiver
    }

    /// Answers with this status from now on.
    pub(crate) fn answer(&self, status: u16) {
        let body = match status {
            200 => json!({ "applied": 1, "ignored": 0 }),
            401 => json!({ "code": "EVENTS_UNAUTHORIZED", "title": "Scripted", "message": "scripted" }),
            _ => json!({ "code": "SCRIPTED", "title": "Scripted", "message": "scripted" }),
        };
        let answer = Answer {
            status: Some(status),
            body: Some(body),
            ..Answer::default()
        };
        self.server.set([(PATH.to_owned(), answer)].into());
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}{PATH}", self.server.address())
    }

    /// The types of all events that came, in order, grouped by request.
    pub(crate) fn batches(&self) -> Vec<Vec<String>> {
        let complete = self.server.requests().into_iter().filter(|request| request.complete);
        complete
            .map(|request| {
                let body: Value = serde_json::from_slice(&request.body).expect("JSON");
                let events = if let Value::Array(events) = body {
                    events
                } else {
                    vec![body]
                };
                events
                    .iter()
                    .map(|event| event["event_type"].as_str().expect("a type").to_owned())
                    .collect()
            })
            .collect()
    }

    /// The types of all events that came, in order.
    pub(crate) fn kinds(&self) -> Vec<String> {
        self.batches().concat()
    }

    /// Waits until exactly these have come.
    pub(crate) async fn wait_for(&self, kinds: &[&str]) {
        let what = format!("{kinds:?} at {}", self.url());
        let mut came = Vec::new();
        let waited = tokio::time::timeout(DEADLINE, async {
            while came != kinds {
                came = self.kinds();
                sleep(POLL).await;
            }
        });
        assert!(waited.await.is_ok(), "{what}, but {came:?}");
    }
}

/// A running bridge, which ends with the test.
#[derive(Debug)]
pub(crate) struct Bridge {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    reader: JoinHandle<()>,
    pages: SocketAddr,
}

/// The command, with the least that a bridge needs for these Envoys and nothing of our own environment.
pub(crate) fn command(redis_port: u16, envoys: &[&Receiver]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tenantgate"));
    command.arg("bridge").args(["--listen", "127.0.0.1:0"]);
    for envoy in envoys {
        command.arg("--envoy").arg(envoy.url());
    }
    command
        .env_clear()
        .env("ENVIRONMENT_NAME", "staging")
        .env("MULTI_TENANT_REDIS_HOST", "127.0.0.1")
        .env("MULTI_TENANT_REDIS_PORT", redis_port.to_string())
        .env("TENANTGATE_EVENTS_KEY", KEY)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

impl Bridge {
    /// Starts it and waits until it serves its pages.
    pub(crate) async fn start(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the bridge runs");
        let mut stderr = BufReader::new(child.stderr.take().expect("its log")).lines();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = lines.clone();
        let reader = tokio::spawn(async move {
            while let Some(line) = stderr.next_line().await.expect("text") {
                kept.lock().expect("lines").push(line);
            }
        });
        let mut bridge = Self {
            child,
            lines,
            reader,
            pages: SocketAddr::from(([127, 0, 0, 1], 0)),
        };
        let started = bridge.logged("started").await;
        bridge.pages = started["listen"]
            .as_str()
            .and_then(|listen| listen.parse().ok())
            .expect("an address");
        bridge
    }

    /// All that it has logged: every line is JSON.
    pub(crate) fn log(&self) -> Vec<Value> {
        let lines = self.lines.lock().expect("lines");
        lines
            .iter()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
            .collect()
    }

    /// The first line with that message, as soon as it is there.
    pub(crate) async fn logged(&self, message: &str) -> Value {
        until(message, async || {
            self.log().into_iter().find(|line| line["message"] == message)
        })
        .await
    }

    /// Waits until it has said that there is no subscription, for that reason.
    pub(crate) async fn unsubscribed(&self, reason: &str) {
        until(reason, async || {
            let line = self
                .log()
                .into_iter()
                .find(|line| line["message"] == "not subscribed" && line["reason"] == reason);
            line.map(drop)
        })
        .await;
    }

    async fn page(&self, path: &str) -> (u16, String) {
        let response = reqwest::get(format!("http://{}{path}", self.pages))
            .await
            .expect("a response");
        (response.status().as_u16(), response.text().await.expect("text"))
    }

    /// `/healthz`.
    pub(crate) async fn health(&self) -> (u16, Value) {
        let (status, body) = self.page("/healthz").await;
        (status, serde_json::from_str(&body).expect("JSON"))
    }

    /// Waits until `/healthz` has that status, and returns the body.
    pub(crate) async fn until_health(&self, wanted: u16) -> Value {
        until(&format!("health {wanted}"), async || {
            let (status, body) = self.health().await;
            (status == wanted).then_some(body)
        })
        .await
    }

    /// `/metrics`.
    pub(crate) async fn metrics(&self) -> String {
        let (status, text) = self.page("/metrics").await;
        assert_eq!(status, 200);
        text
    }

    /// The one metric whose line begins with this, and has this in it.
    pub(crate) async fn metric(&self, begins: &str, has: &str) -> f64 {
        let text = self.metrics().await;
        let line = text.lines().find(|line| line.starts_with(begins) && line.contains(has));
        let line = line.unwrap_or_else(|| panic!("no {begins} with {has} in\n{text}"));
        line.rsplit(' ')
            .next()
            .and_then(|value| value.parse().ok())
            .expect("a number")
    }

    /// Asks it to end.
    pub(crate) fn terminate(&self) {
        let pid = self
            .child
            .id()
            .and_then(|id| Pid::from_raw(id.cast_signed()))
            .expect("it runs");
        kill_process(pid, Signal::TERM).expect("a signal");
    }

    /// Waits for its end. Returns how it ended and all that it has logged.
    pub(crate) async fn ended(mut self) -> (ExitStatus, Vec<Value>) {
        let ended = tokio::time::timeout(DEADLINE, self.child.wait()).await;
        let status = ended.expect("it ends in time").expect("its status");
        (&mut self.reader).await.expect("the log is read");
        (status, self.log())
    }
}
