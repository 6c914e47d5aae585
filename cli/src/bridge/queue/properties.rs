//! Whatever happens to a queue and to what is sent from it: nobody misses anything without being told to forget
//! everything.

use std::collections::BTreeSet;
use std::pin::pin;

use futures_util::FutureExt;
use proptest::prelude::*;
use serde_json::Value;

use super::*;

/// What can happen, in any order.
#[derive(Debug, Clone, Copy)]
enum Happening {
    /// A message comes from Redis.
    Message,
    /// A subscription begins.
    Subscribed,
    /// Something is sent, unless something is on its way already.
    Sent,
    /// What is on its way arrives.
    Arrived,
    /// It does not, or nobody knows.
    Failed,
    /// It does not, for the last time.
    GivenUp,
    /// It is refused for what is in it.
    Refused,
}

fn happening() -> impl Strategy<Value = Happening> {
    use Happening::{Arrived, Failed, GivenUp, Message, Refused, Sent, Subscribed};
    prop_oneof![
        6 => Just(Message),
        1 => Just(Subscribed),
        6 => Just(Sent),
        4 => Just(Arrived),
        2 => Just(Failed),
        1 => Just(GivenUp),
        1 => Just(Refused),
    ]
}

/// What an Envoy has taken, and when it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    Message(usize),
    /// With how many messages that had come until then.
    InvalidateAll(usize),
}

/// A queue and everybody around it. Messages are numbered as they come.
#[derive(Debug)]
struct World {
    queue: Queue,
    messages: usize,
    /// With how many messages that had come when it was sent.
    on_the_way: Option<(Batch, usize)>,
    taken: Vec<Taken>,
    refused: BTreeSet<usize>,
}

impl World {
    fn new(max_messages: usize) -> Self {
        Self {
            queue: Queue::new("staging", max_messages),
            messages: 0,
            on_the_way: None,
            taken: Vec::new(),
            refused: BTreeSet::new(),
        }
    }

    fn happens(&mut self, happening: Happening) {
        match happening {
            Happening::Message => {
                let body = format!(r#"{{"type":"{}","tenantId":"acme"}}"#, self.messages);
                self.queue.push(body.into());
                self.messages += 1;
            }
            Happening::Subscribed => drop(self.queue.invalidate_all()),
            Happening::Sent if self.on_the_way.is_none() => {
                let next = pin!(self.queue.next()).now_or_never().flatten();
                self.on_the_way = next.map(|batch| (batch, self.messages));
            }
            Happening::Sent => {}
            Happening::Arrived => {
                if let Some((batch, came)) = self.on_the_way.take() {
                    self.taken.extend(events(&batch, came));
                    self.queue.delivered(&batch);
                }
            }
            Happening::Failed | Happening::GivenUp | Happening::Refused => {
                if let Some((batch, came)) = self.on_the_way.take() {
                    self.queue.failed();
                    self.did_not_arrive(happening, &batch, came);
                }
            }
        }
    }

    fn did_not_arrive(&mut self, happening: Happening, batch: &Batch, came: usize) {
        match happening {
            Happening::GivenUp => drop(self.queue.give_up(batch)),
            Happening::Refused if self.queue.refused(batch) == Refusal::Dropped => {
                let messages = events(batch, came).into_iter().filter_map(|taken| match taken {
                    Taken::Message(number) => Some(number),
                    Taken::InvalidateAll(_) => None,
                });
                self.refused.extend(messages);
            }
            _ => {}
        }
    }

    /// All goes well until nothing waits any more. Returns whether it came to that.
    fn settles(&mut self) -> bool {
        for _ in 0..=2 * self.messages + 2 {
            self.happens(Happening::Sent);
            self.happens(Happening::Arrived);
        }
        self.queue.length().events == 0
    }

    /// Whether the Envoy was told to forget everything after this message came and before it took a later one.
    fn is_made_up_for(&self, missed: usize) -> bool {
        let later = |taken: &&Taken| !matches!(taken, Taken::Message(number) if *number > missed);
        let before = self.taken.iter().take_while(later);
        before
            .filter(|taken| matches!(taken, Taken::InvalidateAll(came) if *came > missed))
            .count()
            > 0
    }
}

fn events(batch: &Batch, came: usize) -> Vec<Taken> {
    assert!(batch.body.len() < MAX_BODY_BYTES);
    let body: Value = serde_json::from_slice(&batch.body).expect("JSON");
    let events = match body {
        Value::Array(events) => events,
        event => vec![event],
    };
    let number = |event: &Value| event["type"].as_str().map(|number| number.parse().expect("a number"));
    events
        .iter()
        .map(|event| number(event).map_or(Taken::InvalidateAll(came), Taken::Message))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whoever_misses_a_message_forgets_everything_before_the_next_one(
        max_messages in 1_usize..6,
        happenings in prop::collection::vec(happening(), 0..80),
    ) {
        let mut world = World::new(max_messages);
        for happening in happenings {
            world.happens(happening);
            prop_assert!(world.queue.length().events <= max_messages + 1);
        }
        prop_assert!(world.settles(), "{world:?}");
        let messages: Vec<usize> = world.taken.iter().filter_map(|taken| match taken {
            Taken::Message(number) => Some(*number),
            Taken::InvalidateAll(_) => None,
        }).collect();
        prop_assert!(messages.windows(2).all(|pair| pair[0] < pair[1]), "once and in order: {messages:?}");
        for missed in (0..world.messages).filter(|number| !messages.contains(number)) {
            let excused = world.refused.contains(&missed) || world.is_made_up_for(missed);
            prop_assert!(excused, "{missed} is missed: {world:?}");
        }
    }
}
