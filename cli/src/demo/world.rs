//! The world of the demo: an upstream, a Tenant Manager, an Envoy between them and whoever asks.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use anyhow::{Context, Result};
use corpus::answer::Answer;
use corpus::case::{Made, Token};
use corpus::expect::{Observed, check};
use corpus::mint::Keys;
use envoy_run::{Bootstrap, Echo, Envoy, Options, Recorded, TENANT_EVENTS, TenantManager, now};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::client::{self, Reply};
use super::events::Events;
use super::log_files::LogFiles;
use super::programs::Programs;
use super::scenario::{Event, Row, tenant};
use super::seen::Seen;

/// The plugin configuration, for the demo and for reading.
const CONFIG: &str = include_str!("../../demo/config.yaml");

/// What the Tenant Manager answers.
const TENANTS: &str = include_str!("../../demo/tenants.yaml");

/// Enough to show that they know the same.
const WORKERS: u32 = 2;

/// How long a row may take to become as expected, and how often it is sent meanwhile. The times in
/// the configuration make it some seconds.
const PATIENCE: Duration = Duration::from_secs(15);
const AGAIN: Duration = Duration::from_millis(50);

/// What the filter counts when a record serves because the Tenant Manager is unavailable.
const FALLBACKS: [&str; 2] = [
    "wasmcustom.tenantgate_cache_lookups_total.level=local~.outcome=fallback~",
    "wasmcustom.tenantgate_cache_lookups_total.level=shared~.outcome=fallback~",
];

/// How often Envoy is looked after while somebody plays with it.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How many looks in a row it may leave unanswered.
const MISSED_LOOKS: u32 = 3;

/// How much of its log is worth showing.
const LAST_LINES: usize = 20;

/// Everything that runs. What is dropped without [`World::stop`] ends too, less politely.
#[derive(Debug)]
pub(crate) struct World {
    envoy: Envoy,
    events: Events,
    log_files: LogFiles,
    tenant_manager: TenantManager,
    upstream: Echo,
}

impl World {
    /// Starts everything on free loopback ports and returns when Envoy serves.
    pub(crate) async fn start(programs: &Programs) -> Result<Self> {
        let upstream = Echo::start().await.context("the upstream cannot be started")?;
        let tenant_manager = TenantManager::start(tenants()?)
            .await
            .context("the Tenant Manager cannot be started")?;
        let config = config()?;
        let bootstrap = Bootstrap::load(&programs.bootstrap)?
            .wasm(&programs.module)
            .plugin_config(&config.to_string())
            .cluster_endpoint("upstream", upstream.address())?
            .cluster_endpoint("tenant-manager", tenant_manager.address())?
            .listener_port(0)
            .admin_port(0)
            .tenant_events(0)?;
        let options = Options {
            binary: programs.envoy.clone(),
            concurrency: WORKERS,
            ..Options::new(bootstrap)
        };
        let envoy = Envoy::start(options).await?;
        let log_files = LogFiles::start(&programs.logs, envoy.logs(), envoy.access_log())?;
        let events = envoy
            .listener(TENANT_EVENTS)
            .context("there is no listener for tenant events")?;
        Ok(Self {
            events: Events::new(&config, events)?,
            envoy,
            log_files,
            tenant_manager,
            upstream,
        })
    }

