//! Which tenants with open streams are refused, as each worker comes to know it.

use super::*;
use crate::node::Node;

/// Two workers that cut streams.
fn bench() -> Bench {
    let mut bench = Bench::new(0, &json!({}));
    for _ in 0..2 {
        let mut config = config(&json!({}));
        config.enforce.cut_streams = true;
        bench.workers.push(Worker::new(config));
    }
    bench
}

fn refused_since(worker: &mut Worker, open: &[&str], world: &World) -> Vec<String> {
    let open: Vec<TenantId> = open.iter().map(|name| tenant(name)).collect();
    let manager = worker.config.tenant_manager.as_ref().unwrap();
    let refused = worker.resolver.refused_since(manager, open.iter(), world);
    refused.iter().map(|tenant| tenant.as_str().to_owned()).collect()
}

const OPEN: [&str; 2] = ["acme", "globex"];

#[test]
fn a_tenant_that_an_event_refuses_is_told_once_on_every_worker() {
    for mute in [false, true] {
        let Bench { world, mut workers, .. } = bench();
        world.bell_is_broken.set(mute);
        workers[0].look_up("acme", 200, RECORD, &world);
        for worker in &mut workers {
            worker.resolver.listen(&world);
            refused_since(worker, &OPEN, &world);
        }
        workers[0]
            .obey(&[event("acme", refuse("suspended"), None)], &world)
            .unwrap();
        for worker in &mut workers {
            // What is heard for a request must not be lost to those who ask later.
            worker.known("acme", &world);
            assert_eq!(refused_since(worker, &OPEN, &world), ["acme"]);
            assert!(refused_since(worker, &OPEN, &world).is_empty());
        }
    }
}

#[test]
fn news_that_is_no_refusal_cuts_nobody() {
    let Bench { world, mut workers, .. } = bench();
    workers[0].look_up("acme", 200, RECORD, &world);
    let suspended_and_lifted = [
        event("acme", refuse("suspended"), None),
        event("acme", Order::Lift, None),
        event("globex", Order::Forget, None),
        event("initech", refuse("suspended"), None),
    ];
    workers[0].obey(&suspended_and_lifted, &world).unwrap();
    assert!(refused_since(&mut workers[1], &OPEN, &world).is_empty());
    workers[0].obey(&[Command::ForgetEverything], &world).unwrap();
    assert!(refused_since(&mut workers[1], &OPEN, &world).is_empty());
}

#[test]
fn a_refusal_that_the_tenant_manager_says_is_one_for_every_worker() {
    for (status, body) in [
        (403, r#"{"status":"suspended"}"#),
        (403, ""),
        (422, ""),
        (200, r#"{"status":"purged"}"#),
    ] {
        let Bench { world, mut workers, .. } = bench();
        workers[0].look_up("acme", 200, RECORD, &world);
        workers[1].known("acme", &world);
        for worker in &mut workers {
            refused_since(worker, &OPEN, &world);
        }
        world.now_ms.set(world.monotonic_ms() + 1_000_000);
        workers[0].look_up("acme", status, body, &world);
        for worker in &mut workers {
            assert_eq!(refused_since(worker, &OPEN, &world), ["acme"], "{status} {body}");
        }
    }
}

#[test]
fn a_tenant_of_whom_nothing_is_known_any_more_is_asked_about_and_nobody_else() {
    let Bench { world, mut workers, .. } = bench();
    workers[0].look_up("acme", 200, RECORD, &world);
    for worker in &mut workers {
        refused_since(worker, &["acme"], &world);
        worker.refreshes();
    }
    // The suspension is lost before anybody has looked.
    let commands = [event("acme", refuse("suspended"), None), Command::ForgetEverything];
    workers[0].obey(&commands, &world).unwrap();
    for worker in &mut workers {
        assert!(refused_since(worker, &["acme"], &world).is_empty());
    }
    let asked = workers[1].refreshes();
    assert_eq!(asked.len(), 1);
    workers[1].answered(asked[0], 403, r#"{"status":"suspended"}"#, &world);
    for worker in &mut workers {
        assert_eq!(refused_since(worker, &["acme"], &world), ["acme"]);
    }
}

#[test]
fn a_tenant_about_whom_the_tenant_manager_gives_no_answer_is_asked_about_until_it_does() {
    let Bench { world, mut workers, .. } = bench();
    let worker = &mut workers[0];
    worker.look_up("acme", 200, RECORD, &world);
    refused_since(worker, &["acme"], &world);
    worker.refreshes();
    let commands = [event("acme", refuse("suspended"), None), Command::ForgetEverything];
    worker.obey(&commands, &world).unwrap();
    for status in [500, 429, 500, 400, 500] {
        assert!(refused_since(worker, &["acme"], &world).is_empty());
        let asked = worker.refreshes();
        assert_eq!(asked.len(), 1, "{status}");
        worker.answered(asked[0], status, "", &world);
        assert!(refused_since(worker, &["acme"], &world).is_empty());
        assert!(worker.refreshes().is_empty(), "once a second");
        // Past every pause that such an answer brings.
        world.now_ms.set(world.monotonic_ms() + 1_001);
    }
    assert!(refused_since(worker, &["acme"], &world).is_empty());
    let asked = worker.refreshes();
    worker.answered(asked[0], 403, r#"{"status":"suspended"}"#, &world);
    assert_eq!(refused_since(worker, &["acme"], &world), ["acme"]);
    world.now_ms.set(world.monotonic_ms() + 1_001);
    assert!(refused_since(worker, &["acme"], &world).is_empty());
    assert!(worker.refreshes().is_empty(), "it is known by now");
}

#[test]
fn a_tenant_that_is_gone_is_refused_where_that_was_learned() {
    let Bench { world, mut workers, .. } = bench();
    workers[0].look_up("acme", 404, "", &world);
    assert_eq!(refused_since(&mut workers[0], &OPEN, &world), ["acme"]);
}

#[test]
fn unless_it_is_configured_nobody_is_told() {
    let Bench { world, mut workers, .. } = Bench::new(1, &json!({}));
    workers[0]
        .obey(&[event("acme", refuse("suspended"), None)], &world)
        .unwrap();
    assert!(refused_since(&mut workers[0], &OPEN, &world).is_empty());
}
