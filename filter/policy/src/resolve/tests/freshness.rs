//! A tenant on its way through every state, in virtual time.

use super::*;
use Sees::{Record, Refresh, Refused, Unknown, Wait};

/// Fresh for 100 s in the middle of the jitter, stale for 20 s more, a fallback for another 50 s.
const TIMES: &str = r#"{ "cache": { "ttl_seconds": 100, "stale_while_revalidate_seconds": 20,
    "stale_if_error_seconds": 50, "negative_ttl_seconds": 10 } }"#;

fn bench(workers: usize) -> Bench {
    Bench::new(workers, &serde_json::from_str(TIMES).unwrap())
}

/// What a request meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sees {
    /// The record, at once, and nobody is asked.
    Record,
    /// The record, at once, and a lookup is begun that nobody waits for.
    Refresh,
    /// A refusal, at once.
    Refused,
    /// 503, at once.
    Unknown,
    /// It waits; the lookup is begun for it.
    Wait,
}

impl Bench {
    fn sees(&mut self, worker: usize) -> Sees {
        let seen = self.workers[worker].resolve("acme", &self.world);
        let refreshes = self.workers[worker].refreshes();
        self.pending.extend(refreshes.iter().map(|id| (worker, *id)));
        match seen {
            Resolution::Wait(wait) => {
                let id = wait.seat.lookup();
                if wait.begins.is_some() {
                    assert!(self.workers[worker].ask(id).is_some());
                    self.pending.push((worker, id));
                }
                Wait
            }
            Resolution::Known(outcome) => match &*outcome {
                outcome if is_record(outcome) && refreshes.is_empty() => Record,
                outcome if is_record(outcome) => Refresh,
                Outcome::Unavailable(_) => Unknown,
                _ => Refused,
            },
        }
    }

    /// Answers every lookup that is under way.
    fn reply(&mut self, status: u16, body: &str) {
        for (worker, id) in std::mem::take(&mut self.pending) {
            let answered = self.workers[worker].answered(id, status, body, &self.world);
            assert!(matches!(answered, Answered::Over { .. }));
        }
    }

    /// What each of several workers sees at some times; a failed refresh may be followed by another.
    fn walk(&mut self, rows: &[(u64, usize, Sees)]) {
        for (at_ms, worker, expected) in rows {
            self.at(*at_ms);
            assert_eq!(self.sees(*worker), *expected, "worker {worker} at {at_ms} ms");
        }
    }
}

#[test]
fn a_record_is_fresh_then_stale_then_a_fallback_then_forgotten() {
    let mut bench = bench(3);
    bench.walk(&[(0, 0, Wait), (0, 0, Wait), (0, 1, Wait)]);
    assert_eq!(bench.pending.len(), 2, "one lookup per worker, however many wait");
    bench.reply(200, RECORD);
    bench.walk(&[
        (0, 0, Record),
        (0, 1, Record),
        // This one has it from the node.
        (0, 2, Record),
        (99_999, 0, Record),
        (99_999, 1, Record),
        (100_000, 1, Refresh),
        // Everybody goes on serving, nobody asks besides.
        (100_000, 1, Record),
        (100_000, 0, Record),
        (100_000, 2, Record),
        (101_499, 0, Record),
        (101_499, 1, Record),
        (101_499, 2, Record),
    ]);
    assert_eq!(bench.pending.len(), 1, "one refresh per node");
    bench.reply(200, RECORD);
    // Who has not looked for 50 ms may serve the old one that long, and asks nobody.
    bench.walk(&[
        (101_550, 0, Record),
        (101_550, 2, Record),
        (101_499 + 99_999, 0, Record),
        (101_499 + 99_999, 1, Record),
        (101_499 + 99_999, 2, Record),
        (101_499 + 100_000, 2, Refresh),
        (101_499 + 100_000, 0, Record),
    ]);
}

#[test]
fn a_refresh_that_fails_is_tried_again_when_its_lease_ends() {
    let mut bench = bench(2);
    bench.walk(&[(0, 0, Wait)]);
    bench.reply(200, RECORD);
    bench.walk(&[(100_000, 0, Refresh), (100_000, 1, Record)]);
    bench.at(100_100);
    bench.reply(500, "");
    bench.walk(&[
        (101_499, 0, Record),
        (101_499, 1, Record),
        (101_549, 1, Refresh),
        (101_549, 0, Record),
    ]);
    // This refresh gets lost with its worker: the next begins when the lease ends.
    bench.pending.clear();
    bench.walk(&[(103_048, 0, Record), (103_098, 0, Refresh)]);
}

#[test]
fn a_record_serves_while_the_tenant_manager_is_down_until_it_is_spent() {
    for failure in [500, 401, 429, 400, 302] {
        let mut bench = bench(2);
        bench.walk(&[(0, 0, Wait)]);
        bench.reply(200, RECORD);
        bench.walk(&[(119_999, 0, Refresh)]);
        bench.reply(500, "");
        // A fallback: somebody has to be asked first, and waits for it.
        bench.walk(&[(120_000, 0, Wait), (120_000, 1, Wait)]);
        for (worker, id) in std::mem::take(&mut bench.pending) {
            let worker = &mut bench.workers[worker];
            let answered = match worker.answered(id, failure, "", &bench.world) {
                Answered::Again(_) => worker.answered(id, failure, "", &bench.world),
                over => over,
            };
            assert!(is_record(&outcome(answered)), "{failure}");
        }
        bench.walk(&[(168_000, 0, Wait)]);
        bench.at(169_999);
        bench.reply(500, "");
        assert_ne!(bench.sees(0), Unknown);
        bench.pending.clear();
        bench.at(170_000);
        let give_up = bench.workers[1].give_up("acme", &bench.world);
        assert_eq!(*give_up, Outcome::Unavailable(Unavailable::TimedOut));
        bench.walk(&[(170_000, 1, Wait)]);
        let (_, id) = bench.pending[0];
        assert_eq!(
            *outcome(bench.workers[1].answered(id, 500, "", &bench.world)),
            Outcome::Unavailable(Unavailable::Failed(LookupFailure::ServerError))
        );
    }
}

