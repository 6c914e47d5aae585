//! When nobody asks the Tenant Manager: circuit breaker and pauses, as the whole node keeps them.

use std::time::Duration;

use serde_json::{Value, json};
use tiny_envoy::Outcome;

use crate::world::{
    GRACE, TIMEOUT, World, assert_unavailable, code, denied, forwarded_for, ms, record, retry_after, slug,
};

const WORKERS: usize = 4;
const OPEN: Duration = Duration::from_secs(30);
const STATE: &str = "tenantgate_breaker_state";

fn four_workers() -> World {
    World::with_workers(WORKERS, json!({}))
}

/// A failing Tenant Manager is asked about five tenants, on worker after worker.
fn opened() -> World {
    let mut world = four_workers();
    fail(&mut world, &json!({ "status": 500 }), 5);
    world
}

/// So many tenants are asked about, and this is the answer.
#[track_caller]
fn fail(world: &mut World, answer: &Value, times: usize) {
    for n in 0..times {
        let tenant = format!("failing-{n}");
        world.answer(&tenant, answer.clone());
        world.asked();
        assert_unavailable(world.run_on(&tenant, n % WORKERS), "TENANT_MANAGER_UNAVAILABLE");
        assert_eq!(world.asked(), 1, "{answer}, time {n}");
    }
}

#[track_caller]
fn is_open(world: &mut World) -> bool {
    let tenant = format!("probing-{}", world.envoy.callouts().len());
    world.record(&tenant, "s");
    world.asked();
    let outcome = world.run_on(&tenant, 0);
    let is_open = matches!(&outcome, Outcome::Replied(reply) if code(reply) == "CIRCUIT_OPEN");
    assert_eq!(world.asked() == 0, is_open);
    is_open
}

#[test]
fn five_failures_on_any_workers_open_the_circuit_for_all_of_them() {
    let mut world = opened();
    assert_eq!(world.envoy.metric(STATE), Some(1));
    assert_eq!(world.envoy.metric("tenantgate_circuit_opened_total"), Some(1));
    world.envoy.advance(ms(12_300));
    for worker in 0..WORKERS {
        let outcome = world.ask_now("acme", worker);
        assert_eq!(retry_after(outcome.clone()), 18, "17.7 s are left");
        assert_eq!(denied(outcome), (503, "CIRCUIT_OPEN".to_owned()), "worker {worker}");
    }
    world.envoy.advance(OPEN - ms(12_301));
    assert_eq!(retry_after(world.ask_now("acme", 0)), 1);
    assert_eq!(world.asked(), 0);
    world.assert_healthy();
}

#[test]
fn after_the_time_one_worker_of_the_node_probes_and_its_success_closes_the_circuit() {
    let mut world = opened();
    world.envoy.advance(OPEN);
    for n in 0..12 {
        world.slow_record(&format!("t{n}"), "s", 200);
    }
    let streams: Vec<_> = (0..12).map(|n| world.ask(&format!("t{n}"), n % WORKERS)).collect();
    assert_eq!(world.asked(), 1, "one probe among four workers");
    assert_eq!(world.envoy.metric(STATE), Some(2));
    let waiting = world.undecided(&streams);
    assert_eq!(waiting.len(), 1);
    for stream in streams.iter().filter(|stream| !waiting.contains(stream)) {
        let outcome = world.envoy.outcome(*stream);
        assert_eq!(retry_after(outcome.clone()), 1);
        assert_eq!(denied(outcome).1, "CIRCUIT_OPEN");
    }
    world.envoy.advance(ms(200));
    world.envoy.outcome(waiting[0]).forwarded();
    assert_eq!(world.envoy.metric(STATE), Some(0));
    for (n, worker) in (0..12).zip((0..WORKERS).cycle()) {
        world.run_on(&format!("t{n}"), worker).forwarded();
    }
    let closed = world
        .envoy
        .logs()
        .iter()
        .filter(|line| line.message.contains("circuit"))
        .count();
    assert_eq!(closed, 2, "that it opened and that it closed, once each");
    world.assert_healthy();
}

