//! How tenant events arrive: what is accepted, and what becomes of the request that brings them.

use serde_json::{Value, json};
use tiny_envoy::{LocalReply, Outcome, StreamId};

use crate::dice::Dice;
use crate::world::{ACCOUNTS, EVENTS, EVENTS_KEY, World, code, denied, forwarded_for, ms};

const MOST_BYTES: usize = 262_144;

fn suspended() -> Value {
    json!({ "event_type": "tenant.suspended", "tenant_id": "acme", "environment": "staging" })
}

/// A world in which `acme` is known to every worker.
fn three_workers() -> World {
    let mut world = World::with_workers(3, json!({}));
    for worker in 0..3 {
        world.run_on("acme", worker).forwarded();
    }
    world.asked();
    world
}

#[track_caller]
fn assert_suspended_everywhere(world: &mut World) {
    for worker in 0..3 {
        let expected = (403, "TENANT_SUSPENDED".to_owned());
        assert_eq!(denied(world.ask_now("acme", worker)), expected, "worker {worker}");
    }
    world.assert_healthy();
}

#[track_caller]
fn assert_served_everywhere(world: &mut World) {
    for worker in 0..3 {
        assert_eq!(forwarded_for(world.ask_now("acme", worker)), "acme", "worker {worker}");
    }
    assert_eq!(world.asked(), 0, "nothing was invalidated");
    world.assert_healthy();
}

#[track_caller]
fn assert_taken(reply: &LocalReply) {
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.headers.get("cache-control"), Some(b"no-store".as_slice()));
    assert_eq!(
        reply.headers.get("content-type"),
        Some(b"application/json; charset=utf-8".as_slice())
    );
    let counts: Value = serde_json::from_slice(&reply.body).expect("JSON");
    assert_eq!(counts["applied"], 1, "{counts}");
}

/// What the upstream may have seen of it does not open anything.
#[track_caller]
fn assert_keyless(world: &World, stream: StreamId) {
    if let Some(request) = world.envoy.upstream_saw(stream) {
        assert!(request.headers.get("x-api-key").is_none(), "{request:?}");
        assert!(request.headers.get("x-tenant-id").is_none(), "{request:?}");
    }
}

/// The head of a delivery whose body follows.
fn open(world: &mut World, worker: usize) -> StreamId {
    let post = world.envoy.post(EVENTS).worker(worker);
    post.header("x-api-key", EVENTS_KEY)
        .header("x-tenant-id", "acme")
        .open()
}

#[test]
fn however_the_body_comes_the_events_hold_when_the_200_is_out() {
    type Deliver = fn(&mut World, &[u8]) -> StreamId;
    let in_one_piece: Deliver = |world, body| {
        let post = world.envoy.post(EVENTS).worker(1).header("x-api-key", EVENTS_KEY);
        post.header("x-tenant-id", "acme").body(body).send()
    };
    let chunked: Deliver = |world, body| {
        let stream = open(world, 1);
        world.envoy.send_body(stream, body);
        world.envoy.end(stream);
        stream
    };
    let byte_by_byte: Deliver = |world, body| {
        let stream = open(world, 1);
        for byte in body {
            world.envoy.send_body(stream, [*byte]);
            world.envoy.advance(ms(1));
        }
        world.envoy.end(stream);
        stream
    };
    let with_trailers: Deliver = |world, body| {
        let stream = open(world, 1);
        let (one, two) = body.split_at(10);
        world.envoy.send_body(stream, one);
        world.envoy.send_body(stream, two);
        world
            .envoy
            .send_trailers(stream, &[("x-tenant-id", b"acme"), ("x-checksum", b"1")]);
        stream
    };
    for deliver in [in_one_piece, chunked, byte_by_byte, with_trailers] {
        for body in [suspended().to_string(), json!([suspended()]).to_string()] {
            let mut world = three_workers();
            let stream = deliver(&mut world, body.as_bytes());
            assert_taken(&world.envoy.outcome(stream).replied());
            assert_keyless(&world, stream);
            assert_suspended_everywhere(&mut world);
        }
    }
}

