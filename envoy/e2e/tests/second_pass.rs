//! Internal redirects: Envoy sends a request through the filter again, with headers that the first pass has
//! scoped. Scoped once or refused: never twice, never not at all.

use std::time::Duration;

use anyhow::ensure;
use corpus::answer::Answer;
use envoy_e2e::{Connection, KeepAlive, Message, Reply, Setup, World};
use envoy_run::{Bootstrap, ByPath, Recorded, Scripted};
use serde_json::{Value, json};

/// How long anything may take that is waited for here.
const SOON: Duration = Duration::from_secs(10);

/// Has Envoy follow redirects itself, and take what is on this machine for internal: so that the headers
/// by which it knows a second pass reach the filter from clients too.
fn redirects(bootstrap: &mut Bootstrap) {
    let policy = json!({ "max_internal_redirects": 3, "redirect_response_codes": [302, 307] });
    for route in bootstrap.routes() {
        route["route"]["internal_redirect_policy"] = policy.clone();
    }
    let here = json!({ "cidr_ranges": [{ "address_prefix": "127.0.0.0", "prefix_len": 8 }] });
    bootstrap.hcm()["internal_address_config"] = here;
}

async fn world(patch: Value) -> anyhow::Result<World> {
    let mut config = json!({ "scope": {
        "headers": [
            { "name": "x-routing-key", "kind": "routing_key" },
            { "name": "x-binding-key", "kind": "binding_key" },
            { "name": "x-redis-key", "kind": "redis_key" },
            { "name": "idempotency-key", "kind": "idempotency_key" },
            { "name": "x-storage-key", "kind": "storage_key" },
        ],
        "path": [{ "prefix": "/storage", "kind": "storage_path" }],
        "emit_claims": { "sub": "x-user-id" },
    } });
    json_merge(&mut config, patch);
    Setup::of_corpus(config)?.change(redirects).start().await
}

fn json_merge(to: &mut Value, patch: Value) {
    if let (Value::Object(to), Value::Object(patch)) = (to, patch) {
        for (name, value) in patch {
            if value.is_object() {
                json_merge(to.entry(name).or_insert_with(|| json!({})), value);
            } else {
                to.insert(name, value);
            }
        }
    }
}

fn to(path: &str) -> Answer {
    Answer {
        status: Some(302),
        headers: vec![("location".to_owned(), format!("http://ledger.example.com{path}"))],
        ..Answer::default()
    }
}

/// A request with a key of each kind, one of them on two lines, and lies about its tenant.
fn with_keys(tenant: &str, target: &str) -> Message {
    Message::of_tenant(tenant, target)
        .line("x-routing-key", "orders.created")
        .line("x-binding-key", "orders.*")
        .line("x-redis-key", "balance:7")
        .line("X-Redis-Key", "balance:8")
        .line("idempotency-key", "1")
        .line("x-storage-key", "a/b.txt")
        .line("x-tenant-id", "victim")
        .line("x_storage_key", "victim/a")
        .line("x-user-id", "victim")
}

/// Checks that a request arrived with its keys scoped to the tenant, once.
fn ensure_scoped(seen: &Recorded, tenant: &str) -> anyhow::Result<()> {
    let rows: [(&str, &[&str]); 8] = [
        ("x-routing-key", &[&format!("orders.created.{tenant}")]),
        ("x-binding-key", &[&format!("orders.*.{tenant}")]),
        (
            "x-redis-key",
            &[
                &format!("tenant:{tenant}:balance:7"),
                &format!("tenant:{tenant}:balance:8"),
            ],
        ),
        ("idempotency-key", &[&format!("tenant:{tenant}:1")]),
        ("x-storage-key", &[&format!("{tenant}/a/b.txt")]),
        ("x-tenant-id", &[tenant]),
        ("x_storage_key", &[]),
        ("x-user-id", &["user-1"]),
    ];
    for (name, expected) in rows {
        let values: Vec<_> = seen.values(name).into_iter().map(String::from_utf8_lossy).collect();
        ensure!(values == expected, "{} {name}: {values:?}", seen.target);
    }
    Ok(())
}

