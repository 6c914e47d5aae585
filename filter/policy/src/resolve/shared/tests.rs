use serde_json::json;

use super::*;
use crate::node::Version;
use crate::resolve::changes::Log;
use crate::resolve::tests::config;
use crate::resolve::{Isolation, Outcome, Record};
use crate::world::World;

/// A table of two sets and where it lies.
fn table(world: &World) -> (Table, Layout) {
    let mut log = Log::new(2);
    log.listen(world);
    (Table::new(&config(&json!({}))), log.layout().unwrap())
}

fn times(fresh_ms: u64) -> Times {
    Times::of_refusal(&config(&json!({})).tenant_manager.unwrap().cache, 0, fresh_ms)
}

fn found(slug: &str) -> Option<Verdict> {
    let body = json!({ "tenantSlug": slug, "isolationMode": "schema" }).to_string();
    Verdict::of(&Outcome::Found(Record::parse(body.as_bytes()).unwrap().into()))
}

fn keep(table: &Table, stamp: Stamp, verdict: Option<Verdict>, world: &World) -> Result<Kept, NotWritten> {
    table.keep("acme", stamp, (verdict, times(1_000)), 0, world)
}

#[test]
fn a_record_is_stored_as_it_is_and_found_under_the_full_id_only() {
    let world = World::default();
    let (table, layout) = table(&world);
    let stamp = table.view("acme", layout, 0, &world).stamp;
    assert_eq!(
        keep(&table, stamp, found("acme-inc"), &world),
        Ok(Kept::Yes { refutes: false })
    );
    let entry = table.view("acme", layout, 0, &world).answer.unwrap();
    match entry.verdict.unwrap().outcome() {
        Outcome::Found(record) => {
            assert_eq!(
                (record.slug(), record.isolation()),
                (Some("acme-inc"), Isolation::Schema)
            );
        }
        other => panic!("{other:?}"),
    }
    // Two sets: about half of these share the set of `acme`.
    for n in 0..32 {
        assert!(table.view(&format!("acme{n}"), layout, 0, &world).answer.is_none());
    }
    assert!(table.view("acme", layout, 301_000, &world).answer.is_none(), "spent");
}

#[test]
fn the_number_of_keys_is_that_of_the_sets_however_many_tenants_there_are() {
    let world = World::default();
    let (table, layout) = table(&world);
    for n in 0..1_000 {
        let name = format!("t{n}");
        let stamp = table.view(&name, layout, 0, &world).stamp;
        table
            .keep(&name, stamp, (found(&name), times(1_000)), 0, &world)
            .unwrap();
        table.pause(&format!("p{n}"), layout, (0, 1_000), &world);
    }
    let keys: Vec<String> = world
        .store
        .borrow()
        .keys()
        .filter(|key| key.contains(".set."))
        .cloned()
        .collect();
    assert_eq!(keys, ["tenantgate.set.0", "tenantgate.set.1"]);
    assert_eq!(world.gauge(Gauge::TenantConsumersActive), 16, "eight in each");
}

#[test]
fn what_was_asked_for_before_a_change_is_not_kept() {
    let refuse = Order::Refuse {
        status: "suspended".into(),
        everywhere: true,
    };
    for order in [Order::Forget, Order::Lift, refuse] {
        let world = World::default();
        let (table, layout) = table(&world);
        let stamp = table.view("acme", layout, 0, &world).stamp;
        let obeyed = table.obey("acme", layout, &order, (None, times(1_000)), 0, &world);
        assert_eq!(obeyed, Ok(Obeyed::Yes { had_record: false }));
        for verdict in [found("a"), Some(Verdict::AccessDenied), None] {
            assert_eq!(keep(&table, stamp, verdict, &world), Ok(Kept::Outdated), "{order:?}");
        }
    }
}

#[test]
fn a_refusal_refutes_the_record_that_is_there() {
    let world = World::default();
    let (table, layout) = table(&world);
    let view = || table.view("acme", layout, 0, &world).stamp;
    for refusal in [Some(Verdict::AccessDenied), None, found_inactive()] {
        assert_eq!(
            keep(&table, view(), found("a"), &world),
            Ok(Kept::Yes { refutes: false })
        );
        assert_eq!(
            keep(&table, view(), refusal.clone(), &world),
            Ok(Kept::Yes { refutes: true }),
            "{refusal:?}"
        );
        assert_eq!(
            keep(&table, view(), refusal, &world),
            Ok(Kept::Yes { refutes: false }),
            "nothing is left"
        );
    }
}

