//! What a plugin keeps of a request: properties for a pass or for all of them, internal redirects, and
//! the metadata of the route.

use prost::Message;
use serde_json::json;
use tiny_envoy::{Answer, Builder, Outcome, PeerRequest, TinyEnvoy};

use crate::probe::{Probe, RETURNED, own_notes};

const REQUEST: i32 = 1;

/// `DeclarePropertyArguments` as a text for `@'…'`.
fn declaration(name: &str, readonly: bool, span: i32) -> String {
    #[derive(Clone, PartialEq, Message)]
    struct Arguments {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(bool, tag = "2")]
        readonly: bool,
        #[prost(int32, tag = "5")]
        span: i32,
    }
    let arguments = Arguments {
        name: name.to_owned(),
        readonly,
        span,
    };
    String::from_utf8(arguments.encode_to_vec()).expect("small numbers are ASCII")
}

fn declare(note: &str, name: &str, readonly: bool, span: i32) -> String {
    let arguments = declaration(name, readonly, span);
    format!("(call $note @'{note}' (call $call_foreign_function @'declare_property' @'{arguments}' {RETURNED}))")
}

/// Notes what a property is at the beginning of a request, if anything, then sets it to the path.
fn note_then_set(name: &str) -> String {
    format!(
        "(if (i32.eqz (call $get_property @'{name}' {RETURNED}))
           (then (call $tell @'{name} was'))
           (else (call $note @'no {name}' (i32.const 0))))
         (drop (call $get_header_map_value (i32.const 0) @':path' {RETURNED}))
         (call $note @'set {name}'
           (call $set_property @'{name}' (i32.load (i32.const 16)) (i32.load (i32.const 20))))"
    )
}

/// An upstream that redirects `/first` to `/second`, and that to `/third`.
fn redirecting(plugin: Probe) -> Builder {
    plugin
        .world()
        .internal_redirects(2)
        .upstream(|request: &PeerRequest| match request.path().as_str() {
            "/first" => Answer::status(302).header("location", "http://there.example/second?q=1"),
            "/second?q=1" => Answer::status(302).header("location", "http://there.example#part"),
            _ => Answer::json(200, "{}"),
        })
}

fn declaring(declarations: &str) -> Probe {
    let each = format!("{} {} (i32.const 0)", note_then_set("short"), note_then_set("long"));
    Probe::new()
        .on("configure", &format!("{declarations} (i32.const 1)"))
        .on("request_headers", &each)
}

fn worlds_notes(envoy: &TinyEnvoy) -> Vec<String> {
    let notes = own_notes(envoy);
    let is_ours = |note: &String| !note.starts_with("declared");
    notes.into_iter().filter(is_ours).collect()
}

#[test]
fn a_redirected_request_comes_again_with_what_was_declared_to_last() {
    let mut envoy = redirecting(declaring(&declare("declared", "long", false, REQUEST)))
        .start()
        .expect("a world");
    let first = envoy.post("/first").header("x-a", "1").body("body").send();
    let forwarded = envoy.outcome(first).forwarded();
    envoy.settle();
    let second = envoy.redirected(first).expect("a second pass");
    let third = envoy.redirected(second).expect("a third pass");
    assert_eq!(envoy.redirected(third), None);
    assert_eq!(
        worlds_notes(&envoy),
        [
            "no short 0",
            "set short 0",
            "no long 0",
            "set long 0",
            "no short 0",
            "set short 0",
            "long was /first",
            "set long 0",
            "no short 0",
            "set short 0",
            "long was /second?q=1",
            "set long 0",
        ]
    );
    assert_eq!(envoy.filter_state(first, "long"), Some(b"/first".to_vec()));
    assert_eq!(envoy.filter_state(third, "long"), Some(b"/".to_vec()));
    // Headers and body as they reached the upstream, but for where they go.
    let again = envoy.outcome(second).forwarded();
    assert_eq!(again.path(), "/second?q=1");
    assert_eq!(again.body, b"body");
    assert_eq!(again.headers.get_all("x-a"), [b"1".as_slice()]);
    assert_eq!(again.headers.get("x-request-id"), forwarded.headers.get("x-request-id"));
    assert_eq!(again.headers.text(":authority").as_deref(), Some("there.example"));
    assert_eq!(
        again.headers.text("x-envoy-original-url").as_deref(),
        Some("http://tiny.example/first")
    );
    let last = envoy.outcome(third).forwarded();
    assert_eq!(
        last.headers.text("x-envoy-original-url").as_deref(),
        Some("http://there.example/second?q=1")
    );
    assert_eq!(last.path(), "/");
    // The client hears of the last pass only.
    assert_eq!(envoy.response(first), None);
    assert_eq!(envoy.response(third).expect("a response").status(), 200);
    assert!(envoy.is_finished(first));
}

