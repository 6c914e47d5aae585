use super::*;
use crate::world::World;

fn tenant(id: &str) -> TenantId {
    TenantId::parse(id, false).unwrap()
}

#[test]
fn the_first_tenants_have_a_label_on_every_worker_and_the_rest_shares_one() {
    let world = World::default();
    let mut workers = [Labels::new(2), Labels::new(2)];
    for (worker, id) in [
        (0, "acme"),
        (1, "globex"),
        (0, "initech"),
        (1, "acme"),
        (0, "globex"),
        (1, "initech"),
    ] {
        workers[worker].count(&tenant(id), Decision::Allowed, &world);
    }
    let counted: Vec<_> = world.tenants.borrow().iter().map(|(label, _)| label.clone()).collect();
    assert_eq!(counted, ["acme", "globex", "aggregate", "acme", "globex", "aggregate"]);
    assert_eq!(world.counts(Counter::TenantLabelsAggregated), 2);
}

#[test]
fn who_is_not_let_in_gets_no_label() {
    let world = World::default();
    let mut labels = Labels::new(2);
    for id in ["ghost", "other", "third"] {
        labels.count(&tenant(id), Decision::Denied, &world);
    }
    labels.count(&tenant("acme"), Decision::Allowed, &world);
    labels.count(&tenant("acme"), Decision::Denied, &world);
    labels.count(&tenant("aggregate"), Decision::Allowed, &world);
    let counted: Vec<_> = world.tenants.borrow().iter().map(|(label, _)| label.clone()).collect();
    let expected = ["aggregate", "aggregate", "aggregate", "acme", "acme", "aggregate"];
    assert_eq!(counted, expected);
}

#[test]
fn a_refused_request_is_counted_by_the_label_that_another_worker_has_given() {
    let world = World::default();
    let mut workers = [Labels::new(2), Labels::new(2)];
    workers[1].count(&tenant("acme"), Decision::Denied, &world);
    workers[0].count(&tenant("acme"), Decision::Allowed, &world);
    workers[1].count(&tenant("acme"), Decision::Denied, &world);
    world.pass(1_000);
    workers[1].count(&tenant("acme"), Decision::Denied, &world);
    let counted: Vec<_> = world.tenants.borrow().iter().map(|(label, _)| label.clone()).collect();
    assert_eq!(
        counted,
        ["aggregate", "acme", "aggregate", "acme"],
        "it looks once in a second"
    );
}

#[test]
fn a_host_that_shares_nothing_has_one_label() {
    let world = World::default();
    world.refuses_writes.set(true);
    Labels::new(2).count(&tenant("acme"), Decision::Allowed, &world);
    assert_eq!(
        world.tenants.borrow().as_slice(),
        [("aggregate".to_owned(), Decision::Allowed)]
    );
}
