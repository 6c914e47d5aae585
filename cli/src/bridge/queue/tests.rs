use std::pin::pin;

use futures_util::FutureExt;
use serde_json::Value;

use super::*;

fn queue(max_messages: usize) -> Queue {
    Queue::new("staging", max_messages)
}

fn message(name: &str) -> Bytes {
    format!(r#"{{"type":"{name}","tenantId":"acme"}}"#).into()
}

fn push(queue: &Queue, names: &[&str]) -> usize {
    names.iter().map(|name| queue.push(message(name))).sum()
}

/// What would be sent now, if anything.
fn next(queue: &Queue) -> Option<Batch> {
    pin!(queue.next()).now_or_never().flatten()
}

/// The types of the events in a batch.
fn names(batch: &Batch) -> Vec<String> {
    let body: Value = serde_json::from_slice(&batch.body).expect("JSON");
    let events = match body {
        Value::Array(events) => events,
        event => vec![event],
    };
    assert_eq!(events.len(), batch.events);
    let kind = |event: &Value| {
        event
            .get("type")
            .or(event.get("event_type"))
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    events.iter().map(|event| kind(event).expect("a type")).collect()
}

fn next_names(queue: &Queue) -> Vec<String> {
    next(queue).map(|batch| names(&batch)).unwrap_or_default()
}

const ALL: &str = "cache.invalidate_all";

#[test]
fn one_message_goes_as_it_is_and_several_go_as_an_array_in_order() {
    let queue = queue(10);
    push(&queue, &["a"]);
    assert_eq!(next(&queue).map(|batch| batch.body), Some(message("a")));
    push(&queue, &["b", "c"]);
    let batch = next(&queue).expect("a batch");
    assert_eq!(
        (names(&batch), batch.messages),
        (vec!["a".into(), "b".into(), "c".into()], 3)
    );
    queue.delivered(&batch);
    assert_eq!(next(&queue), None);
    assert_eq!(
        queue.length(),
        Length {
            events: 0,
            oldest: Duration::ZERO
        }
    );
}

#[test]
fn what_comes_while_a_batch_is_on_its_way_is_sent_after_it() {
    let queue = queue(10);
    push(&queue, &["a"]);
    let batch = next(&queue).expect("a batch");
    push(&queue, &["b"]);
    queue.delivered(&batch);
    assert_eq!(next_names(&queue), ["b"]);
}

#[test]
fn overflow_pushes_out_the_oldest_and_one_invalidation_goes_first() {
    let queue = queue(2);
    assert_eq!(push(&queue, &["a", "b", "c", "d"]), 2);
    let batch = next(&queue).expect("a batch");
    assert_eq!(
        (names(&batch), batch.messages),
        (vec![ALL.into(), "c".into(), "d".into()], 2)
    );
    assert_eq!(queue.length().events, 3);
    queue.delivered(&batch);
    assert_eq!(next(&queue), None);
}

#[test]
fn what_is_pushed_out_while_it_is_on_its_way_and_arrives_is_not_lost() {
    let queue = queue(2);
    push(&queue, &["a", "b"]);
    let batch = next(&queue).expect("a batch");
    assert_eq!(push(&queue, &["c", "d"]), 0);
    queue.delivered(&batch);
    assert_eq!(queue.failed(), 0);
    assert_eq!(next_names(&queue), ["c", "d"]);
}

#[test]
fn what_is_pushed_out_while_it_is_on_its_way_and_does_not_arrive_is_lost() {
    let queue = queue(2);
    push(&queue, &["a", "b"]);
    next(&queue).expect("a batch");
    assert_eq!(push(&queue, &["c", "d", "e"]), 1);
    assert_eq!((queue.failed(), queue.failed()), (2, 0));
    assert_eq!(next_names(&queue), [ALL, "d", "e"]);
}

#[test]
fn what_is_pushed_out_beyond_the_batch_on_its_way_is_lost() {
    let queue = queue(2);
    push(&queue, &["a", "b"]);
    let batch = next(&queue).expect("a batch");
    push(&queue, &["c", "d", "e"]);
    queue.delivered(&batch);
    assert_eq!(next_names(&queue), [ALL, "d", "e"]);
}

#[test]
fn an_invalidation_on_its_way_does_not_stand_for_what_is_lost_after_it() {
    let queue = queue(1);
    push(&queue, &["a", "b"]);
    let batch = next(&queue).expect("a batch");
    assert_eq!(names(&batch), [ALL, "b"]);
    push(&queue, &["c", "d"]);
    queue.delivered(&batch);
    assert_eq!(next_names(&queue), [ALL, "d"]);
}

#[test]
fn what_is_given_up_becomes_an_invalidation_before_the_rest() {
    let queue = queue(10);
    push(&queue, &["a", "b"]);
    let batch = next(&queue).expect("a batch");
    push(&queue, &["c"]);
    assert_eq!(queue.give_up(&batch), 2);
    let batch = next(&queue).expect("a batch");
    assert_eq!(names(&batch), [ALL, "c"]);
    assert_eq!(queue.give_up(&batch), 1);
    let batch = next(&queue).expect("a batch");
    assert_eq!(names(&batch), [ALL]);
    assert_eq!(queue.give_up(&batch), 0);
    assert_eq!(next_names(&queue), [ALL]);
}

#[test]
fn one_refused_event_takes_no_other_with_it() {
    let queue = queue(10);
    push(&queue, &["a", "bad", "c"]);
    let batch = next(&queue).expect("a batch");
    push(&queue, &["d", "e"]);
    assert_eq!(queue.refused(&batch), Refusal::Split);
    let mut sent = Vec::new();
    while let Some(batch) = next(&queue) {
        let names = names(&batch);
        if names == ["bad"] {
            assert_eq!(queue.refused(&batch), Refusal::Dropped);
        } else {
            queue.delivered(&batch);
        }
        sent.push(names);
    }
    assert_eq!(sent, [vec!["a"], vec!["bad"], vec!["c"], vec!["d", "e"]]);
}

#[test]
fn a_refused_invalidation_stays() {
    let queue = queue(1);
    queue.invalidate_all();
    let batch = next(&queue).expect("a batch");
    assert_eq!((queue.refused(&batch), batch.messages), (Refusal::Kept, 0));
    push(&queue, &["a", "b"]);
    let batch = next(&queue).expect("a batch");
    assert_eq!(names(&batch), [ALL, "b"]);
    assert_eq!(queue.refused(&batch), Refusal::Split);
    let batch = next(&queue).expect("a batch");
    assert_eq!(
        (names(&batch), queue.refused(&batch)),
        (vec![ALL.to_owned()], Refusal::Kept)
    );
    queue.delivered(&batch);
    assert_eq!(next_names(&queue), ["b"]);
}

#[test]
fn invalidations_in_a_row_are_one_and_between_messages_they_keep_their_place() {
    let queue = queue(10);
    queue.invalidate_all();
    queue.invalidate_all();
    push(&queue, &["a"]);
    queue.invalidate_all();
    push(&queue, &["b"]);
    let batch = next(&queue).expect("a batch");
    assert_eq!(
        (names(&batch), batch.messages),
        (vec![ALL.into(), "a".into(), ALL.into(), "b".into()], 2)
    );
}

#[test]
fn a_body_stays_below_what_the_filter_reads() {
    let queue = queue(1000);
    let sized = |length: usize| Bytes::from(format!("\"{}\"", "x".repeat(length - 2)));
    // Two of these with brackets and a comma are one byte below the limit, or one too many.
    let (half, fits, too_much) = (MAX_BODY_BYTES / 2, MAX_BODY_BYTES / 2 - 4, MAX_BODY_BYTES / 2 - 3);
    for length in [MAX_BODY_BYTES - 1, half, fits, half, too_much, 1000] {
        queue.push(sized(length));
    }
    let mut counts = Vec::new();
    while let Some(batch) = next(&queue) {
        assert!(batch.body.len() < MAX_BODY_BYTES, "{}", batch.body.len());
        counts.push(batch.events);
        queue.delivered(&batch);
    }
    assert_eq!(counts, [1, 2, 1, 2]);
    for number in 0..MAX_EVENTS + 1 {
        queue.push(message(&number.to_string()));
    }
    assert_eq!(next(&queue).map(|batch| batch.events), Some(MAX_EVENTS));
}

#[test]
fn bytes_are_bounded_too() {
    let queue = queue(100_000);
    let large = Bytes::from(vec![b' '; MAX_BODY_BYTES - 1]);
    let fit = MAX_BYTES / large.len();
    let lost: usize = (0..fit + 3).map(|_| queue.push(large.clone())).sum();
    assert_eq!((lost, queue.length().events), (3, fit + 1));
}

#[tokio::test(start_paused = true)]
async fn the_oldest_is_as_old_as_the_first_that_was_lost() {
    let queue = queue(1);
    push(&queue, &["a"]);
    tokio::time::advance(Duration::from_secs(7)).await;
    push(&queue, &["b"]);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(
        queue.length(),
        Length {
            events: 2,
            oldest: Duration::from_secs(8)
        }
    );
}

#[tokio::test]
async fn a_closed_queue_ends_when_it_is_empty() {
    let queue = queue(10);
    push(&queue, &["a"]);
    queue.close();
    let batch = queue.next().await.expect("what was there");
    queue.delivered(&batch);
    assert_eq!(queue.next().await, None);
}

#[tokio::test]
async fn a_message_wakes_who_waits() {
    let queue = queue(10);
    let (batch, ()) = tokio::join!(queue.next(), async {
        push(&queue, &["a"]);
    });
    assert_eq!(batch.map(|batch| names(&batch)), Some(vec!["a".to_owned()]));
}
