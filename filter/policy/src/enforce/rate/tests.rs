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
            limiter.tick(&world);
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
fn a_worker_counts_for_thirty_seconds_and_says_every_ten_that_it_is_there() {
    let world = World::default();
    let whole = Bucket {
        interval: NANOS_PER_MS,
        burst: 8,
    };
    let [mut one, mut other] = [1, 2].map(|number| {
        world.random.set(number);
        let mut share = Share::new("ledger");
        share.register(0, &world);
        share
    });
    assert_eq!(one.due(), 10 * NANOS_PER_SECOND);
    let parts = |share: &Share, now| share.part_of(whole, now, &world).burst;
    assert_eq!(parts(&one, 30 * NANOS_PER_SECOND - 1), 4);
    // Both are overdue, and each has at least itself.
    assert_eq!(parts(&one, 30 * NANOS_PER_SECOND), 8);
    one.register(one.due() - 1, &world);
    assert_eq!(parts(&other, 30 * NANOS_PER_SECOND), 8, "too early to say anything");
    one.register(10 * NANOS_PER_SECOND, &world);
    other.register(10 * NANOS_PER_SECOND, &world);
    assert_eq!(parts(&other, 40 * NANOS_PER_SECOND - 1), 4);
    assert_eq!(other.due(), 20 * NANOS_PER_SECOND);
}

#[test]
fn a_limiter_is_due_when_its_worker_must_say_that_it_is_there() {
    let node = Node::new(1, &limits(8, 8, 1));
    assert_eq!(node.workers[0].due_ms(), 10_000);
}

#[test]
fn callers_are_told_of_their_limits_where_that_is_configured() {
    for headers in [true, false] {
        let limits = RateLimit {
            headers,
            ..limits(8, 8, 1)
        };
        assert_eq!(Limiter::new(&limits, "ledger").tells(), headers);
    }
}

#[test]
fn a_worker_has_so_many_buckets_of_its_own_and_those_that_are_full_make_room() {
    let mut share = Share::new("ledger");
    let bucket = Bucket {
        interval: NANOS_PER_SECOND,
        burst: 1,
    };
    for number in 0..4_096 {
        share.take(&tenant(&format!("t{number}")), bucket, 0).unwrap();
    }
    let late = tenant("late");
    assert_eq!(
        share.take(&late, bucket, NANOS_PER_SECOND - 1),
        Err(2 * NANOS_PER_SECOND - 1)
    );
    assert_eq!(share.take(&late, bucket, NANOS_PER_SECOND), Ok(2 * NANOS_PER_SECOND));
    // The others are forgotten, not he.
    assert_eq!(share.take(&late, bucket, NANOS_PER_SECOND), Err(2 * NANOS_PER_SECOND));
}

#[test]
fn a_bucket_that_is_just_full_gives_its_place_away() {
    let mut node = Node::new(1, &limits(1, 1, 1));
    for number in 0..8 {
        assert_eq!(node.admitted(0, &format!("t{number}"), 1), 1);
    }
    node.world.pass(1_000);
    assert_eq!(node.admitted(0, "ninth", 1), 1);
    assert_eq!(node.world.counts(Counter::RateLimitFallbacks), 0);
}

