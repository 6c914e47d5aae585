//! One tenant of which something changes, two workers, and what each of them does meanwhile.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use serde_json::{Value, json};
use tiny_envoy::{Builder, Explored, Explorer, PeerRequest, Scene, StreamId, TinyEnvoy};

use super::finished::{Finished, said};
use crate::world::{ACCOUNTS, World, config, ms};

pub(crate) const TENANT: &str = "acme";
/// One that has no part in it.
const OTHER: &str = "globex";
const EVENTS: &str = "/-/tenantgate/events";
const EVENTS_KEY: &str = "corpus-events-key-1";
/// Names a request to the upstream.
const LABEL: &str = "x-label";
/// How long the Tenant Manager takes before the race.
const DELAY_MS: u64 = 100;

/// What becomes of the tenant. The answers are those of the Tenant Manager, and each has a name: the
/// slug of a record that a request is forwarded with, or the code of its denial.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) before: (Value, &'static str),
    pub(crate) after: (Value, &'static str),
}

/// A record with this slug.
pub(crate) fn record(slug: &'static str) -> (Value, &'static str) {
    let record = json!({ "id": TENANT, "tenantSlug": slug, "databases": { "onboarding": {} } });
    (json!({ "record": record }), slug)
}

/// The Tenant Manager does not know it.
pub(crate) fn unknown() -> (Value, &'static str) {
    (json!({ "status": 404 }), "TENANT_NOT_FOUND")
}

/// The Tenant Manager refuses it.
pub(crate) fn suspended() -> (Value, &'static str) {
    (
        json!({ "status": 403, "body": { "status": "suspended" } }),
        "TENANT_SUSPENDED",
    )
}

/// How workers hear of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Host {
    /// By a gauge.
    WithBell,
    /// By the shared data, since the gauge stands still.
    WithoutBell,
}

/// A world before, in and after a race.
pub(crate) struct Race {
    world: World,
    bearer: Vec<u8>,
    other_bearer: Vec<u8>,
    host: Host,
    change: Change,
    journal: Journal,
    steps: Vec<(usize, Step)>,
    told: Vec<Place>,
    /// Whether an event makes the node's memory void as a whole, and leaves it where it is.
    is_voided: bool,
    labels: usize,
}

type Step = Box<dyn FnOnce(&mut TinyEnvoy) + Send>;

/// A step of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) worker: usize,
    pub(super) step: usize,
}

/// A request that takes part.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    /// `None`: it has waited since before the race.
    pub(super) begun: Option<Place>,
    pub(super) stream: StreamId,
    pub(super) label: usize,
}

/// What is noted of the requests.
#[derive(Debug, Clone, Default)]
struct Journal(Arc<Mutex<Notes>>);

#[derive(Debug, Default)]
struct Notes {
    asked: Vec<Asked>,
    /// The labels of what reached the upstream, in that order.
    forwarded: Vec<usize>,
}

impl Journal {
    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The configuration of all races: the node's table has one set, and the circuit opens soon.
fn configuration() -> &'static Value {
    static CONFIGURATION: OnceLock<Value> = OnceLock::new();
    CONFIGURATION.get_or_init(|| {
        config(json!({
            "environment": "staging",
            "events": { "path": EVENTS, "api_keys": [{ "value": EVENTS_KEY }] },
            "tenant_manager": {
                "cache": { "shared_slots": 8 },
                "breaker": { "threshold": 2, "open_seconds": 30 },
            },
            "scope": { "emit": { "slug": "x-tenant-slug" } },
        }))
    })
}

impl Race {
    /// A world in which nothing has happened yet and the Tenant Manager answers as before.
    pub(crate) fn new(host: Host, change: &Change) -> Self {
        Self::among(2, host, change)
    }

