use corpus::mint::Keys;
use serde_json::{Value, json};

use super::*;
use crate::authn::Algorithm;

fn key_set(names: &[&str]) -> KeySet {
    let set = Keys::shared().jwk_set(names).unwrap();
    let Some(Value::Array(keys)) = set.get("keys") else {
        panic!("{set}")
    };
    KeySet::load(keys, &[Algorithm::EdDsa], &|_| None).0.unwrap()
}

fn only_key(set: &KeySet) -> Rc<Key> {
    Rc::clone(&set.0[0])
}

fn bounds(max_entries: usize, max_bytes: usize) -> TokenCache {
    TokenCache {
        max_entries,
        max_bytes,
        ttl_ms: 300_000,
    }
}

fn verdict(key: &Rc<Key>, exp: f64) -> Verdict {
    let json = json!({ "tenantId": "acme" });
    Verdict {
        issuer: 0,
        key: Rc::clone(key),
        named: true,
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
    let key = only_key(&key_set(&["main-eddsa"]));
    tokens.remember(b"a.b.c", verdict(&key, 100.0), at(50.0));
    assert!(tokens.recall(b"a.b.c", at(50.0)).is_some());
    for other in [&b"a.b.d"[..], b"a.b.", b"a.b.cc", b"A.b.c", b""] {
        assert!(tokens.recall(other, at(50.0)).is_none());
    }
}

#[test]
fn it_is_remembered_until_exp_and_not_through_the_leeway() {
    let mut tokens = VerifiedTokens::new(bounds(10, 1 << 20));
    let key = only_key(&key_set(&["main-eddsa"]));
    tokens.remember(b"t", verdict(&key, 100.0), at(50.0));
    assert!(tokens.recall(b"t", at(99.999)).is_some());
    assert!(tokens.recall(b"t", at(100.0)).is_none());
    tokens.remember(b"late", verdict(&key, 100.0), at(100.0));
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
    let key = only_key(&key_set(&["main-eddsa"]));
    tokens.remember(b"t", verdict(&key, 1e9), at(50.0));
    let now = |monotonic_ms| Now {
        realtime_ms: 50_000,
        monotonic_ms,
    };
    assert!(tokens.recall(b"t", now(349_999)).is_some());
    assert!(tokens.recall(b"t", now(350_000)).is_none());
}

#[test]
fn entries_and_bytes_are_bounded_and_the_least_used_leaves() {
    let key = only_key(&key_set(&["main-eddsa"]));
    let mut tokens = VerifiedTokens::new(bounds(2, 1 << 20));
    assert!(!tokens.remember(b"a", verdict(&key, 100.0), at(50.0)));
    assert!(!tokens.remember(b"b", verdict(&key, 100.0), at(50.0)));
    assert!(tokens.recall(b"a", at(50.0)).is_some());
    assert!(
        tokens.remember(b"c", verdict(&key, 100.0), at(50.0)),
        "one had to leave"
    );
    assert!(tokens.recall(b"a", at(50.0)).is_some());
    assert!(tokens.recall(b"b", at(50.0)).is_none());

    let mut tokens = VerifiedTokens::new(bounds(100, 2_048));
    for n in 0..50 {
        tokens.remember(format!("{n:0>300}").as_bytes(), verdict(&key, 100.0), at(50.0));
        assert!(tokens.bytes <= 2_048);
    }
    assert_eq!(tokens.entries.len(), 3);
    let mut again = tokens.bytes;
    tokens.remember(format!("{:0>300}", 49).as_bytes(), verdict(&key, 100.0), at(50.0));
    std::mem::swap(&mut again, &mut tokens.bytes);
    assert_eq!(again, tokens.bytes, "the same token twice is counted once");

    let mut none = VerifiedTokens::new(bounds(0, 1 << 20));
    none.remember(b"a", verdict(&key, 100.0), at(50.0));
    assert!(none.recall(b"a", at(50.0)).is_none());
    assert_eq!(none.bytes, 0);
}

#[test]
fn tokens_leave_with_their_key_and_those_that_named_none_with_any_change() {
    let mut tokens = VerifiedTokens::new(bounds(10, 1 << 20));
    let old = key_set(&["main-eddsa", "other-eddsa"]);
    let (stays, goes) = (Rc::clone(&old.0[0]), Rc::clone(&old.0[1]));
    tokens.remember(b"stays", verdict(&stays, 100.0), at(50.0));
    tokens.remember(b"goes", verdict(&goes, 100.0), at(50.0));
    let unnamed = Verdict {
        named: false,
        ..verdict(&stays, 100.0)
    };
    tokens.remember(b"unnamed", unnamed, at(50.0));
    let elsewhere = Verdict {
        issuer: 1,
        ..verdict(&goes, 100.0)
    };
    tokens.remember(b"elsewhere", elsewhere, at(50.0));
    let mut new = key_set(&["main-eddsa"]);
    new.keep_known(&old);
    assert!(
        Rc::ptr_eq(&new.0[0], &stays),
        "the same key is the same to whoever holds it"
    );
    tokens.keys_changed(0, Some(&new));
    let known = |tokens: &mut VerifiedTokens, token: &[u8]| tokens.recall(token, at(50.0)).is_some();
    assert!(known(&mut tokens, b"stays") && known(&mut tokens, b"elsewhere"));
    assert!(!known(&mut tokens, b"goes") && !known(&mut tokens, b"unnamed"));
    tokens.keys_changed(0, None);
    tokens.keys_changed(1, None);
    assert_eq!((tokens.entries.len(), tokens.bytes), (0, 0));
}
