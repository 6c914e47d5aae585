//! What the log says of requests: one line for each that is denied, nothing for one that passes. And how a trace goes on.

use serde_json::{Value, json};
use tiny_envoy::{Answer, Level, LogLine, Outcome, PeerRequest};

use crate::world::{ACCOUNTS, World, config, denied, forwarded_for, ms, world};

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// The lines after the first `mark`, from this level on.
fn lines_since(world: &World, mark: usize, level: Level) -> Vec<LogLine> {
    let lines = world.envoy.logs().into_iter().skip(mark);
    lines.filter(|line| line.level >= level).collect()
}

/// Whom a request is by, where it goes, what else it carries, and the status and code of its denial.
type Row = (
    Option<&'static str>,
    &'static str,
    Option<(&'static str, &'static str)>,
    u16,
    &'static str,
);

#[test]
fn every_denial_is_one_line_at_info_with_its_request_id_and_nothing_secret() {
    let mut world = world(json!({
        "rate_limit": { "requests_per_second": 1, "burst": 1000, "overrides": { "half": { "requests_per_second": 1, "burst": 1 } } },
        "paths": { "public": [] },
    }));
    world.answer("broken", json!({ "status": 500 }));
    let rows: [Row; 14] = [
        (None, ACCOUNTS, None, 401, "TENANT_ID_REQUIRED"),
        (
            None,
            ACCOUNTS,
            Some(("authorization", "Bearer a.b.c")),
            401,
            "TOKEN_INVALID",
        ),
        (Some("not a tenant"), ACCOUNTS, None, 401, "TENANT_ID_INVALID"),
        (Some("acme"), "/v1/%2e%2e/x", None, 400, "PATH_REJECTED"),
        (
            Some("acme"),
            ACCOUNTS,
            Some(("x-storage-key", "../planted-key")),
            400,
            "KEY_REJECTED",
        ),
        (Some("frozen"), ACCOUNTS, None, 403, "TENANT_SUSPENDED"),
        // From the cache.
        (Some("frozen"), ACCOUNTS, None, 403, "TENANT_SUSPENDED"),
        (Some("barred"), ACCOUNTS, None, 403, "TENANT_ACCESS_DENIED"),
        (Some("nobody"), ACCOUNTS, None, 404, "TENANT_NOT_FOUND"),
        (Some("empty"), ACCOUNTS, None, 422, "TENANT_NOT_PROVISIONED"),
        (Some("half"), "/v1/transactions", None, 503, "SERVICE_NOT_CONFIGURED"),
        (Some("broken"), ACCOUNTS, None, 503, "TENANT_MANAGER_UNAVAILABLE"),
        (Some("half"), ACCOUNTS, None, 200, ""),
        (Some("half"), ACCOUNTS, None, 429, "TENANT_RATE_LIMITED"),
    ];
    for (number, (tenant, path, extra, status, code)) in rows.into_iter().enumerate() {
        let id = format!("request-{number}");
        let mark = world.envoy.logs().len();
        let bearer = tenant.map(|tenant| world.bearer(tenant));
        let mut request = world.envoy.request("GET", path).header("x-request-id", &id);
        if let Some(bearer) = &bearer {
            request = request.header("authorization", bearer);
        }
        if let Some((name, value)) = extra {
            request = request.header(name, value);
        }
        let outcome = request.run();
        let said = lines_since(&world, mark, Level::Info);
        let info: Vec<_> = said.iter().filter(|line| line.level == Level::Info).collect();
        if status == 200 {
            assert_eq!(forwarded_for(outcome), "half");
            assert_eq!(said, [], "{id}");
            continue;
        }
        assert_eq!(denied(outcome), (status, code.to_owned()), "{id}");
        let [line] = info[..] else {
            panic!("{id}: {said:#?}");
        };
        assert!(line.message.contains(&format!("denied {status} {code}")), "{line}");
        assert!(line.message.ends_with(&format!(" request_id={id}")), "{line}");
        // What is said besides is about the Tenant Manager, and none of this request.
        for line in said.iter().filter(|line| line.level > Level::Info) {
            assert!(
                code == "TENANT_MANAGER_UNAVAILABLE" && !line.message.contains(&id),
                "{line}"
            );
        }
        let token = bearer.map(|bearer| String::from_utf8_lossy(&bearer).replace("Bearer ", ""));
        for line in lines_since(&world, mark, Level::Trace) {
            let is_secret = |secret: &String| line.message.contains(secret);
            assert!(
                !token.as_ref().is_some_and(is_secret) && !line.message.contains("planted-key"),
                "{line}"
            );
        }
    }
    world.assert_healthy();
}

#[test]
fn a_denial_to_grpc_and_one_with_a_strange_request_id_are_one_line_too() {
    let mut world = world(json!({}));
    for (content_type, id, said_id) in [
        ("application/grpc", "one", "one"),
        ("text/plain", "two words", "-"),
        ("text/plain", "a\u{e9}", "-"),
    ] {
        let mark = world.envoy.logs().len();
        let request = world.envoy.post(ACCOUNTS).header("content-type", content_type);
        let outcome = request.header("x-request-id", id).run();
        assert!(matches!(outcome, Outcome::Replied(_)), "{outcome:?}");
        let said = lines_since(&world, mark, Level::Info);
        let [line] = &said[..] else {
            panic!("{said:#?}");
        };
        assert_eq!(
            line.message,
            format!("denied 401 TENANT_ID_REQUIRED request_id={said_id}")
        );
    }
    world.assert_healthy();
}

