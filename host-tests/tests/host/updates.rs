//! Updates of the configuration.

use std::time::Duration;

use tiny_envoy::{Answer, Builder, Outcome, TinyEnvoy};

use crate::probe::{Probe, RETURNED, notes, own_notes, pairs};

const MINUTE: Duration = Duration::from_secs(60);

/// Notes its life with the root contexts of it. A configuration of three bytes is refused, one of four
/// is deadly, and one of five is refused where there is an entry `full`.
fn told() -> Probe {
    Probe::new()
        .on(
            "context_create",
            "(if (local.get $root)
               (then (call $note @'stream of' (local.get $root)))
               (else (call $note @'root' (local.get $context))))",
        )
        .on("vm_start", "(call $note @'start' (local.get $context)) (i32.const 1)")
        .on(
            "configure",
            &format!(
                "(call $note @'configure' (local.get $context))
                 (drop (call $get_buffer_bytes (i32.const 7) (i32.const 0) (i32.const 99) {RETURNED}))
                 (call $tell @'config')
                 (if (i32.eq (local.get $size) (i32.const 4)) (then unreachable))
                 (if (i32.and (i32.eq (local.get $size) (i32.const 5))
                              (i32.eqz (call $get_shared_data @'full' {RETURNED} (i32.const 28))))
                   (then (return (i32.const 0))))
                 (i32.ne (local.get $size) (i32.const 3))"
            ),
        )
        .on(
            "request_headers",
            "(call $note @'request' (local.get $context)) (i32.const 1)",
        )
        .on(
            "log",
            &format!(
                "(if (i32.eqz (call $get_property @'response\\0code_details' {RETURNED}))
                   (then (call $tell @'details')))"
            ),
        )
        .on("done", "(call $note @'done' (local.get $context)) (i32.const 1)")
        .on("delete", "(call $note @'delete' (local.get $context))")
}

fn world() -> Builder {
    told().world().config("a").drain_time(MINUTE)
}

/// What worker 0 has noted since the last time.
fn since(envoy: &TinyEnvoy, seen: &mut usize) -> Vec<String> {
    let notes = own_notes(envoy);
    let new = notes[*seen..].to_vec();
    *seen = notes.len();
    new
}

#[test]
fn new_streams_go_to_a_new_root_context_and_the_old_one_lasts_until_it_is_drained() {
    let mut envoy = world().start().expect("a world");
    let mut seen = 0;
    assert_eq!(
        since(&envoy, &mut seen),
        ["root 1", "start 1", "configure 1", "config a"]
    );
    let old = envoy.get("/").send();
    assert_eq!(since(&envoy, &mut seen), ["stream of 1", "request 2"]);
    envoy.update("bb").expect("an update");
    assert_eq!(
        since(&envoy, &mut seen),
        ["root 3", "start 3", "configure 3", "config bb"]
    );
    let new = envoy.get("/").send();
    assert_eq!(since(&envoy, &mut seen), ["stream of 3", "request 4"]);
    envoy.disconnect(old);
    let end = ["details downstream_remote_disconnect", "done 2", "delete 2"];
    assert_eq!(since(&envoy, &mut seen), end);
    envoy.advance(MINUTE - Duration::from_millis(1));
    assert_eq!(since(&envoy, &mut seen), [""; 0]);
    envoy.advance(Duration::from_millis(1));
    assert_eq!(since(&envoy, &mut seen), ["done 1", "delete 1"]);
    assert_eq!(envoy.pending(), [new]);
    envoy.assert_alive();
}

#[test]
fn every_thread_is_told_after_the_canary() {
    let mut envoy = world().workers(2).start().expect("a world");
    let before = notes(&envoy).len();
    envoy.update("bb").expect("an update");
    let of = |worker: &str| {
        let told = ["root", "start", "configure"].map(|what| format!("{worker}{what} {}", 2));
        told.into_iter()
            .chain([format!("{worker}config bb")])
            .collect::<Vec<_>>()
    };
    let canary = ["2: root 1", "2: start 1", "2: configure 1", "2: config bb"].map(str::to_owned);
    let expected: Vec<_> = canary
        .into_iter()
        .chain(of("2: "))
        .chain(of(""))
        .chain(of("1: "))
        .collect();
    assert_eq!(notes(&envoy)[before..], expected);
}

#[test]
fn an_update_that_the_canary_refuses_or_dies_of_changes_nothing() {
    for (config, reason) in [
        ("bbb", "proxy_on_configure returned false"),
        ("bbbb", "proxy_on_configure: "),
    ] {
        let mut envoy = world().start().expect("a world");
        let before = notes(&envoy).len();
        let error = envoy.update(config).expect_err("a refusal");
        assert!(error.reason.starts_with(reason), "{error}");
        assert!(error.logs.len() > before, "what the canary logged is told");
        assert!(
            notes(&envoy)[before..].iter().all(|note| note.starts_with("1: ")),
            "only it was asked"
        );
        let asked = notes(&envoy).len();
        envoy.update(config).expect_err("the same refusal");
        assert_eq!(notes(&envoy).len(), asked, "it is asked once");
        envoy.get("/").send();
        assert_eq!(own_notes(&envoy)[4..], ["stream of 1", "request 2"]);
        envoy.assert_alive();
    }
}

