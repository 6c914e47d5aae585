//! Published vectors, as they stand in `../vectors`, and what the engine says of each.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tenant_policy::authn::{AcceptedTypes, Algorithm, Jws, KeySet};

use crate::surroundings::Host;

/// A file of vectors.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Set<T> {
    /// What raw signatures are made with. A JWS says so itself.
    algorithm: Option<String>,
    groups: Vec<Group<T>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Group<T> {
    keys: Vec<Value>,
    tests: Vec<T>,
}

/// A signature and the message that it may be of.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTest {
    id: u32,
    comment: String,
    result: Expectation,
    message: String,
    signature: String,
}

/// A JSON Web Signature, in whatever serialization.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct JwsTest {
    id: u32,
    comment: String,
    result: Expectation,
    jws: String,
}

/// What the publisher expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Expectation {
    Valid,
    Invalid,
    /// Either verdict is fine, and ours has to be stated.
    Acceptable,
}

/// What the engine says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    Accepts,
    Refuses,
}

impl Verdict {
    fn of(holds: bool) -> Self {
        if holds { Self::Accepts } else { Self::Refuses }
    }
}

/// A vector that the engine has judged.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) id: u32,
    pub(crate) comment: String,
    pub(crate) expected: Expectation,
    /// On a host without a check of its own.
    pub(crate) pure: Verdict,
    /// On a host with one.
    pub(crate) native: Verdict,
}

/// A whole set, judged.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) judged: Vec<Judged>,
    /// How many of its signatures the host has checked.
    pub(crate) checked_by_host: usize,
}

/// The folder of the vectors.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

fn read<T: DeserializeOwned>(name: &str) -> Set<T> {
    let path = folder().join(format!("{name}.json"));
    let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Judges a file of raw signatures. Its keys are loaded as those of an issuer that allows this
/// algorithm alone; a key that is refused verifies nothing.
pub(crate) fn judge_raw(name: &str) -> Report {
    let set: Set<RawTest> = read(name);
    let algorithm = set.algorithm.as_deref().and_then(Algorithm::parse);
    let algorithm = algorithm.expect("an algorithm of the engine");
    let (pure, native) = (Host::pure(), Host::native());
    let mut judged = Vec::new();
    for group in &set.groups {
        let keys = KeySet::load(&group.keys, &[algorithm], &|_| None).0;
        for test in &group.tests {
            let (message, signature) = (decode(&test.message), decode(&test.signature));
            let verdict = |host: &Host| {
                let key = keys.as_ref().and_then(|keys| keys.select(algorithm, None).ok());
                Verdict::of(key.is_some_and(|key| key.verifies(algorithm, &message, &signature, host)))
            };
            judged.push(Judged {
                id: test.id,
                comment: test.comment.clone(),
                expected: test.result,
                pure: verdict(&pure),
                native: verdict(&native),
            });
        }
    }
    Report {
        judged,
        checked_by_host: native.checked(),
    }
}

/// Judges a file of JSON Web Signatures. Every algorithm is allowed, which is more than an issuer
/// can be configured to allow: what is refused is refused for its key or its signature.
pub(crate) fn judge_jws(name: &str) -> Report {
    let set: Set<JwsTest> = read(name);
    assert_eq!(set.algorithm, None, "a JWS names its algorithm");
    let types = AcceptedTypes::new(&["JWT".to_owned(), "at+jwt".to_owned()]).expect("types");
    let (pure, native) = (Host::pure(), Host::native());
    let mut judged = Vec::new();
    for group in &set.groups {
        let keys = KeySet::load(&group.keys, &Algorithm::ALL, &|_| None).0;
        for test in &group.tests {
            let verdict = |host: &Host| {
                let verified = Jws::parse(test.jws.as_bytes(), &types).and_then(|jws| {
                    let payload = jws.payload()?;
                    let verified = keys
                        .as_ref()
                        .map(|keys| keys.verify(&jws, &Algorithm::ALL, host).map(|_| payload));
                    verified.transpose()
                });
                Verdict::of(matches!(verified, Ok(Some(_))))
            };
            judged.push(Judged {
                id: test.id,
                comment: test.comment.clone(),
                expected: test.result,
                pure: verdict(&pure),
                native: verdict(&native),
            });
        }
    }
    Report {
        judged,
        checked_by_host: native.checked(),
    }
}

fn decode(text: &str) -> Vec<u8> {
    BASE64URL.decode(text).expect("base64url")
}
