//! The world of the corpus' base file, patched, and requests by its tenants.

use std::sync::OnceLock;
use std::time::Duration;

use corpus::Corpus;
use corpus::case::{Case, Made, Suite, Token};
use corpus::mint::Keys;
use serde_json::{Value, json};
use tiny_envoy::{
    Builder, FailurePolicy, LocalReply, Outcome, PeerRequest, Plugin, RequestBuilder, StreamId, TinyEnvoy,
};

use crate::tenant_manager::TenantManager;

/// `timeout_ms` of the base configuration.
pub(crate) const TIMEOUT: Duration = ms(500);

/// What a request may wait beyond `timeout_ms`.
pub(crate) const GRACE: Duration = ms(500);

pub(crate) const ACCOUNTS: &str = "/v1/accounts";

/// Where events arrive in [`with_events`].
pub(crate) const EVENTS: &str = "/-/tenantgate/events";
pub(crate) const EVENTS_KEY: &str = "planted-events-key";

/// Enough for every callback of [`mortal`] workers, and for few headers.
const LITTLE_FUEL: u64 = 50_000_000;

/// Headers that take more than [`LITTLE_FUEL`] to look at.
const MANY_HEADERS: usize = 200_000;

/// One Envoy and the Tenant Manager that it asks.
pub(crate) struct World {
    pub(crate) envoy: TinyEnvoy,
    pub(crate) manager: TenantManager,
}

pub(crate) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The corpus, read once.
fn corpus() -> &'static Corpus {
    static CORPUS: OnceLock<Corpus> = OnceLock::new();
    CORPUS.get_or_init(|| corpus::load(&corpus::cases_dir()).expect("the corpus loads"))
}

/// The base configuration under a JSON merge patch, its keys filled in.
pub(crate) fn config(patch: Value) -> Value {
    let corpus = corpus();
    let suite: Suite = serde_json::from_value(json!({ "about": "", "config": patch, "cases": [] })).expect("a suite");
    let case: Case = serde_json::from_value(json!({ "name": "" })).expect("a case");
    let merged = corpus::merged_config(&corpus.base, &suite, &case);
    Keys::shared().expand_config(&merged).expect("keys that exist")
}

/// The base configuration under a patch, with an events listener in the environment `staging`, and
/// slugs told to the upstream.
pub(crate) fn with_events(mut patch: Value) -> Value {
    patch["environment"] = json!("staging");
    patch["events"] = json!({ "path": EVENTS, "api_keys": [{ "value": EVENTS_KEY }] });
    patch["scope"]["emit"]["slug"] = json!("x-tenant-slug");
    config(patch)
}

/// A configuration with one HMAC key, whose workers [`World::kill`] can kill.
pub(crate) fn mortal(mut patch: Value) -> Value {
    patch["auth"] = json!({ "issuers": [{
        "issuer": "https://hmac.example.com", "algorithms": ["HS256"], "tenants": "any",
        "jwks": { "inline": { "$keys": ["main-hs256"] } },
    }] });
    with_events(patch)
}

/// Workers that [`World::kill`] can kill, and that are loaded anew at their next request.
pub(crate) fn mortals(builder: Builder) -> Builder {
    builder
        .failure_policy(FailurePolicy::Reload(Duration::ZERO))
        .fuel_per_call(LITTLE_FUEL)
}

/// The finished filter, compiled once.
pub(crate) fn plugin() -> Plugin {
    static COMPILED: OnceLock<Plugin> = OnceLock::new();
    let compile = || {
        let path = corpus::finished_filter().expect("the finished filter");
        Plugin::load(path).expect("the filter is a valid module")
    };
    COMPILED.get_or_init(compile).clone()
}

/// A world under a patch of the base configuration.
pub(crate) fn world(patch: Value) -> World {
    World::start(&config(patch), |builder| builder)
}

impl World {
    /// A world with this configuration; `tune` has the last word on the host.
    pub(crate) fn start(config: &Value, tune: impl FnOnce(Builder) -> Builder) -> Self {
        let manager = TenantManager::new(config, corpus().base.tenants.clone());
        let peer = manager.clone();
        let builder = TinyEnvoy::builder()
            .plugin(&plugin())
            .config(config.to_string())
            .cluster("tenant-manager", move |request: &PeerRequest| peer.answer(request));
        let envoy = tune(builder)
            .start()
            .unwrap_or_else(|error| panic!("the plugin does not start: {error}: {:#?}", error.logs));
        Self { envoy, manager }
    }

