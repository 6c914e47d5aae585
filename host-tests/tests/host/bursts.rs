//! Worlds that go on between bursts of workers that run interleaved under one schedule.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tiny_envoy::{Answer, Burst, BurstError, FailurePolicy, Run, Schedule, TinyEnvoy};

use crate::interleaving::{ask, counted, counters, must_lose, without_compare_and_set};
use crate::probe::{Probe, RETURNED, notes, pairs};

const SECOND: Duration = Duration::from_secs(1);

fn both_ask(envoy: &mut TinyEnvoy) -> Burst<'_> {
    envoy.burst().step(0, ask).step(1, ask)
}

#[test]
fn a_seed_draws_one_schedule_always_the_same_and_seeds_draw_all_there_are() {
    let plugin = without_compare_and_set();
    let mut seen = BTreeSet::new();
    for seed in 0..64 {
        let mut envoy = counters(&plugin);
        let (run, _) = both_ask(&mut envoy).run(seed).expect("no panic");
        assert_eq!(counted(&envoy), if must_lose(&run) { 1 } else { 2 }, "{run}");
        seen.insert(run.schedule().to_string());
        let mut again = counters(&plugin);
        assert_eq!(both_ask(&mut again).run(seed).expect("no panic").0, run);
        let mut replayed = counters(&plugin);
        let (rerun, _) = both_ask(&mut replayed).replay(&run.schedule()).expect("no panic");
        assert_eq!((rerun, counted(&replayed)), (run, counted(&envoy)));
    }
    // Two reads and two writes.
    assert_eq!(seen.len(), 6, "{seen:?}");
}

/// Calls out for every request, and counts the answers in a queue of the node.
fn calling() -> TinyEnvoy {
    let call = pairs(&[(":method", "GET"), (":path", "/"), (":authority", "p")]);
    Probe::new()
        .on(
            "request_headers",
            &format!("(drop (call $http_call @'peer' @'{call}' @'' @'' (i32.const 0) (i32.const 28))) (i32.const 1)"),
        )
        .on(
            "http_call_response",
            "(call $note @'answer' (local.get $token))
             (drop (call $set_shared_data @'last' @'x' (i32.const 0)))",
        )
        .world()
        .cluster("peer", |_: &_| Answer::status(200).after(SECOND))
        .workers(3)
        .start()
        .expect("a world")
}

#[test]
fn a_world_goes_on_between_bursts() {
    let mut envoy = calling();
    let mut answers = 0;
    for seed in 0..20 {
        let mut burst = envoy.burst();
        for worker in 0..3 {
            burst = burst.step(worker, |envoy| {
                envoy.settle();
                envoy.get("/").send();
                envoy.get("/").send();
            });
        }
        let (run, _) = burst.run(seed).expect("no panic");
        let calls = run.acts().iter().filter(|act| act.name == "proxy_http_call").count();
        assert_eq!(calls, 6);
        assert_eq!(notes(&envoy).len(), answers);
        envoy.get("/").send();
        envoy.stall(SECOND);
        envoy.settle();
        answers += 7;
        assert_eq!(notes(&envoy).len(), answers);
    }
    assert_eq!(envoy.elapsed(), 20 * SECOND);
    assert_eq!(envoy.streams().len(), 140, "each has a name of its own");
    envoy.assert_alive();
}

#[test]
fn what_is_due_for_a_worker_happens_in_its_step() {
    let mut envoy = calling();
    for worker in 0..3 {
        envoy.get("/").worker(worker).send();
    }
    envoy.stall(SECOND);
    let (run, _) = envoy
        .burst()
        .step(0, TinyEnvoy::settle)
        .step(2, TinyEnvoy::settle)
        .run(1)
        .expect("no panic");
    let written = run.acts().iter().filter(|act| act.on == "last").map(|act| act.worker);
    assert_eq!(written.collect::<BTreeSet<_>>(), BTreeSet::from([0, 2]));
    assert_eq!(notes(&envoy).len(), 2);
    envoy.settle();
    assert_eq!(notes(&envoy).len(), 3);
}

#[test]
fn a_step_that_panics_is_an_error_and_the_world_is_whole() {
    let mut envoy = counters(&without_compare_and_set());
    let broken = |envoy: &mut TinyEnvoy| -> BurstError {
        let burst = envoy.burst().step(0, ask).step(1, |envoy| {
            ask(envoy);
            panic!("a step went wrong");
        });
        burst.run(3).expect_err("a panic")
    };
    let error = broken(&mut envoy);
    assert_eq!(error.message, "worker 1: a step went wrong");
    assert_eq!(error.run.acts().len(), 4, "everybody has gone on to the end");
    assert!(error.to_string().contains(&error.run.schedule().to_string()), "{error}");
    broken(&mut envoy);
    assert_eq!(envoy.streams().len(), 4);
    both_ask(&mut envoy).run(0).expect("no panic");
    envoy.get("/").worker(1).run();
}

