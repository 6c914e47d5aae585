//! What is promised, whatever happens in whatever order: workers and tenants at random, against a
//! model that knows nothing of caches.
//!
//! Every record names the step at which its lookup began. The model knows for each tenant the step
//! before which nothing may be believed any more, and until when it is refused by an event.

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

const WORKERS: usize = 3;
const TENANTS: [&str; 3] = ["acme", "globex", "initech"];
const TTL_MS: u64 = 10_000;
/// For how long a lookup, and the lease of a refresh, last.
const LOOKUP_MS: u64 = 1_500;

#[derive(Debug, Clone)]
enum Step {
    Request(usize, usize),
    /// The Tenant Manager answers one of the lookups under way.
    Answer(Index, Says),
    /// An answer never comes.
    Lose(Index),
    /// Somebody who has waited goes on.
    Resume(Index),
    /// Somebody has waited for too long.
    GiveUp(usize, usize),
    Event(usize, usize, Order, Option<i64>),
    ForgetEverything(usize),
    Pass(u64),
    Tick(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    Record,
    Refusal(u16, &'static str),
    Failure(u16),
}

fn order() -> impl Strategy<Value = Order> {
    let refuse = |everywhere| Order::Refuse {
        status: "suspended".into(),
        everywhere,
    };
    prop_oneof![
        2 => Just(Order::Forget),
        2 => Just(Order::Lift),
        2 => Just(refuse(true)),
        1 => Just(refuse(false)),
    ]
}

fn says() -> impl Strategy<Value = Says> {
    let refusal = prop::sample::select(vec![
        Says::Refusal(403, r#"{"status":"suspended"}"#),
        Says::Refusal(403, ""),
        Says::Refusal(404, ""),
        Says::Refusal(422, ""),
        Says::Refusal(200, r#"{"status":"purged"}"#),
    ]);
    let failure = prop::sample::select(vec![500, 400, 429, 401, 302]).prop_map(Says::Failure);
    prop_oneof![6 => Just(Says::Record), 2 => refusal, 1 => failure]
}

fn step() -> impl Strategy<Value = Step> {
    let (worker, tenant) = (0..WORKERS, 0..TENANTS.len());
    prop_oneof![
        12 => (worker.clone(), tenant.clone()).prop_map(|(w, t)| Step::Request(w, t)),
        8 => (any::<Index>(), says()).prop_map(|(i, says)| Step::Answer(i, says)),
        1 => any::<Index>().prop_map(Step::Lose),
        4 => any::<Index>().prop_map(Step::Resume),
        1 => (worker.clone(), tenant.clone()).prop_map(|(w, t)| Step::GiveUp(w, t)),
        3 => (worker.clone(), tenant, order(), prop::option::of(-12_000i64..6_000))
            .prop_map(|(w, t, order, at)| Step::Event(w, t, order, at)),
        1 => worker.clone().prop_map(Step::ForgetEverything),
        5 => prop::sample::select(vec![1, 60, 500, 1_499, 3_000, 5_000, 9_000, 11_000, 16_000]).prop_map(Step::Pass),
        1 => worker.prop_map(Step::Tick),
    ]
}

/// A lookup under way.
#[derive(Debug)]
struct Pending {
    worker: usize,
    tenant: usize,
    id: LookupId,
    began_at: usize,
    ends_ms: u64,
    /// Whether it was begun because a record was a little too old.
    is_refresh: bool,
}

#[derive(Debug, Default, Clone, Copy)]
struct Promise {
    /// What was asked for before this step must not be served. What an event has asked for itself comes
    /// after it.
    floor: usize,
    /// Until when everybody is refused without anybody being asked.
    refused_until_ms: u64,
    /// The time of the last event.
    mark_ms: Option<i64>,
}

struct Run {
    bench: Bench,
    now: usize,
    pending: Vec<Pending>,
    waiting: Vec<(usize, usize, Tidings)>,
    promises: [Promise; 3],
}

impl Run {
    fn new(slots: u32) -> Self {
        let patch = json!({
            "breaker": { "threshold": 3, "open_seconds": 2 },
            "cache": { "ttl_seconds": 10, "stale_while_revalidate_seconds": 5, "stale_if_error_seconds": 10,
                "negative_ttl_seconds": 3, "shared_slots": slots },
        });
        Self {
            bench: Bench::new(WORKERS, &patch),
            now: 0,
            pending: Vec::new(),
            waiting: Vec::new(),
            promises: [Promise::default(); 3],
        }
    }

    fn take(&mut self, step: &Step) {
        self.now += 1;
        // Any number will do, as long as it is another one each time.
        let random = u32::try_from(self.now).unwrap().wrapping_mul(2_654_435_761);
        self.bench.world.random.set(random);
        match step {
            Step::Request(worker, tenant) => self.request(*worker, *tenant),
            Step::Answer(index, says) if !self.pending.is_empty() => {
                let pending = self.pending.swap_remove(index.index(self.pending.len()));
                self.answer(&pending, *says);
            }
            Step::Lose(index) if !self.pending.is_empty() => {
                self.pending.swap_remove(index.index(self.pending.len()));
            }
            Step::Resume(index) if !self.waiting.is_empty() => {
                let (worker, tenant, tidings) = self.waiting.swap_remove(index.index(self.waiting.len()));
                let true_still = self.bench.workers[worker]
                    .resolver
                    .still_true(&tidings, &self.bench.world);
                match true_still {
                    Some(outcome) => self.judge(tenant, &outcome),
                    None => self.request(worker, tenant),
                }
            }
            Step::GiveUp(worker, tenant) => {
                let outcome = self.bench.workers[*worker].give_up(TENANTS[*tenant], &self.bench.world);
                self.judge(*tenant, &outcome);
            }
            Step::Event(worker, tenant, order, at_ms) => self.event(*worker, *tenant, order, *at_ms),
            Step::ForgetEverything(worker) => {
                self.bench.workers[*worker]
                    .obey(&[Command::ForgetEverything], &self.bench.world)
                    .unwrap();
                for promise in &mut self.promises {
                    promise.floor = self.now;
                    promise.refused_until_ms = 0;
                }
                self.collect(*worker, false);
            }
            Step::Pass(ms) => {
                self.bench.world.pass(*ms);
                let now_ms = self.bench.world.now_ms.get();
                self.pending.retain(|pending| now_ms < pending.ends_ms);
                // Whoever has waited goes on at once; what happens in between takes no time.
                self.waiting.clear();
            }
            Step::Tick(worker) => {
                self.bench.workers[*worker].tick(&self.bench.world);
                self.collect(*worker, false);
            }
            Step::Answer(..) | Step::Lose(_) | Step::Resume(_) => {}
        }
    }

    fn request(&mut self, worker: usize, tenant: usize) {
        let seen = self.bench.workers[worker].resolve(TENANTS[tenant], &self.bench.world);
        match seen {
            Resolution::Known(outcome) => self.judge(tenant, &outcome),
            Resolution::Wait(wait) => {
                assert!(!self.is_refused(tenant), "refused by an event, and asked about");
                if wait.begins.is_some() {
                    self.ask(worker, wait.seat.lookup(), false);
                }
            }
        }
        self.collect(worker, true);
    }

    /// Has everything asked that nobody waits for.
    fn collect(&mut self, worker: usize, is_refresh: bool) {
        for errand in self.bench.workers[worker].resolver.take_errands() {
            match errand {
                Errand::Lookup(id) => self.ask(worker, id, is_refresh),
                other => panic!("{other:?}"),
            }
        }
    }

    fn ask(&mut self, worker: usize, id: LookupId, is_refresh: bool) {
        let resolver = &mut self.bench.workers[worker].resolver;
        let name = resolver.inflight.find(id).unwrap().tenant.clone();
        let tenant = TENANTS.iter().position(|other| *other == name.as_str()).unwrap();
        assert!(self.bench.workers[worker].ask(id).is_some());
        self.pending.push(Pending {
            worker,
            tenant,
            id,
            began_at: self.now,
            ends_ms: self.bench.world.now_ms.get() + LOOKUP_MS,
            is_refresh,
        });
        let of_tenant = || self.pending.iter().filter(|pending| pending.tenant == tenant);
        let here = of_tenant().filter(|pending| pending.worker == worker).count();
        assert_eq!(here, 1, "one lookup per worker and tenant");
        let floor = self.promises[tenant].floor;
        let refreshes = of_tenant()
            .filter(|pending| pending.is_refresh && pending.began_at >= floor)
            .count();
        assert!(refreshes <= 1, "one refresh per node");
    }

    fn answer(&mut self, pending: &Pending, says: Says) {
        let Pending { worker, tenant, id, .. } = *pending;
        let record = format!(r#"{{"tenantSlug":"v{}"}}"#, pending.began_at);
        let (status, body) = match says {
            Says::Record => (200, record.as_str()),
            Says::Refusal(status, body) => (status, body),
            Says::Failure(status) => (status, ""),
        };
        let world = &self.bench.world;
        let answered = match self.bench.workers[worker].answered(id, status, body, world) {
            Answered::Again(_) => self.bench.workers[worker].answered(id, status, body, world),
            over => over,
        };
        let tidings = news(answered);
        let is_learned = tidings.outcome.as_ref().is_some_and(|outcome| outcome.refuses());
        if matches!(says, Says::Refusal(..)) && is_learned {
            self.promises[tenant].floor = self.now;
        }
        self.waiting.push((worker, tenant, tidings));
        self.collect(worker, false);
    }

    fn event(&mut self, worker: usize, tenant: usize, order: &Order, at_ms: Option<i64>) {
        let now_ms = self.bench.world.now_ms.get();
        let at_ms = at_ms.map(|offset| i64::try_from(now_ms).unwrap() + offset);
        let command = event(TENANTS[tenant], order.clone(), at_ms);
        let applied = self.bench.workers[worker].obey(&[command], &self.bench.world).unwrap();
        let promise = &mut self.promises[tenant];
        let is_late = matches!((at_ms, promise.mark_ms), (Some(at), Some(mark)) if at + 5_000 < mark);
        assert_eq!(applied, [!is_late]);
        if !is_late {
            promise.mark_ms = promise.mark_ms.max(at_ms);
            promise.floor = self.now;
            match order {
                Order::Forget => {}
                Order::Lift => promise.refused_until_ms = 0,
                Order::Refuse { .. } => promise.refused_until_ms = now_ms + TTL_MS,
            }
        }
        self.collect(worker, false);
    }

    fn is_refused(&self, tenant: usize) -> bool {
        self.bench.world.now_ms.get() < self.promises[tenant].refused_until_ms
    }

    fn judge(&self, tenant: usize, outcome: &Outcome) {
        if self.is_refused(tenant) {
            assert!(outcome.refuses(), "refused by an event, and not refused: {outcome:?}");
        }
        if let Outcome::Found(record) = outcome
            && let Some(version) = record.slug().and_then(|slug| slug.strip_prefix('v'))
        {
            let floor = self.promises[tenant].floor;
            let version: usize = version.parse().unwrap();
            assert!(
                version >= floor,
                "a record asked for at step {version}, taken back at step {floor}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nobody_is_served_what_was_taken_back(
        steps in prop::collection::vec(step(), 1..160),
        slots in prop::sample::select(vec![8u32, 64]),
        mute in any::<bool>(),
    ) {
        let mut run = Run::new(slots);
        run.bench.world.bell_is_broken.set(mute);
        for step in &steps {
            run.take(step);
        }
    }
}
