//! What the node shares, under stress: hosts that refuse, a log that is lost, lookups that are
//! overtaken.

use super::*;
use crate::node::NotWritten;

const LOG: &str = "tenantgate.changes";

#[test]
fn a_host_that_refuses_writes_caches_nothing_and_takes_no_events() {
    for mute in [false, true] {
        let Bench { world, mut workers, .. } = Bench::new(1, &json!({}));
        world.bell_is_broken.set(mute);
        world.refuses_writes.set(true);
        let worker = &mut workers[0];
        for _ in 0..3 {
            assert!(is_record(&worker.look_up("acme", 200, RECORD, &world)));
        }
        assert_eq!(*worker.look_up("acme", 403, "", &world), Outcome::AccessDenied);
        assert_eq!(*worker.look_up("acme", 404, "", &world), Outcome::NotFound);
        worker.look_up("acme", 400, "", &world);
        for _ in 0..7 {
            worker.look_up("acme", 500, "", &world);
        }
        for command in [Command::ForgetEverything, event("acme", refuse("suspended"), None)] {
            assert_eq!(worker.obey(&[command], &world), Err(NotWritten::Refused));
        }
        worker.tick(&world);
        assert!(world.store.borrow().is_empty());
        assert_eq!(world.gauge(Gauge::TenantConsumersActive), 0);
    }
}

#[test]
fn a_host_that_begins_to_refuse_leaves_nobody_with_what_cannot_be_taken_back() {
    let Bench { world, mut workers, .. } = Bench::new(2, &json!({}));
    let id = workers[0].begin("acme", &world);
    world.refuses_writes.set(true);
    assert!(is_record(&outcome(workers[0].answered(id, 200, RECORD, &world))));
    workers[0].wait("acme", &world);
    assert!(
        workers[1]
            .obey(&[event("acme", refuse("suspended"), None)], &world)
            .is_err()
    );
    world.refuses_writes.set(false);
    assert_eq!(
        workers[1].obey(&[event("acme", refuse("suspended"), None)], &world),
        Ok(vec![true])
    );
    assert_eq!(*workers[0].known("acme", &world), refused("suspended"));
}

#[test]
fn a_lookup_that_began_before_everything_was_forgotten_fills_no_cache() {
    for mute in [false, true] {
        let Bench { world, mut workers, .. } = Bench::new(2, &json!({}));
        world.bell_is_broken.set(mute);
        let ids = [0, 1].map(|worker: usize| workers[worker].begin("acme", &world));
        workers[1].obey(&[Command::ForgetEverything], &world).unwrap();
        for (worker, id) in workers.iter_mut().zip(ids) {
            let tidings = news(worker.answered(id, 200, RECORD, &world));
            assert_eq!(
                worker.resolver.still_true(&tidings, &world),
                None,
                "who has waited asks anew"
            );
        }
        for worker in &mut workers {
            worker.begin("acme", &world);
        }
    }
}

#[test]
fn a_lookup_that_began_before_there_was_a_log_is_overtaken_by_an_event() {
    let Bench { world, mut workers, .. } = Bench::new(2, &json!({}));
    world.refuses_writes.set(true);
    let id = workers[0].begin("acme", &world);
    world.refuses_writes.set(false);
    workers[1]
        .obey(&[event("acme", refuse("suspended"), None)], &world)
        .unwrap();
    let tidings = news(workers[0].answered(id, 200, RECORD, &world));
    assert_eq!(workers[0].resolver.still_true(&tidings, &world), None);
    assert_eq!(*workers[0].known("acme", &world), refused("suspended"));
}

#[test]
fn events_are_taken_also_after_the_log_was_overwritten() {
    for mute in [false, true] {
        let Bench { world, mut workers, .. } = Bench::new(3, &json!({}));
        world.bell_is_broken.set(mute);
        workers[0].look_up("acme", 200, RECORD, &world);
        assert!(is_record(&workers[1].known("acme", &world)));
        world.overwrite(LOG, b"somebody else's");
        world.random.set(77);
        assert_eq!(
            workers[2].obey(&[event("acme", refuse("suspended"), None)], &world),
            Ok(vec![true])
        );
        for worker in &mut workers {
            assert_eq!(*worker.known("acme", &world), refused("suspended"));
        }
        world.overwrite(LOG, b"");
        world.random.set(78);
        workers[0].obey(&[Command::ForgetEverything], &world).unwrap();
        for worker in &mut workers {
            worker.wait("acme", &world);
        }
    }
}

#[test]
fn a_refusal_is_published_also_after_the_log_was_overwritten() {
    let Bench { world, mut workers, .. } = Bench::new(2, &json!({}));
    let late = workers[1].begin("acme", &world);
    workers[0].look_up("acme", 200, RECORD, &world);
    world.overwrite(LOG, b"somebody else's");
    world.random.set(77);
    news(workers[1].answered(late, 403, "", &world));
    // It may be asked anew; but nobody goes on with the record.
    for worker in &mut workers {
        assert!(!matches!(worker.resolve("acme", &world), Resolution::Known(outcome) if is_record(&outcome)));
    }
}