#[test]
fn behind_a_buffer_filter_nothing_of_the_events_goes_on() {
    for allow in [false, true] {
        let config = crate::world::with_events(json!({}));
        let mut world = World::start(&config, |builder| {
            builder
                .workers(3)
                .allow_on_headers_stop_iteration(allow)
                .buffer_filter(MOST_BYTES)
        });
        for worker in 0..3 {
            world.run_on("acme", worker).forwarded();
        }
        let stream = open(&mut world, 0);
        world.envoy.send_body(stream, suspended().to_string());
        world.envoy.settle();
        assert_eq!(world.envoy.outcome(stream), Outcome::Pending);
        world.envoy.end(stream);
        assert_taken(&world.envoy.outcome(stream).replied());
        assert!(world.envoy.upstream_saw(stream).is_none());
        assert_suspended_everywhere(&mut world);
    }
}

#[test]
fn until_the_last_byte_has_come_nothing_holds() {
    let mut world = three_workers();
    let stream = open(&mut world, 0);
    world.envoy.send_body(stream, suspended().to_string());
    world.envoy.advance(ms(60_000));
    assert_eq!(world.envoy.outcome(stream), Outcome::Pending);
    assert_served_everywhere(&mut world);
    world.envoy.disconnect(stream);
    world.envoy.settle();
    assert_served_everywhere(&mut world);
    assert_eq!(world.envoy.response(stream), None);
    assert_taken(&world.tell(2, &suspended()));
    assert_suspended_everywhere(&mut world);
}

#[test]
fn deliveries_that_cross_do_not_mix() {
    let mut world = three_workers();
    let streams = [open(&mut world, 0), open(&mut world, 0)];
    let bodies = [
        suspended().to_string(),
        json!({ "type": "tenant.suspended", "tenantId": "globex" }).to_string(),
    ];
    let halves: Vec<_> = bodies.iter().map(|body| body.split_at(body.len() / 2)).collect();
    for (stream, (half, _)) in streams.iter().zip(&halves) {
        world.envoy.send_body(*stream, half);
    }
    for (stream, (_, half)) in streams.iter().zip(&halves).rev() {
        world.envoy.send_body(*stream, half);
        world.envoy.end(*stream);
        assert_taken(&world.envoy.outcome(*stream).replied());
    }
    assert_suspended_everywhere(&mut world);
    assert_eq!(denied(world.ask_now("globex", 2)).1, "TENANT_SUSPENDED");
    assert_eq!(world.asked(), 0);
}

#[test]
fn the_length_of_a_body_is_bounded_whether_it_is_declared_or_not() {
    let mut padded = suspended().to_string();
    padded.extend(std::iter::repeat_n(' ', MOST_BYTES - padded.len()));
    let mut world = three_workers();
    let declared = world.envoy.post(EVENTS).header("x-api-key", EVENTS_KEY).body(&padded);
    let declared = declared.send();
    assert_taken(&world.envoy.outcome(declared).replied());
    let chunked = open(&mut world, 0);
    for piece in padded.as_bytes().chunks(10_000) {
        world.envoy.send_body(chunked, piece);
    }
    world.envoy.end(chunked);
    assert_taken(&world.envoy.outcome(chunked).replied());

    let mut world = three_workers();
    padded.push(' ');
    let declared = world.envoy.post(EVENTS).header("x-api-key", EVENTS_KEY).body(&padded);
    let declared = declared.send();
    assert_eq!(denied(world.envoy.outcome(declared)), malformed());
    assert!(world.envoy.upstream_saw(declared).is_none(), "judged by its head");
    let chunked = open(&mut world, 0);
    let mut sent = 0;
    for piece in padded.as_bytes().chunks(10_000) {
        assert_eq!(world.envoy.outcome(chunked), Outcome::Pending, "after {sent} bytes");
        world.envoy.send_body(chunked, piece);
        sent += piece.len();
    }
    // It does not wait for the end of what may have none.
    assert_eq!(denied(world.envoy.outcome(chunked)), malformed());
    assert_served_everywhere(&mut world);
}

fn malformed() -> (u16, String) {
    (400, "EVENTS_MALFORMED".to_owned())
}

