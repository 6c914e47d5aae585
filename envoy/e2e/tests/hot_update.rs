//! Configuration updates under load: every answer is right under a configuration that was in force while its request
//! was under way, one that is refused changes nothing, and what is open goes on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use corpus::case::{Made, Token};
use corpus::mint::Keys;
use envoy_e2e::live::{self, Socket};
use envoy_e2e::{
    CRASHING_CONFIG, Connection, KeepAlive, Message, Reply, base_config, bootstrap_between, crashing, module, now,
};
use envoy_run::{Bootstrap, Echo, Envoy, ListenerFile, Options, TenantManager};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// How long anything may take that is waited for here: compiling the module again takes most of it.
const SOON: Duration = Duration::from_secs(60);

/// How often a condition is looked at while it is waited for.
const POLL: Duration = Duration::from_millis(20);

/// How long connections that are open stay with an old configuration.
const DRAIN: Duration = Duration::from_secs(2);

/// How late Envoy may be in closing them, on a busy machine.
const LATE: Duration = Duration::from_secs(10);

/// `stream_idle_timeout` and `request_timeout` of the shipped bootstrap.
const STREAM_TIMERS: Duration = Duration::from_secs(15);

const UPDATED: &str = "listener_manager.lds.update_success";
const REJECTED: &str = "listener_manager.lds.update_rejected";
const VMS: &str = "wasm.envoy.wasm.runtime.v8.active";

/// So many new connections in a row reach every one of two workers.
const ALL_WORKERS: usize = 16;

/// What an update changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rules {
    /// Tokens are verified with `main-rs256` if true, else with `main-eddsa`.
    rsa: bool,
    /// `x-routing-key` is scoped if true, else `x-redis-key`.
    routing: bool,
    /// The module is told to the upstream.
    module: bool,
}

impl Rules {
    fn numbered(number: usize) -> Self {
        Self {
            rsa: number.is_multiple_of(2),
            routing: (number / 2).is_multiple_of(2),
            module: (number / 4).is_multiple_of(2),
        }
    }

    fn patch(self) -> Value {
        let key = if self.rsa { "main-rs256" } else { "main-eddsa" };
        let rule = if self.routing {
            json!({ "name": "x-routing-key", "kind": "routing_key" })
        } else {
            json!({ "name": "x-redis-key", "kind": "redis_key" })
        };
        json!({
            "auth": { "issuers": [{
                "issuer": "https://id.example.com",
                "algorithms": ["RS256", "EdDSA"],
                "jwks": { "inline": { "$keys": [key] } },
            }] },
            "scope": { "headers": [rule], "emit": { "module": self.module.then_some("x-tenant-module") } },
        })
    }

    /// What becomes of a request with a token of either key, as the rules for keys say it.
    fn outcome(self, sent: Sent) -> Outcome {
        if sent.rsa != self.rsa {
            return Outcome::Denied(401, "TOKEN_INVALID".to_owned());
        }
        let (routing, redis) = if self.routing {
            ("orders.created.acme", "cart")
        } else {
            ("orders.created", "tenant:acme:cart")
        };
        Outcome::Forwarded(json!({
            "x-tenant-id": "acme",
            "x-routing-key": routing,
            "x-redis-key": redis,
            "x-tenant-module": self.module.then_some("onboarding"),
        }))
    }
}

/// A request, by the key of its token.
#[derive(Debug, Clone, Copy)]
struct Sent {
    rsa: bool,
}

