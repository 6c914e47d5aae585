//! Workers that run interleaved, under every schedule.

use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tiny_envoy::{Answer, Explorer, Plugin, Run, Scene, Schedule, TinyEnvoy};

use crate::probe::{Probe, RETURNED, notes, own_notes};

/// Adds one to the byte under `n`: reads it, and writes it with this compare-and-set number, `retry`
/// follows.
fn counting(cas: &str, retry: &str) -> Plugin {
    Probe::new()
        .on(
            "request_headers",
            &format!(
                "(loop $again
                   (drop (call $get_shared_data @'n' {RETURNED} (i32.const 28)))
                   (i32.store8 (i32.const 300) (i32.add (i32.const 1) (i32.load8_u (i32.load (i32.const 16)))))
                   (call $set_shared_data @'n' (i32.const 300) (i32.const 1) {cas})
                   {retry})
                 (i32.const 1)"
            ),
        )
        .plugin()
}

pub(crate) fn without_compare_and_set() -> Plugin {
    counting("(i32.const 0)", "(drop)")
}

fn with_compare_and_set() -> Plugin {
    counting("(i32.load (i32.const 28))", "(br_if $again)")
}

/// A world of two workers whose `n` is 0.
pub(crate) fn counters(plugin: &Plugin) -> TinyEnvoy {
    let world = TinyEnvoy::builder().plugin(plugin).workers(2);
    let mut envoy = world.start().expect("a world");
    envoy.set_shared_data("n", [0]);
    envoy
}

pub(crate) fn ask(envoy: &mut TinyEnvoy) {
    envoy.get("/").send();
}

fn open(envoy: &mut TinyEnvoy) {
    envoy.post("/").open();
}

pub(crate) fn counted(envoy: &TinyEnvoy) -> u8 {
    envoy.shared_data()[b"n".as_slice()].value[0]
}

/// Whether both workers read before either wrote.
pub(crate) fn must_lose(run: &Run) -> bool {
    let first_write = run.acts().iter().position(|act| act.name == "proxy_set_shared_data");
    let reads = run.acts()[..first_write.expect("somebody wrote")].iter();
    reads.filter(|act| act.name == "proxy_get_shared_data").count() == 2
}

#[test]
fn an_update_without_compare_and_set_is_lost_in_exactly_the_schedules_that_must_lose_it() {
    let plugin = without_compare_and_set();
    let lost = Arc::new(AtomicU64::new(0));
    let stage = || {
        let lost = Arc::clone(&lost);
        Scene::new(counters(&plugin))
            .step(0, ask)
            .step(1, ask)
            .check(move |envoy, run| {
                let has_lost = counted(envoy) == 1;
                assert_eq!(has_lost, must_lose(run), "{run}");
                lost.fetch_add(u64::from(has_lost), Ordering::Relaxed);
            })
    };
    let explored = Explorer::new().without_pruning().explore(stage);
    println!("{explored}");
    assert_eq!((explored.runs, explored.schedules), (6, Some(6)), "4 over 2");
    assert_eq!(lost.swap(0, Ordering::Relaxed), 4);
    // Two reads commute: who of them was first makes no run of its own.
    let explored = Explorer::new().explore(stage);
    println!("{explored}");
    assert_eq!((explored.runs, explored.schedules), (4, Some(6)));
    assert_eq!(lost.load(Ordering::Relaxed), 2);
}

#[test]
fn an_update_with_compare_and_set_is_never_lost() {
    let plugin = with_compare_and_set();
    for explorer in [Explorer::new(), Explorer::new().without_pruning()] {
        let explored = explorer.explore(|| {
            Scene::new(counters(&plugin))
                .step(0, ask)
                .step(0, ask)
                .step(1, ask)
                .step(1, ask)
                .check(|envoy, run| {
                    assert_eq!(counted(envoy), 4, "{run}");
                    envoy.assert_alive();
                })
        });
        println!("{explored}");
        assert!(explored.schedules > Some(70), "8 over 4, and those with a retry");
    }
}

#[test]
fn a_pruned_search_stands_for_as_many_schedules_as_there_are() {
    let plugin = with_compare_and_set();
    let stage = || Scene::new(counters(&plugin)).step(0, ask).step(1, ask).step(1, ask);
    let whole = Explorer::new().without_pruning().explore(stage);
    for threads in [1, 2, 5] {
        let threads = NonZeroUsize::new(threads).expect("not zero");
        let pruned = Explorer::new().threads(threads).explore(stage);
        assert_eq!(pruned.schedules, Some(u128::from(whole.runs)), "{threads} threads");
        assert!(pruned.runs < whole.runs, "{threads} threads: {pruned}");
    }
}

