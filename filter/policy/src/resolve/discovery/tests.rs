use serde_json::{Value, json};

use crate::errand::{Answer, Answered, Errand};
use crate::node::Node;
use crate::remark::Remark;
use crate::resolve::LookupId;
use crate::resolve::discovery::{ListId, Useless};
use crate::resolve::tests::{Bench, Worker, api_key, http, is_record};
use crate::telemetry::Counter;
use crate::world::World;

fn bench(workers: usize) -> Bench {
    Bench::new(
        workers,
        &json!({ "discovery": { "interval_seconds": 60 }, "max_body_bytes": 65_536 }),
    )
}

/// What a worker has to start now: questions for the list, and lookups.
fn started(worker: &mut Worker) -> (Vec<ListId>, Vec<LookupId>) {
    let (mut lists, mut lookups) = (Vec::new(), Vec::new());
    for errand in worker.resolver.take_errands() {
        match errand {
            Errand::List(id) => lists.push(id),
            Errand::Lookup(id) => lookups.push(id),
            Errand::Fetch(_) => panic!("no keys"),
        }
    }
    (lists, lookups)
}

/// Begins the question that is due.
fn begin(worker: &mut Worker, world: &World) -> ListId {
    worker.tick(world);
    let (lists, _) = started(worker);
    let [id] = lists.as_slice() else { panic!("{lists:?}") };
    assert!(worker.resolver.list_question(&worker.config, *id).is_some());
    *id
}

fn end(worker: &mut Worker, id: ListId, answer: Answer<'_>, world: &World) -> Vec<Remark> {
    match worker.resolver.list_answered(&worker.config, id, answer, world) {
        Answered::Over { news: None, remarks } => remarks,
        other => panic!("{other:?}"),
    }
}

fn list(names: std::ops::Range<usize>) -> String {
    let tenants: Vec<Value> = names
        .map(|n| json!({ "id": format!("t{n}"), "name": "x", "status": "active" }))
        .collect();
    Value::from(tenants).to_string()
}

/// Asks for the list and takes it in; answers all the lookups that come of it.
fn discover(worker: &mut Worker, body: &str, world: &World) -> Vec<Remark> {
    let id = begin(worker, world);
    let remarks = end(worker, id, http(200, body), world);
    look_all_up(worker, world);
    remarks
}

/// How many lookups there are in all, of which at most four at once.
fn look_all_up(worker: &mut Worker, world: &World) -> usize {
    let mut all = 0;
    let mut under_way = Vec::new();
    loop {
        under_way.extend(started(worker).1);
        assert!(under_way.len() <= 4, "at most four at once");
        let Some(id) = under_way.pop() else { return all };
        assert!(worker.ask(id).is_some());
        worker.answered(id, 200, "{}", world);
        all += 1;
    }
}

#[test]
fn the_list_is_asked_for_at_the_start_and_at_every_interval() {
    let Bench { world, mut workers, .. } = bench(1);
    let worker = &mut workers[0];
    assert_eq!(worker.resolver.due_ms(), Some(0), "at once");
    worker.tick(&world);
    let (lists, _) = started(worker);
    let callout = worker.resolver.list_question(&worker.config, lists[0]).unwrap();
    assert_eq!(api_key(&callout), "one");
    assert_eq!(
        callout.headers[1],
        (":path", "/tenants/active?service=ledger".to_owned())
    );
    assert!(
        worker.resolver.list_question(&worker.config, lists[0]).is_none(),
        "once"
    );
    assert!(end(worker, lists[0], http(200, "[]"), &world).is_empty());
    for at_ms in [1, 59_999] {
        world.now_ms.set(at_ms);
        worker.tick(&world);
        assert_eq!(started(worker), (vec![], vec![]));
    }
    world.now_ms.set(60_000);
    begin(worker, &world);
}