    /// A world of so many workers under a patch of [`with_events`].
    pub(crate) fn with_workers(count: usize, patch: Value) -> Self {
        Self::start(&with_events(patch), |builder| builder.workers(count))
    }

    /// A world whose workers can be killed, and are loaded anew at their next request.
    pub(crate) fn of_mortals(count: usize, patch: Value) -> Self {
        Self::start(&mortal(patch), |builder| mortals(builder.workers(count)))
    }

    /// The VM of a worker dies, and what it had begun with it.
    pub(crate) fn kill(&mut self, worker: usize) {
        let deaths = self.envoy.deaths().len();
        let mut killer = self.envoy.get(ACCOUNTS).worker(worker);
        for n in 0..MANY_HEADERS {
            killer = killer.header("x-tenant-many", n.to_string());
        }
        killer.send();
        assert_eq!(self.envoy.deaths().len(), deaths + 1, "it runs out of fuel");
    }

    /// From now on the Tenant Manager answers this about a tenant.
    pub(crate) fn answer(&self, tenant: &str, answer: Value) {
        let answers = serde_json::from_value(json!({ tenant: answer })).expect("an answer");
        self.manager.change(&answers);
    }

    /// `authorization` of a good token of this tenant. Its key is the quickest to verify.
    pub(crate) fn bearer(&self, tenant: &str) -> Vec<u8> {
        self.bearer_of(Made {
            tenant: Some(tenant.to_owned()),
            key: Some("main-hs256".to_owned()),
            ..Made::default()
        })
    }

    /// `authorization` of a token made to measure.
    pub(crate) fn bearer_of(&self, made: Made) -> Vec<u8> {
        let token = Keys::shared().token(&Token::Made(Box::new(made)), self.envoy.unix_seconds());
        [b"Bearer ".to_vec(), token.expect("a token")].concat()
    }

