//! One case on the real Envoy.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use corpus::answer::Answer;
use corpus::case::{Case, Request, Step};
use corpus::expect::{self, Observed};
use corpus::kept::Kept;
use corpus::mint::Keys;
use envoy_e2e::{Message, Reply, Setup, World, now, with_keys};
use envoy_run::{Bootstrap, Recorded, StartError};
use serde_json::{Map, Value};
use tokio::time::{Instant, sleep};

use crate::pool::{Key, Pool};

/// How long requests that were answered may take to end, and their counters to arrive.
const COUNTERS_DEADLINE: Duration = Duration::from_secs(5);

/// How long a line of the access log may take.
const ACCESS_LOG_DEADLINE: Duration = Duration::from_secs(10);

/// The member of a line of the access log that has the properties.
const PROPERTIES: &str = "properties";

/// Requests that Envoy has begun to read.
const BEGUN: &str = "http.ingress.downstream_rq_total";

/// Those of them that have not ended: the filter may still count something.
const ACTIVE: &str = "http.ingress.downstream_rq_active";

/// A case with its configuration as text and its tenants.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) name: String,
    case: Case,
    config: String,
    tenants: BTreeMap<String, Answer>,
    secrets: Vec<String>,
}

/// Every case that is tagged for the real Envoy, named `suite::case`.
pub(crate) fn tagged() -> anyhow::Result<Vec<Prepared>> {
    let corpus = corpus::load(&corpus::cases_dir())?;
    let mut cases = Vec::new();
    for (stem, suite) in &corpus.suites {
        for case in suite.cases.iter().filter(|case| case.envoy) {
            let name = format!("{stem}::{}", case.name);
            let config = corpus::merged_config(&corpus.base, suite, case);
            let config = Keys::shared().expand_config(&config).with_context(|| name.clone())?;
            let mut tenants = corpus.base.tenants.clone();
            tenants.extend(case.tenants.clone());
            cases.push(Prepared {
                name,
                secrets: secrets(&config),
                config: case.raw_config.clone().unwrap_or_else(|| config.to_string()),
                tenants,
                case: case.clone(),
            });
        }
    }
    Ok(cases)
}

impl Prepared {
    /// Cases that can use one world are neighbours in this order.
    pub(crate) fn order(&self) -> (bool, Key) {
        (self.is_alone(), self.key())
    }

    fn key(&self) -> Key {
        (
            self.config.clone(),
            u32::try_from(self.case.workers).unwrap_or(u32::MAX),
        )
    }

    /// Whether the case could see what a case before it has left in the caches, or leave something
    /// there that others do not expect.
    fn is_alone(&self) -> bool {
        let steps = &self.case.steps;
        let asks = |request: &Request| {
            request.expect.tm_calls.is_some_and(|calls| calls > 0) || request.expect.tm_request.is_some()
        };
        !self.case.tenants.is_empty()
            || !self.case.idp.is_empty()
            || self.case.jwt_authn
            || self.is_staged()
            || !self.case.counters.is_empty()
            || steps.iter().any(|step| match step {
                Step::Request(request) => asks(request),
                Step::AdvanceMs(_) | Step::Tenants(_) | Step::Idp(_) => true,
            })
    }

    /// Whether the bootstrap is another than that of most cases.
    fn is_staged(&self) -> bool {
        self.case.redirects > 0 || self.case.route_metadata.is_some() || !self.properties().is_empty()
    }

    /// The names of the properties that are looked at.
    fn properties(&self) -> BTreeSet<String> {
        let of = |step: &Step| match step {
            Step::Request(request) => request.expect.properties.keys().cloned().collect(),
            Step::AdvanceMs(_) | Step::Tenants(_) | Step::Idp(_) => Vec::new(),
        };
        self.case.steps.iter().flat_map(of).collect()
    }

    pub(crate) async fn run(&self, pool: &Pool) -> anyhow::Result<()> {
        if let Some(lines) = &self.case.refused {
            return self.is_refused(lines).await;
        }
        if self.is_alone() {
            let world = self.setup()?.start().await?;
            self.in_world(&world).await?;
            world.stop().await
        } else {
            let world = pool.take(&self.key()).await?;
            world.tenant_manager.set(self.tenants.clone());
            // A world in which a case has failed is not used again.
            self.in_world(&world).await?;
            pool.give_back(self.key(), world).await
        }
    }