#[test]
fn what_a_delivery_declares_is_judged_by_its_head() {
    for length in ["262145", "99999999999999999999999999", "-1", "", "a", "1e3", "0x10"] {
        let mut world = three_workers();
        let post = world.envoy.post(EVENTS).header("x-api-key", EVENTS_KEY);
        let stream = post.header("content-length", length).open();
        assert_eq!(denied(world.envoy.outcome(stream)), malformed(), "{length:?}");
        assert!(world.envoy.upstream_saw(stream).is_none());
        world.envoy.send_body(stream, suspended().to_string());
        world.envoy.end(stream);
        assert_served_everywhere(&mut world);
    }
    for method in ["GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "post"] {
        let mut world = three_workers();
        let request = world.envoy.request(method, EVENTS).header("x-api-key", EVENTS_KEY);
        let stream = request.body(suspended().to_string()).send();
        let reply = world.envoy.outcome(stream).replied();
        let details = "tenantgate_EVENTS_MALFORMED";
        assert_eq!((reply.status, reply.details.as_str()), (400, details), "{method}");
        assert!(world.envoy.upstream_saw(stream).is_none());
        assert_served_everywhere(&mut world);
    }
}

#[test]
fn without_a_body_there_are_no_events() {
    let mut world = three_workers();
    let stream = world.envoy.post(EVENTS).header("x-api-key", EVENTS_KEY).send();
    assert_eq!(denied(world.envoy.outcome(stream)), malformed());
    assert!(world.envoy.upstream_saw(stream).is_none());
    let stream = open(&mut world, 0);
    world.envoy.end(stream);
    assert_eq!(denied(world.envoy.outcome(stream)), malformed());
    let stream = open(&mut world, 0);
    world.envoy.send_trailers(stream, &[("x-checksum", b"1")]);
    assert_eq!(denied(world.envoy.outcome(stream)), malformed());
    assert_served_everywhere(&mut world);
    let empty = world.told(0, &json!([]));
    assert_eq!(empty["applied"], 0);
}

#[test]
fn exactly_one_right_key_opens_the_listener() {
    let long = EVENTS_KEY.repeat(1_000);
    let joined = format!("{EVENTS_KEY}, {EVENTS_KEY}");
    let padded = format!(" {EVENTS_KEY}");
    let wrong: &[&[&str]] = &[
        &[],
        &[""],
        &["wrong"],
        &[&EVENTS_KEY[1..]],
        &[&EVENTS_KEY[..EVENTS_KEY.len() - 1]],
        &[&EVENTS_KEY.to_uppercase()],
        &[&padded],
        &[&joined],
        &[&long],
        &[EVENTS_KEY, EVENTS_KEY],
        &[EVENTS_KEY, "wrong"],
        &["wrong", EVENTS_KEY],
        &["", EVENTS_KEY],
        // That of the Tenant Manager.
        &["corpus-api-key"],
    ];
    for keys in wrong {
        let mut world = three_workers();
        let bearer = world.bearer("acme");
        let mut post = world.envoy.post(EVENTS).header("authorization", bearer);
        for key in *keys {
            post = post.header("x-api-key", key);
        }
        let stream = post.body(suspended().to_string()).send();
        let reply = world.envoy.outcome(stream).replied();
        assert_eq!(
            (reply.status, code(&reply).as_str()),
            (401, "EVENTS_UNAUTHORIZED"),
            "{keys:?}"
        );
        assert_eq!(reply.headers.get("www-authenticate"), Some(b"X-API-Key".as_slice()));
        assert!(world.envoy.upstream_saw(stream).is_none(), "{keys:?}");
        assert_served_everywhere(&mut world);
        for line in world.envoy.logs() {
            let says = keys.iter().any(|key| key.len() > 5 && line.message.contains(key));
            assert!(!says, "{line}");
        }
    }
}

#[test]
fn either_of_two_keys_opens_the_listener() {
    let mut config = crate::world::with_events(json!({}));
    config["events"]["api_keys"] = json!([{ "value": "the-old-events-key" }, { "value": "the-new-events-key" }]);
    let mut world = World::start(&config, |builder| builder);
    for (key, status) in [
        ("the-old-events-key", 200),
        ("the-new-events-key", 200),
        (EVENTS_KEY, 401),
    ] {
        let post = world.envoy.post(EVENTS).header("x-api-key", key);
        let stream = post.body(suspended().to_string()).send();
        assert_eq!(world.envoy.outcome(stream).replied().status, status, "{key}");
    }
}

