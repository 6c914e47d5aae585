use serde_json::{Value, json};

use super::*;
use crate::resolve::tests::config;
use crate::world::World;

/// Three failures open it for ten seconds; a lookup takes one second at most.
fn manager(patch: &Value) -> TenantManager {
    let mut members = json!({ "breaker": { "threshold": 3, "open_seconds": 10 } });
    json_patch::merge(&mut members, patch);
    config(&members).tenant_manager.unwrap()
}

/// Two workers' ways to one Tenant Manager.
struct Ways {
    manager: TenantManager,
    gates: [Gate; 2],
    world: World,
}

impl Ways {
    fn new() -> Self {
        let manager = manager(&json!({}));
        Self {
            gates: [Gate::new(&manager), Gate::new(&manager)],
            manager,
            world: World::default(),
        }
    }

    fn enter(&self, worker: usize) -> Result<Permit, Barred> {
        let now_ms = self.world.now_ms.get();
        let entered = self.gates[worker].enter(&self.manager, now_ms, &self.world);
        entered.map(|(permit, _)| permit)
    }

    fn leave(&self, worker: usize, permit: Permit, health: Health) -> Option<Remark> {
        let first = |remarks: Vec<Remark>| remarks.into_iter().next();
        let now_ms = self.world.now_ms.get();
        first(self.gates[worker].leave(&self.manager, permit, (health, None), now_ms, &self.world))
    }

    fn ask(&self, worker: usize, health: Health) -> Option<Remark> {
        let permit = self.enter(worker).unwrap();
        self.leave(worker, permit, health)
    }

    fn opened() -> Self {
        let ways = Self::new();
        for worker in [0, 1, 0] {
            ways.ask(worker, Health::Bad);
        }
        assert_eq!(ways.gauge(), 1);
        ways
    }

    fn half_open() -> (Self, Permit) {
        let ways = Self::opened();
        ways.world.pass(10_000);
        let probe = ways.enter(0).unwrap();
        assert_eq!(ways.gauge(), 2);
        (ways, probe)
    }

    fn gauge(&self) -> i64 {
        self.world.gauge(Gauge::BreakerState)
    }
}

#[test]
fn consecutive_failures_of_the_whole_node_open_the_circuit() {
    let ways = Ways::new();
    assert_eq!(ways.ask(0, Health::Bad), None);
    assert_eq!(ways.ask(1, Health::Bad), None);
    assert_eq!(ways.ask(1, Health::Good), None, "not consecutive");
    assert_eq!(ways.ask(0, Health::Bad), None);
    assert_eq!(ways.ask(0, Health::Unclear(0)), None, "neither counts nor forgives");
    assert_eq!(ways.ask(1, Health::Bad), None);
    assert_eq!((ways.gauge(), ways.world.counts(Counter::CircuitOpened)), (0, 0));
    let cluster = "tm".to_owned();
    let opened = Remark::CircuitOpened {
        cluster,
        failures: 3,
        seconds: 10,
    };
    assert_eq!(ways.ask(0, Health::Bad), Some(opened), "said once");
    assert_eq!((ways.gauge(), ways.world.counts(Counter::CircuitOpened)), (1, 1));
}

#[test]
fn an_open_circuit_lets_nobody_through_until_its_time_is_over() {
    let ways = Ways::opened();
    for (at_ms, left_ms) in [(0, 10_000), (1, 9_999), (9_999, 1)] {
        ways.world.now_ms.set(at_ms);
        for worker in [0, 1] {
            assert_eq!(ways.enter(worker), Err(Barred::Open(left_ms)));
        }
    }
    ways.world.now_ms.set(10_000);
    assert_eq!(ways.enter(1), Ok(Permit::Probe(11_500)));
}

#[test]
fn a_half_open_circuit_lets_one_lookup_of_the_node_through() {
    let (ways, _probe) = Ways::half_open();
    for at_ms in [10_000, 11_499] {
        ways.world.now_ms.set(at_ms);
        for worker in [0, 1] {
            assert_eq!(ways.enter(worker), Err(Barred::Open(11_500 - at_ms)));
        }
    }
}

#[test]
fn a_probe_decides() {
    let (ways, probe) = Ways::half_open();
    let closed = Remark::CircuitClosed {
        cluster: "tm".to_owned(),
    };
    assert_eq!(ways.leave(0, probe, Health::Good), Some(closed));
    assert_eq!(ways.gauge(), 0);
    assert_eq!(ways.enter(1), Ok(Permit::Ordinary(1)));
    for _ in 0..2 {
        ways.ask(1, Health::Bad);
    }
    assert_eq!(ways.enter(1), Ok(Permit::Ordinary(1)), "it counts from the beginning");

    let (ways, probe) = Ways::half_open();
    ways.world.pass(1_000);
    assert_eq!(ways.leave(0, probe, Health::Bad), None, "said when it opened");
    assert_eq!(ways.enter(1), Err(Barred::Open(10_000)), "again, and for as long");
    assert_eq!((ways.gauge(), ways.world.counts(Counter::CircuitOpened)), (1, 1));
}

#[test]
fn an_answer_that_is_neither_leaves_the_next_lookup_to_be_the_probe() {
    let (ways, probe) = Ways::half_open();
    ways.world.pass(700);
    assert_eq!(ways.leave(0, probe, Health::Unclear(0)), None);
    assert_eq!(ways.gauge(), 1);
    assert_eq!(ways.enter(1), Ok(Permit::Probe(12_200)));
    assert!(ways.enter(0).is_err());
}

