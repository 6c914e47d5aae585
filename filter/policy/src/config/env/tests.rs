use std::os::unix::ffi::OsStringExt;

use super::*;

#[test]
fn a_variable_is_found_by_its_whole_name() {
    let environment = Environment::of([("A", "1"), ("AB", ""), ("A", "2")]);
    assert_eq!(environment.var("A"), Some("1"), "as in C, the first counts");
    assert_eq!(environment.var("AB"), Some(""));
    assert_eq!((environment.var("B"), environment.var("")), (None, None));
}

#[test]
fn a_value_that_is_not_utf8_is_there_and_cannot_be_read() {
    let environment = Environment::of([("A", OsString::from_vec(vec![b'a', 0xff]))]);
    assert_eq!(environment.var("A"), None);
    assert!(environment.is_unreadable("A") && !environment.is_unreadable("B"));
    assert_ne!(environment.absence("A"), environment.absence("B"));
}

#[test]
fn an_environment_shows_names_and_no_values() {
    let environment = Environment::of([("KEY", "hunter2")]);
    assert_eq!(format!("{environment:?}"), r#"["KEY"]"#);
}

#[test]
fn only_unknown_names_with_the_prefix_are_misspelt() {
    for name in KNOWN {
        assert!(name.starts_with(PREFIX), "{name}");
        assert_eq!(Environment::of([(name, "")]).misspelt().next(), None, "{name}");
    }
    for name in [
        SERVICE,
        ENVIRONMENT,
        "HOME",
        "MULTI_TENANCY",
        "multi_tenant_enabled",
        "XMULTI_TENANT_URL",
    ] {
        assert_eq!(Environment::of([(name, "x")]).misspelt().next(), None, "{name}");
    }
    let several = Environment::of([("MULTI_TENANT_A", ""), ("HOME", "/"), ("MULTI_TENANT_", "x")]);
    let names: Vec<_> = several.misspelt().map(|(name, _)| name).collect();
    assert_eq!(names, ["MULTI_TENANT_A", "MULTI_TENANT_"]);
    let name = OsString::from_vec(b"MULTI_TENANT_\xff".to_vec());
    assert_eq!(Environment::of([(name, "x")]).misspelt().count(), 1);
}

#[test]
fn the_nearest_name_is_suggested() {
    for (written, meant) in [
        ("ENABLD", "ENABLED"),
        ("ENABELD", "ENABLED"),
        ("enabled", "ENABLED"),
        ("URI", "URL"),
        ("BASE_URL", "URL"),
        ("TIMEOUT_SEC", "TIMEOUT"),
        ("TIMOUT", "TIMEOUT"),
        ("CACHE_TTL", "CACHE_TTL_SEC"),
        ("CACHE_TTL_SECONDS", "CACHE_TTL_SEC"),
        ("BREAKER_THRESHOLD", "CIRCUIT_BREAKER_THRESHOLD"),
        ("CIRCUIT_BREAKER_TIMEOUT", "CIRCUIT_BREAKER_TIMEOUT_SEC"),
        ("API_KEY", "SERVICE_API_KEY"),
        ("SERVICE_APIKEY", "SERVICE_API_KEY"),
        ("REDIS_PASS", "REDIS_PASSWORD"),
        ("REDIS_PROT", "REDIS_PORT"),
        ("REDIS_CA", "REDIS_CA_CERT"),
        ("MAX_POOLS", "MAX_TENANT_POOLS"),
    ] {
        assert_eq!(nearest(written), format!("{PREFIX}{meant}"), "{written}");
    }
}

#[test]
fn a_distance_counts_insertions_and_deletions() {
    for (one, other, expected) in [
        ("", "", 0),
        ("abc", "abc", 0),
        ("", "abc", 3),
        ("abc", "", 3),
        ("abc", "abd", 2),
        ("abc", "xabcx", 2),
        ("ab", "ba", 2),
        ("kitten", "sitting", 5),
    ] {
        assert_eq!(distance(one, other), expected, "{one} {other}");
        assert_eq!(distance(other, one), expected, "{other} {one}");
    }
    let long = "x".repeat(100_000);
    assert_eq!(
        distance(&long, "URL"),
        64 + 3,
        "of a long name only the start is looked at"
    );
}
