//! The whole way: Redis, the bridge, the filter in a real Envoy. Needs the filter and Envoy: `make wasm envoy`.

use envoy_e2e::{EVENTS_KEY, EVENTS_PATH, Message, Setup, World};
use envoy_run::TENANT_EVENTS;
use serde_json::json;

use crate::redis::Redis;
use crate::world::{Bridge, command, until};

const CHANNEL: &str = "tenant-events:staging:";
const INVALIDATIONS: &str = "tenantgate_bridge_delivered_invalidations_total";
const MESSAGES: &str = "tenantgate_bridge_delivered_messages_total";

/// Enough connections that every worker has some: the kernel deals them out.
const CONNECTIONS: usize = 32;

async fn world() -> World {
    let setup = Setup::of_corpus(json!({}))
        .and_then(Setup::tenant_events)
        .expect("a set-up");
    setup.workers(2).start().await.expect("Envoy runs")
}

/// A bridge between the two.
async fn bridge(redis: &Redis, world: &World) -> Bridge {
    let listener = world.envoy.listener(TENANT_EVENTS).expect("a listener for events");
    let mut command = command(redis.address().port(), &[]);
    command
        .args(["--envoy", &format!("http://{listener}{EVENTS_PATH}")])
        .env("TENANTGATE_EVENTS_KEY", EVENTS_KEY);
    Bridge::start(command).await
}

/// The different statuses of a tenant's requests on many connections.
async fn statuses(world: &World, tenant: &str) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..CONNECTIONS {
        let reply = world.send(&Message::of_tenant(tenant, "/v1/accounts")).await;
        statuses.push(reply.expect("a reply").status);
    }
    statuses.sort_unstable();
    statuses.dedup();
    statuses
}

async fn until_delivered(bridge: &Bridge, metric: &str, count: f64) {
    until(metric, async || {
        (bridge.metric(metric, "").await == count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_published_suspension_holds_on_every_worker_and_a_lost_event_is_made_up_for() {
    let mut redis = Redis::start().await;
    let world = world().await;
    let bridge = bridge(&redis, &world).await;
    until_delivered(&bridge, INVALIDATIONS, 1.0).await;
    assert_eq!(
        (statuses(&world, "acme").await, statuses(&world, "globex").await),
        (vec![200], vec![200])
    );
    let asked = world.tenant_manager.total();

    let suspended =
        json!({ "event_id": "1", "event_type": "tenant.suspended", "tenant_id": "acme", "environment": "staging" });
    assert_eq!(redis.publish_on(CHANNEL, &[suspended.to_string()]).await, 1);
    until_delivered(&bridge, MESSAGES, 1.0).await;
    assert_eq!(
        (statuses(&world, "acme").await, statuses(&world, "globex").await),
        (vec![403], vec![200])
    );
    assert_eq!(world.tenant_manager.total(), asked, "nobody has asked");

    // The activation is published while nobody listens, so that it is lost.
    redis.kill().await;
    bridge.unsubscribed("closed").await;
    redis.restart().await;
    until_delivered(&bridge, INVALIDATIONS, 2.0).await;
    assert_eq!(
        statuses(&world, "acme").await,
        [200],
        "the Tenant Manager was asked anew"
    );
    assert!(world.tenant_manager.total() > asked);
    world.stop().await.expect("Envoy ends");
}

#[tokio::test]
async fn what_the_filter_cannot_read_is_left_out_and_the_rest_is_applied() {
    let redis = Redis::start().await;
    let world = world().await;
    let bridge = bridge(&redis, &world).await;
    until_delivered(&bridge, INVALIDATIONS, 1.0).await;
    assert_eq!(statuses(&world, "acme").await, [200]);
    let event =
        |tenant: &str| json!({ "event_type": "tenant.suspended", "tenant_id": tenant, "environment": "staging" });
    let messages = [event("no tenant at all"), event("acme")].map(|event| event.to_string());
    assert_eq!(redis.publish_on(CHANNEL, &messages).await, 2);
    until_delivered(&bridge, MESSAGES, 1.0).await;
    assert_eq!(statuses(&world, "acme").await, [403]);
    let refused = bridge.logged("message refused and left out").await;
    assert_eq!(refused["detail"], "status 400 EVENTS_MALFORMED");
    assert_eq!(bridge.health().await.0, 200);
    world.stop().await.expect("Envoy ends");
}
