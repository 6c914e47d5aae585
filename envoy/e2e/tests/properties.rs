//! What the filter tells others about a request: headers for the upstream, and with `scope.properties`
//! filter state for the access log, for Envoy's own filters and for routes.

use std::time::Duration;

use anyhow::{Context, ensure};
use corpus::answer::Answer;
use corpus::wire::Field;
use envoy_e2e::{Message, Reply, Setup, World};
use envoy_run::Bootstrap;
use serde_json::{Value, json};

/// How long a line of the access log may take.
const SOON: Duration = Duration::from_secs(10);

/// The requests of a tenant that Envoy itself lets pass.
const NATIVE_LIMIT: usize = 3;

/// What Envoy does with the properties, as an operator may configure it: they are in the access log, one
/// tenant is denied, another is routed elsewhere, and each has a bucket of its own.
fn used_by_envoy(bootstrap: &mut Bootstrap) {
    let hcm = bootstrap.hcm();
    let line = &mut hcm["access_log"][0]["typed_config"]["log_format"]["json_format"];
    for property in ["tenant_id", "tenant_module", "tenant_decision"] {
        line[property] = format!("%FILTER_STATE(wasm.{property}:PLAIN)%").into();
    }
    bootstrap.filter_behind(json!({
        "name": "envoy.filters.http.local_ratelimit",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
            "stat_prefix": "by_tenant",
            "filter_enabled": { "default_value": { "numerator": 100 } },
            "filter_enforced": { "default_value": { "numerator": 100 } },
            "token_bucket": { "max_tokens": 1000, "fill_interval": "3600s" },
            "rate_limits": [{ "actions": [{ "extension": {
                "name": "envoy.rate_limit_descriptors.expr",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.rate_limit_descriptors.expr.v3.Descriptor",
                    "descriptor_key": "tenant",
                    "text": "filter_state['wasm.tenant_id']",
                    "skip_if_error": true,
                },
            } }] }],
            "descriptors": [{
                "entries": [{ "key": "tenant" }],
                "token_bucket": { "max_tokens": NATIVE_LIMIT, "fill_interval": "3600s" },
            }],
        },
    }));
    bootstrap.filter_behind(json!({
        "name": "envoy.filters.http.rbac",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
            "rules": { "action": "DENY", "policies": { "no-globex": {
                "permissions": [{ "any": true }],
                "principals": [{ "filter_state": { "key": "wasm.tenant_id", "string_match": { "exact": "globex" } } }],
            } } },
        },
    }));
    let mut of_half = bootstrap.routes()[0].clone();
    of_half["match"]["filter_state"] = json!([{ "key": "wasm.tenant_id", "string_match": { "exact": "half" } }]);
    of_half["response_headers_to_add"] = json!([{ "header": { "key": "x-route", "value": "of-half" } }]);
    bootstrap.routes().insert(0, of_half);
}

async fn world(properties: bool) -> anyhow::Result<World> {
    let setup = Setup::of_corpus(json!({ "scope": { "properties": properties } }))?;
    setup.change(used_by_envoy).start().await
}

fn of(tenant: &str) -> Message {
    Message::of_tenant(tenant, "/v1/accounts")
}

