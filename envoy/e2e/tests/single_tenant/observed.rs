//! What one Envoy did to all requests.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use envoy_e2e::{Connection, Message, Setup, World};
use envoy_run::Bootstrap;
use serde_json::{Value, json};

use crate::client::{over_http1, over_http2};
use crate::requests;
use crate::upstream::{Conversation, Upstream};
use crate::wire::Heard;

/// How long anything may take that is waited for here.
const SOON: Duration = Duration::from_secs(10);

/// How many requests share a connection.
const ON_ONE_CONNECTION: usize = 4;

/// Beginnings of figures of the process, which time changes.
const OF_THE_PROCESS: &[&str] = &["server.", "envoy_server_", "filesystem.", "main_thread.", "workers."];

/// Figures of the VM.
const OF_THE_VM: &[&str] = &["wasm.", "envoy_wasm_"];

/// Figures of the filter, as the admin interface and as Prometheus name them.
const OF_THE_FILTER: &[&str] = &["wasmcustom.", "tenant_", "tenantgate_"];

/// Parts of the names of other figures that have nothing to do with the filter: of looking at figures; of
/// whose buffer was full when, which is how fast the other end read; and how many bytes the answers were,
/// since HTTP/2 compresses the time of day better within the same second. The answers themselves are compared.
const OF_OTHERS: &[&str] = &["admin", "flow_control", "downstream_cx_tx_bytes_total"];

/// The histogram that gets a sample when a connection ends.
const CONNECTIONS: &str = r#"envoy_http_downstream_cx_length_ms_count{envoy_http_conn_manager_prefix="ingress"}"#;

/// What the client, the upstream, the admin interface and the access log have of one run.
#[derive(Debug)]
pub(crate) struct Observed {
    pub(crate) upstream: Vec<Conversation>,
    answers: Vec<Conversation>,
    /// Counters, gauges and numbers of samples.
    stats: BTreeMap<String, u64>,
    access_log: Vec<Value>,
}

/// Sends every special request and so many others through an Envoy with the filter, so configured, or
/// without it.
///
/// # Errors
/// When anything does not work, or the filter has counted anything in single-tenant mode.
pub(crate) async fn observe(config: Option<Value>, requests: usize) -> anyhow::Result<Observed> {
    let upstream = Upstream::start().await?;
    let is_off = config.as_ref().is_some_and(|config| config["enabled"] == false);
    let change = if config.is_some() { alike } else { alike_without_filter };
    let setup = Setup::of_corpus(config.unwrap_or_else(|| json!({})))?;
    let world = setup.upstream(upstream.address()).change(change).start().await?;
    let address = world.envoy.address();

    let mut answers = Vec::new();
    for spec in requests::special() {
        answers.push(over_http1(address, &[spec]).await?);
    }
    let specs = requests::generated(requests);
    for (number, specs) in specs.chunks(ON_ONE_CONNECTION).enumerate() {
        let context = || format!("connection {number}: {specs:?}");
        answers.push(if number % 4 == 3 {
            over_http2(address, specs).await.with_context(context)?
        } else {
            over_http1(address, specs).await.with_context(context)?
        });
    }
    let observed = Observed {
        stats: stats(&world, is_off).await?,
        access_log: access_log(&world).await?,
        upstream: upstream.heard(),
        answers,
    };
    world.check_workers_live().await?;
    world.stop().await?;
    Ok(observed)
}

/// What is the same in both: nothing is made up by chance, nothing says what time it is.
fn alike(bootstrap: &mut Bootstrap) {
    // Histograms are then up to date when they are asked for.
    bootstrap.root_mut()["stats_flush_on_admin"] = true.into();
    let hcm = bootstrap.hcm();
    hcm["generate_request_id"] = false.into();
    hcm["delayed_close_timeout"] = "0.2s".into();
    hcm["route_config"]["response_headers_to_remove"] = json!(["x-envoy-upstream-service-time"]);
}

fn alike_without_filter(bootstrap: &mut Bootstrap) {
    alike(bootstrap);
    *bootstrap = bootstrap.clone().without_filter();
}

/// The stats when nothing is open any more.
async fn stats(world: &World, is_off: bool) -> anyhow::Result<BTreeMap<String, u64>> {
    for gauge in [
        "http.ingress.downstream_cx_active",
        "cluster.upstream.upstream_rq_active",
    ] {
        world.envoy.wait_for_stat(gauge, SOON, |open| open == 0).await?;
    }
    let mut stats = world.envoy.stats().await?;
    stats.extend(samples(world, &stats).await?);
    stats.retain(|name, value| {
        let begins = |names: &[&str]| names.iter().any(|start| name.starts_with(start));
        // Of the filter's own figures only those count that have moved though they must not.
        let is_moved = is_off && *value > 0;
        !begins(OF_THE_PROCESS)
            && !begins(OF_THE_VM)
            && (!begins(OF_THE_FILTER) || is_moved)
            && !OF_OTHERS.iter().any(|part| name.contains(part))
    });
    Ok(stats)
}