    /// Lets happen what happens before a row, sends its request and watches; again and again where that
    /// may take some time.
    pub(crate) async fn play(&mut self, row: &Row) -> Result<Seen> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let seen = self.try_play(row).await?;
            if !row.patient || seen.verdict(row).is_ok() || Instant::now() >= deadline {
                return Ok(seen);
            }
            sleep(AGAIN).await;
        }
    }

    async fn try_play(&mut self, row: &Row) -> Result<Seen> {
        match row.before {
            None => {}
            Some(Event::TenantManagerStops) => self.tenant_manager.pause().await,
            Some(Event::TenantManagerReturns) => self.tenant_manager.resume().await?,
            Some(Event::Told { kind, tenant }) => self.events.tell(kind, tenant).await?,
        }
        let asked = self.tenant_manager.total();
        let fallbacks = self.fallbacks(row).await?;
        let (mut observed, mut reply) = self.send(row).await?;
        for _ in 1..row.request.times {
            // The first that is not as expected is the one to show.
            if check(&row.request.expect, &observed).is_err() {
                break;
            }
            (observed, reply) = self.send(row).await?;
        }
        Ok(Seen {
            observed,
            reply,
            lookups: received(&self.tenant_manager.requests(), asked),
            fallback: self.fallbacks(row).await? > fallbacks,
        })
    }

    /// Sends a row's request once: where it ended, and what the client got.
    async fn send(&self, row: &Row) -> Result<(Observed, Reply)> {
        let request = &row.request;
        let fields = request.field_lines(Keys::shared(), now())?;
        let reached = self.upstream.total();
        self.upstream.will_answer(request.upstream.iter().cloned());
        let line = (request.method.as_str(), request.path.as_str());
        let reply = client::send(self.envoy.address(), line, &fields, "").await?;
        let arrived = received(&self.upstream.requests(), reached).pop();
        Ok((arrived.unwrap_or_else(|| reply.observed()), reply))
    }

    /// How often a record has served because the Tenant Manager was unavailable; asked only for rows
    /// that want to know.
    async fn fallbacks(&self, row: &Row) -> Result<u64> {
        if !row.fallback {
            return Ok(0);
        }
        let stats = self.envoy.stats().await?;
        Ok(FALLBACKS.iter().filter_map(|name| stats.get(*name)).sum())
    }

    /// What to paste into a shell: tokens that are good for an hour, and requests that use them.
    pub(crate) fn invitation(&self) -> Result<String> {
        let at = self.envoy.address();
        let mut text = format!(
            "Envoy serves on http://{at} (admin on http://{}), the Tenant Manager is back.\n\
             The upstream answers with what it saw. What the filter was told stands in cli/demo/config.yaml,\n\
             what the Tenant Manager knows in cli/demo/tenants.yaml. Paste this; the tokens are good for an hour:\n\n",
            self.envoy.admin(),
        );
        for id in ["acme", "globex", "hooli"] {
            // Ed25519 makes the shortest tokens.
            let made = Made {
                key: Some("main-eddsa".to_owned()),
                ..tenant(id)
            };
            let token = Keys::shared().token(&Token::Made(Box::new(made)), now())?;
            writeln!(text, "{}='{}'", id.to_uppercase(), String::from_utf8(token)?)?;
        }
        writeln!(text)?;
        for rest in [
            "/v1/accounts -H \"authorization: Bearer $ACME\" -H 'x-redis-key: session:42'",
            "/v1/accounts -H \"authorization: Bearer $GLOBEX\" -H 'x-storage-key: reports/2026.pdf'",
            "/v1/accounts -H \"authorization: Bearer $ACME\" -H 'x-tenant-id: globex'",
            "/storage/globex/2026.pdf -H \"authorization: Bearer $ACME\"",
            "/v1/accounts -H \"authorization: Bearer $HOOLI\"",
            "/v1/accounts",
            "/health",
        ] {
            writeln!(text, "curl -i http://{at}{rest}")?;
        }
        let refused_for = config()?
            .pointer("/tenant_manager/cache/ttl_seconds")
            .and_then(Value::as_u64);
        writeln!(
            text,
            "\nAn event refuses globex on every worker, for {} s (`ttl_seconds`) or until the next event: the Tenant\n\
             Manager of the demo goes on saying that it is active.\n\n\
             {}; \\\n  curl -i http://{at}/v1/accounts -H \"authorization: Bearer $GLOBEX\"\n{}",
            refused_for.unwrap_or(120),
            self.events.command("tenant.suspended", "globex"),
            self.events.command("tenant.activated", "globex"),
        )?;
        writeln!(
            text,
            "\nWho was denied what stands in Envoy's log, one line each. This makes it say why, too:\n\n\
             curl -X POST 'http://{}/logging?wasm=debug'\n\
             tail -f {} {}",
            self.envoy.admin(),
            self.log_files.log().display(),
            self.log_files.access_log().display(),
        )?;
        writeln!(text, "\nCtrl-C ends everything.")?;
        Ok(text)
    }

    /// Returns when Envoy has not answered for some seconds, with the end of its log.
    pub(crate) async fn envoy_ended(&self) -> String {
        let mut missed = 0;
        while missed < MISSED_LOOKS {
            tokio::time::sleep(LOOK_INTERVAL).await;
            missed = if self.envoy.stats().await.is_ok() {
                0
            } else {
                missed + 1
            };
        }
        let lines = self.envoy.logs().lines();
        lines
            .get(lines.len().saturating_sub(LAST_LINES)..)
            .unwrap_or_default()
            .join("\n")
    }

    /// Ends everything and returns when it has ended.
    pub(crate) async fn stop(self) -> Result<()> {
        let envoy = self.envoy.stop().await;
        self.log_files.finish().await;
        self.tenant_manager.stop().await;
        self.upstream.stop().await;
        envoy.map(drop)
    }
}

/// What the demo's Tenant Manager answers, by tenant id.
pub(crate) fn tenants() -> Result<BTreeMap<String, Answer>> {
    serde_norway::from_str(TENANTS).context("cli/demo/tenants.yaml")
}

/// The plugin configuration with the public keys of this run.
fn config() -> Result<Value> {
    let config = serde_norway::from_str(CONFIG).context("cli/demo/config.yaml")?;
    Keys::shared().expand_config(&config)
}

/// The requests after the first `already`.
fn received(requests: &[Recorded], already: usize) -> Vec<Observed> {
    requests.iter().skip(already).map(Recorded::observed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_gets_public_keys_and_nothing_else_changes() {
        let config = config().expect("a configuration");
        let keys = config
            .pointer("/auth/issuers/0/jwks/inline/keys")
            .and_then(Value::as_array);
        let kids: Vec<_> = keys
            .expect("keys")
            .iter()
            .map(|key| key["kid"].as_str().expect("a kid"))
            .collect();
        assert_eq!(kids, ["main-rs256", "main-es256", "main-eddsa"]);
        assert_eq!(config["enabled"], true);
        assert_eq!(
            config.pointer("/tenant_manager/cluster"),
            Some(&Value::from("tenant-manager"))
        );
    }

    #[test]
    fn records_name_the_tenant_that_they_are_about() {
        for (id, answer) in tenants().expect("tenants") {
            match answer.record {
                Some(record) => assert_eq!(record["id"], id.as_str()),
                None => assert_ne!(answer.status(), 200, "{id}"),
            }
        }
    }

    #[test]
    fn what_was_received_before_is_not_counted() {
        let request = |target: &str| Recorded {
            target: target.to_owned(),
            ..Recorded::default()
        };
        let seen = received(&[request("/a"), request("/b")], 1);
        assert!(matches!(&seen[..], [Observed::Forwarded { path, .. }] if path == b"/b"));
    }
}
