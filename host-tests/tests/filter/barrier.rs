//! A pause is a barrier: nothing of a waiting request passes, whatever the host shows of it.

use serde_json::{Value, json};
use tiny_envoy::StreamId;

use crate::world::{World, assert_unavailable, config, denied, ms};

const TRAILERS: &[(&str, &[u8])] = &[
    ("x-tenant-id", b"globex"),
    ("X_Tenant_Id", b"globex"),
    ("x-redis-key", b"k"),
    ("x-checksum", b"c0ffee"),
];

/// What follows the headers, in the order in which it is sent.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Piece {
    Body(&'static str),
    Trailers,
    End,
}

/// Each with how many pieces come while the request waits; the others follow the answer.
const SHAPES: &[(&[Piece], usize)] = &[
    (&[Piece::Body("one "), Piece::Body("two"), Piece::Trailers], 3),
    (&[Piece::Body("one "), Piece::Body("two"), Piece::Trailers], 2),
    (&[Piece::Body("one "), Piece::Body("two"), Piece::Trailers], 1),
    (&[Piece::Body("one "), Piece::Body("two"), Piece::Trailers], 0),
    (&[Piece::Body("one "), Piece::Body("two"), Piece::End], 3),
    (&[Piece::Body("one "), Piece::Body("two"), Piece::End], 2),
    (&[Piece::Body("one "), Piece::Body("two"), Piece::End], 0),
    (&[Piece::Trailers], 1),
    (&[Piece::Trailers], 0),
    (&[Piece::End], 1),
];

fn send(world: &mut World, stream: StreamId, piece: Piece) {
    match piece {
        Piece::Body(text) => world.envoy.send_body(stream, text),
        Piece::Trailers => world.envoy.send_trailers(stream, TRAILERS),
        Piece::End => world.envoy.end(stream),
    }
}

fn each_way(answer: &Value, mut check: impl FnMut(World, StreamId, &[Piece], &str)) {
    for allow in [false, true] {
        for (pieces, before) in SHAPES {
            let about = format!("allow_on_headers_stop_iteration: {allow}, {before} of {pieces:?}, {answer}");
            let mut world = World::start(&config(json!({})), |builder| {
                builder.allow_on_headers_stop_iteration(allow)
            });
            world.answer("acme", answer.clone());
            let stream = world.request("POST", "acme").header("x-tenant-id", "globex").open();
            for piece in &pieces[..*before] {
                assert!(world.envoy.upstream_saw(stream).is_none(), "{about}");
                world.envoy.settle();
                assert!(world.envoy.upstream_saw(stream).is_none(), "{about}");
                send(&mut world, stream, *piece);
                assert!(world.envoy.upstream_saw(stream).is_none(), "{about}, after {piece:?}");
                world.envoy.advance(ms(10));
            }
            world.envoy.advance(ms(99) - world.envoy.elapsed());
            assert!(world.envoy.upstream_saw(stream).is_none(), "{about}");
            assert!(world.envoy.response(stream).is_none(), "{about}");
            world.envoy.advance(ms(1));
            check(world, stream, &pieces[*before..], &about);
        }
    }
}

#[test]
fn a_request_that_is_refused_in_the_end_has_shown_the_upstream_nothing() {
    let refused = json!({ "status": 403, "body": { "status": "suspended" }, "delay_ms": 100 });
    each_way(&refused, |mut world, stream, rest, about| {
        let expected = (403, "TENANT_SUSPENDED".to_owned());
        assert_eq!(denied(world.envoy.outcome(stream)), expected, "{about}");
        for piece in rest {
            send(&mut world, stream, *piece);
            world.envoy.settle();
        }
        world.envoy.advance(ms(60_000));
        assert!(world.envoy.upstream_saw(stream).is_none(), "{about}");
        world.assert_healthy();
    });
}

