//! The answer table: what each answer means, whether it is cached, and what it does to the breaker.

use super::*;

/// What an answer does to the breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    Success,
    Failure,
    Neither,
}

/// For how long nobody asks, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pause {
    None,
    Tenant(u64),
    Node(u64),
}

/// Where an outcome is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cached {
    Node,
    Worker,
    Nowhere,
}

type Row = (Answer<'static>, Outcome, Cached, Effect, Pause);

fn retry_after(seconds: Option<u32>) -> Answer<'static> {
    Answer::Http {
        status: 429,
        retry_after_seconds: seconds,
        body: Some(b""),
    }
}

fn too_large(status: u16) -> Answer<'static> {
    Answer::Http {
        status,
        retry_after_seconds: None,
        body: None,
    }
}

fn table() -> Vec<Row> {
    use Cached::{Node, Nowhere, Worker};
    use Effect::{Failure, Neither, Success};
    let failed = |failure| Outcome::Unavailable(Unavailable::Failed(failure));
    let found = |body: &str| {
        let record = Record::parse(body.as_bytes()).unwrap();
        Outcome::Found(Rc::new(record.limited_to(&config(&json!({})).modules)))
    };
    let mut rows = vec![
        (http(200, "{}"), found("{}"), Node, Success, Pause::None),
        (http(200, r#"{"id":"acme"}"#), found("{}"), Node, Success, Pause::None),
        (
            http(200, r#"{"id":"acme","status":"suspended"}"#),
            found(r#"{"status":"suspended"}"#),
            Node,
            Success,
            Pause::None,
        ),
        (http(404, ""), Outcome::NotFound, Worker, Success, Pause::None),
        (
            http(404, r#"{"status":"suspended"}"#),
            Outcome::NotFound,
            Worker,
            Success,
            Pause::None,
        ),
        (
            http(403, r#"{"status":"suspended"}"#),
            refused("suspended"),
            Node,
            Success,
            Pause::None,
        ),
        (
            http(403, r#"{"status":"purged"}"#),
            refused("purged"),
            Node,
            Success,
            Pause::None,
        ),
        (
            http(403, r#"{"status":"Active"}"#),
            refused("Active"),
            Node,
            Success,
            Pause::None,
        ),
        (http(422, "{}"), Outcome::NotProvisioned, Node, Success, Pause::None),
        (
            retry_after(None),
            Outcome::Unavailable(Unavailable::Paused(1_000)),
            Nowhere,
            Neither,
            Pause::Node(1_000),
        ),
        (
            retry_after(Some(0)),
            Outcome::Unavailable(Unavailable::Paused(1_000)),
            Nowhere,
            Neither,
            Pause::Node(1_000),
        ),
        (
            retry_after(Some(1)),
            Outcome::Unavailable(Unavailable::Paused(1_000)),
            Nowhere,
            Neither,
            Pause::Node(1_000),
        ),
        (
            retry_after(Some(7)),
            Outcome::Unavailable(Unavailable::Paused(7_000)),
            Nowhere,
            Neither,
            Pause::Node(7_000),
        ),
        (
            retry_after(Some(30)),
            Outcome::Unavailable(Unavailable::Paused(30_000)),
            Nowhere,
            Neither,
            Pause::Node(30_000),
        ),
        (
            retry_after(Some(u32::MAX)),
            Outcome::Unavailable(Unavailable::Paused(30_000)),
            Nowhere,
            Neither,
            Pause::Node(30_000),
        ),
        (
            http(401, ""),
            failed(LookupFailure::Unauthorized),
            Nowhere,
            Neither,
            Pause::Node(1_000),
        ),
        (
            too_large(200),
            failed(LookupFailure::BadRecord),
            Nowhere,
            Failure,
            Pause::None,
        ),
        (
            Answer::Unreachable,
            failed(LookupFailure::Unreachable),
            Nowhere,
            Failure,
            Pause::None,
        ),
    ];
    for body in [
        r#"{"status":""}"#,
        r#"{"status":"active"}"#,
        r#"{"status":7}"#,
        r#"{"status":null}"#,
        "{}",
        "[]",
        "<html>",
        "",
    ] {
        rows.push((http(403, body), Outcome::AccessDenied, Node, Success, Pause::None));
    }
    rows.push((too_large(403), Outcome::AccessDenied, Node, Success, Pause::None));
    let bad = [
        "",
        "[]",
        "null",
        r#"{"id":"other"}"#,
        r#"{"id":"ACME"}"#,
        r#"{"id":7}"#,
        r#"{"isolationMode":"shared"}"#,
    ];
    for body in bad {
        rows.push((
            http(200, body),
            failed(LookupFailure::BadRecord),
            Nowhere,
            Failure,
            Pause::None,
        ));
    }
    for status in [400, 402, 405, 409, 410, 418, 451, 499] {
        rows.push((
            http(status, ""),
            failed(LookupFailure::Rejected),
            Nowhere,
            Neither,
            Pause::Tenant(1_000),
        ));
    }
    for status in [0, 100, 201, 202, 204, 206, 299, 301, 302, 304, 307, 308] {
        rows.push((
            http(status, "{}"),
            failed(LookupFailure::UnexpectedStatus),
            Nowhere,
            Failure,
            Pause::None,
        ));
    }
    for status in [500, 502, 503, 504, 599] {
        rows.push((
            http(status, ""),
            failed(LookupFailure::ServerError),
            Nowhere,
            Failure,
            Pause::None,
        ));
    }
    rows
}

/// Takes an answer about `acme` in, twice where it is asked twice.
fn learn(worker: &mut Worker, answer: Answer<'_>, world: &World) -> Rc<Outcome> {
    let id = worker.begin("acme", world);
    match worker.answer(id, answer, world) {
        Answered::Again(_) => outcome(worker.answer(id, answer, world)),
        over => outcome(over),
    }
}

#[test]
fn each_answer_has_its_outcome_and_is_cached_where_it_should() {
    for (answer, expected, cached, _, pause) in table() {
        let Bench { world, mut workers, .. } = Bench::new(2, &json!({}));
        assert_eq!(*learn(&mut workers[0], answer, &world), expected, "{answer:?}");
        if pause != Pause::None {
            continue;
        }
        for (worker, is_known) in [(0, cached != Cached::Nowhere), (1, cached == Cached::Node)] {
            match workers[worker].resolve("acme", &world) {
                Resolution::Known(outcome) => {
                    assert!(is_known, "worker {worker}: {answer:?}");
                    assert_eq!(*outcome, expected, "worker {worker}: {answer:?}");
                }
                Resolution::Wait(_) => assert!(!is_known, "worker {worker}: {answer:?}"),
            }
        }
    }
}

#[test]
fn each_answer_has_its_effect_on_the_breaker() {
    for (answer, _, _, effect, pause) in table() {
        let Bench { world, mut workers, .. } = Bench::new(1, &json!({ "breaker": { "threshold": 2 } }));
        let is_open = |world: &World| world.gauge(Gauge::BreakerState) == 1;
        workers[0].look_up("a", 500, "", &world);
        learn(&mut workers[0], answer, &world);
        assert_eq!(is_open(&world), effect == Effect::Failure, "{answer:?}");
        if effect == Effect::Failure {
            continue;
        }
        if let Pause::Tenant(ms) | Pause::Node(ms) = pause {
            world.pass(ms);
        }
        workers[0].look_up("b", 500, "", &world);
        assert_eq!(is_open(&world), effect == Effect::Neither, "{answer:?}");
    }
}

#[test]
fn each_pause_is_as_long_and_as_wide_as_it_should() {
    for (answer, _, _, _, pause) in table() {
        let Bench { world, mut workers, .. } = Bench::new(2, &json!({}));
        learn(&mut workers[0], answer, &world);
        let (ms, everyone) = match pause {
            Pause::None => continue,
            Pause::Tenant(ms) => (ms, false),
            Pause::Node(ms) => (ms, true),
        };
        let paused = |left_ms| Outcome::Unavailable(Unavailable::Paused(left_ms));
        for worker in &mut workers {
            assert_eq!(*worker.known("acme", &world), paused(ms), "{answer:?}");
            match worker.resolve("globex", &world) {
                Resolution::Known(outcome) => assert!(everyone && *outcome == paused(ms), "{answer:?}"),
                Resolution::Wait(_) => assert!(!everyone, "{answer:?}"),
            }
        }
        world.pass(ms - 1);
        for worker in &mut workers {
            assert_eq!(*worker.known("acme", &world), paused(1), "{answer:?}");
        }
        world.pass(1);
        for worker in &mut workers {
            worker.wait("acme", &world);
        }
    }
}

#[test]
fn a_record_without_an_id_will_not_do_where_places_are_told() {
    let mut emitting = config(&json!({}));
    emitting.scope.emit.schema = crate::scope::HeaderName::parse("x-schema");
    assert_eq!(
        lookup::outcome(http(200, "{}"), &tenant("acme"), &emitting),
        Err(LookupFailure::BadRecord)
    );
    assert!(lookup::outcome(http(200, r#"{"id":"acme"}"#), &tenant("acme"), &emitting).is_ok());
}

#[test]
fn ids_are_compared_after_folding_where_folding_is_on() {
    let document = |fold: bool| {
        let mut config = config(&json!({}));
        config.tenant_id.fold_uuid = fold;
        config
    };
    let dashed = "0F8FAD5B-D9CB-469F-A165-70867728950E";
    let body = format!(r#"{{"id":"{dashed}"}}"#);
    let asked = TenantId::parse("0f8fad5bd9cb469fa16570867728950e", true).unwrap();
    assert!(lookup::outcome(http(200, &body), &asked, &document(true)).is_ok());
    assert!(lookup::outcome(http(200, &body), &asked, &document(false)).is_err());
}
