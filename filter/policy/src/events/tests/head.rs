//! The head of a delivery: path, key, method, declared length.

use super::*;

type Line<'a> = (&'a [u8], &'a [u8]);

fn judged(lines: &[Line<'_>]) -> Option<Result<Vec<Edit>, u16>> {
    let engine = engine(&json!({}));
    let events = engine.config.events.as_ref().unwrap();
    let head = RequestHead::new(lines);
    is_addressed(events, &head).then(|| accept(events, &head).map_err(|denial| denial.code().status()))
}

#[test]
fn exactly_one_right_key_opens_the_path() {
    let remove = vec![Edit::Remove(b"x-api-key".to_vec())];
    let (right, other) = (KEYS[0].as_bytes(), KEYS[1].as_bytes());
    for (keys, opens) in [
        (vec![right], true),
        (vec![other], true),
        (vec![], false),
        (vec![b"".as_slice()], false),
        (vec![b"wrong-wrong-wrong".as_slice()], false),
        (vec![&right[..15]], false),
        (vec![b"0123456789abcdef0".as_slice()], false),
        (vec![b" 0123456789abcdef".as_slice()], false),
        (vec![b"0123456789ABCDEF".as_slice()], false),
        (vec![right, right], false),
        (vec![right, other], false),
        (vec![right, b"".as_slice()], false),
        (vec![b"0123456789abcdef,fedcba9876543210".as_slice()], false),
    ] {
        let mut lines: Vec<Line<'_>> = vec![(b":method", b"POST"), (b":path", b"/internal/events")];
        lines.extend(keys.iter().map(|key| (b"x-api-key".as_slice(), *key)));
        let expected = if opens { Ok(remove.clone()) } else { Err(401) };
        assert_eq!(judged(&lines), Some(expected), "{keys:?}");
    }
}

#[test]
fn events_are_posted_and_say_nothing_of_a_length_that_is_too_much() {
    let lines = |method: &'static [u8], length: Option<&'static [u8]>| {
        let mut lines: Vec<Line<'_>> = vec![(b":path", b"/internal/events"), (b":method", method)];
        lines.push((b"x-api-key", KEYS[0].as_bytes()));
        lines.extend(length.map(|length| (b"content-length".as_slice(), length)));
        judged(&lines).unwrap().err()
    };
    for (method, length, status) in [
        (b"POST".as_slice(), None, None),
        (b"POST", Some(b"0".as_slice()), None),
        (b"POST", Some(b"262144"), None),
        (b"POST", Some(b"262145"), Some(400)),
        (b"POST", Some(b"99999999999999999999999999"), Some(400)),
        (b"POST", Some(b"-1"), Some(400)),
        (b"POST", Some(b"x"), Some(400)),
        (b"POST", Some(b""), Some(400)),
        (b"GET", None, Some(400)),
        (b"PUT", None, Some(400)),
        (b"post", None, Some(400)),
    ] {
        assert_eq!(lines(method, length), status, "{method:?} {length:?}");
    }
}

#[test]
fn only_the_exact_path_is_meant() {
    for (path, is_meant) in [
        ("/internal/events", true),
        ("/internal/events?x=1", true),
        ("/internal/events/", false),
        ("/internal/events/x", false),
        ("/internal/event", false),
        ("/internal/eventss", false),
        ("/Internal/events", false),
        ("/internal/%65vents", false),
        ("//internal/events", false),
        ("/internal/./events", false),
        ("/internal/events;x", false),
        ("/internal/events#x", false),
        ("http://host/internal/events", false),
        ("", false),
    ] {
        let lines: [Line<'_>; 2] = [(b":method", b"POST"), (b":path", path.as_bytes())];
        assert_eq!(judged(&lines).is_some(), is_meant, "{path}");
    }
    let twice: [Line<'_>; 2] = [(b":path", b"/internal/events"), (b":path", b"/internal/events")];
    assert_eq!(judged(&twice), None);
}
