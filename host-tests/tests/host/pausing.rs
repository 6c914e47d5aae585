//! Pauses: what they hold, what carries a request past them, and what resuming lets go.

use std::time::Duration;

use tiny_envoy::{Answer, Builder, Outcome, PeerRequest, TinyEnvoy};

use crate::probe::{Probe, RETURNED, own_notes, pairs};

/// A guest that calls out on these headers and pauses, and does `then` for the stream, with the
/// result of waking it noted, when the answer comes.
fn calling_out_on(headers: &str, then: &str) -> Probe {
    let request = pairs(&[(":method", "GET"), (":path", "/"), (":authority", "a")]);
    Probe::new()
        .with("(global $waiting (mut i32) (i32.const 0))\n")
        .on(
            headers,
            &format!(
                "(global.set $waiting (local.get $context))
                 (drop (call $http_call @'peer' @'{request}' @'' (i32.const 0) (i32.const 0)
                   (i32.const 1000) (i32.const 24)))
                 (i32.const 1)"
            ),
        )
        .on(
            "http_call_response",
            &format!("(call $note @'wake' (call $set_effective_context (global.get $waiting))) {then}"),
        )
}

/// A guest that calls out on request headers and pauses, and resumes when the answer comes.
fn resuming_after_a_callout() -> Probe {
    calling_out_on(
        "request_headers",
        "(call $note @'edit' (call $replace_header_map_value (i32.const 0) @'x-late' @'1'))
         (drop (call $continue_stream (i32.const 0)))
         (call $note @'too late' (call $replace_header_map_value (i32.const 0) @'x-later' @'1'))",
    )
}

fn after_20_ms(builder: Builder) -> TinyEnvoy {
    let peer = |_: &PeerRequest| Answer::status(200).after(Duration::from_millis(20));
    builder.cluster("peer", peer).start().expect("a world")
}

const SHOWN: &str = "(call $note @'body' (local.get $size)) (call $note @'end' (local.get $end))";

#[test]
fn a_pause_on_headers_holds_everything_until_it_is_resumed() {
    let probe = resuming_after_a_callout()
        .on("request_body", &format!("{SHOWN} (i32.const 0)"))
        .on(
            "request_trailers",
            "(call $note @'trailers' (local.get $count)) (i32.const 0)",
        );
    let mut envoy = after_20_ms(probe.world());
    let stream = envoy.post("/").open();
    envoy.send_body(stream, "ab");
    envoy.send_body(stream, "cde");
    envoy.send_trailers(stream, &[("t", b"1")]);
    envoy.advance(Duration::from_millis(19));
    assert_eq!(own_notes(&envoy), [""; 0], "nothing is shown");
    assert!(envoy.upstream_saw(stream).is_none());
    envoy.advance(Duration::from_millis(1));
    assert_eq!(
        own_notes(&envoy),
        ["wake 0", "edit 0", "too late 2", "body 5", "end 0", "trailers 1"]
    );
    let seen = envoy.outcome(stream).forwarded();
    assert_eq!(seen.body, b"abcde");
    assert_eq!(seen.trailers.get("t"), Some(b"1".as_slice()));
    assert_eq!(seen.headers.get("x-late"), Some(b"1".as_slice()));
    assert!(seen.headers.get("x-later").is_none());
}

#[test]
fn a_paused_response_is_editable_in_the_whole_callback_that_resumes_it() {
    let probe = calling_out_on(
        "response_headers",
        "(call $note @'edit' (call $replace_header_map_value (i32.const 2) @'x-late' @'1'))
         (drop (call $continue_stream (i32.const 1)))
         (call $note @'later' (call $replace_header_map_value (i32.const 2) @'x-later' @'1'))",
    );
    let mut envoy = after_20_ms(probe.world());
    let stream = envoy.get("/").send();
    envoy.advance(Duration::from_millis(20));
    assert_eq!(own_notes(&envoy), ["wake 0", "edit 0", "later 0"]);
    assert!(envoy.is_finished(stream));
    let sent = envoy.response(stream).expect("a response");
    assert_eq!(sent.headers.get("x-late"), Some(b"1".as_slice()));
    assert_eq!(sent.headers.get("x-later"), Some(b"1".as_slice()));
}

#[test]
fn resuming_either_direction_puts_the_request_out_of_reach() {
    let mut envoy = Probe::new()
        .on(
            "request_headers",
            "(drop (call $continue_stream (i32.const 1)))
             (call $note @'request' (call $replace_header_map_value (i32.const 0) @'x-a' @'1'))
             (drop (call $continue_stream (i32.const 0)))
             (call $note @'resumed' (call $replace_header_map_value (i32.const 0) @'x-b' @'1'))
             (i32.const 0)",
        )
        .world()
        .start()
        .expect("a world");
    let seen = envoy.get("/").run().forwarded();
    assert_eq!(own_notes(&envoy), ["request 2", "resumed 2"]);
    assert!(seen.headers.get("x-a").is_none() && seen.headers.get("x-b").is_none());
}

