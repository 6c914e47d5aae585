//! The life of VMs: start, refusal, death, and what is not modelled.

use std::time::Duration;

use tiny_envoy::{Answer, FailurePolicy, Outcome, Status, StreamId, TinyEnvoy};

use crate::probe::{Probe, RETURNED, notes, own_notes};

/// Traps on `/trap`, pauses on everything else.
fn trapping() -> Probe {
    Probe::new().on(
        "request_headers",
        &format!(
            "(drop (call $get_header_map_value (i32.const 0) @':path' {RETURNED}))
             (if (i32.eq (i32.load (i32.const 20)) (i32.const 5)) (then unreachable))
             (i32.const 1)"
        ),
    )
}

#[test]
fn a_trap_kills_the_vm_of_its_worker_and_strands_what_waits_there() {
    let mut envoy = trapping().world().workers(2).start().expect("a world");
    let waiting = envoy.get("/").send();
    let other = envoy.get("/").worker(1).send();
    let trapped = envoy.get("/trap").send();
    let reply = envoy.outcome(trapped).replied();
    assert_eq!((reply.status, reply.details.as_str()), (503, "wasm_fail_stream"));
    assert_eq!(envoy.deaths().len(), 1);
    assert_eq!(envoy.deaths()[0].worker, 0);
    envoy.advance(Duration::from_secs(60));
    assert_eq!(envoy.pending(), [waiting, other]);
    // Fail closed: this worker serves nobody any more, the other one does.
    assert_eq!(envoy.get("/").run().replied().status, 503);
    assert_eq!(envoy.get("/").worker(1).run(), Outcome::Pending);
}

#[test]
#[should_panic(expected = "VMs died")]
fn a_dead_vm_does_not_go_unnoticed() {
    let mut envoy = trapping().world().start().expect("a world");
    envoy.get("/trap").send();
    envoy.assert_alive();
}

#[test]
fn the_next_request_reloads_a_dead_vm_where_the_policy_says_so() {
    let policy = FailurePolicy::Reload(Duration::from_secs(1));
    let mut envoy = trapping().world().failure_policy(policy).start().expect("a world");
    let stranded = envoy.get("/").send();
    envoy.get("/trap").send();
    assert_eq!(envoy.get("/").run().replied().status, 503, "within the back-off");
    envoy.advance(Duration::from_secs(1));
    let waiting = envoy.get("/").send();
    assert_eq!(envoy.pending(), [stranded, waiting]);
    assert_eq!(envoy.deaths().len(), 1);
}

#[test]
fn a_refused_configuration_is_an_error_with_the_log() {
    let refusal = Probe::new()
        .on(
            "configure",
            "(call $note @'config bytes' (local.get $size)) (i32.const 0)",
        )
        .world()
        .config("12345")
        .start()
        .expect_err("a refusal");
    assert_eq!(refusal.reason, "proxy_on_configure returned false");
    let logs: Vec<_> = refusal.logs.iter().map(|line| line.message.as_str()).collect();
    assert_eq!(logs, ["config bytes 005"], "only the canary was asked");
}

#[test]
fn configurations_are_readable_while_they_are_given() {
    let read = format!(
        "(call $note @'plugin' (call $get_buffer_bytes (i32.const 7) (i32.const 0) (i32.const 99) {RETURNED}))
         (call $tell @'plugin')
         (drop (call $get_buffer_bytes (i32.const 6) (i32.const 0) (i32.const 99) {RETURNED}))
         (call $tell @'vm')"
    );
    let later = format!(
        "(call $note @'later' (call $get_buffer_bytes (i32.const 7) (i32.const 0) (i32.const 99) {RETURNED}))
         (i32.const 0)"
    );
    let mut envoy = Probe::new()
        .on("configure", &format!("{read} (i32.const 1)"))
        .on("request_headers", &later)
        .world()
        .config("p")
        .vm_config("v")
        .start()
        .expect("a world");
    envoy.get("/").send();
    assert_eq!(own_notes(&envoy), ["plugin 0", "plugin p", "vm v", "later 1"]);
}

#[test]
#[should_panic(expected = "not modelled by the tiny Envoy: proxy_grpc_cancel")]
fn a_hostcall_that_is_not_modelled_fails_the_test() {
    let guest = Probe::new().on("request_headers", "(call $grpc_cancel (i32.const 1))");
    guest.world().start().expect("a world").get("/").send();
}