/// What the upstream got since there had been so many requests: target and tenant of each.
fn seen_since(world: &World, total: usize) -> Vec<(String, String)> {
    let seen = world.echo.requests().split_off(total);
    let tenant = |seen: &Recorded| {
        let tenants = seen.values("x-tenant-id");
        String::from_utf8_lossy(&tenants.concat()).into_owned()
    };
    seen.iter().map(|seen| (seen.target.clone(), tenant(seen))).collect()
}

fn ensure_denied(reply: &Reply, status: u16, code: &str) -> anyhow::Result<()> {
    ensure!(
        reply.status == status && reply.code() == code,
        "{} {}",
        reply.status,
        reply.text()
    );
    Ok(())
}

#[tokio::test]
async fn keys_are_scoped_once_however_often_a_request_is_redirected() -> anyhow::Result<()> {
    let world = world(json!({})).await?;
    // The first waits for its lookup, the second does not.
    for _ in 0..2 {
        let before = world.echo.total();
        world
            .echo
            .will_answer([to("/v1/second"), to("/v1/third?x=1"), to("/v1/fourth")]);
        let reply = world.send(&with_keys("acme", "/v1/first")).await?;
        ensure!(reply.status == 200, "{} {}", reply.status, reply.text());
        let all = world.echo.requests().split_off(before);
        let targets: Vec<_> = all.iter().map(|seen| seen.target.as_str()).collect();
        ensure!(
            targets == ["/v1/first", "/v1/second", "/v1/third?x=1", "/v1/fourth"],
            "{targets:?}"
        );
        for seen in &all {
            ensure_scoped(seen, "acme")?;
        }
    }
    world.check_workers_live().await?;
    world.stop().await
}

#[tokio::test]
async fn it_is_so_without_the_token_and_the_claims_of_the_first_pass_stay() -> anyhow::Result<()> {
    let world = world(json!({ "auth": { "forward_token": false } })).await?;
    let made = json!({ "tenant": "acme", "claims": { "sub": "user-7" } });
    let token = corpus::case::Token::Made(serde_json::from_value(made)?);
    let token = corpus::mint::Keys::shared().token(&token, envoy_e2e::now())?;
    for keys in [vec![], vec![("x-storage-key", "a")]] {
        let before = world.echo.total();
        world.echo.will_answer([to("/v1/second")]);
        let keys = keys.into_iter().map(|(name, value)| (name.into(), value.into()));
        let message = Message::new("GET", "/v1/first")
            .line("authorization", [b"Bearer ", &token[..]].concat())
            .line("x-user-id", "victim")
            .lines(keys);
        let reply = world.send(&message).await?;
        ensure!(reply.status == 200, "{} {}", reply.status, reply.text());
        let all = world.echo.requests().split_off(before);
        ensure!(all.len() == 2, "{all:?}");
        for seen in all {
            ensure!(seen.values("authorization").is_empty(), "{}: the token", seen.target);
            ensure!(seen.values("x-tenant-id") == [b"acme"], "{}", seen.target);
            ensure!(seen.values("x-user-id") == [b"user-7"], "{}", seen.target);
        }
    }
    world.stop().await
}

#[tokio::test]
async fn from_a_public_path_to_a_protected_one_a_token_is_needed() -> anyhow::Result<()> {
    let world = world(json!({})).await?;
    world.echo.will_answer([to("/v1/accounts")]);
    let anonymous = Message::new("GET", "/health").line("x-storage-key", "victim/a");
    ensure_denied(&world.send(&anonymous).await?, 401, "TENANT_ID_REQUIRED")?;
    ensure!(seen_since(&world, 0) == [("/health".to_owned(), String::new())]);

    world.echo.will_answer([to("/v1/accounts")]);
    let reply = world.send(&with_keys("acme", "/health")).await?;
    ensure!(reply.status == 200, "{} {}", reply.status, reply.text());
    let all = world.echo.requests().split_off(1);
    for (seen, tenant) in all.iter().zip([&[][..], &[&b"acme"[..]]]) {
        ensure!(seen.values("x-tenant-id") == tenant, "{seen:?}");
        ensure!(
            seen.values("x-storage-key").is_empty(),
            "what came on a public path is out: {seen:?}"
        );
    }
    world.stop().await
}

