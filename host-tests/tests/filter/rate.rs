//! The rate limit of a tenant on several workers, over time, and where there is too little room for it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tiny_envoy::{Builder, Explored, Explorer, Outcome, Scene, StreamId};

use crate::dice::Dice;
use crate::world::{ACCOUNTS, World, config, denied, forwarded_for, ms, retry_after};

const FALLBACKS: &str = "tenantgate_rate_limit_fallbacks_total";
const BUCKETS: &[u8] = b"tenantgate.rate";
const WORKERS: &[u8] = b"tenantgate.workers";

/// The verified claim is enough, and nothing else is asked about a tenant.
fn limited(rate_limit: Value) -> Value {
    config(json!({ "tenant_manager": null, "modules": null, "rate_limit": rate_limit }))
}

fn world(workers: usize, rate_limit: Value) -> World {
    World::start(&limited(rate_limit), |builder: Builder| builder.workers(workers))
}

impl World {
    /// Whether a request of a tenant is admitted on a worker now. It says when to come again if not.
    #[track_caller]
    fn admits(&mut self, tenant: &str, worker: usize) -> bool {
        match self.ask_now(tenant, worker) {
            outcome @ Outcome::Forwarded(_) => {
                assert_eq!(forwarded_for(outcome), tenant);
                true
            }
            outcome => {
                assert!(retry_after(outcome.clone()) >= 1);
                assert_eq!(denied(outcome), (429, "TENANT_RATE_LIMITED".to_owned()));
                false
            }
        }
    }

    /// How many of so many requests are admitted now, on all workers in turn.
    #[track_caller]
    fn admitted(&mut self, tenant: &str, requests: usize) -> usize {
        let workers = self.envoy.workers();
        (0..requests).filter(|n| self.admits(tenant, n % workers)).count()
    }
}

#[test]
fn four_workers_admit_the_rate_and_a_greedy_tenant_costs_another_nothing() {
    const RATE: usize = 40;
    const BURST: usize = 4;
    const SECONDS: usize = 10;
    let mut world = world(4, json!({ "requests_per_second": RATE, "burst": BURST }));
    // Everybody's burst is used up where the ten seconds begin.
    assert_eq!(world.admitted("greedy", 50), BURST);
    let (mut greedy, mut polite) = (0, 0);
    for step in 1..=SECONDS * 1000 {
        world.envoy.advance(ms(1));
        // 2000 requests in a second: fifty times the limit.
        for worker in [step % 4, (step + 2) % 4] {
            greedy += usize::from(world.admits("greedy", worker));
        }
        // Exactly as often as it may.
        if step % (1000 / RATE) == 0 {
            polite += usize::from(world.admits("polite", (step / 25) % 4));
        }
        let most = RATE * step / 1000 + 1;
        assert!(greedy <= most, "{greedy} of {most} after {step} ms");
    }
    let wanted = RATE * SECONDS;
    assert!(greedy.abs_diff(wanted) * 50 <= wanted, "{greedy} of {wanted}");
    assert_eq!(polite, wanted);
    assert_eq!(world.envoy.metric(FALLBACKS), Some(0));
    world.assert_healthy();
}

#[test]
fn a_worker_that_dies_fills_no_bucket() {
    let mut world = World::of_mortals(2, json!({ "rate_limit": { "requests_per_second": 1, "burst": 3 } }));
    // A record is there by then.
    world.run_on("acme", 0).forwarded();
    world.run_on("acme", 1).forwarded();
    assert!(world.admits("acme", 0));
    assert!(!world.admits("acme", 0));
    world.kill(0);
    world.run_on("acme", 0).replied();
    assert!(!world.admits("acme", 0));
    world.envoy.advance(ms(1000));
    assert!(world.admits("acme", 0));
    assert!(!world.admits("acme", 1));
}

/// A node whose table has room for eight tenants and holds eight, for a minute at least.
fn full(workers: usize, rate: usize, burst: usize) -> World {
    let slow: BTreeMap<_, _> = (0..8)
        .map(|n| (format!("t{n}"), json!({ "requests_per_second": 1, "burst": 100 })))
        .collect();
    let mut world = world(
        workers,
        json!({ "requests_per_second": rate, "burst": burst, "shared_slots": 8, "overrides": slow }),
    );
    for n in 0..8 {
        assert_eq!(world.admitted(&format!("t{n}"), 60), 60);
    }
    assert_eq!(world.envoy.metric(FALLBACKS), Some(0));
    world
}

#[test]
fn where_the_table_is_full_workers_share_the_rate_among_them() {
    const VMS: usize = 3;
    let (rate, burst, seconds) = (30, 30, 10);
    let mut world = full(VMS, rate, burst);
    // Every VM has its part that may come to serve: that of the main thread too, and while its word lasts
    // the one in which the configuration was tried.
    let least = |whole: usize| whole * VMS / (VMS + 2) - VMS;
    let at_once = world.admitted("ninth", 200);
    assert!((least(burst)..=burst).contains(&at_once), "{at_once} of {burst}");
    assert!(world.envoy.metric(FALLBACKS) >= Some(200));
    let mut admitted = 0;
    for step in 1..=seconds * 100 {
        world.envoy.advance(ms(10));
        admitted += world.admitted("ninth", VMS);
        let most = rate * step / 100 + VMS;
        assert!(admitted <= most, "{admitted} of {most} after {step}0 ms");
    }
    let wanted = rate * seconds;
    assert!(
        (least(wanted)..=wanted + VMS).contains(&admitted),
        "{admitted} of {wanted}"
    );
    // Those that have a place are limited as ever.
    assert_eq!(world.admitted("t0", 200), 100 - 60 + seconds);
    world.assert_healthy();
}