#[test]
fn an_import_that_does_not_exist_fails_the_start_by_its_name() {
    let error = Probe::new()
        .with("(import \"env\" \"proxy_brew_tea\" (func (param i32)))\n")
        .world()
        .start()
        .expect_err("an unknown import");
    assert!(error.reason.contains("proxy_brew_tea"), "{error}");
}

#[test]
fn a_restricted_capability_is_refused_and_logged_and_others_are_not() {
    let mut envoy = Probe::new()
        .on(
            "request_headers",
            "(call $note @'reply' (call $send_local_response (i32.const 403) @'' @'' @'' (i32.const -1)))
             (call $note @'edit' (call $replace_header_map_value (i32.const 0) @'x-a' @'1'))
             (i32.const 0)",
        )
        .world()
        .restrict_capability("proxy_send_local_response")
        .start()
        .expect("a world");
    let seen = envoy.get("/").run().forwarded();
    assert_eq!(seen.headers.get("x-a"), Some(b"1".as_slice()));
    assert_eq!(
        own_notes(&envoy),
        [
            "Attempted call to restricted proxy-wasm capability: proxy_send_local_response",
            "reply 10",
            "edit 0"
        ]
    );
    assert_eq!(envoy.hostcalls()["proxy_send_local_response"], 1, "attempts count");
}

#[test]
fn a_restricted_capability_that_is_none_fails_the_start_by_its_name() {
    let error = Probe::new()
        .world()
        .restrict_capability("proxy_send_local_respones")
        .start()
        .expect_err("a slip of the pen");
    assert!(error.reason.contains("`proxy_send_local_respones`"), "{error}");
}

#[test]
fn a_guest_that_never_returns_dies() {
    let guest = Probe::new().on("tick", "(loop $ever (br $ever))").on(
        "configure",
        "(drop (call $set_tick_period_milliseconds (i32.const 1))) (i32.const 1)",
    );
    let mut envoy = guest.world().fuel_per_call(1_000_000).start().expect("a world");
    envoy.advance(Duration::from_millis(1));
    assert_eq!(envoy.deaths().len(), 2);
    assert!(envoy.deaths()[0].cause.contains("fuel"), "{:?}", envoy.deaths());
}

#[test]
fn foreign_functions_are_those_of_the_test_and_others_are_not_found() {
    let mut envoy = Probe::new()
        .on(
            "request_headers",
            &format!(
                "(call $note @'unknown' (call $call_foreign_function @'resolve_dns' @'' {RETURNED}))
                 (call $note @'upper' (call $call_foreign_function @'upper' @'abc' {RETURNED}))
                 (call $tell @'upper')
                 (call $note @'refused' (call $call_foreign_function @'upper' @'' {RETURNED}))
                 (call $note @'known' (call $call_foreign_function @'clear_route_cache' @'' {RETURNED}))
                 (i32.const 0)"
            ),
        )
        .world()
        .foreign_function("upper", |argument| match argument {
            [] => Err(Status::BadArgument),
            text => Ok(text.to_ascii_uppercase()),
        })
        .start()
        .expect("a world");
    envoy.get("/").send();
    assert_eq!(
        own_notes(&envoy),
        ["unknown 1", "upper 0", "upper ABC", "refused 2", "known 0"]
    );
}

#[test]
fn hostcalls_and_instructions_are_counted_by_stream() {
    let mut envoy = Probe::new()
        .on(
            "request_headers",
            "(drop (call $remove_header_map_value (i32.const 0) @'a'))
             (drop (call $remove_header_map_value (i32.const 0) @'b'))
             (i32.const 0)",
        )
        .world()
        .start()
        .expect("a world");
    let (first, second) = (envoy.get("/").send(), envoy.get("/").send());
    for stream in [first, second] {
        assert_eq!(envoy.hostcalls_of(stream)["proxy_remove_header_map_value"], 2);
        assert!(envoy.fuel_of(stream) > 0);
    }
    assert_eq!(envoy.fuel_of(first), envoy.fuel_of(second));
    assert_eq!(envoy.hostcalls()["proxy_remove_header_map_value"], 4);
}