    fn setup(&self) -> anyhow::Result<Setup> {
        Setup::new(&self.config)
            .workers(self.key().1)
            .tenants(self.tenants.clone())
            .jwt_authn(self.case.jwt_authn)
            .change(self.staging())
            .idp(&self.case.idp)
    }

    /// What of the bootstrap is this case's own.
    fn staging(&self) -> impl Fn(&mut Bootstrap) + Send + Sync + 'static {
        let metadata = self.case.route_metadata.clone();
        let redirects = self.case.redirects;
        let properties: Map<_, _> = self
            .properties()
            .into_iter()
            .map(|name| {
                let logged = format!("%FILTER_STATE(wasm.{name}:PLAIN)%");
                (name, Value::from(logged))
            })
            .collect();
        move |bootstrap| {
            let hcm = bootstrap.hcm();
            let route = &mut hcm["route_config"]["virtual_hosts"][0]["routes"][0];
            if let Some(metadata) = &metadata {
                route["metadata"]["filter_metadata"] = metadata.clone();
            }
            if redirects > 0 {
                route["route"]["internal_redirect_policy"]["max_internal_redirects"] = redirects.into();
            }
            if !properties.is_empty() {
                let format = &mut hcm["access_log"][0]["typed_config"]["log_format"]["json_format"];
                format[PROPERTIES] = properties.clone().into();
            }
        }
    }

    async fn is_refused(&self, lines: &[Vec<String>]) -> anyhow::Result<()> {
        let error = match self.setup()?.start().await {
            Ok(_) => bail!("Envoy started with a configuration that the plugin must refuse"),
            Err(error) => error,
        };
        let log = match error.downcast_ref::<StartError>() {
            Some(StartError::Exited { log, .. }) => log,
            _ => return Err(error),
        };
        says(log, lines)?;
        self.no_secret_in(log)
    }

    async fn in_world(&self, world: &World) -> anyhow::Result<()> {
        let log_start = world.envoy.logs().mark();
        let counted = world.envoy.stats().await?;
        let mut kept = Kept::default();
        for (index, step) in self.case.steps.iter().enumerate() {
            match step {
                Step::Request(request) => {
                    self.request(world, request, &mut kept)
                        .await
                        .with_context(|| format!("step {index}"))?;
                }
                Step::Tenants(tenants) => world.tenant_manager.merge(tenants.clone()),
                Step::Idp(paths) => world.idp.merge(with_keys(paths)?),
                Step::AdvanceMs(_) => bail!("step {index}: time cannot be moved here"),
            }
        }
        self.counters(world, &counted).await?;
        world.check_workers_live().await?;
        // What is said of a configuration is said before the first request.
        says(&world.envoy.logged_since(0).await?, &self.case.logged)?;
        self.no_secret_in(&world.envoy.logged_since(log_start).await?)
    }

    async fn request(&self, world: &World, request: &Request, kept: &mut Kept) -> anyhow::Result<()> {
        let log_start = world.envoy.logs().mark();
        let asked = world.tenant_manager.total();
        let fetched = world.idp.total();
        for _ in 0..request.times {
            let forwarded = world.echo.total();
            let mark = world.envoy.access_log().mark();
            let sent = kept.in_place(request, Keys::shared(), now())?;
            world.echo.will_answer(request.upstream.iter().cloned());
            let reply = world.send(&message(&sent)?).await?;
            let request_id = reply.header("x-request-id");
            let seen = world.echo.requests().split_off(forwarded);
            let seen: Vec<_> = seen.iter().map(Recorded::observed).collect();
            if let Err(faults) = expect::check_exchange(&request.expect, &seen, &replied(reply)) {
                // A trap explains more than the reply that it led to.
                world.check_workers_live().await.with_context(|| faults.clone())?;
                bail!(faults);
            }
            if !request.expect.properties.is_empty() {
                let request_id = request_id.context("a reply without `x-request-id`")?;
                let left = last_pass(world, mark, &request_id).await?;
                let property = |name: &str| left[PROPERTIES][name].as_str().map(str::to_owned);
                expect::check_properties(&request.expect, property).map_err(anyhow::Error::msg)?;
            }
        }
        let lookups: Vec<_> = world
            .tenant_manager
            .requests()
            .split_off(asked)
            .iter()
            .map(Recorded::observed)
            .collect();
        expect::check_lookups(&request.expect, &lookups).map_err(anyhow::Error::msg)?;
        let fetches = world.idp.requests().split_off(fetched);
        let fetches: Vec<_> = fetches.iter().map(Recorded::observed).collect();
        expect::check_fetches(&request.expect, &fetches).map_err(anyhow::Error::msg)?;
        let logged = world.envoy.logged_since(log_start).await?;
        expect::check_log(&request.expect, logged.iter().map(String::as_str)).map_err(anyhow::Error::msg)
    }

    /// Checks how counters have moved, once everything has ended that could move them: what must
    /// not have moved has not from the start.
    async fn counters(&self, world: &World, before: &BTreeMap<String, u64>) -> anyhow::Result<()> {
        if self.case.counters.is_empty() {
            return Ok(());
        }
        let requests = self.case.steps.iter().map(|step| match step {
            Step::Request(request) => u64::try_from(request.times).unwrap_or(u64::MAX),
            Step::AdvanceMs(_) | Step::Tenants(_) | Step::Idp(_) => 0,
        });
        let requests: u64 = requests.sum();
        let deadline = Instant::now() + COUNTERS_DEADLINE;
        loop {
            let after = world.envoy.stats().await?;
            let moved = |name: &str| {
                let at = |stats: &BTreeMap<String, u64>| stats.get(name).copied().unwrap_or(0);
                at(&after).wrapping_sub(at(before))
            };
            let ended = moved(BEGUN) == requests && after.get(ACTIVE) == Some(&0);
            let wrong = self.case.counters.iter().find_map(|(name, wanted)| {
                let moved = moved(&format!("wasmcustom.{name}"));
                (moved != *wanted).then(|| format!("`{name}` has moved by {moved}, expected {wanted}"))
            });
            match wrong {
                None if ended => return Ok(()),
                _ if Instant::now() < deadline => sleep(Duration::from_millis(20)).await,
                None => bail!(
                    "{} of {requests} requests have begun, or not all have ended",
                    moved(BEGUN)
                ),
                Some(wrong) => bail!(wrong),
            }
        }
    }

    fn no_secret_in(&self, log: &[String]) -> anyhow::Result<()> {
        let told = log
            .iter()
            .find(|line| self.secrets.iter().any(|secret| line.contains(secret.as_str())));
        told.map_or(Ok(()), |line| bail!("the log holds a secret: {line}"))
    }
}