#[test]
fn a_schedule_of_another_burst_is_an_error_or_followed_as_far_as_it_goes() {
    let plugin = without_compare_and_set();
    let schedule: Schedule = "1 1 1 2 0".parse().expect("a schedule");
    let error = both_ask(&mut counters(&plugin))
        .replay(&schedule)
        .expect_err("no such run");
    assert!(error.message.contains("choice 2 is worker 1"), "{error}");
    let along = |schedule: &str| {
        let schedule: Schedule = schedule.parse().expect("a schedule");
        let (run, _) = both_ask(&mut counters(&plugin)).follow(&schedule).expect("no panic");
        run.schedule().to_string()
    };
    assert_eq!(along("1 1 1 2 0"), "1 1 0 0");
    assert_eq!(along("1 0 0"), "1 0 0 1");
    assert_eq!(along(""), "0 0 1 1");
}

#[test]
fn workers_take_an_update_over_while_others_go_on() {
    let plugin = Probe::new()
        .on(
            "configure",
            &format!(
                "(drop (call $register_shared_queue @'q' (i32.const 24)))
                 (drop (call $get_shared_data @'n' {RETURNED} (i32.const 28)))
                 (drop (call $set_shared_data @'n' @'x' (i32.const 0)))
                 (i32.const 1)"
            ),
        )
        .on(
            "request_headers",
            "(call $note @'context' (local.get $context)) (i32.const 0)",
        )
        .plugin();
    let mut runs = BTreeSet::new();
    for seed in 0..8 {
        let mut envoy = counters(&plugin);
        envoy.update_later("b").expect("an update");
        let step = |envoy: &mut TinyEnvoy| {
            envoy.settle();
            envoy.get("/").send();
        };
        let run = envoy
            .burst()
            .step(0, step)
            .step(1, step)
            .step(2, TinyEnvoy::settle)
            .run(seed);
        runs.insert(run.expect("no panic").0.schedule().to_string());
        // The root context of the new configuration is 2.
        let mut seen = notes(&envoy);
        seen.sort();
        assert_eq!(seen, ["1: context 3", "context 3"]);
    }
    assert!(runs.len() > 4, "{runs:?}");
}

#[test]
fn a_vm_that_is_loaded_in_a_burst_is_overtaken_meanwhile() {
    let plugin = Probe::new()
        .on(
            "configure",
            &format!(
                "(drop (call $get_shared_data @'n' {RETURNED} (i32.const 28)))
                 (drop (call $set_shared_data @'n' @'x' (i32.const 0)))
                 (i32.const 1)"
            ),
        )
        .on(
            "request_headers",
            "(drop (call $set_shared_data @'n' @'y' (i32.const 0))) (i32.const 1)",
        )
        .plugin();
    let run = |seed| -> Run {
        let world = TinyEnvoy::builder().plugin(&plugin).workers(2);
        let world = world.failure_policy(FailurePolicy::Reload(Duration::ZERO));
        let mut envoy = world.start().expect("a world");
        envoy.kill(0);
        let (run, _) = both_ask(&mut envoy).run(seed).expect("no panic");
        assert_eq!(envoy.pending().len(), 2);
        run
    };
    let schedules: BTreeSet<_> = (0..16).map(|seed| run(seed).schedule().to_string()).collect();
    assert_eq!(
        schedules.len(),
        4,
        "three acts of one and one of the other: {schedules:?}"
    );
}

#[test]
fn a_vm_that_is_killed_in_a_step_is_dead_afterwards() {
    let mut envoy = calling();
    let burst = envoy.burst().step(0, |envoy| envoy.kill(0)).step(1, ask);
    burst.run(0).expect("no panic");
    assert_eq!(envoy.deaths().len(), 1);
    assert_eq!(envoy.get("/").run().replied().status, 503);
    let error = envoy.burst().step(1, |envoy| envoy.kill(0)).run(0);
    assert!(error.expect_err("another worker").message.contains("its own worker"));
}

#[test]
fn steps_of_one_worker_come_one_after_the_other() {
    let mut envoy = calling();
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut burst = envoy.burst();
    for (number, worker) in [(0, 1), (1, 0), (2, 1), (3, 1)] {
        let order = Arc::clone(&order);
        burst = burst.step(worker, move |envoy| {
            ask(envoy);
            order.lock().expect("no panic").push((worker, number));
        });
    }
    burst.run(5).expect("no panic");
    let mut order = order.lock().expect("no panic").clone();
    order.retain(|(worker, _)| *worker == 1);
    assert_eq!(order, [(1, 0), (1, 2), (1, 3)]);
}

#[test]
fn what_steps_return_comes_in_the_order_of_the_steps() {
    let mut envoy = calling();
    let mut burst = envoy.burst();
    for worker in [2, 0, 1, 0] {
        burst = burst.step(worker, move |envoy| (worker, envoy.get("/").send()));
    }
    let (_, streams) = burst.run(9).expect("no panic");
    assert_eq!(
        streams.iter().map(|(worker, _)| *worker).collect::<Vec<_>>(),
        [2, 0, 1, 0]
    );
    let mut sent: Vec<_> = streams.into_iter().map(|(_, stream)| stream).collect();
    sent.sort();
    assert_eq!(sent, envoy.streams());
    let alone = envoy.get("/").send();
    let names = [format!("{:?}", sent[0]), format!("{alone:?}")];
    assert_eq!(names, ["StreamId(1 of worker 0)", "StreamId(3)"]);
}
