//! Shared data, queues, stats and ticks.

use std::time::Duration;

use crate::probe::{Probe, RETURNED, notes, own_notes};

#[test]
fn shared_data_is_written_only_with_the_right_cas_unless_the_key_is_missing() {
    let envoy = Probe::new()
        .on(
            "request_headers",
            &format!(
                "(call $note @'missing' (call $get_shared_data @'k' {RETURNED} (i32.const 28)))
                 (call $note @'missing with a cas' (call $set_shared_data @'k' @'one' (i32.const 77)))
                 (call $note @'wrong cas' (call $set_shared_data @'k' @'two' (i32.const 77)))
                 (call $note @'create if absent' (call $set_shared_data @'k' @'two' (i32.const -1)))
                 (call $note @'get' (call $get_shared_data @'k' {RETURNED} (i32.const 28)))
                 (call $tell @'value')
                 (call $note @'right cas' (call $set_shared_data @'k' @'three' (i32.load (i32.const 28))))
                 (call $note @'unconditional' (call $set_shared_data @'k' @'four' (i32.const 0)))
                 (i32.const 0)"
            ),
        )
        .world()
        .start();
    let mut envoy = envoy.expect("a world");
    envoy.get("/").send();
    assert_eq!(
        own_notes(&envoy),
        [
            "missing 1",
            "missing with a cas 0",
            "wrong cas 8",
            "create if absent 8",
            "get 0",
            "value one",
            "right cas 0",
            "unconditional 0"
        ]
    );
    assert_eq!(envoy.shared_data()[b"k".as_slice()].value, b"four");
}

#[test]
fn the_cas_counter_is_one_for_all_keys_and_never_zero() {
    let mut envoy = Probe::new()
        .on(
            "request_headers",
            "(drop (call $set_shared_data @'a' @'1' (i32.const 0)))
             (drop (call $set_shared_data @'b' @'1' (i32.const 0)))
             (i32.const 0)",
        )
        .world()
        .workers(2)
        .start()
        .expect("a world");
    envoy.get("/").worker(0).send();
    envoy.get("/").worker(1).send();
    let data = envoy.shared_data();
    let cas = |key: &[u8]| data[key].cas;
    assert_eq!((cas(b"a"), cas(b"b")), (3, 4));
}

#[test]
fn only_the_last_registrant_of_a_queue_is_told_once_per_entry_and_anybody_may_take_it() {
    let mut envoy = Probe::new()
        .on(
            "configure",
            "(drop (call $register_shared_queue @'q' (i32.const 24))) (i32.const 1)",
        )
        .on(
            "request_headers",
            "(call $note @'unknown' (call $enqueue_shared_queue (i32.const 99) @'x'))
             (call $note @'nobody' (call $resolve_shared_queue @'' @'other' (i32.const 24)))
             (call $note @'resolve' (call $resolve_shared_queue @'' @'q' (i32.const 24)))
             (drop (call $enqueue_shared_queue (i32.load (i32.const 24)) @'one'))
             (drop (call $enqueue_shared_queue (i32.load (i32.const 24)) @'two'))
             (i32.const 0)",
        )
        .on(
            "queue_ready",
            &format!(
                "(call $note @'ready' (call $dequeue_shared_queue (local.get $queue) {RETURNED}))
                 (call $tell @'entry')
                 (call $note @'then' (call $dequeue_shared_queue (local.get $queue) {RETURNED}))"
            ),
        )
        .world()
        .workers(2)
        .start()
        .expect("a world");
    envoy.get("/").send();
    assert_eq!(
        notes(&envoy),
        ["unknown 1", "nobody 1", "resolve 0"],
        "told in a later turn"
    );
    envoy.settle();
    // The last worker, number 1, is configured last. The first call takes both entries.
    let told: Vec<_> = notes(&envoy).into_iter().skip(3).collect();
    assert_eq!(
        told,
        [
            "1: ready 0",
            "1: entry one",
            "1: then 0",
            "1: ready 7",
            "1: entry two",
            "1: then 7"
        ]
    );
}