#[test]
fn a_probe_that_fails_opens_the_circuit_again_for_as_long() {
    let mut world = opened();
    for _ in 0..3 {
        world.envoy.advance(OPEN - ms(1));
        assert!(is_open(&mut world));
        world.envoy.advance(ms(1));
        world.answer("acme", json!({ "fault": "close_before_headers" }));
        assert_eq!(denied(world.run_on("acme", 1)).1, "TENANT_MANAGER_UNAVAILABLE");
        assert_eq!(world.asked(), 1);
        assert_eq!(retry_after(world.ask_now("globex", 3)), 30);
        assert_eq!(world.envoy.metric(STATE), Some(1));
    }
    assert_eq!(
        world.envoy.metric("tenantgate_circuit_opened_total"),
        Some(1),
        "it was never closed"
    );
}

#[test]
fn a_probe_whose_answer_is_neither_leaves_the_next_to_be_the_probe() {
    let mut world = opened();
    world.envoy.advance(OPEN);
    world.answer("acme", json!({ "status": 400 }));
    assert_unavailable(world.run_on("acme", 0), "TENANT_MANAGER_UNAVAILABLE");
    world.slow_record("globex", "s", 100);
    let probe = world.ask("globex", 2);
    world.envoy.settle();
    assert_eq!(
        denied(world.ask_now("initech", 1)).1,
        "CIRCUIT_OPEN",
        "one at a time still"
    );
    assert_eq!(forwarded_for(world.envoy.decide(probe)), "globex");
    assert_eq!(world.envoy.metric(STATE), Some(0));
}

#[test]
fn a_probe_that_dies_with_its_worker_is_followed_by_another() {
    let mut world = World::of_mortals(2, json!({}));
    for n in 0..5 {
        let tenant = format!("failing-{n}");
        world.answer(&tenant, json!({ "status": 500 }));
        world.run_on(&tenant, n % 2).replied();
    }
    world.envoy.advance(OPEN);
    world.slow_record("acme", "s", 100);
    world.ask("acme", 0);
    world.asked();
    world.kill(0);
    world.envoy.advance(TIMEOUT + GRACE - ms(1));
    assert_eq!(denied(world.ask_now("acme", 1)).1, "CIRCUIT_OPEN");
    assert_eq!(world.asked(), 0);
    world.envoy.advance(ms(1));
    assert_eq!(forwarded_for(world.run_on("acme", 1)), "acme");
    assert_eq!(world.asked(), 1);
}

#[test]
fn what_fails_counts_and_opens_the_circuit() {
    for answer in [
        json!({ "status": 500 }),
        json!({ "status": 599 }),
        json!({ "status": 204 }),
        json!({ "status": 302, "headers": [["location", "/elsewhere"]] }),
        json!({ "fault": "silence" }),
        json!({ "fault": "reset_mid_body", "body": "half of it" }),
        json!({ "fault": "close_before_headers" }),
        json!({ "body": "not json" }),
        json!({ "record": { "id": "somebody-else" } }),
        json!({ "record": {}, "pad_to_bytes": 1_048_577 }),
    ] {
        let mut world = four_workers();
        fail(&mut world, &answer, 4);
        assert!(!is_open(&mut world), "{answer}");
        // That was a success: it starts again.
        fail(&mut world, &answer, 5);
        assert!(is_open(&mut world), "{answer}");
    }
}

#[test]
fn what_is_an_answer_closes_the_count() {
    for answer in [
        json!({ "status": 403, "body": { "status": "suspended" } }),
        json!({ "status": 403 }),
        json!({ "status": 404 }),
        json!({ "status": 422 }),
    ] {
        let mut world = four_workers();
        for _ in 0..3 {
            fail(&mut world, &json!({ "status": 500 }), 4);
            world.answer("answered", answer.clone());
            world.envoy.advance(ms(10_000));
            assert_ne!(world.run_on("answered", 0).replied().status, 503);
        }
        assert!(!is_open(&mut world), "{answer}");
    }
}

#[test]
fn what_is_neither_counts_for_nothing() {
    for status in [400, 401, 409, 418, 429] {
        let mut world = four_workers();
        fail(&mut world, &json!({ "status": 500 }), 4);
        for n in 0..20 {
            let tenant = format!("neither-{n}");
            world.answer(&tenant, json!({ "status": status }));
            assert_unavailable(world.run_on(&tenant, n % WORKERS), "TENANT_MANAGER_UNAVAILABLE");
            world.envoy.advance(ms(1_000));
        }
        assert_eq!(world.envoy.metric(STATE), Some(0), "{status} is no failure");
        fail(&mut world, &json!({ "status": 500 }), 1);
        assert!(is_open(&mut world), "{status} is no success");
    }
}

