//! An event races lookups in flight, and requests of workers that know the tenant.

use serde_json::json;

use super::race::{Change, Host, Race, event, explore, record, suspended, unknown};

pub(super) const OLD: &str = "record-before";
pub(super) const NEW: &str = "record-after";

/// Each kind of effect with what becomes of the tenant.
fn events() -> Vec<(&'static str, Change)> {
    let change = |before, after| Change { before, after };
    // Of a tenant that is deleted the Tenant Manager does not know it yet.
    let behind = (record(OLD).0, "TENANT_SUSPENDED");
    vec![
        ("tenant.suspended", change(record(OLD), suspended())),
        ("tenant.deleted", change(record(OLD), behind)),
        ("tenant.updated", change(record(OLD), record(NEW))),
        ("tenant.credentials.rotated", change(record(OLD), record(NEW))),
        ("tenant.activated", change(suspended(), record(NEW))),
        ("tenant.created", change(unknown(), record(NEW))),
        ("cache.invalidate_all", change(record(OLD), record(NEW))),
    ]
}

/// Those that differ in more than their name.
fn some_events() -> Vec<(&'static str, Change)> {
    let mut events = events();
    events.retain(|(kind, _)| ["tenant.deleted", "tenant.updated", "cache.invalidate_all"].contains(kind));
    events
}

#[test]
fn an_event_races_a_lookup_in_flight_and_a_request() {
    for (kind, change) in events() {
        for next in 0..2 {
            explore(&format!("{kind} and a lookup, then a request to worker {next}"), || {
                Race::new(Host::WithBell, &change)
                    .waits(0)
                    .changes()
                    .settles(0)
                    .hears(1, kind)
                    .asks(next)
                    .scene_of_an_event()
            });
        }
    }
}

#[test]
fn an_event_races_a_lookup_in_flight_on_hosts_without_a_bell() {
    for (kind, change) in some_events() {
        explore(&format!("{kind} and a lookup, without a bell"), || {
            Race::new(Host::WithoutBell, &change)
                .waits(0)
                .changes()
                .settles(0)
                .hears(1, kind)
                .asks(0)
                .scene_of_an_event()
        });
    }
}

#[test]
fn an_event_races_lookups_in_flight_of_both_workers() {
    for (kind, change) in some_events() {
        explore(&format!("{kind} and two lookups"), || {
            Race::new(Host::WithBell, &change)
                .waits(0)
                .waits(1)
                .changes()
                .settles(0)
                .hears(1, kind)
                .scene_of_an_event()
        });
    }
}

#[test]
fn an_event_races_requests_of_workers_that_know_the_tenant() {
    let mut events = some_events();
    // What is refreshed in the background is raced with two workers.
    events.retain(|(kind, _)| *kind != "tenant.updated");
    for (kind, change) in events {
        explore(&format!("{kind} and two workers that know the tenant"), || {
            Race::among(3, Host::WithBell, &change)
                .knows(0)
                .knows(1)
                .changes()
                .asks(0)
                .asks(1)
                .hears(2, kind)
                .scene_of_an_event()
        });
    }
}

#[test]
fn an_event_races_a_request_of_another_worker_and_is_followed_by_one() {
    for (kind, change) in some_events() {
        explore(&format!("{kind} and a worker that knows the tenant"), || {
            Race::new(Host::WithBell, &change)
                .knows(0)
                .knows(1)
                .changes()
                .asks(0)
                .hears(1, kind)
                .asks(1)
                .scene_of_an_event()
        });
    }
}

#[test]
fn an_event_races_the_refresh_of_a_stale_record() {
    for (kind, change) in some_events() {
        explore(&format!("{kind} and a refresh"), || {
            Race::new(Host::WithBell, &change)
                .knows(0)
                .knows(1)
                .grows_stale()
                .refreshes(0)
                .changes()
                .settles(0)
                .hears(1, kind)
                .asks(0)
                .scene_of_an_event()
        });
    }
}

#[test]
fn an_event_races_the_first_request_of_a_node() {
    for (kind, change) in some_events() {
        explore(&format!("{kind} and the first request of the node"), || {
            Race::new(Host::WithBell, &change)
                .changes()
                .asks(0)
                .hears(1, kind)
                .scene_of_an_event()
        });
    }
}

#[test]
fn two_events_about_a_tenant_leave_all_workers_agreed() {
    let change = Change {
        before: record(OLD),
        after: record(NEW),
    };
    let refused = suspended().1;
    // The second event is later by so many seconds; what may be left.
    for (later, allowed) in [(2, vec![refused, NEW]), (20, vec![NEW])] {
        let about = format!("two events, {later} s apart");
        let explored = explore(&about, || {
            let at = |seconds: u32| format!("2020-01-01T00:00:{seconds:02}Z");
            let allowed = allowed.clone();
            Race::new(Host::WithBell, &change)
                .knows(0)
                .knows(1)
                .changes()
                .hears_all(0, &json!([event("tenant.suspended", Some(&at(10)))]))
                .hears_all(1, &json!([event("tenant.activated", Some(&at(10 + later)))]))
                .scene(move |race| race.assert_everybody_says(&allowed))
        });
        assert!(explored.runs > 1, "{about}");
    }
}
