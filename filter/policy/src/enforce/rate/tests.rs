use proptest::prelude::*;

use super::*;
use crate::node::{Node as _, Version};
use crate::world::World;

fn tenant(id: &str) -> TenantId {
    TenantId::parse(id, false).unwrap()
}

fn limits(requests_per_second: u32, burst: u32, sets: u32) -> RateLimit {
    RateLimit {
        default: Limit {
            requests_per_second,
            burst,
        },
        overrides: vec![(
            tenant("vip"),
            Limit {
                requests_per_second: 1_000,
                burst: 2_000,
            },
        )],
        shared_sets: sets,
        headers: true,
    }
}

/// Several workers of one node.
struct Node {
    world: World,
    workers: Vec<Limiter>,
}

impl Node {
    fn new(workers: usize, limits: &RateLimit) -> Self {
        let world = World::default();
        world.random.set(7);
        let worker = |number| {
            // Workers draw numbers of their own.
            world.random.set(number);
            let mut limiter = Limiter::new(limits, "ledger");
            limiter.share.register(0, &world);
            limiter
        };
        let workers = (0..u32::try_from(workers).unwrap()).map(worker).collect();
        Self { world, workers }
    }

    /// How many of so many requests a worker admits now.
    fn admitted(&mut self, worker: usize, id: &str, requests: usize) -> usize {
        let tenant = tenant(id);
        let (worker, world) = (&mut self.workers[worker], &self.world);
        (0..requests).filter(|_| worker.admit(&tenant, world).is_ok()).count()
    }
}

#[test]
fn a_burst_comes_at_once_and_then_the_rate() {
    let mut node = Node::new(1, &limits(10, 5, 64));
    assert_eq!(node.admitted(0, "acme", 50), 5);
    node.world.pass(99);
    assert_eq!(node.admitted(0, "acme", 1), 0, "one millisecond early");
    node.world.pass(1);
    assert_eq!(node.admitted(0, "acme", 2), 1);
    node.world.pass(10_000);
    assert_eq!(node.admitted(0, "acme", 50), 5, "what is not used is not saved up");
}

#[test]
fn overrides_are_for_one_tenant() {
    let mut node = Node::new(1, &limits(10, 5, 64));
    assert_eq!(node.admitted(0, "vip", 3_000), 2_000);
    assert_eq!(node.admitted(0, "acme", 50), 5);
}

#[test]
fn all_workers_have_one_bucket_for_a_tenant() {
    let mut node = Node::new(4, &limits(100, 100, 64));
    let mut admitted = 0;
    for ms in 0..10_000u32 {
        for worker in 0..4 {
            admitted += node.admitted(worker, "acme", 2);
        }
        assert!(admitted <= usize::try_from(100 + 100 * u64::from(ms) / 1_000 + 1).unwrap());
        node.world.pass(1);
    }
    assert!((1_090..=1_110).contains(&admitted), "{admitted}");
    assert_eq!(node.world.counts(Counter::RateLimitFallbacks), 0);
}

#[test]
fn a_greedy_tenant_costs_another_nothing() {
    let mut node = Node::new(2, &limits(100, 10, 1));
    for _ in 0..200 {
        node.admitted(0, "greedy", 50);
        assert_eq!(node.admitted(1, "acme", 1), 1);
        node.world.pass(10);
    }
}

#[test]
fn the_caller_is_told_when_to_come_again_and_what_is_left() {
    let mut node = Node::new(1, &limits(2, 4, 64));
    let acme = tenant("acme");
    let quotas: Vec<_> = (0..4)
        .map(|_| node.workers[0].admit(&acme, &node.world).unwrap())
        .map(|quota| (quota.burst, quota.window_seconds, quota.left, quota.reset_seconds))
        .collect();
    assert_eq!(quotas, [(4, 2, 3, 1), (4, 2, 2, 1), (4, 2, 1, 2), (4, 2, 0, 2)]);
    let too_many = node.workers[0].admit(&acme, &node.world).unwrap_err();
    assert_eq!((too_many.retry_after_ms, too_many.quota.left), (500, 0));
    node.world.pass(499);
    assert_eq!(node.workers[0].admit(&acme, &node.world).unwrap_err().retry_after_ms, 1);
    node.world.pass(1);
    assert!(node.workers[0].admit(&acme, &node.world).is_ok());
    assert_eq!(
        too_many.quota.fields(),
        [
            ("ratelimit-policy", "\"tenant\";q=4;w=2".to_owned()),
            ("ratelimit", "\"tenant\";r=0;t=2".to_owned()),
        ]
    );
}

#[test]
fn where_a_set_is_full_each_worker_has_its_part() {
    // One set: eight tenants fill it.
    let mut node = Node::new(4, &limits(8, 8, 1));
    for number in 0..8 {
        assert_eq!(node.admitted(0, &format!("t{number}"), 1), 1);
    }
    let all: usize = (0..4).map(|worker| node.admitted(worker, "ninth", 50)).sum();
    assert_eq!(all, 8, "a quarter of the burst each");
    assert!(node.world.counts(Counter::RateLimitFallbacks) > 0);
    // A quarter of the rate each: one in half a second. Nobody's place gets free meanwhile.
    for _ in 0..5 {
        node.world.pass(100);
        for number in 0..8 {
            node.admitted(0, &format!("t{number}"), 1);
        }
        assert!(
            (0..4).all(|worker| node.admitted(worker, "ninth", 1) == usize::from(node.world.monotonic_ms() == 500))
        );
    }
}

