//! A denial that the host does not let the filter send: what was to be denied is held all the same.

use std::time::Duration;

use anyhow::{Context, ensure};
use corpus::answer::Answer;
use envoy_e2e::{Feature, Message, Reply, Setup, World};
use envoy_run::Bootstrap;
use serde_json::{Value, json};

/// How long anything may take that is waited for here.
const SOON: Duration = Duration::from_secs(10);

/// What Envoy logs of a call that it refuses.
const RESTRICTED: &str = "Attempted call to restricted proxy-wasm capability: ";

const SEND: &str = "proxy_send_local_response";

/// What the filter needs but [`SEND`]: the hostcalls that it makes and the callbacks that it waits
/// for. One that is missing here shows in the log.
const CAPABILITIES: &[&str] = &[
    "clock_time_get",
    "environ_get",
    "environ_sizes_get",
    "fd_write",
    "proc_exit",
    "random_get",
    "proxy_add_header_map_value",
    "proxy_call_foreign_function",
    "proxy_close_stream",
    "proxy_continue_stream",
    "proxy_define_metric",
    "proxy_dequeue_shared_queue",
    "proxy_enqueue_shared_queue",
    "proxy_get_buffer_bytes",
    "proxy_get_header_map_pairs",
    "proxy_get_header_map_value",
    "proxy_get_metric",
    "proxy_get_property",
    "proxy_set_property",
    "proxy_get_shared_data",
    "proxy_http_call",
    "proxy_increment_metric",
    "proxy_log",
    "proxy_record_metric",
    "proxy_register_shared_queue",
    "proxy_remove_header_map_value",
    "proxy_replace_header_map_value",
    "proxy_set_effective_context",
    "proxy_set_shared_data",
    "proxy_set_tick_period_milliseconds",
    "proxy_on_configure",
    "proxy_on_context_create",
    "proxy_on_delete",
    "proxy_on_done",
    "proxy_on_http_call_response",
    "proxy_on_log",
    "proxy_on_queue_ready",
    "proxy_on_request_body",
    "proxy_on_request_headers",
    "proxy_on_request_trailers",
    "proxy_on_tick",
    "proxy_on_vm_start",
];

fn allow(bootstrap: &mut Bootstrap, capabilities: impl Iterator<Item = &'static str>) {
    let allowed: serde_json::Map<String, Value> = capabilities.map(|name| (name.to_owned(), json!({}))).collect();
    let allowed = json!({ "allowed_capabilities": allowed });
    if Feature::CapabilitiesOfVms.is_there().expect("an Envoy") {
        bootstrap.plugin()["vm_config"]["capability_restriction_config"] = allowed;
    } else {
        bootstrap.plugin()["capability_restriction_config"] = allowed;
    }
    // What is held for ever ends sooner than in production.
    bootstrap.hcm()["stream_idle_timeout"] = "1s".into();
}

fn without_send(bootstrap: &mut Bootstrap) {
    allow(bootstrap, CAPABILITIES.iter().copied());
}

fn with_send(bootstrap: &mut Bootstrap) {
    allow(bootstrap, CAPABILITIES.iter().copied().chain([SEND]));
}

const BODY: &[u8] = &[b'b'; 3000];

/// A `POST` that lies about its tenant, as it can come: with a length, in chunks, in chunks with
/// trailers.
fn spoofed_posts(message: impl Fn() -> Message) -> [Message; 3] {
    let post = || message().method("POST").line("x-tenant-id", "victim").body(BODY);
    let trailers = [(b"x-tenant-id".to_vec(), b"victim".to_vec())];
    [post(), post().chunked(), post().trailers(trailers)]
}

fn anonymous() -> Message {
    Message::new("POST", "/v1/accounts")
}

async fn world(change: fn(&mut Bootstrap)) -> anyhow::Result<World> {
    Setup::of_corpus(json!({}))?
        .allow_on_headers_stop_iteration(true)
        .change(change)
        .start()
        .await
}