#[tokio::test]
async fn from_a_protected_path_to_a_public_one_no_tenant_and_no_key_goes_along() -> anyhow::Result<()> {
    let world = world(json!({})).await?;
    world.echo.will_answer([to("/health")]);
    let reply = world.send(&with_keys("acme", "/v1/accounts")).await?;
    ensure!(reply.status == 200, "{} {}", reply.status, reply.text());
    let seen = world.last_forwarded()?;
    ensure!(seen.target == "/health", "{}", seen.target);
    for name in [
        "x-tenant-id",
        "x-routing-key",
        "x-redis-key",
        "idempotency-key",
        "x-storage-key",
    ] {
        ensure!(seen.values(name).is_empty(), "{name}: {:?}", seen.values(name));
    }
    world.stop().await
}

#[tokio::test]
async fn the_second_pass_is_enforced_again_and_counted_once() -> anyhow::Result<()> {
    let world = world(json!({ "rate_limit": { "requests_per_second": 1, "burst": 2 } })).await?;
    // Another module, which this tenant has not.
    world.echo.will_answer([to("/v1/transactions")]);
    let reply = world.send(&with_keys("half", "/v1/first")).await?;
    ensure_denied(&reply, 503, "SERVICE_NOT_CONFIGURED")?;
    world.echo.will_answer([to("/v1/%2e%2e/a")]);
    ensure_denied(
        &world.send(&with_keys("globex", "/v1/first")).await?,
        400,
        "PATH_REJECTED",
    )?;
    // The bucket holds two, and a redirect takes one.
    world
        .echo
        .will_answer([to("/v1/second"), to("/v1/third"), to("/v1/fourth")]);
    let before = world.echo.total();
    let reply = world.send(&with_keys("acme", "/v1/first")).await?;
    ensure!(
        reply.status == 200 && world.echo.total() == before + 4,
        "{} {}",
        reply.status,
        reply.text()
    );
    world.stop().await
}

#[tokio::test]
async fn a_tenant_suspended_between_two_passes_is_refused_at_the_second() -> anyhow::Result<()> {
    let upstream = Scripted::<ByPath>::start([("/v1/first".to_owned(), to("/v1/second"))].into()).await?;
    let setup = Setup::of_corpus(json!({}))?.tenant_events()?.change(redirects);
    let world = setup.upstream(upstream.address()).start().await?;
    upstream.hold();
    let told = async {
        upstream.wait_for(1, SOON).await?;
        let events = json!({ "type": "tenant.suspended", "tenantId": "acme" });
        let reply = world.tell(&events).await?;
        ensure!(reply.status == 200, "{} {}", reply.status, reply.text());
        upstream.release();
        Ok(())
    };
    let message = Message::of_tenant("acme", "/v1/first").line("x-storage-key", "a");
    let (reply, ()) = tokio::try_join!(world.send(&message), told)?;
    ensure_denied(&reply, 403, "TENANT_SUSPENDED")?;
    ensure!(upstream.total() == 1, "{:?}", upstream.requests());
    world.stop().await
}