#[test]
fn a_pass_sees_the_headers_as_the_one_before_left_them_and_its_response_is_not_shown() {
    let mut envoy = redirecting(
        Probe::new()
            .on(
                "request_headers",
                "(drop (call $add_header_map_value (i32.const 0) @'x-pass' @'1'))
                 (call $note @'headers' (local.get $context)) (i32.const 0)",
            )
            .on(
                "response_headers",
                "(call $note @'response' (local.get $context)) (i32.const 0)",
            )
            .on(
                "log",
                &format!(
                    "(drop (call $get_header_map_value (i32.const 0) @':path' {RETURNED})) (call $tell @'log')
                     (drop (call $get_header_map_value (i32.const 2) @':status' {RETURNED})) (call $tell @'log')"
                ),
            )
            .on("delete", "(call $note @'delete' (local.get $context))"),
    )
    .internal_redirects(1)
    .start()
    .expect("a world");
    let first = envoy.get("/first").send();
    envoy.settle();
    let second = envoy.redirected(first).expect("a second pass");
    assert_eq!(
        own_notes(&envoy),
        [
            "headers 2",
            // By then the path is that of the pass that follows.
            "log /second?q=1",
            "log 302",
            "delete 2",
            "headers 3",
            "response 3",
            "log /second?q=1",
            "log 302",
            "delete 3"
        ]
    );
    let again = envoy.outcome(second).forwarded();
    assert_eq!(again.headers.get_all("x-pass"), [b"1".as_slice(), b"1"]);
    // One redirect was followed, the next one is the client's.
    assert_eq!(envoy.redirected(second), None);
    assert_eq!(envoy.response(second).expect("a response").status(), 302);
}

#[test]
fn redirects_go_to_the_client_where_nobody_follows_them_or_they_name_no_host() {
    for (most, status, location) in [
        (0, 302, Some("http://there.example/second")),
        (1, 302, Some("/second")),
        (1, 302, Some("https://there.example/second")),
        (1, 302, Some("http://there.example?second")),
        (1, 302, None),
        (1, 301, Some("http://there.example/second")),
        (1, 200, Some("http://there.example/second")),
    ] {
        let answer = Answer::status(status);
        let answer = match location {
            Some(location) => answer.header("location", location),
            None => answer,
        };
        let mut envoy = Probe::new()
            .world()
            .internal_redirects(most)
            .upstream(move |_: &PeerRequest| answer.clone())
            .start()
            .expect("a world");
        let stream = envoy.get("/first").send();
        envoy.settle();
        assert_eq!(envoy.redirected(stream), None, "{most} {status} {location:?}");
        assert_eq!(envoy.response(stream).expect("a response").status(), status);
    }
}

#[test]
fn a_property_is_declared_once_for_all_streams_of_a_vm_and_may_be_read_only() {
    let declarations = declare("declared", "long", true, REQUEST)
        + &declare("again", "long", false, 0)
        + "(call $note @'garbage' (call $call_foreign_function @'declare_property' @'\u{1}' (i32.const 16) (i32.const 20)))";
    let mut envoy = redirecting(declaring(&declarations)).start().expect("a world");
    assert_eq!(own_notes(&envoy)[..3], ["declared 0", "again 2", "garbage 2"]);
    let first = envoy.get("/first").send();
    envoy.settle();
    let second = envoy.redirected(first).expect("a second pass");
    // Set once, and kept from pass to pass as it is.
    assert_eq!(envoy.filter_state(second, "long"), Some(b"/first".to_vec()));
    assert!(own_notes(&envoy).contains(&"set long 2".to_owned()));
    let other = envoy.get("/other").send();
    assert_eq!(envoy.filter_state(other, "long"), Some(b"/other".to_vec()));
}