#[test]
fn a_request_whose_lookup_fails_has_shown_the_upstream_nothing() {
    for answer in [
        json!({ "fault": "reset_mid_body", "body": "half of it", "delay_ms": 100 }),
        json!({ "status": 500, "delay_ms": 100 }),
    ] {
        each_way(&answer, |mut world, stream, rest, about| {
            assert_unavailable(world.envoy.outcome(stream), "TENANT_MANAGER_UNAVAILABLE");
            for piece in rest {
                send(&mut world, stream, *piece);
            }
            world.envoy.settle();
            assert!(world.envoy.upstream_saw(stream).is_none(), "{about}");
        });
    }
}

#[test]
fn a_request_that_is_allowed_in_the_end_arrives_whole_and_sanitized() {
    let record = json!({ "record": { "databases": { "onboarding": {} } }, "delay_ms": 100 });
    each_way(&record, |mut world, stream, rest, about| {
        for piece in rest {
            send(&mut world, stream, *piece);
            world.envoy.settle();
        }
        let request = world.envoy.outcome(stream).forwarded();
        let has_body = about.contains("Body");
        assert_eq!(
            request.body,
            if has_body { b"one two".as_slice() } else { b"" },
            "{about}"
        );
        assert_eq!(request.headers.get_all("x-tenant-id"), [b"acme"], "{about}");
        let trailers: Vec<_> = request.trailers.iter().collect();
        let has_trailers = about.contains("Trailers");
        let expected: &[(&[u8], &[u8])] = if has_trailers {
            &[(b"x-checksum", b"c0ffee")]
        } else {
            &[]
        };
        assert_eq!(trailers, expected, "{about}");
        world.assert_healthy();
    });
}

#[test]
fn a_denial_at_once_is_a_barrier_too() {
    for allow in [false, true] {
        for pieces in [
            &[Piece::Body("one"), Piece::Trailers][..],
            &[Piece::Body("one"), Piece::End],
        ] {
            let mut world = World::start(&config(json!({})), |builder| {
                builder.allow_on_headers_stop_iteration(allow)
            });
            let stream = world.envoy.post("/v1/accounts").open();
            assert_eq!(denied(world.envoy.outcome(stream)).0, 401);
            for piece in pieces {
                send(&mut world, stream, *piece);
                world.envoy.settle();
            }
            assert!(world.envoy.upstream_saw(stream).is_none());
            world.assert_healthy();
        }
    }
}

#[test]
fn a_client_that_leaves_with_half_a_body_sent_has_shown_the_upstream_nothing() {
    for allow in [false, true] {
        let mut world = World::start(&config(json!({})), |builder| {
            builder.allow_on_headers_stop_iteration(allow)
        });
        world.answer(
            "acme",
            json!({ "record": { "databases": { "onboarding": {} } }, "delay_ms": 100 }),
        );
        let stream = world.request("POST", "acme").open();
        world.envoy.send_body(stream, "half");
        world.envoy.advance(ms(50));
        world.envoy.disconnect(stream);
        world.envoy.advance(ms(100));
        assert!(world.envoy.upstream_saw(stream).is_none());
        world.assert_healthy();
    }
}

#[test]
fn a_body_too_large_to_hold_ends_the_wait_and_harms_nobody() {
    let mut world = World::start(&config(json!({})), |builder| {
        builder.allow_on_headers_stop_iteration(true).buffer_limit(1024)
    });
    world.answer(
        "acme",
        json!({ "record": { "databases": { "onboarding": {} } }, "delay_ms": 100 }),
    );
    let large = world.request("POST", "acme").body([b'x'; 2048]).send();
    let small = world.request("POST", "acme").body("small").send();
    assert_eq!(world.envoy.outcome(large).replied().status, 413);
    world.envoy.advance(ms(100));
    assert!(world.envoy.upstream_saw(large).is_none());
    assert_eq!(world.envoy.outcome(small).forwarded().body, b"small");
    assert_eq!(world.manager.take_received().len(), 1);
    world.assert_healthy();
}
