//! What each event does to what every worker knows, from the moment its 200 is out.

use std::time::Duration;

use serde_json::{Value, json};
use tiny_envoy::START_UNIX_SECONDS;

use crate::world::{World, denied, forwarded_for, ms, slug};

const WORKERS: usize = 3;

/// What makes the filter ask anew.
const INVALIDATES: [&str; 8] = [
    "tenant.activated",
    "tenant.updated",
    "tenant.service.associated",
    "tenant.service.reactivated",
    "tenant.connections.updated",
    "tenant.credentials.rotated",
    "tenant.cache.invalidate",
    // The table says "drop the negative entry"; whoever is created anew is not served as before either.
    "tenant.created",
];

/// What makes it refuse without asking.
const REFUSES: [&str; 5] = [
    "tenant.suspended",
    "tenant.deleted",
    "tenant.service.disassociated",
    "tenant.service.suspended",
    "tenant.service.purged",
];

/// What ends a refusal.
const ACTIVATES: [&str; 4] = [
    "tenant.created",
    "tenant.activated",
    "tenant.service.associated",
    "tenant.service.reactivated",
];

/// What asks anew without an end to a refusal.
const LEAVES_REFUSED: [&str; 4] = [
    "tenant.updated",
    "tenant.connections.updated",
    "tenant.credentials.rotated",
    "tenant.cache.invalidate",
];

fn event(kind: &str, tenant: &str) -> Value {
    json!({
        "event_id": "0191", "event_type": kind, "tenant_id": tenant, "tenant_slug": tenant, "environment": "staging",
        "payload": { "service_name": "ledger" },
    })
}

/// The time of the world some seconds ago, within its first hour.
fn timestamp(world: &World, seconds_ago: u64) -> String {
    // Worlds begin with the year 2026.
    let since = world.envoy.unix_seconds() - START_UNIX_SECONDS - seconds_ago;
    format!("2026-01-01T00:{:02}:{:02}Z", since / 60, since % 60)
}

/// `acme` is known to all workers as `old` and to the Tenant Manager as `new`; it takes its time.
fn outdated() -> World {
    let mut world = World::with_workers(WORKERS, json!({}));
    world.record("acme", "old");
    for worker in 0..WORKERS {
        assert_eq!(slug(world.run_on("acme", worker)), "old");
    }
    world.run_on("globex", 0).forwarded();
    world.slow_record("acme", "new", 100);
    world.asked();
    world
}

fn applied(world: &mut World, worker: usize, event: &Value) {
    let counts = world.told(worker, event);
    assert_eq!(counts["applied"], 1, "{event}: {counts}");
}

#[track_caller]
fn assert_refused_everywhere(world: &mut World, about: &str) {
    for worker in 0..WORKERS {
        let expected = (403, "TENANT_SUSPENDED".to_owned());
        assert_eq!(
            denied(world.ask_now("acme", worker)),
            expected,
            "{about} on worker {worker}"
        );
    }
    assert_eq!(world.asked(), 0, "{about}: nobody asks");
}

#[test]
fn after_an_invalidation_no_worker_serves_what_was_known_before() {
    for kind in INVALIDATES.into_iter().chain(["cache.invalidate_all"]) {
        for teller in 0..WORKERS {
            let mut world = outdated();
            applied(&mut world, teller, &event(kind, "acme"));
            let streams: Vec<_> = (0..WORKERS).map(|worker| world.ask("acme", worker)).collect();
            for stream in streams {
                assert_eq!(slug(world.envoy.decide(stream)), "new", "{kind}");
            }
            assert!(world.asked() <= WORKERS, "{kind}: one question per worker");
            world.assert_healthy();
        }
    }
}

#[test]
fn what_was_cached_is_asked_for_anew_without_a_request() {
    for kind in INVALIDATES {
        let mut world = outdated();
        applied(&mut world, 1, &event(kind, "acme"));
        assert_eq!(world.asked(), 1, "{kind}");
        world.envoy.advance(ms(100));
        for worker in 0..WORKERS {
            assert_eq!(slug(world.ask_now("acme", worker)), "new", "{kind} on worker {worker}");
        }
        assert_eq!(world.asked(), 0, "{kind}");
        // Of whom nothing was known nothing is asked.
        applied(&mut world, 1, &event(kind, "initech"));
        world.envoy.advance(ms(10_000));
        assert_eq!(world.asked(), 0, "{kind}");
        world.assert_healthy();
    }
}

