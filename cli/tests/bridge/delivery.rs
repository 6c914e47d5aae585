//! The side of the Envoys.

use crate::redis::Redis;
use crate::tls::{Certificates, Terminator};
use crate::world::{ALL, Bridge, Receiver, command, until};

#[tokio::test]
async fn a_slow_envoy_delays_no_other_and_gets_everything_in_order() {
    let redis = Redis::start().await;
    let (slow, fast) = (Receiver::start().await, Receiver::start().await);
    let mut command = command(redis.address().port(), &[&slow, &fast]);
    command.args(["--envoy-timeout-ms", "60000", "--pending-ms", "0"]);
    slow.server.hold();
    let bridge = Bridge::start(command).await;
    fast.wait_for(&[ALL]).await;
    slow.wait_for(&[ALL]).await;
    let names: Vec<String> = (0..300).map(|number| format!("m{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let expected = [&[ALL], names.as_slice()].concat();
    redis.publish(&names).await;
    fast.wait_for(&expected).await;
    // Nothing else comes before the first is answered.
    slow.wait_for(&[ALL]).await;
    assert_eq!(
        bridge.metric("tenantgate_bridge_queue_length", &slow.url()).await,
        301.0
    );
    let health = bridge.until_health(503).await;
    assert_eq!(
        (
            health["envoys"][0]["healthy"].as_bool(),
            health["envoys"][1]["healthy"].as_bool()
        ),
        (Some(false), Some(true))
    );
    slow.server.release();
    slow.wait_for(&expected).await;
    let sizes: Vec<usize> = slow.batches().iter().map(Vec::len).collect();
    assert_eq!(sizes, [1, 256, 44]);
    bridge.until_health(200).await;
}

#[tokio::test]
async fn an_envoy_that_was_down_gets_what_it_missed_in_order() {
    let redis = Redis::start().await;
    let mut envoy = Receiver::start().await;
    let mut command = command(redis.address().port(), &[&envoy]);
    command.args(["--pending-ms", "0"]);
    let bridge = Bridge::start(command).await;
    envoy.wait_for(&[ALL]).await;
    bridge.until_health(200).await;
    envoy.server.pause().await;
    redis.publish(&["a", "b"]).await;
    let health = bridge.until_health(503).await;
    assert_eq!(health["envoys"][0]["envoy"], envoy.url());
    until("the first attempt", async || {
        (bridge.health().await.1["envoys"][0]["last"] == "unreachable").then_some(())
    })
    .await;
    redis.publish(&["c"]).await;
    envoy.server.resume().await.expect("its port");
    envoy.wait_for(&[ALL, "a", "b", "c"]).await;
    bridge.logged("envoy answers again").await;
    bridge.until_health(200).await;
}

#[tokio::test]
async fn what_does_not_fit_into_the_queue_is_replaced_by_an_invalidation() {
    let redis = Redis::start().await;
    let mut envoy = Receiver::start().await;
    let mut command = command(redis.address().port(), &[&envoy]);
    command.args(["--queue-messages", "3", "--attempts", "1000"]);
    let bridge = Bridge::start(command).await;
    envoy.wait_for(&[ALL]).await;
    bridge.until_health(200).await;
    until("the first is delivered", async || {
        (bridge.metric("tenantgate_bridge_queue_length", &envoy.url()).await == 0.0).then_some(())
    })
    .await;
    envoy.server.pause().await;
    redis.publish(&["a", "b", "c", "d", "e", "f", "g"]).await;
    until("four are lost", async || {
        (bridge
            .metric("tenantgate_bridge_lost_messages_total", "\"overflow\"")
            .await
            == 4.0)
            .then_some(())
    })
    .await;
    bridge
        .logged("queue is full, cache.invalidate_all takes the place of its oldest messages")
        .await;
    envoy.server.resume().await.expect("its port");
    envoy.wait_for(&[ALL, ALL, "e", "f", "g"]).await;
}

#[tokio::test]
async fn a_message_that_breaks_an_envoy_is_given_up_for_an_invalidation() {
    let redis = Redis::start().await;
    let envoy = Receiver::start().await;
    let mut command = command(redis.address().port(), &[&envoy]);
    command.args(["--attempts", "1"]);
    let bridge = Bridge::start(command).await;
    envoy.wait_for(&[ALL]).await;
    envoy.answer(500);
    redis.publish(&["poison"]).await;
    bridge
        .logged("messages given up, cache.invalidate_all takes their place")
        .await;
    envoy.answer(200);
    let delivered = "tenantgate_bridge_delivered_invalidations_total";
    until("it is delivered", async || {
        (bridge.metric(delivered, "").await == 2.0).then_some(())
    })
    .await;
    let kinds = envoy.kinds();
    assert_eq!(kinds[..3], [ALL, "poison", ALL]);
    assert!(kinds[3..].iter().all(|kind| kind == ALL), "{kinds:?}");
    assert_eq!(
        bridge
            .metric("tenantgate_bridge_lost_messages_total", "\"exhausted\"")
            .await,
        1.0
    );
}

#[tokio::test]
async fn a_refused_message_is_not_repeated() {
    let redis = Redis::start().await;
    let envoy = Receiver::start().await;
    let bridge = Bridge::start(command(redis.address().port(), &[&envoy])).await;
    envoy.wait_for(&[ALL]).await;
    envoy.answer(400);
    redis.publish(&["bad"]).await;
    let line = bridge.logged("message refused and left out").await;
    assert_eq!(line["detail"], "status 400 SCRIPTED");
    envoy.answer(200);
    redis.publish(&["good"]).await;
    envoy.wait_for(&[ALL, "bad", "good"]).await;
    assert_eq!(
        bridge
            .metric("tenantgate_bridge_lost_messages_total", "\"refused\"")
            .await,
        1.0
    );
}

#[tokio::test]
async fn the_end_waits_for_what_is_queued_and_a_new_key_is_used() {
    let redis = Redis::start().await;
    let envoy = Receiver::start().await;
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "old").expect("written");
    let mut command = command(redis.address().port(), &[&envoy]);
    command
        .env_remove("TENANTGATE_EVENTS_KEY")
        .arg("--events-key-file")
        .arg(file.path());
    command.args(["--drain-ms", "60000"]);
    envoy.answer(401);
    envoy.server.hold();
    let bridge = Bridge::start(command).await;
    envoy.wait_for(&[ALL]).await;
    redis.publish(&["a", "b"]).await;
    let queued = "tenantgate_bridge_queue_length";
    until("both are queued", async || {
        (bridge.metric(queued, "").await == 3.0).then_some(())
    })
    .await;
    std::fs::write(file.path(), "new").expect("written");
    envoy.server.release();
    let line = bridge.logged("events not delivered").await;
    assert_eq!(
        (line["outcome"].as_str(), line["detail"].as_str()),
        (Some("unauthorized"), Some("status 401 EVENTS_UNAUTHORIZED"))
    );
    envoy.answer(200);
    // The next attempt would be many seconds later; the end does not wait for that.
    bridge.terminate();
    let (status, log) = bridge.ended().await;
    assert_eq!(status.code(), Some(0));
    assert_eq!(envoy.batches(), [vec![ALL], vec![ALL, "a", "b"]]);
    let keys: Vec<_> = envoy
        .server
        .requests()
        .iter()
        .map(|request| request.values("x-api-key").concat())
        .collect();
    assert_eq!(keys, [b"old", b"new"]);
    assert_eq!(
        log.last()
            .map(|line| (line["message"].clone(), line["undelivered"].clone())),
        Some(("stopped".into(), 0.into()))
    );
}

#[tokio::test]
async fn the_end_does_not_wait_for_an_envoy_that_is_down() {
    let redis = Redis::start().await;
    let mut envoy = Receiver::start().await;
    let mut command = command(redis.address().port(), &[&envoy]);
    command.args(["--drain-ms", "100"]);
    envoy.server.pause().await;
    let bridge = Bridge::start(command).await;
    bridge.logged("events not delivered").await;
    bridge.terminate();
    let (status, log) = bridge.ended().await;
    assert_eq!(status.code(), Some(0));
    assert_eq!(log.last().map(|line| line["undelivered"].clone()), Some(1.into()));
}

#[tokio::test]
async fn an_envoy_that_comes_back_before_the_end_still_gets_what_is_queued() {
    let redis = Redis::start().await;
    let mut envoy = Receiver::start().await;
    let mut command = command(redis.address().port(), &[&envoy]);
    command.args(["--drain-ms", "60000"]);
    envoy.server.pause().await;
    let bridge = Bridge::start(command).await;
    bridge.logged("events not delivered").await;
    bridge.terminate();
    bridge.logged("stopping").await;
    let (status, health) = bridge.health().await;
    assert_eq!((status, health["redis"]["reason"].as_str()), (503, Some("stopped")));
    envoy.server.resume().await.expect("its port");
    assert_eq!(bridge.ended().await.0.code(), Some(0));
    assert_eq!(envoy.kinds(), [ALL]);
}

#[tokio::test]
async fn a_server_that_says_200_to_everything_is_no_envoy() {
    let redis = Redis::start().await;
    let envoy = Receiver::start().await;
    envoy
        .server
        .set([("/-/tenantgate/events".to_owned(), corpus::answer::Answer::default())].into());
    let bridge = Bridge::start(command(redis.address().port(), &[&envoy])).await;
    let line = bridge.logged("events not delivered").await;
    assert_eq!(line["outcome"], "unexpected");
    envoy.answer(200);
    until("delivered", async || {
        (bridge
            .metric("tenantgate_bridge_delivered_invalidations_total", &envoy.url())
            .await
            == 1.0)
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_envoy_over_https_is_trusted_by_its_ca_only() {
    let redis = Redis::start().await;
    let envoy = Receiver::start().await;
    let (right, wrong) = (Certificates::generate(), Certificates::generate());
    let terminator = Terminator::start(&right, envoy.server.address()).await;
    let folder = tempfile::tempdir().expect("a folder");
    let bridge = async |certificates: &Certificates, name: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, &certificates.authority).expect("written");
        let mut command = command(redis.address().port(), &[]);
        command
            .args(["--envoy", &terminator.url("/-/tenantgate/events")])
            .arg("--envoy-ca-file")
            .arg(file);
        Bridge::start(command).await
    };
    let refused = bridge(&wrong, "wrong").await.logged("events not delivered").await;
    assert_eq!(refused["outcome"], "unreachable");
    assert!(
        refused["detail"]
            .as_str()
            .is_some_and(|detail| detail.contains("certificate")),
        "{refused}"
    );
    assert!(envoy.kinds().is_empty());
    let _right = bridge(&right, "right").await;
    envoy.wait_for(&[ALL]).await;
}
