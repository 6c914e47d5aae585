//! Header maps: what a plugin reads, changes, and when it may.

use crate::probe::{Probe, RETURNED, own_notes, pairs};

#[test]
fn a_plugin_sees_bytes_and_duplicates_and_the_first_value_of_several() {
    let mut envoy = Probe::new()
        .on(
            "request_headers",
            &format!(
                "(call $note @'count' (local.get $count))
                 (drop (call $get_header_map_value (i32.const 0) @'X-A' {RETURNED}))
                 (call $tell @'x-a')
                 (drop (call $get_header_map_value (i32.const 0) @'authorization' {RETURNED}))
                 (call $tell @'authorization')
                 (call $note @'absent' (call $get_header_map_value (i32.const 0) @'x-none' {RETURNED}))
                 (i32.const 0)"
            ),
        )
        .world()
        .start()
        .expect("a world");
    let seen = envoy
        .get("/")
        .header("x-a", "first")
        .header("x-a", b"\xff\x00".as_slice().strip_suffix(b"\0").expect("a suffix"))
        .header("Authorization", "Bearer a")
        .header("authorization", "Bearer b")
        .run()
        .forwarded();
    // Four pseudo headers, two that Envoy adds, x-a twice, authorization once.
    assert_eq!(
        own_notes(&envoy),
        ["count 9", "x-a first", "authorization Bearer a,Bearer b", "absent 1"]
    );
    assert_eq!(seen.headers.get_all("x-a"), [b"first".as_slice(), b"\xff"]);
}

#[test]
fn edits_add_replace_all_and_remove_all() {
    let mut envoy = Probe::new()
        .on(
            "request_headers",
            "(drop (call $add_header_map_value (i32.const 0) @'x-a' @'3'))
             (drop (call $replace_header_map_value (i32.const 0) @'X-B' @'only'))
             (drop (call $remove_header_map_value (i32.const 0) @'x-c'))
             (call $note @'not there' (call $remove_header_map_value (i32.const 0) @'x-d'))
             (drop (call $replace_header_map_value (i32.const 0) @':path' @'/other'))
             (i32.const 0)",
        )
        .world()
        .start()
        .expect("a world");
    let mut request = envoy.get("/");
    for (name, value) in [
        ("x-a", "1"),
        ("x-a", "2"),
        ("x-b", "1"),
        ("x-b", "2"),
        ("x-c", "1"),
        ("x-c", "2"),
    ] {
        request = request.header(name, value);
    }
    let seen = request.run().forwarded();
    assert_eq!(seen.headers.get_all("x-a"), [b"1", b"2", b"3"]);
    assert_eq!(seen.headers.get_all("x-b"), [b"only".as_slice()]);
    assert!(seen.headers.get_all("x-c").is_empty());
    assert_eq!(seen.path(), "/other");
    assert_eq!(own_notes(&envoy), ["not there 0"]);
}

#[test]
fn writing_all_pairs_replaces_the_map_and_more_than_1024_erase_it() {
    let whole = pairs(&[
        (":method", "PUT"),
        (":path", "/new"),
        (":authority", "a"),
        ("x-new", "1"),
        ("x-forwarded-proto", "http"),
    ]);
    let write = format!("(drop (call $set_header_map_pairs (i32.const 0) @'{whole}')) (i32.const 0)");
    let mut envoy = Probe::new()
        .on("request_headers", &write)
        .world()
        .start()
        .expect("a world");
    let seen = envoy.get("/").header("x-old", "1").run().forwarded();
    assert_eq!((seen.method().as_str(), seen.path().as_str()), ("PUT", "/new"));
    assert!(seen.headers.get("x-old").is_none());

    // 1025 empty pairs: a count, two zero lengths and two terminators for each.
    let too_many = "(i32.store (i32.const 200000) (i32.const 1025))
         (drop (call $set_header_map_pairs (i32.const 0) (i32.const 200000) (i32.const 10254)))
         (i32.const 0)";
    let mut envoy = Probe::new()
        .on("request_headers", too_many)
        .world()
        .start()
        .expect("a world");
    let stream = envoy.get("/").send();
    // Not even what finds a route is left.
    assert_eq!(envoy.outcome(stream).replied().status, 404);
    assert!(envoy.upstream_saw(stream).is_none());
}