#[test]
fn nothing_is_said_of_a_request_that_passes() {
    let mut world = World::with_workers(2, json!({}));
    let mark = world.envoy.logs().len();
    for worker in [0, 1, 0] {
        assert_eq!(forwarded_for(world.run_on("acme", worker)), "acme");
    }
    let whole = world
        .request("POST", "globex")
        .header("x-storage-key", "a/b")
        .body("text")
        .trailer("x-note", "1");
    assert_eq!(forwarded_for(whole.run()), "globex");
    assert!(matches!(world.envoy.get("/health").run(), Outcome::Forwarded(_)));
    let upgrade = world
        .request("GET", "acme")
        .header("connection", "upgrade")
        .header("upgrade", "websocket");
    assert_eq!(forwarded_for(upgrade.run()), "acme");
    // It waits together with another one, and for a refresh nobody waits.
    world.slow_record("slow", "slow", 200);
    let streams = [world.ask("slow", 0), world.ask("slow", 0)];
    for stream in streams {
        assert_eq!(forwarded_for(world.envoy.decide(stream)), "slow");
    }
    assert_eq!(lines_since(&world, mark, Level::Info), []);
    world.assert_healthy();
}

#[test]
fn a_report_is_one_line_at_info_for_what_would_be_denied() {
    let mut world = world(json!({ "enforcement": "report" }));
    let mark = world.envoy.logs().len();
    let outcome = world.request("GET", "frozen").header("x-request-id", "told").run();
    assert!(matches!(outcome, Outcome::Forwarded(_)), "{outcome:?}");
    let said = lines_since(&world, mark, Level::Info);
    let [line] = &said[..] else {
        panic!("{said:#?}");
    };
    assert_eq!(
        line.message,
        "would deny 403 TENANT_SUSPENDED tenant=frozen module=onboarding request_id=told"
    );
    world.assert_healthy();
}

/// The `traceparent` of each call to the Tenant Manager since the last time.
fn traced(world: &World) -> Vec<Option<String>> {
    let received = world.manager.take_received();
    received
        .iter()
        .map(|request| request.headers.text("traceparent"))
        .collect()
}

#[test]
fn a_lookup_carries_the_trace_of_the_request_that_began_it_with_either_key() {
    let keys = json!([{ "value": "old-key" }, { "value": "corpus-api-key" }]);
    let mut world = world(json!({ "tenant_manager": { "api_keys": keys } }));
    // Both keys are refused, so that both are tried.
    world.answer("acme", json!({ "status": 401 }));
    world.request("GET", "acme").header("traceparent", TRACEPARENT).run();
    let trace = || Some(TRACEPARENT.to_owned());
    assert_eq!(traced(&world), [trace(), trace()]);
    world.envoy.advance(ms(2_000));
    let first = world.request("GET", "globex").header("traceparent", TRACEPARENT).send();
    let second = world.ask("globex", 0);
    for stream in [first, second] {
        assert_eq!(forwarded_for(world.envoy.decide(stream)), "globex");
    }
    assert_eq!(traced(&world), [trace()], "one lookup, of the first");
    world
        .request("GET", "half")
        .header("traceparent", TRACEPARENT.to_uppercase())
        .run();
    assert_eq!(traced(&world), [None], "it is none by the grammar");
    world.assert_healthy();
}

/// An issuer whose keys are fetched, and come after a while.
fn fetched() -> Value {
    config(json!({ "auth": { "issuers": [{
        "issuer": "https://id.example.com", "audiences": ["api"], "algorithms": ["RS256"], "tenants": "any",
        "jwks": { "remote": { "cluster": "idp", "authority": "idp", "path": "/jwks", "timeout_ms": 500 } },
    }] } }))
}

#[test]
fn a_request_that_has_waited_for_keys_takes_its_trace_along() {
    let keys = corpus::mint::Keys::shared();
    let set = keys.jwk_set(&["main-rs256"]).expect("a key set").to_string();
    let mut world = World::start(&fetched(), |builder| {
        builder.cluster("idp", move |_: &PeerRequest| {
            Answer::json(200, set.clone()).after(ms(300))
        })
    });
    let token = corpus::case::Token::Tenant("acme".to_owned());
    let token = keys.token(&token, world.envoy.unix_seconds()).expect("a token");
    let bearer = [&b"Bearer "[..], &token].concat();
    let request = world.envoy.get(ACCOUNTS).header("authorization", bearer);
    let stream = request.header("traceparent", TRACEPARENT).send();
    assert!(world.envoy.pending().contains(&stream), "it waits for keys");
    assert_eq!(traced(&world), [], "and nobody is asked about the tenant meanwhile");
    assert_eq!(forwarded_for(world.envoy.decide(stream)), "acme");
    assert_eq!(traced(&world), [Some(TRACEPARENT.to_owned())]);
    let fetches = world
        .envoy
        .callouts()
        .into_iter()
        .filter(|callout| callout.cluster == "idp");
    let fetches: Vec<_> = fetches
        .map(|callout| callout.request.headers.text("traceparent"))
        .collect();
    assert!(
        !fetches.is_empty() && fetches.iter().all(Option::is_none),
        "keys are everybody's: {fetches:?}"
    );
    world.assert_healthy();
}