    /// … of so many workers.
    pub(crate) fn among(workers: usize, host: Host, change: &Change) -> Self {
        let journal = Journal::default();
        let seen = journal.clone();
        let upstream = move |request: &PeerRequest| {
            let label = request.headers.text(LABEL).and_then(|label| label.parse().ok());
            seen.notes().forwarded.push(label.expect("every request has a label"));
            tiny_envoy::Answer::status(200)
        };
        let tune = |builder: Builder| {
            let builder = builder.workers(workers).upstream(upstream);
            match host {
                Host::WithBell => builder,
                Host::WithoutBell => builder.reject_stats("tenantgate_epoch"),
            }
        };
        let world = World::start(configuration(), tune);
        let (bearer, other_bearer) = (world.bearer(TENANT), world.bearer(OTHER));
        world.answer(OTHER, json!({ "status": 500 }));
        world.answer(TENANT, change.before.0.clone());
        Self {
            world,
            bearer,
            other_bearer,
            host,
            change: change.clone(),
            journal,
            steps: Vec::new(),
            told: Vec::new(),
            is_voided: false,
            labels: 0,
        }
    }

    /// The tenant is known to this worker, as it was before.
    pub(crate) fn knows(self, worker: usize) -> Self {
        let (answer, before) = self.change.before.clone();
        self.knows_as((answer, before), worker)
    }

    /// The tenant is known to this worker by this answer of the Tenant Manager.
    pub(crate) fn knows_as(mut self, (answer, name): (Value, &str), worker: usize) -> Self {
        self.world.answer(TENANT, answer);
        assert_eq!(self.probe(worker), name);
        self
    }

    /// Time passes.
    pub(crate) fn passes(mut self, by_ms: u64) -> Self {
        self.world.envoy.advance(ms(by_ms));
        self
    }

    /// So much that a record is stale for certain, and still served.
    pub(crate) fn grows_stale(self) -> Self {
        self.passes(135_000)
    }

    /// A request of this worker waits for a lookup. Its answer, which is that of before, is due when the
    /// race begins.
    pub(crate) fn waits(self, worker: usize) -> Self {
        let answer = self.change.before.0.clone();
        self.waits_for(worker, answer)
    }

    /// A request of this worker waits for a lookup, which was begun after the change.
    pub(crate) fn waits_for_news(self, worker: usize) -> Self {
        let answer = self.change.after.0.clone();
        self.waits_for(worker, answer)
    }

    fn waits_for(mut self, worker: usize, answer: Value) -> Self {
        let stream = self.held(worker, answer);
        assert_eq!(self.world.undecided(&[stream]), [stream]);
        self
    }

    /// A request of this worker is answered by a stale record, and the lookup that refreshes it is
    /// under way. Its answer, which is that of before, is due when the race begins.
    pub(crate) fn refreshes(mut self, worker: usize) -> Self {
        self.world.manager.take_received();
        let answer = self.change.before.0.clone();
        let stream = self.held(worker, answer);
        assert_eq!(said(self.world.envoy.outcome(stream)), self.change.before.1);
        assert_eq!(self.world.manager.take_received().len(), 1);
        self.journal.notes().asked.clear();
        self
    }

    fn held(&mut self, worker: usize, mut answer: Value) -> StreamId {
        answer["delay_ms"] = json!(DELAY_MS);
        self.world.answer(TENANT, answer);
        let label = self.label();
        let stream = ask(&mut self.world.envoy, &self.bearer, worker, label);
        self.world.envoy.settle();
        let begun = None;
        self.journal.notes().asked.push(Asked { begun, stream, label });
        stream
    }

    fn label(&mut self) -> usize {
        self.labels += 1;
        self.labels
    }

    /// From now on the Tenant Manager says something else, and what it has said before is due.
    pub(crate) fn changes(self) -> Self {
        let after = self.change.after.0.clone();
        self.changes_to(after)
    }

    /// The same, and what it says from now on takes longer than the race.
    pub(crate) fn changes_slowly(self) -> Self {
        let mut after = self.change.after.0.clone();
        after["delay_ms"] = json!(DELAY_MS);
        self.changes_to(after)
    }

    fn changes_to(mut self, answer: Value) -> Self {
        self.world.answer(TENANT, answer);
        self.world.envoy.stall(ms(DELAY_MS));
        self.world.manager.take_received();
        self.journal.notes().forwarded.clear();
        self
    }

    /// In the race: what is due for a worker happens.
    pub(crate) fn settles(self, worker: usize) -> Self {
        self.step(worker, TinyEnvoy::settle)
    }

    /// In the race: what is due for a worker happens, and it learns thereby what the Tenant Manager says
    /// now. That counts like an event.
    pub(crate) fn learns(mut self, worker: usize) -> Self {
        self.told.push(self.next_place(worker));
        self.settles(worker)
    }