#[test]
fn connections_that_are_open_at_the_end_of_a_drain_are_closed() {
    let mut envoy = world().start().expect("a world");
    let old = envoy.get("/").send();
    envoy.update("bb").expect("an update");
    let new = envoy.get("/").send();
    let mut seen = own_notes(&envoy).len();
    envoy.drained();
    assert_eq!(envoy.outcome(old), Outcome::Gone);
    assert_eq!(envoy.cut(old), None, "not by the plugin");
    assert_eq!(envoy.pending(), [new]);
    let details = "details downstream_local_disconnect(filter_chain_is_being_removed)";
    assert_eq!(
        since(&envoy, &mut seen),
        [details, "done 2", "delete 2", "done 1", "delete 1"]
    );
    envoy.advance(MINUTE);
    assert_eq!(since(&envoy, &mut seen), [""; 0], "once");
}

#[test]
fn a_configuration_that_is_still_drained_is_taken_up_where_it_was_left() {
    let mut envoy = world().start().expect("a world");
    let first = envoy.get("/").send();
    envoy.update("bb").expect("an update");
    envoy.advance(MINUTE / 2);
    let mut seen = own_notes(&envoy).len();
    envoy.update("a").expect("an update");
    envoy.get("/").send();
    assert_eq!(since(&envoy, &mut seen), ["stream of 1", "request 4"]);
    envoy.advance(MINUTE / 2);
    assert_eq!(envoy.outcome(first), Outcome::Gone);
    assert_eq!(since(&envoy, &mut seen)[1..], ["done 2", "delete 2"]);
    envoy.advance(MINUTE / 2);
    assert_eq!(since(&envoy, &mut seen), ["done 3", "delete 3"]);
    envoy.update("a").expect("an update");
    envoy.drained();
    assert_eq!(
        since(&envoy, &mut seen)[1..],
        ["done 4", "delete 4"],
        "nothing but the connections"
    );
}

#[test]
fn a_dead_worker_is_loaded_anew_by_an_update() {
    let mut envoy = world().workers(2).start().expect("a world");
    envoy.kill(0);
    assert_eq!(envoy.get("/").run().replied().status, 503);
    let mut seen = own_notes(&envoy).len();
    envoy.update("bb").expect("an update");
    assert_eq!(
        since(&envoy, &mut seen),
        ["root 1", "start 1", "configure 1", "config bb"]
    );
    envoy.get("/").send();
    assert_eq!(since(&envoy, &mut seen), ["stream of 1", "request 2"]);
}

#[test]
fn workers_take_an_update_over_when_they_get_to_it_and_one_that_refuses_serves_nobody() {
    let mut envoy = world().workers(2).start().expect("a world");
    envoy.update_later("fffff").expect("the canary takes it");
    let old = envoy.get("/").send();
    envoy.set_shared_data("full", "");
    envoy.settle();
    assert_eq!(envoy.get("/").run().replied().status, 503);
    assert_eq!(envoy.get("/").worker(1).run().replied().status, 503);
    assert_eq!(envoy.pending(), [old], "who was there goes on");
    envoy.assert_alive();
    envoy.update("bb").expect("an update");
    assert_eq!(envoy.get("/").run(), Outcome::Pending);
    envoy.drained();
    assert_eq!(envoy.outcome(old), Outcome::Gone);
}

/// Each root context ticks, has the queue `q` while it is the last to ask for it, and calls out at each
/// tick. A global counts the root contexts of the VM.
fn busy() -> Builder {
    let call = pairs(&[(":method", "GET"), (":path", "/"), (":authority", "p")]);
    Probe::new()
        .with("(global $roots (mut i32) (i32.const 0))\n")
        .on(
            "configure",
            "(global.set $roots (i32.add (global.get $roots) (i32.const 1)))
             (drop (call $set_tick_period_milliseconds (i32.const 1000)))
             (drop (call $register_shared_queue @'q' (i32.const 24)))
             (i32.const 1)",
        )
        .on(
            "tick",
            &format!(
                "(call $note @'tick' (local.get $context))
                 (drop (call $http_call @'peer' @'{call}' @'' @'' (i32.const 0) (i32.const 28)))"
            ),
        )
        .on("http_call_response", "(call $note @'answer' (local.get $context))")
        .on("queue_ready", "(call $note @'queue' (local.get $context))")
        .on(
            "request_headers",
            "(call $note @'roots' (global.get $roots))
             (drop (call $enqueue_shared_queue (i32.load (i32.const 24)) @'x'))
             (drop (call $set_shared_data @'n' @'1' (i32.const 0)))
             (i32.const 1)",
        )
        .world()
        .config("a")
        .cluster("peer", |_: &_| Answer::status(200).after(Duration::from_millis(500)))
}

#[test]
fn the_old_root_context_keeps_its_ticks_and_callouts_until_it_is_drained() {
    let second = Duration::from_secs(1);
    let mut envoy = busy().start().expect("a world");
    envoy.update("b").expect("an update");
    envoy.advance(second);
    assert_eq!(own_notes(&envoy), ["tick 1", "tick 2"]);
    envoy.drained();
    envoy.advance(second);
    // The callout of root context 1 went to nobody.
    assert_eq!(own_notes(&envoy)[2..], ["answer 2", "tick 2"]);
    let made = envoy.callouts();
    assert_eq!(made.iter().filter(|callout| callout.worker == 0).count(), 3);
}

#[test]
fn one_vm_one_queue_and_the_shared_data_go_through_an_update() {
    let mut envoy = busy().start().expect("a world");
    envoy.get("/").send();
    envoy.update("b").expect("an update");
    envoy.get("/").send();
    envoy.settle();
    // The worker asked last, behind the main thread, each time; what was put in before the update is told
    // to whom it was meant for then.
    assert_eq!(notes(&envoy), ["roots 1", "roots 2", "queue 1", "queue 3"]);
    assert_eq!(envoy.shared_data().len(), 1);
    assert_eq!(envoy.memory(0).len(), 8 * 65536);
}
