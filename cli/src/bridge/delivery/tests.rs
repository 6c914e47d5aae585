//! In virtual time, with an Envoy that answers as it is told.

use std::collections::VecDeque;

use bytes::Bytes;
use serde_json::Value;
use tokio::time::timeout;

use super::*;
use crate::bridge::metrics::Metrics;

/// What it was sent and when, and what it still answers.
#[derive(Debug, Clone, Default)]
struct Scripted(Arc<Mutex<Script>>);

#[derive(Debug, Default)]
struct Script {
    answers: VecDeque<Outcome>,
    sent: Vec<(Duration, Vec<String>)>,
    begun: Option<Instant>,
    /// Refused alone and in company.
    bad: Option<&'static str>,
}

impl Scripted {
    fn answering(answers: impl IntoIterator<Item = Outcome>) -> Self {
        let script = Script {
            answers: answers.into_iter().collect(),
            begun: Some(Instant::now()),
            ..Script::default()
        };
        Self(Arc::new(Mutex::new(script)))
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.0.lock().expect("a script")
    }

    /// Every body, as the types of its events.
    fn sent(&self) -> Vec<Vec<String>> {
        self.script().sent.iter().map(|(_, names)| names.clone()).collect()
    }

    /// The waits between the POSTs.
    fn waits(&self) -> Vec<Duration> {
        let script = self.script();
        script.sent.windows(2).map(|pair| pair[1].0 - pair[0].0).collect()
    }
}

impl Post for Scripted {
    async fn post(&self, body: Bytes) -> Attempt {
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        let events = if let Value::Array(events) = body {
            events
        } else {
            vec![body]
        };
        let kind = |event: &Value| {
            event
                .get("type")
                .or(event.get("event_type"))
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        let names: Vec<String> = events.iter().filter_map(kind).collect();
        let mut script = self.script();
        let bad = script.bad.is_some_and(|bad| names.iter().any(|name| name == bad));
        let since = script.begun.map(|begun| begun.elapsed()).unwrap_or_default();
        script.sent.push((since, names));
        let scripted = script.answers.pop_front().unwrap_or(Outcome::Delivered);
        let outcome = if bad { Outcome::Refused } else { scripted };
        Attempt {
            outcome,
            detail: String::new(),
        }
    }
}

struct World {
    envoy: Arc<Envoy>,
    peer: Scripted,
    hurry: watch::Sender<bool>,
}

impl World {
    fn new(max_messages: usize, peer: Scripted) -> Self {
        let metrics = Metrics::new().envoy("http://envoy/e");
        let queue = Queue::new("staging", max_messages);
        Self {
            envoy: Arc::new(Envoy::new("http://envoy/e".to_owned(), queue, metrics)),
            peer,
            hurry: watch::Sender::new(false),
        }
    }

