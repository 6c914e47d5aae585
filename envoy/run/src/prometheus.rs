//! One Prometheus process that scrapes an Envoy, and its tool.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::logs::Logs;
use crate::process::workspace;

/// How long Prometheus may take until it serves, and a call of it or of its tool until it is over.
const DEADLINE: Duration = Duration::from_secs(180);

/// How often a condition is looked at while it is waited for.
const POLL: Duration = Duration::from_millis(50);

/// A running Prometheus that scrapes and evaluates every second. Dropping it kills the process.
#[derive(Debug)]
pub struct Prometheus {
    child: Child,
    address: SocketAddr,
    client: reqwest::Client,
    reader: JoinHandle<()>,
    /// Its configuration and its data.
    _directory: TempDir,
}

/// One series of an answer: its labels, `__name__` among them where it has one, and its value now.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Labels by name.
    pub labels: BTreeMap<String, String>,
    /// The value.
    pub value: f64,
}

/// A rule as Prometheus sees it after it has evaluated it.
#[derive(Debug, Clone, Deserialize)]
pub struct Rule {
    /// The name of the alert.
    pub name: String,
    /// `ok`, `err`, or `unknown` before the first evaluation.
    pub health: String,
    /// `inactive`, `pending` or `firing`.
    pub state: String,
    /// What is wrong with it, empty otherwise.
    #[serde(default, rename = "lastError")]
    pub last_error: String,
}

#[derive(Deserialize)]
struct Answer<T> {
    data: T,
}

#[derive(Deserialize)]
struct Queried {
    result: Vec<OneSeries>,
}

#[derive(Deserialize)]
struct OneSeries {
    metric: BTreeMap<String, String>,
    /// A moment, and the value as text.
    value: (f64, String),
}

#[derive(Deserialize)]
struct Rules {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

impl Prometheus {
    /// Starts one that scrapes `/stats/prometheus` of an admin interface as job `envoy`, with these
    /// files of rules, and returns when it serves.
    ///
    /// # Errors
    /// When there is no such program, or it does not serve within a minute; the error has its log.
    pub async fn start(admin: SocketAddr, rules: &[PathBuf]) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("prometheus-run-").tempdir()?;
        let config = directory.path().join("prometheus.yml");
        let every_second = json!({ "scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s" });
        let scrape = json!({
            "job_name": "envoy",
            "metrics_path": "/stats/prometheus",
            "static_configs": [{ "targets": [admin.to_string()] }],
        });
        // YAML, of which JSON is a part.
        let text = json!({ "global": every_second, "rule_files": rules, "scrape_configs": [scrape] }).to_string();
        std::fs::write(&config, text)?;
        let program = program("PROMETHEUS", "prometheus")?;
        let mut child = Command::new(&program)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                directory.path().join("data").display()
            ))
            .arg("--web.listen-address=127.0.0.1:0")
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot run {}", program.display()))?;
        let logs = Logs::default();
        let stderr = child.stderr.take().context("it has no standard error")?;
        let reader = tokio::spawn(logs.clone().fill(stderr));
        // A proxy of the environment must not stand between here and loopback.
        let client = reqwest::Client::builder().no_proxy().timeout(DEADLINE).build()?;
        let address = timeout(DEADLINE, serving(&mut child, &logs, &client)).await;
        let address = address
            .context("Prometheus was not ready in time")
            .and_then(|address| address)
            .with_context(|| logs.lines().join("\n"))?;
        Ok(Self {
            child,
            address,
            client,
            reader,
            _directory: directory,
        })
    }

    /// The answer to a PromQL query now.
    ///
    /// # Errors
    /// When it is refused or cannot be read.
    pub async fn query(&self, query: &str) -> anyhow::Result<Vec<Series>> {
        let url = format!("http://{}/api/v1/query", self.address);
        let url = reqwest::Url::parse_with_params(&url, [("query", query)])?;
        let queried: Queried = self.json(url).await.with_context(|| query.to_owned())?;
        let series = queried.result.into_iter().map(|one| {
            let value = one.value.1.parse()?;
            Ok(Series {
                labels: one.metric,
                value,
            })
        });
        series.collect()
    }

    /// Asks until the answer is as wanted, and returns it.
    ///
    /// # Errors
    /// When it is not `within` that time; the error has the last answer.
    pub async fn wait_for(
        &self,
        query: &str,
        within: Duration,
        wanted: impl Fn(&[Series]) -> bool,
    ) -> anyhow::Result<Vec<Series>> {
        let deadline = Instant::now() + within;
        loop {
            let series = self.query(query).await?;
            if wanted(&series) {
                return Ok(series);
            }
            ensure!(
                Instant::now() < deadline,
                "`{query}` is still {series:?} after {within:?}"
            );
            sleep(POLL).await;
        }
    }

    /// Every rule.
    ///
    /// # Errors
    /// When the interface does not answer.
    pub async fn rules(&self) -> anyhow::Result<Vec<Rule>> {
        let url = format!("http://{}/api/v1/rules", self.address);
        let rules: Rules = self.json(reqwest::Url::parse(&url)?).await?;
        Ok(rules.groups.into_iter().flat_map(|group| group.rules).collect())
    }

    /// Kills it and returns when it has ended.
    ///
    /// # Errors
    /// When the system does not let the process be stopped.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.child.kill().await.context("Prometheus could not be stopped")?;
        // It ends with the pipe.
        let _ = self.reader.await;
        Ok(())
    }

    async fn json<T: DeserializeOwned>(&self, url: reqwest::Url) -> anyhow::Result<T> {
        let response = self.client.get(url).send().await?;
        let status = response.status();
        let text = response.text().await?;
        ensure!(status.is_success(), "{status}: {text}");
        let answer: Answer<T> = serde_json::from_str(&text)?;
        Ok(answer.data)
    }
}

