//! Single-tenant mode: an Envoy with the filter at `enabled: false` and one without the filter do the very
//! same. Hundreds of requests go through both, and what the upstream received, what the client received,
//! what Envoy counted and what it logged is compared.

#[path = "single_tenant/answers.rs"]
mod answers;
#[path = "single_tenant/client.rs"]
mod client;
#[path = "single_tenant/observed.rs"]
mod observed;
#[path = "single_tenant/requests.rs"]
mod requests;
#[path = "single_tenant/upstream.rs"]
mod upstream;
#[path = "single_tenant/wire.rs"]
mod wire;

use anyhow::ensure;
use serde_json::{Value, json};

use crate::observed::{Observed, observe};

/// How many requests are made up, beside those of each special kind.
const REQUESTS: usize = 400;

/// A configuration that says all it can, with the filter switched on or off.
fn everything(enabled: bool) -> Value {
    json!({
        "enabled": enabled,
        "environment": "staging",
        "enforcement": "report",
        "paths": { "hazardous": "protect", "connect": "allow" },
        "auth": { "forward_token": false },
        "tenant_manager": { "on_unavailable": "allow", "discovery": { "interval_seconds": 1 } },
        "modules": { "routes": [{ "prefix": "/v1/transactions", "module": "transaction" }] },
        "scope": {
            "emit": { "slug": "x-tenant-slug", "module": "x-tenant-module" },
            "headers": [
                { "name": "x-routing-key", "kind": "routing_key" },
                { "name": "x-redis-key", "kind": "redis_key", "pattern": true },
                { "name": "idempotency-key", "kind": "idempotency_key" },
                { "name": "x-storage-key", "kind": "storage_key", "required": true },
            ],
            "path": [{ "prefix": "/storage", "kind": "storage_path" }],
            "response": [{ "name": "x-storage-key", "kind": "storage_key" }],
            "emit_claims": { "sub": "x-user-id" },
            "properties": true,
        },
        "rate_limit": { "requests_per_second": 1, "burst": 1, "headers": true },
        "events": { "path": "/-/tenantgate/events", "api_keys": [{ "value": "events-key-of-the-tests" }] },
        "errors": { "overrides": { "TENANT_ID_REQUIRED": { "status": 400, "code": "NOBODY" } } },
        "telemetry": { "tenant_label": true },
    })
}

/// Enough of everything was there, or a test shows nothing.
fn ensure_varied(observed: &Observed) -> anyhow::Result<()> {
    let forwarded: usize = observed.upstream.iter().map(Vec::len).sum();
    ensure!(forwarded >= REQUESTS / 2, "the upstream got {forwarded} messages");
    let statuses = observed.statuses();
    for (status, least) in [
        (101, 2),
        (200, 150),
        (204, 5),
        (302, 5),
        (400, 20),
        (413, 1),
        (502, 5),
        (503, 10),
    ] {
        let count = statuses.get(&status).copied().unwrap_or_default();
        ensure!(count >= least, "{count} answers were {status}: {statuses:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_that_is_switched_off_is_as_no_filter() -> anyhow::Result<()> {
    let (without, off) = tokio::try_join!(observe(None, REQUESTS), observe(Some(everything(false)), REQUESTS))?;
    ensure_varied(&without)?;
    without.ensure_equal(&off)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_that_is_switched_on_is_noticed_everywhere() -> anyhow::Result<()> {
    let (without, on) = tokio::try_join!(observe(None, 40), observe(Some(everything(true)), 40))?;
    let differences = without.differences(&on);
    for part in ["upstream", "answers", "stats", "access log"] {
        let found = differences
            .iter()
            .any(|(name, difference)| *name == part && !difference.is_empty());
        ensure!(found, "no difference in {part}: {differences:?}");
    }
    Ok(())
}
