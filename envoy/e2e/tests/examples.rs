//! The bootstraps under `examples`: Envoy takes them as they are, and what they promise happens. So it takes
//! what the documents show of its own configuration.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use corpus::answer::Answer;
use envoy_e2e::{Connection, Message, base_config, module};
use envoy_run::{Bootstrap, Echo, Envoy, Options, TenantManager};
use serde_json::{Value, json};

/// How long a line of the access log may take, and until a limit is reached.
const SOON: Duration = Duration::from_secs(10);

/// The variable that the examples take over from Envoy's own environment.
const API_KEY: (&str, &str) = ("MULTI_TENANT_SERVICE_API_KEY", "key-of-the-examples");

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name)
}

/// Every file there that is a bootstrap.
fn bootstraps() -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(example(""))? {
        let path = entry?.path();
        if std::fs::read_to_string(&path)?.contains("\nstatic_resources:\n") {
            found.push(path);
        }
    }
    Ok(found)
}

fn options(bootstrap: Bootstrap) -> Options {
    let (name, value) = API_KEY;
    Options {
        environment: [(name.to_owned(), value.to_owned())].into(),
        ..Options::new(bootstrap)
    }
}

#[tokio::test]
async fn envoy_takes_every_bootstrap_as_it_is() -> anyhow::Result<()> {
    let found = bootstraps()?;
    ensure!(found.len() >= 2, "{found:?}");
    for path in found {
        let bootstrap = Bootstrap::load(&path)?.wasm(module()?);
        let judged = Envoy::validate(options(bootstrap)).await;
        judged.with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// The YAML under a heading of a document, up to the next heading.
fn shown(document: &str, heading: &str) -> anyhow::Result<Vec<Value>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(document);
    let text = std::fs::read_to_string(path)?;
    let (_, section) = text
        .split_once(&format!("\n## {heading}\n"))
        .context("no such heading")?;
    let section = section.split("\n## ").next().unwrap_or_default();
    let blocks = section.split("```yaml\n").skip(1);
    let blocks = blocks.filter_map(|block| block.split("```").next());
    let read = |block| serde_norway::from_str(block).with_context(|| format!("{document}, {heading}: {block}"));
    blocks.map(read).collect()
}

/// Puts what a document shows where it belongs: a list of HTTP filters, a list of routes, or members of the
/// access log.
fn put(bootstrap: &mut Bootstrap, block: Value) -> anyhow::Result<()> {
    match block {
        Value::Object(members) => {
            let line = &mut bootstrap.hcm()["access_log"][0]["typed_config"]["log_format"]["json_format"];
            let line = line.as_object_mut().context("the access log is JSON")?;
            line.extend(members);
        }
        Value::Array(elements) => {
            for mut element in elements {
                if element["match"].is_object() {
                    // Whatever cluster it names, this one is there.
                    element["route"]["cluster"] = "upstream".into();
                    bootstrap.routes().insert(0, element);
                } else {
                    bootstrap.filter_behind(element);
                }
            }
        }
        other => anyhow::bail!("this belongs nowhere: {other}"),
    }
    Ok(())
}

#[tokio::test]
async fn envoy_takes_what_the_documents_show_of_it() -> anyhow::Result<()> {
    let sections = [
        ("operations.md", "What Envoy can do with the tenant", 4),
        ("configuration.md", "`modules`", 1),
        ("configuration.md", "`paths`", 1),
    ];
    let mut bootstrap = Bootstrap::shipped()?.wasm(module()?);
    for (document, heading, count) in sections {
        let blocks = shown(document, heading)?;
        ensure!(blocks.len() == count, "{document}, {heading}: {blocks:?}");
        for block in blocks {
            put(&mut bootstrap, block)?;
        }
    }
    let mut options = options(bootstrap);
    let key = ("TENANTGATE_EVENTS_KEY", "events-key-of-the-documents");
    options.environment.insert(key.0.to_owned(), key.1.to_owned());
    Envoy::validate(options).await?;
    Ok(())
}

/// The documents' example of a plugin configuration, with keys in the place of those that it leaves out.
#[tokio::test]
async fn the_filter_takes_the_configuration_at_the_end_of_its_reference() -> anyhow::Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let text = std::fs::read_to_string(path)?;
    let (_, example) = text.rsplit_once("```yaml\n").context("there is an example")?;
    let example = example.split("```").next().unwrap_or_default();
    let mut config: Value = serde_norway::from_str(&example.replace("keys: [ … ]", "keys: []"))?;
    let keys = base_config(json!({}))?;
    config["auth"]["issuers"][0]["jwks"] = keys["auth"]["issuers"][0]["jwks"].clone();
    let bootstrap = Bootstrap::shipped()?
        .wasm(module()?)
        .plugin_config(&config.to_string())
        .plugin_env("TENANTGATE_EVENTS_KEY", "events-key-of-the-documents");
    Envoy::validate(options(bootstrap)).await?;
    Ok(())
}

