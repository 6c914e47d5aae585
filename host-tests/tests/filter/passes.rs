//! Requests that an internal redirect sends through the filter again, and what it leaves with the host to
//! know them by: on hosts that refuse it, and where something changes between the passes.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tiny_envoy::{Answer, Builder, Outcome, PeerRequest, StreamId};

use crate::world::{ACCOUNTS, World, config, denied, forwarded_for, ms, with_events};

const INTERNAL_ERRORS: &str = "tenantgate_denials_total.code=INTERNAL_ERROR~";
const PASS: &str = "tenantgate_pass";
const ORIGINAL_URL: &str = "x-envoy-original-url";

/// An upstream that redirects everything but `/second`, after a while.
fn redirecting(config: &Value, tune: impl FnOnce(Builder) -> Builder) -> World {
    World::start(config, |builder| {
        tune(builder.internal_redirects(1).upstream(|request: &PeerRequest| {
            if request.path() == "/second" {
                Answer::status(200)
            } else {
                let there = Answer::status(302).header("location", "http://tiny.example/second");
                there.after(ms(100))
            }
        }))
    })
}

impl World {
    /// Sends a request of a tenant with these field lines through its first pass.
    #[track_caller]
    fn first_pass(&mut self, tenant: &str, lines: &[(&str, &str)]) -> StreamId {
        let mut request = self.request("GET", tenant);
        for (name, value) in lines {
            request = request.header(name, value);
        }
        let stream = request.send();
        assert!(matches!(self.envoy.decide(stream), Outcome::Forwarded(_)));
        stream
    }

    /// What becomes of the second pass of a request that has had its first.
    #[track_caller]
    fn second_pass(&mut self, first: StreamId) -> (StreamId, Outcome) {
        self.envoy.advance(ms(100));
        let second = self.envoy.redirected(first).expect("it was redirected");
        (second, self.envoy.decide(second))
    }
}

/// What a configuration leaves with a request of a tenant that it has scoped.
fn note(config: &Value, tenant: &str) -> Vec<u8> {
    let mut world = World::start(config, |builder| builder);
    let stream = world.request("GET", tenant).header("x-redis-key", "k").send();
    world.envoy.decide(stream).forwarded();
    let state = world.envoy.all_filter_state(stream);
    let [(name, note)] = &state.into_iter().collect::<Vec<_>>()[..] else {
        panic!("one note")
    };
    assert_eq!(name, PASS.as_bytes());
    note.clone()
}

fn rejected() -> (u16, String) {
    (400, "KEY_REJECTED".to_owned())
}

fn internal_error() -> (u16, String) {
    (500, "INTERNAL_ERROR".to_owned())
}

#[test]
fn a_tenant_that_is_suspended_between_the_passes_does_not_get_through_the_second() {
    let mut world = redirecting(&with_events(json!({})), |builder| builder);
    let first = world.first_pass("acme", &[("x-redis-key", "k")]);
    world.told(0, &json!({ "type": "tenant.suspended", "tenantId": "acme" }));
    let (second, outcome) = world.second_pass(first);
    assert_eq!(denied(outcome), (403, "TENANT_SUSPENDED".to_owned()));
    assert!(world.envoy.upstream_saw(second).is_none());
    world.assert_healthy();
}

#[test]
fn a_second_pass_waits_for_a_lookup_like_any_request_and_keeps_its_keys() {
    let cache = json!({ "ttl_seconds": 1, "stale_while_revalidate_seconds": 0, "stale_if_error_seconds": 0 });
    let config = config(json!({ "tenant_manager": { "cache": cache } }));
    let mut world = World::start(&config, |builder| {
        builder
            .internal_redirects(1)
            .upstream(|request: &PeerRequest| match request.path().as_str() {
                "/second" => Answer::status(200),
                _ => Answer::status(302)
                    .header("location", "http://tiny.example/second")
                    .after(ms(10_000)),
            })
    });
    let first = world.first_pass("acme", &[("x-redis-key", "k"), ("x-redis-key", "l")]);
    assert_eq!(world.asked(), 1);
    world.slow_record("acme", "any", 300);
    world.envoy.advance(ms(10_000));
    let second = world.envoy.redirected(first).expect("it was redirected");
    assert_eq!(world.envoy.outcome(second), Outcome::Pending);
    let request = world.envoy.decide(second).forwarded();
    assert_eq!(
        request.headers.get_all("x-redis-key"),
        [b"tenant:acme:k".as_slice(), b"tenant:acme:l"]
    );
    assert_eq!(request.headers.get_all("x-tenant-id"), [b"acme"]);
    assert_eq!(world.asked(), 1);
    world.assert_healthy();
}