#[test]
fn what_a_stream_declares_holds_for_nothing() {
    let each = declare("declared", "long", false, REQUEST) + &note_then_set("long") + "(i32.const 0)";
    let mut envoy = redirecting(Probe::new().on("request_headers", &each))
        .start()
        .expect("a world");
    let first = envoy.get("/first").send();
    envoy.settle();
    let second = envoy.redirected(first).expect("a second pass");
    assert_eq!(worlds_notes(&envoy)[2], "no long 0");
    assert!(matches!(envoy.outcome(second), Outcome::Forwarded(_)));
}

#[test]
fn on_a_host_without_declare_property_everything_ends_with_its_pass() {
    let mut envoy = redirecting(declaring(&declare("declared", "long", false, REQUEST)))
        .without_foreign_function("declare_property")
        .start()
        .expect("a world");
    assert_eq!(own_notes(&envoy), ["declared 1"]);
    let first = envoy.get("/first").send();
    envoy.settle();
    assert!(envoy.redirected(first).is_some());
    let notes = own_notes(&envoy);
    assert_eq!(notes.iter().filter(|note| *note == "no long 0").count(), 3, "{notes:?}");
}

#[test]
fn the_metadata_of_a_route_read_value_by_value() {
    let read = |name: &str| {
        let path = format!("xds\\0route_metadata\\0filter_metadata\\0{name}");
        format!(
            "(call $note @'{name}' (call $get_property @'{path}' {RETURNED}))
             (call $note @'long' (i32.load (i32.const 20)))"
        )
    };
    let body = [
        read("tenantgate\\0module"),
        read("tenantgate\\0weight"),
        read("tenantgate\\0flag"),
        read("tenantgate\\0deep\\0er"),
        read("tenantgate\\0none"),
        read("other\\0module"),
    ]
    .concat();
    let mut envoy = Probe::new()
        .on("request_headers", &format!("{body} (i32.const 0)"))
        .world()
        .route_metadata(&json!({ "other": { "module": "all" } }))
        .start()
        .expect("a world");
    let metadata = json!({ "tenantgate": { "module": "ledger", "weight": 1.5, "flag": true, "deep": { "er": "" } } });
    let _stream = envoy.get("/").route_metadata(&metadata).send();
    let seen: Vec<_> = own_notes(&envoy)
        .chunks(2)
        .map(|pair| {
            let number = |note: &str| {
                note.rsplit(' ')
                    .next()
                    .expect("a number")
                    .parse::<u32>()
                    .expect("digits")
            };
            (number(&pair[0]), number(&pair[1]))
        })
        .collect();
    assert_eq!(seen[0], (0, 6));
    assert_eq!(seen[1], (0, 8));
    assert_eq!(seen[2], (0, 1));
    assert_eq!(seen[3], (0, 0));
    assert_eq!(seen[4].0, 1);
    assert_eq!(seen[5], (0, 3));
}

#[test]
#[should_panic(
    expected = "not modelled by the tiny Envoy: the property xds\\x00route_metadata\\x00filter_metadata\\x00n"
)]
fn a_whole_part_of_the_metadata_of_a_route_is_not_modelled() {
    let read =
        format!("(drop (call $get_property @'xds\\0route_metadata\\0filter_metadata\\0n' {RETURNED})) (i32.const 0)");
    let mut envoy = Probe::new()
        .on("request_headers", &read)
        .world()
        .route_metadata(&json!({ "n": { "a": 1 } }))
        .start()
        .expect("a world");
    let _outcome = envoy.get("/").run();
}