#[test]
fn wasi_shows_the_environment_of_the_test_and_seeded_randomness() {
    let world = |seed: u64| {
        Probe::new()
            .with(
                "(import \"wasi_snapshot_preview1\" \"environ_sizes_get\" (func $sizes (param i32 i32) (result i32)))\n\
                 (import \"wasi_snapshot_preview1\" \"environ_get\" (func $environ (param i32 i32) (result i32)))\n\
                 (import \"wasi_snapshot_preview1\" \"random_get\" (func $random (param i32 i32) (result i32)))\n",
            )
            .on(
                "configure",
                "(call $note @'errno' (call $sizes (i32.const 40) (i32.const 44)))
                 (call $note @'count' (i32.load (i32.const 40)))
                 (drop (call $environ (i32.const 48) (i32.const 200)))
                 (i32.store (i32.const 16) (i32.load (i32.const 52)))
                 (i32.store (i32.const 20) (i32.const 3))
                 (call $tell @'second')
                 (drop (call $random (i32.const 40) (i32.const 1)))
                 (call $note @'random' (i32.load8_u (i32.const 40)))
                 (i32.const 1)",
            )
            .world()
            .env("A", "1")
            .env("B", "2")
            .seed(seed)
            .start()
            .expect("a world")
    };
    let seen = notes(&world(7));
    assert_eq!(seen[..3], ["1: errno 0", "1: count 2", "1: second B=2"]);
    assert_eq!(seen, notes(&world(7)), "the same seed, the same world");
    assert_ne!(seen, notes(&world(8)));
}

/// A world with a stream that waits in the plugin, one that waits for the upstream, and a dead VM.
fn killed(policy: FailurePolicy) -> (TinyEnvoy, [StreamId; 2]) {
    let mut envoy = Probe::new()
        .on(
            "request_headers",
            "(call $note @'asked' (local.get $context)) (local.get $end)",
        )
        .on("tick", "(call $note @'tick' (local.get $context))")
        .on(
            "configure",
            "(drop (call $set_tick_period_milliseconds (i32.const 10000))) (i32.const 1)",
        )
        .world()
        .upstream(|_: &_| Answer::status(200).after(Duration::from_secs(1)))
        .workers(2)
        .failure_policy(policy)
        .start()
        .expect("a world");
    let waiting = envoy.get("/").send();
    let forwarded = envoy.post("/").body("x").send();
    envoy.kill(0);
    envoy.kill(0);
    assert_eq!(envoy.deaths().len(), 1, "once");
    (envoy, [waiting, forwarded])
}

#[test]
fn a_vm_that_is_killed_strands_what_waits_in_it_and_fails_what_was_forwarded() {
    let reload = FailurePolicy::Reload(Duration::ZERO);
    for policy in [FailurePolicy::Closed, reload, FailurePolicy::Open] {
        let (mut envoy, [waiting, forwarded]) = killed(policy);
        envoy.advance(Duration::from_secs(60));
        assert_eq!(envoy.pending(), [waiting]);
        assert_eq!(envoy.response(forwarded).expect("an answer").status(), 503);
        // Nothing but a request brings it back; the others live.
        let ticks = |of: &str| notes(&envoy).iter().filter(|note| *note == of).count();
        assert_eq!([ticks("tick 1"), ticks("1: tick 1"), ticks("2: tick 1")], [0, 6, 6]);
        assert_eq!(envoy.get("/").worker(1).run(), Outcome::Pending);
    }
}

#[test]
fn requests_after_a_death_are_served_as_the_policy_says() {
    let (mut closed, _) = killed(FailurePolicy::Closed);
    assert_eq!(closed.get("/").run().replied().details, "wasm_fail_stream");
    let (mut reloading, _) = killed(FailurePolicy::Reload(Duration::ZERO));
    reloading.get("/").send();
    assert_eq!(own_notes(&reloading).last().map(String::as_str), Some("asked 2"));
    let (mut open, _) = killed(FailurePolicy::Open);
    let asked = own_notes(&open).len();
    let stream = open.get("/").header("x-owned", "forged").send();
    assert_eq!(
        open.outcome(stream).forwarded().headers.get("x-owned"),
        Some(b"forged".as_slice())
    );
    open.advance(Duration::from_secs(1));
    assert_eq!(open.response(stream).expect("an answer").status(), 200);
    assert_eq!(own_notes(&open).len(), asked);
}

#[test]
fn a_callback_that_traps_where_requests_may_pass_fails_its_own_request() {
    let mut envoy = trapping()
        .world()
        .failure_policy(FailurePolicy::Open)
        .start()
        .expect("a world");
    assert_eq!(envoy.get("/trap").run().replied().status, 503);
    envoy.get("/trap").run().forwarded();
}

#[test]
fn the_main_thread_can_be_killed_too() {
    let (mut envoy, _) = killed(FailurePolicy::Closed);
    envoy.kill(2);
    envoy.advance(Duration::from_secs(60));
    assert!(!notes(&envoy).contains(&"2: tick 1".to_owned()));
    assert_eq!(envoy.deaths()[1].worker, 2);
}