#[test]
fn while_the_circuit_is_open_what_is_known_goes_on() {
    let mut world = four_workers();
    world.record("acme", "first");
    world.run_on("acme", 0).forwarded();
    world.run_on("globex", 0).forwarded();
    world.envoy.advance(Duration::from_secs(140));
    fail(&mut world, &json!({ "status": 500 }), 5);
    world.record("acme", "second");
    world.asked();
    for worker in 0..WORKERS {
        assert_eq!(slug(world.ask_now("acme", worker)), "first", "stale, worker {worker}");
    }
    assert_eq!(world.asked(), 0);
    world.envoy.advance(Duration::from_secs(29));
    for worker in 0..WORKERS {
        assert_eq!(
            slug(world.ask_now("acme", worker)),
            "first",
            "a fallback, worker {worker}"
        );
    }
    assert_eq!(world.asked(), 0);
    world.envoy.advance(ms(1_000));
    assert_eq!(slug(world.run_on("acme", 0)), "second");
}

#[test]
fn where_the_operator_lets_them_unknown_tenants_pass_an_open_circuit_and_refused_ones_do_not() {
    let mut world = World::with_workers(WORKERS, json!({ "tenant_manager": { "on_unavailable": "allow" } }));
    world.run_on("frozen", 0).replied();
    world.told(1, &json!({ "event_type": "tenant.suspended", "tenant_id": "acme" }));
    world.envoy.advance(ms(11_000));
    for n in 0..5 {
        let tenant = format!("failing-{n}");
        world.answer(&tenant, json!({ "status": 500 }));
        world.run_on(&tenant, n % WORKERS).forwarded();
    }
    world.asked();
    for worker in 0..WORKERS {
        let request = world.ask_now("globex", worker).forwarded();
        assert_eq!(
            request.headers.get("x-tenant-resolution"),
            Some(b"unverified".as_slice())
        );
        assert_eq!(denied(world.ask_now("acme", worker)).1, "TENANT_SUSPENDED");
        // Its time as a refusal is over, but that it was refused is known.
        assert_eq!(denied(world.ask_now("frozen", worker)).1, "TENANT_SUSPENDED");
    }
    assert_eq!(world.asked(), 0);
    world.assert_healthy();
}

#[test]
fn a_429_pauses_the_whole_node_for_as_long_as_it_says() {
    for (said, seconds) in [
        (Some("7"), 7),
        (Some("1"), 1),
        (Some("30"), 30),
        (Some("31"), 30),
        (Some("86400"), 30),
        (Some("99999999999999999999"), 30),
        (Some("0"), 1),
        (Some("-5"), 1),
        (Some("+5"), 1),
        (Some("1.5"), 1),
        (Some(""), 1),
        (Some("Wed, 21 Oct 2099 07:28:00 GMT"), 1),
        (None, 1),
    ] {
        let mut world = four_workers();
        let headers: Vec<_> = said.iter().map(|said| ["retry-after", said]).collect();
        world.answer("acme", json!({ "status": 429, "headers": headers }));
        world.run_on("globex", 3).forwarded();
        let outcome = world.run_on("acme", 0);
        assert_unavailable(outcome, "TENANT_MANAGER_UNAVAILABLE");
        assert_eq!(world.asked(), 2);
        for worker in 0..WORKERS {
            let outcome = world.ask_now("initech", worker);
            assert_eq!(retry_after(outcome.clone()), seconds, "{said:?}");
            assert_eq!(denied(outcome).1, "TENANT_MANAGER_UNAVAILABLE");
            assert_eq!(forwarded_for(world.ask_now("globex", worker)), "globex", "known");
        }
        world.envoy.advance(Duration::from_secs(seconds) - ms(1));
        assert_eq!(retry_after(world.ask_now("initech", 1)), 1, "{said:?}");
        assert_eq!(world.asked(), 0, "{said:?}");
        world.envoy.advance(ms(1));
        world.run_on("initech", 2).replied();
        assert_eq!(world.asked(), 1, "{said:?}");
    }
}