    /// In the race: a request to a worker.
    pub(crate) fn asks(mut self, worker: usize) -> Self {
        let label = self.label();
        let (journal, bearer) = (self.journal.clone(), self.bearer.clone());
        let begun = Some(self.next_place(worker));
        self.step(worker, move |envoy| {
            let stream = ask(envoy, &bearer, worker, label);
            journal.notes().asked.push(Asked { begun, stream, label });
            envoy.settle();
        })
    }

    /// In the race: an event of this type to a worker, and then what it makes due.
    pub(crate) fn hears(mut self, worker: usize, kind: &str) -> Self {
        self.is_voided |= kind == "cache.invalidate_all";
        self.hears_all(worker, &json!([event(kind, None)]))
    }

    /// In the race: events to a worker, and then what they make due.
    pub(crate) fn hears_all(mut self, worker: usize, events: &Value) -> Self {
        let body = events.to_string();
        self.told.push(self.next_place(worker));
        self.step(worker, move |envoy| {
            let delivery = envoy.post(EVENTS).worker(worker).header("x-api-key", EVENTS_KEY);
            let stream = delivery.body(&body).send();
            let reply = envoy.outcome(stream).replied();
            assert_eq!(reply.status, 200, "{reply:?}");
        })
        .settles(worker)
    }

    fn step(mut self, worker: usize, step: impl FnOnce(&mut TinyEnvoy) + Send + 'static) -> Self {
        self.steps.push((worker, Box::new(step)));
        self
    }

    fn next_place(&self, worker: usize) -> Place {
        let step = self.steps.iter().filter(|(other, _)| *other == worker).count();
        Place { worker, step }
    }

    fn probe(&mut self, worker: usize) -> String {
        let stream = ask(&mut self.world.envoy, &self.bearer, worker, 0);
        said(self.world.envoy.decide(stream))
    }

    /// The race as a scene, with what must hold besides.
    pub(crate) fn scene(self, check: impl FnOnce(&mut Finished<'_>) + 'static) -> Scene {
        let World { envoy, manager } = self.world;
        let (bearer, other_bearer) = (self.bearer, self.other_bearer);
        let (host, change) = (self.host, self.change);
        let (journal, told) = (self.journal, self.told);
        let steps = self.steps.into_iter();
        let scene = steps.fold(Scene::new(envoy), |scene, (worker, step)| scene.step(worker, step));
        scene.check(move |envoy, run| {
            let Notes { asked, forwarded } = std::mem::take(&mut *journal.notes());
            let questions = manager.take_received().len();
            let mut finished = Finished {
                envoy,
                run,
                manager,
                bearer,
                other_bearer,
                host,
                change,
                told,
                asked,
                forwarded,
                questions,
            };
            check(&mut finished);
        })
    }

    /// The race as a scene: whoever begins after the event, or looks whether there was one after it,
    /// is served by what is known then, and what was known before serves nobody any more.
    pub(crate) fn scene_of_an_event(self) -> Scene {
        let is_voided = self.is_voided;
        self.scene(move |race| {
            race.assert_nobody_served_too_late();
            if !is_voided {
                race.assert_erased();
            }
            race.assert_nothing_left();
        })
    }
}

/// Runs a race under every schedule and says how many there were.
pub(crate) fn explore(about: &str, stage: impl Fn() -> Scene + Sync) -> Explored {
    let explored = Explorer::new().in_real_time().explore(stage);
    println!("{about}: {explored}");
    explored
}

/// An event about the tenant.
pub(crate) fn event(kind: &str, timestamp: Option<&str>) -> Value {
    json!({
        "event_id": "11111111-2222-4333-8444-555555555555",
        "event_type": kind,
        "timestamp": timestamp,
        "tenant_id": TENANT,
        "environment": "staging",
        "payload": { "service_name": "ledger" },
    })
}

pub(super) fn ask(envoy: &mut TinyEnvoy, bearer: &[u8], worker: usize, label: usize) -> StreamId {
    let request = envoy.get(ACCOUNTS).worker(worker).header("authorization", bearer);
    request.header(LABEL, label.to_string()).send()
}