#[test]
fn request_headers_are_gone_once_the_request_went_on_and_back_for_the_log() {
    let mut envoy = Probe::new()
        .on(
            "request_body",
            &format!(
                "(call $note @'get' (call $get_header_map_value (i32.const 0) @':path' {RETURNED}))
                 (call $note @'set' (call $replace_header_map_value (i32.const 0) @'x' @'1'))
                 (i32.store (i32.const 20) (i32.const 77))
                 (call $note @'pairs' (call $get_header_map_pairs (i32.const 0) {RETURNED}))
                 (call $note @'size' (i32.load (i32.const 20)))
                 (i32.const 0)"
            ),
        )
        .on(
            "log",
            &format!(
                "(call $note @'log' (call $get_header_map_value (i32.const 0) @':path' {RETURNED}))
                 (call $tell @'path')
                 (drop (call $get_header_map_value (i32.const 2) @':status' {RETURNED}))
                 (call $tell @'status')"
            ),
        )
        .world()
        .start()
        .expect("a world");
    let stream = envoy.post("/p").body("x").send();
    envoy.settle();
    assert!(envoy.is_finished(stream));
    assert_eq!(
        own_notes(&envoy),
        [
            "get 2",
            "set 2",
            "pairs 0",
            "size 0",
            "get 2",
            "set 2",
            "pairs 0",
            "size 0",
            "log 0",
            "path /p",
            "status 200"
        ],
        "the body, and its end"
    );
}

#[test]
fn what_a_codec_cannot_write_is_answered_503_and_a_missing_path_404() {
    for (edit, status) in [
        ("(call $replace_header_map_value (i32.const 0) @'x-a' @'a\nb')", 503),
        ("(call $remove_header_map_value (i32.const 0) @':method')", 503),
        ("(call $remove_header_map_value (i32.const 0) @':path')", 404),
    ] {
        let body = format!("(drop {edit}) (i32.const 0)");
        let mut envoy = Probe::new()
            .on("request_headers", &body)
            .world()
            .start()
            .expect("a world");
        let stream = envoy.get("/").send();
        assert_eq!(envoy.outcome(stream).replied().status, status, "{edit}");
        assert!(envoy.upstream_saw(stream).is_none());
    }
}

#[test]
fn properties_come_from_the_test_from_the_plugin_and_from_the_request() {
    let mut envoy = Probe::new()
        .on(
            "configure",
            "(call $note @'on root' (call $set_property @'t' @'x')) (i32.const 1)",
        )
        .on(
            "request_headers",
            &format!(
                "(drop (call $set_property @'tenant' @'acme'))
                 (drop (call $get_property @'tenant' {RETURNED})) (call $tell @'plain')
                 (drop (call $get_property @'filter_state\\0wasm.tenant' {RETURNED})) (call $tell @'state')
                 (call $note @'prefixed' (call $get_property @'wasm.tenant' {RETURNED}))
                 (drop (call $get_property @'request\\0headers\\0x-a' {RETURNED})) (call $tell @'joined')
                 (drop (call $get_property @'a\\0b' {RETURNED})) (call $tell @'world')
                 (drop (call $get_property @'c' {RETURNED})) (call $tell @'stream')
                 (i32.const 0)"
            ),
        )
        .world()
        .property(&["a", "b"], "1")
        .start()
        .expect("a world");
    let stream = envoy
        .get("/")
        .header("x-a", "1")
        .header("x-a", "2")
        .property(&["c"], "3")
        .send();
    assert_eq!(envoy.filter_state(stream, "tenant"), Some(b"acme".to_vec()));
    assert_eq!(
        own_notes(&envoy),
        [
            "on root 1",
            "plain acme",
            "state acme",
            "prefixed 1",
            "joined 1,2",
            "world 1",
            "stream 3"
        ]
    );
}
