//! Callouts: how they end, and who is told.

use std::time::Duration;

use tiny_envoy::{Answer, PeerRequest, TinyEnvoy};

use crate::probe::{Probe, RETURNED, own_notes, pairs};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A guest whose requests call out and pause, and that notes what comes of it.
fn asking(cluster: &str, headers: &[(&str, &str)], timeout_ms: i32) -> Probe {
    let headers = pairs(headers);
    Probe::new()
        .on(
            "request_headers",
            &format!(
                "(call $note @'call' (call $http_call @'{cluster}' @'{headers}' @'' (i32.const 0)
                   (i32.const 0) (i32.const {timeout_ms}) (i32.const 24)))
                 (i32.const 1)"
            ),
        )
        .on(
            "http_call_response",
            &format!(
                "(call $note @'context' (local.get $context))
                 (call $note @'headers' (local.get $headers))
                 (call $note @'body' (local.get $body))
                 (i32.store (i32.const 20) (i32.const 0))
                 (call $note @'status' (call $get_header_map_value (i32.const 6) @':status' {RETURNED}))
                 (call $tell @':status')
                 (i32.store (i32.const 20) (i32.const 0))
                 (call $note @'buffer' (call $get_buffer_bytes (i32.const 4) (i32.const 0)
                   (i32.const 24) {RETURNED}))
                 (call $tell @'text')
                 (drop (call $get_status (i32.const 40) {RETURNED}))
                 (call $tell @'reason')"
            ),
        )
}

const COMPLETE: &[(&str, &str)] = &[(":method", "GET"), (":path", "/t"), (":authority", "a")];

fn world(probe: Probe, answer: Answer) -> TinyEnvoy {
    let peer = move |_: &PeerRequest| answer.clone();
    probe.world().cluster("peer", peer).start().expect("a world")
}

#[track_caller]
fn ends(answer: Answer, at: Duration, expected: &[&str]) {
    let mut envoy = world(asking("peer", COMPLETE, 200), answer);
    envoy.get("/").send();
    envoy.advance(at - ms(1));
    assert_eq!(own_notes(&envoy), ["call 0"]);
    envoy.advance(ms(1));
    assert_eq!(own_notes(&envoy)[1..], *expected);
}

#[test]
fn a_response_of_any_status_reaches_the_root_context() {
    ends(
        Answer::json(418, "tea").after(ms(20)),
        ms(20),
        &[
            "context 1",
            "headers 3",
            "body 3",
            "status 0",
            ":status 418",
            "buffer 0",
            "text tea",
            "reason ",
        ],
    );
}

#[test]
fn a_timeout_is_a_504_at_its_time() {
    let expected = [
        "context 1",
        "headers 3",
        "body 24",
        "status 0",
        ":status 504",
        "buffer 0",
        "text upstream request timeout",
        "reason ",
    ];
    ends(Answer::silence(), ms(200), &expected);
    ends(Answer::status(200).after(ms(500)), ms(200), &expected);
}

#[test]
fn a_closed_connection_is_a_503_with_a_text() {
    ends(
        Answer::close_before_headers().after(ms(5)),
        ms(5),
        &[
            "context 1",
            "headers 3",
            "body 95",
            "status 0",
            ":status 503",
            "buffer 0",
            "text upstream connect error o",
            "reason ",
        ],
    );
}

#[test]
fn a_reset_in_the_body_has_no_headers_and_no_body() {
    ends(
        Answer::json(200, "half of it").reset_mid_body().after(ms(5)),
        ms(5),
        &[
            "context 1",
            "headers 0",
            "body 0",
            "status 2",
            ":status ",
            "buffer 1",
            "text ",
            "reason reset",
        ],
    );
}

#[test]
fn what_cannot_be_sent_is_refused_where_it_is_called() {
    let ok = || Answer::status(200);
    let rows: [(Probe, Answer, &str); 6] = [
        (asking("nobody", COMPLETE, 100), ok(), "call 2"),
        (asking("peer", &COMPLETE[1..], 100), ok(), "call 2"),
        (asking("peer", &COMPLETE[..2], 100), ok(), "call 2"),
        (asking("peer", &[COMPLETE[0], COMPLETE[2]], 100), ok(), "call 2"),
        (asking("peer", COMPLETE, -1), ok(), "call 2"),
        (asking("peer", COMPLETE, 100), Answer::no_endpoints(), "call 10"),
    ];
    for (probe, answer, expected) in rows {
        let mut envoy = world(probe, answer);
        envoy.get("/").send();
        envoy.advance(ms(1000));
        assert_eq!(own_notes(&envoy), [expected]);
        assert!(envoy.callouts().is_empty());
    }
}

#[test]
fn no_timeout_waits_for_ever() {
    let mut envoy = world(asking("peer", COMPLETE, 0), Answer::status(200).after(ms(3_600_000)));
    envoy.get("/").send();
    envoy.advance(ms(3_599_999));
    assert_eq!(own_notes(&envoy).len(), 1);
    envoy.advance(ms(1));
    assert!(own_notes(&envoy).len() > 1);
}

#[test]
fn a_callout_outlives_the_stream_that_made_it() {
    let mut envoy = world(asking("peer", COMPLETE, 200), Answer::status(204).after(ms(20)));
    let stream = envoy.get("/").send();
    envoy.disconnect(stream);
    envoy.advance(ms(20));
    assert!(own_notes(&envoy).contains(&":status 204".to_owned()));
}

#[test]
fn the_peer_sees_what_was_sent_and_what_envoy_adds() {
    let mut envoy = world(asking("peer", COMPLETE, 200), Answer::status(200));
    envoy.get("/").send();
    let callouts = envoy.callouts();
    assert_eq!(callouts.len(), 1);
    assert_eq!((callouts[0].cluster.as_str(), callouts[0].worker), ("peer", 0));
    assert_eq!(callouts[0].timeout, Some(ms(200)));
    let headers = &callouts[0].request.headers;
    assert_eq!(headers.get("x-envoy-internal"), Some(b"true".as_slice()));
    assert_eq!(headers.get("x-envoy-expected-rq-timeout-ms"), Some(b"200".as_slice()));
    assert_eq!(callouts[0].request.path(), "/t");
}

#[test]
fn the_canarys_callouts_reach_nobody() {
    let headers = pairs(COMPLETE);
    let body = format!(
        "(call $note @'call' (call $http_call @'peer' @'{headers}' @'' (i32.const 0) (i32.const 0)
           (i32.const 100) (i32.const 24)))
         (i32.const 1)"
    );
    let envoy = world(Probe::new().on("configure", &body), Answer::status(200));
    let calls = envoy.logs().iter().filter(|line| line.message == "call 000").count();
    assert_eq!(calls, 3, "canary, worker and main thread");
    assert_eq!(envoy.callouts().len(), 2);
}
