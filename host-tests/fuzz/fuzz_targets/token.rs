//! Tokens. The first byte chooses what the rest is:
//!
//! * a credential as it stands, which nobody signed;
//! * a header and, in the next line, claims, which are signed;
//! * changes to a good token, three bytes each: where, and which byte stands there instead.

#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use serde_json::json;
use tenant_policy::authn::{AcceptedTypes, Jws};
use tenant_policy::engine::Engine;
use tenant_policy_fuzz::token::{auth, encoded, signed};
use tenant_policy_fuzz::{AUDIENCE, ISSUER, NOW, World, claims, engine, tenant};

/// The longest token that is looked at.
const MAX_TOKEN_BYTES: usize = 16_384;

fuzz_target!(|input: &[u8]| {
    let Some((choice, rest)) = input.split_first() else {
        return;
    };
    match choice % 3 {
        0 => unsigned(rest),
        1 => signed_texts(rest),
        _ => changed(rest),
    }
});

thread_local! {
    /// For tokens that nobody has made: one that remembers a good token takes no other for it.
    static ENGINE: RefCell<Engine> = RefCell::new(engine(&auth()));
}

/// Whom an engine that has seen other inputs takes the bearer for, at the beginning.
fn named(token: &[u8]) -> Option<Vec<u8>> {
    ENGINE.with(|engine| bearer(&mut engine.borrow_mut(), token, [0]))[0].take()
}

/// Whom an engine takes the bearer of a token for at each of these times, in seconds after the
/// beginning. It is asked twice: what it remembers of a token must not change its mind.
fn bearer<const N: usize>(engine: &mut Engine, token: &[u8], times: [u64; N]) -> [Option<Vec<u8>>; N] {
    let world = World::default();
    let credential = [b"Bearer ", token].concat();
    times.map(|passed| {
        world.passed_ms.set(passed * 1_000);
        let first = tenant(engine, &world, &[(b"authorization", &credential)]);
        assert_eq!(
            tenant(engine, &world, &[(b"authorization", &credential)]),
            first,
            "when asked again"
        );
        first
    })
}

fn unsigned(token: &[u8]) {
    assert_eq!(named(token), None, "nobody signed it");
    let accepted = AcceptedTypes::new(&["JWT".to_owned()]).expect("a type");
    if let Ok(jws) = Jws::parse(token, &accepted) {
        let payload = jws.payload().map(encoded).unwrap_or_else(|_| "?".to_owned());
        let parts: Vec<&[u8]> = token.split(|byte| *byte == b'.').collect();
        assert_eq!(parts.len(), 3);
        assert!(
            payload == "?" || payload.as_bytes() == parts[1],
            "another spelling of the payload"
        );
        assert_eq!(
            encoded(jws.signature()).as_bytes(),
            parts[2],
            "another spelling of the signature"
        );
        assert_eq!(jws.signed(), [parts[0], b".", parts[1]].concat());
    }
}

fn signed_texts(texts: &[u8]) {
    let at = texts.iter().position(|byte| *byte == b'\n').unwrap_or(texts.len());
    let (header, payload) = (&texts[..at], texts.get(at + 1..).unwrap_or_default());
    let token = signed(header, payload);
    let good = claims::object(header).is_some_and(|header| claims::is_good_header(&header));
    let payload = claims::object(payload).filter(|_| good && token.len() <= MAX_TOKEN_BYTES);
    // When it comes, when it is seen again a little later, and long after.
    let times = [0, 59, 61, 3_600, 1 << 40];
    let proven = |passed| payload.as_ref().and_then(|payload| claims::tenant(payload, passed));
    assert_eq!(
        bearer(&mut engine(&auth()), &token, times),
        times.map(|passed| proven(passed).map(|id| id.as_bytes().to_vec()))
    );
}

fn changed(changes: &[u8]) {
    let header = json!({ "alg": "HS256", "typ": "JWT", "kid": "k" });
    let payload = json!({ "iss": ISSUER, "aud": AUDIENCE, "exp": NOW + 60, "tenantId": "t-acme" });
    let good = signed(header.to_string().as_bytes(), payload.to_string().as_bytes());
    assert_eq!(named(&good), Some(b"t-acme".to_vec()));
    let mut token = good.clone();
    for change in changes.chunks_exact(3) {
        let at = usize::from(u16::from_be_bytes([change[0], change[1]]));
        match (token.len(), change[2]) {
            (0, byte) => token.push(byte),
            (length, b'\n') => drop(token.remove(at % length)),
            (length, byte) => token[at % length] = byte,
        }
    }
    if token != good {
        assert_eq!(named(&token), None, "{}", token.escape_ascii());
    }
}
