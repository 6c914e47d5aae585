//! What the filter saw and decided, against what the upstream behind the real Envoy got: thousands of
//! targets, with and without Envoy's own normalisation. No target is public for the filter and leads
//! to a protected path at the upstream, and what is protected is admitted as the module that it leads to.

#[path = "paths/targets.rs"]
mod targets;
#[path = "paths/upstream.rs"]
mod upstream;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context, ensure};
use bytes::Bytes;
use corpus::case::{Made, Token};
use corpus::mint::Keys;
use envoy_e2e::{KeepAlive, Message, Reply, Setup, World, now};
use envoy_run::Bootstrap;
use http_body_util::Empty;
use hyper::client::conn::http2;
use hyper::http::uri::PathAndQuery;
use hyper::{Request, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use oracle::target;
use oracle::upstream as readers;
use serde_json::json;
use tokio::net::TcpStream;

use crate::upstream::Upstream;

/// How many targets each test sends, each of them up to three times.
const TARGETS: usize = 2_000;

/// How many connections they come on.
const CLIENTS: usize = 4;

/// What the configuration says is public.
const PUBLIC: [&str; 3] = ["/health", "/version", "/swagger"];

/// What has a module of its own.
const TRANSACTIONS: &str = "/v1/transactions";

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fate {
    /// The upstream got this target, in the name of this tenant and module, which are empty on public
    /// paths.
    Forwarded {
        target: String,
        tenant: String,
        module: String,
    },
    /// The filter refused it.
    Denied(u16, String),
    /// Envoy answered it without asking the filter.
    NotServed(u16),
}

impl Fate {
    fn of(reply: &Reply) -> anyhow::Result<Self> {
        if let (Some(tenant), Some(module)) = (reply.header("x-seen-tenant"), reply.header("x-seen-module")) {
            let target = String::from_utf8(reply.body.clone())?;
            return Ok(Self::Forwarded { target, tenant, module });
        }
        match (reply.status, reply.code()) {
            (status @ (400 | 401 | 503), code) if !code.is_empty() => Ok(Self::Denied(status, code)),
            (status @ (400 | 404), _) => Ok(Self::NotServed(status)),
            (status, _) => anyhow::bail!("{status} {}", reply.text()),
        }
    }

    fn is_public(&self) -> bool {
        matches!(self, Self::Forwarded { tenant, .. } if tenant.is_empty())
    }

    fn is_denial(&self, code: &str) -> bool {
        matches!(self, Self::Denied(_, found) if found == code)
    }
}

/// A world of which the upstream says what it got.
struct Observed {
    world: World,
    _upstream: Upstream,
    /// `acme` may use both modules, `half` only the default one.
    acme: Vec<u8>,
    half: Vec<u8>,
    /// Whether Envoy shows the filter what the client wrote.
    as_written: bool,
}

impl Observed {
    /// Behind an Envoy that normalises nothing.
    async fn as_written() -> anyhow::Result<Self> {
        Ok(Self {
            as_written: true,
            ..Self::start(|_| {}).await?
        })
    }

    async fn start(change: fn(&mut Bootstrap)) -> anyhow::Result<Self> {
        let upstream = Upstream::start().await?;
        let config = json!({ "scope": { "emit": { "module": "x-tenant-module" } } });
        let setup = Setup::of_corpus(config)?.upstream(upstream.address()).change(change);
        Ok(Self {
            world: setup.start().await?,
            _upstream: upstream,
            acme: bearer("acme")?,
            half: bearer("half")?,
            as_written: false,
        })
    }

    /// Sends every target, and gives what became of each kind, by its name.
    async fn judge_all(&self) -> anyhow::Result<BTreeMap<&'static str, usize>> {
        let targets = targets::generated(TARGETS);
        let shares = targets.chunks(TARGETS.div_ceil(CLIENTS)).map(|share| self.judge(share));
        let mut counts = BTreeMap::new();
        for share in futures_util::future::try_join_all(shares).await? {
            for kind in share {
                *counts.entry(kind).or_default() += 1;
            }
        }
        self.world.check_workers_live().await?;
        Ok(counts)
    }

    async fn judge(&self, targets: &[Vec<u8>]) -> anyhow::Result<Vec<&'static str>> {
        let mut client = KeepAlive::new(self.world.envoy.address());
        let mut kinds = Vec::new();
        for target in targets {
            let judged = self.judge_one(&mut client, target).await;
            kinds.push(judged.with_context(|| target.escape_ascii().to_string())?);
        }
        Ok(kinds)
    }

    async fn judge_one(&self, client: &mut KeepAlive, target: &[u8]) -> anyhow::Result<&'static str> {
        let anonymous = send(client, target, None).await?;
        match &anonymous {
            Fate::Forwarded { target, tenant, module } => {
                let target = target.as_bytes();
                ensure!(
                    target::is_public(&PUBLIC, "GET", target),
                    "no rule makes {anonymous:?} public"
                );
                ensure!(
                    !readers::may_leave(&PUBLIC, target),
                    "an upstream may find {anonymous:?} elsewhere"
                );
                ensure!(tenant.is_empty() && module.is_empty(), "nobody sent {anonymous:?}");
                return Ok("public");
            }
            Fate::NotServed(_) => return Ok("not served"),
            Fate::Denied(..) => {}
        }
        let acme = send(client, target, Some(&self.acme)).await?;
        let half = send(client, target, Some(&self.half)).await?;
        if anonymous.is_denial("PATH_REJECTED") {
            ensure!(
                acme == anonymous && half == anonymous,
                "refused for some only: {acme:?}, {half:?}"
            );
            ensure!(
                !self.as_written || target::is_hazardous(target),
                "refused without a hazard"
            );
            return Ok("hazardous");
        }
        ensure!(anonymous.is_denial("TENANT_ID_REQUIRED"), "{anonymous:?}");
        let Fate::Forwarded { target, tenant, module } = &acme else {
            anyhow::bail!("a tenant with every module got {acme:?}");
        };
        let target = target.as_bytes();
        ensure!(tenant == "acme" && *module == module_of(target), "{acme:?}");
        ensure!(!target::is_hazardous(target), "{acme:?} is hazardous");
        ensure!(
            !target::is_public(&PUBLIC, "GET", target),
            "{acme:?} is public and needed a token"
        );
        if let Fate::Forwarded { target, module, .. } = &half {
            let ungranted = may_be_transactions(target.as_bytes());
            ensure!(
                module == "onboarding" && !ungranted,
                "a tenant without this module got {half:?}"
            );
            return Ok("protected");
        }
        ensure!(half.is_denial("SERVICE_NOT_CONFIGURED"), "{half:?}");
        ensure!(
            may_be_transactions(target),
            "nobody reads another module in this: {half:?}"
        );
        Ok("of the other module")
    }
}