/// The line of the access log that the last pass of the request with this id has left there after the first
/// `mark`. Lines of earlier requests may still come.
async fn last_pass(world: &World, mark: usize, request_id: &str) -> anyhow::Result<Value> {
    let deadline = Instant::now() + ACCESS_LOG_DEADLINE;
    loop {
        for line in world.envoy.access_log().since(mark) {
            let line: Value = serde_json::from_str(&line)?;
            if line["request_id"] == request_id && line["details"] != "internal_redirect" {
                return Ok(line);
            }
        }
        ensure!(Instant::now() < deadline, "the access log does not tell of the request");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Checks that for each of these lists one line holds all of its parts.
fn says(log: &[String], lines: &[Vec<String>]) -> anyhow::Result<()> {
    for parts in lines {
        let said = log
            .iter()
            .any(|line| parts.iter().all(|part| line.contains(part.as_str())));
        ensure!(said, "no log line holds all of {parts:?}:\n{}", log.join("\n"));
    }
    Ok(())
}

fn message(request: &Request) -> anyhow::Result<Message> {
    let method = corpus::latin1(&request.method)?;
    Ok(Message::new(method, corpus::latin1(&request.path)?)
        .lines(request.field_lines(Keys::shared(), now())?)
        .body(request.body_bytes()?.unwrap_or_default())
        .trailers(request.trailer_lines()?))
}

fn replied(reply: Reply) -> Observed {
    Observed::Replied {
        status: reply.status,
        headers: reply.headers,
        body: reply.body,
        trailers: reply.trailers,
    }
}

/// What of a configuration must never be seen again: HMAC keys and API keys.
fn secrets(config: &Value) -> Vec<String> {
    match config {
        Value::Object(members) => {
            let here = members
                .iter()
                .filter(|(name, _)| ["k", "value"].contains(&name.as_str()));
            let here = here.filter_map(|(_, value)| value.as_str().map(str::to_owned));
            // Short ones would be found in words.
            here.filter(|secret| secret.len() >= 8)
                .chain(members.values().flat_map(secrets))
                .collect()
        }
        Value::Array(values) => values.iter().flat_map(secrets).collect(),
        _ => Vec::new(),
    }
}