#[test]
fn a_search_without_end_fails() {
    let plugin = without_compare_and_set();
    let stage = || Scene::new(counters(&plugin)).step(0, ask).step(1, ask);
    Explorer::new().without_pruning().at_most(6).explore(stage);
    let message = message_of(|| {
        Explorer::new().without_pruning().at_most(5).explore(stage);
    });
    assert!(message.contains("more than 5 runs"), "{message}");
}

#[test]
fn a_worker_that_waits_for_another_for_ever_fails_the_search() {
    // Waits until somebody has written `n`; nobody does.
    let plugin = Probe::new()
        .on(
            "request_headers",
            &format!(
                "(loop $again
                   (drop (call $get_shared_data @'n' {RETURNED} (i32.const 28)))
                   (br_if $again (i32.eqz (i32.load8_u (i32.load (i32.const 16))))))
                 (i32.const 1)"
            ),
        )
        .plugin();
    let message = message_of(|| {
        Explorer::new().explore(|| {
            let world = TinyEnvoy::builder().plugin(&plugin).fuel_per_call(1_000_000);
            let mut envoy = world.start().expect("a world");
            envoy.set_shared_data("n", [0]);
            Scene::new(envoy).step(0, ask)
        });
    });
    assert!(message.contains("more than 10000 acts"), "{message}");
}

#[test]
fn a_queue_that_changes_hands_meanwhile_is_not_modelled() {
    let register = "(drop (call $register_shared_queue @'q' (i32.const 24)))";
    let plugin = Probe::new()
        .on("configure", &format!("{register} (i32.const 1)"))
        .on("request_headers", &format!("{register} (i32.const 1)"))
        .plugin();
    let message = message_of(|| {
        Explorer::new().explore(|| Scene::new(counters(&plugin)).step(0, ask));
    });
    assert!(message.contains("not modelled by the tiny Envoy: a queue"), "{message}");
}

#[test]
fn acts_on_different_things_are_run_once_and_stand_for_every_order() {
    let hostcalls = |key: &str| {
        format!(
            "(drop (call $set_shared_data @'{key}' @'x' (i32.const 0)))
             (drop (call $get_shared_data @'{key}' {RETURNED} (i32.const 28)))
             (drop (call $increment_metric (i32.load (i32.const 32)) (i64.const 1)))"
        )
    };
    // The first worker has a body to show and its end, the second one has none: 5 acts and 3.
    let plugin = Probe::new()
        .on(
            "configure",
            "(drop (call $define_metric (i32.const 0) @'hits' (i32.const 32))) (i32.const 1)",
        )
        .on(
            "request_headers",
            &format!(
                "(if (local.get $end) (then {}) (else {})) (i32.const 0)",
                hostcalls("a"),
                hostcalls("b")
            ),
        )
        .on(
            "request_body",
            &format!("(drop (call $get_shared_data @'c' {RETURNED} (i32.const 28))) (i32.const 1)"),
        )
        .plugin();
    let stage = || {
        let world = TinyEnvoy::builder().plugin(&plugin).workers(2).start();
        Scene::new(world.expect("a world"))
            .step(0, |envoy| {
                envoy.post("/").body("x").send();
            })
            .step(1, |envoy| {
                let stream = envoy.post("/").open();
                envoy.disconnect(stream);
            })
            .check(|envoy, _| assert_eq!(envoy.metric("hits"), Some(2)))
    };
    // Both write `b`; and with a request that ends with its headers they write different keys.
    let conflicting = Explorer::new().explore(stage);
    assert_eq!(conflicting.schedules, Some(56), "8 over 3");
    assert_eq!(Explorer::new().without_pruning().explore(stage).runs, 56);
    let apart = || {
        let world = TinyEnvoy::builder().plugin(&plugin).workers(2).start();
        Scene::new(world.expect("a world"))
            .step(0, |envoy| {
                envoy.post("/").body("x").send();
            })
            .step(1, |envoy| {
                let stream = envoy.get("/").send();
                envoy.disconnect(stream);
            })
    };
    let explored = Explorer::new().explore(apart);
    assert_eq!((explored.runs, explored.redundant), (1, 0));
    // The request that ends is forwarded, which is an act too.
    assert_eq!(explored.schedules, Some(126), "9 over 4");
}