/// Sends targets over HTTP/2, all on one connection, without a credential and then with this one. What
/// no URI can be made of is left out, and what Envoy resets counts as not served.
async fn over_http2(address: SocketAddr, targets: &[Vec<u8>], credential: &[u8]) -> anyhow::Result<Vec<Sent>> {
    let stream = TokioIo::new(TcpStream::connect(address).await?);
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
    let connection = tokio::spawn(connection);
    let mut all = Vec::new();
    for target in targets {
        let Ok(path) = PathAndQuery::try_from(target.as_slice()) else {
            continue;
        };
        if path.as_str().as_bytes() != target || !target.starts_with(b"/") {
            continue;
        }
        let mut fates = Vec::new();
        for credential in [None, Some(credential)] {
            let uri = Uri::builder()
                .scheme("http")
                .authority("ledger.example.com")
                .path_and_query(path.clone());
            let mut request = Request::get(uri.build()?);
            if let Some(credential) = credential {
                request = request.header("authorization", credential);
            }
            sender.ready().await?;
            fates.push(match sender.send_request(request.body(Empty::<Bytes>::new())?).await {
                Ok(reply) => Fate::of(&Reply::read(reply, 64 * 1024).await?)?,
                Err(_) => Fate::NotServed(0),
            });
        }
        all.push((target.clone(), fates));
    }
    connection.abort();
    Ok(all)
}

/// A target, and what became of it without a credential and with one.
type Sent = (Vec<u8>, Vec<Fate>);