/// Where it serves, as its log says once it listens.
async fn serving(child: &mut Child, logs: &Logs, client: &reqwest::Client) -> anyhow::Result<SocketAddr> {
    loop {
        if let Some(address) = listening(logs)? {
            let ready = client.get(format!("http://{address}/-/ready")).send().await;
            if ready.is_ok_and(|response| response.status().is_success()) {
                return Ok(address);
            }
        }
        if let Some(status) = child.try_wait()? {
            anyhow::bail!("Prometheus ended with {status} while it started");
        }
        sleep(POLL).await;
    }
}

fn listening(logs: &Logs) -> anyhow::Result<Option<SocketAddr>> {
    let lines = logs.lines();
    let line = lines.iter().find(|line| line.contains("Listening on"));
    let Some(address) = line.and_then(|line| line.split("address=").nth(1)) else {
        return Ok(None);
    };
    let word = address.split_whitespace().next().unwrap_or_default();
    word.parse().map(Some).with_context(|| address.to_owned())
}

/// Runs `promtool` in a folder, with that text on its standard input.
///
/// # Errors
/// When there is no such program, or it does not end within a minute.
pub async fn promtool(folder: &Path, arguments: &[&str], input: &str) -> anyhow::Result<Output> {
    let program = program("PROMTOOL", "promtool")?;
    let mut child = Command::new(&program)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let mut stdin = child.stdin.take().context("it has no standard input")?;
    let input = input.to_owned();
    let writing = tokio::spawn(async move {
        // Whoever does not read it all says why by its exit status.
        let _ = stdin.write_all(input.as_bytes()).await;
    });
    let output = timeout(DEADLINE, child.wait_with_output()).await;
    writing.abort();
    Ok(output.context("promtool did not end in time")??)
}

/// Where a program is: what the variable says, else in PATH, else where it was unpacked.
fn program(variable: &str, name: &str) -> anyhow::Result<PathBuf> {
    if let Some(own) = std::env::var_os(variable) {
        return Ok(own.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .chain([workspace().join("target/prometheus")])
        .map(|folder| folder.join(name))
        .find(|program| program.is_file());
    found.with_context(|| {
        format!(
            "there is no {name}: run envoy/observability/fetch-prometheus.sh (`make prometheus`), or set {variable}"
        )
    })
}
