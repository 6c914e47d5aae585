//! How many tenants have a label of their own in the statistics.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tiny_envoy::{Builder, Explorer, Outcome, Scene};

use crate::dice::Dice;
use crate::world::{ACCOUNTS, World, config};

const METRIC: &str = "tenantgate_tenant_requests_total";
const AGGREGATE: &str = "aggregate";
const MOST: usize = 3;

fn labelled(telemetry: Value) -> Value {
    config(json!({ "telemetry": telemetry }))
}

fn world(workers: usize) -> World {
    let config = labelled(json!({ "tenant_label": true, "max_tenants": MOST }));
    let mut world = World::start(&config, |builder: Builder| builder.workers(workers));
    for n in 0..10 {
        world.record(&tenant(n), "any");
    }
    world.envoy.settle();
    world
}

fn tenant(n: usize) -> String {
    format!("t{n}")
}

/// What was counted, by tenant and decision.
fn counted(world: &World) -> BTreeMap<(String, String), u64> {
    let metrics = world.envoy.metrics().into_iter();
    metrics
        .filter_map(|(name, count)| {
            let tags = name.strip_prefix(METRIC)?.strip_prefix(".tenant=")?;
            let (tenant, decision) = tags.split_once("~.decision=").expect("two tags");
            let decision = decision.strip_suffix('~').expect("a tag ends");
            // A label is there with every decision before the first of them is made.
            (count > 0).then(|| ((tenant.to_owned(), decision.to_owned()), count))
        })
        .collect()
}

fn labels(world: &World) -> BTreeSet<String> {
    counted(world).into_keys().map(|(tenant, _)| tenant).collect()
}

#[test]
fn the_first_tenants_have_labels_and_all_others_one_on_every_worker() {
    let mut world = world(3);
    let mut dice = Dice(3);
    for _ in 0..100 {
        let (n, worker) = (dice.below(10), dice.below(3));
        world.run_on(&tenant(n), worker).forwarded();
    }
    let labels = labels(&world);
    assert_eq!(labels.len(), MOST + 1, "{labels:?}");
    assert!(labels.contains(AGGREGATE));
    let counted = counted(&world);
    assert!(counted.keys().all(|(_, decision)| decision == "allowed"), "{counted:?}");
    assert_eq!(counted.values().sum::<u64>(), 100);
    assert!(
        counted[&(AGGREGATE.to_owned(), "allowed".to_owned())] > 40,
        "{counted:?}"
    );
    // Who has one keeps it, on every worker.
    let named: Vec<_> = labels.into_iter().filter(|label| label != AGGREGATE).collect();
    for label in &named {
        let key = (label.clone(), "allowed".to_owned());
        let before = counted[&key];
        for worker in 0..3 {
            world.run_on(label, worker).forwarded();
        }
        assert_eq!(self::counted(&world)[&key], before + 3, "{label}");
    }
    world.assert_healthy();
}

#[test]
fn only_who_is_served_gets_a_label() {
    let mut world = world(1);
    for unknown in ["u1", "u2", "u3", "u4", "frozen", "barred"] {
        world.run(unknown).replied();
    }
    assert_eq!(
        counted(&world),
        BTreeMap::from([((AGGREGATE.to_owned(), "denied".to_owned()), 6)])
    );
    for n in 0..MOST {
        world.run(&tenant(n)).forwarded();
    }
    assert_eq!(labels(&world).len(), MOST + 1);
    // A denial of one that has a label is counted under it.
    let refused = world.request("GET", &tenant(0)).header("x-storage-key", "..").run();
    refused.replied();
    assert_eq!(counted(&world)[&(tenant(0), "denied".to_owned())], 1);
}

#[test]
fn nothing_of_tenants_is_counted_unless_that_is_wanted() {
    for telemetry in [json!({}), json!({ "tenant_label": false, "max_tenants": 3 })] {
        let mut world = World::start(&labelled(telemetry), |builder| builder);
        world.run("acme").forwarded();
        world.run("frozen").replied();
        assert_eq!(counted(&world), BTreeMap::new());
        let told = world.envoy.metrics().into_keys().any(|name| name.contains("acme"));
        assert!(!told);
    }
}

#[test]
fn a_tenant_that_is_called_like_the_others_is_counted_with_them() {
    let mut world = world(1);
    world.record(AGGREGATE, "any");
    for n in 0..MOST {
        world.run(&tenant(n)).forwarded();
    }
    world.run(AGGREGATE).forwarded();
    world.run(&tenant(MOST)).forwarded();
    assert_eq!(labels(&world).len(), MOST + 1);
    assert_eq!(counted(&world)[&(AGGREGATE.to_owned(), "allowed".to_owned())], 2);
}

#[test]
fn workers_that_race_for_the_last_label_give_one() {
    let config = labelled(json!({ "tenant_label": true, "max_tenants": 1 }));
    let explored = Explorer::new().explore(|| {
        let mut world = World::start(&config, |builder: Builder| builder.workers(2));
        // Who they are is known, and that they may, on both workers; none of it has been counted.
        let bearers = ["acme", "globex"].map(|tenant| world.bearer(tenant));
        for worker in 0..2 {
            for bearer in &bearers {
                let refused = world.envoy.get(ACCOUNTS).worker(worker).header("authorization", bearer);
                let refused = refused.header("x-storage-key", "..").send();
                world.envoy.decide(refused).replied();
            }
        }
        assert_eq!(labels(&world).len(), 1, "denials are counted with all others");
        let mut scene = Scene::new(world.envoy);
        for (worker, bearer) in bearers.into_iter().enumerate() {
            scene = scene.step(worker, move |envoy| {
                let stream = envoy
                    .get(ACCOUNTS)
                    .worker(worker)
                    .header("authorization", bearer)
                    .send();
                assert!(matches!(envoy.outcome(stream), Outcome::Forwarded(_)));
            });
        }
        scene.check(|envoy, run| {
            let of_tenants = |tenant: &str| {
                let label = format!("{METRIC}.tenant={tenant}~");
                envoy.metrics().into_keys().any(|name| name.starts_with(&label))
            };
            assert!(of_tenants("acme") != of_tenants("globex"), "{run}");
            envoy.assert_alive();
        })
    });
    println!("one label for two: {explored}");
    assert!(explored.runs > 1, "they meet");
}
