//! One case, from its world to the last assertion.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use corpus::case::{Base, Case, Request, Step, Suite};
use corpus::expect::{self, Observed};
use corpus::jwt_authn;
use corpus::kept::Kept;
use corpus::mint::Keys;
use serde_json::{Value, json};
use tiny_envoy::{HeaderMap, LogLine, Outcome, PeerRequest, Plugin, TinyEnvoy};

use crate::identity_provider::IdentityProvider;
use crate::tenant_manager::TenantManager;

/// Longer than everything that a request may wait for.
const PAST_ALL_DEADLINES: Duration = Duration::from_secs(60);

pub(crate) fn run(plugin: &Plugin, base: &Base, suite: &Suite, case: &Case) -> Result<()> {
    let config = Keys::shared().expand_config(&corpus::merged_config(base, suite, case))?;
    let secrets = api_keys(&config);
    let mut tenants = base.tenants.clone();
    tenants.extend(case.tenants.clone());
    let manager = TenantManager::new(&config, tenants);
    let idp = IdentityProvider::default();
    idp.change(&case.idp)?;
    let peers = Peers { manager, idp };
    let (manager, idp) = (peers.manager.clone(), peers.idp.clone());
    let text = case.raw_config.clone().unwrap_or_else(|| config.to_string());
    let started = TinyEnvoy::builder()
        .plugin(plugin)
        .config(text)
        .workers(case.workers)
        .cluster("tenant-manager", move |request: &PeerRequest| manager.answer(request))
        .cluster("idp", move |request: &PeerRequest| idp.answer(request))
        .start();
    if let Some(refused) = &case.refused {
        let Err(error) = started else {
            bail!("the plugin accepted its configuration")
        };
        ensure!(error.reason.contains("proxy_on_configure returned false"), "{error}");
        keeps_silent(&error.logs, &secrets)?;
        return says(&error.logs, refused);
    }
    let mut envoy =
        started.map_err(|error| anyhow::anyhow!("the plugin did not start: {error}\n{}", listed(&error.logs)))?;
    let outcome = play(&mut envoy, &peers, case, &secrets);
    outcome.with_context(|| format!("log:\n{}", listed(&envoy.logs())))
}

/// The peers of the filter.
struct Peers {
    manager: TenantManager,
    idp: IdentityProvider,
}

fn play(envoy: &mut TinyEnvoy, peers: &Peers, case: &Case, secrets: &[String]) -> Result<()> {
    let mut kept = Kept::default();
    let before = envoy.metrics();
    for (index, step) in case.steps.iter().enumerate() {
        match step {
            Step::AdvanceMs(ms) => envoy.advance(Duration::from_millis(*ms)),
            Step::Tenants(tenants) => peers.manager.change(tenants),
            Step::Idp(paths) => peers.idp.change(paths)?,
            Step::Request(request) => {
                ask(envoy, peers, case, request, &mut kept).with_context(|| format!("step {index}"))?;
            }
        }
    }
    // Filters may report counters in batches, on ticks.
    envoy.advance(PAST_ALL_DEADLINES);
    for (name, moved) in &case.counters {
        let value = |at: Option<&u64>| at.copied().unwrap_or_default();
        let now = value(envoy.metrics().get(name)) - value(before.get(name));
        ensure!(now == *moved, "counter `{name}` moved by {now}, expected {moved}");
    }
    ensure!(envoy.deaths().is_empty(), "VMs died: {:#?}", envoy.deaths());
    ensure!(
        envoy.pending().is_empty(),
        "requests that nobody answered: {:?}",
        envoy.pending()
    );
    let strange = peers.manager.strange_paths();
    ensure!(
        strange.is_empty(),
        "lookups on paths that are not the configured one: {strange:?}"
    );
    says(&envoy.logs(), &case.logged)?;
    keeps_silent(&envoy.logs(), secrets)
}