/// Checks that the upstream saw nothing, not even a connection, and that the one thing that the
/// host refused is the reply.
async fn nothing_passed(world: &World, attempts: usize) -> anyhow::Result<()> {
    ensure!(world.echo.total() == 0, "the upstream saw {:?}", world.echo.requests());
    let connections = world.envoy.stat("cluster.upstream.upstream_cx_total").await?;
    ensure!(connections == 0, "{connections} connections to the upstream");
    let log = world.envoy.logged_since(0).await?;
    let refused: Vec<_> = log.iter().filter_map(|line| line.split_once(RESTRICTED)).collect();
    ensure!(
        refused.len() == attempts && refused.iter().all(|(_, name)| *name == SEND),
        "refused: {refused:?}"
    );
    world.check_workers_live().await
}

/// Envoy's own answer to a stream on which nothing happens.
fn ended_by_the_stream_timer(reply: &Reply) -> anyhow::Result<()> {
    ensure!(
        reply.status == 504 && reply.text() == "stream timeout",
        "{} {}",
        reply.status,
        reply.text()
    );
    Ok(())
}

#[tokio::test]
async fn a_denial_that_cannot_be_sent_holds_what_was_denied() -> anyhow::Result<()> {
    let world = world(without_send).await?;
    let posts = spoofed_posts(anonymous);
    for message in &posts {
        let reply = world.send(message).await?;
        ended_by_the_stream_timer(&reply)?;
    }
    ensure!(world.tenant_manager.total() == 0);
    nothing_passed(&world, posts.len()).await?;
    world.stop().await
}

#[tokio::test]
async fn a_denial_that_cannot_be_sent_after_a_wait_holds_what_was_denied() -> anyhow::Result<()> {
    let world = world(without_send).await?;
    for number in 0..3 {
        // A tenant of its own for each, since refusals are remembered.
        let tenant = format!("frozen-{number}");
        let suspended = Answer {
            status: Some(403),
            body: Some(json!({ "status": "suspended" })),
            ..Answer::default()
        };
        world.tenant_manager.merge([(tenant.clone(), suspended)].into());
        let bytes = spoofed_posts(|| Message::of_tenant(&tenant, "/v1/accounts"))[number].bytes();
        // The end of the message comes when its refusal could not be sent: that must not carry past
        // what came before.
        let (first, rest) = bytes.split_at_checked(bytes.len() - 1000).context("a long message")?;
        let mut connection = world.connect().await?;
        connection.write(first).await?;
        wait_for_refusals(&world, number + 1).await?;
        let reply = connection.finish(b"POST", rest).await?;
        ended_by_the_stream_timer(&reply)?;
    }
    ensure!(world.tenant_manager.total() == 3);
    nothing_passed(&world, 3).await?;
    world.stop().await
}

/// Returns when the host has refused so many calls.
async fn wait_for_refusals(world: &World, count: usize) -> anyhow::Result<()> {
    let poll = async {
        loop {
            let log = world.envoy.logged_since(0).await?;
            if log.iter().filter(|line| line.contains(RESTRICTED)).count() >= count {
                return anyhow::Ok(());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, poll)
        .await
        .with_context(|| format!("{count} replies were to be refused"))?
}

#[tokio::test]
async fn the_capabilities_listed_here_are_enough_for_the_filter() -> anyhow::Result<()> {
    let world = world(with_send).await?;
    for message in spoofed_posts(anonymous) {
        let reply = world.send(&message).await?;
        ensure!(
            reply.status == 401 && reply.code() == "TENANT_ID_REQUIRED",
            "{}",
            reply.text()
        );
    }
    let reply = world.send(&Message::of_tenant("frozen", "/v1/accounts")).await?;
    ensure!(reply.code() == "TENANT_SUSPENDED", "{} {}", reply.status, reply.text());
    nothing_passed(&world, 0).await?;
    for message in spoofed_posts(|| Message::of_tenant("acme", "/v1/accounts")) {
        let reply = world.send(&message).await?;
        ensure!(reply.status == 200, "{} {}", reply.status, reply.text());
        let seen = world.last_forwarded()?;
        ensure!(seen.values("x-tenant-id") == [b"acme"] && seen.body == BODY, "{seen:?}");
    }
    world.stop().await
}