#[test]
fn only_the_exact_path_is_the_listener() {
    let mut world = three_workers();
    let post = world
        .envoy
        .post(format!("{EVENTS}?from=bridge"))
        .header("x-api-key", EVENTS_KEY);
    let stream = post.body(suspended().to_string()).send();
    assert_taken(&world.envoy.outcome(stream).replied());

    let upper = EVENTS.to_uppercase();
    for path in [
        &format!("{EVENTS}/"),
        &format!("{EVENTS}s"),
        &format!("/{EVENTS}"),
        &format!("{EVENTS}/../events"),
        &upper,
        "/-/tenantgate/%65vents",
        "/-/tenantgate/events;a=b",
        "http://tiny.example/-/tenantgate/events/more",
        ACCOUNTS,
    ] {
        let mut world = three_workers();
        let post = world.envoy.post(path).header("x-api-key", EVENTS_KEY);
        let stream = post.body(suspended().to_string()).send();
        world.envoy.settle();
        let status = world.envoy.outcome(stream).replied().status;
        assert!([400, 401].contains(&status), "{path}: {status}");
        assert_served_everywhere(&mut world);
    }
}

#[test]
fn without_a_listener_the_path_is_any_path() {
    let mut world = World::start(&crate::world::config(json!({})), |builder| builder);
    let post = world.envoy.post(EVENTS).header("x-api-key", EVENTS_KEY);
    let stream = post.body(suspended().to_string()).send();
    assert_eq!(denied(world.envoy.outcome(stream)).1, "TENANT_ID_REQUIRED");
    let bearer = world.bearer("acme");
    let post = world.envoy.post(EVENTS).header("x-api-key", "the-callers-own");
    let request = post.header("authorization", bearer).run().forwarded();
    assert_eq!(request.headers.get("x-api-key"), Some(b"the-callers-own".as_slice()));
}

#[test]
fn what_cannot_be_read_is_refused_and_the_rest_of_its_list_holds() {
    let bad = [
        json!(null),
        json!(1),
        json!("tenant.suspended"),
        json!({}),
        json!({ "event_type": "tenant.suspended" }),
        json!({ "event_type": "tenant.suspended", "tenant_id": "" }),
        json!({ "event_type": "tenant.suspended", "tenant_id": "../acme" }),
        json!({ "event_type": "tenant.suspended", "tenant_id": 7 }),
        json!({ "event_type": "tenant.suspended", "tenant_id": ["acme"] }),
        json!({ "event_type": 7, "tenant_id": "acme" }),
        json!({ "event_type": "", "tenant_id": "acme" }),
        json!({ "event_type": "tenant.suspended", "tenant_id": "acme", "timestamp": "yesterday" }),
        json!({ "event_type": "tenant.suspended", "tenant_id": "acme", "timestamp": 1 }),
        json!({ "event_type": "tenant.suspended", "tenant_id": "acme", "environment": 1 }),
        json!({ "event_type": "tenant.service.suspended", "tenant_id": "acme", "payload": "ledger" }),
    ];
    for event in &bad {
        let mut world = three_workers();
        let reply = world.tell(0, event);
        assert_eq!(
            (reply.status, code(&reply).as_str()),
            (400, "EVENTS_MALFORMED"),
            "{event}"
        );
        assert_served_everywhere(&mut world);
        let reply = world.tell(0, &json!([event, suspended(), event]));
        assert_eq!(
            (reply.status, code(&reply).as_str()),
            (400, "EVENTS_MALFORMED"),
            "{event}"
        );
        assert_suspended_everywhere(&mut world);
    }
    let mut world = three_workers();
    for body in [
        "",
        " ",
        "nonsense",
        "{",
        "[",
        "[{}",
        "{}{}",
        r#""text""#,
        "7",
        "null",
        "true",
        r#"{"event_type":"tenant.suspended","tenant_id":"globex","tenant_id":"acme"}"#,
        "\u{feff}[]",
    ] {
        let post = world.envoy.post(EVENTS).header("x-api-key", EVENTS_KEY);
        let stream = post.body(body).send();
        assert_eq!(denied(world.envoy.outcome(stream)), malformed(), "{body}");
    }
    let deep = "[".repeat(100_000);
    let post = world.envoy.post(EVENTS).header("x-api-key", EVENTS_KEY);
    let stream = post.body(deep).send();
    assert_eq!(denied(world.envoy.outcome(stream)), malformed());
    assert_served_everywhere(&mut world);
}