#[test]
fn nothing_is_remembered_of_a_request_of_which_nothing_was_scoped() {
    let mut world = redirecting(&config(json!({})), |builder| builder);
    let first = world.first_pass("acme", &[]);
    assert_eq!(world.envoy.all_filter_state(first), BTreeMap::new());
    let (_, outcome) = world.second_pass(first);
    outcome.forwarded();
}

#[test]
fn what_is_remembered_is_the_tenant_and_nothing_else() {
    let mut world = redirecting(&config(json!({})), |builder| builder);
    let first = world.first_pass("acme", &[("x-redis-key", "k")]);
    let remembered = world.envoy.all_filter_state(first);
    let (second, outcome) = world.second_pass(first);
    outcome.forwarded();
    assert_eq!(world.envoy.all_filter_state(second), remembered);
    // The same for every request of the tenant, and for another tenant but for its id.
    let config = config(json!({}));
    let of = |tenant: &str| note(&config, tenant);
    assert_eq!(remembered, BTreeMap::from([(PASS.into(), of("acme"))]));
    let by = |note: Vec<u8>, tenant: &str| note.strip_suffix(tenant.as_bytes()).map(<[u8]>::to_vec);
    let configuration = by(of("acme"), "acme").expect("the tenant");
    assert_eq!(by(of("globex"), "globex"), Some(configuration.clone()));
    assert_eq!(configuration.len(), 16);
}

#[test]
fn what_is_remembered_is_looked_at_only_behind_a_redirect() {
    let mut world = World::start(&config(json!({})), |builder| builder);
    let forged = note(&config(json!({})), "globex");
    let request = world.request("GET", "acme").property(&[PASS], forged);
    let outcome = request.header("x-redis-key", "tenant:globex:k").run();
    let request = outcome.forwarded();
    assert_eq!(request.headers.get_all("x-tenant-id"), [b"acme"]);
    assert_eq!(
        request.headers.get_all("x-redis-key"),
        [b"tenant:acme:tenant:globex:k".as_slice()]
    );
}

#[test]
fn what_this_configuration_cannot_have_left_is_not_believed() {
    let config_of = |scope: Value| config(json!({ "scope": scope }));
    let ours = config_of(json!({}));
    let right = note(&ours, "globex");
    let other = note(&config_of(json!({ "emit": { "module": "x-app" } })), "globex");
    assert_ne!(right, other);
    let by = &right[..16];
    let mut notes = vec![
        other,
        b"globex".to_vec(),
        Vec::new(),
        by.to_vec(),
        right.to_ascii_uppercase(),
    ];
    for tenant in [b"a b".as_slice(), b"\xff", b"../x", &[b'a'; 257]] {
        notes.push([by, tenant].concat());
    }
    let mut world = World::start(&ours, |builder| builder);
    let mut second = |note: &[u8], line: Option<(&str, &str)>| {
        let request = world.request("GET", "acme").header(ORIGINAL_URL, "http://x/");
        let request = line
            .into_iter()
            .fold(request, |request, (name, value)| request.header(name, value));
        request.property(&[PASS], note).run()
    };
    let globex_key = Some(("x-redis-key", "tenant:globex:k"));
    assert_eq!(forwarded_for(second(&right, globex_key)), "globex");
    for note in notes {
        let about = note.escape_ascii().to_string();
        assert_eq!(denied(second(&note, globex_key)), rejected(), "{about}");
        // Where no key can have been scoped the token speaks.
        assert_eq!(forwarded_for(second(&note, None)), "acme", "{about}");
    }
    world.assert_healthy();
}

#[test]
fn a_host_that_keeps_nothing_for_a_second_pass_refuses_what_may_have_been_scoped() {
    let mut world = redirecting(&config(json!({})), |builder| {
        builder.without_foreign_function("declare_property")
    });
    let first = world.first_pass("acme", &[("x-redis-key", "k")]);
    assert_eq!(
        world.envoy.all_filter_state(first),
        BTreeMap::new(),
        "it would not last"
    );
    let (second, outcome) = world.second_pass(first);
    assert_eq!(denied(outcome), rejected());
    assert!(world.envoy.upstream_saw(second).is_none());
    // Where nothing can have been scoped, it is asked for its token again.
    let first = world.first_pass("acme", &[]);
    let (_, outcome) = world.second_pass(first);
    assert_eq!(outcome.forwarded().headers.get_all("x-tenant-id"), [b"acme"]);
    // Nor can a client have itself taken for somebody who was here before.
    let forged = world.request("GET", "acme").header(ORIGINAL_URL, "http://x/");
    let outcome = forged.header("x-redis-key", "tenant:globex:k").run();
    assert_eq!(denied(outcome), rejected());
    world.assert_healthy();
}

#[test]
fn such_a_host_scopes_what_comes_for_the_first_time() {
    let mut world = World::start(&config(json!({})), |builder| {
        builder.without_foreign_function("declare_property")
    });
    let outcome = world.request("GET", "acme").header("x-redis-key", "k").run();
    let request = outcome.forwarded();
    assert_eq!(request.headers.get_all("x-redis-key"), [b"tenant:acme:k".as_slice()]);
}

