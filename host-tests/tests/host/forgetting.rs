//! Long worlds, in which what is over is forgotten.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use tiny_envoy::{Answer, TinyEnvoy};

use crate::probe::{Probe, pairs};

/// Calls out and logs at each request, and lets it go on; what does not end waits.
fn world() -> TinyEnvoy {
    let call = pairs(&[(":method", "GET"), (":path", "/"), (":authority", "p")]);
    Probe::new()
        .on(
            "request_headers",
            &format!(
                "(call $note @'request' (local.get $context))
                 (drop (call $http_call @'peer' @'{call}' @'' @'' (i32.const 0) (i32.const 28)))
                 (i32.eqz (local.get $end))"
            ),
        )
        .world()
        .cluster("peer", |_: &_| Answer::status(200))
        .upstream(|_: &_| Answer::status(200).after(Duration::from_secs(1)))
        .workers(2)
        .start()
        .expect("a world")
}

#[test]
fn what_is_over_is_forgotten_and_what_is_not_is_kept() {
    let mut envoy = world();
    let waiting = envoy.post("/").open();
    let done = envoy.get("/").send();
    let left = envoy.get("/").worker(1).send();
    envoy.disconnect(left);
    envoy.forget_finished();
    assert_eq!(envoy.streams(), [waiting, done]);
    // The upstream answers somebody who left and is forgotten.
    envoy.advance(Duration::from_secs(1));
    assert_eq!(envoy.response(done).expect("an answer").status(), 200);
    envoy.forget(done);
    assert_eq!(envoy.streams(), [waiting]);
    assert_eq!(envoy.pending(), [waiting]);
    envoy.end(waiting);
    envoy.assert_alive();
}

#[test]
fn a_stream_that_is_not_over_cannot_be_forgotten_nor_a_forgotten_one_be_asked_for() {
    let mut envoy = world();
    let waiting = envoy.post("/").open();
    catch_unwind(AssertUnwindSafe(|| envoy.forget(waiting))).expect_err("it waits");
    envoy.disconnect(waiting);
    envoy.forget(waiting);
    catch_unwind(AssertUnwindSafe(|| envoy.outcome(waiting))).expect_err("it is forgotten");
}

#[test]
fn log_lines_and_callouts_can_be_taken_out() {
    let mut envoy = world();
    for round in 1..=3 {
        envoy.get("/").send();
        envoy.get("/").worker(1).send();
        let workers: Vec<_> = envoy.take_callouts().iter().map(|callout| callout.worker).collect();
        assert_eq!(workers, [0, 1], "round {round}");
        assert_eq!(envoy.take_logs().len(), 2, "round {round}");
    }
    assert!(envoy.logs().is_empty() && envoy.callouts().is_empty());
}

#[test]
fn a_world_can_be_watched_event_by_event() {
    let mut envoy = world();
    assert_eq!(envoy.next_event_at(), None);
    envoy.advance(Duration::from_secs(5));
    envoy.get("/").send();
    // The answer to the callout is due at once, that of the upstream in a second.
    assert_eq!(envoy.next_event_at(), Some(Duration::from_secs(5)));
    envoy.settle();
    assert_eq!(envoy.next_event_at(), Some(Duration::from_secs(6)));
    envoy.get("/").send();
    assert_eq!(envoy.callouts_since(1).len(), 1);
    assert_eq!(envoy.logs_since(1)[0].message, "request 003");
    assert!(envoy.logs_since(9).is_empty());
}
