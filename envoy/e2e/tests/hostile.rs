//! Requests that nobody sends by accident, on the real Envoy: each gets a decision, and the worker
//! that made it lives.

use anyhow::{Context, ensure};
use corpus::case::Token;
use corpus::mint::Keys;
use corpus::wire::Field;
use envoy_e2e::{Message, Reply, Setup, World, now};
use serde_json::json;

/// A world with one worker, so that the next request meets the worker that met the last one.
async fn world() -> anyhow::Result<World> {
    Setup::of_corpus(json!({}))?.start().await
}

/// Sends a good request and checks that it is served as if nothing had been.
async fn still_works(world: &World) -> anyhow::Result<()> {
    let reply = world.send(&Message::of_tenant("acme", "/v1/good")).await?;
    ensure!(
        reply.status == 200,
        "a good request got {} {}",
        reply.status,
        reply.text()
    );
    let seen = world.last_forwarded()?;
    ensure!(
        seen.target == "/v1/good" && seen.values("x-tenant-id") == [b"acme"],
        "the upstream saw {seen:?}"
    );
    world.check_workers_live().await
}

/// Sends each message, checks that it is answered with its status, that the upstream saw it only when
/// it was answered with 200, and that the worker lives.
async fn decided(world: &World, messages: Vec<(&str, Message, u16)>) -> anyhow::Result<()> {
    let mut faults = Vec::new();
    for (what, message, status) in messages {
        let forwarded = world.echo.total();
        let reply = world.send(&message).await.with_context(|| what.to_owned())?;
        if reply.status != status {
            faults.push(format!("{what}: {} {}", reply.status, reply.text()));
        }
        let passed = world.echo.total() - forwarded;
        if passed != usize::from(reply.status == 200) {
            faults.push(format!("{what}: {} and forwarded {passed} times", reply.status));
        }
        still_works(world).await.with_context(|| format!("after {what}"))?;
    }
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}

fn good() -> Message {
    Message::of_tenant("acme", "/v1/accounts")
}

fn bearer(tenant: &str) -> anyhow::Result<Vec<u8>> {
    let token = Keys::shared().token(&Token::Tenant(tenant.to_owned()), now())?;
    Ok([b"Bearer ", &token[..]].concat())
}

fn is_denial(reply: &Reply, status: u16, code: &str) -> anyhow::Result<()> {
    ensure!(
        reply.status == status && reply.code() == code,
        "{} {}",
        reply.status,
        reply.text()
    );
    Ok(())
}

#[tokio::test]
async fn bytes_that_are_not_utf8_pass_untouched_or_are_refused() -> anyhow::Result<()> {
    let world = world().await?;
    world.send(&good().line("x-note", b"\xff\xfe caf\xe9")).await?;
    ensure!(world.last_forwarded()?.values("x-note") == [b"\xff\xfe caf\xe9"]);
    let not_utf8 = Message::new("GET", "/v1/accounts").line("authorization", b"Bearer \xff\xff");
    is_denial(&world.send(&not_utf8).await?, 401, "TENANT_ID_REQUIRED")?;
    let key = world.send(&good().line("x-redis-key", b"k\xff")).await?;
    is_denial(&key, 400, "KEY_REJECTED")?;

    let owned = good().line("x-tenant-id", b"\xff").line("X-Tenant-Slug", b"\xc3\x28");
    ensure!(world.send(&owned).await?.status == 200);
    let seen = world.last_forwarded()?;
    ensure!(
        seen.values("x-tenant-id") == [b"acme"] && seen.values("x-tenant-slug").is_empty(),
        "{:?}",
        seen.headers
    );
    still_works(&world).await?;
    world.stop().await
}