#[test]
fn where_a_tenant_lies_is_drawn_by_the_first_worker_of_the_node() {
    let mut node = Node::new(1, &limits(1, 1, 1_024));
    node.world.random.set(0x0102_0304);
    node.admitted(0, "acme", 1);
    let seed = node.world.shared("tenantgate.rate").value;
    let half = 0x0102_0304_0102_0304_u64;
    assert_eq!(postcard::from_bytes::<(u64, u64)>(&seed), Ok((half, half)));
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
fn what_others_write_locks_nobody_out() {
    let mut node = Node::new(1, &limits(10, 5, 1));
    node.admitted(0, "acme", 5);
    let key = "tenantgate.rate.0";
    let late = ["a", "b", "c", "d", "e", "f", "g", "h"].map(|id| (id.to_owned(), 0u64, u64::MAX, 1u64));
    let garbage = [
        vec![],
        vec![1],
        vec![0xff; 40],
        postcard::to_extend(&late.to_vec(), vec![1]).unwrap(),
    ];
    for bytes in garbage {
        node.world.overwrite(key, &bytes);
        assert_eq!(node.admitted(0, "acme", 50), 5, "{bytes:?}");
        node.world.pass(600);
    }
    assert_eq!(node.world.counts(Counter::RateLimitFallbacks), 0);
    // Its own bucket, and the end of time.
    let stored = node.world.shared(key);
    assert_ne!(stored.version, Version::ABSENT);
    let mut set: Vec<(String, u64, u64, u64)> = postcard::from_bytes(&stored.value[1..]).unwrap();
    set[0].2 = u64::MAX;
    node.world.overwrite(key, &postcard::to_extend(&set, vec![1]).unwrap());
    assert_eq!(node.admitted(0, "acme", 50), 5);
}

#[test]
fn what_was_admitted_counts_as_so_many_requests_of_a_new_limit() {
    let mut node = Node::new(1, &limits(1, 10, 64));
    node.admitted(0, "acme", 10);
    // A faster one of the same burst: nobody waits at the old pace.
    node.workers = vec![Limiter::new(&limits(10, 10, 64), "ledger")];
    assert_eq!(node.admitted(0, "acme", 1), 0);
    node.world.pass(100);
    assert_eq!(node.admitted(0, "acme", 2), 1);
    // A narrower one: ten requests are missing, and it has room for two.
    node.workers = vec![Limiter::new(&limits(10, 2, 64), "ledger")];
    for _ in 0..8 {
        assert_eq!(node.admitted(0, "acme", 1), 0);
        node.world.pass(100);
    }
    node.world.pass(100);
    assert_eq!(node.admitted(0, "acme", 2), 1);
}

#[test]
fn an_old_configuration_beside_a_new_one_fills_no_bucket() {
    let mut node = Node::new(1, &limits(100, 200, 64));
    node.workers.push(Limiter::new(&limits(1, 1, 64), "ledger"));
    let mut admitted = 0;
    for _ in 0..100 {
        admitted += node.admitted(0, "acme", 100) + node.admitted(1, "acme", 100);
        node.world.pass(1);
    }
    assert!(admitted <= 210, "{admitted}");
}

#[test]
fn a_worker_whose_clock_was_read_a_while_ago_gives_nothing_back() {
    let mut node = Node::new(2, &limits(1_000, 10, 64));
    let mut admitted = 0;
    for _ in 0..100 {
        node.world.pass(10);
        admitted += node.admitted(0, "acme", 20);
        node.world.now_ms.set(node.world.now_ms.get() - 5);
        admitted += node.admitted(1, "acme", 1);
        node.world.pass(5);
    }
    assert!(admitted <= 1_010, "{admitted}");
}

#[test]
fn workers_that_come_in_the_same_moment_all_count() {
    let world = World::default();
    let limits = limits(8, 8, 1);
    let mut workers: Vec<_> = (0..4).map(|_| Limiter::new(&limits, "ledger")).collect();
    for (number, worker) in workers.iter_mut().enumerate() {
        world.random.set(u32::try_from(number).unwrap());
        world.now_ms.set(1_000 + 3 - u64::try_from(number).unwrap());
        worker.tick(&world);
    }
    for number in 0..8 {
        workers[0].admit(&tenant(&format!("t{number}")), &world).unwrap();
    }
    let admitted: usize = workers
        .iter_mut()
        .map(|worker| {
            (0..50)
                .filter(|_| worker.admit(&tenant("ninth"), &world).is_ok())
                .count()
        })
        .sum();
    assert_eq!(admitted, 8);
}

#[test]
fn who_limits_for_itself_tells_when_it_has_room_again() {
    let mut node = Node::new(4, &limits(1, 8, 1));
    for number in 0..8 {
        node.admitted(0, &format!("t{number}"), 1);
    }
    let ninth = tenant("ninth");
    assert_eq!(node.admitted(0, "ninth", 50), 2);
    let too_many = node.workers[0].admit(&ninth, &node.world).unwrap_err();
    assert_eq!((too_many.retry_after_ms, too_many.quota.burst), (4_000, 2));
}

#[test]
fn a_tenant_of_many_services_crowds_nobody_out() {
    let world = World::default();
    let limits = limits(10, 10, 64);
    let greedy = tenant("greedy");
    let mut services: Vec<_> = (0..64)
        .map(|number| Limiter::new(&limits, &format!("s{number}")))
        .collect();
    for service in &mut services {
        service.tick(&world);
        service.admit(&greedy, &world).unwrap();
    }
    let sets = world
        .store
        .borrow()
        .keys()
        .filter(|key| key.starts_with("tenantgate.rate."))
        .count();
    assert!(sets > 20, "{sets} sets for 64 services");
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