    fn push(&self, names: &[&str]) {
        for name in names {
            self.envoy
                .push(format!(r#"{{"type":"{name}","tenantId":"acme"}}"#).into());
        }
    }

    /// Delivers all that is there.
    async fn deliver(&self, attempts: u32) {
        self.envoy.queue.close();
        deliver(self.envoy.clone(), self.peer.clone(), attempts, self.hurry.subscribe()).await;
    }
}

const ALL: &str = "cache.invalidate_all";

#[tokio::test(start_paused = true)]
async fn failures_are_repeated_with_growing_waits_until_they_are_delivered() {
    let failures = [
        Outcome::Unreachable,
        Outcome::Timeout,
        Outcome::ServerError,
        Outcome::Unexpected,
        Outcome::Unreachable,
        Outcome::Unreachable,
        Outcome::Unreachable,
        Outcome::Unreachable,
    ];
    let world = World::new(10, Scripted::answering(failures));
    world.push(&["a", "b"]);
    world.deliver(100).await;
    assert_eq!(world.peer.sent(), vec![vec!["a", "b"]; 9]);
    let waits = world.peer.waits();
    assert!(
        waits[0] >= Duration::from_millis(500) && waits[0] <= Duration::from_secs(1),
        "{waits:?}"
    );
    assert!(
        waits[7] >= Duration::from_secs(15) && waits[7] <= Duration::from_secs(30),
        "{waits:?}"
    );
    assert!(waits.iter().all(|wait| *wait <= Duration::from_secs(30)), "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn after_a_delivery_the_waits_are_short_again() {
    use Outcome::{Delivered, Unreachable};
    let answers = [
        Unreachable,
        Unreachable,
        Unreachable,
        Unreachable,
        Unreachable,
        Delivered,
        Unreachable,
    ];
    let world = World::new(10, Scripted::answering(answers));
    world.push(&["a"]);
    let delivering = tokio::spawn(deliver(
        world.envoy.clone(),
        world.peer.clone(),
        100,
        world.hurry.subscribe(),
    ));
    while world.envoy.queue.length().events > 0 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let before = world.peer.sent().len();
    world.push(&["b"]);
    world.envoy.queue.close();
    delivering.await.expect("it ends");
    let wait = world.peer.waits()[before];
    assert!(wait <= Duration::from_secs(1), "{wait:?}");
}

#[tokio::test(start_paused = true)]
async fn messages_that_are_given_up_become_an_invalidation_which_is_never_given_up() {
    let world = World::new(10, Scripted::answering(vec![Outcome::ServerError; 7]));
    world.push(&["poison"]);
    let delivering = tokio::spawn(deliver(
        world.envoy.clone(),
        world.peer.clone(),
        3,
        world.hurry.subscribe(),
    ));
    while world.peer.sent().len() < 3 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    world.push(&["b"]);
    world.envoy.queue.close();
    delivering.await.expect("it ends");
    let sent = world.peer.sent();
    assert_eq!(sent[..3], vec![vec!["poison"]; 3]);
    assert!(
        sent[3..]
            .iter()
            .all(|names| names[0] == ALL && !names.contains(&"poison".to_owned())),
        "{sent:?}"
    );
    assert_eq!(world.envoy.last().outcome, Some(Outcome::Delivered));
}

#[tokio::test(start_paused = true)]
async fn a_refused_message_is_left_out_at_once_and_alone() {
    let peer = Scripted::answering([]);
    peer.script().bad = Some("bad");
    let world = World::new(10, peer);
    world.push(&["a", "bad", "c"]);
    world.deliver(10).await;
    assert_eq!(
        world.peer.sent(),
        [vec!["a", "bad", "c"], vec!["a"], vec!["bad"], vec!["c"]]
    );
    assert!(world.peer.waits().iter().all(Duration::is_zero));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_key_is_tried_slowly_and_loses_nothing() {
    let world = World::new(10, Scripted::answering(vec![Outcome::Unauthorized; 5]));
    world.push(&["a"]);
    world.deliver(2).await;
    assert_eq!(world.peer.sent(), vec![vec!["a"]; 6]);
    let slow = Duration::from_secs(15)..=Duration::from_secs(30);
    assert!(
        world.peer.waits().iter().all(|wait| slow.contains(wait)),
        "{:?}",
        world.peer.waits()
    );
}

#[tokio::test(start_paused = true)]
async fn a_refused_invalidation_is_tried_slowly_and_never_left_out() {
    let world = World::new(10, Scripted::answering(vec![Outcome::Refused; 3]));
    world.envoy.invalidate_all();
    world.deliver(1).await;
    assert_eq!(world.peer.sent(), vec![vec![ALL]; 4]);
    assert!(world.peer.waits().iter().all(|wait| *wait >= Duration::from_secs(15)));
}

#[tokio::test(start_paused = true)]
async fn the_end_cuts_a_wait_short_once() {
    let world = World::new(10, Scripted::answering(vec![Outcome::Unauthorized; 2]));
    world.push(&["a"]);
    let delivering = tokio::spawn(deliver(
        world.envoy.clone(),
        world.peer.clone(),
        10,
        world.hurry.subscribe(),
    ));
    while world.peer.sent().is_empty() {
        tokio::task::yield_now().await;
    }
    world.envoy.queue.close();
    world.hurry.send_replace(true);
    timeout(Duration::from_secs(60), delivering)
        .await
        .expect("in time")
        .expect("it ends");
    let waits = world.peer.waits();
    assert!(waits[0].is_zero() && waits[1] >= Duration::from_secs(15), "{waits:?}");
}