#[test]
fn whoever_looks_at_a_metric_sees_it_before_and_after_the_others_change_it() {
    let plugin = Probe::new()
        .on(
            "configure",
            "(drop (call $define_metric (i32.const 1) @'level' (i32.const 32))) (i32.const 1)",
        )
        .on(
            "request_headers",
            "(if (local.get $end)
               (then (drop (call $get_metric (i32.load (i32.const 32)) (i32.const 40)))
                     (call $note @'level' (i32.load (i32.const 40))))
               (else (drop (call $increment_metric (i32.load (i32.const 32)) (i64.const 2)))))
             (i32.const 1)",
        )
        .plugin();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let explored = Explorer::new().explore(|| {
        let seen = Arc::clone(&seen);
        let world = TinyEnvoy::builder().plugin(&plugin).workers(3).start();
        Scene::new(world.expect("a world"))
            .step(0, ask)
            .step(1, open)
            .step(2, open)
            .check(move |envoy, _| seen.lock().expect("no panic").extend(own_notes(envoy)))
    });
    let mut seen = std::mem::take(&mut *seen.lock().expect("no panic"));
    seen.sort();
    assert_eq!(seen, ["level 0", "level 2", "level 2", "level 4"]);
    assert_eq!((explored.runs, explored.schedules), (4, Some(6)));
}

#[test]
fn a_schedule_that_fails_is_named_and_fails_again_when_it_is_run_alone() {
    let plugin = without_compare_and_set();
    let stage = || {
        Scene::new(counters(&plugin))
            .step(0, ask)
            .step(1, ask)
            .check(|envoy, _| assert_eq!(counted(envoy), 2, "an update was lost"))
    };
    let message = message_of(|| {
        Explorer::new().explore(stage);
    });
    assert!(message.contains("an update was lost"), "{message}");
    assert!(message.contains("worker 1: proxy_get_shared_data of n"), "{message}");
    let schedule = message.split('"').nth(1).expect("a schedule in quotes");
    let schedule: Schedule = schedule.parse().expect("a schedule");
    let again = message_of(|| {
        Explorer::new().replay(&schedule, stage);
    });
    assert!(again.contains("an update was lost"), "{again}");
    assert!(again.contains(&format!("\"{schedule}\"")), "{again}");
    // Under another schedule the same scene holds.
    let serial: Schedule = "0 0 1 1".parse().expect("a schedule");
    let run = Explorer::new().replay(&serial, stage);
    assert_eq!(run.schedule(), serial);
}

#[test]
fn a_schedule_of_another_scene_is_refused() {
    let plugin = without_compare_and_set();
    let too_often: Schedule = "0 0 0 1".parse().expect("a schedule");
    let stage = || Scene::new(counters(&plugin)).step(0, ask).step(1, ask);
    let message = message_of(|| {
        Explorer::new().replay(&too_often, stage);
    });
    assert!(message.contains("choice 2 is worker 0"), "{message}");
}

#[test]
fn a_step_that_panics_fails_the_search_and_stops_nobody() {
    let plugin = without_compare_and_set();
    let stage = || {
        Scene::new(counters(&plugin)).step(0, ask).step(1, |envoy| {
            ask(envoy);
            panic!("a step went wrong");
        })
    };
    let message = message_of(|| {
        Explorer::new().explore(stage);
    });
    assert!(message.contains("a step went wrong"), "{message}");
    let message = message_of(|| {
        Explorer::new().explore(|| panic!("no world"));
    });
    assert!(message.contains("no world"), "{message}");
}

#[test]
fn a_vm_that_dies_in_a_step_is_dead_afterwards_and_the_others_go_on() {
    let plugin = Probe::new()
        .on(
            "request_headers",
            &format!(
                "(drop (call $get_shared_data @'n' {RETURNED} (i32.const 28)))
                 (if (i32.eqz (local.get $end)) (then unreachable))
                 (i32.const 0)"
            ),
        )
        .plugin();
    let explored = Explorer::new().without_pruning().explore(|| {
        Scene::new(counters(&plugin))
            .step(0, open)
            .step(1, ask)
            .check(|envoy, _| {
                assert_eq!(envoy.deaths().len(), 1);
                assert_eq!(envoy.deaths()[0].worker, 0);
                assert_eq!(envoy.get("/").worker(0).run().replied().status, 503);
                envoy.get("/").worker(1).run().forwarded();
            })
    });
    assert_eq!(explored.runs, 3);
}

/// Calls out for every request, and notes what came back.
fn calling_out() -> Probe {
    Probe::new()
        .on(
            "request_headers",
            &format!(
                "(drop (call $http_call @'peer' @'{}' @'' @'' (i32.const 1000) (i32.const 28))) (i32.const 1)",
                crate::probe::pairs(&[(":method", "GET"), (":path", "/"), (":authority", "p")])
            ),
        )
        .on(
            "http_call_response",
            "(drop (call $set_shared_data @'n' @'answered' (i32.const 0))) (call $note @'answer' (local.get $token))",
        )
}

