//! `on_unavailable: allow`: who may pass on the verified claim alone, and who never does. What
//! [`Outcome::Unavailable`] comes to here, `enforce` lets pass.

use super::*;

fn bench() -> Bench {
    Bench::new(2, &json!({ "on_unavailable": "allow" }))
}

fn down(worker: &mut Worker, name: &str, world: &World) -> Rc<Outcome> {
    match worker.resolve(name, world) {
        Resolution::Known(outcome) => outcome,
        Resolution::Wait(wait) => {
            let id = wait.seat.lookup();
            worker.ask(id).unwrap();
            outcome(worker.answered(id, 500, "", world))
        }
    }
}

#[test]
fn a_tenant_of_which_nothing_is_known_is_unavailable() {
    let Bench { world, mut workers, .. } = bench();
    assert!(matches!(
        *down(&mut workers[0], "acme", &world),
        Outcome::Unavailable(_)
    ));
}

#[test]
fn a_tenant_that_was_refused_stays_refused_on_every_worker_while_nobody_can_be_asked() {
    for (status, body) in [
        (403, r#"{"status":"suspended"}"#),
        (403, ""),
        (422, ""),
        (200, r#"{"status":"purged"}"#),
    ] {
        let Bench { world, mut workers, .. } = bench();
        workers[0].look_up("acme", status, body, &world);
        // Past negative_ttl, ttl and the stale window, up to the end of the grace.
        for at_ms in [0, 9_999, 10_000, 130_000, 309_999] {
            world.now_ms.set(at_ms);
            for worker in &mut workers {
                assert!(down(worker, "acme", &world).refuses(), "{status} {body} at {at_ms}");
                let given_up = worker.give_up("acme", &world);
                assert!(given_up.refuses(), "{status} {body} at {at_ms}");
            }
        }
    }
}

#[test]
fn an_unknown_tenant_stays_unknown_to_the_worker_that_has_asked() {
    let Bench { world, mut workers, .. } = bench();
    workers[0].look_up("acme", 404, "", &world);
    world.pass(20_000);
    assert_eq!(*down(&mut workers[0], "acme", &world), Outcome::NotFound);
    assert!(matches!(
        *down(&mut workers[1], "acme", &world),
        Outcome::Unavailable(_)
    ));
}

#[test]
fn a_tenant_that_an_event_refuses_is_refused_with_an_open_circuit_too() {
    let Bench { world, mut workers, .. } = bench();
    for n in 0..5 {
        down(&mut workers[0], &format!("t{n}"), &world);
    }
    workers[0]
        .obey(&[event("acme", refuse("suspended"), None)], &world)
        .unwrap();
    for worker in &mut workers {
        assert_eq!(*worker.known("acme", &world), refused("suspended"));
        assert!(matches!(
            *worker.known("globex", &world),
            Outcome::Unavailable(Unavailable::CircuitOpen(_))
        ));
    }
}

#[test]
fn a_record_that_is_not_too_old_is_better_than_the_claim_alone() {
    let Bench { world, mut workers, .. } = bench();
    workers[0].look_up("acme", 200, RECORD, &world);
    world.pass(449_999);
    assert!(is_record(&down(&mut workers[1], "acme", &world)));
    world.pass(1);
    assert!(matches!(
        *down(&mut workers[1], "acme", &world),
        Outcome::Unavailable(_)
    ));
}

#[test]
fn a_refusal_that_is_too_old_to_answer_is_denied_as_unavailable_by_default() {
    let Bench { world, mut workers, .. } = Bench::new(1, &json!({}));
    workers[0].look_up("acme", 403, "", &world);
    world.pass(10_000);
    assert!(matches!(
        *down(&mut workers[0], "acme", &world),
        Outcome::Unavailable(_)
    ));
}
