//! Thousands of signatures, good and broken, verified in pure Rust and by a host: no difference.

use corpus::mint::Keys;
use tenant_policy::authn::{Algorithm, KeySet};

use crate::surroundings::Host;

/// Fewest signatures that an algorithm is tried with.
const ENOUGH: usize = 1_500;

/// The longest message, in bytes.
const LONGEST: usize = 400;

/// Signs `messages` by chance, and breaks the signature of each in every known way.
fn both_ways_agree(algorithm: Algorithm, messages: usize) {
    let keys = Keys::shared();
    let kind = algorithm.name().to_lowercase();
    let name = format!("main-{kind}");
    let key_set = |name: &str| {
        let jwk = keys.jwk(name).expect("a key");
        KeySet::load(&[jwk], &[algorithm], &|_| None).0.expect("a usable key")
    };
    let (own, other) = (key_set(&name), key_set(&format!("other-{kind}")));
    let (own, other) = (
        own.select(algorithm, None).unwrap(),
        other.select(algorithm, None).unwrap(),
    );
    let (pure, native) = (Host::pure(), Host::native());
    let mut dice = fastrand::Rng::with_seed(0x7e4a_4e7a);
    let mut tried = 0;
    for _ in 0..messages {
        let length = dice.usize(..LONGEST);
        let message: Vec<u8> = (0..length).map(|_| dice.u8(..)).collect();
        let another = [&message[..], b"."].concat();
        for attempt in keys.attempts(&name, &message, &mut dice).expect("attempts") {
            for (key, message, holds) in [
                (own, &message, Some(attempt.holds)),
                // One attempt is the other key's signature, one is over the other message.
                (other, &message, None),
                (own, &another, None),
            ] {
                let verdict = |host: &Host| key.verifies(algorithm, message, &attempt.signature, host);
                let found = (verdict(&pure), verdict(&native));
                let told = || {
                    format!(
                        "{}: {}: {found:?}: key {key:?} {:?}, message {message:02x?}, signature {:02x?}",
                        algorithm.name(),
                        attempt.what,
                        keys.jwk(&name),
                        attempt.signature
                    )
                };
                assert_eq!(found.0, found.1, "{}", told());
                assert!(holds.is_none_or(|holds| holds == found.0), "{}", told());
                tried += 1;
            }
        }
    }
    assert!(tried >= ENOUGH, "{tried} signatures");
    // What cannot be a signature of the curve at all never reaches the host.
    assert!(
        native.checked() >= tried / 4,
        "{} of {tried} by the host",
        native.checked()
    );
    assert_eq!(pure.checked(), 0);
}

#[test]
fn rs256_is_the_same_in_rust_and_by_the_host() {
    both_ways_agree(Algorithm::Rs256, 20);
}

#[test]
fn rs384_is_the_same_in_rust_and_by_the_host() {
    both_ways_agree(Algorithm::Rs384, 20);
}

#[test]
fn rs512_is_the_same_in_rust_and_by_the_host() {
    both_ways_agree(Algorithm::Rs512, 20);
}

#[test]
fn es256_is_the_same_in_rust_and_by_the_host() {
    both_ways_agree(Algorithm::Es256, 7);
}

#[test]
fn es384_is_the_same_in_rust_and_by_the_host() {
    both_ways_agree(Algorithm::Es384, 7);
}
