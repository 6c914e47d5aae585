//! The side of Redis.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::redis::{Redis, Wire, event, until_subscribed};
use crate::tls::Certificates;
use crate::world::{ALL, Bridge, KEY, Receiver, command, until};

const CHANNEL: &str = "tenant-events:staging:";

#[tokio::test]
async fn a_message_reaches_every_envoy_as_it_is_after_an_invalidation() {
    let redis = Redis::start().await;
    let envoys = [Receiver::start().await, Receiver::start().await];
    let bridge = Bridge::start(command(redis.address().port(), &[&envoys[0], &envoys[1]])).await;
    for envoy in &envoys {
        envoy.wait_for(&[ALL]).await;
    }
    let message = r#" {"event_type": "tenant.suspended", "tenant_id":"acme", "payload": {"service_name":"ledger"}} "#;
    assert_eq!(redis.publish_on(CHANNEL, &[message]).await, 1);
    for envoy in &envoys {
        envoy.wait_for(&[ALL, "tenant.suspended"]).await;
        let requests = envoy.server.requests();
        for request in &requests {
            assert_eq!(
                (request.method.as_str(), request.target.as_str()),
                ("POST", "/-/tenantgate/events")
            );
            assert_eq!(request.values("x-api-key"), [KEY.as_bytes()]);
            assert_eq!(request.values("content-type"), [b"application/json"]);
            assert_eq!(
                request.values("content-length"),
                [request.body.len().to_string().as_bytes()]
            );
        }
        let invalidation: serde_json::Value = serde_json::from_slice(&requests[0].body).expect("JSON");
        assert_eq!(invalidation["environment"], "staging");
        assert_eq!(invalidation["event_id"].as_str().map(str::len), Some(36));
        assert!(
            invalidation["timestamp"]
                .as_str()
                .is_some_and(|timestamp| timestamp.ends_with('Z'))
        );
        assert_eq!(requests[1].body, message.as_bytes());
    }
    let health = bridge.until_health(200).await;
    assert_eq!(
        (health["status"].as_str(), health["redis"]["subscribed"].as_bool()),
        (Some("healthy"), Some(true))
    );
    assert_eq!(bridge.metric("tenantgate_bridge_redis_subscribed", "").await, 1.0);
    assert_eq!(
        bridge.metric("tenantgate_bridge_redis_subscriptions_total", "").await,
        1.0
    );
    assert_eq!(
        bridge.metric("tenantgate_bridge_messages_total", "\"forwarded\"").await,
        1.0
    );
    for envoy in &envoys {
        let url = envoy.url();
        assert_eq!(
            bridge.metric("tenantgate_bridge_delivered_messages_total", &url).await,
            1.0
        );
        assert_eq!(
            bridge
                .metric("tenantgate_bridge_delivered_invalidations_total", &url)
                .await,
            1.0
        );
        assert_eq!(bridge.metric("tenantgate_bridge_queue_length", &url).await, 0.0);
        assert!(
            bridge
                .metric("tenantgate_bridge_last_delivery_timestamp_seconds", &url)
                .await
                > 1.7e9
        );
    }
    assert!(bridge.metrics().await.ends_with("# EOF\n"));
}

#[tokio::test]
async fn only_the_channel_of_the_environment_is_heard() {
    let redis = Redis::start().await;
    let envoy = Receiver::start().await;
    let _bridge = Bridge::start(command(redis.address().port(), &[&envoy])).await;
    envoy.wait_for(&[ALL]).await;
    for channel in [
        "tenant-events:staging",
        "tenant-events:production:",
        "tenant-events:staging:x",
        "tenant-events:acme",
    ] {
        assert_eq!(redis.publish_on(channel, &[event("elsewhere")]).await, 0, "{channel}");
    }
}

#[tokio::test]
async fn garbage_is_counted_and_left_out_and_few_lines_are_written_about_it() {
    let redis = Redis::start().await;
    let envoy = Receiver::start().await;
    let bridge = Bridge::start(command(redis.address().port(), &[&envoy])).await;
    envoy.wait_for(&[ALL]).await;
    let large = format!(
        r#"{{"event_type":"large","tenant_id":"acme","payload":"{}"}}"#,
        "x".repeat(256 * 1024)
    );
    let garbage: Vec<Vec<u8>> = vec![
        b"".into(),
        b"\xff\xfe".into(),
        b"not json".into(),
        b"[]".into(),
        "[".repeat(200_000).into(),
        br#"{"event_type":"no.tenant"}"#.into(),
        br#"{"tenant_id":"acme"}"#.into(),
        large.into(),
    ];
    let many: Vec<_> = garbage.iter().cycle().take(garbage.len() * 5).collect();
    assert_eq!(redis.publish_on(CHANNEL, &many).await, many.len());
    redis.publish(&["from.the.future"]).await;
    envoy.wait_for(&[ALL, "from.the.future"]).await;
    for (outcome, count) in [
        ("forwarded", 1.0),
        ("too_large", 5.0),
        ("not_utf8", 5.0),
        ("not_an_object", 20.0),
        ("no_type", 5.0),
        ("no_tenant", 5.0),
    ] {
        let metric = bridge
            .metric("tenantgate_bridge_messages_total", &format!("\"{outcome}\""))
            .await;
        assert!((metric - count).abs() < 0.5, "{outcome}: {metric}");
    }
    let lines = bridge
        .log()
        .iter()
        .filter(|line| line["message"] == "message is no event and is left out")
        .count();
    assert_eq!(lines, 10);
    assert_eq!(bridge.health().await.0, 200);
}