#[tokio::test]
async fn who_says_that_it_was_here_before_is_not_believed() -> anyhow::Result<()> {
    let world = world(json!({})).await?;
    let mut connection = KeepAlive::new(world.envoy.address());
    let claims = |message: Message| {
        message
            .line("x-envoy-original-url", "http://ledger.example.com/v1/first")
            .line("x-envoy-internal", "true")
            .line("tenantgate_pass", "victim")
    };
    // On a connection on which somebody was redirected just before, too.
    world.echo.will_answer([to("/v1/second")]);
    let reply = connection.send(&with_keys("acme", "/v1/first")).await?;
    ensure!(
        reply.status == 200 && world.echo.total() == 2,
        "{} {}",
        reply.status,
        reply.text()
    );

    let spoofed = claims(Message::of_tenant("globex", "/v1/first").line("x-storage-key", "acme/a"));
    let reply = connection.send(&spoofed).await?;
    ensure!(reply.status == 200, "{} {}", reply.status, reply.text());
    let seen = world.last_forwarded()?;
    ensure!(
        !seen.values("x-envoy-original-url").is_empty(),
        "the header must reach the filter: {seen:?}"
    );
    ensure!(seen.values("x-tenant-id") == [b"globex"], "{seen:?}");
    ensure!(seen.values("x-storage-key") == [b"globex/acme/a"], "{seen:?}");

    let own = claims(Message::of_tenant("acme", "/storage/acme/a").line("x-storage-key", "acme/a"));
    ensure!(connection.send(&own).await?.status == 200);
    let seen = world.last_forwarded()?;
    ensure!(
        seen.values("x-storage-key") == [b"acme/acme/a"] && seen.target == "/storage/acme/acme/a",
        "{seen:?}"
    );

    let anonymous = claims(Message::new("GET", "/v1/first").line("x-storage-key", "acme/a"));
    let reply = Connection::exchange(world.envoy.address(), &anonymous).await?;
    ensure_denied(&reply, 401, "TENANT_ID_REQUIRED")?;
    world.stop().await
}

/// What a redirect to a path in front of a store comes to: a target that the upstream gets, or a denial.
type Outcome = Result<&'static str, (u16, &'static str)>;

#[tokio::test]
async fn a_redirect_into_a_store_stays_inside_the_tenant_or_is_refused() -> anyhow::Result<()> {
    let world = world(json!({})).await?;
    let rejected: Outcome = Err((400, "KEY_REJECTED"));
    let hazardous: Outcome = Err((400, "PATH_REJECTED"));
    let rows: [(&str, &str, Outcome); 12] = [
        // Nothing was scoped by the first pass: the second does it.
        ("/v1/first", "/storage/a", Ok("/storage/acme/a")),
        ("/v1/first", "/storage/globex/a", Ok("/storage/acme/globex/a")),
        ("/v1/first", "/Storage/a", rejected),
        ("/v1/first", "/storage/../globex/a", hazardous),
        // The first pass has scoped the path: now it must be inside.
        ("/storage/a", "/storage/acme/b?x=1", Ok("/storage/acme/b?x=1")),
        ("/storage/a", "/v1/second", Ok("/v1/second")),
        ("/storage/a", "/storage/b", rejected),
        ("/storage/a", "/storage/globex/b", rejected),
        ("/storage/a", "/storage/acme", rejected),
        ("/storage/a", "/storage/ACME/b", rejected),
        ("/storage/a", "//storage/acme/b", rejected),
        ("/storage/a", "/storage/acme/%2e%2e/globex/b", hazardous),
    ];
    for (first, second, expected) in rows {
        let before = world.echo.total();
        world.echo.will_answer([to(second)]);
        let reply = world.send(&Message::of_tenant("acme", first)).await?;
        let seen = seen_since(&world, before);
        let target = seen.last().map(|(target, _)| target.as_str()).unwrap_or_default();
        let tenants: Vec<_> = seen.iter().map(|(_, tenant)| tenant.as_str()).collect();
        match expected {
            Ok(expected) => {
                ensure!(
                    reply.status == 200,
                    "{first} to {second}: {} {}",
                    reply.status,
                    reply.text()
                );
                ensure!(
                    target == expected && tenants == ["acme"; 2],
                    "{first} to {second}: {seen:?}"
                );
            }
            Err((status, code)) => {
                ensure_denied(&reply, status, code)?;
                ensure!(tenants == ["acme"], "{first} to {second}: {seen:?}");
            }
        }
    }
    world.check_workers_live().await?;
    world.stop().await
}