#[test]
fn a_shorter_pause_does_not_end_a_longer_one() {
    let mut world = four_workers();
    let after = |seconds: &str, delay_ms: u64| json!({ "status": 429, "headers": [["retry-after", seconds]], "delay_ms": delay_ms });
    world.answer("long", after("20", 50));
    world.answer("short", after("2", 100));
    world.ask("long", 0);
    world.ask("short", 1);
    world.envoy.advance(ms(100));
    world.envoy.advance(Duration::from_secs(10));
    assert_eq!(retry_after(world.ask_now("acme", 2)), 10);
}

#[test]
fn a_401_with_every_key_pauses_the_whole_node_for_a_second_and_is_told_once_a_minute() {
    let mut world = four_workers();
    for n in 0..100 {
        let tenant = format!("t{n}");
        world.answer(&tenant, json!({ "status": 401 }));
        assert_unavailable(world.run_on(&tenant, n % WORKERS), "TENANT_MANAGER_UNAVAILABLE");
        assert_eq!(retry_after(world.ask_now("acme", (n + 1) % WORKERS)), 1);
        assert_eq!(world.asked(), 1, "time {n}");
        world.envoy.advance(ms(1_000));
    }
    let told = world
        .envoy
        .logs()
        .iter()
        .filter(|line| line.message.contains("401"))
        .count();
    // 100 s, and each worker has its own minute.
    assert_eq!(told, 2 * WORKERS);
    world.assert_healthy();
}

#[test]
fn a_400_pauses_its_tenant_on_the_whole_node_and_nobody_else() {
    for status in [400, 402, 405, 409, 410, 418, 451, 499] {
        let mut world = four_workers();
        world.answer("odd", json!({ "status": status }));
        assert_unavailable(world.run_on("odd", 0), "TENANT_MANAGER_UNAVAILABLE");
        world.envoy.advance(ms(999));
        assert_eq!(world.asked(), 1);
        for worker in 0..WORKERS {
            let outcome = world.ask_now("odd", worker);
            assert_eq!(retry_after(outcome.clone()), 1);
            assert_eq!(denied(outcome).1, "TENANT_MANAGER_UNAVAILABLE", "{status}");
        }
        assert_eq!(world.asked(), 0, "{status}");
        assert_eq!(forwarded_for(world.run_on("acme", 1)), "acme", "{status}");
        world.asked();
        world.envoy.advance(ms(1));
        world.record("odd", "s");
        assert_eq!(slug(world.run_on("odd", 3)), "s", "{status}");
        assert_eq!(world.asked(), 1);
    }
}

#[test]
fn a_tenant_that_is_paused_goes_on_with_what_is_known_of_it() {
    let mut world = four_workers();
    world.record("acme", "first");
    world.run_on("acme", 0).forwarded();
    world.answer("acme", json!({ "status": 400 }));
    world.envoy.advance(Duration::from_secs(135));
    world.asked();
    for _ in 0..10 {
        for worker in 0..WORKERS {
            assert_eq!(slug(world.ask_now("acme", worker)), "first");
        }
        world.envoy.advance(ms(99));
    }
    assert_eq!(world.asked(), 1, "in 990 ms");
}

#[test]
fn the_key_that_worked_on_one_worker_is_tried_first_by_all() {
    let keys = json!({ "tenant_manager": { "api_keys": [{ "value": "old-key" }, { "value": "new-key" }] } });
    let config = crate::world::with_events(keys);
    let mut world = World::start(&config, |builder| {
        builder
            .workers(WORKERS)
            .cluster("tenant-manager", |request: &tiny_envoy::PeerRequest| {
                let id = request.path().split('/').nth(2).unwrap_or_default().to_owned();
                match request.headers.get("x-api-key") {
                    Some(b"new-key") => tiny_envoy::Answer::json(200, record(&id, "s").to_string()),
                    _ => tiny_envoy::Answer::status(401),
                }
            })
    });
    for (worker, calls) in [(0, 2), (1, 1), (2, 1), (3, 1), (0, 1)] {
        let before = world.envoy.callouts().len();
        world.run_on(&format!("t{before}"), worker).forwarded();
        assert_eq!(world.envoy.callouts().len() - before, calls, "worker {worker}");
    }
    let unauthorized = world
        .envoy
        .metric("tenant_connection_errors_total.reason=unauthorized~");
    assert_eq!(unauthorized, Some(0), "a key that is being rotated out is no failure");
    world.assert_healthy();
}
