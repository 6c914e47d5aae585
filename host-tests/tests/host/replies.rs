//! Local replies and the end of streams.

use tiny_envoy::{Answer, Outcome, PeerRequest};

use crate::probe::{Probe, own_notes, pairs};

fn refusing(with: &str, grpc_status: i32) -> String {
    format!(
        "(call $note @'reply' (call $send_local_response (i32.const 401) @'not so fast' @'no: 50%'
           @'{with}' (i32.const {grpc_status})))
         (call $note @'again' (call $send_local_response (i32.const 500) @'' @'' @'' (i32.const -1)))
         (i32.const 0)"
    )
}

#[test]
fn a_local_reply_is_sent_once_comes_past_the_plugin_and_ends_the_stream() {
    let headers = pairs(&[("www-authenticate", "Bearer"), ("Content-Type", "application/json")]);
    let mut envoy = Probe::new()
        .on("request_headers", &refusing(&headers, -1))
        .on("request_body", "unreachable")
        .on(
            "response_headers",
            "(call $note @'response headers' (local.get $count)) (i32.const 0)",
        )
        .on(
            "response_body",
            "(call $note @'response body' (local.get $size)) (i32.const 0)",
        )
        .on("log", "(call $note @'log' (i32.const 1))")
        .on("done", "(call $note @'done' (i32.const 1)) (i32.const 0)")
        .on("delete", "(call $note @'delete' (i32.const 1))")
        .world()
        .start()
        .expect("a world");
    let stream = envoy.post("/").body("x").send();
    let reply = envoy.outcome(stream).replied();
    assert_eq!(reply.status, 401);
    assert_eq!(reply.body, b"no: 50%");
    assert_eq!(reply.details, "not_so_fast");
    assert_eq!(reply.grpc_status, None);
    assert_eq!(reply.headers.get("www-authenticate"), Some(b"Bearer".as_slice()));
    assert_eq!(reply.headers.get_all("content-type"), [b"application/json".as_slice()]);
    assert_eq!(reply.headers.get("content-length"), Some(b"7".as_slice()));
    assert!(envoy.upstream_saw(stream).is_none());
    assert!(envoy.is_finished(stream));
    assert_eq!(
        own_notes(&envoy),
        [
            "reply 0",
            "again 0",
            "response headers 4",
            "response body 7",
            "log 1",
            "done 1",
            "delete 1"
        ]
    );
    envoy.assert_alive();
}

#[test]
fn a_grpc_request_gets_trailers_only_with_the_status_mapped_or_as_given() {
    for (given, expected) in [(-1, 16), (7, 7)] {
        let guest = Probe::new().on("request_headers", &refusing("", given));
        let mut envoy = guest.world().start().expect("a world");
        let request = envoy
            .post("/svc/Method")
            .header("content-type", "application/grpc+proto");
        let reply = request.run().replied();
        assert_eq!((reply.status, reply.grpc_status), (200, Some(expected)));
        assert_eq!(reply.headers.get("grpc-message"), Some(b"no: 50%25".as_slice()));
        assert!(reply.body.is_empty());
    }
    // Without gRPC the given status changes nothing.
    let guest = Probe::new().on("request_headers", &refusing("", 7));
    let reply = guest.world().start().expect("a world").get("/").run().replied();
    assert_eq!((reply.status, reply.grpc_status), (401, None));
}

#[test]
fn a_reply_to_head_has_no_body() {
    let guest = Probe::new().on("request_headers", &refusing("", -1));
    let mut envoy = guest.world().start().expect("a world");
    let reply = envoy.request("HEAD", "/").run().replied();
    assert!(reply.body.is_empty());
    assert_eq!(reply.headers.get("content-length"), Some(b"7".as_slice()));
}

#[test]
fn a_plugin_may_replace_the_upstreams_response() {
    let mut envoy = Probe::new()
        .on(
            "response_headers",
            "(drop (call $send_local_response (i32.const 502) @'leak' @'gone' @'' (i32.const -1)))
             (i32.const 0)",
        )
        .world()
        .upstream(|_: &PeerRequest| Answer::json(200, "{}"))
        .start()
        .expect("a world");
    let stream = envoy.get("/").send();
    assert!(matches!(envoy.outcome(stream), Outcome::Forwarded(_)));
    envoy.settle();
    assert_eq!(envoy.outcome(stream).replied().status, 502);
    assert_eq!(envoy.response(stream).expect("a response").body, b"gone");
    assert!(envoy.upstream_saw(stream).is_some());
}

#[test]
fn the_upstreams_response_reaches_the_client_as_the_plugin_leaves_it() {
    let mut envoy = Probe::new()
        .on(
            "response_headers",
            "(drop (call $replace_header_map_value (i32.const 2) @'x-a' @'changed')) (i32.const 0)",
        )
        .world()
        .upstream(|_: &PeerRequest| Answer::json(200, "{}").header("x-a", "1").trailer("t", "1"))
        .start()
        .expect("a world");
    let stream = envoy.get("/").send();
    assert!(envoy.response(stream).is_none());
    envoy.settle();
    let response = envoy.response(stream).expect("a response");
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers.get("x-a"), Some(b"changed".as_slice()));
    assert_eq!(
        (response.body.as_slice(), response.trailers.len()),
        (b"{}".as_slice(), 1)
    );
}

#[test]
fn a_client_that_leaves_takes_its_context_along() {
    let mut envoy = Probe::new()
        .on("request_headers", "(i32.const 1)")
        .on("log", "(call $note @'log' (local.get $context))")
        .on("delete", "(call $note @'delete' (local.get $context))")
        .on(
            "tick",
            "(call $note @'wake' (call $set_effective_context (i32.const 2)))",
        )
        .on(
            "configure",
            "(drop (call $set_tick_period_milliseconds (i32.const 10))) (i32.const 1)",
        )
        .world()
        .start()
        .expect("a world");
    let stream = envoy.get("/").send();
    envoy.advance(std::time::Duration::from_millis(10));
    envoy.disconnect(stream);
    assert_eq!(envoy.outcome(stream), Outcome::Gone);
    envoy.advance(std::time::Duration::from_millis(10));
    assert_eq!(own_notes(&envoy), ["wake 0", "log 2", "delete 2", "wake 2"]);
}
