use serde_json::json;

use super::*;
use crate::node::Node;
use crate::resolve::Resolution;
use crate::resolve::tests::{Bench, RECORD, event, is_record, news, refuse, refused};

fn bench(workers: usize) -> Bench {
    Bench::new(workers, &json!({}))
}

#[test]
fn when_an_event_is_carried_out_no_worker_serves_what_was_known() {
    for (mute, slots) in [(false, 16_384), (true, 16_384), (false, 8), (true, 8)] {
        let mut bench = Bench::new(4, &json!({ "cache": { "shared_slots": slots } }));
        bench.world.bell_is_broken.set(mute);
        let Bench { world, workers, .. } = &mut bench;
        workers[0].look_up("acme", 200, RECORD, world);
        workers[0].look_up("globex", 200, RECORD, world);
        for worker in &mut *workers {
            assert!(is_record(&worker.known("acme", world)) && is_record(&worker.known("globex", world)));
        }
        assert_eq!(
            workers[3].obey(&[event("acme", refuse("suspended"), None)], world),
            Ok(vec![true])
        );
        for worker in &mut *workers {
            assert_eq!(*worker.known("acme", world), refused("suspended"));
            assert!(is_record(&worker.known("globex", world)), "others are undisturbed");
        }
        assert_eq!(
            workers[1].obey(&[event("acme", Order::Lift, None)], world),
            Ok(vec![true])
        );
        for worker in &mut *workers {
            assert!(matches!(worker.resolve("acme", world), Resolution::Wait(_)));
        }
    }
}

#[test]
fn a_refresh_is_begun_where_the_event_arrived_and_only_for_what_was_cached() {
    for (order, asks) in [(Order::Forget, 1), (Order::Lift, 1), (refuse("suspended"), 0)] {
        let Bench { world, mut workers, .. } = bench(2);
        workers[0].look_up("acme", 200, RECORD, &world);
        let commands = ["acme", "globex"].map(|name| event(name, order.clone(), None));
        workers[1].obey(&commands, &world).unwrap();
        assert_eq!(workers[0].refreshes().len(), 0);
        assert_eq!(workers[1].refreshes().len(), asks, "{order:?}");
    }
}

#[test]
fn a_list_has_its_effects_in_its_order_and_each_says_whether_it_had_one() {
    let Bench { world, mut workers, .. } = bench(2);
    let at = |ms: i64| Some(i64::try_from(world.realtime_ms()).unwrap() + ms);
    let commands = [
        event("acme", refuse("suspended"), at(0)),
        event("acme", Order::Lift, at(-6_000)),
        Command::ForgetEverything,
        event("globex", refuse("deleted"), None),
        event("acme", refuse("purged"), at(-4_000)),
        event("globex", Order::Forget, None),
    ];
    assert_eq!(
        workers[0].obey(&commands, &world),
        Ok(vec![true, false, true, true, true, true])
    );
    for worker in &mut workers {
        assert_eq!(*worker.known("acme", &world), refused("purged"));
        assert_eq!(
            *worker.known("globex", &world),
            refused("deleted"),
            "a refusal outlasts what only forgets"
        );
    }
}

#[test]
fn a_refusal_of_one_service_is_not_one_of_another() {
    let other = |service: &str| {
        let mut config = crate::resolve::tests::config(&json!({}));
        config.service = crate::config::ServiceName::new(service).unwrap();
        crate::resolve::tests::Worker::new(config)
    };
    let (world, mut workers) = (crate::world::World::default(), [other("ledger"), other("payments")]);
    let disassociated = Order::Refuse {
        status: "disassociated".into(),
        everywhere: false,
    };
    workers[0].obey(&[event("acme", disassociated, None)], &world).unwrap();
    assert_eq!(*workers[0].known("acme", &world), refused("disassociated"));
    workers[1].begin("acme", &world);
    workers[0]
        .obey(&[event("acme", refuse("suspended"), None)], &world)
        .unwrap();
    assert!(workers[1].known("acme", &world).refuses());
}

#[test]
fn a_refusal_without_a_place_has_the_tenant_manager_asked() {
    let Bench { world, mut workers, .. } = Bench::new(2, &json!({ "cache": { "shared_slots": 8 } }));
    workers[1].look_up("acme", 200, RECORD, &world);
    let late = workers[0].begin("t9", &world);
    for n in 0..8 {
        workers[0]
            .obey(&[event(&format!("t{n}"), refuse("suspended"), None)], &world)
            .unwrap();
    }
    workers[0]
        .obey(&[event("acme", refuse("suspended"), None)], &world)
        .unwrap();
    for worker in &mut workers {
        assert!(!matches!(worker.resolve("acme", &world), Resolution::Known(outcome) if is_record(&outcome)));
    }
    let tidings = news(workers[0].answered(late, 200, RECORD, &world));
    assert_eq!(workers[0].resolver.still_true(&tidings, &world), None);
}

#[test]
fn a_table_that_moves_in_between_is_written_again() {
    let Bench { world, mut workers, .. } = bench(2);
    workers[0].look_up("acme", 200, RECORD, &world);
    // Every write has to be made twice.
    world.outpaced.set(1);
    workers[1]
        .obey(&[event("acme", refuse("suspended"), None)], &world)
        .unwrap();
    assert_eq!(*workers[0].known("acme", &world), refused("suspended"));
    assert_eq!(workers[1].obey(&[], &world), Ok(vec![]));
}