#[test]
fn other_tenants_are_not_disturbed() {
    for kind in INVALIDATES.into_iter().chain(REFUSES) {
        let mut world = outdated();
        applied(&mut world, 1, &event(kind, "acme"));
        world.envoy.advance(ms(1_000));
        world.asked();
        for worker in 0..WORKERS {
            assert_eq!(forwarded_for(world.ask_now("globex", worker)), "globex", "{kind}");
        }
        assert_eq!(world.asked(), 0, "{kind}");
    }
}

#[test]
fn after_a_refusal_every_worker_refuses_without_asking_for_as_long_as_a_record_is_fresh() {
    for kind in REFUSES {
        for teller in 0..WORKERS {
            let mut world = outdated();
            applied(&mut world, teller, &event(kind, "acme"));
            assert_refused_everywhere(&mut world, kind);
            world.envoy.advance(ms(119_999));
            assert_refused_everywhere(&mut world, kind);
            world.envoy.advance(ms(1));
            assert_eq!(slug(world.run_on("acme", 2)), "new", "{kind}");
            assert_eq!(world.asked(), 1, "{kind}");
            world.assert_healthy();
        }
    }
}

#[test]
fn a_tenant_that_nobody_knew_is_refused_as_well() {
    for kind in REFUSES {
        let mut world = World::with_workers(WORKERS, json!({}));
        applied(&mut world, 0, &event(kind, "acme"));
        assert_refused_everywhere(&mut world, kind);
    }
}

#[test]
fn an_activating_event_ends_a_refusal_and_nothing_else_does() {
    for refuses in REFUSES {
        for activates in ACTIVATES {
            let mut world = outdated();
            applied(&mut world, 0, &event(refuses, "acme"));
            assert_refused_everywhere(&mut world, refuses);
            for leaves in LEAVES_REFUSED {
                applied(&mut world, 1, &event(leaves, "acme"));
                world.envoy.advance(ms(1_000));
                assert_refused_everywhere(&mut world, leaves);
            }
            applied(&mut world, 2, &event(activates, "acme"));
            let streams: Vec<_> = (0..WORKERS).map(|worker| world.ask("acme", worker)).collect();
            for stream in streams {
                assert_eq!(slug(world.envoy.decide(stream)), "new", "{refuses}, {activates}");
            }
        }
    }
}

#[test]
fn a_refusal_by_an_event_outranks_whatever_the_tenant_manager_has_said() {
    let mut world = outdated();
    // Whatever the jitter: neither fresh any more nor too old.
    world.envoy.advance(Duration::from_secs(135));
    // A refresh is under way when the event comes.
    assert_eq!(slug(world.ask_now("acme", 0)), "old");
    assert_eq!(world.asked(), 1);
    applied(&mut world, 1, &event("tenant.suspended", "acme"));
    world.envoy.advance(ms(1_000));
    assert_refused_everywhere(&mut world, "after the refresh");
}

#[test]
fn a_tenant_that_is_created_is_not_unknown_any_more_on_any_worker() {
    let mut world = World::with_workers(WORKERS, json!({}));
    for worker in 0..WORKERS {
        assert_eq!(denied(world.run_on("newcomer", worker)).0, 404);
    }
    world.record("newcomer", "here");
    for worker in 0..WORKERS {
        assert_eq!(denied(world.ask_now("newcomer", worker)).0, 404, "negative_ttl");
    }
    world.asked();
    applied(&mut world, 1, &event("tenant.created", "newcomer"));
    assert_eq!(world.asked(), 0, "nothing was cached");
    for worker in 0..WORKERS {
        assert_eq!(slug(world.run_on("newcomer", worker)), "here", "worker {worker}");
    }
    assert_eq!(world.asked(), 1);
}

#[test]
fn everything_is_everything() {
    let mut world = outdated();
    for worker in 0..WORKERS {
        for tenant in ["frozen", "nobody", "globex"] {
            world.run_on(tenant, worker);
        }
    }
    applied(&mut world, 0, &event("tenant.suspended", "initech"));
    for tenant in ["frozen", "nobody", "globex", "initech"] {
        world.record(tenant, "new");
    }
    world.asked();
    let counts = world.told(1, &json!({ "type": "cache.invalidate_all" }));
    assert_eq!(counts["applied"], 1);
    assert_eq!(world.asked(), 0, "all at once would be a storm");
    for tenant in ["acme", "frozen", "nobody", "globex", "initech"] {
        for worker in 0..WORKERS {
            assert_eq!(slug(world.run_on(tenant, worker)), "new", "{tenant} on worker {worker}");
        }
        assert_eq!(world.asked(), 1, "{tenant}");
    }
    world.assert_healthy();
}