impl Sent {
    fn message(self) -> anyhow::Result<Message> {
        let made = Made {
            tenant: Some("acme".to_owned()),
            key: Some(if self.rsa { "main-rs256" } else { "main-eddsa" }.to_owned()),
            ..Made::default()
        };
        let token = Keys::shared().token(&Token::Made(Box::new(made)), now())?;
        Ok(Message::new("GET", "/v1/accounts")
            .line("authorization", [b"Bearer ", &token[..]].concat())
            .line("x-routing-key", "orders.created")
            .line("x-redis-key", "cart")
            .line("x-tenant-id", "victim"))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    /// Status and code.
    Denied(u16, String),
    /// What the upstream saw of the headers that the rules are about.
    Forwarded(Value),
}

impl Outcome {
    fn of(reply: &Reply) -> anyhow::Result<Self> {
        if reply.status != 200 {
            return Ok(Self::Denied(reply.status, reply.code()));
        }
        let seen: Value = serde_json::from_slice(&reply.body)?;
        let header = |name: &str| seen["headers"][name].clone();
        let names = ["x-tenant-id", "x-routing-key", "x-redis-key", "x-tenant-module"];
        Ok(Self::Forwarded(
            names.map(|name| (name, header(name))).into_iter().collect(),
        ))
    }
}

/// A request and its answer.
#[derive(Debug)]
struct Sample {
    sent: Sent,
    /// Whether its connection was opened for it.
    is_fresh: bool,
    began: Instant,
    ended: Instant,
    outcome: Outcome,
}

/// Clients that send requests until they are told to end, some on connections of their own, some on ones that they keep.
struct Clients {
    ends: watch::Sender<bool>,
    clients: JoinSet<anyhow::Result<Vec<Sample>>>,
}

impl Clients {
    fn start(address: SocketAddr) -> anyhow::Result<Self> {
        let (ends, mut clients) = (watch::Sender::new(false), JoinSet::new());
        let messages = [true, false].map(|rsa| Sent { rsa });
        let messages: Vec<_> = messages
            .into_iter()
            .map(|sent| Ok((sent, sent.message()?)))
            .collect::<anyhow::Result<_>>()?;
        let messages = Arc::new(messages);
        for is_fresh in [true, true, false, false] {
            let (messages, ends) = (Arc::clone(&messages), ends.subscribe());
            clients.spawn(async move {
                let (mut kept, mut samples) = (KeepAlive::new(address), Vec::new());
                for (sent, message) in messages.iter().cycle() {
                    if *ends.borrow() {
                        break;
                    }
                    let began = Instant::now();
                    let reply = if is_fresh {
                        Connection::exchange(address, message).await?
                    } else {
                        kept.send(message).await?
                    };
                    samples.push(Sample {
                        sent: *sent,
                        is_fresh,
                        began,
                        ended: Instant::now(),
                        outcome: Outcome::of(&reply)?,
                    });
                }
                Ok(samples)
            });
        }
        Ok(Self { ends, clients })
    }

