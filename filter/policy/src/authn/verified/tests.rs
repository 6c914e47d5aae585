use serde_json::json;

use super::*;

fn bounds(max_entries: usize, max_bytes: usize) -> TokenCache {
    TokenCache {
        max_entries,
        max_bytes,
        ttl_ms: 300_000,
    }
}

fn verdict(exp: f64) -> Verdict {
    let json = json!({ "tenantId": "acme" });
    Verdict {
        issuer: 0,
        claims: Rc::new(Claims::keep(&["tenantId".to_owned()], json.as_object().unwrap())),
        validity: Validity {
            from: Some(10.0),
            exp: Some(exp),
        },
    }
}

fn at(seconds: f64) -> Now {
    let ms = (seconds * 1_000.0) as u64;
    Now {
        realtime_ms: ms,
        monotonic_ms: ms,
    }
}

#[test]
fn a_token_is_found_by_all_of_its_bytes() {
    let mut tokens = VerifiedTokens::new(bounds(10, 1 << 20));
    tokens.remember(b"a.b.c", verdict(100.0), at(50.0));
    assert!(tokens.recall(b"a.b.c", at(50.0)).is_some());
    for other in [&b"a.b.d"[..], b"a.b.", b"a.b.cc", b"A.b.c", b""] {
        assert!(tokens.recall(other, at(50.0)).is_none());
    }
}

#[test]
fn it_is_remembered_until_exp_and_not_through_the_leeway() {
    let mut tokens = VerifiedTokens::new(bounds(10, 1 << 20));
    tokens.remember(b"t", verdict(100.0), at(50.0));
    assert!(tokens.recall(b"t", at(99.999)).is_some());
    assert!(tokens.recall(b"t", at(100.0)).is_none());
    tokens.remember(b"late", verdict(100.0), at(100.0));
    assert_eq!(tokens.entries.len(), 1, "what holds by leeway only is not remembered");
    let set_back = Now {
        realtime_ms: 9_999,
        monotonic_ms: 60_000,
    };
    assert!(tokens.recall(b"t", set_back).is_none(), "before its nbf");
}

#[test]
fn it_is_remembered_no_longer_than_the_ttl_by_the_clock_that_never_jumps() {
    let mut tokens = VerifiedTokens::new(bounds(10, 1 << 20));
    tokens.remember(b"t", verdict(1e9), at(50.0));
    let now = |monotonic_ms| Now {
        realtime_ms: 50_000,
        monotonic_ms,
    };
    assert!(tokens.recall(b"t", now(349_999)).is_some());
    assert!(tokens.recall(b"t", now(350_000)).is_none());
}

#[test]
fn entries_and_bytes_are_bounded_and_the_least_used_leaves() {
    let mut tokens = VerifiedTokens::new(bounds(2, 1 << 20));
    assert!(!tokens.remember(b"a", verdict(100.0), at(50.0)));
    assert!(!tokens.remember(b"b", verdict(100.0), at(50.0)));
    assert!(tokens.recall(b"a", at(50.0)).is_some());
    assert!(tokens.remember(b"c", verdict(100.0), at(50.0)), "one had to leave");
    assert!(tokens.recall(b"a", at(50.0)).is_some());
    assert!(tokens.recall(b"b", at(50.0)).is_none());

    let mut tokens = VerifiedTokens::new(bounds(100, 2_048));
    for n in 0..50 {
        tokens.remember(format!("{n:0>300}").as_bytes(), verdict(100.0), at(50.0));
        assert!(tokens.bytes <= 2_048);
    }
    assert_eq!(tokens.entries.len(), 3);
    let bytes = tokens.bytes;
    tokens.remember(format!("{:0>300}", 49).as_bytes(), verdict(100.0), at(50.0));
    assert_eq!(bytes, tokens.bytes, "the same token twice is counted once");

    let mut none = VerifiedTokens::new(bounds(0, 1 << 20));
    none.remember(b"a", verdict(100.0), at(50.0));
    assert!(none.recall(b"a", at(50.0)).is_none());
    assert_eq!(none.bytes, 0);
}

#[test]
fn tokens_leave_with_any_change_of_their_issuers_keys() {
    let mut tokens = VerifiedTokens::new(bounds(10, 1 << 20));
    tokens.remember(b"goes", verdict(100.0), at(50.0));
    let elsewhere = Verdict {
        issuer: 1,
        ..verdict(100.0)
    };
    tokens.remember(b"stays", elsewhere, at(50.0));
    tokens.forget(0);
    assert!(tokens.recall(b"goes", at(50.0)).is_none());
    assert!(tokens.recall(b"stays", at(50.0)).is_some());
    tokens.forget(1);
    assert_eq!((tokens.entries.len(), tokens.bytes), (0, 0));
}
