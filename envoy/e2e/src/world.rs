//! Envoy with the filter between a client and an upstream, and a Tenant Manager beside it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, ensure};
use corpus::answer::Answer;
use corpus::jwt_authn;
use corpus::mint::Keys;
use envoy_run::{Bootstrap, Echo, Envoy, IdentityProvider, Options, Recorded, TENANT_EVENTS, TenantManager};
use serde_json::Value;

use crate::client::{Connection, Reply};
use crate::message::Message;

/// Where the filter takes tenant events, and with which key.
pub const EVENTS_PATH: &str = "/-/tenantgate/events";
/// See [`EVENTS_PATH`].
pub const EVENTS_KEY: &str = "events-key-of-the-tests";

/// How many header lines Envoy lets through, so that what is above the default reaches the filter.
const MAX_REQUEST_HEADERS: u32 = 2000;

/// The finished module: what `TENANT_FILTER_WASM` says, else where `make wasm` leaves it.
///
/// # Errors
/// When it is not there.
pub fn module() -> anyhow::Result<PathBuf> {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/wasm32-wasip1/release/tenant_filter.wasm");
    let module = std::env::var_os("TENANT_FILTER_WASM").map_or(built, PathBuf::from);
    ensure!(
        module.is_file(),
        "there is no filter at `{}`; run `make wasm`",
        module.display()
    );
    Ok(module.canonicalize()?)
}

/// The plugin configuration that the corpus starts from, changed by a JSON merge patch. Keys are in it.
///
/// # Errors
/// When the corpus cannot be read.
pub fn base_config(patch: Value) -> anyhow::Result<Value> {
    let suite = serde_json::from_value(serde_json::json!({ "about": "", "config": patch, "cases": [{ "name": "" }] }))?;
    let suite: corpus::case::Suite = suite;
    let base = corpus::load(&corpus::cases_dir())?.base;
    let case = suite.cases.first().context("there is one case")?;
    Keys::shared().expand_config(&corpus::merged_config(&base, &suite, case))
}

/// The shipped bootstrap with the corpus's configuration under a merge patch, between these two: for
/// tests that change it while Envoy runs.
///
/// # Errors
/// When the corpus or the bootstrap cannot be read, or there is no module.
pub fn bootstrap_between(patch: Value, upstream: &Echo, tenant_manager: &TenantManager) -> anyhow::Result<Bootstrap> {
    Ok(Bootstrap::shipped()?
        .wasm(module()?)
        .plugin_config(&base_config(patch)?.to_string())
        .cluster_endpoint("upstream", upstream.address())?
        .cluster_endpoint("tenant-manager", tenant_manager.address())?
        .listener_port(0)
        .admin_port(0))
}

/// What a world is made of.
#[derive(Debug, Clone)]
pub struct Setup {
    config: String,
    tenants: BTreeMap<String, Answer>,
    idp: Option<BTreeMap<String, Answer>>,
    jwt_authn: bool,
    workers: u32,
    upstream: Option<SocketAddr>,
    allow_on_headers_stop_iteration: bool,
    tenant_events: bool,
    change: Change,
}

/// A change to a bootstrap.
#[derive(Clone)]
struct Change(Arc<dyn Fn(&mut Bootstrap) + Send + Sync>);

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Change")
    }
}

impl Setup {
    /// One worker, this plugin configuration, a Tenant Manager that knows nobody and an identity
    /// provider without any path.
    pub fn new(config: impl ToString) -> Self {
        Self {
            config: config.to_string(),
            tenants: BTreeMap::new(),
            idp: Some(BTreeMap::new()),
            jwt_authn: false,
            workers: 1,
            upstream: None,
            allow_on_headers_stop_iteration: false,
            tenant_events: false,
            change: Change(Arc::new(|_| {})),
        }
    }

    /// The corpus's configuration under a merge patch, with the corpus's tenants.
    ///
    /// # Errors
    /// When the corpus cannot be read.
    pub fn of_corpus(patch: Value) -> anyhow::Result<Self> {
        let base = corpus::load(&corpus::cases_dir())?.base;
        Ok(Self::new(base_config(patch)?).tenants(base.tenants))
    }

