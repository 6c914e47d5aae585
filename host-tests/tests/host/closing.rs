//! Streams that the plugin ends, and streams that live long.

use std::time::Duration;

use tiny_envoy::{Answer, Builder, Cut, Outcome, StreamId, TinyEnvoy};

use crate::probe::{Probe, RETURNED, own_notes, pairs};

/// Ends itself on `/self`, ends the world's first stream on `/other`, whatever side `$side` is.
fn closing(side: u32) -> Builder {
    Probe::new()
        .on(
            "request_headers",
            &format!(
                "(drop (call $get_header_map_value (i32.const 0) @':path' {RETURNED}))
                 (if (i32.eq (i32.load (i32.const 20)) (i32.const 5)) (then
                   (call $note @'close' (call $close_stream (i32.const {side})))
                   (call $note @'still readable'
                     (call $get_header_map_value (i32.const 0) @':path' {RETURNED}))))
                 (if (i32.eq (i32.load (i32.const 20)) (i32.const 6)) (then
                   (drop (call $set_effective_context (i32.const 2)))
                   (call $note @'close' (call $close_stream (i32.const {side})))))
                 (i32.const 0)"
            ),
        )
        .on(
            "log",
            &format!(
                "(call $note @'log' (local.get $context))
                 (drop (call $get_property @'response\\0code_details' {RETURNED}))
                 (call $tell @'details')"
            ),
        )
        .on("done", "(call $note @'done' (local.get $context)) (i32.const 1)")
        .on("delete", "(call $note @'delete' (local.get $context))")
        .on("response_body", "(call $note @'piece' (local.get $size)) (i32.const 0)")
        .world()
}

fn assert_ended(envoy: &TinyEnvoy, context: u32, details: &str) {
    let end = [
        format!("log {context}"),
        format!("details {details}"),
        format!("done {context}"),
        format!("delete {context}"),
    ];
    let notes = own_notes(envoy);
    assert!(notes.windows(4).any(|window| window == end), "{notes:?}");
}

#[test]
fn a_stream_that_the_plugin_closes_ends_when_the_callback_has_returned() {
    for side in [0, 1] {
        let mut envoy = closing(side).start().expect("a world");
        let stream = envoy.get("/self").send();
        assert_eq!(envoy.outcome(stream), Outcome::Gone);
        assert_eq!(envoy.cut(stream), Some(Cut::BeforeResponse));
        assert!(envoy.is_finished(stream));
        assert_eq!(envoy.response(stream), None, "the client gets nothing");
        assert_eq!(envoy.upstream_saw(stream), None, "nor does the upstream");
        assert_eq!(own_notes(&envoy)[..2], ["close 0", "still readable 0"]);
        assert_ended(&envoy, 2, "wasm_close_stream");
        envoy.assert_alive();
    }
}

#[test]
fn a_callback_of_one_stream_closes_another_that_was_forwarded_before() {
    let mut envoy = closing(0)
        .upstream(|_: &_| Answer::status(200).after(Duration::from_millis(10)))
        .start()
        .expect("a world");
    let first = envoy.get("/").send();
    let second = envoy.get("/other").send();
    assert_eq!(envoy.cut(first), Some(Cut::BeforeResponse));
    assert_eq!(envoy.cut(second), None);
    envoy.outcome(first).forwarded();
    assert_ended(&envoy, 2, "wasm_close_stream");
    envoy.advance(Duration::from_secs(1));
    assert_eq!(envoy.response(first), None, "what the upstream answers comes too late");
    assert_eq!(envoy.response(second).expect("an answer").status(), 200);
    assert_ended(&envoy, 3, "via_upstream");
}

#[test]
fn a_response_that_has_begun_is_broken_off() {
    let mut envoy = closing(0)
        .upstream(|_: &_| Answer::status(200).body("one ").unending())
        .start()
        .expect("a world");
    let stream = envoy.get("/").send();
    envoy.settle();
    envoy.upstream_sends(stream, "two");
    assert!(!envoy.is_finished(stream));
    envoy.get("/other").send();
    assert_eq!(envoy.cut(stream), Some(Cut::AfterResponse));
    assert!(envoy.is_finished(stream));
    assert_ended(&envoy, 2, "via_upstream");
    envoy.upstream_sends(stream, "three");
    assert_eq!(envoy.response(stream).expect("a beginning").body, b"one two");
    assert_eq!(
        own_notes(&envoy)
            .iter()
            .filter(|note| note.starts_with("piece"))
            .count(),
        2
    );
    // It is gone for the plugin too.
    envoy.get("/other").send();
    assert_eq!(own_notes(&envoy).iter().filter(|note| *note == "log 2").count(), 1);
    envoy.assert_alive();
}