/// A valid token that costs little to verify.
fn bearer(tenant: &str) -> anyhow::Result<Vec<u8>> {
    let made = Made {
        tenant: Some(tenant.to_owned()),
        key: Some("main-hs256".to_owned()),
        ..Made::default()
    };
    let token = Keys::shared().token(&Token::Made(Box::new(made)), now())?;
    Ok([b"Bearer ", &token[..]].concat())
}

async fn send(client: &mut KeepAlive, target: &[u8], credential: Option<&[u8]>) -> anyhow::Result<Fate> {
    let message = Message::new("GET", target);
    let message = match credential {
        Some(credential) => message.line("authorization", credential),
        None => message,
    };
    Fate::of(&client.send(&message).await?)
}

/// The module of a target as it is written.
fn module_of(target: &[u8]) -> &'static str {
    let covered = readers::covers(TRANSACTIONS, target::before_query(target));
    if covered { "transaction" } else { "onboarding" }
}

/// Whether some upstream takes the target for one of the other module.
fn may_be_transactions(target: &[u8]) -> bool {
    let mut readings = readers::readings(target).into_iter();
    readings.any(|reading| readers::covers_in_any_case(TRANSACTIONS, &reading))
}

/// Every kind of target must have been there often, or a test shows nothing.
fn ensure_all_kinds(counts: &BTreeMap<&str, usize>, kinds: &[(&str, usize)]) -> anyhow::Result<()> {
    for (kind, least) in kinds {
        let count = counts.get(kind).copied().unwrap_or_default();
        ensure!(count >= *least, "only {count} targets were {kind}: {counts:?}");
    }
    Ok(())
}

const KINDS: [(&str, usize); 5] = [
    ("public", 50),
    ("protected", 200),
    ("of the other module", 80),
    ("hazardous", 300),
    ("not served", 50),
];

#[tokio::test]
async fn what_is_public_for_the_filter_is_public_for_the_upstream() -> anyhow::Result<()> {
    let observed = Observed::as_written().await?;
    ensure_all_kinds(&observed.judge_all().await?, &KINDS)?;
    observed.world.stop().await
}

#[tokio::test]
async fn so_it_is_behind_an_envoy_that_normalises_paths() -> anyhow::Result<()> {
    let normalises = |bootstrap: &mut Bootstrap| {
        bootstrap.hcm()["normalize_path"] = true.into();
        bootstrap.hcm()["merge_slashes"] = true.into();
    };
    let observed = Observed::start(normalises).await?;
    ensure_all_kinds(&observed.judge_all().await?, &KINDS)?;
    observed.world.stop().await
}

#[tokio::test]
async fn so_it_is_behind_an_envoy_that_unescapes_slashes_too() -> anyhow::Result<()> {
    let unescapes = |bootstrap: &mut Bootstrap| {
        bootstrap.hcm()["normalize_path"] = true.into();
        bootstrap.hcm()["merge_slashes"] = true.into();
        bootstrap.hcm()["path_with_escaped_slashes_action"] = "UNESCAPE_AND_FORWARD".into();
    };
    let observed = Observed::start(unescapes).await?;
    ensure_all_kinds(&observed.judge_all().await?, &KINDS)?;
    observed.world.stop().await
}

#[tokio::test]
async fn http_2_changes_nothing_of_it() -> anyhow::Result<()> {
    let observed = Observed::as_written().await?;
    let address = observed.world.envoy.address();
    let mut client = KeepAlive::new(address);
    let sent = over_http2(address, &targets::generated(TARGETS / 2), &observed.acme).await?;
    ensure!(sent.len() > TARGETS / 4, "only {} targets were sent", sent.len());
    for (target, over_http2) in sent {
        let over_http1 = [
            send(&mut client, &target, None).await?,
            send(&mut client, &target, Some(&observed.acme)).await?,
        ];
        for (ours, theirs) in over_http2.iter().zip(&over_http1) {
            // Of HTTP/1.1 Envoy accepts fewer bytes. What it accepts besides is judged by the filter.
            let not_compared = matches!(theirs, Fate::NotServed(_)) && !ours.is_public();
            ensure!(
                not_compared || ours == theirs,
                "{}: {ours:?}, over HTTP/1.1 {theirs:?}",
                target.escape_ascii()
            );
        }
    }
    observed.world.check_workers_live().await?;
    observed.world.stop().await
}
