//! What workers learn of the Tenant Manager at the same time.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use serde_json::json;

use super::events::{NEW, OLD};
use super::race::{Change, Host, Race, explore, record, suspended, unknown};
use crate::world::ms;

fn refusals() -> [Change; 2] {
    [suspended(), unknown()].map(|after| Change {
        before: record(OLD),
        after,
    })
}

#[test]
fn a_lookup_that_learns_of_a_refusal_races_a_worker_that_knows_a_record() {
    for change in refusals() {
        explore(&format!("{} and a worker that knows a record", change.after.1), || {
            Race::new(Host::WithBell, &change)
                .waits_for_news(0)
                .knows(1)
                .changes()
                .learns(0)
                .asks(1)
                .scene_of_an_event()
        });
    }
}

#[test]
fn a_lookup_that_learns_of_a_refusal_races_one_that_was_begun_earlier() {
    for change in refusals() {
        explore(&format!("{} and an older answer", change.after.1), || {
            Race::new(Host::WithBell, &change)
                .waits(1)
                .waits_for_news(0)
                .changes()
                .learns(0)
                .settles(1)
                .asks(1)
                .scene_of_an_event()
        });
    }
}

#[test]
fn a_lookup_that_learns_of_a_refusal_races_the_event_that_ends_it() {
    let change = Change {
        before: suspended(),
        after: record(NEW),
    };
    explore("a refusal and its end", || {
        // What the refusal refutes is a record that another worker holds: that is announced.
        Race::new(Host::WithBell, &change)
            .waits(0)
            .knows_as(record(OLD), 1)
            .changes()
            .settles(0)
            .hears(1, "tenant.activated")
            .asks(0)
            .scene_of_an_event()
    });
}

#[test]
fn two_workers_with_a_stale_record_refresh_it_once() {
    let change = Change {
        before: record(OLD),
        after: record(NEW),
    };
    for is_slow in [true, false] {
        explore(&format!("a lease for two, slow: {is_slow}"), || {
            let race = Race::new(Host::WithBell, &change).knows(0).knows(1).grows_stale();
            let race = if is_slow { race.changes_slowly() } else { race.changes() };
            race.asks(0).asks(1).scene(|race| {
                assert_eq!(race.questions, 1, "{}", race.run);
                race.envoy.advance(ms(1_000));
                race.assert_nothing_left();
            })
        });
    }
}

#[test]
fn two_workers_probe_once_whether_the_tenant_manager_is_back() {
    let change = Change {
        before: (json!({ "status": 500 }), "TENANT_MANAGER_UNAVAILABLE"),
        after: record(NEW),
    };
    explore("a probe for two", || {
        Race::new(Host::WithBell, &change)
            .knows(0)
            .knows(1)
            .passes(31_000)
            .changes_slowly()
            .asks(0)
            .asks(1)
            .scene(|race| {
                assert_eq!(race.questions, 1, "{}", race.run);
                race.envoy.advance(ms(1_000));
                let mut said = race.said();
                said.sort();
                assert_eq!(said, ["CIRCUIT_OPEN", NEW]);
                race.assert_everybody_says(&[NEW]);
            })
    });
}

#[test]
fn a_success_and_a_failure_race_while_the_circuit_is_about_to_open() {
    let change = Change {
        before: (json!({ "status": 500 }), "TENANT_MANAGER_UNAVAILABLE"),
        after: record(NEW),
    };
    let states = Arc::new(Mutex::new(BTreeSet::new()));
    explore("a success and a failure", || {
        let states = Arc::clone(&states);
        Race::new(Host::WithBell, &change)
            .knows(0)
            .waits(0)
            .waits_for_news(1)
            .changes()
            .settles(0)
            .settles(1)
            .scene(move |race| {
                let state = race.envoy.metric("tenantgate_breaker_state");
                states.lock().expect("no panic").insert(state);
                let next = [race.probe_other(0), race.probe_other(1)];
                // Closed, the failure came last and the next one is the second in a row.
                let expected = match state {
                    Some(0) => ["TENANT_MANAGER_UNAVAILABLE", "CIRCUIT_OPEN"],
                    _ => ["CIRCUIT_OPEN"; 2],
                };
                assert_eq!(next, expected, "{state:?}");
            })
    });
    let states = states.lock().expect("no panic");
    assert_eq!(*states, BTreeSet::from([Some(0), Some(1)]), "both orders were run");
}
