//! gRPC through the real Envoy, with a real client and a real server: calls that are admitted are as if
//! there were no filter, but for the tenant that the server is told; calls that are denied end with a
//! status that a gRPC client understands.

#[path = "grpc/service.rs"]
mod service;

use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use envoy_e2e::{Message, Setup, World};
use envoy_run::Bootstrap;
use futures_util::{Stream, StreamExt, TryStreamExt, future, stream};
use http_body_util::{BodyExt, Full};
use hyper::body::Body;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use crate::service::{Client, LOST, METHODS, Method, Note, Server};

/// How long a call may take.
const SOON: Duration = Duration::from_secs(20);

fn speaks_http2(bootstrap: &mut Bootstrap) {
    let changed = bootstrap.clone().http2("upstream");
    *bootstrap = changed.expect("the shipped bootstrap has an upstream");
}

/// Envoy between a client and the server, which ends when it is dropped.
async fn world(patch: Value) -> anyhow::Result<(World, Server)> {
    let server = Server::start().await?;
    let setup = Setup::of_corpus(patch)?.upstream(server.address()).change(speaks_http2);
    Ok((setup.start().await?, server))
}

/// What a client sends beside its notes, with lines of its own.
fn metadata(tenant: Option<&str>, lines: &[(&'static str, &'static str)]) -> anyhow::Result<MetadataMap> {
    let mut metadata = MetadataMap::new();
    if let Some(tenant) = tenant {
        let message = Message::of_tenant(tenant, "/").bytes();
        let text = String::from_utf8(message)?;
        let token = text.lines().find_map(|line| line.strip_prefix("authorization: "));
        metadata.insert("authorization", token.context("a token")?.parse()?);
    }
    for (name, value) in lines {
        metadata.append(*name, value.parse()?);
    }
    Ok(metadata)
}

/// Calls a method to the end of its replies.
async fn call(
    client: &mut Client,
    method: Method,
    metadata: &MetadataMap,
    notes: impl Stream<Item = Note> + Send + 'static,
) -> anyhow::Result<Result<Vec<Note>, Status>> {
    let replies = async { client.call(method, metadata, notes).await?.try_collect().await };
    timeout(SOON, replies)
        .await
        .with_context(|| format!("{method:?} has no end"))
}

#[tokio::test]
async fn an_admitted_call_passes_as_it_is_and_tells_the_server_its_tenant() -> anyhow::Result<()> {
    let (world, _server) = world(json!({})).await?;
    let mut client = Client::connect(world.envoy.address()).await?;
    // The first call waits for a lookup, with its notes behind it.
    let metadata = metadata(Some("acme"), &[("x-tenant-id", "victim"), ("x-tenant-slug", "victim")])?;
    let tenants = || vec!["acme".to_owned()];
    let large = Note {
        bytes: (0..=u8::MAX).cycle().take(3 << 20).collect(),
        ..Note::of("large")
    };
    for method in METHODS {
        let notes = ["one two three", " four"].map(Note::of);
        let replies = call(&mut client, method, &metadata, stream::iter(notes.clone())).await??;
        let texts: Vec<_> = replies.iter().map(|note| note.text.as_str()).collect();
        let expected: &[&str] = match method {
            Method::Say => &["one two three"],
            Method::Collect => &["one two three four"],
            Method::Tell => &["one", "two", "three"],
            Method::Talk => &["one two three", " four"],
        };
        ensure!(texts == expected, "{method:?}: {texts:?}");
        ensure!(
            replies.iter().all(|note| note.tenants == tenants()),
            "{method:?}: {replies:?}"
        );
        if method != Method::Tell {
            let replies = call(&mut client, method, &metadata, stream::iter([large.clone()])).await??;
            ensure!(
                replies.len() == 1 && replies[0].bytes == large.bytes,
                "{method:?}: a large note has changed"
            );
        }
    }
    world.check_workers_live().await?;
    world.stop().await
}