#[test]
fn who_is_listed_and_active_is_looked_up_four_at_once() {
    let Bench { world, mut workers, .. } = bench(2);
    let id = begin(&mut workers[0], &world);
    let body = json!([
        { "id": "a" }, { "id": "b", "status": "active" }, { "id": "c", "status": null }, { "id": "c" },
        { "id": "d", "status": "suspended" }, { "id": "e", "status": "" }, { "id": "no tenant" }, { "id": "f" }, { "id": "g" },
    ]);
    end(&mut workers[0], id, http(200, &body.to_string()), &world);
    assert_eq!(look_all_up(&mut workers[0], &world), 5);
    for name in ["a", "b", "c", "f", "g"] {
        assert!(
            is_record(&workers[1].known(name, &world)),
            "{name}: the whole node knows"
        );
    }
    workers[1].wait("d", &world);
}

#[test]
fn who_is_known_and_fresh_is_not_asked_about() {
    let Bench { world, mut workers, .. } = bench(2);
    workers[1].look_up("t0", 200, "{}", &world);
    workers[1].look_up("t1", 403, "", &world);
    let id = begin(&mut workers[0], &world);
    end(&mut workers[0], id, http(200, &list(0..3)), &world);
    assert_eq!(look_all_up(&mut workers[0], &world), 1);
}

#[test]
fn who_has_gone_from_the_list_is_forgotten_everywhere_and_asked_about() {
    let Bench { world, mut workers, .. } = bench(2);
    discover(&mut workers[0], &list(0..4), &world);
    for n in 0..4 {
        workers[1].known(&format!("t{n}"), &world);
    }
    world.pass(60_000);
    let id = begin(&mut workers[0], &world);
    end(&mut workers[0], id, http(200, &list(0..3)), &world);
    assert_eq!(world.counts(Counter::DiscoveryGone), 1);
    let (_, lookups) = started(&mut workers[0]);
    assert_eq!(lookups.len(), 1, "why has it gone?");
    workers[1].wait("t3", &world);
    workers[1].known("t0", &world);
    // Said once.
    world.pass(60_000);
    discover(&mut workers[0], &list(0..3), &world);
    assert_eq!(world.counts(Counter::DiscoveryGone), 1);
}

#[test]
fn a_list_with_under_half_of_the_last_changes_nothing() {
    for (from, to, is_taken) in [
        (4, 2, true),
        (4, 1, false),
        (5, 3, true),
        (5, 2, false),
        (1, 0, false),
        (2, 1, true),
        (4, 0, false),
    ] {
        let Bench { world, mut workers, .. } = bench(1);
        discover(&mut workers[0], &list(0..from), &world);
        world.pass(60_000);
        let remarks = discover(&mut workers[0], &list(0..to), &world);
        let shrunk = Remark::ListUseless(Useless::Shrunk { from, to });
        assert_eq!(remarks, if is_taken { vec![] } else { vec![shrunk] }, "{from} {to}");
        let gone = if is_taken { from - to } else { 0 };
        assert_eq!(world.counts(Counter::DiscoveryGone), gone, "{from} {to}");
    }
}