#[test]
fn a_stream_that_was_answered_cannot_be_closed_any_more() {
    let mut envoy = closing(0).start().expect("a world");
    let stream = envoy.get("/").send();
    envoy.settle();
    envoy.get("/other").send();
    assert_eq!(envoy.cut(stream), None);
    assert_eq!(envoy.response(stream).expect("an answer").status(), 200);
}

fn opened(envoy: &mut TinyEnvoy) -> StreamId {
    let stream = envoy.post("/").open();
    envoy.send_body(stream, "ping ");
    stream
}

#[test]
fn a_client_goes_on_sending_after_the_response_has_begun() {
    let mut envoy = closing(0)
        .upstream(|_: &_| panic!("whoever has answered is not asked"))
        .start()
        .expect("a world");
    let stream = opened(&mut envoy);
    assert!(envoy.response(stream).is_none());
    envoy.upstream_responds(stream, Answer::status(200).unending());
    envoy.upstream_sends(stream, "pong ");
    envoy.send_body(stream, "ping");
    envoy.upstream_sends(stream, "pong");
    assert_eq!(envoy.upstream_saw(stream).expect("a beginning").body, b"ping ping");
    assert_eq!(envoy.response(stream).expect("a beginning").body, b"pong pong");
    envoy.end(stream);
    assert!(!envoy.is_finished(stream));
    envoy.upstream_ends(stream);
    assert!(envoy.is_finished(stream));
    assert_eq!(envoy.outcome(stream).forwarded().body, b"ping ping");
}

#[test]
fn a_response_that_ends_first_ends_the_stream_and_a_reset_does_so_too() {
    let mut envoy = closing(0).start().expect("a world");
    let whole = opened(&mut envoy);
    envoy.upstream_responds(whole, Answer::status(413));
    assert!(envoy.is_finished(whole));
    assert_eq!(envoy.response(whole).expect("an answer").status(), 413);
    envoy.decide(whole);
    assert_eq!(envoy.elapsed(), Duration::ZERO, "there is nothing to wait for");
    let broken = opened(&mut envoy);
    envoy.upstream_responds(broken, Answer::status(200).unending());
    envoy.upstream_resets(broken);
    assert!(envoy.is_finished(broken));
    let unanswered = opened(&mut envoy);
    envoy.upstream_resets(unanswered);
    assert_eq!(envoy.outcome(unanswered).replied().status, 503);
}

#[test]
fn a_callout_whose_response_does_not_end_is_reset_at_its_timeout() {
    let call = pairs(&[(":method", "GET"), (":path", "/"), (":authority", "p")]);
    let mut envoy = Probe::new()
        .on(
            "request_headers",
            &format!("(drop (call $http_call @'peer' @'{call}' @'' @'' (i32.const 100) (i32.const 28))) (i32.const 1)"),
        )
        .on(
            "http_call_response",
            &format!(
                "(call $note @'headers' (local.get $headers))
                 (drop (call $get_status (i32.const 32) {RETURNED}))
                 (call $note @'status' (i32.load (i32.const 32)))"
            ),
        )
        .world()
        .cluster("peer", |_: &_| Answer::json(200, "{").unending())
        .start()
        .expect("a world");
    envoy.get("/").send();
    envoy.advance(Duration::from_millis(99));
    assert_eq!(own_notes(&envoy), [""; 0]);
    envoy.advance(Duration::from_millis(1));
    assert_eq!(own_notes(&envoy), ["headers 0", "status 11"]);
}

#[test]
fn a_call_that_ends_too_many_streams_kills_its_vm_as_it_exhausts_the_stack_of_a_real_one() {
    for (streams, lives) in [(256, true), (257, false)] {
        let mut envoy = Probe::new()
            .on(
                "request_headers",
                &format!(
                    "(local $i i32)
                     (drop (call $get_header_map_value (i32.const 0) @':path' {RETURNED}))
                     (if (i32.eq (i32.load (i32.const 20)) (i32.const 4)) (then
                       (local.set $i (i32.const 2))
                       (loop $next
                         (drop (call $set_effective_context (local.get $i)))
                         (drop (call $close_stream (i32.const 0)))
                         (local.set $i (i32.add (local.get $i) (i32.const 1)))
                         (br_if $next (i32.lt_u (local.get $i) (local.get $context))))))
                     (i32.const 1)"
                ),
            )
            .world()
            .start()
            .expect("a world");
        for _ in 0..streams {
            envoy.get("/wait").send();
        }
        envoy.get("/cut").send();
        assert_eq!(envoy.deaths().is_empty(), lives, "{streams}: {:?}", envoy.deaths());
    }
}