/// How many samples each histogram has, when the last connection is in them too.
async fn samples(world: &World, stats: &BTreeMap<String, u64>) -> anyhow::Result<BTreeMap<String, u64>> {
    let connections = stats.get("http.ingress.downstream_cx_total");
    let deadline = Instant::now() + SOON;
    loop {
        let asked = Message::new("GET", "/stats/prometheus");
        let reply = Connection::exchange(world.envoy.admin(), &asked).await?;
        ensure!(reply.status == 200, "{}", reply.status);
        let text = reply.text();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let counts = lines.filter_map(|line| line.rsplit_once(' ')).filter(|(name, _)| {
            let name = name.split('{').next();
            name.is_some_and(|name| name.ends_with("_count"))
        });
        let counts: BTreeMap<String, u64> = counts
            .map(|(name, value)| Ok((name.to_owned(), value.parse().with_context(|| name.to_owned())?)))
            .collect::<anyhow::Result<_>>()?;
        if counts.get(CONNECTIONS) == connections {
            return Ok(counts);
        }
        ensure!(
            Instant::now() < deadline,
            "{:?} of {connections:?}",
            counts.get(CONNECTIONS)
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The access log, a line for each request, without when and how long.
async fn access_log(world: &World) -> anyhow::Result<Vec<Value>> {
    let requests = world.envoy.stat("http.ingress.downstream_rq_total").await?;
    let log = world.envoy.access_log();
    let poll = async {
        while (log.mark() as u64) < requests {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, poll)
        .await
        .with_context(|| format!("{} of {requests} lines came", log.mark()))?;
    let line = |line: &String| {
        let mut line: Value = serde_json::from_str(line)?;
        for member in ["time", "duration_ms", "upstream_ms"] {
            line[member] = Value::Null;
        }
        // Where it is, not which it is.
        line["upstream"] = (!line["upstream"].is_null()).into();
        Ok(line)
    };
    log.lines().iter().map(line).collect()
}

impl Observed {
    /// How many answers had which status.
    pub(crate) fn statuses(&self) -> BTreeMap<u16, usize> {
        let mut statuses = BTreeMap::new();
        for heard in self.answers.iter().flatten() {
            let mut words = heard.head.split(|byte| *byte == b' ').take(2);
            let status = words.find_map(|word| std::str::from_utf8(word).ok()?.parse().ok());
            *statuses.entry(status.unwrap_or_default()).or_default() += 1;
        }
        statuses
    }

    /// The parts, and how they differ; empty when they do not.
    pub(crate) fn differences(&self, other: &Self) -> Vec<(&'static str, String)> {
        let dated = |all: &[Conversation]| -> Vec<Conversation> {
            all.iter().map(|one| one.iter().map(undated).collect()).collect()
        };
        vec![
            ("upstream", first_difference(&self.upstream, &other.upstream)),
            (
                "answers",
                first_difference(&dated(&self.answers), &dated(&other.answers)),
            ),
            ("stats", different_figures(&self.stats, &other.stats)),
            ("access log", first_difference(&self.access_log, &other.access_log)),
        ]
    }

    /// That there is no difference.
    ///
    /// # Errors
    /// All that there are, or the first of each part.
    pub(crate) fn ensure_equal(&self, other: &Self) -> anyhow::Result<()> {
        let mut differences = self.differences(other);
        differences.retain(|(_, difference)| !difference.is_empty());
        ensure!(differences.is_empty(), "{differences:#?}");
        Ok(())
    }
}

/// An answer without the time of day.
fn undated(heard: &Heard) -> Heard {
    let lines = heard.head.split_inclusive(|byte| *byte == b'\n');
    let head = lines.map(|line| {
        if line.starts_with(b"date: ") {
            &b"date: *\r\n"[..]
        } else {
            line
        }
    });
    Heard {
        head: head.collect::<Vec<_>>().concat(),
        ..heard.clone()
    }
}

fn first_difference<T: Debug + PartialEq>(these: &[T], those: &[T]) -> String {
    let place = (0..these.len().max(those.len())).find(|place| these.get(*place) != those.get(*place));
    place.map_or_else(String::new, |place| {
        format!("at {place}: {:?}\nagainst {:?}", these.get(place), those.get(place))
    })
}

fn different_figures(these: &BTreeMap<String, u64>, those: &BTreeMap<String, u64>) -> String {
    let names: BTreeSet<_> = these.keys().chain(those.keys()).collect();
    let different = names.into_iter().filter(|name| these.get(*name) != those.get(*name));
    different
        .map(|name| format!("{name}: {:?} against {:?}; ", these.get(name), those.get(name)))
        .collect()
}