#[test]
fn a_step_lets_happen_what_is_due_for_its_own_worker_and_nothing_else() {
    let plugin = calling_out().plugin();
    let delay = Duration::from_millis(20);
    let explored = Explorer::new().explore(|| {
        let world = TinyEnvoy::builder()
            .plugin(&plugin)
            .workers(3)
            .cluster("peer", move |_: &_| Answer::status(200).after(delay));
        let mut envoy = world.start().expect("a world");
        for worker in 0..3 {
            envoy.get("/").worker(worker).send();
        }
        envoy.stall(delay);
        assert_eq!(notes(&envoy), Vec::<String>::new(), "due and not done");
        Scene::new(envoy)
            .step(0, TinyEnvoy::settle)
            .step(2, TinyEnvoy::settle)
            .check(|envoy, _| {
                let mut seen = notes(envoy);
                seen.sort();
                assert_eq!(seen, ["2: answer 1", "answer 1"]);
                envoy.settle();
                assert_eq!(notes(envoy).len(), 3);
            })
    });
    // Of the two looks at what is due and the write, only the writes conflict.
    assert_eq!((explored.runs, explored.schedules), (2, Some(20)));
}

#[test]
fn what_is_put_into_a_queue_is_delivered_before_or_after_its_reader_looks() {
    let plugin = Probe::new()
        .on(
            "configure",
            "(drop (call $register_shared_queue @'q' (i32.const 24))) (i32.const 1)",
        )
        .on(
            "request_headers",
            "(drop (call $enqueue_shared_queue (i32.load (i32.const 24)) @'one')) (i32.const 1)",
        )
        .on(
            "queue_ready",
            &format!("(call $note @'took' (call $dequeue_shared_queue (local.get $queue) {RETURNED}))"),
        )
        .plugin();
    let seen = Arc::new(Mutex::new(Vec::new()));
    for explorer in [Explorer::new(), Explorer::new().without_pruning()] {
        let explored = explorer.explore(|| {
            let seen = Arc::clone(&seen);
            let world = TinyEnvoy::builder().plugin(&plugin).workers(2).start();
            let envoy = world.expect("a world");
            // The last worker, number 1, registered last.
            Scene::new(envoy)
                .step(0, ask)
                .step(1, TinyEnvoy::settle)
                .check(move |envoy, _| seen.lock().expect("no panic").push(notes(envoy)))
        });
        assert_eq!((explored.runs, explored.schedules), (2, Some(2)));
        let mut seen = std::mem::take(&mut *seen.lock().expect("no panic"));
        seen.sort();
        assert_eq!(seen, [vec![], vec!["1: took 0".to_owned()]]);
    }
}

#[test]
fn beginnings_and_ends_of_steps_are_acts_where_real_time_matters() {
    let plugin = Probe::new().on("request_headers", "(i32.const 1)").plugin();
    let stage = || Scene::new(counters(&plugin)).step(0, ask).step(1, ask);
    assert_eq!(Explorer::new().explore(stage).runs, 1);
    let explored = Explorer::new().in_real_time().explore(stage);
    // One before the other, the other before the one, or at the same time.
    assert_eq!((explored.runs, explored.schedules), (3, Some(6)));
    let serial: Schedule = "1 1 0 0".parse().expect("a schedule");
    let run = Explorer::new().in_real_time().replay(&serial, stage);
    assert_eq!(
        run.to_string().lines().collect::<Vec<_>>(),
        [
            "worker 1: beginning of step 0",
            "worker 1: end of step 0",
            "worker 0: beginning of step 0",
            "worker 0: end of step 0"
        ]
    );
}

#[test]
fn time_stands_still_in_steps() {
    let plugin = without_compare_and_set();
    let stage = || Scene::new(counters(&plugin)).step(0, |envoy| envoy.advance(Duration::from_millis(1)));
    let message = message_of(|| {
        Explorer::new().explore(stage);
    });
    assert!(message.contains("time stands still"), "{message}");
}

#[test]
fn a_step_sends_requests_to_its_own_worker_only() {
    let plugin = without_compare_and_set();
    let stage = || {
        Scene::new(counters(&plugin)).step(1, |envoy| {
            envoy.get("/").worker(0).send();
        })
    };
    let message = message_of(|| {
        Explorer::new().explore(stage);
    });
    assert!(message.contains("its own worker"), "{message}");
}

fn message_of(run: impl FnOnce()) -> String {
    let payload = catch_unwind(AssertUnwindSafe(run)).expect_err("a panic");
    *payload.downcast::<String>().expect("a formatted message")
}