#[test]
fn a_request_without_body_goes_on_when_it_is_resumed() {
    let probe = resuming_after_a_callout().on("request_body", &format!("{SHOWN} (i32.const 0)"));
    let mut envoy = after_20_ms(probe.world());
    let stream = envoy.get("/").send();
    assert_eq!(envoy.outcome(stream), Outcome::Pending);
    assert_eq!(envoy.pending(), [stream]);
    envoy.decide(stream).forwarded();
    assert_eq!(envoy.elapsed(), Duration::from_millis(20));
    assert_eq!(own_notes(&envoy), ["wake 0", "edit 0", "too late 2"]);
}

#[test]
fn with_stop_iteration_a_body_that_goes_on_carries_the_request_past_the_pause() {
    for (parts, what) in [("body", "a body"), ("trailers", "trailers")] {
        let probe = resuming_after_a_callout().on("request_body", &format!("{SHOWN} (i32.const 0)"));
        let mut envoy = after_20_ms(probe.world().allow_on_headers_stop_iteration(true));
        let stream = envoy.post("/").open();
        assert!(envoy.upstream_saw(stream).is_none());
        match parts {
            "body" => envoy.send_body(stream, "ab"),
            _ => envoy.send_trailers(stream, &[("t", b"1")]),
        }
        assert!(envoy.upstream_saw(stream).is_some(), "{what} carries it past");
    }
}

#[test]
fn with_stop_iteration_a_pause_on_body_and_trailers_is_a_barrier() {
    let probe = resuming_after_a_callout()
        .on("request_body", &format!("{SHOWN} (i32.const 1)"))
        .on(
            "request_trailers",
            "(call $note @'trailers' (local.get $count)) (i32.const 1)",
        );
    let mut envoy = after_20_ms(probe.world().allow_on_headers_stop_iteration(true));
    let stream = envoy.post("/").open();
    envoy.send_body(stream, "ab");
    envoy.send_body(stream, "cde");
    envoy.send_trailers(stream, &[("t", b"1")]);
    // A paused body accumulates.
    assert_eq!(own_notes(&envoy), ["body 2", "end 0", "body 5", "end 0", "trailers 1"]);
    assert!(envoy.upstream_saw(stream).is_none());
    envoy.advance(Duration::from_millis(20));
    let seen = envoy.outcome(stream).forwarded();
    assert_eq!((seen.body.as_slice(), seen.trailers.len()), (b"abcde".as_slice(), 1));
    let shown = own_notes(&envoy);
    assert_eq!(shown.len(), 8, "what was shown is not shown again: {shown:?}");
}

#[test]
fn a_paused_body_is_buffered_up_to_the_limit() {
    let mut envoy = Probe::new()
        .on("request_body", "(i32.const 1)")
        .world()
        .buffer_limit(4)
        .start()
        .expect("a world");
    let stream = envoy.post("/").open();
    envoy.send_body(stream, "abcd");
    assert_eq!(envoy.outcome(stream), Outcome::Pending);
    envoy.send_body(stream, "e");
    assert_eq!(envoy.outcome(stream).replied().status, 413);
}

#[test]
fn a_plugin_reads_and_changes_the_body_it_is_shown() {
    let mut envoy = Probe::new()
        .on(
            "request_body",
            &format!(
                "(if (i32.eqz (local.get $end)) (then (return (i32.const 1))))
                 (drop (call $get_buffer_bytes (i32.const 0) (i32.const 1) (i32.const 3) {RETURNED}))
                 (call $tell @'part')
                 (call $note @'replace' (call $set_buffer_bytes (i32.const 0) (i32.const 0) (i32.const 2) @'X'))
                 (call $note @'append' (call $set_buffer_bytes (i32.const 0) (i32.const 99) (i32.const 0) @'!'))
                 (call $note @'middle' (call $set_buffer_bytes (i32.const 0) (i32.const 1) (i32.const 1) @'?'))
                 (i32.const 0)"
            ),
        )
        .world()
        .start()
        .expect("a world");
    let stream = envoy.post("/").open();
    envoy.send_body(stream, "abc");
    envoy.send_body(stream, "de");
    envoy.end(stream);
    assert_eq!(envoy.outcome(stream).forwarded().body, b"Xcde!");
    assert_eq!(own_notes(&envoy), ["part bcd", "replace 0", "append 0", "middle 2"]);
}
