use std::ffi::OsString;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::*;

/// The least that runs.
const LEAST: [(&str, &str); 3] = [(HOST, "redis.internal"), (ENVIRONMENT, "staging"), (EVENTS_KEY, "k-1")];

fn variables(set: &[(&str, &str)]) -> Variables {
    Variables::of(
        set.iter()
            .map(|(name, value)| (OsString::from(name), OsString::from(value))),
    )
}

fn with(set: &[(&str, &str)]) -> Variables {
    variables(&[&LEAST, set].concat())
}

fn one_envoy() -> Options {
    Options {
        envoys: vec!["http://127.0.0.1:9903/-/tenantgate/events".to_owned()],
        ..Options::default()
    }
}

/// Every fault of a configuration that must have some.
fn faults(options: &Options, variables: &Variables) -> Vec<String> {
    let faults = Settings::compile(options, variables).expect_err("a fault");
    faults.iter().map(ToString::to_string).collect()
}

fn ca() -> String {
    let ca = rcgen::generate_simple_self_signed(["ca.test".to_owned()]).expect("a certificate");
    ca.cert.pem()
}

#[test]
fn the_least_configuration_has_the_documented_defaults() {
    let settings = Settings::compile(&one_envoy(), &variables(&LEAST)).expect("settings");
    assert_eq!(
        (settings.redis.host.as_str(), settings.redis.port),
        ("redis.internal", 6379)
    );
    assert!(settings.redis.password.is_none() && settings.redis.tls.is_none());
    assert_eq!(settings.environment, "staging");
    assert_eq!(settings.listen.to_string(), "127.0.0.1:9474");
    assert_eq!(
        (settings.delivery.queue_messages, settings.delivery.attempts),
        (1_000, 10)
    );
    assert_eq!(
        [
            settings.redis.timeout,
            settings.redis.ping,
            settings.delivery.timeout,
            settings.drain
        ],
        [Duration::from_secs(5); 4]
    );
    assert_eq!(settings.pending, Duration::from_secs(30));
}

#[test]
fn every_fault_is_told_at_once() {
    let options = Options {
        envoys: vec![
            "ftp://x/y".to_owned(),
            "http://a:1/p".to_owned(),
            "http://a:1/p".to_owned(),
        ],
        listen: Some("9474".to_owned()),
        attempts: Some("0".to_owned()),
        log_level: Some("loud".to_owned()),
        ..Options::default()
    };
    let variables = variables(&[
        (HOST, "redis://redis:6379"),
        (PORT, "70000"),
        (TLS, "yes"),
        (ENVIRONMENT, "a:b"),
        ("MULTI_TENANT_REDIS_PASWORD", "hunter2"),
    ]);
    let told = faults(&options, &variables);
    let places: Vec<_> = told.iter().filter_map(|fault| fault.split(':').next()).collect();
    assert_eq!(
        places,
        [
            "MULTI_TENANT_REDIS_PASWORD",
            ENVIRONMENT,
            HOST,
            PORT,
            TLS,
            "--envoy, number 1",
            "--envoy, number 3",
            EVENTS_KEY,
            "--attempts",
            "--listen",
            "--log-level"
        ],
        "{told:#?}"
    );
}

#[test]
fn nothing_at_all_names_what_is_needed() {
    let told = faults(&Options::default(), &Variables::default());
    let places: Vec<_> = told.iter().filter_map(|fault| fault.split(':').next()).collect();
    assert_eq!(places, [ENVIRONMENT, HOST, "--envoy", EVENTS_KEY]);
}

#[test]
fn an_unknown_name_suggests_the_nearest_one() {
    for (name, suggestion) in [
        ("MULTI_TENANT_REDIS_HOSTNAME", HOST),
        ("MULTI_TENANT_REDIS_PROT", PORT),
        ("MULTI_TENANT_REDIS_PASS", PASSWORD),
        ("MULTI_TENANT_REDIS_CACERT", CA_CERT),
        ("MULTI_TENANT_REDIS_SERVICE_HOST", "enableServiceLinks"),
        ("MULTI_TENANT_REDIS_PORT_6379_TCP", "enableServiceLinks"),
    ] {
        let told = faults(&one_envoy(), &with(&[(name, "")]));
        assert!(
            matches!(told.as_slice(), [one] if one.starts_with(name) && one.contains(suggestion)),
            "{told:?}"
        );
    }
}

