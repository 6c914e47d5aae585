//! A Tenant Manager that does not answer as it should, on the real Envoy. Time is measured here, so this
//! test has a program of its own: nothing else starts an Envoy meanwhile.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use corpus::answer::{Answer, Fault};
use envoy_e2e::{Message, Setup};
use serde_json::json;

/// The `timeout_ms` of lookups.
const TIMEOUT: Duration = Duration::from_millis(1000);

/// When a request that waits is answered at the latest.
const DEADLINE: Duration = TIMEOUT.saturating_add(Duration::from_millis(500));

/// What a busy machine may add to that. The exact bound is shown in virtual time, by
/// `host-tests/tests/filter`.
const SCHEDULING: Duration = Duration::from_secs(2);

fn record(tenant: &str) -> Answer {
    Answer {
        record: Some(json!({ "id": tenant, "databases": { "onboarding": {} } })),
        ..Answer::default()
    }
}

#[tokio::test]
async fn a_tenant_manager_that_fails_is_unavailable_in_time_and_nothing_is_cached() -> anyhow::Result<()> {
    let patch = json!({ "tenant_manager": { "timeout_ms": TIMEOUT.as_millis() as u64 } });
    let mut world = Setup::of_corpus(patch)?.start().await?;
    let fault = |fault| {
        Some(Answer {
            fault: Some(fault),
            ..record("acme")
        })
    };
    let text = |text: &str| {
        Some(Answer {
            body: Some(json!(text)),
            ..Answer::default()
        })
    };
    let slow = Answer {
        delay_ms: 3000,
        ..record("acme")
    };
    let large = Answer {
        pad_to_bytes: Some(10_000_000),
        ..record("acme")
    };
    // Nothing stands for a Tenant Manager that is down.
    let failures: [(&str, Option<Answer>); 10] = [
        ("down", None),
        ("silent", fault(Fault::Silence)),
        ("slow", Some(slow)),
        ("closing before headers", fault(Fault::CloseBeforeHeaders)),
        ("resetting mid-body", fault(Fault::ResetMidBody)),
        ("answering garbage", text("\u{1}garbage {")),
        ("answering HTML", text("<html>welcome</html>")),
        ("answering 10 MB", Some(large)),
        (
            "answering 500",
            Some(Answer {
                status: Some(500),
                ..Answer::default()
            }),
        ),
        ("answering about another tenant", Some(record("globex"))),
    ];
    for (number, (what, failure)) in failures.into_iter().enumerate() {
        let tenant = format!("tenant-{number}");
        let message = Message::of_tenant(&tenant, "/v1/accounts");
        match failure {
            Some(failure) => world.tenant_manager.set(BTreeMap::from([(tenant.clone(), failure)])),
            None => world.tenant_manager.pause().await,
        }
        let forwarded = world.echo.total();
        let reply = world.send(&message).await.context(what)?;
        let told = format!("{what}: {} {} in {:?}", reply.status, reply.text(), reply.took);
        ensure!(
            reply.status == 503 && reply.code() == "TENANT_MANAGER_UNAVAILABLE",
            "{told}"
        );
        let retry_after = reply.header("retry-after").and_then(|value| value.parse::<u64>().ok());
        ensure!(
            retry_after.is_some_and(|seconds| seconds >= 1),
            "{told}, retry-after {retry_after:?}"
        );
        ensure!(reply.took <= DEADLINE + SCHEDULING, "{told}");
        ensure!(world.echo.total() == forwarded, "{what}: it was forwarded");

        world.tenant_manager.resume().await?;
        world
            .tenant_manager
            .set(BTreeMap::from([(tenant.clone(), record(&tenant))]));
        let reply = world.send(&message).await.context(what)?;
        ensure!(reply.status == 200, "after {what}: {} {}", reply.status, reply.text());
    }
    world.check_workers_live().await?;
    world.stop().await
}
