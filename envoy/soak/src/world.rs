//! Envoy as it is shipped, with everything around it.

use anyhow::{Context, Result, ensure};
use corpus::answer::Answer;
use corpus::mint::Keys;
use envoy_e2e::{Connection, EVENTS_KEY, EVENTS_PATH, Message, module, with_keys};
use envoy_run::{Bootstrap, Envoy, IdentityProvider, Options, TENANT_EVENTS, TenantManager};
use serde_json::{Value, json};
use std::collections::BTreeMap;

use crate::plan::SCOPED;
use crate::population::{LIMIT, Population, Standing, TURNING, TURNING_KEYS};
use crate::upstream::Upstream;

/// Worker threads of Envoy.
pub(crate) const WORKERS: u32 = 2;
/// Where the turning keys are.
const KEYS_PATH: &str = "/keys";

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) envoy: Envoy,
    pub(crate) upstream: Upstream,
    pub(crate) tenant_manager: TenantManager,
    pub(crate) idp: IdentityProvider,
}

impl World {
    /// Starts it all.
    ///
    /// # Errors
    /// When something of it does not start.
    pub(crate) async fn start(people: &Population, cut_streams: bool) -> Result<Self> {
        let upstream = Upstream::start().await?;
        let tenant_manager = TenantManager::start(people.answers()).await?;
        let idp = IdentityProvider::start(keys(&[0, 1])?).await?;
        let mut bootstrap = Bootstrap::shipped()?
            .wasm(module()?)
            .plugin_config(&config(people, cut_streams)?.to_string())
            .cluster_endpoint("upstream", upstream.address())?
            .cluster_endpoint("tenant-manager", tenant_manager.address())?
            .add_cluster("idp", idp.address())?
            .listener_port(0)
            .admin_port(0);
        // To write a line for each request would be most of the work.
        bootstrap.hcm()["access_log"] = json!([]);
        let options = Options {
            concurrency: WORKERS,
            // Nor one for each denial.
            wasm_log_level: "warning".to_owned(),
            ..Options::new(bootstrap.tenant_events(0)?)
        };
        Ok(Self {
            envoy: Envoy::start(options).await?,
            upstream,
            tenant_manager,
            idp,
        })
    }

    /// Sends tenant events and returns when they are acknowledged.
    ///
    /// # Errors
    /// When they are not.
    pub(crate) async fn tell(&self, events: &Value) -> Result<()> {
        let listener = self
            .envoy
            .listener(TENANT_EVENTS)
            .context("there is no listener for events")?;
        let message = Message::new("POST", EVENTS_PATH)
            .line("x-api-key", EVENTS_KEY)
            .body(events.to_string());
        let reply = Connection::exchange(listener, &message).await?;
        ensure!(
            reply.status == 200,
            "events were answered with {} {}",
            reply.status,
            reply.text()
        );
        Ok(())
    }

    /// What of Envoy is in memory, in bytes, as Linux tells it.
    ///
    /// # Errors
    /// When it does not, or Envoy has ended.
    pub(crate) fn resident_bytes(&self) -> Result<u64> {
        let pid = self.envoy.pid().context("Envoy has ended")?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        Ok(kibibytes.context("no resident size")?.trim().parse::<u64>()? << 10)
    }

    /// The signs that a VM has trapped: statistics of reloads and lines of the log.
    ///
    /// # Errors
    /// When Envoy does not tell.
    pub(crate) async fn traps(&self) -> Result<Vec<String>> {
        const SIGNS: [&str; 5] = [
            "panicked",
            "Uncaught",
            "Wasm VM failed",
            "wasm_fail",
            "Plugin is failed",
        ];
        let stats = self.envoy.stats().await?;
        let reloads = stats
            .iter()
            .filter(|(name, value)| name.contains(".vm_reload_") && **value > 0);
        let mut traps: Vec<_> = reloads.map(|(name, value)| format!("{name} is {value}")).collect();
        let log = self.envoy.logged_since(0).await?;
        traps.extend(
            log.into_iter()
                .filter(|line| SIGNS.iter().any(|sign| line.contains(sign)))
                .take(20),
        );
        Ok(traps)
    }

