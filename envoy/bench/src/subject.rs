//! One Envoy that is measured.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use envoy_run::{Envoy, Options};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::cpu;
use crate::load::{Client, REDIS_KEY, ROUTING_KEY};
use crate::setup::{PROOF, Servers, Setup, Traffic};
use crate::tokens::{Tokens, tenant};

/// A running Envoy with the connections of its client.
#[derive(Debug)]
pub(crate) struct Subject {
    setup: Setup,
    envoy: Envoy,
    client: Client,
    /// How many requests it has had that were measured.
    sent: usize,
}

/// What some requests have cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// CPU time of the Envoy process for one request, in microseconds.
    pub(crate) cpu_us: f64,
    /// Requests answered in a second.
    pub(crate) per_second: f64,
}

impl Subject {
    /// Starts an Envoy with one worker.
    ///
    /// # Errors
    /// When Envoy does not start.
    pub(crate) async fn start(setup: Setup, module: &Path, servers: Servers, connections: usize) -> Result<Self> {
        let options = Options::new(setup.bootstrap(module, servers)?);
        let envoy = Envoy::start(options).await?;
        let client = Client::connect(envoy.address(), connections).await?;
        Ok(Self {
            setup,
            envoy,
            client,
            sent: 0,
        })
    }

    /// Shows that the setup does what it is said to do: a mistake in it would look fast.
    ///
    /// # Errors
    /// When a good request is not let through, the upstream would not see what it should, or a
    /// forged token is not refused where one should be.
    pub(crate) async fn prove(&mut self, tokens: &Tokens) -> Result<()> {
        let good = tokens.seen.first().context("there are no tokens")?;
        let (status, headers) = self.client.send(PROOF, good).await?;
        ensure!(status == StatusCode::OK, "a good request is answered with {status}");
        let promise = self.setup.promise();
        let tenant = tenant(0);
        let key = |scoped: String, plain: &str| Some(if promise.scopes { scoped } else { plain.to_owned() });
        for (header, expected) in [
            ("x-proof-tenant", promise.names_tenant.then(|| tenant.clone())),
            (
                "x-proof-routing-key",
                key(format!("{ROUTING_KEY}.{tenant}"), ROUTING_KEY),
            ),
            (
                "x-proof-redis-key",
                key(format!("tenant:{tenant}:{REDIS_KEY}"), REDIS_KEY),
            ),
        ] {
            let seen = shown(&headers, header);
            ensure!(
                seen == expected.as_deref(),
                "the upstream sees {seen:?} where {expected:?} was promised ({header})"
            );
        }
        let (status, _) = self.client.send(PROOF, &tokens.forged).await?;
        let expected = match promise.verifies {
            true => StatusCode::UNAUTHORIZED,
            false => StatusCode::OK,
        };
        ensure!(
            status == expected,
            "a forged token is answered with {status}, not {expected}"
        );
        Ok(())
    }

    /// Sends the token of every tenant, so that whatever can be remembered is.
    ///
    /// # Errors
    /// When a request is not answered with 200.
    pub(crate) async fn warm_up(&mut self, tokens: &Tokens) -> Result<()> {
        let warmed = self.client.send_all(tokens.seen.iter().cloned()).await;
        warmed.with_context(|| format!("`{}` cannot be warmed up", self.setup.name()))
    }

    /// Sends that many requests and measures what they cost.
    ///
    /// # Errors
    /// When a request is not answered with 200, or there are no fresh tokens left.
    pub(crate) async fn measure(&mut self, requests: usize, tokens: &Tokens) -> Result<Cost> {
        let credentials: Vec<HeaderValue> = match self.setup.traffic() {
            Traffic::Seen => tokens
                .seen
                .iter()
                .cycle()
                .skip(self.sent % tokens.seen.len())
                .take(requests)
                .cloned()
                .collect(),
            Traffic::Fresh => tokens.fresh.iter().skip(self.sent).take(requests).cloned().collect(),
        };
        ensure!(credentials.len() == requests, "there are no fresh tokens left");
        let pid = self.envoy.pid().context("Envoy has ended")?;
        let (began, before) = (Instant::now(), cpu::used_by(pid)?);
        let sent = self.client.send_all(credentials.into_iter()).await;
        let (wall, used) = (began.elapsed(), cpu::used_by(pid)?.saturating_sub(before));
        sent.with_context(|| format!("`{}` does not answer as it should", self.setup.name()))?;
        self.sent += requests;
        let count = f64::from(u32::try_from(requests)?);
        Ok(Cost {
            cpu_us: micros(used) / count,
            per_second: count / wall.as_secs_f64(),
        })
    }

    /// Ends its Envoy.
    ///
    /// # Errors
    /// When the system does not let it be stopped.
    pub(crate) async fn stop(self) -> Result<()> {
        self.envoy.stop().await.map(drop)
    }
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// What an upstream would have seen; Envoy shows a header that is not there as `-` or not at all.
fn shown<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let value = headers.get(name)?.to_str().ok()?;
    (value != "-").then_some(value)
}
