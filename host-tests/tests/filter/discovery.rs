//! The list of active tenants: who asks for it, and what it changes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tiny_envoy::{Answer, Builder, PeerRequest};

use crate::world::{World, denied, forwarded_for, ms, record, retry_after, slug};

const WORKERS: usize = 3;
const INTERVAL: Duration = Duration::from_secs(60);
const LIST: &str = "/tenants/active?service=ledger";
const ERRORS: &str = "tenantgate_discovery_errors_total";
const GONE: &str = "tenantgate_discovery_gone_total";

/// What the Tenant Manager answers: a list, and records that are made up as they are asked for.
#[derive(Clone)]
struct Script(Arc<Mutex<State>>);

struct State {
    list: Answer,
    slug: &'static str,
    delay: Duration,
}

impl Script {
    fn of(list: Answer) -> Self {
        Self(Arc::new(Mutex::new(State {
            list,
            slug: "discovered",
            delay: Duration::ZERO,
        })))
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn answer(&self, request: &PeerRequest) -> Answer {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let path = request.path();
        if path == LIST {
            return state.list.clone();
        }
        let id = path.split('/').nth(2).unwrap_or_default();
        Answer::json(200, record(id, state.slug).to_string()).after(state.delay)
    }
}

fn list(tenants: &[&str]) -> Answer {
    let entries: Vec<Value> = tenants
        .iter()
        .map(|id| json!({ "id": id, "name": "N", "status": "active" }))
        .collect();
    Answer::json(200, json!(entries).to_string())
}

fn world_with(script: &Script, tune: impl FnOnce(Builder) -> Builder) -> World {
    let discovery = json!({ "path": "/tenants/active", "interval_seconds": 60 });
    let patch = json!({ "tenant_manager": { "discovery": discovery } });
    let peer = script.clone();
    World::start(&crate::world::mortal(patch), |builder| {
        let builder = builder.cluster("tenant-manager", move |request: &PeerRequest| peer.answer(request));
        tune(builder.workers(WORKERS))
    })
}

fn start(script: &Script) -> World {
    let mut world = world_with(script, |builder| builder);
    // The canary may have the lease, and what it asks goes nowhere.
    world.envoy.advance(Duration::from_secs(5));
    world
}

/// How often the list and how often records have been asked for.
fn calls(world: &World) -> (usize, usize) {
    let callouts = world.envoy.callouts();
    let lists = callouts.iter().filter(|call| call.request.path() == LIST).count();
    (lists, callouts.len() - lists)
}

#[test]
fn one_worker_of_the_node_asks_for_the_list_and_all_are_warm() {
    let script = Script::of(list(&["acme", "globex", "initech"]));
    let mut world = start(&script);
    assert_eq!(calls(&world), (1, 3), "{:#?}", world.envoy.callouts());
    let asked = &world.envoy.callouts()[0].request;
    assert_eq!(asked.headers.get("x-api-key"), Some(b"corpus-api-key".as_slice()));
    assert!(asked.headers.get("authorization").is_none());
    for tenant in ["acme", "globex", "initech"] {
        for worker in 0..WORKERS {
            assert_eq!(slug(world.ask_now(tenant, worker)), "discovered");
        }
    }
    assert_eq!(calls(&world), (1, 3));
    world.assert_healthy();
}

#[test]
fn the_list_is_asked_for_again_every_interval_by_one_worker() {
    let script = Script::of(list(&["acme"]));
    let mut world = start(&script);
    for round in 2..=10 {
        world.envoy.advance(INTERVAL);
        assert_eq!(calls(&world).0, round);
    }
    assert!(
        calls(&world).1 <= 6,
        "a record lives 108 s at least: {:?}",
        calls(&world)
    );
    world.assert_healthy();
}

#[test]
fn lookups_for_a_list_are_four_at_once() {
    let tenants: Vec<String> = (0..30).map(|n| format!("t{n}")).collect();
    let names: Vec<&str> = tenants.iter().map(String::as_str).collect();
    let script = Script::of(list(&names));
    script.change(|state| state.delay = ms(100));
    let mut world = world_with(&script, |builder| builder);
    let mut before = 0;
    for _ in 0..200 {
        world.envoy.advance(ms(100));
        let now = calls(&world).1;
        assert!(now - before <= 4, "{} at once", now - before);
        before = now;
    }
    assert_eq!(calls(&world), (1, 30));
    assert_eq!(slug(world.ask_now("t29", 2)), "discovered");
}

#[test]
fn who_is_not_listed_any_more_is_asked_about_anew() {
    let script = Script::of(list(&["acme", "globex", "initech"]));
    let mut world = start(&script);
    for worker in 0..WORKERS {
        world.ask_now("acme", worker).forwarded();
        world.ask_now("globex", worker).forwarded();
    }
    script.change(|state| {
        state.list = list(&["globex", "initech"]);
        state.slug = "anew";
    });
    world.envoy.advance(INTERVAL);
    assert_eq!(world.envoy.metric(GONE), Some(1));
    for worker in 0..WORKERS {
        assert_eq!(slug(world.ask_now("globex", worker)), "discovered");
        assert_eq!(slug(world.run_on("acme", worker)), "anew", "worker {worker}");
    }
    world.assert_healthy();
}

#[test]
fn a_list_that_cannot_be_believed_changes_nothing() {
    let too_many: Vec<String> = (0..16_385).map(|n| format!("t{n}")).collect();
    let too_many: Vec<&str> = too_many.iter().map(String::as_str).collect();
    for useless in [
        list(&[]),
        list(&["globex"]),
        Answer::json(200, "nonsense"),
        Answer::json(200, "{}"),
        Answer::json(200, r#"{"tenants":[]}"#),
        Answer::json(200, r#"[["globex"],["initech"]]"#),
        Answer::json(200, r#"[{"id":7}]"#),
        Answer::json(200, r#"[{"name":"globex"}]"#),
        Answer::json(200, ""),
        Answer::json(200, " ".repeat(1_048_577)),
        list(&too_many),
        list(&["globex", "initech"]).reset_mid_body(),
        Answer::json(404, "[]"),
        Answer::json(403, "[]"),
        Answer::status(204),
        Answer::status(302).header("location", "/elsewhere"),
        Answer::status(500),
        Answer::silence(),
        Answer::close_before_headers(),
        Answer::no_endpoints(),
    ] {
        let script = Script::of(list(&["acme", "globex", "initech"]));
        let mut world = start(&script);
        world.ask_now("acme", 1).forwarded();
        let about = format!("{useless:?}").chars().take(200).collect::<String>();
        script.change(|state| state.list = useless);
        world.envoy.advance(INTERVAL);
        assert!(world.envoy.metric(ERRORS) >= Some(1), "{about}");
        assert_eq!(world.envoy.metric(GONE), Some(0), "{about}");
        for tenant in ["acme", "globex", "initech"] {
            assert_eq!(slug(world.ask_now(tenant, 1)), "discovered", "{about}");
        }
        assert_eq!(calls(&world).1, 3, "{about}");
        // It is asked for again soon, and compared with the last good one.
        script.change(|state| state.list = list(&["globex", "initech"]));
        world.envoy.advance(Duration::from_secs(40));
        assert_eq!(world.envoy.metric(GONE), Some(1), "{about}");
        world.assert_healthy();
    }
}

#[test]
fn who_is_listed_as_something_else_than_active_is_not_warmed() {
    let body = json!([
        { "id": "acme", "status": "active" }, { "id": "globex", "status": "suspended" }, { "id": "initech" },
        { "id": "../etc" }, { "id": "" },
    ]);
    let script = Script::of(Answer::json(200, body.to_string()));
    let world = start(&script);
    assert_eq!(calls(&world), (1, 2));
    world.assert_healthy();
}

#[test]
fn who_is_refused_by_an_event_is_not_warmed_by_a_list() {
    let script = Script::of(list(&["acme", "globex"]));
    let mut world = start(&script);
    world.told(0, &json!({ "event_type": "tenant.suspended", "tenant_id": "acme" }));
    world.envoy.advance(INTERVAL);
    for worker in 0..WORKERS {
        assert_eq!(denied(world.ask_now("acme", worker)).1, "TENANT_SUSPENDED");
    }
    assert_eq!(calls(&world), (2, 2));
}

#[test]
fn the_list_respects_breaker_and_pauses() {
    let script = Script::of(Answer::status(429).header("retry-after", "25"));
    let mut world = start(&script);
    assert_eq!(calls(&world), (1, 0));
    let left = retry_after(world.ask_now("acme", 2));
    assert!((20..=25).contains(&left), "{left}");
    world.envoy.advance(Duration::from_secs(15));
    assert_eq!(calls(&world), (1, 0), "nobody asks, discovery neither");
    script.change(|state| state.list = list(&["acme"]));
    world.envoy.advance(Duration::from_secs(30));
    assert_eq!(calls(&world), (2, 1));

    let script = Script::of(Answer::status(500));
    let mut world = start(&script);
    world.envoy.advance(Duration::from_secs(45));
    let lists = calls(&world).0;
    assert!(
        lists >= 4,
        "every 10 s: lists open no circuit, and {lists} is not all of them"
    );
    world.envoy.advance(Duration::from_secs(20));
    assert!(calls(&world).0 > lists);
    script.change(|state| state.list = list(&["acme"]));
    world.envoy.advance(Duration::from_secs(30));
    assert_eq!(calls(&world).1, 1, "and it is looked up");
    assert_eq!(forwarded_for(world.ask_now("acme", 0)), "acme");
}

#[test]
fn a_second_key_is_tried_for_the_list_too() {
    let mut patch = json!({});
    patch["tenant_manager"]["api_keys"] = json!([{ "value": "old-key" }, { "value": "new-key" }]);
    patch["tenant_manager"]["discovery"] = json!({ "path": "/tenants/active", "interval_seconds": 60 });
    let script = Script::of(list(&["acme"]));
    let peer = script.clone();
    let mut world = World::start(&crate::world::with_events(patch), |builder| {
        builder.cluster("tenant-manager", move |request: &PeerRequest| {
            match request.headers.get("x-api-key") {
                Some(b"new-key") => peer.answer(request),
                _ => Answer::status(401),
            }
        })
    });
    world.envoy.advance(Duration::from_secs(5));
    assert_eq!(calls(&world), (2, 1));
    assert_eq!(slug(world.ask_now("acme", 0)), "discovered");
}

#[test]
fn a_worker_that_dies_while_it_asks_is_followed_by_another() {
    let script = Script::of(list(&["acme"]));
    let mut world = world_with(&script, crate::world::mortals);
    script.change(|state| state.list = list(&["acme", "globex"]).after(ms(200)));
    while calls(&world).0 < 1 {
        world.envoy.advance(ms(100));
        assert!(world.envoy.elapsed() < Duration::from_secs(120));
    }
    let asking = world.envoy.callouts().last().expect("a call").worker;
    assert!(asking < WORKERS, "not the main thread, for this seed");
    world.kill(asking);
    world.envoy.advance(Duration::from_secs(5));
    assert_eq!(slug(world.ask_now("globex", (asking + 1) % WORKERS)), "discovered");
}

#[test]
fn between_two_lists_nothing_ticks() {
    let script = Script::of(list(&[]));
    let mut world = start(&script);
    let ticks = |world: &World| {
        let calls = world.envoy.hostcalls();
        calls
            .get("proxy_set_tick_period_milliseconds")
            .copied()
            .unwrap_or_default()
    };
    let before = ticks(&world);
    world.envoy.advance(Duration::from_secs(50));
    assert_eq!(ticks(&world), before, "the list is empty, nothing else is due");
    world.envoy.advance(Duration::from_secs(60));
    assert!(ticks(&world) > before);
}