    /// What the Tenant Manager answers.
    pub fn tenants(mut self, tenants: BTreeMap<String, Answer>) -> Self {
        self.tenants.extend(tenants);
        self
    }

    /// What the identity provider answers, with the keys in it that placeholders stand for.
    ///
    /// # Errors
    /// As [`Answer::with_keys`].
    pub fn idp(mut self, paths: &BTreeMap<String, Answer>) -> anyhow::Result<Self> {
        self.idp = Some(with_keys(paths)?);
        Ok(self)
    }

    /// The identity provider is down when Envoy starts; [`IdentityProvider::resume`] brings it up.
    pub fn without_idp(mut self) -> Self {
        self.idp = None;
        self
    }

    /// Puts Envoy's `jwt_authn` in front of the filter, see [`corpus::case::Case::jwt_authn`].
    pub fn jwt_authn(mut self, jwt_authn: bool) -> Self {
        self.jwt_authn = jwt_authn;
        self
    }

    /// Worker threads.
    pub fn workers(mut self, workers: u32) -> Self {
        self.workers = workers;
        self
    }

    /// An upstream of the test's own instead of the [`Echo`], which then gets nothing.
    pub fn upstream(mut self, address: SocketAddr) -> Self {
        self.upstream = Some(address);
        self
    }

    /// See [`Bootstrap::allow_on_headers_stop_iteration`].
    pub fn allow_on_headers_stop_iteration(mut self, allow: bool) -> Self {
        self.allow_on_headers_stop_iteration = allow;
        self
    }

    /// Adds the listener for tenant events, and to the configuration what they need: `environment`
    /// `staging`, the path [`EVENTS_PATH`] and the key [`EVENTS_KEY`].
    ///
    /// # Errors
    /// When the configuration is no JSON.
    pub fn tenant_events(mut self) -> anyhow::Result<Self> {
        let mut config: Value = serde_json::from_str(&self.config)?;
        config["environment"] = "staging".into();
        config["events"] = serde_json::json!({ "path": EVENTS_PATH, "api_keys": [{ "value": EVENTS_KEY }] });
        self.config = config.to_string();
        self.tenant_events = true;
        Ok(self)
    }

    /// What else is to be changed in the bootstrap, last of all.
    pub fn change(mut self, change: impl Fn(&mut Bootstrap) + Send + Sync + 'static) -> Self {
        self.change = Change(Arc::new(change));
        self
    }

    /// Starts it all. Envoy runs with `envoy/envoy.yaml`, but without what it does itself against
    /// hostile requests, so that what the filter does is seen.
    ///
    /// # Errors
    /// An [`envoy_run::StartError`] when Envoy does not start, anything else when the rest does not.
    pub async fn start(self) -> anyhow::Result<World> {
        let echo = Echo::start().await?;
        let tenant_manager = TenantManager::start(self.tenants).await?;
        let is_idp_up = self.idp.is_some();
        let mut idp = IdentityProvider::start(self.idp.unwrap_or_default()).await?;
        if !is_idp_up {
            idp.pause().await;
        }
        let mut bootstrap = Bootstrap::shipped()?
            .wasm(module()?)
            .plugin_config(&self.config)
            .cluster_endpoint("upstream", self.upstream.unwrap_or(echo.address()))?
            .cluster_endpoint("tenant-manager", tenant_manager.address())?
            .add_cluster("idp", idp.address())?
            .listener_port(0)
            .admin_port(0)
            .allow_on_headers_stop_iteration(self.allow_on_headers_stop_iteration)
            .normalize_path(false)
            .headers_with_underscores_action("ALLOW")
            .upgrades(&["websocket"])
            .max_request_headers(MAX_REQUEST_HEADERS)
            .trailers("upstream", true)?;
        if self.jwt_authn {
            let keys = Keys::shared().jwk_set(&jwt_authn::KEYS)?;
            bootstrap = bootstrap.jwt_authn(jwt_authn::ISSUER, jwt_authn::AUDIENCE, &keys, jwt_authn::PAYLOAD);
        }
        (self.change.0)(&mut bootstrap);
        if self.tenant_events {
            bootstrap = bootstrap.tenant_events(0)?;
        }
        let options = Options {
            concurrency: self.workers,
            wasm_log_level: "debug".to_owned(),
            ..Options::new(bootstrap)
        };
        let envoy = Envoy::start(options).await?;
        Ok(World {
            envoy,
            echo,
            tenant_manager,
            idp,
        })
    }
}

