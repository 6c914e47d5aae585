//! What one plugin, one tenant or one slow worker must not be able to do to another.

use std::cell::RefCell;

use super::*;
use crate::node::{NotWritten, Shared, SignatureCheck, Version};

const MAX_LISTS: usize = 10;

fn in_environment(environment: &str) -> Worker {
    Worker::new(compiled(&json!({
        "version": "v1", "enabled": true, "service": "ledger", "environment": environment,
        "auth": { "issuers": [{ "issuer": "i", "algorithms": ["HS256"], "jwks": { "inline": { "keys": [
            { "kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2Vj" }] } } }] },
        "tenant_manager": { "cluster": environment, "authority": "tm", "api_keys": [{ "value": "one" }], "timeout_ms": 1000 },
    })))
}

fn environments() -> (World, Worker, Worker) {
    let world = World::default();
    world.random.set(1 << 31);
    (world, in_environment("staging"), in_environment("production"))
}

#[test]
fn what_happens_in_one_environment_concerns_no_other() {
    let (world, mut staging, mut production) = environments();
    production.look_up("acme", 200, RECORD, &world);
    staging
        .obey(&[event("acme", refuse("suspended"), None)], &world)
        .unwrap();
    assert!(
        matches!(production.resolve("acme", &world), Resolution::Wait(_)),
        "asked anew"
    );
    assert!(staging.known("acme", &world).refuses());

    production
        .obey(&[event("globex", refuse("suspended"), None)], &world)
        .unwrap();
    staging.obey(&[event("globex", Order::Lift, None)], &world).unwrap();
    assert!(production.known("globex", &world).refuses(), "not theirs to lift");

    let now_ms = i64::try_from(crate::world::NOW * 1_000).unwrap();
    staging
        .obey(&[event("initech", Order::Forget, Some(now_ms))], &world)
        .unwrap();
    let older = event("initech", refuse("suspended"), Some(now_ms - 6_000));
    assert_eq!(production.obey(&[older], &world), Ok(vec![true]), "the first one here");
    assert!(production.known("initech", &world).refuses());
}

#[test]
fn a_refusal_by_one_tenant_manager_takes_no_record_of_another() {
    let (world, mut staging, mut production) = environments();
    production.look_up("acme", 200, RECORD, &world);
    staging.look_up("acme", 404, "", &world);
    assert!(is_record(&production.known("acme", &world)));
}

#[test]
fn who_asks_too_often_does_not_pass_unverified() {
    let patch = json!({ "on_unavailable": "allow", "max_waiters": 16 });
    let Bench { world, mut workers, .. } = Bench::new(1, &patch);
    let worker = &mut workers[0];
    let _waiting = [worker.wait("ghost", &world), worker.wait("ghost", &world)];
    let third = worker.known("ghost", &world);
    assert_eq!(*third, Outcome::Unavailable(Unavailable::Overloaded));
    let to = crate::path::Destination {
        module: worker.config.modules.all().next().unwrap().clone(),
        readings: Vec::new(),
    };
    let candidate = crate::enforce::Candidate {
        tenant: tenant("ghost"),
        to,
        outcome: Some(&third),
        is_second_pass: false,
    };
    let admitted = crate::enforce::admit(candidate, crate::config::OnUnavailable::Allow, None, &world);
    assert_eq!(
        admitted.err(),
        Some(crate::denial::Denial::Unavailable(Unavailable::Overloaded))
    );
}