#[test]
fn in_a_list_the_order_counts() {
    let mut world = outdated();
    let counts = world.told(
        0,
        &json!([
            event("tenant.suspended", "acme"),
            { "type": "cache.invalidate_all" },
            event("tenant.suspended", "globex"),
        ]),
    );
    assert_eq!(counts["applied"], 3);
    assert_eq!(slug(world.run_on("acme", 1)), "new");
    assert_eq!(denied(world.ask_now("globex", 2)).1, "TENANT_SUSPENDED");
    let counts = world.told(
        0,
        &json!([
            event("tenant.suspended", "acme"),
            event("tenant.activated", "acme"),
            event("tenant.activated", "globex")
        ]),
    );
    assert_eq!(counts["applied"], 3);
    assert_eq!(slug(world.run_on("acme", 2)), "new");
    assert_eq!(forwarded_for(world.run_on("globex", 1)), "globex");
}

#[test]
fn more_events_at_once_than_the_log_names_reach_every_worker() {
    let mut world = World::with_workers(WORKERS, json!({}));
    let tenants: Vec<String> = (0..300).map(|n| format!("t{n}")).collect();
    for tenant in &tenants {
        world.record(tenant, "old");
        for worker in 0..WORKERS {
            assert_eq!(slug(world.run_on(tenant, worker)), "old");
        }
    }
    let events: Vec<_> = tenants.iter().map(|tenant| event("tenant.suspended", tenant)).collect();
    world.asked();
    assert_eq!(world.told(0, &json!(events))["applied"], 300);
    let mut asked_again = 0;
    for tenant in &tenants {
        for worker in 0..WORKERS {
            match world.ask_now(tenant, worker) {
                tiny_envoy::Outcome::Replied(reply) => assert_eq!(reply.status, 403, "{tenant}"),
                // Where a set of the table is full of refusals the Tenant Manager is asked.
                tiny_envoy::Outcome::Pending => asked_again += 1,
                other => panic!("{tenant} on worker {worker}: {other:?}"),
            }
        }
    }
    assert_eq!(asked_again, 0, "300 tenants find a place among 16384");
    assert_eq!(world.asked(), 0);
}

#[test]
fn refreshes_after_many_events_are_four_at_once() {
    let mut world = World::with_workers(WORKERS, json!({}));
    let tenants: Vec<String> = (0..20).map(|n| format!("t{n}")).collect();
    for tenant in &tenants {
        world.record(tenant, "old");
        world.run_on(tenant, 1).forwarded();
        world.slow_record(tenant, "new", 100);
    }
    world.asked();
    let events: Vec<_> = tenants.iter().map(|tenant| event("tenant.updated", tenant)).collect();
    assert_eq!(world.told(0, &json!(events))["applied"], 20);
    for round in 0..5 {
        assert_eq!(world.asked(), 4, "round {round}");
        world.envoy.advance(ms(100));
    }
    for tenant in &tenants {
        assert_eq!(slug(world.ask_now(tenant, 2)), "new");
    }
    assert_eq!(world.asked(), 0);
}

#[test]
fn what_is_meant_for_somebody_else_is_passed_over() {
    let other_service =
        |kind: &str, payload: Value| json!({ "event_type": kind, "tenant_id": "acme", "payload": payload });
    let mut cases = vec![
        json!({ "event_type": "tenant.suspended", "tenant_id": "acme", "environment": "production" }),
        json!({ "event_type": "cache.invalidate_all", "environment": "production" }),
        json!({ "event_type": "tenant.renamed", "tenant_id": "acme" }),
        json!({ "type": "tenant.renamed", "tenantId": "acme" }),
    ];
    for kind in [
        "tenant.service.associated",
        "tenant.service.disassociated",
        "tenant.service.suspended",
        "tenant.service.purged",
        "tenant.service.reactivated",
        "tenant.credentials.rotated",
        "tenant.connections.updated",
        "tenant.cache.invalidate",
    ] {
        for payload in [
            json!({ "service_name": "other" }),
            json!({ "service_name": "Ledger" }),
            json!({ "service_name": "" }),
            json!({ "service_name": null }),
            json!({ "service_name": ["ledger"] }),
            json!({}),
            json!(null),
        ] {
            cases.push(other_service(kind, payload));
        }
    }
    for event in cases {
        let mut world = outdated();
        assert_eq!(world.told(0, &event)["applied"], 0, "{event}");
        for worker in 0..WORKERS {
            assert_eq!(slug(world.ask_now("acme", worker)), "old", "{event}");
        }
        assert_eq!(world.asked(), 0, "{event}");
        world.assert_healthy();
    }
}