#[test]
fn two_plugins_with_tables_of_different_size_hear_of_the_same_events() {
    let world = World::default();
    let mut workers = [8, 64].map(|slots| Worker::new(config(&json!({ "cache": { "shared_slots": slots } }))));
    for worker in &mut workers {
        // The second one moves the table.
        worker.look_up("acme", 200, RECORD, &world);
    }
    for sender in [0, 1] {
        for worker in &mut workers {
            assert!(is_record(&worker.known("acme", &world)));
        }
        workers[sender]
            .obey(&[event("acme", refuse("suspended"), None)], &world)
            .unwrap();
        for worker in &mut workers {
            assert_eq!(*worker.known("acme", &world), refused("suspended"));
        }
        workers[sender]
            .obey(&[event("acme", Order::Lift, None)], &world)
            .unwrap();
        let id = workers[0].begin("acme", &world);
        outcome(workers[0].answered(id, 200, RECORD, &world));
    }
}

#[test]
fn configurations_with_another_meaning_have_their_own_records_side_by_side() {
    let world = World::default();
    let of = |path: &str| Worker::new(config(&json!({ "path": path })));
    let mut workers = ["/a/{tenantId}", "/b/{tenantId}", "/a/{tenantId}", "/b/{tenantId}"].map(of);
    workers[0].look_up("acme", 200, r#"{"tenantSlug":"a"}"#, &world);
    workers[1].look_up("acme", 200, r#"{"tenantSlug":"b"}"#, &world);
    for (worker, expected) in workers.iter_mut().zip(["a", "b", "a", "b"]) {
        match &*worker.known("acme", &world) {
            Outcome::Found(record) => assert_eq!(record.slug(), Some(expected)),
            other => panic!("{other:?}"),
        }
    }
    // An event is about all of them.
    workers[0].obey(&[event("acme", Order::Forget, None)], &world).unwrap();
    for worker in &mut workers {
        worker.wait("acme", &world);
    }
}

#[test]
fn a_worker_whose_record_outlives_that_of_the_node_hears_of_a_refusal_too() {
    for status in [403, 404] {
        let Bench { world, mut workers, .. } = Bench::new(2, &json!({}));
        let ids = [0, 1].map(|worker: usize| workers[worker].begin("acme", &world));
        // Fresh for 132 s, then for 108 s: the second takes the place of the first.
        for (worker, random) in [(0, u32::MAX), (1, 0)] {
            world.random.set(random);
            outcome(workers[worker].answered(ids[worker], 200, RECORD, &world));
        }
        world.now_ms.set(108_000 + 330_000);
        workers[1].look_up("acme", status, "", &world);
        world.pass(10_000);
        let id = workers[0].begin("acme", &world);
        let unavailable = outcome(workers[0].answered(id, 500, "", &world));
        assert!(
            matches!(*unavailable, Outcome::Unavailable(_)),
            "{status}: {unavailable:?}"
        );
    }
}

#[test]
fn a_lookup_that_began_before_a_refusal_was_learned_brings_no_record() {
    for (status, body) in [
        (403, r#"{"status":"suspended"}"#),
        (403, ""),
        (404, ""),
        (422, ""),
        (200, r#"{"status":"purged"}"#),
    ] {
        let Bench { world, mut workers, .. } = Bench::new(2, &json!({}));
        let late = workers[1].begin("acme", &world);
        workers[0].look_up("acme", status, body, &world);
        let tidings = news(workers[1].answered(late, 200, RECORD, &world));
        assert_eq!(
            workers[1].resolver.still_true(&tidings, &world),
            None,
            "{status} {body}"
        );
        for worker in &mut workers {
            let seen = worker.resolve("acme", &world);
            assert!(
                !matches!(&seen, Resolution::Known(outcome) if is_record(outcome)),
                "{status} {body}: {seen:?}"
            );
        }
    }
}

#[test]
fn workers_that_learn_of_a_refusal_at_once_ask_once_each() {
    for status in [403, 404, 422] {
        let Bench { world, mut workers, .. } = Bench::new(4, &json!({}));
        let ids: Vec<LookupId> = workers.iter_mut().map(|worker| worker.begin("acme", &world)).collect();
        for (worker, id) in workers.iter_mut().zip(ids) {
            assert!(outcome(worker.answered(id, status, "", &world)).refuses());
        }
        for worker in &mut workers {
            assert!(worker.known("acme", &world).refuses(), "{status}");
        }
    }
}

#[test]
fn a_worker_that_has_been_idle_sweeps_nothing_out_that_was_written_after_everything_changed() {
    let Bench { world, mut workers, .. } = Bench::new(3, &json!({ "cache": { "shared_slots": 8 } }));
    workers[1].begin("globex", &world);
    workers[2].obey(&[Command::ForgetEverything], &world).unwrap();
    workers[2]
        .obey(&[event("acme", refuse("suspended"), None)], &world)
        .unwrap();
    world.pass(SWEEP_MS);
    workers[1].tick(&world);
    assert_eq!(*workers[0].known("acme", &world), refused("suspended"));
}
