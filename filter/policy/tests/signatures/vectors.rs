//! Every vector in `../vectors`, verified in pure Rust and by the host.

use std::collections::BTreeSet;

use crate::disagreements;
use crate::published::{Report, folder, judge_jws, judge_raw};

/// A file of vectors: its name, how many tests it has, and whether a host is asked about them.
struct Set {
    name: &'static str,
    tests: usize,
    by_host: bool,
}

const fn set(name: &'static str, tests: usize, by_host: bool) -> Set {
    Set { name, tests, by_host }
}

const RSA_PKCS1: [Set; 9] = [
    set("wycheproof/rsa_signature_2048_sha256", 259, true),
    set("wycheproof/rsa_signature_2048_sha384", 258, true),
    set("wycheproof/rsa_signature_2048_sha512", 259, true),
    set("wycheproof/rsa_signature_3072_sha256", 259, true),
    set("wycheproof/rsa_signature_3072_sha384", 259, true),
    set("wycheproof/rsa_signature_3072_sha512", 260, true),
    set("wycheproof/rsa_signature_4096_sha256", 258, true),
    set("wycheproof/rsa_signature_4096_sha384", 259, true),
    set("wycheproof/rsa_signature_4096_sha512", 259, true),
];

const RSA_PSS: [Set; 6] = [
    set("wycheproof/rsa_pss_2048_sha256_mgf1_32", 108, false),
    set("wycheproof/rsa_pss_2048_sha384_mgf1_48", 141, false),
    set("wycheproof/rsa_pss_3072_sha256_mgf1_32", 108, false),
    set("wycheproof/rsa_pss_4096_sha256_mgf1_32", 108, false),
    set("wycheproof/rsa_pss_4096_sha384_mgf1_48", 141, false),
    set("wycheproof/rsa_pss_4096_sha512_mgf1_64", 179, false),
];

const ECDSA: [Set; 2] = [
    set("wycheproof/ecdsa_secp256r1_sha256_p1363", 262, true),
    set("wycheproof/ecdsa_secp384r1_sha384_p1363", 280, true),
];

const ED25519: [Set; 1] = [set("wycheproof/ed25519", 151, false)];

const HMAC: [Set; 3] = [
    set("wycheproof/hmac_sha256", 174, false),
    set("wycheproof/hmac_sha384", 174, false),
    set("wycheproof/hmac_sha512", 174, false),
];

const JWS: [Set; 4] = [
    set("rfc", 19, true),
    set("wycheproof/json_web_signature", 401, true),
    set("wycheproof/json_web_key", 26, true),
    set("wycheproof/json_web_crypto", 49, true),
];

fn check(sets: &[Set], judge: fn(&str) -> Report) {
    let mut faults = Vec::new();
    for set in sets {
        let report = judge(set.name);
        assert_eq!(report.judged.len(), set.tests, "{}: tests", set.name);
        assert_eq!(report.checked_by_host > 0, set.by_host, "{}: asked", set.name);
        let found = disagreements::faults(set.name, &report);
        faults.extend(found.into_iter().map(|fault| format!("{}: {fault}", set.name)));
    }
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn rsa_pkcs1_signatures_are_judged_as_published_or_as_explained() {
    check(&RSA_PKCS1, judge_raw);
}

#[test]
fn rsa_pss_signatures_are_judged_as_published_or_as_explained() {
    check(&RSA_PSS, judge_raw);
}

#[test]
fn ecdsa_signatures_are_judged_as_published_or_as_explained() {
    check(&ECDSA, judge_raw);
}

#[test]
fn ed25519_signatures_are_judged_as_published_or_as_explained() {
    check(&ED25519, judge_raw);
}

#[test]
fn hmacs_are_judged_as_published_or_as_explained() {
    check(&HMAC, judge_raw);
}

#[test]
fn json_web_signatures_are_judged_as_published_or_as_explained() {
    check(&JWS, judge_jws);
}

#[test]
fn no_file_of_vectors_and_no_disagreement_is_left_out() {
    let sets: [&[Set]; 6] = [&RSA_PKCS1, &RSA_PSS, &ECDSA, &ED25519, &HMAC, &JWS];
    let ran: BTreeSet<String> = sets.into_iter().flatten().map(|set| set.name.to_owned()).collect();
    let names = |path: &str| -> Vec<String> {
        let files = std::fs::read_dir(folder().join(path)).expect("a folder");
        let names = files.map(|file| file.expect("a file").file_name().into_string().expect("UTF-8"));
        let stem = |name: String| name.strip_suffix(".json").map(|stem| format!("{path}{stem}"));
        names.filter_map(stem).collect()
    };
    let there: BTreeSet<String> = [names(""), names("wycheproof/")].concat().into_iter().collect();
    assert_eq!(ran, there);
    let unknown: Vec<_> = disagreements::sets().difference(&ran).cloned().collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}