/// The object store's bootstrap between these, with issuers whose tokens can be made and a limit for
/// `globex` that can be reached.
fn object_store(store: &Echo, tenant_manager: &TenantManager) -> anyhow::Result<Bootstrap> {
    let mut bootstrap = Bootstrap::load(&example("envoy-object-store.yaml"))?
        .wasm(module()?)
        .cluster_endpoint("objects", store.address())?
        .cluster_endpoint("tenant-manager", tenant_manager.address())?
        .listener_port(0)
        .admin_port(0);
    let text = bootstrap.plugin()["configuration"]["value"].as_str();
    let mut config: Value = serde_json::from_str(text.context("the plugin has a configuration")?)?;
    config["auth"]["issuers"] = base_config(json!({}))?["auth"]["issuers"].take();
    config["rate_limit"]["overrides"]["globex"] = json!({ "requests_per_second": 1, "burst": 1 });
    Ok(bootstrap.plugin_config(&config.to_string()))
}

fn tenants() -> BTreeMap<String, Answer> {
    let tenant = |id: &str| {
        let record = json!({ "id": id, "databases": { "objects": {} } });
        let answer = Answer {
            record: Some(record),
            ..Answer::default()
        };
        (id.to_owned(), answer)
    };
    ["acme", "globex"].map(tenant).into()
}

fn naming(key: &str) -> Answer {
    Answer {
        headers: vec![("x-object-key".to_owned(), key.to_owned())],
        ..Answer::default()
    }
}

#[tokio::test]
async fn in_front_of_an_object_store_every_tenant_stays_in_its_folder() -> anyhow::Result<()> {
    let store = Echo::start().await?;
    let tenant_manager = TenantManager::start(tenants()).await?;
    let envoy = Envoy::start(options(object_store(&store, &tenant_manager)?)).await?;
    let send = async |message: Message| Connection::exchange(envoy.address(), &message).await;
    let acme = |target: &str| Message::of_tenant("acme", target);

    store.will_answer([naming("acme/reports/q1.pdf")]);
    let reply = send(acme("/objects/reports/q1.pdf?versionId=7")).await?;
    ensure!(reply.status == 200, "{} {}", reply.status, reply.text());
    ensure!(
        reply.header("x-object-key").as_deref() == Some("reports/q1.pdf"),
        "{reply:?}"
    );
    let policy = reply.header("ratelimit-policy");
    ensure!(policy.as_deref() == Some("\"tenant\";q=2000;w=2"), "{policy:?}");
    let seen = store.requests().pop().context("the store got it")?;
    ensure!(
        seen.target == "/objects/acme/reports/q1.pdf?versionId=7",
        "{}",
        seen.target
    );
    ensure!(seen.values("authorization").is_empty(), "{seen:?}");

    store.will_answer([naming("globex/reports/q1.pdf")]);
    let leak = send(acme("/objects/reports/q1.pdf")).await?;
    ensure!(
        leak.status == 502 && leak.code() == "TENANT_LEAK_BLOCKED",
        "{}",
        leak.text()
    );

    let total = store.total();
    let refused = [
        (acme("/objects?list-type=2&prefix=globex/"), 400, "KEY_REJECTED"),
        (acme("/objects/%252e%252e/globex/a"), 400, "PATH_REJECTED"),
        (
            acme("/objects/a")
                .method("PUT")
                .line("x-amz-copy-source", "/objects/globex/a"),
            501,
            "",
        ),
        (
            acme("/objects/a")
                .method("PUT")
                .line("x-amz-rename-source", "/objects/globex/a"),
            501,
            "",
        ),
        (acme("/other-bucket/a"), 404, ""),
        (Message::new("GET", "/objects/globex/a"), 401, "TENANT_ID_REQUIRED"),
    ];
    for (message, status, code) in refused {
        let reply = send(message.clone()).await?;
        let told = reply.text();
        ensure!(
            reply.status == status && reply.code() == code,
            "{message:?}: {} {told}",
            reply.status
        );
    }
    ensure!(store.total() == total, "the store saw {:?}", store.requests());

    let log = envoy.access_log();
    let mark = log.mark();
    let until_limited = async {
        loop {
            let reply = send(Message::of_tenant("globex", "/objects/a")).await?;
            if reply.status != 200 {
                return anyhow::Ok(reply);
            }
        }
    };
    let limited = tokio::time::timeout(SOON, until_limited).await??;
    ensure!(
        limited.status == 429 && limited.code() == "TENANT_RATE_LIMITED",
        "{}",
        limited.text()
    );
    let line = async {
        loop {
            if let Some(line) = log.since(mark).iter().find(|line| line.contains("TENANT_RATE_LIMITED")) {
                return line.clone();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let line = tokio::time::timeout(SOON, line)
        .await
        .context("no line of the access log")?;
    let line: Value = serde_json::from_str(&line)?;
    ensure!(
        line["tenant"] == "globex" && line["decision"] == "TENANT_RATE_LIMITED",
        "{line}"
    );
    envoy.stop().await?;
    Ok(())
}
