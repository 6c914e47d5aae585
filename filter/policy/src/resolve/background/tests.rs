use serde_json::json;

use super::*;
use crate::resolve::tests::{Bench, tenant};

fn queue(max_queued: u32) -> Background {
    Background::new(max_queued)
}

#[test]
fn a_tenant_is_queued_once_and_the_queue_is_bounded() {
    let mut background = queue(3);
    for name in ["a", "a", "b", "a", "c", "d"] {
        background.push(tenant(name));
    }
    let names: Vec<String> = std::iter::from_fn(|| background.next())
        .map(|tenant| tenant.as_str().to_owned())
        .collect();
    assert_eq!(names, ["a", "b", "c"]);
    background.push(tenant("a"));
    assert!(
        background.next().is_some(),
        "it may be queued again when it has had its turn"
    );
}

#[test]
fn four_are_under_way_at_once_until_they_are_over_or_lost() {
    let mut background = queue(16);
    for n in 0..9 {
        background.push(tenant(&format!("t{n}")));
    }
    let id = LookupId::from_number;
    background.under_way.extend((0..4).map(id));
    assert!(background.next().is_none());
    background.over(id(2));
    assert!(background.next().is_some());
    background.under_way.push(id(4));
    assert!(background.next().is_none());
    background.keep(|other| other == id(4));
    assert_eq!(background.under_way.len(), 1);
    background.clear();
    assert!(background.next().is_none());
    background.push(tenant("t0"));
    assert!(background.next().is_some(), "who was queued before can be queued again");
}

#[test]
fn what_is_started_is_given_out_once() {
    let mut background = queue(1);
    let errand = Errand::Lookup(LookupId::from_number(1));
    background.start(errand);
    assert_eq!(background.take(), [errand]);
    assert_eq!(background.take(), []);
}

#[test]
fn lookups_that_got_lost_make_place_for_the_next() {
    let Bench { world, mut workers, .. } = Bench::new(1, &json!({}));
    let worker = &mut workers[0];
    for n in 0..6 {
        worker.resolver.background.push(tenant(&format!("t{n}")));
    }
    worker.tick(&world);
    worker.look_up("acme", 200, "{}", &world);
    assert_eq!(worker.refreshes().len(), 4);
    world.pass(crate::resolve::SWEEP_MS);
    worker.tick(&world);
    assert_eq!(worker.refreshes().len(), 2);
}
