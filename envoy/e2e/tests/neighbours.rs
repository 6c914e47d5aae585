//! Two plugins in one VM, and a configuration that changes while requests wait.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use corpus::answer::Answer;
use envoy_e2e::{Connection, Message, Setup, base_config, bootstrap_between};
use envoy_run::{Bootstrap, Echo, Envoy, ListenerFile, Options, TenantManager};
use serde_json::{Value, json};

/// How long anything may take that is waited for here: compiling the module again takes most of it.
const SOON: Duration = Duration::from_secs(60);

const UPDATED: &str = "listener_manager.lds.update_success";

fn record(module: &str) -> Answer {
    Answer {
        body: Some(json!({ "databases": { module: {} } })),
        ..Answer::default()
    }
}

/// A second listener with our filter for another service, in the same VM.
fn add_payments(bootstrap: &mut Bootstrap) {
    let patch = json!({ "service": "payments", "modules": { "default": "payments", "routes": [] } });
    let config = base_config(patch).expect("the corpus can be read");
    let mut listener = bootstrap.root_mut()["static_resources"]["listeners"][0].clone();
    listener["name"] = "payments".into();
    let plugin = listener
        .pointer_mut("/filter_chains/0/filters/0/typed_config/http_filters/0/typed_config/config")
        .expect("our filter comes first");
    plugin["name"] = "payments".into();
    plugin["configuration"]["value"] = config.to_string().into();
    let listeners = bootstrap.root_mut()["static_resources"]["listeners"].as_array_mut();
    listeners.expect("a list").push(listener);
}

#[tokio::test]
async fn plugins_in_one_vm_ask_and_wait_side_by_side() -> anyhow::Result<()> {
    let world = Setup::of_corpus(json!({ "tenant_manager": { "timeout_ms": 10_000 } }))?
        .change(add_payments)
        .start()
        .await?;
    let payments = world.envoy.listener("payments").context("the second listener")?;
    // The answer is not yet there for either; it grants the module of the second.
    world
        .tenant_manager
        .merge(BTreeMap::from([("both".to_owned(), record("payments"))]));
    world.tenant_manager.hold();
    let message = Message::of_tenant("both", "/v1/anything");
    let release = async {
        world.tenant_manager.wait_for(2, SOON).await?;
        world.tenant_manager.release();
        anyhow::Ok(())
    };
    let (of_ledger, of_payments, ()) =
        tokio::try_join!(world.send(&message), Connection::exchange(payments, &message), release)?;
    ensure!(of_ledger.code() == "SERVICE_NOT_CONFIGURED", "{}", of_ledger.text());
    ensure!(
        of_payments.status == 200,
        "{} {}",
        of_payments.status,
        of_payments.text()
    );

    let asked: Vec<String> = world
        .tenant_manager
        .requests()
        .into_iter()
        .map(|request| request.target)
        .collect();
    let about = |service: &str| asked.iter().filter(|target| target.contains(service)).count();
    ensure!(about("/services/payments/") == 1 && asked.len() == 2, "{asked:?}");
    // Neither has pushed out what the other knows.
    world.send(&message).await?;
    let again = Connection::exchange(payments, &message).await?;
    ensure!(again.status == 200, "{} {}", again.status, again.text());
    ensure!(world.tenant_manager.total() == 2, "each has its own record");
    world.check_workers_live().await?;
    world.stop().await
}

#[tokio::test]
async fn a_lookup_survives_an_update_and_so_does_everyone_who_waits() -> anyhow::Result<()> {
    let echo = Echo::start().await?;
    let tenants = corpus::load(&corpus::cases_dir())?.base.tenants;
    let tenant_manager = TenantManager::start(tenants).await?;
    let bootstrap = |patch: Value| bootstrap_between(patch, &echo, &tenant_manager);
    let patient =
        |module: &str| json!({ "tenant_manager": { "timeout_ms": 60_000 }, "scope": { "emit": { "module": module } } });
    let mut listeners = ListenerFile::new()?;
    let options = Options {
        // Long enough that whoever waits in the old listener is answered there.
        drain_time: SOON,
        ..Options::new(listeners.write(bootstrap(patient("x-tenant-module"))?)?)
    };
    let envoy = Envoy::start(options).await?;
    tenant_manager.hold();
    let message = Message::of_tenant("acme", "/v1/accounts");
    let update = async {
        tenant_manager.wait_for(1, SOON).await?;
        listeners.write(bootstrap(patient("x-tenant-part"))?)?;
        envoy.wait_for_stat(UPDATED, SOON, |updates| updates == 2).await?;
        tenant_manager.release();
        anyhow::Ok(())
    };
    let address = envoy.address();
    let (first, second, ()) = tokio::try_join!(
        Connection::exchange(address, &message),
        Connection::exchange(address, &message),
        update
    )?;
    for reply in [first, second] {
        ensure!(reply.status == 200, "{} {}", reply.status, reply.text());
    }
    ensure!(tenant_manager.total() == 1, "{} questions", tenant_manager.total());
    envoy.stop().await?;
    Ok(())
}