#[test]
fn the_environment_is_compared_without_case() {
    for environment in ["staging", "Staging", "STAGING"] {
        let mut world = outdated();
        let mut event = event("tenant.suspended", "acme");
        event["environment"] = json!(environment);
        applied(&mut world, 0, &event);
        assert_refused_everywhere(&mut world, environment);
    }
}

#[test]
fn replays_are_harmless() {
    let mut world = outdated();
    let mut update = event("tenant.updated", "acme");
    update["timestamp"] = json!(timestamp(&world, 0));
    applied(&mut world, 0, &update);
    world.envoy.advance(ms(100));
    for worker in 0..WORKERS {
        applied(&mut world, worker, &update);
        world.envoy.advance(ms(1_000));
        for worker in 0..WORKERS {
            assert_eq!(slug(world.ask_now("acme", worker)), "new");
        }
    }
    world.assert_healthy();
}

#[test]
fn an_event_that_is_older_than_the_last_is_passed_over() {
    let at = |world: &World, kind: &str, seconds_ago| {
        let mut event = event(kind, "acme");
        event["timestamp"] = json!(timestamp(world, seconds_ago));
        event
    };
    let mut world = outdated();
    world.envoy.advance(Duration::from_secs(60));
    let activated = at(&world, "tenant.activated", 10);
    applied(&mut world, 0, &activated);
    world.envoy.advance(ms(100));
    for worker in 0..WORKERS {
        let suspended = at(&world, "tenant.suspended", 16);
        let counts = world.told(worker, &suspended);
        assert_eq!((&counts["applied"], &counts["outdated"]), (&json!(0), &json!(1)));
        assert_eq!(slug(world.ask_now("acme", worker)), "new");
    }
    let other = {
        let mut other = at(&world, "tenant.suspended", 50);
        other["tenant_id"] = json!("globex");
        other
    };
    applied(&mut world, 1, &other);
    assert_eq!(
        denied(world.ask_now("globex", 2)).1,
        "TENANT_SUSPENDED",
        "another tenant's"
    );
    let within_tolerance = at(&world, "tenant.suspended", 15);
    applied(&mut world, 2, &within_tolerance);
    world.asked();
    assert_refused_everywhere(&mut world, "5 s are nothing between clocks");
}

#[test]
fn an_event_from_the_future_does_not_silence_what_follows() {
    let mut world = outdated();
    let mut future = event("tenant.activated", "acme");
    future["timestamp"] = json!("2999-01-01T00:00:00Z");
    applied(&mut world, 0, &future);
    world.envoy.advance(ms(1_000));
    let mut now = event("tenant.suspended", "acme");
    now["timestamp"] = json!(timestamp(&world, 0));
    applied(&mut world, 1, &now);
    world.asked();
    assert_refused_everywhere(&mut world, "now");
}

#[test]
fn the_short_form_says_the_same() {
    for kind in INVALIDATES {
        let is_service = kind.starts_with("tenant.service.");
        let mut world = outdated();
        let counts = world.told(0, &json!({ "type": kind, "tenantId": "acme" }));
        // It has no place to name a service: what only asks anew holds for every one.
        assert_eq!(counts["applied"], usize::from(!is_service), "{kind}: {counts}");
        world.envoy.advance(ms(1_000));
        let expected = if is_service { "old" } else { "new" };
        assert_eq!(slug(world.ask_now("acme", 2)), expected, "{kind}");
    }
    for kind in ["tenant.suspended", "tenant.deleted"] {
        let mut world = outdated();
        applied(&mut world, 0, &json!({ "type": kind, "tenantId": "acme" }));
        assert_refused_everywhere(&mut world, kind);
    }
}

#[test]
fn events_reach_folded_ids() {
    let patch = json!({ "tenant_id": { "fold_uuid": true } });
    let mut world = World::with_workers(WORKERS, patch);
    let (bare, dashed) = (
        "0123456789abcdef0123456789abcdef",
        "01234567-89AB-CDEF-0123-456789abcdef",
    );
    world.record(bare, "old");
    for worker in 0..WORKERS {
        assert_eq!(slug(world.run_on(bare, worker)), "old");
    }
    applied(&mut world, 0, &event("tenant.suspended", dashed));
    for worker in 0..WORKERS {
        for spelling in [bare, dashed] {
            assert_eq!(denied(world.ask_now(spelling, worker)).1, "TENANT_SUSPENDED");
        }
    }
}