#[tokio::test]
async fn two_authorization_lines_are_as_none() -> anyhow::Result<()> {
    let world = world().await?;
    let (acme, globex) = (bearer("acme")?, bearer("globex")?);
    let rows = [
        [acme.clone(), globex.clone()],
        [acme.clone(), acme.clone()],
        [acme.clone(), b"Basic dTpw".to_vec()],
        [acme.clone(), b"Bearer".to_vec()],
    ];
    for lines in rows {
        let lines = lines.into_iter().map(|value| (b"Authorization".to_vec(), value));
        let reply = world.send(&Message::new("GET", "/v1/accounts").lines(lines)).await?;
        is_denial(&reply, 401, "TENANT_ID_REQUIRED")?;
        ensure!(
            reply
                .header("www-authenticate")
                .is_some_and(|value| value.starts_with("Bearer"))
        );
    }
    ensure!(world.echo.total() == 0 && world.tenant_manager.total() == 0);
    // Envoy joins the lines before any filter sees them, and an empty one leaves no trace in that.
    for lines in [[acme.clone(), Vec::new()], [Vec::new(), acme.clone()]] {
        let lines = lines.into_iter().map(|value| (b"authorization".to_vec(), value));
        let reply = world.send(&Message::new("GET", "/v1/accounts").lines(lines)).await?;
        ensure!(reply.status == 200, "{} {}", reply.status, reply.text());
        ensure!(world.last_forwarded()?.values("x-tenant-id") == [b"acme"]);
    }
    still_works(&world).await?;
    world.stop().await
}

#[tokio::test]
async fn requests_with_very_many_headers_are_decided_like_others() -> anyhow::Result<()> {
    let world = world().await?;
    let many = |count: usize| -> Vec<Field> {
        (0..count)
            .map(|number| (format!("x-many-{number}").into_bytes(), b"v".to_vec()))
            .collect()
    };
    // More than 1024 is where Envoy's bulk write of headers loses all of them.
    for count in [1000, 1500] {
        let spoofed = good()
            .line("x-tenant-id", "globex")
            .lines(many(count))
            .line("X_Tenant_Id", "globex");
        let reply = world.send(&spoofed.line("x-redis-key", "k")).await?;
        ensure!(
            reply.status == 200,
            "{count} headers: {} {}",
            reply.status,
            reply.text()
        );
        let seen = world.last_forwarded()?;
        let arrived = seen
            .headers
            .iter()
            .filter(|(name, _)| name.starts_with("x-many-"))
            .count();
        ensure!(arrived == count, "{arrived} of {count} headers arrived");
        ensure!(seen.values("x-tenant-id") == [b"acme"] && seen.values("x_tenant_id").is_empty());
        ensure!(
            seen.values("x-redis-key") == [b"tenant:acme:k"],
            "{:?}",
            seen.values("x-redis-key")
        );

        let nobody = Message::new("GET", "/v1/accounts").lines(many(count));
        is_denial(&world.send(&nobody).await?, 401, "TENANT_ID_REQUIRED")?;
    }
    let copies = (0..1000).map(|_| (b"x-tenant-id".to_vec(), b"globex".to_vec()));
    ensure!(world.send(&good().lines(copies)).await?.status == 200);
    ensure!(world.last_forwarded()?.values("x-tenant-id") == [b"acme"]);
    let too_many = world.send(&good().lines(many(3000))).await?;
    ensure!(too_many.status == 431, "{}", too_many.status);
    still_works(&world).await?;
    world.stop().await
}