#[tokio::test]
async fn a_password_is_sent_and_can_be_replaced_in_its_file() {
    let redis = Redis::with_password("hunter2-right").await;
    let envoy = Receiver::start().await;
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "hunter2-wrong\n").expect("written");
    let mut command = command(redis.address().port(), &[&envoy]);
    command.arg("--redis-password-file").arg(file.path());
    let bridge = Bridge::start(command).await;
    bridge.unsubscribed("auth").await;
    let (status, health) = bridge.health().await;
    assert_eq!((status, health["redis"]["reason"].as_str()), (503, Some("auth")));
    assert!(envoy.kinds().is_empty());
    std::fs::write(file.path(), "hunter2-right\n").expect("written");
    envoy.wait_for(&[ALL]).await;
    redis.publish(&["a"]).await;
    envoy.wait_for(&[ALL, "a"]).await;
    let told = format!(
        "{:?}{}{:?}",
        bridge.log(),
        bridge.metrics().await,
        bridge.health().await
    );
    assert!(!told.contains("hunter2") && !told.contains(KEY), "{told}");
}

#[tokio::test]
async fn a_password_from_the_environment_is_sent_and_a_missing_one_is_told() {
    let redis = Redis::with_password("hunter2").await;
    let envoys = [Receiver::start().await, Receiver::start().await];
    let mut with = command(redis.address().port(), &[&envoys[0]]);
    with.env("MULTI_TENANT_REDIS_PASSWORD", "hunter2");
    let _with = Bridge::start(with).await;
    let without = Bridge::start(command(redis.address().port(), &[&envoys[1]])).await;
    envoys[0].wait_for(&[ALL]).await;
    without.unsubscribed("auth").await;
}

#[tokio::test]
async fn with_a_private_ca_only_its_servers_are_trusted() {
    let (right, wrong) = (Certificates::generate(), Certificates::generate());
    let redis = Redis::with_tls(&right.certificate, &right.key).await;
    let (envoy, other) = (Receiver::start().await, Receiver::start().await);
    let trusting = |certificates: &Certificates, envoy: &Receiver| {
        let mut command = command(redis.tls_port(), &[envoy]);
        let ca = BASE64_STANDARD.encode(&certificates.authority);
        command
            .env("MULTI_TENANT_REDIS_TLS", "true")
            .env("MULTI_TENANT_REDIS_CA_CERT", ca);
        Bridge::start(command)
    };
    let bridge = trusting(&right, &envoy).await;
    envoy.wait_for(&[ALL]).await;
    redis.publish(&["a"]).await;
    envoy.wait_for(&[ALL, "a"]).await;
    assert_eq!(bridge.until_health(200).await["redis"]["subscribed"], true);

    trusting(&wrong, &other).await.unsubscribed("tls").await;
    assert!(other.kinds().is_empty());
}

#[tokio::test]
async fn a_server_that_was_killed_is_found_again_and_everything_is_invalidated_first() {
    let mut redis = Redis::start().await;
    let envoy = Receiver::start().await;
    let bridge = Bridge::start(command(redis.address().port(), &[&envoy])).await;
    envoy.wait_for(&[ALL]).await;
    redis.publish(&["a"]).await;
    envoy.wait_for(&[ALL, "a"]).await;
    redis.kill().await;
    bridge.unsubscribed("closed").await;
    bridge.unsubscribed("connect").await;
    let health = bridge.until_health(503).await;
    assert_eq!(health["redis"]["subscribed"], false);
    assert_eq!(health["envoys"][0]["healthy"], true);
    assert_eq!(bridge.metric("tenantgate_bridge_redis_subscribed", "").await, 0.0);
    redis.restart().await;
    until_subscribed(&redis, 1).await;
    redis.publish(&["b"]).await;
    envoy.wait_for(&[ALL, "a", ALL, "b"]).await;
    bridge.until_health(200).await;
    assert_eq!(
        bridge.metric("tenantgate_bridge_redis_subscriptions_total", "").await,
        2.0
    );
    assert_eq!(
        bridge
            .metric("tenantgate_bridge_redis_failures_total", "\"closed\"")
            .await,
        1.0
    );
}

#[tokio::test]
async fn a_bridge_that_is_there_before_redis_waits_for_it() {
    let mut redis = Redis::start().await;
    redis.kill().await;
    let envoy = Receiver::start().await;
    let bridge = Bridge::start(command(redis.address().port(), &[&envoy])).await;
    bridge.unsubscribed("connect").await;
    redis.restart().await;
    envoy.wait_for(&[ALL]).await;
}

#[tokio::test]
async fn a_cut_in_the_network_is_noticed_though_nothing_is_closed() {
    let redis = Redis::start().await;
    let wire = Wire::to(redis.address()).await;
    let envoy = Receiver::start().await;
    let mut command = command(wire.port(), &[&envoy]);
    command.args(["--redis-ping-ms", "200", "--redis-timeout-ms", "4000"]);
    let bridge = Bridge::start(command).await;
    envoy.wait_for(&[ALL]).await;
    wire.cut();
    redis.publish(&["lost"]).await;
    bridge.unsubscribed("silent").await;
    bridge.unsubscribed("timeout").await;
    assert_eq!(bridge.health().await.0, 503);
    wire.mend();
    envoy.wait_for(&[ALL, ALL]).await;
    let again = async || {
        bridge
            .log()
            .into_iter()
            .filter(|line| line["message"] == "subscribed")
            .nth(1)
    };
    assert_eq!(until("it is subscribed again", again).await["channel"], CHANNEL);
    // Redis may not have noticed yet that other connections are gone, and then counts them too.
    assert!(redis.publish_on(CHANNEL, &[event("b"), event("c")]).await >= 2);
    envoy.wait_for(&[ALL, ALL, "b", "c"]).await;
}