#[test]
fn a_pause_while_half_open_comes_before_the_next_probe() {
    let (ways, probe) = Ways::half_open();
    ways.leave(0, probe, Health::Unclear(7_000));
    assert_eq!(ways.enter(1), Err(Barred::Paused(7_000)));
    ways.world.pass(6_999);
    assert_eq!(ways.enter(1), Err(Barred::Paused(1)));
    ways.world.pass(1);
    assert_eq!(ways.enter(1), Ok(Permit::Probe(18_500)));
}

#[test]
fn a_probe_that_is_not_heard_of_again_ends_with_its_lease() {
    let (ways, lost) = Ways::half_open();
    ways.world.pass(1_500);
    let next = ways.enter(1).unwrap();
    assert_eq!(next, Permit::Probe(13_000));
    assert!(ways.enter(0).is_err());
    // What the lost one has to say comes too late.
    for health in [Health::Good, Health::Bad, Health::Unclear(0)] {
        assert_eq!(ways.leave(0, lost, health), None);
        assert_eq!(ways.enter(0), Err(Barred::Open(1_500)));
    }
    ways.leave(1, next, Health::Good);
    assert_eq!(ways.enter(0), Ok(Permit::Ordinary(1)));
}

#[test]
fn what_lookups_learn_that_began_before_it_opened_changes_nothing() {
    let ways = Ways::new();
    let late: Vec<Permit> = (0..8).map(|_| ways.enter(1).unwrap()).collect();
    for _ in 0..3 {
        ways.ask(0, Health::Bad);
    }
    let open = Err(Barred::Open(10_000));
    ways.leave(1, late[0], Health::Good);
    ways.leave(1, late[1], Health::Bad);
    assert_eq!(ways.enter(0), open);
    ways.world.pass(10_000);
    let probe = ways.enter(0).unwrap();
    ways.leave(1, late[2], Health::Good);
    ways.leave(1, late[3], Health::Bad);
    assert_eq!(ways.enter(1), Err(Barred::Open(1_500)), "the probe is still under way");
    ways.leave(0, probe, Health::Good);
    for permit in &late[4..] {
        ways.leave(1, *permit, Health::Bad);
    }
    assert_eq!(ways.gauge(), 0, "they do not open it again");
}

#[test]
fn the_longest_pause_holds() {
    let ways = Ways::new();
    let permits = [ways.enter(0).unwrap(), ways.enter(1).unwrap()];
    ways.leave(0, permits[0], Health::Unclear(30_000));
    ways.leave(1, permits[1], Health::Unclear(1_000));
    assert_eq!(ways.enter(0), Err(Barred::Paused(30_000)));
}

#[test]
fn the_state_outlives_a_worker_and_what_cannot_be_read_is_closed() {
    let ways = Ways::opened();
    let new = Gate::new(&ways.manager);
    assert_eq!(new.enter(&ways.manager, 0, &ways.world), Err(Barred::Open(10_000)));
    for garbage in [&b""[..], b"somebody else's", &[FORMAT], &[FORMAT + 1, 0, 0, 0, 0]] {
        ways.world.overwrite(&new.key, garbage);
        assert_eq!(ways.enter(0), Ok(Permit::Ordinary(0)));
        ways.ask(0, Health::Bad);
    }
}

#[test]
fn every_tenant_manager_has_a_state_of_its_own() {
    let (one, other) = (manager(&json!({})), manager(&json!({ "authority": "tm-other" })));
    let world = World::default();
    let (one_gate, other_gate) = (Gate::new(&one), Gate::new(&other));
    for _ in 0..3 {
        one_gate.leave(&one, Permit::Ordinary(0), (Health::Bad, None), 0, &world);
        other_gate.leave(&other, Permit::Ordinary(0), (Health::Good, None), 0, &world);
    }
    assert!(one_gate.enter(&one, 0, &world).is_err());
    assert_eq!(other_gate.enter(&other, 0, &world), Ok((Permit::Ordinary(0), 0)));
}

#[test]
fn the_key_that_has_worked_is_preferred_by_all_as_far_as_they_have_it() {
    let ways = Ways::new();
    let permit = ways.enter(0).unwrap();
    ways.gates[0].leave(&ways.manager, permit, (Health::Good, Some(1)), 0, &ways.world);
    assert_eq!(
        ways.gates[1].enter(&ways.manager, 0, &ways.world),
        Ok((Permit::Ordinary(0), 1))
    );
    let single = manager(&json!({ "api_keys": [{ "value": "one" }] }));
    assert_eq!(
        Gate::new(&single).enter(&single, 0, &ways.world),
        Ok((Permit::Ordinary(0), 0))
    );
}

#[test]
fn a_host_that_refuses_writes_has_no_probe() {
    let ways = Ways::opened();
    ways.world.refuses_writes.set(true);
    ways.world.pass(10_000);
    assert_eq!(
        ways.enter(0),
        Err(Barred::Open(GRACE_MS)),
        "nobody could tell that there is one already"
    );
    ways.world.refuses_writes.set(false);
    ways.world.outpaced.set(3);
    assert!(ways.enter(0).is_ok());
}
