//! Plugins that let headers go on and answer when they have seen the body, and a buffer filter
//! behind them.

use tiny_envoy::{Builder, Outcome, StreamId, TinyEnvoy};

use crate::probe::{Probe, RETURNED, own_notes};

const REPLY: &str = "(drop (call $send_local_response (i32.const 200) @'' @'done' @'' (i32.const -1)))";

/// Lets headers and body go on, notes each piece, and answers where the body or the trailers end.
fn collecting() -> Builder {
    Probe::new()
        .on("request_headers", "(i32.const 0)")
        .on(
            "request_body",
            &format!(
                "(call $note @'size' (local.get $size))
                 (call $note @'read' (call $get_buffer_bytes (i32.const 0) (i32.const 0) (local.get $size) {RETURNED}))
                 (call $tell @'piece')
                 (if (local.get $end) (then {REPLY}))
                 (i32.const 0)"
            ),
        )
        .on("request_trailers", &format!("{REPLY} (i32.const 0)"))
        .world()
}

fn send_pieces(envoy: &mut TinyEnvoy) -> StreamId {
    let stream = envoy.post("/").open();
    envoy.send_body(stream, "one ");
    envoy.send_body(stream, "two");
    stream
}

fn assert_done(envoy: &mut TinyEnvoy, stream: StreamId) {
    let reply = envoy.outcome(stream).replied();
    assert_eq!((reply.status, reply.body.as_slice()), (200, b"done".as_slice()));
    assert!(envoy.is_finished(stream));
    envoy.settle();
    assert_eq!(envoy.outcome(stream).replied(), reply, "once");
    envoy.assert_alive();
}

#[test]
fn a_plugin_that_let_the_headers_go_reads_each_piece_and_answers_at_the_end() {
    let mut envoy = collecting().start().expect("a world");
    let stream = send_pieces(&mut envoy);
    assert_eq!(envoy.outcome(stream), Outcome::Pending);
    envoy.end(stream);
    assert_done(&mut envoy, stream);
    assert_eq!(
        own_notes(&envoy),
        [
            "size 4",
            "read 0",
            "piece one ",
            "size 3",
            "read 0",
            "piece two",
            "size 0",
            "read 0",
            "piece "
        ]
    );
    // Nothing held the pieces back; the last one was answered instead.
    assert_eq!(envoy.upstream_saw(stream).expect("a beginning").body, b"one two");
}

#[test]
fn a_plugin_that_holds_the_body_sees_it_grow_and_answers_at_the_end() {
    let mut envoy = Probe::new()
        .on("request_headers", "(i32.const 0)")
        .on(
            "request_body",
            &format!(
                "(drop (call $get_buffer_bytes (i32.const 0) (i32.const 0) (local.get $size) {RETURNED}))
                 (call $tell @'body')
                 (if (local.get $end) (then {REPLY}))
                 (i32.const 1)"
            ),
        )
        .world()
        .start()
        .expect("a world");
    let stream = send_pieces(&mut envoy);
    envoy.end(stream);
    assert_done(&mut envoy, stream);
    assert_eq!(own_notes(&envoy), ["body one ", "body one two", "body one two"]);
    assert_eq!(envoy.upstream_saw(stream).expect("headers went on").body, b"");
}

#[test]
fn a_buffer_filter_shows_the_upstream_nothing_of_a_request_that_is_answered_at_its_end() {
    for ends_by_trailers in [false, true] {
        let mut envoy = collecting().buffer_filter(7).start().expect("a world");
        let stream = send_pieces(&mut envoy);
        assert!(envoy.upstream_saw(stream).is_none());
        if ends_by_trailers {
            envoy.send_trailers(stream, &[("x-checksum", b"1")]);
        } else {
            envoy.end(stream);
        }
        assert_done(&mut envoy, stream);
        assert!(envoy.upstream_saw(stream).is_none());
    }
}

#[test]
fn a_buffer_filter_lets_whole_requests_through_at_their_end() {
    let mut envoy = Probe::new().world().buffer_filter(7).start().expect("a world");
    let stream = send_pieces(&mut envoy);
    assert!(envoy.upstream_saw(stream).is_none());
    envoy.end(stream);
    assert_eq!(envoy.outcome(stream).forwarded().body, b"one two");
    let without_body = envoy.get("/").send();
    assert!(envoy.upstream_saw(without_body).is_some());
}

#[test]
fn a_buffer_filter_refuses_a_longer_body_at_the_byte_too_many() {
    for trickled in [true, false] {
        let mut envoy = Probe::new().world().buffer_filter(6).start().expect("a world");
        let stream = if trickled {
            send_pieces(&mut envoy)
        } else {
            envoy.post("/").body("one two").send()
        };
        let reply = envoy.outcome(stream).replied();
        assert_eq!(
            (reply.status, reply.details.as_str()),
            (413, "request_payload_too_large")
        );
        assert!(envoy.upstream_saw(stream).is_none());
    }
}