#[tokio::test]
async fn notes_come_one_by_one_while_both_sides_keep_talking() -> anyhow::Result<()> {
    let (world, _server) = world(json!({})).await?;
    let mut client = Client::connect(world.envoy.address()).await?;
    let (say, said) = mpsc::unbounded_channel();
    say.send(Note::of("0"))?;
    let said = UnboundedReceiverStream::new(said);
    let metadata = metadata(Some("acme"), &[])?;
    let talk = client.call(Method::Talk, &metadata, said);
    let mut heard = timeout(SOON, talk).await??;
    for number in 0..50 {
        let note = timeout(SOON, heard.try_next()).await??.context("the talk has ended")?;
        ensure!(note.text == number.to_string(), "{note:?}");
        // Only now the next one: nobody may have held the last one back.
        say.send(Note::of((number + 1).to_string()))?;
    }
    drop(say);
    let rest: Vec<_> = timeout(SOON, heard.try_collect()).await??;
    ensure!(rest.len() == 1, "{rest:?}");
    world.stop().await
}

#[tokio::test]
async fn what_the_server_refuses_itself_comes_as_it_says() -> anyhow::Result<()> {
    let (world, _server) = world(json!({})).await?;
    let mut client = Client::connect(world.envoy.address()).await?;
    let metadata = metadata(Some("acme"), &[])?;
    let status = call(&mut client, Method::Say, &metadata, stream::iter([Note::of(LOST)])).await?;
    let status = status.err().context("a status")?;
    ensure!(
        status.code() == Code::DataLoss && status.message() == "lost: 100 % \u{e4}",
        "{status:?}"
    );
    ensure!(status.details() == [0, 1, 255], "{status:?}");
    let told = status.metadata().get("x-tenant-id").map(|value| value.as_bytes());
    ensure!(told == Some(b"of-the-server"), "{status:?}");
    world.stop().await
}

/// A denial: whose call, with which line beside it, under which patch of the configuration.
struct Denied {
    tenant: Option<&'static str>,
    line: (&'static str, &'static str),
    code: Code,
    message: &'static str,
    /// A header of the denial.
    told: Option<(&'static str, &'static str)>,
}

const NO_LINE: (&str, &str) = ("x-note", "1");

impl Denied {
    const fn of(tenant: Option<&'static str>, code: Code, message: &'static str) -> Self {
        Self {
            tenant,
            line: NO_LINE,
            code,
            message,
            told: None,
        }
    }
}

