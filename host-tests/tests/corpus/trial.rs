//! One case, from its world to the last assertion.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use corpus::answer::Answer;
use corpus::case::{Base, Case, Request, Step, Suite, Without};
use corpus::expect::{self, Observed};
use corpus::jwt_authn;
use corpus::kept::Kept;
use corpus::mint::Keys;
use serde_json::{Value, json};
use tiny_envoy::{Builder, HeaderMap, LogLine, Outcome, PeerRequest, Plugin, StreamId, TinyEnvoy};

use crate::identity_provider::IdentityProvider;
use crate::tenant_manager::{TenantManager, scripted};

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
    let upstream = Upstream::default();
    let peers = Peers { manager, idp, upstream };
    let (manager, idp, upstream) = (peers.manager.clone(), peers.idp.clone(), peers.upstream.clone());
    let text = case.raw_config.clone().unwrap_or_else(|| config.to_string());
    let host = TinyEnvoy::builder()
        .plugin(plugin)
        .config(text)
        .workers(case.workers)
        .cluster("tenant-manager", move |request: &PeerRequest| manager.answer(request))
        .cluster("idp", move |request: &PeerRequest| idp.answer(request))
        .upstream(move |_: &PeerRequest| upstream.answer())
        .internal_redirects(case.redirects)
        .route_metadata(case.route_metadata.as_ref().unwrap_or(&json!({})));
    let started = lacking(host, &case.without).start();
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

/// The host without what it lacks.
fn lacking(host: Builder, without: &Without) -> Builder {
    let functions = without.functions.iter();
    let host = functions.fold(host, |host, function| host.without_foreign_function(function.name()));
    without
        .stats
        .iter()
        .fold(host, |host, prefix| host.reject_stats(prefix))
}

/// The peers of the filter.
struct Peers {
    manager: TenantManager,
    idp: IdentityProvider,
    upstream: Upstream,
}

/// Answers as the request says that is under way, then 200.
#[derive(Debug, Clone, Default)]
struct Upstream(Arc<Mutex<VecDeque<Answer>>>);

impl Upstream {
    fn next(&self) -> MutexGuard<'_, VecDeque<Answer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn will_answer(&self, answers: &[Answer]) {
        *self.next() = answers.to_vec().into();
    }

    fn answer(&self) -> tiny_envoy::Answer {
        let answer = self.next().pop_front();
        answer.map_or_else(|| tiny_envoy::Answer::status(200), |answer| scripted(&answer))
    }
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
        peers.upstream.will_answer(&request.upstream);
        let exchange = send(envoy, case, &request)?;
        expect::check_exchange(&request.expect, &exchange.received, &exchange.reply).map_err(anyhow::Error::msg)?;
        let property = |name: &str| {
            let value = envoy.filter_state(exchange.last, name)?;
            Some(String::from_utf8_lossy(&value).into_owned())
        };
        expect::check_properties(&request.expect, property).map_err(anyhow::Error::msg)?;
    }
    let lookups: Vec<_> = peers.manager.take_received().into_iter().map(received).collect();
    expect::check_lookups(&request.expect, &lookups).map_err(anyhow::Error::msg)?;
    let fetches: Vec<_> = peers.idp.take_received().into_iter().map(received).collect();
    expect::check_fetches(&request.expect, &fetches).map_err(anyhow::Error::msg)?;
    let logs = envoy.logs();
    let lines = logs[log_start..].iter().map(|line| line.message.as_str());
    expect::check_log(&request.expect, lines).map_err(anyhow::Error::msg)
}

/// What came of a request.
struct Exchange {
    /// What the upstream received, pass by pass.
    received: Vec<Observed>,
    reply: Observed,
    /// The stream of the last pass.
    last: StreamId,
}

fn send(envoy: &mut TinyEnvoy, case: &Case, request: &Request) -> Result<Exchange> {
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
    let mut last = sent.send();
    let mut seen = Vec::new();
    loop {
        let outcome = envoy.decide(last);
        ensure!(
            matches!(outcome, Outcome::Forwarded(_) | Outcome::Replied(_)),
            "the request was never decided: {outcome:?}"
        );
        // The upstream answers at once.
        envoy.settle();
        // Whatever the upstream saw of a denied request counts.
        seen.extend(envoy.upstream_saw(last).map(received));
        match envoy.redirected(last) {
            Some(next) => last = next,
            None => break,
        }
    }
    let reply = envoy.response(last).context("the client got no response")?;
    Ok(Exchange {
        received: seen,
        reply: Observed::Replied {
            status: reply.status(),
            headers: fields(&reply.headers),
            trailers: fields(&reply.trailers),
            body: reply.body,
        },
        last,
    })
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