#[test]
fn what_a_worker_has_admitted_alone_counts_when_a_place_gets_free() {
    let mut node = Node::new(1, &limits(1, 8, 1));
    for number in 0..8 {
        node.admitted(0, &format!("t{number}"), 1);
    }
    assert_eq!(node.admitted(0, "ninth", 50), 8);
    node.world.pass(1_000);
    // The eight are full again: their places are free.
    assert_eq!(node.admitted(0, "ninth", 50), 1);
}

#[test]
fn a_host_that_shares_nothing_limits_by_worker() {
    let mut node = Node::new(1, &limits(10, 5, 64));
    node.world.refuses_writes.set(true);
    node.world.store.borrow_mut().clear();
    node.workers = vec![Limiter::new(&limits(10, 5, 64), "ledger")];
    assert_eq!(node.admitted(0, "acme", 50), 5);
}

#[test]
fn who_is_always_outpaced_limits_for_itself() {
    let mut node = Node::new(2, &limits(10, 6, 64));
    node.admitted(0, "warm", 1);
    node.admitted(1, "warm", 1);
    node.world.outpaced.set(u32::MAX);
    assert_eq!(node.admitted(0, "acme", 50), 3);
}

#[test]
fn services_do_not_share_buckets_and_configurations_of_one_do() {
    let world = World::default();
    let limits = limits(10, 5, 64);
    let acme = tenant("acme");
    let admitted = |service| {
        let mut limiter = Limiter::new(&limits, service);
        (0..50).filter(|_| limiter.admit(&acme, &world).is_ok()).count()
    };
    assert_eq!(admitted("ledger"), 5);
    assert_eq!(admitted("payments"), 5);
    assert_eq!(admitted("ledger"), 0, "an update of the configuration fills no bucket");
}

#[test]
fn what_others_write_locks_nobody_out_for_long() {
    let mut node = Node::new(1, &limits(10, 5, 1));
    node.admitted(0, "acme", 5);
    let key = "tenantgate.rate.0";
    let garbage = [
        vec![],
        vec![1],
        vec![0xff; 40],
        postcard::to_extend(&vec![("acme".to_owned(), 0u64, u64::MAX)], vec![1]).unwrap(),
    ];
    for bytes in garbage {
        node.world.overwrite(key, &bytes);
        assert!(node.admitted(0, "acme", 50) <= 5, "{bytes:?}");
        node.world.pass(600);
        assert!(node.admitted(0, "acme", 50) >= 1, "{bytes:?}");
    }
    // Its own bucket, and the end of time.
    let stored = node.world.shared(key);
    assert_ne!(stored.version, Version::ABSENT);
    let mut set: Vec<(String, u64, u64)> = postcard::from_bytes(&stored.value[1..]).unwrap();
    set[0].2 = u64::MAX;
    node.world.overwrite(key, &postcard::to_extend(&set, vec![1]).unwrap());
    assert_eq!(node.admitted(0, "acme", 1), 0);
    let wait = node.workers[0]
        .admit(&tenant("acme"), &node.world)
        .unwrap_err()
        .retry_after_ms;
    assert_eq!(wait, 100, "no longer than for an empty bucket");
}

#[test]
fn a_narrower_limit_holds_at_once() {
    let mut node = Node::new(1, &limits(1, 1_000, 64));
    node.admitted(0, "acme", 1_000);
    node.workers = vec![Limiter::new(&limits(1, 2, 64), "ledger")];
    assert_eq!(node.admitted(0, "acme", 1), 0);
    node.world.pass(1_000);
    assert_eq!(node.admitted(0, "acme", 2), 1);
}

proptest! {
    /// Whatever comes when: in no window more is admitted than the burst and what the rate gives.
    #[test]
    fn never_more_than_burst_and_rate(
        rate in 1u32..2_000,
        burst in 1u32..50,
        steps in prop::collection::vec((0u64..300, 0usize..3, 0usize..20), 1..60),
    ) {
        let mut node = Node::new(3, &limits(rate, burst, 64));
        let mut log: Vec<(u64, usize)> = Vec::new();
        for (ms, worker, requests) in steps {
            node.world.pass(ms);
            let admitted = node.admitted(worker, "acme", requests);
            log.push((node.world.monotonic_ms(), admitted));
        }
        for (first, (start, _)) in log.iter().enumerate() {
            let mut sum = 0;
            for (now, admitted) in &log[first..] {
                sum += admitted;
                let most = u64::from(burst) + (now - start) * u64::from(rate) / 1_000 + 1;
                prop_assert!(u64::try_from(sum).unwrap() <= most);
            }
        }
    }
}
