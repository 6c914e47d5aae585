//! A short soak.

use std::time::Duration;

use anyhow::ensure;
use envoy_soak::{Options, run};

/// Long enough for a fault, and for what comes after.
const LENGTH: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_decision_of_a_short_soak_is_right() -> anyhow::Result<()> {
    let options = Options {
        clients: 16,
        tenants: 300,
        calm: 8.0..=8.5,
        trouble: 2.0..=3.0,
        cut_streams: true,
        ..Options::new(LENGTH, 7)
    };
    let report = run(&options).await?;
    let told = report.markdown();
    ensure!(report.outcome.is_good(), "{told}");
    ensure!(!report.troubles.is_empty() && report.events > 5, "{told}");
    ensure!(report.cut > 0, "no stream was cut: {told}");
    for decision in [
        "200 forwarded",
        "400 KEY_REJECTED",
        "401 TOKEN_INVALID",
        "403 TENANT_SUSPENDED",
        "429 TENANT_RATE_LIMITED",
        "502 TENANT_LEAK_BLOCKED",
    ] {
        ensure!(report.decisions.contains_key(decision), "no {decision}: {told}");
    }
    ensure!(
        report.memory.is_some() && report.outcome.flat.is_none(),
        "too short to speak of memory: {told}"
    );
    let folder = tempfile::tempdir()?;
    report.write(folder.path())?;
    for name in ["report.md", "report.json", "memory.svg", "traffic.svg"] {
        ensure!(folder.path().join(name).metadata()?.len() > 500, "{name} is empty");
    }
    Ok(())
}