fn found_inactive() -> Option<Verdict> {
    Verdict::of(&Outcome::Found(
        Record::parse(br#"{"status":"purged"}"#).unwrap().into(),
    ))
}

#[test]
fn a_record_that_is_too_large_stays_with_its_worker_and_can_be_refuted() {
    let world = World::default();
    let (table, layout) = table(&world);
    let modules: serde_json::Map<String, serde_json::Value> = (0..200)
        .map(|n| (format!("module-{n}-{}", "x".repeat(64)), json!({})))
        .collect();
    let body = json!({ "databases": modules }).to_string();
    let large = Verdict::of(&Outcome::Found(Record::parse(body.as_bytes()).unwrap().into()));
    let stamp = table.view("acme", layout, 0, &world).stamp;
    assert_eq!(keep(&table, stamp, large, &world), Ok(Kept::Yes { refutes: false }));
    assert!(table.view("acme", layout, 0, &world).answer.is_none());
    let stamp = table.view("acme", layout, 0, &world).stamp;
    assert_eq!(keep(&table, stamp, None, &world), Ok(Kept::Yes { refutes: true }));
}

#[test]
fn a_lease_is_for_one_at_a_time_and_ends() {
    let world = World::default();
    let (table, layout) = table(&world);
    // The records are fresh for 100 ms or so, and known for 1 s.
    let lease = |now_ms: u64| table.lease("acme", layout, (now_ms, now_ms + 100), &world);
    assert_eq!(lease(0), Ok(()), "there is nothing to agree on");
    let stamp = table.view("acme", layout, 0, &world).stamp;
    let keep = |slug: &str, now_ms: u64| {
        let rules = config(&json!({})).tenant_manager.unwrap().cache;
        let times = Times::of_refusal(&rules, now_ms, 100);
        table.keep("acme", stamp, (found(slug), times), now_ms, &world).unwrap()
    };
    keep("a", 0);
    assert!(lease(99).is_err(), "it is fresh");
    assert_eq!(lease(100), Ok(()));
    assert_eq!(lease(199), Err(200));
    assert_eq!(lease(200), Ok(()));
    keep("b", 250);
    assert!(lease(349).is_err(), "somebody has just refreshed it");
    assert_eq!(lease(350), Ok(()), "a new record has a new lease");
    table.pause("acme", layout, (351, 5_000), &world);
    assert_eq!(lease(600), Err(5_000));
    world.refuses_writes.set(true);
    assert_eq!(lease(5_000), Err(5_000), "nobody could tell who has it");
}

#[test]
fn writes_that_come_too_late_are_made_again_on_what_is_there_by_then() {
    let world = World::default();
    let (table, layout) = table(&world);
    let stamp = table.view("acme", layout, 0, &world).stamp;
    world.outpaced.set(7);
    assert_eq!(
        keep(&table, stamp, found("a"), &world),
        Ok(Kept::Yes { refutes: false })
    );
    assert_eq!(world.gauge(Gauge::TenantConsumersActive), 1, "counted once");
    world.outpaced.set(u32::MAX);
    assert_eq!(keep(&table, stamp, found("a"), &world), Err(NotWritten::Refused));
}

#[test]
fn a_set_that_another_plugin_has_overwritten_is_empty_and_outdates_what_is_asked() {
    let world = World::default();
    let (table, layout) = table(&world);
    let stamp = table.view("acme", layout, 0, &world).stamp;
    keep(&table, stamp, found("a"), &world).unwrap();
    for key in ["tenantgate.set.0", "tenantgate.set.1"] {
        world.overwrite(key, b"somebody else's");
    }
    assert!(table.view("acme", layout, 0, &world).answer.is_none());
    assert_eq!(keep(&table, stamp, found("a"), &world), Ok(Kept::Outdated));
    let anew = table.view("acme", layout, 0, &world).stamp;
    // Some worker may hold the record that was there.
    assert_eq!(keep(&table, anew, None, &world), Ok(Kept::Yes { refutes: true }));
    assert_eq!(Set::decode(b"", Version::ABSENT), Set::default());
}

#[test]
fn a_sweep_goes_through_the_whole_table_in_turns_of_one_worker() {
    let world = World::default();
    let mut log = Log::new(SETS_AT_ONCE + 3);
    log.listen(&world);
    let (table, layout) = (Table::new(&config(&json!({}))), log.layout().unwrap());
    for n in 0..2_000 {
        let name = format!("t{n}");
        let stamp = table.view(&name, layout, 0, &world).stamp;
        table
            .keep(&name, stamp, (found(&name), times(1_000)), 0, &world)
            .unwrap();
    }
    let records = world.gauge(Gauge::TenantConsumersActive);
    assert!(records > 1_900);
    let mut now_ms = 301_000;
    assert!(table.sweep_some(layout, now_ms, &world));
    let left = world.gauge(Gauge::TenantConsumersActive);
    assert!(0 < left && left < 100, "a part of the table: {left}");
    table.sweep_some(layout, now_ms + SWEEP_MS - 1, &world);
    assert_eq!(
        world.gauge(Gauge::TenantConsumersActive),
        left,
        "somebody has had this turn"
    );
    let turns = (0..10).take_while(|_| {
        now_ms += SWEEP_MS;
        table.sweep_some(layout, now_ms, &world)
    });
    assert!(turns.count() < 10, "nothing is left to sweep");
    assert_eq!(world.gauge(Gauge::TenantConsumersActive), 0);
}