/// Sends a request as often as asked, and judges what comes of it.
fn ask(envoy: &mut TinyEnvoy, peers: &Peers, case: &Case, request: &Request, kept: &mut Kept) -> Result<()> {
    peers.manager.take_received();
    peers.idp.take_received();
    let log_start = envoy.logs().len();
    for _ in 0..request.times {
        let request = kept.in_place(request, Keys::shared(), envoy.unix_seconds())?;
        let observed = send(envoy, case, &request)?;
        expect::check(&request.expect, &observed).map_err(anyhow::Error::msg)?;
    }
    let lookups: Vec<_> = peers.manager.take_received().into_iter().map(received).collect();
    expect::check_lookups(&request.expect, &lookups).map_err(anyhow::Error::msg)?;
    let fetches: Vec<_> = peers.idp.take_received().into_iter().map(received).collect();
    expect::check_fetches(&request.expect, &fetches).map_err(anyhow::Error::msg)?;
    let logs = envoy.logs();
    let lines = logs[log_start..].iter().map(|line| line.message.as_str());
    expect::check_log(&request.expect, lines).map_err(anyhow::Error::msg)
}

fn send(envoy: &mut TinyEnvoy, case: &Case, request: &Request) -> Result<Observed> {
    let now = envoy.unix_seconds();
    let lines = request.field_lines(Keys::shared(), now)?;
    let metadata = match request.filter_metadata(now)? {
        None if case.jwt_authn => jwt_authn::payload(&lines, Keys::shared(), now)?
            .map(|payload| json!({ jwt_authn::NAMESPACE: { jwt_authn::PAYLOAD: payload } })),
        said => said,
    };
    let (method, path) = (corpus::latin1(&request.method)?, corpus::latin1(&request.path)?);
    let mut sent = envoy.request(method, path).worker(request.worker);
    for (name, value) in lines {
        sent = sent.header(name, value);
    }
    if let Some(metadata) = metadata {
        sent = sent.dynamic_metadata(&metadata);
    }
    if let Some(body) = request.body_bytes()? {
        sent = sent.body(body);
    }
    for (name, value) in request.trailer_lines()? {
        sent = sent.trailer(name, value);
    }
    let stream = sent.send();
    match envoy.decide(stream) {
        Outcome::Forwarded(request) => Ok(received(request)),
        Outcome::Replied(reply) => {
            let leaked = envoy.upstream_saw(stream);
            ensure!(
                leaked.is_none(),
                "the upstream saw some of a denied request: {leaked:?}"
            );
            let headers = fields(&reply.headers);
            Ok(Observed::Replied {
                status: reply.status,
                headers,
                body: reply.body,
            })
        }
        other => bail!("the request was never decided: {other:?}"),
    }
}

fn received(request: PeerRequest) -> Observed {
    Observed::Forwarded {
        path: request.headers.get(":path").unwrap_or_default().to_vec(),
        headers: fields(&request.headers),
        trailers: fields(&request.trailers),
        body: request.body,
    }
}

/// The field lines of an HTTP/1.1 message.
fn fields(headers: &HeaderMap) -> Vec<(Vec<u8>, Vec<u8>)> {
    let line = |(name, value): (&[u8], &[u8])| match name {
        b":authority" => Some((b"host".to_vec(), value.to_vec())),
        [b':', ..] => None,
        _ => Some((name.to_vec(), value.to_vec())),
    };
    headers.iter().filter_map(line).collect()
}

fn api_keys(config: &Value) -> Vec<String> {
    let keys = config.pointer("/tenant_manager/api_keys").and_then(Value::as_array);
    let values = keys.into_iter().flatten().filter_map(|key| key.get("value")?.as_str());
    values.map(str::to_owned).collect()
}

fn keeps_silent(logs: &[LogLine], secrets: &[String]) -> Result<()> {
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        let leak = logs.iter().find(|line| line.message.contains(secret.as_str()));
        ensure!(leak.is_none(), "the log says an API key: {leak:?}");
    }
    Ok(())
}

fn says(logs: &[LogLine], expected: &[Vec<String>]) -> Result<()> {
    for parts in expected {
        let is_said = logs
            .iter()
            .any(|line| parts.iter().all(|part| line.message.contains(part.as_str())));
        ensure!(is_said, "no log line has all of {parts:?}:\n{}", listed(logs));
    }
    Ok(())
}

fn listed(logs: &[LogLine]) -> String {
    logs.iter().map(|line| format!("  {line}\n")).collect()
}