    async fn stop(mut self) -> anyhow::Result<Vec<Sample>> {
        self.ends.send_replace(true);
        let mut all = Vec::new();
        while let Some(samples) = self.clients.join_next().await {
            all.extend(samples.context("a client has panicked")??);
        }
        Ok(all)
    }
}

/// A configuration, and when it was written and no new connection met the one before it any more.
#[derive(Debug)]
struct InForce {
    rules: Rules,
    written: Instant,
    settled: Instant,
}

/// Returns when every worker gives new connections to these rules.
async fn until_settled(address: SocketAddr, rules: Rules) -> anyhow::Result<()> {
    let (sent, deadline) = (Sent { rsa: rules.rsa }, Instant::now() + SOON);
    let (message, mut in_a_row) = (sent.message()?, 0);
    while in_a_row < ALL_WORKERS {
        let outcome = Outcome::of(&Connection::exchange(address, &message).await?)?;
        in_a_row = if outcome == rules.outcome(sent) {
            in_a_row + 1
        } else {
            0
        };
        ensure!(Instant::now() < deadline, "{rules:?} are not in force: {outcome:?}");
    }
    Ok(())
}

/// Checks that an answer is right under one of the configurations that its request can have met.
fn is_right(sample: &Sample, history: &[InForce]) -> anyhow::Result<()> {
    let lasts = if sample.is_fresh { Duration::ZERO } else { DRAIN + LATE };
    let met = history.iter().enumerate().filter(|(place, config)| {
        let gone = history.get(place + 1).map(|next| next.settled + lasts);
        config.written <= sample.ended && gone.is_none_or(|gone| sample.began <= gone)
    });
    let expected: Vec<_> = met.map(|(_, config)| config.rules.outcome(sample.sent)).collect();
    ensure!(
        expected.contains(&sample.outcome),
        "{sample:?}, where these were possible: {expected:?}"
    );
    let took = sample.ended - sample.began;
    ensure!(took < STREAM_TIMERS, "an answer after {took:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_twenty_updates_every_answer_is_right_before_or_after_one() -> anyhow::Result<()> {
    const UPDATES: usize = 20;
    let folder = tempfile::tempdir()?;
    let trapping = folder.path().join("crashing.wasm");
    std::fs::write(&trapping, crashing(&std::fs::read(module()?)?)?)?;
    let echo = Echo::start().await?;
    let tenant_manager = TenantManager::start(corpus::load(&corpus::cases_dir())?.base.tenants).await?;
    let bootstrap = |rules: Rules| bootstrap_between(rules.patch(), &echo, &tenant_manager);
    // What nobody may take: a member that there is not, no JSON, no module, and one that traps on it.
    let refused = |rules: Rules, number: usize| -> anyhow::Result<Bootstrap> {
        let fine = base_config(rules.patch())?.to_string();
        let bootstrap = bootstrap(rules)?;
        Ok(match number % 4 {
            0 => bootstrap.plugin_config(&base_config(json!({ "enabeld": true }))?.to_string()),
            1 => bootstrap.plugin_config(fine.trim_end_matches('}')),
            2 => bootstrap.wasm(folder.path().join("nowhere.wasm")),
            _ => bootstrap
                .wasm(&trapping)
                .plugin_config(&format!("{CRASHING_CONFIG}{fine}")),
        })
    };
    let mut listeners = ListenerFile::new()?;
    let first = Rules::numbered(0);
    let options = Options {
        concurrency: 2,
        drain_time: DRAIN,
        wasm_log_level: "warning".to_owned(),
        ..Options::new(listeners.write(bootstrap(first)?)?)
    };
    let envoy = Envoy::start(options).await?;
    let started = Instant::now();
    until_settled(envoy.address(), first).await?;
    let vms = envoy.stat(VMS).await?;
    let mut history = vec![InForce {
        rules: first,
        written: started,
        settled: started,
    }];
    let clients = Clients::start(envoy.address())?;
    let (mut taken, mut rejected) = (1, 0);
    for number in 1..=UPDATES {
        let rules = Rules::numbered(number);
        if number.is_multiple_of(4) {
            rejected += 1;
            listeners.write(refused(rules, number / 4)?)?;
            envoy.wait_for_stat(REJECTED, SOON, |count| count == rejected).await?;
            continue;
        }
        taken += 1;
        let written = Instant::now();
        listeners.write(bootstrap(rules)?)?;
        envoy.wait_for_stat(UPDATED, SOON, |count| count == taken).await?;
        until_settled(envoy.address(), rules).await?;
        let settled = Instant::now();
        history.push(InForce {
            rules,
            written,
            settled,
        });
    }
    // The last is in force alone when the one before it has drained, and its VMs are gone.
    envoy.wait_for_stat(VMS, SOON, |count| count == vms).await?;
    let samples = clients.stop().await?;
    for is_fresh in [true, false] {
        let forwarded = samples.iter().filter(|sample| sample.is_fresh == is_fresh);
        let forwarded = forwarded.filter(|sample| matches!(sample.outcome, Outcome::Forwarded(_)));
        ensure!(forwarded.count() > history.len(), "too little was sent to see anything");
    }
    samples.iter().try_for_each(|sample| is_right(sample, &history))?;
    ensure!(
        tenant_manager.total() <= 2,
        "the node knew acme: {} lookups",
        tenant_manager.total()
    );
    envoy.stop().await?;
    Ok(())
}

#[tokio::test]
async fn what_is_open_or_waits_goes_on_under_the_configuration_that_it_began_with() -> anyhow::Result<()> {
    let echo = Echo::start().await?;
    let sockets = live::Upstream::start(None).await?;
    let tenant_manager = TenantManager::start(corpus::load(&corpus::cases_dir())?.base.tenants).await?;
    let bootstrap = |rules: Rules| {
        let mut patch = rules.patch();
        patch["tenant_manager"]["timeout_ms"] = 12_000.into();
        let mut bootstrap = bootstrap_between(patch, &echo, &tenant_manager)?
            .add_cluster("sockets", sockets.address())?
            .upgrades(&["websocket"]);
        let route = json!({ "match": { "prefix": "/v1/socket" }, "route": { "cluster": "sockets" } });
        bootstrap.routes().insert(0, route);
        anyhow::Ok(bootstrap)
    };
    let mut listeners = ListenerFile::new()?;
    let options = Options {
        concurrency: 2,
        ..Options::new(listeners.write(bootstrap(Rules::numbered(0))?)?)
    };
    let envoy = Envoy::start(options).await?;
    let address = envoy.address();
    let mut socket = Socket::open(address, "acme").await?;
    tenant_manager.hold();
    let waits = Message::of_tenant("globex", "/v1/accounts").line("x-routing-key", "orders.created");
    let waits = tokio::spawn(async move { Connection::exchange(address, &waits).await });
    tenant_manager.wait_for(2, SOON).await?;
    for number in 1..=3 {
        let rules = Rules::numbered(number);
        listeners.write(bootstrap(rules)?)?;
        envoy
            .wait_for_stat(UPDATED, SOON, |count| count == number as u64 + 1)
            .await?;
        socket
            .is_open()
            .await
            .with_context(|| format!("after update {number}"))?;
    }
    // Its key has gone from the configuration, and it was let in before that.
    tenant_manager.release();
    let reply = waits.await??;
    ensure!(reply.status == 200, "{} {}", reply.status, reply.text());
    let seen = echo.requests().pop().context("a request")?;
    ensure!(
        seen.values("x-routing-key") == [b"orders.created.globex"],
        "{:?}",
        seen.headers
    );
    let deadline = Instant::now() + SOON;
    while Connection::exchange(address, &Message::of_tenant("globex", "/v1/accounts"))
        .await?
        .status
        != 401
    {
        ensure!(Instant::now() < deadline, "the new configuration is not in force");
        sleep(POLL).await;
    }
    socket.is_open().await?;
    envoy.stop().await?;
    Ok(())
}