    /// Stops everything, Envoy first.
    ///
    /// # Errors
    /// When Envoy cannot be stopped.
    pub(crate) async fn stop(self) -> Result<()> {
        self.envoy.stop().await?;
        self.tenant_manager.stop().await;
        self.idp.stop().await;
        Ok(())
    }
}

/// What the identity provider says when these of the turning keys are good.
///
/// # Errors
/// When a key cannot be made.
pub(crate) fn keys(places: &[usize]) -> Result<BTreeMap<String, Answer>> {
    let names: Vec<_> = places.iter().map(|place| TURNING_KEYS[*place]).collect();
    let answer = Answer {
        body: Some(json!({ "$keys": names })),
        ..Answer::default()
    };
    with_keys(&BTreeMap::from([(KEYS_PATH.to_owned(), answer)]))
}

fn config(people: &Population, cut_streams: bool) -> Result<Value> {
    let rules: Vec<_> = SCOPED
        .iter()
        .map(|(name, kind, _)| json!({ "name": name, "kind": kind }))
        .collect();
    let mut overrides = json!({});
    for tenant in people.of(Standing::Limited) {
        overrides[&people.tenants[tenant].id] = json!({ "requests_per_second": LIMIT, "burst": LIMIT });
    }
    let mut config = json!({
        "version": "v1",
        "enabled": true,
        "service": "ledger",
        "environment": "staging",
        "auth": {
            // Fewer than there are tokens.
            "token_cache": { "max_entries": 1000, "ttl_seconds": 30 },
            "issuers": [
                {
                    "issuer": "https://id.example.com", "audiences": ["api"], "algorithms": ["RS256", "ES256", "EdDSA"],
                    "tenants": "any", "jwks": { "inline": { "$keys": ["main-rs256", "main-es256", "main-eddsa"] } },
                },
                {
                    "issuer": "https://hmac.example.com", "audiences": ["api"], "algorithms": ["HS256"], "tenants": "any",
                    "jwks": { "inline": { "$keys": ["main-hs256"] } },
                },
                {
                    "issuer": TURNING, "algorithms": ["ES384", "RS384", "PS384"], "tenants": { "prefixes": ["t-"] },
                    "jwks": { "remote": {
                        "cluster": "idp", "authority": "id.example.com", "path": KEYS_PATH, "timeout_ms": 1000,
                        "refresh_seconds": 4, "max_stale_seconds": 60, "unknown_kid_cooldown_seconds": 1,
                    } },
                },
            ],
        },
        "tenant_manager": {
            "cluster": "tenant-manager", "authority": "tenant-manager.internal",
            "api_keys": [{ "value": "api-key-of-the-soak" }], "timeout_ms": 1000, "max_body_bytes": 65_536,
            // Fewer places than there are tenants, here and on the node, and short times: much to do.
            "cache": {
                "ttl_seconds": 6, "stale_while_revalidate_seconds": 2, "stale_if_error_seconds": 3,
                "negative_ttl_seconds": 2, "max_entries": 600, "shared_slots": 1024,
            },
            "breaker": { "threshold": 5, "open_seconds": 2 },
        },
        "modules": { "default": "onboarding", "routes": [{ "prefix": "/v1/transactions", "module": "transaction" }] },
        "scope": {
            "emit": {
                "tenant_id": "x-tenant-id", "slug": "x-tenant-slug", "isolation_mode": "x-tenant-isolation-mode",
                "schema": "x-tenant-schema", "module": "x-module",
            },
            "headers": rules,
            "path": [{ "prefix": crate::plan::STORE, "kind": "storage_path" }],
            "response": [{ "name": "x-redis-key", "kind": "redis_key" }],
        },
        "events": { "path": EVENTS_PATH, "api_keys": [{ "value": EVENTS_KEY }] },
        "telemetry": { "tenant_label": true, "max_tenants": 100 },
    });
    config["enforce"] = json!({ "cut_streams": cut_streams });
    config["rate_limit"] = json!({
        "requests_per_second": 1_000_000, "burst": 1_000_000, "shared_slots": 1024, "overrides": overrides,
    });
    Keys::shared().expand_config(&config)
}