#[test]
fn a_tenant_that_was_refused_does_not_pass_unverified_because_it_was_invalidated() {
    let allow = json!({ "on_unavailable": "allow" });
    let Bench { world, mut workers, .. } = Bench::new(1, &allow);
    workers[0].look_up("acme", 403, r#"{"status":"suspended"}"#, &world);
    workers[0].obey(&[event("acme", Order::Forget, None)], &world).unwrap();
    let id = workers[0].begin("acme", &world);
    assert!(outcome(workers[0].answered(id, 500, "", &world)).refuses());

    let Bench { world, mut workers, .. } = Bench::new(2, &allow);
    workers[0]
        .obey(&[event("acme", refuse("suspended"), None)], &world)
        .unwrap();
    workers[0].known("acme", &world);
    world.pass(120_000);
    for worker in &mut workers {
        assert!(
            worker.give_up("acme", &world).refuses(),
            "its time is over, and nobody can be asked"
        );
    }
    workers[0].obey(&[event("acme", Order::Lift, None)], &world).unwrap();
    assert!(!workers[0].give_up("acme", &world).refuses(), "it may be served again");
}

#[test]
fn a_list_that_is_of_no_use_leaves_the_circuit_alone() {
    let patch = json!({ "discovery": { "interval_seconds": 60 } });
    let Bench { world, mut workers, .. } = Bench::new(1, &patch);
    let worker = &mut workers[0];
    let useless = [
        Answer::Unreachable,
        http(200, "{}"),
        http(500, ""),
        http(401, ""),
        Answer::Http {
            status: 200,
            retry_after_seconds: None,
            body: None,
        },
    ];
    for answer in useless.into_iter().cycle().take(MAX_LISTS) {
        worker.tick(&world);
        let Some(Errand::List(id)) = worker.resolver.take_errands().first().copied() else {
            panic!("a list is due")
        };
        assert!(worker.resolver.list_question(&worker.config, id).is_some());
        let answered = worker.resolver.list_answered(&worker.config, id, answer, &world);
        if let Answered::Again(_) = answered {
            worker.resolver.list_answered(&worker.config, id, answer, &world);
        }
        world.pass(10_001);
    }
    assert!(
        matches!(worker.resolve("acme", &world), Resolution::Wait(_)),
        "it is asked about"
    );
}

/// A node on which something happens while one worker is about to read a set.
struct Interrupted<'a> {
    world: &'a World,
    work: RefCell<Option<Box<dyn FnOnce() + 'a>>>,
}

impl Node for Interrupted<'_> {
    fn realtime_ms(&self) -> u64 {
        self.world.realtime_ms()
    }

    fn monotonic_ms(&self) -> u64 {
        self.world.monotonic_ms()
    }

    fn random(&self) -> u32 {
        self.world.random()
    }

    fn shared(&self, key: &str) -> Shared {
        if key.starts_with("tenantgate.set.")
            && let Some(work) = self.work.take()
        {
            work();
        }
        self.world.shared(key)
    }

    fn share(&self, key: &str, value: &[u8], expected: Version) -> Result<(), NotWritten> {
        self.world.share(key, value, expected)
    }

    fn bell(&self) -> Option<u64> {
        self.world.bell()
    }

    fn ring(&self) {
        self.world.ring();
    }

    fn verify_signature(&self, _: &SignatureCheck<'_>) -> Option<bool> {
        None
    }

    fn dynamic_metadata(&self) -> Option<Vec<u8>> {
        None
    }
}

#[test]
fn a_worker_that_slept_while_everything_changed_takes_nothing_of_what_was_learned_since() {
    for (status, body) in [(200, RECORD), (403, "")] {
        let Bench { world, mut workers, .. } = Bench::new(3, &json!({}));
        let (mut other, mut knowing, mut slow) =
            (workers.pop().unwrap(), workers.pop().unwrap(), workers.pop().unwrap());
        other.look_up("other", 200, RECORD, &world);
        let id = slow.begin("acme", &world);
        let node = Interrupted {
            world: &world,
            work: RefCell::default(),
        };
        let (of_knowing, of_other, of_world) = (&mut knowing, &mut other, &world);
        *node.work.borrow_mut() = Some(Box::new(move || {
            of_other.obey(&[Command::ForgetEverything], of_world).unwrap();
            of_knowing.look_up("acme", 200, RECORD, of_world);
        }));
        let answered = slow.resolver.answered(&slow.config, id, http(status, body), &node);
        assert!(news(answered).outcome.is_none(), "{status}: it asks anew");
        drop(node);
        assert!(is_record(&knowing.known("acme", &world)), "{status}");
        other.obey(&[event("nobody", Order::Forget, None)], &world).unwrap();
        world.pass(200_000);
        let id = other.begin("acme", &world);
        other.answered(id, 403, "", &world);
        assert!(
            knowing.known("acme", &world).refuses(),
            "{status}: it has heard that the tenant is refused"
        );
    }
}
