//! The bench that this stage is tested on: a world, some workers, and a Tenant Manager that says
//! what a test has it say. Then what one worker does with one lookup.

use serde_json::{Value, json};

use super::*;
use crate::config::{Environment, Plugin, compile};
use crate::errand::{Answer, Answered, Callout, Learned};
use crate::remark::Remark;
use crate::telemetry::Gauge;
use crate::world::World;

mod allow;
mod answers;
mod freshness;
mod guarantees;
mod host;
mod lookups;
mod neighbours;
mod open_streams;

/// A record of `acme` and whoever else: the tests' Tenant Manager names nobody.
pub(super) const RECORD: &str = "{}";

/// Compiles a configuration; `patch` is merged into its `tenant_manager`.
pub(super) fn config(patch: &Value) -> Config {
    let mut document = json!({
        "version": "v1", "enabled": true, "service": "ledger", "environment": "staging",
        "auth": { "issuers": [{ "issuer": "i", "algorithms": ["HS256"], "jwks": { "inline": { "keys": [
            { "kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2Vj" }] } } }] },
        "tenant_manager": { "cluster": "tm", "authority": "tm", "api_keys": [{ "value": "one" }, { "value": "two" }],
            "timeout_ms": 1000 },
    });
    json_patch::merge(&mut document["tenant_manager"], patch);
    compiled(&document)
}

pub(super) fn compiled(document: &Value) -> Config {
    match compile(document.to_string().as_bytes(), &Environment::default()).map(|compiled| compiled.plugin) {
        Ok(Plugin::MultiTenant(config)) => *config,
        other => panic!("{other:?}"),
    }
}

pub(super) fn tenant(name: &str) -> TenantId {
    TenantId::parse(name, false).unwrap()
}

/// One worker with one plugin.
pub(super) struct Worker {
    pub(super) config: Config,
    pub(super) resolver: Resolver,
}

impl Worker {
    pub(super) fn new(config: Config) -> Self {
        let resolver = Resolver::new(&config, config.tenant_manager.as_ref().unwrap());
        Self { config, resolver }
    }

    pub(super) fn resolve(&mut self, name: &str, world: &World) -> Resolution {
        let manager = self.config.tenant_manager.as_ref().unwrap();
        self.resolver
            .resolve(manager, &tenant(name), None, Now::of(world), world)
    }

    pub(super) fn wait(&mut self, name: &str, world: &World) -> Wait {
        match self.resolve(name, world) {
            Resolution::Wait(wait) => wait,
            known => panic!("{known:?}"),
        }
    }

    /// What is known at once.
    pub(super) fn known(&mut self, name: &str, world: &World) -> Rc<Outcome> {
        match self.resolve(name, world) {
            Resolution::Known(outcome) => outcome,
            wait => panic!("{wait:?}"),
        }
    }

    /// Has a lookup begun that a request waits for.
    pub(super) fn begin(&mut self, name: &str, world: &World) -> LookupId {
        let wait = self.wait(name, world);
        let id = wait.seat.lookup();
        assert_eq!(wait.begins, Some(Errand::Lookup(id)));
        assert!(self.ask(id).is_some());
        id
    }

    pub(super) fn ask(&mut self, id: LookupId) -> Option<Callout> {
        self.resolver.question(&self.config, id)
    }

    pub(super) fn answer(&mut self, id: LookupId, answer: Answer<'_>, world: &World) -> Answered {
        self.resolver.answered(&self.config, id, answer, world)
    }

    pub(super) fn answered(&mut self, id: LookupId, status: u16, body: &str, world: &World) -> Answered {
        self.answer(id, http(status, body), world)
    }

    /// Looks a tenant up from the question to the answer.
    pub(super) fn look_up(&mut self, name: &str, status: u16, body: &str, world: &World) -> Rc<Outcome> {
        let id = self.begin(name, world);
        outcome(self.answered(id, status, body, world))
    }

    /// The lookups to be started that nobody waits for; each is asked.
    pub(super) fn refreshes(&mut self) -> Vec<LookupId> {
        let errands = self.resolver.take_errands();
        let ids = errands.into_iter().filter_map(|errand| match errand {
            Errand::Lookup(id) => Some(id),
            Errand::List(_) | Errand::Fetch(_) => None,
        });
        ids.filter(|id| self.resolver.question(&self.config, *id).is_some())
            .collect()
    }

    pub(super) fn obey(&mut self, commands: &[Command], world: &World) -> Result<Vec<bool>, crate::node::NotWritten> {
        let manager = self.config.tenant_manager.as_ref().unwrap();
        self.resolver.obey(manager, commands, world)
    }

    pub(super) fn give_up(&mut self, name: &str, world: &World) -> Rc<Outcome> {
        let manager = self.config.tenant_manager.as_ref().unwrap();
        self.resolver.give_up(manager, &tenant(name), (Now::of(world), world))
    }

    pub(super) fn tick(&mut self, world: &World) -> Option<u64> {
        let manager = self.config.tenant_manager.as_ref().unwrap();
        self.resolver.tick(manager, world);
        self.resolver.due_ms()
    }
}

/// Workers of one node.
pub(super) struct Bench {
    pub(super) world: World,
    pub(super) workers: Vec<Worker>,
    /// The lookups under way, by worker.
    pub(super) pending: Vec<(usize, LookupId)>,
}

impl Bench {
    pub(super) fn new(workers: usize, patch: &Value) -> Self {
        let world = World::default();
        // The middle of every range that something is drawn from.
        world.random.set(1 << 31);
        let workers = (0..workers).map(|_| Worker::new(config(patch))).collect();
        Self {
            world,
            workers,
            pending: Vec::new(),
        }
    }

    pub(super) fn at(&mut self, now_ms: u64) {
        assert!(self.world.now_ms.get() <= now_ms, "time goes on");
        self.world.now_ms.set(now_ms);
    }
}

pub(super) fn http(status: u16, body: &str) -> Answer<'_> {
    Answer::Http {
        status,
        retry_after_seconds: None,
        body: Some(body.as_bytes()),
    }
}

pub(super) fn news(answered: Answered) -> Tidings {
    match answered {
        Answered::Over {
            news: Some((_, Learned::Tenant(tidings))),
            ..
        } => tidings,
        other => panic!("{other:?}"),
    }
}

pub(super) fn outcome(answered: Answered) -> Rc<Outcome> {
    news(answered).outcome.unwrap()
}

pub(super) fn is_forgotten(answered: &Answered) -> bool {
    matches!(answered, Answered::Over { news: None, remarks } if remarks.is_empty())
}

pub(super) fn is_record(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Found(record) if record.is_active())
}

pub(super) fn refused(status: &str) -> Outcome {
    Outcome::Refused { status: status.into() }
}

pub(super) fn event(name: &str, order: Order, at_ms: Option<i64>) -> Command {
    Command::Tenant {
        tenant: tenant(name),
        order,
        at_ms,
    }
}

pub(super) fn refuse(status: &str) -> Order {
    Order::Refuse {
        status: status.into(),
        everywhere: true,
    }
}

pub(super) fn api_key(callout: &Callout) -> &str {
    let mut headers = callout.headers.iter();
    headers
        .find(|(name, _)| *name == "x-api-key")
        .map(|(_, value)| value.as_str())
        .unwrap()
}