#[test]
fn where_the_table_was_full_a_place_gets_free_and_what_was_admitted_counts() {
    let mut world = full(2, 1, 4);
    let alone = world.admitted("ninth", 20);
    assert!((2..=4).contains(&alone), "{alone}: one at least for each");
    let before = world.envoy.metric(FALLBACKS);
    // The eight are full again by then, and so is the ninth.
    world.envoy.advance(ms(70_000));
    assert_eq!(world.admitted("ninth", 20), 4);
    assert_eq!(world.envoy.metric(FALLBACKS), before);
    // One in the table, eight that want to: only one finds no place.
    for n in 0..8 {
        assert_eq!(world.admitted(&format!("t{n}"), 2), 2);
    }
    assert!(world.envoy.metric(FALLBACKS) > before);
}

#[test]
fn garbage_in_the_table_kills_nobody_and_locks_nobody_out_for_good() {
    let mut world = world(2, json!({ "requests_per_second": 10, "burst": 5, "shared_slots": 64 }));
    let tenants = ["acme", "globex", "initech"];
    let mut dice = Dice(7);
    for tenant in tenants {
        world.admitted(tenant, 2);
    }
    let ours: Vec<_> = world
        .envoy
        .shared_data()
        .into_keys()
        .filter(|key| key.starts_with(BUCKETS) || key.starts_with(WORKERS))
        .collect();
    assert!(ours.len() >= 3, "the seed, the workers and a set: {ours:?}");
    for round in 0..300 {
        for key in &ours {
            let known = world.envoy.shared_data()[key].value.clone();
            let garbage = match dice.below(4) {
                0 => dice.bytes(64),
                1 => known[..dice.below(known.len() + 1)].to_vec(),
                2 => Vec::new(),
                _ => {
                    let mut bent = known;
                    if !bent.is_empty() {
                        let place = dice.below(bent.len());
                        bent[place] ^= 1 << dice.below(8);
                    }
                    bent
                }
            };
            world.envoy.set_shared_data(key, garbage);
        }
        for tenant in tenants {
            let admitted = world.admitted(tenant, 12);
            assert!(admitted <= 10, "round {round}: a burst at most, on each worker");
        }
        world.envoy.advance(ms(600));
    }
    // What a bucket may say at most: that it takes a million seconds to fill.
    world.envoy.stall(Duration::from_secs(1_000_000));
    for tenant in tenants {
        assert_eq!(world.admitted(tenant, 12), 5, "{tenant}");
    }
    world.assert_healthy();
}

/// Two workers get so many requests of one tenant each, at the same time, under every schedule there is.
fn race(about: &str, burst: usize, each: usize, is_warm: bool) -> Explored {
    let config = limited(json!({ "requests_per_second": 1, "burst": burst }));
    let explored = Explorer::new().explore(|| {
        let mut world = World::start(&config, |builder: Builder| builder.workers(2));
        if is_warm {
            for worker in 0..2 {
                assert!(world.admits(&format!("other{worker}"), worker));
            }
        }
        let bearer = world.bearer("acme");
        let mut scene = Scene::new(world.envoy);
        for worker in 0..2 {
            for _ in 0..each {
                let bearer = bearer.clone();
                scene = scene.step(worker, move |envoy| {
                    envoy
                        .get(ACCOUNTS)
                        .worker(worker)
                        .header("authorization", bearer)
                        .send();
                });
            }
        }
        let streams_before = if is_warm { 2 } else { 0 };
        scene.check(move |envoy, run| {
            let asked: Vec<StreamId> = envoy.streams().into_iter().skip(streams_before).collect();
            assert_eq!(asked.len(), 2 * each);
            let forwarded = |id: &&StreamId| matches!(envoy.outcome(**id), Outcome::Forwarded(_));
            let admitted = asked.iter().filter(forwarded).count();
            assert_eq!(admitted, burst, "{run}");
            for stream in asked {
                if !matches!(envoy.outcome(stream), Outcome::Forwarded(_)) {
                    assert_eq!(denied(envoy.outcome(stream)), (429, "TENANT_RATE_LIMITED".to_owned()));
                }
            }
            envoy.assert_alive();
        })
    });
    println!("{about}: {explored}");
    explored
}

#[test]
fn of_two_workers_that_race_for_the_last_place_exactly_one_admits() {
    let explored = race("one place, workers that know the table", 1, 1, true);
    assert!(explored.runs > 1, "they meet");
}

#[test]
fn of_two_workers_that_race_for_the_first_place_of_all_exactly_one_admits() {
    race("one place, workers that have never limited", 1, 1, false);
}

#[test]
fn two_workers_that_race_for_two_places_admit_two() {
    race("two places, two requests each", 2, 2, true);
}
