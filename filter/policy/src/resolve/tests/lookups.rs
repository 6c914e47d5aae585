//! One worker and its lookups.

use super::*;

fn bench() -> Bench {
    Bench::new(1, &json!({}))
}

#[test]
fn one_lookup_serves_everyone_and_is_remembered() {
    let Bench { world, mut workers, .. } = bench();
    let worker = &mut workers[0];
    let first = worker.wait("acme", &world);
    let second = worker.wait("acme", &world);
    assert!(first.begins.is_some() && second.begins.is_none());
    assert_eq!(first.deadline_ms, 1_500);
    let lookup = first.seat.lookup();
    drop(first);
    let callout = worker.ask(lookup).expect("begins");
    assert_eq!(callout.timeout_ms, 1_000);
    assert!(worker.ask(lookup).is_none(), "only once");
    let found = outcome(worker.answered(lookup, 200, r#"{"id":"acme"}"#, &world));
    assert!(is_record(&found));
    assert_eq!(worker.known("acme", &world), found);
    assert_eq!(
        *world.counted.borrow(),
        [
            Counter::CacheLookups(Level::Local, CacheOutcome::Miss),
            Counter::CacheLookups(Level::Shared, CacheOutcome::Miss),
            Counter::CacheLookups(Level::Local, CacheOutcome::Miss),
            Counter::CacheLookups(Level::Shared, CacheOutcome::Miss),
            Counter::TenantConnections,
            Counter::CacheLookups(Level::Local, CacheOutcome::Hit),
        ]
    );
    assert_eq!(world.gauge(Gauge::TenantConsumersActive), 1);
    assert!(
        is_forgotten(&worker.answered(lookup, 200, "{}", &world)),
        "an answer counts once"
    );
}

#[test]
fn a_401_is_asked_again_with_the_other_key_in_what_is_left_of_the_time() {
    let Bench { world, mut workers, .. } = bench();
    let worker = &mut workers[0];
    let lookup = worker.wait("acme", &world).seat.lookup();
    let callout = worker.ask(lookup).expect("begins");
    assert_eq!(api_key(&callout), "one");
    world.pass(400);
    let Answered::Again(callout) = worker.answered(lookup, 401, "", &world) else {
        panic!("again")
    };
    assert_eq!((api_key(&callout), callout.timeout_ms), ("two", 600));
    let refused = outcome(worker.answered(lookup, 401, "", &world));
    assert_eq!(
        *refused,
        Outcome::Unavailable(Unavailable::Failed(LookupFailure::Unauthorized))
    );
    world.pass(999);
    assert_eq!(
        *worker.known("acme", &world),
        Outcome::Unavailable(Unavailable::Paused(1))
    );
    world.pass(1);
    let lookup = worker.wait("acme", &world).seat.lookup();
    let callout = worker.ask(lookup).expect("begins");
    assert_eq!(
        api_key(&callout),
        "one",
        "no key has worked, so none is preferred over the first"
    );
    assert!(matches!(worker.answered(lookup, 401, "", &world), Answered::Again(_)));
    outcome(worker.answered(lookup, 404, "", &world));
    let lookup = worker.wait("globex", &world).seat.lookup();
    let callout = worker.ask(lookup).expect("begins");
    assert_eq!(api_key(&callout), "two", "the key that has worked is preferred");
}

#[test]
fn the_whole_node_prefers_the_key_that_has_worked() {
    let Bench { world, mut workers, .. } = Bench::new(2, &json!({}));
    let lookup = workers[0].begin("acme", &world);
    assert!(matches!(
        workers[0].answered(lookup, 401, "", &world),
        Answered::Again(_)
    ));
    outcome(workers[0].answered(lookup, 200, RECORD, &world));
    let lookup = workers[1].wait("globex", &world).seat.lookup();
    assert_eq!(api_key(&workers[1].ask(lookup).expect("begins")), "two");
}

#[test]
fn lookups_that_run_at_once_each_try_the_other_key() {
    let Bench { world, mut workers, .. } = bench();
    let worker = &mut workers[0];
    let lookups = ["a", "b", "c"].map(|name| worker.wait(name, &world).seat.lookup());
    for lookup in lookups {
        assert_eq!(api_key(&worker.ask(lookup).expect("begins")), "one");
    }
    for lookup in lookups {
        let Answered::Again(callout) = worker.answered(lookup, 401, "", &world) else {
            panic!("again")
        };
        assert_eq!(api_key(&callout), "two");
        outcome(worker.answered(lookup, 404, "", &world));
    }
}

#[test]
fn a_401_that_comes_too_late_is_not_asked_again() {
    let Bench { world, mut workers, .. } = bench();
    let lookup = workers[0].begin("acme", &world);
    world.pass(1_000);
    outcome(workers[0].answered(lookup, 401, "", &world));
}

#[test]
fn a_single_key_is_tried_once() {
    let Bench { world, mut workers, .. } = Bench::new(1, &json!({ "api_keys": [{ "value": "one" }] }));
    let lookup = workers[0].begin("acme", &world);
    outcome(workers[0].answered(lookup, 401, "", &world));
}

#[test]
fn a_lookup_whose_answer_got_lost_is_forgotten() {
    let Bench { world, mut workers, .. } = bench();
    let lost = workers[0].begin("acme", &world);
    let due = workers[0].tick(&world).expect("a lookup to look after");
    world.pass(due);
    workers[0].tick(&world);
    assert!(is_forgotten(&workers[0].answered(lost, 200, "{}", &world)));
    // Once more through the whole table, and it comes to rest.
    let rounds = (0..20).take_while(|_| {
        workers[0].tick(&world).is_some_and(|due| {
            world.now_ms.set(due);
            true
        })
    });
    assert!(rounds.count() < 20, "nothing is left to do");
}

#[test]
fn an_answer_that_proves_no_key_prefers_none() {
    let Bench { world, mut workers, .. } = bench();
    let worker = &mut workers[0];
    let lookup = worker.begin("acme", &world);
    assert!(matches!(worker.answered(lookup, 401, "", &world), Answered::Again(_)));
    outcome(worker.answered(lookup, 503, "", &world));
    let lookup = worker.wait("globex", &world).seat.lookup();
    assert_eq!(api_key(&worker.ask(lookup).expect("begins")), "one");
}

#[test]
fn each_kind_of_failure_is_complained_about_once_a_minute() {
    let Bench { world, mut workers, .. } = Bench::new(1, &json!({ "breaker": { "threshold": 1000 } }));
    let mut complaint = |at_ms: u64, status: u16| {
        world.now_ms.set(at_ms);
        let lookup = workers[0].begin(&format!("t{at_ms}"), &world);
        match workers[0].answered(lookup, status, "", &world) {
            Answered::Over { remarks, .. } => remarks,
            Answered::Again(_) => panic!("over"),
        }
    };
    let fails = |at_ms: u64, status: u16, failure| {
        vec![Remark::LookupsFail {
            failure,
            status: Some(status),
            tenant: tenant(&format!("t{at_ms}")),
            cluster: "tm".to_owned(),
        }]
    };
    assert_eq!(complaint(0, 500), fails(0, 500, LookupFailure::ServerError));
    assert_eq!(complaint(1, 500), []);
    assert_eq!(complaint(2, 404), []);
    assert_eq!(complaint(3, 500), [], "a success in between changes nothing");
    assert_eq!(
        complaint(4, 418),
        fails(4, 418, LookupFailure::Rejected),
        "another kind"
    );
    assert_eq!(complaint(59_999, 500), []);
    assert_eq!(complaint(60_000, 500), fails(60_000, 500, LookupFailure::ServerError));
}

#[test]
fn expired_records_leave_the_gauge_by_themselves() {
    let Bench { world, mut workers, .. } = bench();
    workers[0].look_up("acme", 200, RECORD, &world);
    let mut ticks = 0;
    while let Some(due) = workers[0].tick(&world) {
        // ttl, stale-while-revalidate and stale-if-error.
        let expected = i64::from(world.now_ms.get() < 120_000 + 30_000 + 300_000);
        if ticks % 4 == 0 && expected == 1 {
            assert_eq!(world.gauge(Gauge::TenantConsumersActive), 1, "{due}");
        }
        world.now_ms.set(due);
        ticks += 1;
        assert!(ticks < 1_000, "an idle worker comes to rest");
    }
    assert!(world.now_ms.get() >= 450_000);
    assert_eq!(world.gauge(Gauge::TenantConsumersActive), 0);
}

#[test]
fn a_trace_is_passed_on_and_is_that_of_who_has_begun() {
    let Bench { world, mut workers, .. } = bench();
    let wait = workers[0].wait("acme", &world);
    workers[0].resolver.trace(&wait, Some("00-1-2-01"));
    let callout = workers[0].ask(wait.seat.lookup()).expect("begins");
    let names: Vec<&str> = callout.headers.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        names,
        [":method", ":path", ":authority", "accept", "x-api-key", "traceparent"]
    );
    assert_eq!(callout.headers[1].1, "/tenants/acme/services/ledger/settings");
}

#[test]
fn an_eighth_of_the_waiters_is_for_one_tenant_and_all_of_them_for_all() {
    let Bench { world, mut workers, .. } = Bench::new(1, &json!({ "max_waiters": 16 }));
    let worker = &mut workers[0];
    let mut waits: Vec<Wait> = (0..8)
        .flat_map(|n| [n, n])
        .map(|n| worker.wait(&format!("t{n}"), &world))
        .collect();
    for name in ["t0", "t8"] {
        assert_eq!(
            *worker.known(name, &world),
            Outcome::Unavailable(Unavailable::Overloaded)
        );
    }
    assert_eq!(world.counts(Counter::LookupsOverloaded), 2);
    waits.pop();
    worker.wait("t7", &world);
}

#[test]
fn who_asks_too_often_is_not_served_by_a_record_for_when_nobody_can_be_asked() {
    let Bench { world, mut workers, .. } = Bench::new(1, &json!({ "max_waiters": 16 }));
    let worker = &mut workers[0];
    worker.look_up("acme", 200, RECORD, &world);
    // Past ttl and stale_while_revalidate, within stale_if_error.
    world.now_ms.set(world.monotonic_ms() + 200_000);
    let id = worker.begin("acme", &world);
    let _waiting = [worker.wait("acme", &world), worker.wait("acme", &world)];
    let third = worker.known("acme", &world);
    assert_eq!(*third, Outcome::Unavailable(Unavailable::Overloaded));
    // Once the Tenant Manager has failed there is nobody to be asked.
    assert!(is_record(&outcome(worker.answered(id, 500, "", &world))));
}