/// Checks that a call of every kind is denied so, even one whose client has not said all.
async fn ensure_denied(world: &World, denied: &Denied) -> anyhow::Result<()> {
    let mut client = Client::connect(world.envoy.address()).await?;
    let metadata = metadata(denied.tenant, &[denied.line])?;
    for method in METHODS {
        let endless = stream::iter([Note::of("first")]).chain(stream::pending());
        let status = call(&mut client, method, &metadata, endless).await?;
        let status = status.err().with_context(|| format!("{method:?} was admitted"))?;
        ensure!(
            status.code() == denied.code && status.message() == denied.message,
            "{method:?}: {status:?}"
        );
        if let Some((name, value)) = denied.told {
            let told = status.metadata().get(name).map(|value| value.as_bytes());
            ensure!(told == Some(value.as_bytes()), "{method:?}: {status:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_denied_call_of_any_kind_ends_with_the_status_of_its_denial() -> anyhow::Result<()> {
    let (world, _server) = world(json!({})).await?;
    let rows = [
        Denied {
            told: Some(("www-authenticate", "Bearer")),
            ..Denied::of(None, Code::Unauthenticated, "tenantId is required in JWT token")
        },
        Denied {
            line: ("authorization", "Bearer a.b.c"),
            told: Some(("www-authenticate", r#"Bearer error="invalid_token""#)),
            ..Denied::of(None, Code::Unauthenticated, "the token is not valid")
        },
        Denied::of(Some("frozen"), Code::PermissionDenied, "tenant service is suspended"),
        Denied::of(Some("barred"), Code::PermissionDenied, "tenant service access denied"),
        Denied::of(Some("nobody"), Code::NotFound, "tenant not found: nobody"),
        Denied::of(
            Some("empty"),
            Code::FailedPrecondition,
            "the tenant's service is not provisioned yet",
        ),
        Denied {
            line: ("x-storage-key", "../victim"),
            ..Denied::of(
                Some("acme"),
                Code::InvalidArgument,
                "x-storage-key: is not a plain path",
            )
        },
    ];
    for row in rows {
        ensure_denied(&world, &row).await?;
    }
    let requests = world.envoy.stat("cluster.upstream.upstream_rq_total").await?;
    ensure!(requests == 0, "{requests} requests were forwarded");
    world.check_workers_live().await?;
    world.stop().await
}

#[tokio::test]
async fn a_call_of_an_ungranted_module_or_while_nobody_knows_the_tenant_is_denied_likewise() -> anyhow::Result<()> {
    let modules =
        json!({ "default": null, "routes": [{ "prefix": "/tenantgate.test.Chat", "module": "transaction" }] });
    let (mut world, _server) = world(json!({ "modules": modules })).await?;
    let row = Denied::of(
        Some("half"),
        Code::Unavailable,
        "the module is not configured for this tenant",
    );
    ensure_denied(&world, &row).await?;
    world.tenant_manager.pause().await;
    let row = Denied {
        told: Some(("retry-after", "1")),
        ..Denied::of(
            Some("acme"),
            Code::Unavailable,
            "the tenant cannot be looked up at the moment",
        )
    };
    ensure_denied(&world, &row).await?;
    world.stop().await
}

#[tokio::test]
async fn a_call_too_many_is_told_that_the_resource_is_exhausted() -> anyhow::Result<()> {
    let limit = json!({ "requests_per_second": 1, "burst": 1 });
    let (world, _server) = world(json!({ "rate_limit": limit })).await?;
    let mut client = Client::connect(world.envoy.address()).await?;
    let metadata = metadata(Some("acme"), &[])?;
    for method in METHODS {
        // One of two calls comes too early, unless a second passes between them.
        let status = loop {
            if let Err(status) = call(&mut client, method, &metadata, stream::iter([Note::of("first")])).await? {
                break status;
            }
        };
        ensure!(status.code() == Code::ResourceExhausted, "{method:?}: {status:?}");
        let told = status.metadata().get("retry-after").map(|value| value.as_bytes());
        ensure!(told == Some(b"1"), "{method:?}: {status:?}");
    }
    world.stop().await
}

#[tokio::test]
async fn a_denial_is_headers_only_with_the_status_among_them() -> anyhow::Result<()> {
    let (world, _server) = world(json!({})).await?;
    let stream = TokioIo::new(TcpStream::connect(world.envoy.address()).await?);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await?;
    let connection = tokio::spawn(connection);
    let request = hyper::Request::post(format!("http://ledger.example.com{}", Method::Say.path()))
        .header("content-type", "application/grpc+proto")
        .header("te", "trailers")
        .body(Full::new(Bytes::from_static(&[0; 5])))?;
    let (head, body) = timeout(SOON, sender.send_request(request)).await??.into_parts();
    ensure!(head.status == 200 && body.is_end_stream(), "{head:?}");
    let value = |name| head.headers.get(name).map(|value| value.as_bytes());
    ensure!(value("grpc-status") == Some(b"16"), "{head:?}");
    ensure!(
        value("grpc-message") == Some(b"tenantId is required in JWT token"),
        "{head:?}"
    );
    ensure!(value("content-type") == Some(b"application/grpc"), "{head:?}");
    let rest = timeout(SOON, body.collect()).await??;
    ensure!(rest.trailers().is_none() && rest.to_bytes().is_empty());
    connection.abort();
    world.stop().await
}

#[tokio::test]
async fn calls_of_many_tenants_share_a_connection_and_nothing_else() -> anyhow::Result<()> {
    let (world, _server) = world(json!({})).await?;
    let client = Client::connect(world.envoy.address()).await?;
    let calls = (0..90).map(|number| {
        let mut client = client.clone();
        async move {
            let tenant = ["acme", "frozen", "globex"][number % 3];
            let method = METHODS[number % METHODS.len()];
            let note = stream::iter([Note::of(number.to_string())]);
            let replies = call(&mut client, method, &metadata(Some(tenant), &[])?, note).await?;
            match replies {
                Ok(notes) => {
                    let [note] = &notes[..] else {
                        anyhow::bail!("{number}: {notes:?}")
                    };
                    ensure!(
                        note.tenants == [tenant] && note.text == number.to_string(),
                        "{number}: {note:?}"
                    );
                }
                Err(status) => ensure!(
                    tenant == "frozen" && status.code() == Code::PermissionDenied,
                    "{status:?}"
                ),
            }
            anyhow::Ok(tenant != "frozen")
        }
    });
    future::try_join_all(calls).await?;
    let requests = world.envoy.stat("cluster.upstream.upstream_rq_total").await?;
    ensure!(requests == 60, "{requests} requests were forwarded");
    world.check_workers_live().await?;
    world.stop().await
}