/// The reply to a request, and what the access log has of it: tenant, module, decision.
async fn logged(world: &World, message: Message) -> anyhow::Result<(Reply, [Value; 3])> {
    let log = world.envoy.access_log();
    let mark = log.mark();
    let reply = world.send(&message).await?;
    let poll = async {
        while log.mark() == mark {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, poll)
        .await
        .context("no line of the access log")?;
    let line: Value = serde_json::from_str(&log.since(mark).concat())?;
    let seen = ["tenant_id", "tenant_module", "tenant_decision"].map(|name| line[name].clone());
    Ok((reply, seen))
}

#[tokio::test]
async fn the_access_log_has_tenant_module_and_decision_of_every_request() -> anyhow::Result<()> {
    let world = world(true).await?;
    let onboarding = |tenant: &str, decision: &str| [json!(tenant), json!("onboarding"), json!(decision)];
    let rows = [
        // Looked up, then known.
        (of("acme"), 200, onboarding("acme", "allowed")),
        (of("acme"), 200, onboarding("acme", "allowed")),
        (of("frozen"), 403, onboarding("frozen", "TENANT_SUSPENDED")),
        (of("nobody"), 404, onboarding("nobody", "TENANT_NOT_FOUND")),
        (
            of("half").target(b"/v1/transactions"),
            503,
            [json!("half"), json!("transaction"), json!("SERVICE_NOT_CONFIGURED")],
        ),
        (
            of("acme").line("x-storage-key", "../a"),
            400,
            onboarding("acme", "KEY_REJECTED"),
        ),
        (
            Message::new("GET", "/health"),
            200,
            [Value::Null, Value::Null, json!("public")],
        ),
        (
            Message::new("GET", "/v1/accounts"),
            401,
            [Value::Null, Value::Null, json!("TENANT_ID_REQUIRED")],
        ),
        (
            Message::new("GET", "/v1/%2e%2e/a"),
            400,
            [Value::Null, Value::Null, json!("PATH_REJECTED")],
        ),
    ];
    for (message, status, expected) in rows {
        let spoofed = message
            .clone()
            .line("x-tenant-id", "victim")
            .line("tenant_id", "victim");
        let (reply, seen) = logged(&world, spoofed).await?;
        ensure!(
            reply.status == status && seen == expected,
            "{message:?}: {} {seen:?}",
            reply.status
        );
    }
    world.check_workers_live().await?;
    world.stop().await
}

#[tokio::test]
async fn the_access_log_tells_who_was_let_through_unasked() -> anyhow::Result<()> {
    let config = json!({ "scope": { "properties": true }, "tenant_manager": { "on_unavailable": "allow" } });
    let mut world = Setup::of_corpus(config)?.change(used_by_envoy).start().await?;
    world.tenant_manager.pause().await;
    let (reply, seen) = logged(&world, of("acme")).await?;
    ensure!(reply.status == 200, "{} {}", reply.status, reply.text());
    ensure!(
        seen == [json!("acme"), json!("onboarding"), json!("unverified")],
        "{seen:?}"
    );
    ensure!(world.last_forwarded()?.values("x-tenant-resolution") == [b"unverified"]);
    world.stop().await
}

#[tokio::test]
async fn envoy_denies_routes_and_limits_by_the_tenant() -> anyhow::Result<()> {
    let world = world(true).await?;
    let denied = world.send(&of("globex")).await?;
    ensure!(
        denied.status == 403 && denied.text() == "RBAC: access denied",
        "{}",
        denied.text()
    );
    let passed = world.send(&of("half")).await?;
    ensure!(
        passed.status == 200 && passed.header("x-route").as_deref() == Some("of-half"),
        "{passed:?}"
    );
    let elsewhere = world.send(&of("acme")).await?;
    ensure!(
        elsewhere.status == 200 && elsewhere.header("x-route").is_none(),
        "{elsewhere:?}"
    );

    // Each tenant has used one of its requests.
    for tenant in ["acme", "half"] {
        for number in 1..NATIVE_LIMIT + 2 {
            let reply = world.send(&of(tenant)).await?;
            let expected = if number < NATIVE_LIMIT { 200 } else { 429 };
            ensure!(
                reply.status == expected,
                "request {number} of {tenant}: {} {}",
                reply.status,
                reply.text()
            );
        }
    }
    let public = world.send(&Message::new("GET", "/health")).await?;
    ensure!(
        public.status == 200,
        "nobody's requests are counted against no tenant: {}",
        public.status
    );
    ensure!(
        world.echo.total() == 2 * NATIVE_LIMIT + 1,
        "{} were forwarded",
        world.echo.total()
    );
    world.stop().await
}

#[tokio::test]
async fn switched_off_nobody_is_told() -> anyhow::Result<()> {
    let world = world(false).await?;
    for _ in 0..=NATIVE_LIMIT {
        for tenant in ["acme", "globex", "half"] {
            let (reply, seen) = logged(&world, of(tenant)).await?;
            ensure!(
                reply.status == 200 && reply.header("x-route").is_none(),
                "{tenant}: {reply:?}"
            );
            ensure!(seen == [Value::Null, Value::Null, Value::Null], "{tenant}: {seen:?}");
        }
    }
    let (reply, seen) = logged(&world, Message::new("GET", "/v1/accounts")).await?;
    ensure!(
        reply.status == 401 && seen == [Value::Null, Value::Null, Value::Null],
        "{seen:?}"
    );
    world.stop().await
}

/// Everything that a record can say.
fn of_schema() -> Answer {
    Answer {
        record: None,
        body: Some(json!({
            "id": "initech", "tenantSlug": "initech-inc", "tenantName": "Initech", "isolationMode": "schema",
            "databases": { "onboarding": { "postgresql": { "schema": "initech_1", "password": "hunter2" } } },
            "rabbitmq": { "onboarding": { "vhost": "initech-vhost" } },
        })),
        ..Answer::default()
    }
}

#[tokio::test]
async fn the_upstream_is_told_all_that_is_configured_and_nothing_that_a_client_says() -> anyhow::Result<()> {
    let emitted = [
        ("tenant_id", "x-tenant-id", "initech"),
        ("slug", "x-tenant-slug", "initech-inc"),
        ("isolation_mode", "x-isolation", "schema"),
        ("schema", "x-schema", "initech_1"),
        ("module", "x-module", "onboarding"),
        ("vhost", "x-vhost", "initech-vhost"),
    ];
    let emit: Value = emitted.iter().map(|(what, name, _)| (*what, *name)).collect();
    let scope = json!({ "emit": emit, "emit_claims": { "sub": "x-user-id", "nothing": "x-nothing" } });
    let setup = Setup::of_corpus(json!({ "scope": scope }))?;
    let world = setup
        .tenants([("initech".to_owned(), of_schema())].into())
        .start()
        .await?;
    let names = emitted
        .iter()
        .map(|(_, name, _)| *name)
        .chain(["x-user-id", "x-nothing", "x-tenant-name"]);
    let mut spoofed: Vec<Field> = Vec::new();
    for name in names {
        for spelling in [
            name.to_owned(),
            name.to_ascii_uppercase(),
            name.replace('-', "_"),
            name.replace('-', "."),
        ] {
            spoofed.push((spelling.into(), b"victim".to_vec()));
        }
    }
    let made = json!({ "tenant": "initech", "claims": { "sub": "user 7" } });
    let token = corpus::case::Token::Made(serde_json::from_value(made)?);
    let token = corpus::mint::Keys::shared().token(&token, envoy_e2e::now())?;
    for target in ["/v1/accounts", "/v1/accounts", "/health"] {
        let message = Message::new("GET", target).line("authorization", [b"Bearer ", &token[..]].concat());
        let reply = world.send(&message.lines(spoofed.clone())).await?;
        ensure!(reply.status == 200, "{} {}", reply.status, reply.text());
        let seen = world.last_forwarded()?;
        for (_, name, value) in emitted.iter().chain([&("sub", "x-user-id", "user 7")]) {
            let expected: &[&[u8]] = if target == "/health" { &[] } else { &[value.as_bytes()] };
            ensure!(
                seen.values(name) == expected,
                "{target} {name}: {:?}",
                seen.values(name)
            );
        }
        for (name, value) in &seen.headers {
            let value = String::from_utf8_lossy(value);
            let is_said_by_others = value.contains("victim") || value.contains("hunter2");
            ensure!(!is_said_by_others, "{target} {name}: {value}");
        }
    }
    world.stop().await
}