#[test]
fn with_an_open_circuit_a_fallback_answers_at_once_until_it_is_spent() {
    let mut bench = bench(2);
    bench.walk(&[(0, 0, Wait)]);
    bench.reply(200, RECORD);
    bench.at(149_999);
    for n in 0..5 {
        bench.workers[0].look_up(&format!("t{n}"), 500, "", &bench.world);
    }
    bench.walk(&[
        (169_999, 0, Record),
        (169_999, 1, Record),
        (170_000, 0, Unknown),
        (170_000, 1, Unknown),
    ]);
    assert!(bench.pending.is_empty());
    assert_eq!(
        *bench.workers[0].known("acme", &bench.world),
        Outcome::Unavailable(Unavailable::CircuitOpen(9_999))
    );
}

#[test]
fn who_waits_too_long_is_given_a_fallback() {
    let mut bench = bench(1);
    bench.walk(&[(0, 0, Wait)]);
    bench.reply(200, RECORD);
    bench.walk(&[(168_400, 0, Wait)]);
    bench.at(169_900);
    assert!(is_record(&bench.workers[0].give_up("acme", &bench.world)));
    assert_eq!(
        bench
            .world
            .counts(Counter::CacheLookups(Level::Shared, CacheOutcome::Fallback)),
        1
    );
}

#[test]
fn a_refusal_holds_for_its_own_time_on_the_whole_node() {
    for (status, body) in [(403, r#"{"status":"suspended"}"#), (403, ""), (422, "")] {
        let mut bench = bench(2);
        bench.walk(&[(0, 0, Wait)]);
        bench.reply(status, body);
        bench.walk(&[
            (0, 1, Refused),
            (9_999, 0, Refused),
            (9_999, 1, Refused),
            (10_000, 0, Wait),
            (10_000, 1, Wait),
        ]);
        // It is never served for longer, not even when nobody can be asked.
        bench.reply(500, "");
        assert_eq!(bench.sees(0), Wait, "{status} {body}");
    }
}

#[test]
fn an_unknown_tenant_is_unknown_to_the_worker_that_has_asked() {
    let mut bench = bench(2);
    bench.walk(&[(0, 0, Wait)]);
    bench.reply(404, "");
    bench.walk(&[(9_999, 0, Refused), (9_999, 1, Wait), (10_000, 0, Wait)]);
}

#[test]
fn a_record_that_says_suspended_refuses_for_as_long_as_a_record_is_fresh() {
    let mut bench = bench(2);
    bench.walk(&[(0, 0, Wait)]);
    bench.reply(200, r#"{"status":"suspended"}"#);
    bench.walk(&[(99_999, 0, Refused), (99_999, 1, Refused), (100_000, 0, Refused)]);
    assert_eq!(bench.pending.len(), 1, "it is refreshed");
    assert_eq!(bench.world.gauge(Gauge::TenantConsumersActive), 0);
}

#[test]
fn what_was_learned_together_is_spread_over_a_tenth_either_way() {
    for (random, fresh_ms) in [
        (0, 90_000),
        (u32::MAX / 4, 94_999),
        (1 << 31, 100_000),
        (u32::MAX, 109_999),
    ] {
        let mut bench = bench(1);
        bench.world.random.set(random);
        bench.walk(&[(0, 0, Wait)]);
        bench.reply(200, RECORD);
        bench.walk(&[(fresh_ms - 1, 0, Record), (fresh_ms, 0, Refresh)]);
    }
    // Refusals are not.
    for random in [0, u32::MAX] {
        let mut bench = bench(1);
        bench.world.random.set(random);
        bench.walk(&[(0, 0, Wait)]);
        bench.reply(422, "");
        bench.walk(&[(9_999, 0, Refused), (10_000, 0, Wait)]);
    }
}

#[test]
fn without_any_grace_a_record_is_asked_about_when_it_is_no_longer_fresh() {
    let none =
        json!({ "cache": { "ttl_seconds": 1, "stale_while_revalidate_seconds": 0, "stale_if_error_seconds": 0 } });
    let mut bench = Bench::new(2, &none);
    bench.walk(&[(0, 0, Wait)]);
    bench.reply(200, RECORD);
    bench.walk(&[(999, 0, Record), (999, 1, Record), (1_000, 0, Wait), (1_000, 1, Wait)]);
    bench.reply(500, "");
    let given_up = bench.workers[0].give_up("acme", &bench.world);
    assert_eq!(*given_up, Outcome::Unavailable(Unavailable::TimedOut));
}

#[test]
fn a_worker_that_was_asleep_takes_over_what_the_node_knows() {
    let mut bench = bench(2);
    bench.walk(&[(0, 0, Wait), (0, 1, Wait)]);
    bench.reply(200, RECORD);
    bench.walk(&[(100_000, 0, Refresh)]);
    bench.reply(200, RECORD);
    // Its own record is past the stale window; the node's is fresh.
    bench.walk(&[(150_000, 1, Record)]);
    assert_eq!(
        bench
            .world
            .counts(Counter::CacheLookups(Level::Shared, CacheOutcome::Hit)),
        1
    );
}