#[test]
fn events_are_counted_by_type_and_outcome() {
    let mut world = three_workers();
    let counted = world.told(
        0,
        &json!([
            suspended(),
            { "event_type": "tenant.suspended", "tenant_id": "acme", "environment": "production" },
            { "event_type": "tenant.service.purged", "tenant_id": "acme", "payload": { "service_name": "other" } },
            { "event_type": "tenant.renamed", "tenant_id": "acme" },
            { "event_type": "tenant.activated", "tenant_id": "acme", "timestamp": "2001-01-01T00:00:00Z" },
            { "event_type": "tenant.activated", "tenant_id": "acme", "timestamp": "2000-01-01T00:00:00Z" },
        ]),
    );
    let expected = json!({
        "applied": 2, "outdated": 1, "other_service": 1, "other_environment": 1, "unknown": 1, "malformed": 0,
    });
    assert_eq!(counted, expected);
    let metrics = world.envoy.metrics();
    let events: Vec<_> = metrics
        .iter()
        .filter(|(name, _)| name.starts_with("tenantgate_events_total"))
        .map(|(name, value)| (name.trim_start_matches("tenantgate_events_total."), *value))
        .collect();
    let expected = [
        ("type=tenant_activated~.outcome=applied~", 1),
        ("type=tenant_activated~.outcome=outdated~", 1),
        ("type=tenant_service_purged~.outcome=other_service~", 1),
        ("type=tenant_suspended~.outcome=applied~", 1),
        ("type=tenant_suspended~.outcome=other_environment~", 1),
        ("type=unknown~.outcome=unknown~", 1),
    ];
    assert_eq!(events, expected);
}

#[test]
fn events_made_of_every_kind_of_nonsense_kill_nobody() {
    const PIECES: &[&str] = &[
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\"",
        "\\",
        "null",
        "1e999",
        "-",
        "true",
        "\"event_type\"",
        "\"type\"",
        "\"tenant_id\"",
        "\"tenantId\"",
        "\"timestamp\"",
        "\"environment\"",
        "\"payload\"",
        "\"service_name\"",
        "\"tenant.suspended\"",
        "\"tenant.updated\"",
        "\"cache.invalidate_all\"",
        "\"acme\"",
        "\"ledger\"",
        "{\"event_type\":\"tenant.updated\",\"tenant_id\":\"globex\"}",
        "{\"event_type\":\"tenant.updated\",\"tenant_id\":\"globex\",\"timestamp\":\"9999-12-31T23:59:60+23:59\"}",
        "{\"event_type\":\"tenant.updated\",\"tenant_id\":\"globex\",\"timestamp\":\"-9999-01-01T00:00:00Z\"}",
        "{\"type\":\"tenant.created\",\"tenantId\":\"globex\"},",
    ];
    let mut dice = Dice(4);
    let mut world = three_workers();
    let mut statuses = std::collections::BTreeMap::new();
    for n in 0..3_000 {
        let mut body = dice.woven(PIECES, 12);
        if dice.one_in(2) {
            body = [b"[".as_slice(), &body, b"]"].concat();
        }
        let stream = open(&mut world, n % 3);
        let cut = dice.below(body.len() + 1);
        world.envoy.send_body(stream, &body[..cut]);
        world.envoy.send_body(stream, &body[cut..]);
        world.envoy.end(stream);
        let status = world.envoy.outcome(stream).replied().status;
        *statuses.entry(status).or_insert(0) += 1;
    }
    assert_eq!(statuses.keys().collect::<Vec<_>>(), [&200, &400], "{statuses:?}");
    world.envoy.advance(ms(1_000));
    assert_taken(&world.tell(2, &json!({ "type": "tenant.suspended", "tenantId": "acme" })));
    assert_suspended_everywhere(&mut world);
}