#[test]
fn no_fault_shows_a_value() {
    let secret = "hunter2 hunter2";
    let set: Vec<_> = [
        HOST,
        PORT,
        TLS,
        CA_CERT,
        ENVIRONMENT,
        EVENTS_KEY,
        "MULTI_TENANT_REDIS_X",
    ]
    .map(|name| (name, secret))
    .into();
    let text = || Some("hunter2".to_owned());
    let options = Options {
        envoys: vec!["http://user:hunter2@envoy:1/p".to_owned()],
        listen: text(),
        redis_ca_file: None,
        events_key_file: None,
        redis_password_file: text(),
        attempts: text(),
        log_level: text(),
        ..Options::default()
    };
    let told = faults(&options, &variables(&set));
    assert!(told.len() >= 10 && !told.concat().contains("hunter2"), "{told:#?}");
    let settings = Settings::compile(&one_envoy(), &with(&[(PASSWORD, "hunter2")])).expect("settings");
    assert!(!format!("{settings:?}").contains("hunter2"));
    assert!(!format!("{settings:?}").contains("k-1"));
}

#[test]
fn an_option_outranks_its_variable_and_an_empty_variable_is_none() {
    let options = Options {
        redis_host: Some("other".to_owned()),
        redis_port: Some("7000".to_owned()),
        environment: Some("production".to_owned()),
        ..one_envoy()
    };
    let settings = Settings::compile(
        &options,
        &with(&[(PORT, "nonsense"), (TLS, ""), (CA_CERT, ""), (PASSWORD, "")]),
    )
    .expect("settings");
    assert_eq!((settings.redis.host.as_str(), settings.redis.port), ("other", 7000));
    assert_eq!(settings.environment, "production");
    assert!(settings.redis.password.is_none());
}

#[test]
fn a_ca_is_base64_of_pem_and_needs_tls() {
    let wrapped = BASE64_STANDARD
        .encode(ca())
        .as_bytes()
        .chunks(64)
        .map(String::from_utf8_lossy)
        .collect::<Vec<_>>()
        .join("\n");
    let settings = Settings::compile(&one_envoy(), &with(&[(TLS, "true"), (CA_CERT, &wrapped)])).expect("settings");
    assert!(settings.redis.tls.is_some());
    for set in [
        [(TLS, "false"), (CA_CERT, wrapped.as_str())],
        [(TLS, "true"), (CA_CERT, "!!!")],
        [(TLS, "true"), (CA_CERT, "aGVsbG8=")],
    ] {
        let told = faults(&one_envoy(), &with(&set));
        assert!(matches!(told.as_slice(), [one] if one.starts_with(CA_CERT)), "{told:?}");
    }
}

#[test]
fn a_secret_from_two_places_is_a_fault_and_so_is_one_that_no_header_carries() {
    let options = Options {
        events_key_file: Some("/dev/null".to_owned()),
        ..one_envoy()
    };
    assert!(faults(&options, &variables(&LEAST)).concat().contains("remove one"));
    let told = faults(&options, &variables(&LEAST[..2]));
    assert_eq!(told, ["--events-key-file: is empty"]);
    let told = faults(
        &one_envoy(),
        &variables(&[LEAST[0], LEAST[1], (EVENTS_KEY, "two words")]),
    );
    assert!(
        matches!(told.as_slice(), [one] if one.starts_with(EVENTS_KEY)),
        "{told:?}"
    );
}

#[test]
fn an_environment_is_named_like_a_tenant() {
    for (name, accepted) in [
        ("staging", true),
        ("EU-1_b", true),
        ("7", true),
        ("-a", false),
        ("_a", false),
        ("a b", false),
        ("a:b", false),
        ("é", false),
        (&"a".repeat(256), true),
        (&"a".repeat(257), false),
    ] {
        let compiled = Settings::compile(&one_envoy(), &with(&[(ENVIRONMENT, name)]));
        assert_eq!(compiled.is_ok(), accepted, "{name}");
    }
}

#[test]
fn an_envoy_is_a_url_with_a_path_and_nothing_that_could_be_a_secret() {
    for (url, accepted) in [
        ("http://127.0.0.1:9903/-/tenantgate/events", true),
        ("http://envoy/events", true),
        ("https://[::1]:9903/e", true),
        ("http://envoy:9903", false),
        ("http://envoy:9903/", false),
        ("http://envoy:0/e", false),
        ("http://envoy:99999/e", false),
        ("http://envoy:/e", false),
        ("http://user:pw@envoy/e", false),
        ("http://envoy/e?key=1", false),
        ("http://envoy/e#f", false),
        ("envoy:9903/e", false),
        ("/e", false),
        ("http:///e", false),
        ("", false),
    ] {
        assert_eq!(EnvoyUrl::all(&[url.to_owned()]).is_ok(), accepted, "{url}");
    }
}