#[test]
fn stats_are_shared_and_each_definition_gives_a_new_id() {
    let mut envoy = Probe::new()
        .on(
            "request_headers",
            "(drop (call $define_metric (i32.const 0) @'hits' (i32.const 32)))
             (drop (call $define_metric (i32.const 0) @'hits' (i32.const 36)))
             (call $note @'same id' (i32.eq (i32.load (i32.const 32)) (i32.load (i32.const 36))))
             (drop (call $increment_metric (i32.load (i32.const 32)) (i64.const 2)))
             (drop (call $increment_metric (i32.load (i32.const 36)) (i64.const 3)))
             (call $note @'by zero' (call $increment_metric (i32.load (i32.const 32)) (i64.const 0)))
             (call $note @'by less' (call $increment_metric (i32.load (i32.const 32)) (i64.const -1)))
             (drop (call $define_metric (i32.const 1) @'level' (i32.const 32)))
             (drop (call $record_metric (i32.load (i32.const 32)) (i64.const 7)))
             (drop (call $increment_metric (i32.load (i32.const 32)) (i64.const -2)))
             (drop (call $define_metric (i32.const 2) @'ms' (i32.const 32)))
             (drop (call $record_metric (i32.load (i32.const 32)) (i64.const 40)))
             (call $note @'get histogram' (call $get_metric (i32.load (i32.const 32)) (i32.const 40)))
             (call $note @'no such id' (call $get_metric (i32.const 4000) (i32.const 40)))
             (call $note @'no such type' (call $define_metric (i32.const 3) @'x' (i32.const 32)))
             (i32.const 0)",
        )
        .world()
        .workers(2)
        .start()
        .expect("a world");
    assert_eq!(envoy.metric("hits"), None);
    envoy.get("/").worker(0).send();
    envoy.get("/").worker(1).send();
    assert_eq!(envoy.metric("hits"), Some(10));
    assert_eq!(envoy.metric("level"), Some(5));
    assert_eq!(envoy.histogram("ms"), Some(vec![40, 40]));
    assert_eq!(
        own_notes(&envoy),
        [
            "same id 0",
            "by zero 2",
            "by less 2",
            "get histogram 2",
            "no such id 1",
            "no such type 2"
        ]
    );
}

#[test]
fn a_rejected_stat_can_be_defined_and_changed_and_stays_0() {
    let change = "(call $note @'define' (call $define_metric (i32.const 1) @'tiny_level' (i32.const 32)))
         (call $note @'record' (call $record_metric (i32.load (i32.const 32)) (i64.const 7)))
         (call $note @'increment' (call $increment_metric (i32.load (i32.const 32)) (i64.const 1)))
         (call $note @'get' (call $get_metric (i32.load (i32.const 32)) (i32.const 40)))
         (call $note @'value' (i32.load (i32.const 40)))
         (drop (call $define_metric (i32.const 0) @'tiny_level_too' (i32.const 32)))
         (call $note @'by zero' (call $increment_metric (i32.load (i32.const 32)) (i64.const 0)))
         (drop (call $define_metric (i32.const 2) @'tiny_level_ms' (i32.const 32)))
         (call $note @'sample' (call $record_metric (i32.load (i32.const 32)) (i64.const 7)))
         (i32.const 0)";
    let mut seen = Vec::new();
    for prefix in ["tiny_level", "other"] {
        let probe = Probe::new().on("request_headers", change);
        let mut envoy = probe.world().reject_stats(prefix).start().expect("a world");
        envoy.get("/").send();
        seen.push((envoy.metric("tiny_level"), envoy.histogram("tiny_level_ms")));
        let value = if prefix == "other" { "value 8" } else { "value 0" };
        assert_eq!(
            own_notes(&envoy),
            [
                "define 0",
                "record 0",
                "increment 0",
                "get 0",
                value,
                "by zero 2",
                "sample 0"
            ]
        );
    }
    assert_eq!(seen, [(None, None), (Some(8), Some(vec![7]))]);
}

#[test]
fn every_worker_and_the_main_thread_tick_until_the_period_is_zero() {
    let mut envoy = Probe::new()
        .with("(global $ticks (mut i32) (i32.const 0))\n")
        .on(
            "configure",
            "(drop (call $set_tick_period_milliseconds (i32.const 100))) (i32.const 1)",
        )
        .on(
            "tick",
            "(global.set $ticks (i32.add (global.get $ticks) (i32.const 1)))
             (call $note @'tick' (global.get $ticks))
             (if (i32.eq (global.get $ticks) (i32.const 2))
               (then (drop (call $set_tick_period_milliseconds (i32.const 0)))))",
        )
        .world()
        .start()
        .expect("a world");
    envoy.advance(Duration::from_millis(99));
    assert!(notes(&envoy).is_empty());
    envoy.advance(Duration::from_millis(1));
    assert_eq!(notes(&envoy), ["1: tick 1", "tick 1"]);
    envoy.advance(Duration::from_secs(10));
    assert_eq!(notes(&envoy), ["1: tick 1", "tick 1", "1: tick 2", "tick 2"]);
}

#[test]
fn time_moves_only_when_it_is_told_to() {
    let mut envoy = Probe::new()
        .on(
            "request_headers",
            "(drop (call $get_current_time_nanoseconds (i32.const 40)))
             (call $note @'second' (i32.wrap_i64 (i64.rem_u
               (i64.div_u (i64.load (i32.const 40)) (i64.const 1000000000)) (i64.const 100))))
             (i32.const 0)",
        )
        .world()
        .start()
        .expect("a world");
    envoy.get("/").send();
    envoy.advance(Duration::from_secs(7));
    envoy.get("/").send();
    assert_eq!(tiny_envoy::START_UNIX_SECONDS % 100, 0);
    assert_eq!(own_notes(&envoy), ["second 0", "second 7"]);
    assert_eq!(envoy.unix_seconds(), tiny_envoy::START_UNIX_SECONDS + 7);
}
