//! The way back: what a plugin reads and changes of a response, and how it replaces one.

use tiny_envoy::{Answer, Builder, PeerRequest};

use crate::probe::{Probe, RETURNED, own_notes};

fn answering(plugin: Probe) -> Builder {
    plugin.world().upstream(|_: &PeerRequest| {
        Answer::json(200, "{}")
            .header("x-a", "1")
            .header("x-a", "2")
            .header("x-b", "b")
            .trailer("t", "1")
            .trailer("u", "2")
    })
}

#[test]
fn a_plugin_reads_every_line_and_edits_head_and_trailers() {
    let mut envoy = answering(
        Probe::new()
            .on(
                "response_headers",
                &format!(
                    "(call $note @'count' (local.get $count))
                     (call $note @'end' (local.get $end))
                     (drop (call $get_header_map_value (i32.const 2) @'x-a' {RETURNED})) (call $tell @'x-a')
                     (drop (call $get_property @'response\\0headers\\0x-a' {RETURNED})) (call $tell @'all')
                     (call $note @'request' (call $get_header_map_value (i32.const 0) @':path' {RETURNED}))
                     (drop (call $add_header_map_value (i32.const 2) @'x-a' @'3'))
                     (drop (call $remove_header_map_value (i32.const 2) @'x-b'))
                     (i32.const 0)"
                ),
            )
            .on(
                "response_trailers",
                "(call $note @'trailers' (local.get $count))
                 (drop (call $replace_header_map_value (i32.const 3) @'t' @'changed'))
                 (drop (call $remove_header_map_value (i32.const 3) @'u'))
                 (i32.const 0)",
            ),
    )
    .start()
    .expect("a world");
    let stream = envoy.get("/").send();
    envoy.settle();
    assert_eq!(
        own_notes(&envoy),
        ["count 5", "end 0", "x-a 1", "all 1,2", "request 2", "trailers 2"]
    );
    let response = envoy.response(stream).expect("a response");
    assert_eq!(response.headers.get_all("x-a"), [b"1", b"2", b"3"]);
    assert!(response.headers.get("x-b").is_none());
    let trailers: Vec<_> = response.trailers.iter().collect();
    assert_eq!(trailers, [(b"t".as_slice(), b"changed".as_slice())]);
}

#[test]
fn a_reply_from_the_response_headers_replaces_everything_and_is_not_shown_again() {
    let mut envoy = answering(
        Probe::new()
            .on(
                "response_headers",
                "(call $note @'headers' (local.get $count))
                 (drop (call $send_local_response (i32.const 502) @'leak' @'gone' @'' (i32.const -1)))
                 (i32.const 0)",
            )
            .on("response_body", "unreachable")
            .on("response_trailers", "unreachable")
            .on(
                "log",
                &format!("(drop (call $get_header_map_value (i32.const 2) @':status' {RETURNED})) (call $tell @'log')"),
            ),
    )
    .start()
    .expect("a world");
    let stream = envoy.get("/").send();
    envoy.settle();
    assert_eq!(own_notes(&envoy), ["headers 5", "log 502"]);
    let response = envoy.response(stream).expect("a response");
    assert_eq!((response.status(), response.body.as_slice()), (502, b"gone".as_slice()));
    assert!(response.trailers.is_empty());
    for name in ["x-a", "x-b"] {
        assert!(response.headers.get(name).is_none(), "{name}");
    }
    assert_eq!(envoy.outcome(stream).replied().details, "leak");
    assert!(envoy.is_finished(stream));
    envoy.assert_alive();
}

#[test]
fn a_reply_from_the_response_headers_of_a_grpc_request_is_trailers_only() {
    let mut envoy = answering(Probe::new().on(
        "response_headers",
        "(drop (call $send_local_response (i32.const 502) @'leak' @'gone' @'' (i32.const 13)))
         (i32.const 0)",
    ))
    .start()
    .expect("a world");
    let stream = envoy.post("/svc/M").header("content-type", "application/grpc").send();
    envoy.settle();
    let reply = envoy.outcome(stream).replied();
    assert_eq!((reply.status, reply.grpc_status), (200, Some(13)));
    assert!(reply.body.is_empty());
}

#[test]
fn a_reply_from_the_response_body_comes_too_late_and_breaks_it_off() {
    let mut envoy = answering(Probe::new().on(
        "response_body",
        "(drop (call $send_local_response (i32.const 502) @'leak' @'gone' @'' (i32.const -1)))
         (i32.const 0)",
    ))
    .start()
    .expect("a world");
    let stream = envoy.get("/").send();
    envoy.settle();
    let response = envoy.response(stream).expect("a head");
    assert_eq!((response.status(), response.body.as_slice()), (200, b"".as_slice()));
    assert!(response.trailers.is_empty());
    assert!(envoy.is_finished(stream));
    envoy.assert_alive();
}