#[test]
fn an_answer_that_is_no_list_changes_nothing_and_is_asked_again_soon() {
    use Useless::{NotAList, NotThere, TooLarge};
    let too_large = Answer::Http {
        status: 200,
        retry_after_seconds: None,
        body: None,
    };
    let many = list(0..17);
    for (answer, why) in [
        (too_large, TooLarge),
        (http(200, &many), TooLarge),
        (http(200, ""), NotAList),
        (http(200, "{}"), NotAList),
        (http(200, "null"), NotAList),
        (http(200, r#"["t0"]"#), NotAList),
        (http(200, r#"[{"name":"x"}]"#), NotAList),
        (http(200, r#"[{"id":7}]"#), NotAList),
        (http(200, r#"[["t0"]]"#), NotAList),
        (http(204, ""), NotThere),
        (http(404, "[]"), NotThere),
        (http(500, "[]"), NotThere),
        (Answer::Unreachable, NotThere),
    ] {
        let patch = json!({ "discovery": {}, "cache": { "shared_slots": 16 } });
        let Bench { world, mut workers, .. } = Bench::new(1, &patch);
        discover(&mut workers[0], &list(0..1), &world);
        world.pass(60_000);
        let id = begin(&mut workers[0], &world);
        assert_eq!(
            end(&mut workers[0], id, answer, &world),
            [Remark::ListUseless(why)],
            "{answer:?}"
        );
        assert_eq!(world.counts(Counter::DiscoveryErrors), 1);
        assert!(is_record(&workers[0].known("t0", &world)));
        world.pass(9_999);
        workers[0].tick(&world);
        assert_eq!(started(&mut workers[0]).0, []);
        world.pass(1);
        begin(&mut workers[0], &world);
    }
}

#[test]
fn one_worker_of_the_node_asks_and_another_when_its_lease_has_ended() {
    let Bench { world, mut workers, .. } = bench(2);
    let lost = begin(&mut workers[0], &world);
    workers[1].tick(&world);
    assert_eq!(started(&mut workers[1]), (vec![], vec![]));
    let due_ms = workers[1].resolver.due_ms().unwrap();
    assert!((1_500..=2_501).contains(&due_ms), "{due_ms}");
    world.now_ms.set(due_ms);
    let id = begin(&mut workers[1], &world);
    end(&mut workers[1], id, http(200, &list(0..1)), &world);
    // The other one learns that it has been done.
    workers[0].tick(&world);
    assert_eq!(started(&mut workers[0]).0, []);
    let due_ms = workers[0].resolver.due_ms().unwrap();
    assert!(due_ms > world.monotonic_ms());
    end(&mut workers[0], lost, http(500, ""), &world);
}

#[test]
fn a_401_is_asked_again_with_the_other_key_once() {
    let Bench { world, mut workers, .. } = bench(1);
    let id = begin(&mut workers[0], &world);
    let worker = &mut workers[0];
    let Answered::Again(callout) = worker.resolver.list_answered(&worker.config, id, http(401, ""), &world) else {
        panic!("again")
    };
    assert_eq!(api_key(&callout), "two");
    assert_eq!(
        end(worker, id, http(401, ""), &world),
        [Remark::ListUseless(Useless::NotThere)]
    );
}

#[test]
fn while_the_tenant_manager_is_left_alone_nobody_asks_for_the_list() {
    let Bench { world, mut workers, .. } = bench(1);
    for n in 0..5 {
        workers[0].look_up(&format!("t{n}"), 500, "", &world);
    }
    workers[0].tick(&world);
    assert_eq!(started(&mut workers[0]), (vec![], vec![]));
    world.pass(30_000);
    let id = begin(&mut workers[0], &world);
    end(&mut workers[0], id, http(200, &list(0..2)), &world);
    assert_eq!(look_all_up(&mut workers[0], &world), 2, "the list was the probe");
}

#[test]
fn a_lookup_that_may_not_be_made_ends_the_warm_up() {
    let Bench { world, mut workers, .. } = bench(1);
    let id = begin(&mut workers[0], &world);
    end(&mut workers[0], id, http(200, &list(0..9)), &world);
    let (_, lookups) = started(&mut workers[0]);
    assert_eq!(lookups.len(), 4);
    for id in lookups {
        assert!(workers[0].ask(id).is_some());
        workers[0].answered(id, 429, "", &world);
    }
    assert_eq!(started(&mut workers[0]), (vec![], vec![]));
    world.pass(1_000);
    let wait = workers[0].wait("t8", &world);
    assert!(wait.begins.is_some(), "requests ask");
}

#[test]
fn who_has_gone_is_not_lost_when_the_node_does_not_take_it() {
    let Bench { world, mut workers, .. } = bench(1);
    discover(&mut workers[0], &list(0..4), &world);
    world.pass(60_000);
    let id = begin(&mut workers[0], &world);
    world.refuses_writes.set(true);
    let remarks = end(&mut workers[0], id, http(200, &list(0..3)), &world);
    assert_eq!(remarks, [Remark::ListUseless(Useless::NotTaken)]);
    world.refuses_writes.set(false);
    world.pass(10_000);
    // The lease could not be given up; it has ended.
    discover(&mut workers[0], &list(0..3), &world);
    assert_eq!(world.counts(Counter::DiscoveryGone), 1);
}
