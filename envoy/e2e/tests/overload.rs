//! The bound on waiting requests, on the real Envoy.

use std::time::Duration;

use anyhow::ensure;
use envoy_e2e::{Message, Setup};
use serde_json::json;

#[tokio::test]
async fn who_finds_no_place_to_wait_is_told_to_come_back() -> anyhow::Result<()> {
    // An eighth of eight may wait for one tenant.
    let config = json!({ "tenant_manager": { "max_waiters": 8, "timeout_ms": 12_000 } });
    let world = Setup::of_corpus(config)?.start().await?;
    world.tenant_manager.hold();
    let first = Message::of_tenant("acme", "/v1/first");
    let second = async {
        world.tenant_manager.wait_for(1, Duration::from_secs(10)).await?;
        let reply = world.send(&Message::of_tenant("acme", "/v1/second")).await?;
        world.tenant_manager.release();
        anyhow::Ok(reply)
    };
    let (first, second) = tokio::try_join!(world.send(&first), second)?;
    ensure!(second.status == 503, "{} {}", second.status, second.text());
    ensure!(second.code() == "TENANT_LOOKUP_OVERLOADED", "{}", second.text());
    ensure!(second.header("retry-after").as_deref() == Some("1"));
    ensure!(
        first.status == 200,
        "whoever waits already is not disturbed: {}",
        first.text()
    );
    world.check_workers_live().await?;
    world.stop().await
}