/// A running world. Everything in it ends when it is dropped.
#[derive(Debug)]
pub struct World {
    /// Envoy.
    pub envoy: Envoy,
    /// The upstream.
    pub echo: Echo,
    /// The Tenant Manager.
    pub tenant_manager: TenantManager,
    /// The identity provider.
    pub idp: IdentityProvider,
}

/// Answers of an identity provider with the keys in them that placeholders stand for.
///
/// # Errors
/// As [`Answer::with_keys`].
pub fn with_keys(paths: &BTreeMap<String, Answer>) -> anyhow::Result<BTreeMap<String, Answer>> {
    let paths = paths.iter();
    paths
        .map(|(path, answer)| Ok((path.clone(), answer.with_keys(Keys::shared())?)))
        .collect()
}

impl World {
    /// Sends a message on a connection of its own and returns the reply.
    ///
    /// # Errors
    /// As [`Connection::exchange`].
    pub async fn send(&self, message: &Message) -> anyhow::Result<Reply> {
        Connection::exchange(self.envoy.address(), message).await
    }

    /// Sends tenant events, an envelope or a list of them, with the right key.
    ///
    /// # Errors
    /// When there is no listener for them, or no reply.
    pub async fn tell(&self, events: &Value) -> anyhow::Result<Reply> {
        let listener = self.envoy.listener(TENANT_EVENTS);
        let message = Message::new("POST", EVENTS_PATH)
            .line("x-api-key", EVENTS_KEY)
            .body(events.to_string());
        Connection::exchange(listener.context("there is no listener for events")?, &message).await
    }

    /// A connection to Envoy.
    ///
    /// # Errors
    /// As [`Connection::open`].
    pub async fn connect(&self) -> anyhow::Result<Connection> {
        Connection::open(self.envoy.address()).await
    }

    /// The last request that the upstream got.
    ///
    /// # Errors
    /// When it got none.
    pub fn last_forwarded(&self) -> anyhow::Result<Recorded> {
        self.echo.requests().pop().context("the upstream got nothing")
    }

    /// Checks that no VM has trapped: none was reloaded, none failed to, and no log line says so.
    ///
    /// # Errors
    /// What says otherwise.
    pub async fn check_workers_live(&self) -> anyhow::Result<()> {
        for (name, value) in self.envoy.stats().await? {
            ensure!(!name.contains(".vm_reload_") || value == 0, "{name} is {value}");
        }
        for line in self.envoy.logged_since(0).await? {
            let trapped = [
                "panicked",
                "Uncaught",
                "Wasm VM failed",
                "wasm_fail",
                "Plugin is failed",
            ];
            ensure!(!trapped.iter().any(|sign| line.contains(sign)), "the log says: {line}");
        }
        Ok(())
    }

    /// What of Envoy is in memory, in bytes, as Linux tells it.
    ///
    /// # Errors
    /// When it does not.
    pub fn resident_bytes(&self) -> anyhow::Result<u64> {
        let pid = self.envoy.pid().context("Envoy has ended")?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        Ok(kibibytes.context("no resident size")?.trim().parse::<u64>()? << 10)
    }

    /// Stops everything, Envoy first.
    ///
    /// # Errors
    /// When Envoy cannot be stopped.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.envoy.stop().await?;
        self.echo.stop().await;
        self.tenant_manager.stop().await;
        self.idp.stop().await;
        Ok(())
    }
}