    /// A request by a tenant, not sent yet.
    pub(crate) fn request(&mut self, method: &str, tenant: &str) -> RequestBuilder<'_> {
        let bearer = self.bearer(tenant);
        self.envoy.request(method, ACCOUNTS).header("authorization", bearer)
    }

    /// Sends a request by a tenant to a worker.
    pub(crate) fn ask(&mut self, tenant: &str, worker: usize) -> StreamId {
        self.request("GET", tenant).worker(worker).send()
    }

    /// Sends a request by a tenant to worker 0 and waits for what comes of it.
    pub(crate) fn run(&mut self, tenant: &str) -> Outcome {
        self.request("GET", tenant).run()
    }

    /// Sends a request by a tenant to a worker and gives what becomes of it at once.
    #[track_caller]
    pub(crate) fn ask_now(&mut self, tenant: &str, worker: usize) -> Outcome {
        let stream = self.ask(tenant, worker);
        self.envoy.outcome(stream)
    }

    /// Sends a request by a tenant to a worker and waits for what comes of it.
    pub(crate) fn run_on(&mut self, tenant: &str, worker: usize) -> Outcome {
        let stream = self.ask(tenant, worker);
        self.envoy.decide(stream)
    }

    /// A record of this tenant with this slug is what the Tenant Manager has from now on.
    pub(crate) fn record(&self, tenant: &str, slug: &str) {
        self.answer(tenant, json!({ "record": record(tenant, slug) }));
    }

    /// The same, after a while.
    pub(crate) fn slow_record(&self, tenant: &str, slug: &str, delay_ms: u64) {
        self.answer(tenant, json!({ "record": record(tenant, slug), "delay_ms": delay_ms }));
    }

    /// How often the Tenant Manager has been asked since the last time.
    pub(crate) fn asked(&mut self) -> usize {
        self.envoy.settle();
        self.manager.take_received().len()
    }

    /// Sends events to a worker, and gives the reply at once: nothing else has happened since.
    #[track_caller]
    pub(crate) fn tell(&mut self, worker: usize, events: &Value) -> LocalReply {
        let stream = self
            .envoy
            .post(EVENTS)
            .worker(worker)
            .header("x-api-key", EVENTS_KEY)
            .body(events.to_string())
            .send();
        self.envoy.outcome(stream).replied()
    }

    /// Sends events to a worker that takes every one of them, or passes it over.
    #[track_caller]
    pub(crate) fn told(&mut self, worker: usize, events: &Value) -> Value {
        let reply = self.tell(worker, events);
        assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
        serde_json::from_slice(&reply.body).expect("JSON")
    }

    /// Nothing happens by itself any more: no tick, no callout, for a minute.
    #[track_caller]
    pub(crate) fn assert_quiet(&mut self) {
        self.envoy.settle();
        let before = self.envoy.elapsed();
        // Time moves from event to event for as long as this stream is undecided, and it stays so.
        let stream = self.envoy.post("/health").open();
        self.envoy.decide(stream);
        let last_event = self.envoy.elapsed() - before;
        assert_eq!(last_event, Duration::ZERO, "something happened after this long");
        self.envoy.disconnect(stream);
    }

    /// No VM has died, and the Tenant Manager was asked nothing strange.
    #[track_caller]
    pub(crate) fn assert_healthy(&self) {
        self.envoy.assert_alive();
        assert_eq!(self.manager.strange_paths(), Vec::<String>::new());
    }

    /// As [`World::assert_healthy`], where the Tenant Manager was asked for this path too.
    #[track_caller]
    pub(crate) fn assert_healthy_but_for(&self, path: &str) {
        self.envoy.assert_alive();
        let strange = self.manager.strange_paths();
        assert!(strange.iter().all(|other| other.starts_with(path)), "{strange:?}");
    }

    /// The streams that are still undecided among these.
    pub(crate) fn undecided(&self, streams: &[StreamId]) -> Vec<StreamId> {
        let pending = self.envoy.pending();
        streams
            .iter()
            .copied()
            .filter(|stream| pending.contains(stream))
            .collect()
    }
}

/// A record with a slug.
pub(crate) fn record(tenant: &str, slug: &str) -> Value {
    json!({ "id": tenant, "tenantSlug": slug, "databases": { "onboarding": {} } })
}

/// The slug that a forwarded request was forwarded with.
#[track_caller]
pub(crate) fn slug(outcome: Outcome) -> String {
    let request = outcome.forwarded();
    request.headers.text("x-tenant-slug").expect("a slug")
}

/// `retry-after` of a denial, in seconds.
#[track_caller]
pub(crate) fn retry_after(outcome: Outcome) -> u64 {
    let reply = outcome.replied();
    let seconds = reply.headers.text("retry-after");
    seconds
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| panic!("when? {reply:?}"))
}

/// Status and `code` of a denial.
#[track_caller]
pub(crate) fn denied(outcome: Outcome) -> (u16, String) {
    let reply = outcome.replied();
    (reply.status, code(&reply))
}

/// The member `code` of a denial's body.
#[track_caller]
pub(crate) fn code(reply: &LocalReply) -> String {
    let body: Value = serde_json::from_slice(&reply.body).unwrap_or_else(|e| panic!("{e}: {reply:?}"));
    body["code"].as_str().expect("a code").to_owned()
}

/// The tenant that a forwarded request was forwarded for.
#[track_caller]
pub(crate) fn forwarded_for(outcome: Outcome) -> String {
    let request = outcome.forwarded();
    assert_eq!(request.headers.get_all("x-tenant-id").len(), 1, "{request:?}");
    request.headers.text("x-tenant-id").expect("a tenant")
}

/// The denial of a tenant that cannot be looked up: it must say when to try again.
#[track_caller]
pub(crate) fn assert_unavailable(outcome: Outcome, code: &str) {
    let reply = outcome.replied();
    assert_eq!((reply.status, self::code(&reply).as_str()), (503, code));
    let retry_after = reply
        .headers
        .text("retry-after")
        .and_then(|text| text.parse::<u64>().ok());
    assert!(retry_after.is_some_and(|seconds| seconds >= 1), "{reply:?}");
}