#[tokio::test]
async fn odd_targets_and_methods_are_decided() -> anyhow::Result<()> {
    let world = world().await?;
    let with_token = |method: &str, target: &[u8]| Message::of_tenant("acme", "").method(method).target(target);
    let anonymous = |method: &str, target: &[u8]| Message::new(method, target);
    decided(
        &world,
        vec![
            ("an empty target", anonymous("GET", b""), 400),
            ("a target without a slash", anonymous("GET", b"health"), 400),
            ("only a query", anonymous("GET", b"?a"), 400),
            // Envoy itself: it serves no path that does not begin with a slash.
            ("OPTIONS *", anonymous("OPTIONS", b"*"), 404),
            (
                "an authority without a path",
                anonymous("GET", b"http://a.example"),
                401,
            ),
            (
                "the absolute form of a public path",
                anonymous("GET", b"http://a.example/health"),
                200,
            ),
            (
                "the absolute form of a protected path",
                anonymous("GET", b"http://a.example/admin"),
                401,
            ),
            ("double slashes", anonymous("GET", b"//health"), 401),
            ("a traversal", with_token("GET", b"/health/../v1"), 400),
            ("an encoded traversal", with_token("GET", b"/health/%2e%2e/v1"), 400),
            (
                "a doubly encoded traversal",
                with_token("GET", b"/v1/%252e%252e/x"),
                400,
            ),
            ("an encoded slash", with_token("GET", b"/v1%2Fx"), 400),
            ("a backslash", with_token("GET", b"/v1\\x"), 400),
            ("a lone percent", with_token("GET", b"/v1/%"), 400),
            ("overlong UTF-8", with_token("GET", b"/v1/%c0%af"), 400),
            ("an encoded NUL", with_token("GET", b"/v1/%00"), 400),
            ("a byte that is not UTF-8", with_token("GET", b"/v1/\xff"), 400),
            ("a fragment", with_token("GET", b"/v1#x"), 400),
            (
                "a path of 40 kB",
                with_token("GET", &[b"/", &[b'a'; 40_000][..]].concat()),
                200,
            ),
            ("CONNECT", anonymous("CONNECT", b"a.example:443"), 400),
            ("TRACE on a public path", anonymous("TRACE", b"/health"), 401),
            // Envoy itself: its HTTP/1.1 parser knows the methods.
            ("an unknown method", with_token("BREW", b"/v1/accounts"), 400),
        ],
    )
    .await?;
    world.stop().await
}

#[tokio::test]
async fn odd_headers_are_decided() -> anyhow::Result<()> {
    let world = world().await?;
    let anonymous = || Message::new("GET", "/v1/accounts");
    let large_token = [b"Bearer ".to_vec(), vec![b'a'; 50_000]].concat();
    let dots = [b"Bearer ".to_vec(), vec![b'.'; 10_000]].concat();
    decided(
        &world,
        vec![
            ("an empty credential", anonymous().line("authorization", ""), 401),
            ("only a scheme", anonymous().line("authorization", "Bearer"), 401),
            ("a token of 50 kB", anonymous().line("authorization", large_token), 401),
            ("a token of dots", anonymous().line("authorization", dots), 401),
            (
                "a tab in the credential",
                anonymous().line("authorization", "Bearer\ta.b.c"),
                401,
            ),
            ("a control byte in a value", good().line("x-a", b"a\x01b"), 400),
            ("a NUL in a value", good().line("x-a", b"a\0b"), 400),
            // Envoy leaves the CR out and joins folded lines; neither makes a line of its own.
            (
                "a bare CR in a value",
                good().line("x-a", b"a\rx-tenant-id: globex"),
                200,
            ),
            ("a space in a name", good().line("x tenant id", "globex"), 400),
            ("an empty name", good().line("", "globex"), 400),
            (
                "a name of all token characters",
                good().line("!#$%&'*+-.^_`|~", "x"),
                200,
            ),
            ("an empty value", good().line("x-a", ""), 200),
            ("an empty key to scope", good().line("x-redis-key", ""), 400),
            ("a value of 40 kB", good().line("x-a", vec![b'a'; 40_000]), 200),
            ("a folded line", good().line("x-a", "a\r\n x-tenant-id: globex"), 200),
            (
                "two lengths",
                good().line("content-length", "1").line("content-length", "2"),
                400,
            ),
            (
                "a length and chunks",
                good().line("content-length", "1").line("transfer-encoding", "chunked"),
                400,
            ),
            // Envoy joins them to one authority, `a,b`.
            ("two hosts", good().line("host", "a").line("host", "b"), 200),
        ],
    )
    .await?;
    world.stop().await
}
