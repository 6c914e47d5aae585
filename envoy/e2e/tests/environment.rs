//! The canonical environment variables, as Envoy hands them to the VM: by value and from its own environment.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use corpus::answer::Answer;
use envoy_e2e::{Connection, Message, base_config, module};
use envoy_run::{Bootstrap, Echo, Envoy, Options, StartError, TenantManager};
use serde_json::{Value, json};

/// A service that is configured by its environment as far as it can be.
fn sparse() -> anyhow::Result<Value> {
    let mut config = base_config(json!({}))?;
    let members = config.as_object_mut().context("a configuration is an object")?;
    members.remove("enabled");
    members.remove("service");
    members.remove("modules");
    config["tenant_manager"] = json!({ "cluster": "tenant-manager" });
    Ok(config)
}

const VARIABLES: [(&str, &str); 9] = [
    ("MULTI_TENANT_ENABLED", "true"),
    ("APPLICATION_NAME", "payments"),
    ("MULTI_TENANT_URL", "http://tenants.example.com:8443/of/platform/"),
    ("MULTI_TENANT_TIMEOUT", "5"),
    ("MULTI_TENANT_CACHE_TTL_SEC", "60"),
    ("MULTI_TENANT_CIRCUIT_BREAKER_THRESHOLD", "2"),
    ("MULTI_TENANT_CIRCUIT_BREAKER_TIMEOUT_SEC", "7"),
    ("MULTI_TENANT_SERVICE_API_KEY", "key-of-the-environment"),
    // Of the bridge and of services: known, and without meaning here.
    ("MULTI_TENANT_REDIS_HOST", "redis.example.com"),
];

/// How the variables come to the VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// As values of the bootstrap.
    Value,
    /// As names of Envoy's own environment.
    Host,
}

struct Servers {
    upstream: Echo,
    tenant_manager: TenantManager,
}

impl Servers {
    async fn start() -> anyhow::Result<Self> {
        let record = json!({ "id": "acme", "databases": { "payments": {}, "billing": {} } });
        let answer = Answer {
            record: Some(record),
            ..Answer::default()
        };
        Ok(Self {
            upstream: Echo::start().await?,
            tenant_manager: TenantManager::start([("acme".to_owned(), answer)].into()).await?,
        })
    }

    /// An Envoy with this configuration and these variables.
    fn options(&self, config: &Value, variables: &[(&str, &str)], by: By) -> anyhow::Result<Options> {
        let mut bootstrap = Bootstrap::shipped()?
            .wasm(module()?)
            .plugin_config(&config.to_string())
            .cluster_endpoint("upstream", self.upstream.address())?
            .cluster_endpoint("tenant-manager", self.tenant_manager.address())?
            .listener_port(0)
            .admin_port(0);
        let names: Vec<_> = variables.iter().map(|(name, _)| *name).collect();
        let own = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let all: BTreeMap<_, _> = variables.iter().map(|(name, value)| own(name, value)).collect();
        bootstrap.plugin()["vm_config"]["environment_variables"] = match by {
            By::Value => json!({ "key_values": all }),
            // A name that Envoy's environment does not have is passed over.
            By::Host => json!({ "host_env_keys": names.into_iter().chain(["NOT_SET_ANYWHERE"]).collect::<Vec<_>>() }),
        };
        Ok(Options {
            environment: if by == By::Host { all } else { BTreeMap::new() },
            ..Options::new(bootstrap)
        })
    }
}

async fn send(envoy: &Envoy) -> anyhow::Result<envoy_e2e::Reply> {
    Connection::exchange(envoy.address(), &Message::of_tenant("acme", "/v1/accounts")).await
}

/// What the Tenant Manager was asked last: target, authority and key.
fn asked(servers: &Servers) -> anyhow::Result<[String; 3]> {
    let asked = servers.tenant_manager.requests().pop().context("nobody was asked")?;
    let value = |name| String::from_utf8_lossy(&asked.values(name).concat()).into_owned();
    Ok([asked.target.clone(), value("host"), value("x-api-key")])
}