#[test]
fn a_host_that_takes_no_properties_gets_no_request_that_would_need_one() {
    let mut world = redirecting(&config(json!({})), |builder| {
        builder.restrict_capability("proxy_set_property")
    });
    let stream = world.request("GET", "acme").header("x-redis-key", "k").send();
    let outcome = world.envoy.decide(stream);
    assert_eq!(denied(outcome), internal_error());
    assert!(world.envoy.upstream_saw(stream).is_none());
    assert_eq!(world.envoy.metric(INTERNAL_ERRORS), Some(1));
    // Nothing has to be remembered of this one.
    let first = world.first_pass("acme", &[]);
    let (_, outcome) = world.second_pass(first);
    outcome.forwarded();
    world.assert_healthy();
}

#[test]
fn on_such_a_host_nothing_is_forwarded_that_others_are_to_be_told_of() {
    let config = config(json!({ "scope": { "properties": true } }));
    let mut world = World::start(&config, |builder| builder.restrict_capability("proxy_set_property"));
    let stream = world.ask("acme", 0);
    let outcome = world.envoy.decide(stream);
    assert_eq!(denied(outcome), internal_error());
    assert!(world.envoy.upstream_saw(stream).is_none());
    let public = world.envoy.get("/health").send();
    assert_eq!(denied(world.envoy.decide(public)), internal_error());
    assert!(world.envoy.upstream_saw(public).is_none());
    // A denial is one all the same.
    let refused = world.envoy.get(ACCOUNTS).run();
    assert_eq!(denied(refused), (401, "TENANT_ID_REQUIRED".to_owned()));
    world.assert_healthy();
}

#[test]
fn others_are_told_before_the_head_is_edited() {
    let config = config(json!({ "scope": { "properties": true } }));
    let mut world = World::start(&config, |builder| {
        // The first edit of a request without anything to take out fails.
        builder.restrict_capability("proxy_replace_header_map_value")
    });
    let stream = world.request("GET", "acme").header("x-redis-key", "k").send();
    let outcome = world.envoy.decide(stream);
    assert_eq!(denied(outcome), internal_error());
    let told = |name| world.envoy.filter_state(stream, name);
    assert_eq!(told("tenant_id"), Some(b"acme".to_vec()));
    assert_eq!(told("tenant_module"), Some(b"onboarding".to_vec()));
    assert!(told(PASS).is_some_and(|note| note.ends_with(b"acme")));
    world.assert_healthy();
}

/// Headers may have changed between the passes: routes can copy those of the redirecting response.
#[test]
fn what_a_second_pass_carries_must_be_in_the_scope_of_the_first() {
    let rules = json!([
        { "name": "x-routing-key", "kind": "routing_key" },
        { "name": "x-binding-key", "kind": "binding_key" },
        { "name": "x-redis-key", "kind": "redis_key" },
        { "name": "idempotency-key", "kind": "idempotency_key" },
        { "name": "x-storage-key", "kind": "storage_key" },
    ]);
    let config = config(json!({ "scope": { "headers": rules } }));
    let note = note(&config, "acme");
    let mut world = World::start(&config, |builder| builder);
    let mut second = |name: &str, values: &[&str]| {
        let request = world.request("GET", "acme").header(ORIGINAL_URL, "http://x/");
        let request = values
            .iter()
            .fold(request, |request, value| request.header(name, value));
        request.property(&[PASS], note.clone()).run()
    };
    for (name, own, outside) in [
        ("x-routing-key", "a.b.acme", ["a.b.globex", "a", "", ".acme"]),
        ("x-binding-key", "a.#.acme", ["a.#.globex", "a.#", "acme.*", "#"]),
        (
            "x-redis-key",
            "tenant:acme:k",
            ["tenant:globex:k", "k", "tenant:acme:", "tenant:*:k"],
        ),
        (
            "idempotency-key",
            "tenant:acme:k",
            ["tenant:globex:k", "k", "tenant:acme", ""],
        ),
        (
            "x-storage-key",
            "acme/a",
            ["globex/a", "a", "acme/../globex/a", "acme/%2e%2e/b"],
        ),
    ] {
        let kept = second(name, &[own, own]).forwarded();
        assert_eq!(kept.headers.get_all(name), [own.as_bytes(), own.as_bytes()]);
        assert_eq!(kept.headers.get_all("x-tenant-id"), [b"acme"]);
        for value in outside {
            for values in [&[value][..], &[own, value], &[value, own]] {
                assert_eq!(denied(second(name, values)), rejected(), "{name}: {values:?}");
            }
        }
    }
    world.assert_healthy();
}
