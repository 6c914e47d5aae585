//! The world of the corpus' base file, patched, and requests by its tenants.

use std::sync::OnceLock;
use std::time::Duration;

use corpus::Corpus;
use corpus::case::{Case, Made, Suite, Token};
use corpus::mint::Keys;
use serde_json::{Value, json};
use tiny_envoy::{Builder, LocalReply, Outcome, PeerRequest, Plugin, RequestBuilder, StreamId, TinyEnvoy};

use crate::tenant_manager::TenantManager;

/// `timeout_ms` of the base configuration.
pub(crate) const TIMEOUT: Duration = ms(500);

/// What a request may wait beyond `timeout_ms`.
pub(crate) const GRACE: Duration = ms(500);

pub(crate) const ACCOUNTS: &str = "/v1/accounts";

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

/// The finished filter.
pub(crate) fn plugin() -> Plugin {
    let path = tiny_envoy::finished_filter().unwrap_or_else(|error| panic!("{error}"));
    Plugin::load(path).expect("the filter is a valid module")
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