#[tokio::test]
async fn variables_fill_what_the_document_leaves_out() -> anyhow::Result<()> {
    let servers = Servers::start().await?;
    for by in [By::Value, By::Host] {
        let envoy = Envoy::start(servers.options(&sparse()?, &VARIABLES, by)?).await?;
        let reply = send(&envoy).await?;
        ensure!(reply.status == 200, "{by:?}: {} {}", reply.status, reply.text());
        let expected = [
            "/of/platform/tenants/acme/services/payments/settings",
            "tenants.example.com:8443",
            "key-of-the-environment",
        ];
        ensure!(asked(&servers)? == expected, "{by:?}: {:?}", asked(&servers)?);
        for line in envoy.logged_since(0).await? {
            ensure!(!line.contains("key-of-the-environment"), "{by:?}: {line}");
        }
        envoy.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_document_wins_over_variables() -> anyhow::Result<()> {
    let servers = Servers::start().await?;
    let mut config = sparse()?;
    config["service"] = "billing".into();
    config["tenant_manager"] = json!({
        "cluster": "tenant-manager",
        "authority": "document.example.com",
        "path": "/v1/tenants/{tenantId}/associations/{service}/connections",
        "api_keys": [{ "value": "key-of-the-document" }],
    });
    let envoy = Envoy::start(servers.options(&config, &VARIABLES, By::Value)?).await?;
    let reply = send(&envoy).await?;
    ensure!(reply.status == 200, "{} {}", reply.status, reply.text());
    let expected = [
        "/v1/tenants/acme/associations/billing/connections",
        "document.example.com",
        "key-of-the-document",
    ];
    ensure!(asked(&servers)? == expected, "{:?}", asked(&servers)?);
    envoy.stop().await?;

    let before = servers.tenant_manager.total();
    config["enabled"] = false.into();
    let envoy = Envoy::start(servers.options(&config, &VARIABLES, By::Value)?).await?;
    let message = Message::new("GET", "/v1/accounts").line("x-tenant-id", "anything");
    let reply = Connection::exchange(envoy.address(), &message).await?;
    let seen = servers.upstream.requests().pop().context("nothing was forwarded")?;
    ensure!(
        reply.status == 200 && seen.values("x-tenant-id") == [b"anything"],
        "{} {seen:?}",
        reply.status
    );
    ensure!(servers.tenant_manager.total() == before);
    envoy.stop().await?;
    Ok(())
}

#[tokio::test]
async fn without_a_word_from_either_the_filter_is_switched_off() -> anyhow::Result<()> {
    let servers = Servers::start().await?;
    let variables: Vec<_> = VARIABLES
        .into_iter()
        .filter(|(name, _)| *name != "MULTI_TENANT_ENABLED")
        .collect();
    let envoy = Envoy::start(servers.options(&sparse()?, &variables, By::Value)?).await?;
    let reply = Connection::exchange(envoy.address(), &Message::new("GET", "/v1/accounts")).await?;
    ensure!(
        reply.status == 200 && servers.tenant_manager.total() == 0,
        "{} {}",
        reply.status,
        reply.text()
    );
    envoy.stop().await?;
    Ok(())
}

#[tokio::test]
async fn the_breaker_opens_as_the_variables_say() -> anyhow::Result<()> {
    let mut servers = Servers::start().await?;
    let envoy = Envoy::start(servers.options(&sparse()?, &VARIABLES, By::Host)?).await?;
    servers.tenant_manager.pause().await;
    for expected in [
        "TENANT_MANAGER_UNAVAILABLE",
        "TENANT_MANAGER_UNAVAILABLE",
        "CIRCUIT_OPEN",
    ] {
        let reply = send(&envoy).await?;
        ensure!(
            reply.code() == expected,
            "{expected}: {} {}",
            reply.status,
            reply.text()
        );
        if expected == "CIRCUIT_OPEN" {
            let seconds: u64 = reply.header("retry-after").context("no retry-after")?.parse()?;
            ensure!((1..=7).contains(&seconds), "{seconds}");
        }
    }
    envoy.stop().await?;
    Ok(())
}

/// What validation says of a fault; nothing of it may be a value.
async fn faults(servers: &Servers, config: &Value, variables: &[(&str, &str)], by: By) -> anyhow::Result<String> {
    match Envoy::validate(servers.options(config, variables, by)?).await {
        Ok(()) => anyhow::bail!("{variables:?} are taken"),
        Err(StartError::Exited { log, .. }) => {
            let told: Vec<_> = log
                .into_iter()
                .filter(|line| line.contains("configuration refused"))
                .collect();
            ensure!(!told.is_empty(), "nothing was said about {variables:?}");
            Ok(told.join("\n"))
        }
        Err(error) => Err(error.into()),
    }
}

#[tokio::test]
async fn validation_names_the_variable_that_was_meant() -> anyhow::Result<()> {
    let servers = Servers::start().await?;
    Envoy::validate(servers.options(&sparse()?, &VARIABLES, By::Value)?).await?;
    let rows = [
        ("MULTI_TENANT_API_KEY", "MULTI_TENANT_SERVICE_API_KEY"),
        ("MULTI_TENANT_CACHE_TTL", "MULTI_TENANT_CACHE_TTL_SEC"),
        (
            "MULTI_TENANT_CIRCUIT_BREAKER_TRESHOLD",
            "MULTI_TENANT_CIRCUIT_BREAKER_THRESHOLD",
        ),
        ("MULTI_TENANT_ENABLE", "MULTI_TENANT_ENABLED"),
        ("MULTI_TENANT_REDIS_HOSTS", "MULTI_TENANT_REDIS_HOST"),
    ];
    // All at once: every fault is told.
    let misspelt: Vec<_> = rows
        .map(|(name, _)| (name, "value-of-a-secret"))
        .into_iter()
        .chain(VARIABLES)
        .collect();
    for by in [By::Value, By::Host] {
        let told = faults(&servers, &sparse()?, &misspelt, by).await?;
        for (name, meant) in rows {
            let is_told = told
                .lines()
                .any(|line| line.contains(&format!("{name}: ")) && line.contains(meant));
            ensure!(is_told, "{by:?} {name}: {told}");
        }
        ensure!(!told.contains("value-of-a-secret"), "{told}");
    }
    Ok(())
}

#[tokio::test]
async fn a_value_that_means_nothing_is_a_fault_of_the_member_that_it_fills() -> anyhow::Result<()> {
    let servers = Servers::start().await?;
    // All at once, as validation tells them; the last is told instead of the first.
    let rows = [
        ("MULTI_TENANT_ENABLED", "yes", "/enabled"),
        ("APPLICATION_NAME", "no service", "/service"),
        ("MULTI_TENANT_URL", "ftp://secret@host", "/tenant_manager/authority"),
        ("MULTI_TENANT_TIMEOUT", "2s", "/tenant_manager/timeout_ms"),
        ("MULTI_TENANT_CACHE_TTL_SEC", "-1", "/tenant_manager/cache/ttl_seconds"),
        ("MULTI_TENANT_ENABLED", "", "/enabled"),
    ];
    let (last, first) = rows.split_last().context("there are some")?;
    for rows in [first, &[*last]] {
        let mut variables: BTreeMap<_, _> = VARIABLES.into_iter().collect();
        variables.extend(rows.iter().map(|(name, value, _)| (*name, *value)));
        let variables: Vec<_> = variables.into_iter().collect();
        let told = faults(&servers, &sparse()?, &variables, By::Value).await?;
        for (name, value, at) in rows {
            ensure!(told.contains(&format!("{at}: ")), "{name}={value}: {told}");
        }
        ensure!(!told.contains("secret@"), "{told}");
    }
    Ok(())
}
