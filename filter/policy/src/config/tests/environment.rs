//! What the environment of the VM fills in, and what is said of it.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use super::*;

type Variables<'a> = [(&'a str, &'a str)];

fn compiled(document: &Value, variables: &Variables<'_>) -> Result<Plugin, Vec<String>> {
    match compile(document.to_string().as_bytes(), &env(variables)) {
        Ok(compiled) => Ok(compiled.plugin),
        Err(faults) => Err(faults.iter().map(ToString::to_string).collect()),
    }
}

fn enabled(document: &Value, variables: &Variables<'_>) -> Config {
    match compiled(document, variables) {
        Ok(Plugin::MultiTenant(config)) => *config,
        other => panic!("{other:?}"),
    }
}

fn refused(document: &Value, variables: &Variables<'_>) -> Vec<String> {
    compiled(document, variables).err().unwrap_or_default()
}

/// The one fault, and what it says.
fn fault(document: &Value, variables: &Variables<'_>) -> String {
    let mut found = refused(document, variables);
    assert_eq!(found.len(), 1, "{found:#?}");
    found.remove(0)
}

/// A document that asks a Tenant Manager, and says no more than it must.
fn asking(patch: &Value) -> Value {
    let mut document = patched(&json!({ "tenant_manager": { "cluster": "tm" } }));
    json_patch::merge(&mut document, patch);
    document
}

/// A document with everything that a variable could fill.
fn full() -> Value {
    asking(&json!({
        "environment": "staging",
        "tenant_manager": {
            "authority": "tm.internal",
            "path": "/t/{tenantId}",
            "api_keys": [{ "value": "written" }],
            "timeout_ms": 1_500,
            "cache": { "ttl_seconds": 60 },
            "breaker": { "threshold": 3, "open_seconds": 4 },
            "discovery": { "path": "/active" },
        },
    }))
}

const ALL: &Variables<'_> = &[
    ("MULTI_TENANT_ENABLED", "true"),
    ("APPLICATION_NAME", "payments"),
    ("ENVIRONMENT_NAME", "production"),
    ("MULTI_TENANT_URL", "https://tenants.example.com:8443/base/"),
    ("MULTI_TENANT_TIMEOUT", "7"),
    ("MULTI_TENANT_CACHE_TTL_SEC", "90"),
    ("MULTI_TENANT_CIRCUIT_BREAKER_THRESHOLD", "11"),
    ("MULTI_TENANT_CIRCUIT_BREAKER_TIMEOUT_SEC", "12"),
    ("MULTI_TENANT_SERVICE_API_KEY", "hunter2"),
];

fn without(mut document: Value, members: &[&str]) -> Value {
    for member in members {
        document.as_object_mut().expect("an object").remove(*member);
    }
    document
}

#[test]
fn a_silent_document_is_filled_from_the_environment() {
    let document = without(
        asking(&json!({ "tenant_manager": { "discovery": {} } })),
        &["enabled", "service"],
    );
    let config = enabled(&document, ALL);
    assert_eq!(config.service.as_str(), "payments");
    assert_eq!(config.environment.as_ref().map(Name::as_str), Some("production"));
    let manager = config.tenant_manager.expect("configured");
    assert_eq!(
        (manager.cluster.as_str(), manager.authority.as_str()),
        ("tm", "tenants.example.com:8443")
    );
    assert_eq!(
        manager.path.as_str(),
        "/base/tenants/{tenantId}/services/{service}/settings"
    );
    assert_eq!(manager.discovery.expect("configured").path, "/base/tenants/active");
    assert_eq!((manager.timeout_ms, manager.cache.ttl_ms), (7_000, 90_000));
    assert_eq!((manager.breaker.threshold, manager.breaker.open_ms), (11, 12_000));
    let keys: Vec<_> = manager.api_keys.iter().map(Secret::expose).collect();
    assert_eq!(keys, ["hunter2"]);
    assert_eq!(config.modules.default.as_ref().map(Name::as_str), Some("payments"));
}

#[test]
fn the_document_wins() {
    let config = enabled(&full(), ALL);
    assert_eq!(config.service.as_str(), "ledger");
    assert_eq!(config.environment.as_ref().map(Name::as_str), Some("staging"));
    let manager = config.tenant_manager.expect("configured");
    assert_eq!(
        (manager.authority.as_str(), manager.path.as_str()),
        ("tm.internal", "/t/{tenantId}")
    );
    assert_eq!(manager.discovery.expect("configured").path, "/active");
    assert_eq!((manager.timeout_ms, manager.cache.ttl_ms), (1_500, 60_000));
    assert_eq!((manager.breaker.threshold, manager.breaker.open_ms), (3, 4_000));
    let keys: Vec<_> = manager.api_keys.iter().map(Secret::expose).collect();
    assert_eq!(keys, ["written"]);
    let off = patched(&json!({ "enabled": false }));
    assert!(matches!(compiled(&off, ALL), Ok(Plugin::SingleTenant)));
}

#[test]
fn the_document_wins_member_by_member() {
    let document = asking(&json!({ "tenant_manager": {
        "authority": "tm.internal",
        "cache": { "stale_if_error_seconds": 0 },
        "breaker": { "threshold": 3 },
    } }));
    let manager = enabled(&document, ALL).tenant_manager.expect("configured");
    assert_eq!(manager.authority, "tm.internal");
    assert_eq!(
        manager.path.as_str(),
        "/base/tenants/{tenantId}/services/{service}/settings"
    );
    assert_eq!((manager.cache.ttl_ms, manager.cache.stale_if_error_ms), (90_000, 0));
    assert_eq!((manager.breaker.threshold, manager.breaker.open_ms), (3, 12_000));

    let document = asking(&json!({ "tenant_manager": { "path": "/t/{tenantId}", "discovery": {} } }));
    let manager = enabled(&document, ALL).tenant_manager.expect("configured");
    assert_eq!(manager.authority, "tenants.example.com:8443");
    assert_eq!(manager.path.as_str(), "/t/{tenantId}");
    assert_eq!(manager.discovery.expect("configured").path, "/base/tenants/active");
}

#[test]
fn what_the_document_says_is_not_looked_for_in_the_environment() {
    let nonsense: Vec<_> = ALL.iter().map(|(name, _)| (*name, "a b\n")).collect();
    assert_eq!(refused(&full(), &nonsense), Vec::<String>::new());
}

#[test]
fn the_switch_is_true_or_false_and_nothing_else() {
    let silent = without(smallest(), &["enabled"]);
    let switched = |word| compiled(&silent, &[("MULTI_TENANT_ENABLED", word)]);
    assert!(matches!(switched("true"), Ok(Plugin::MultiTenant(_))));
    assert!(matches!(switched("false"), Ok(Plugin::SingleTenant)));
    assert!(matches!(compiled(&silent, &[]), Ok(Plugin::SingleTenant)));
    for word in ["yes", "TRUE", "1", " true", "true\n"] {
        assert_eq!(
            fault(&silent, &[("MULTI_TENANT_ENABLED", word)]),
            "/enabled: found another word (the environment variable MULTI_TENANT_ENABLED), accepted: `true`, `false`",
            "{word:?}"
        );
    }
    assert_eq!(
        fault(&silent, &[("MULTI_TENANT_ENABLED", "")]),
        "/enabled: found an empty environment variable MULTI_TENANT_ENABLED, accepted: `true`, `false`",
        "what switches everything off must not get lost in silence"
    );
}

#[test]
fn an_empty_variable_says_nothing() {
    let empty: Vec<_> = ALL.iter().skip(1).map(|(name, _)| (*name, "")).collect();
    let config = enabled(&full(), &empty);
    assert_eq!(config.service.as_str(), "ledger");
    let config = enabled(&smallest(), &empty);
    assert!(config.environment.is_none() && config.tenant_manager.is_none());
    let document = asking(&json!({ "tenant_manager": { "authority": "tm" } }));
    let found = fault(&document, &empty);
    assert!(
        found.starts_with("/tenant_manager/api_keys: missing"),
        "an empty key is none: {found}"
    );
    let found = fault(&without(smallest(), &["service"]), &empty);
    assert!(found.starts_with("/service: missing"), "{found}");
}

#[test]
fn a_url_makes_a_block_that_lacks_its_cluster() {
    let variables = &[
        ("MULTI_TENANT_URL", "http://tm.internal"),
        ("MULTI_TENANT_SERVICE_API_KEY", "k"),
    ];
    assert_eq!(
        fault(&smallest(), variables),
        "/tenant_manager/cluster: missing, accepted: the name of an Envoy cluster, through which MULTI_TENANT_URL is reached"
    );
    let manager = enabled(&asking(&json!({})), variables)
        .tenant_manager
        .expect("configured");
    assert_eq!(manager.authority, "tm.internal");
    assert_eq!(manager.path.as_str(), "/tenants/{tenantId}/services/{service}/settings");
    let off = patched(&json!({ "enabled": false }));
    assert_eq!(
        refused(&off, variables),
        Vec::<String>::new(),
        "nothing is missing where nothing is enforced"
    );
}

#[test]
fn without_a_block_the_other_variables_of_the_tenant_manager_mean_nothing() {
    let others: Vec<_> = ALL
        .iter()
        .filter(|(name, _)| *name != "MULTI_TENANT_URL")
        .map(|(name, _)| (*name, if name.ends_with("ENABLED") { "true" } else { "x" }))
        .collect();
    assert!(enabled(&smallest(), &others).tenant_manager.is_none());
}

#[test]
fn a_url_is_taken_apart() {
    for (url, authority, path) in [
        ("http://tm", "tm", "/tenants"),
        ("https://tm/", "tm", "/tenants"),
        ("HTTPS://tm.example.com:443", "tm.example.com:443", "/tenants"),
        ("http://[::1]:8080/a", "[::1]:8080", "/a/tenants"),
        ("http://tm/a/b.c/~d/", "tm", "/a/b.c/~d/tenants"),
    ] {
        let manager = enabled(
            &asking(&json!({ "tenant_manager": { "api_keys": [{ "value": "k" }] } })),
            &[("MULTI_TENANT_URL", url)],
        )
        .tenant_manager
        .expect("configured");
        assert_eq!(manager.authority, authority, "{url}");
        let path = format!("{path}/{{tenantId}}/services/{{service}}/settings");
        assert_eq!(manager.path.as_str(), path, "{url}");
    }
}

#[test]
fn a_url_that_is_more_than_authority_and_path_is_refused_and_not_shown() {
    let long = format!("http://{}", "h".repeat(256));
    let deep = format!("http://h/{}", "p".repeat(1_024));
    for url in [
        "hunter2",
        "tm.internal:8080",
        "//hunter2",
        "ftp://hunter2",
        "http:/hunter2",
        "http://",
        "http:///hunter2",
        "http://user:hunter2@tm",
        "http://tm?key=hunter2",
        "http://tm/?key=hunter2",
        "http://tm/a?key=hunter2",
        "http://tm#hunter2",
        "http://tm/a#hunter2",
        "http://tm//hunter2",
        "http://tm/hunter2//",
        "http://tm/../hunter2",
        "http://tm/hunter2%2f",
        "http://tm/{tenantId}/hunter2",
        "http://tm\\hunter2",
        "http://tm hunter2",
        " http://tm",
        "http://tm\n",
        &long,
        &deep,
    ] {
        let document = asking(&json!({ "tenant_manager": { "api_keys": [{ "value": "k" }] } }));
        let found = fault(&document, &[("MULTI_TENANT_URL", url)]);
        let start = "/tenant_manager/authority: found an unusable text (the environment variable MULTI_TENANT_URL), accepted: `http://`";
        assert!(found.starts_with(start) && !found.contains("hunter2"), "{url}: {found}");
    }
}

#[test]
fn a_fault_of_a_url_stands_where_the_url_is_needed() {
    let variables = &[("MULTI_TENANT_URL", "x"), ("MULTI_TENANT_SERVICE_API_KEY", "k")];
    for (block, place) in [
        (json!({ "path": "/t/{tenantId}" }), "/tenant_manager/authority:"),
        (json!({ "authority": "tm" }), "/tenant_manager/path:"),
        (
            json!({ "authority": "tm", "path": "/t/{tenantId}", "discovery": {} }),
            "/tenant_manager/discovery/path:",
        ),
    ] {
        let found = fault(&asking(&json!({ "tenant_manager": block })), variables);
        assert!(found.starts_with(place), "{found}");
    }
    let block = json!({ "authority": "tm", "path": "/t/{tenantId}" });
    let config = enabled(&asking(&json!({ "tenant_manager": block })), variables);
    assert!(config.tenant_manager.is_some());
}

#[test]
fn values_are_bounded_like_the_members_that_they_fill() {
    let silent = without(
        asking(&json!({ "tenant_manager": { "authority": "tm", "api_keys": [{ "value": "k" }] } })),
        &["service"],
    );
    for (name, value, expected) in [
        (
            "MULTI_TENANT_TIMEOUT",
            "0",
            "/tenant_manager/timeout_ms: found `0` (the environment variable MULTI_TENANT_TIMEOUT), accepted: a whole number from 1 to 60000",
        ),
        (
            "MULTI_TENANT_TIMEOUT",
            "61",
            "/tenant_manager/timeout_ms: found `61000` (the environment variable MULTI_TENANT_TIMEOUT), accepted: a whole number from 1 to 60000",
        ),
        (
            "MULTI_TENANT_TIMEOUT",
            "2s",
            "/tenant_manager/timeout_ms: found no whole number",
        ),
        (
            "MULTI_TENANT_TIMEOUT",
            "18446744073709551615",
            "/tenant_manager/timeout_ms: found no whole number",
        ),
        (
            "MULTI_TENANT_CACHE_TTL_SEC",
            "0",
            "/tenant_manager/cache/ttl_seconds: found `0` (the environment variable MULTI_TENANT_CACHE_TTL_SEC), accepted: a whole number from 1 to 86400",
        ),
        (
            "MULTI_TENANT_CACHE_TTL_SEC",
            "-1",
            "/tenant_manager/cache/ttl_seconds: found no whole number",
        ),
        (
            "MULTI_TENANT_CACHE_TTL_SEC",
            "+1",
            "/tenant_manager/cache/ttl_seconds: found no whole number",
        ),
        (
            "MULTI_TENANT_CIRCUIT_BREAKER_THRESHOLD",
            "1001",
            "/tenant_manager/breaker/threshold: found `1001` (the environment variable MULTI_TENANT_CIRCUIT_BREAKER_THRESHOLD), accepted: a whole number from 1 to 1000",
        ),
        (
            "MULTI_TENANT_CIRCUIT_BREAKER_THRESHOLD",
            "5.0",
            "/tenant_manager/breaker/threshold: found no whole number",
        ),
        (
            "MULTI_TENANT_CIRCUIT_BREAKER_TIMEOUT_SEC",
            "3601",
            "/tenant_manager/breaker/open_seconds: found `3601` (the environment variable MULTI_TENANT_CIRCUIT_BREAKER_TIMEOUT_SEC), accepted: a whole number from 1 to 3600",
        ),
        (
            "ENVIRONMENT_NAME",
            "a b",
            "/environment: found `a b` (the environment variable ENVIRONMENT_NAME), accepted: a letter or digit",
        ),
    ] {
        let found = fault(&silent, &[("APPLICATION_NAME", "ledger"), (name, value)]);
        assert!(found.starts_with(expected), "{found}");
    }
    let found = fault(&silent, &[("APPLICATION_NAME", "-x")]);
    assert!(
        found.starts_with(
            "/service: found `-x` (the environment variable APPLICATION_NAME), accepted: a letter or digit"
        ),
        "{found}"
    );
}

#[test]
fn a_key_of_the_environment_is_judged_like_a_written_one_and_not_shown() {
    let document = asking(&json!({ "tenant_manager": { "authority": "tm" } }));
    let long = "hunter2".repeat(1_000);
    for key in ["hunter 2", "hunter2\n", "hünter2", &long] {
        let found = fault(&document, &[("MULTI_TENANT_SERVICE_API_KEY", key)]);
        assert!(
            found.starts_with(
                "/tenant_manager/api_keys/0/env: found an unusable value (the environment variable MULTI_TENANT_SERVICE_API_KEY)"
            ),
            "{found}"
        );
        assert!(!found.contains("nter"), "{found}");
    }
}

#[test]
fn values_are_judged_where_nothing_is_enforced_too() {
    let off = json!({ "version": "v1" });
    assert!(fault(&off, &[("APPLICATION_NAME", "a b")]).starts_with("/service:"));
    assert!(fault(&off, &[("MULTI_TENANT_URL", "x")]).starts_with("/tenant_manager/authority:"));
    assert!(matches!(
        compiled(&off, &[("APPLICATION_NAME", "ledger")]),
        Ok(Plugin::SingleTenant)
    ));
}

#[test]
fn a_misspelt_name_is_a_fault_that_suggests_the_right_one() {
    for document in [smallest(), json!({ "version": "v1" }), full()] {
        for value in ["true", ""] {
            assert_eq!(
                fault(&document, &[("MULTI_TENANT_ENABLD", value)]),
                "the environment variable MULTI_TENANT_ENABLD: found an unknown name, accepted: MULTI_TENANT_ENABLED, the \
                 nearest of the names that are known"
            );
        }
    }
}

#[test]
fn a_misspelt_name_hides_no_other_fault() {
    let document = patched(&json!({ "service": "a b" }));
    let found = refused(
        &document,
        &[
            ("MULTI_TENANT_A", "x"),
            ("MULTI_TENANT_B", "x"),
            ("MULTI_TENANT_A", "y"),
        ],
    );
    assert_eq!(found.len(), 3, "{found:#?}");
    let not_json = compile(b"{", &env(&[("MULTI_TENANT_A", "x")])).expect_err("not JSON");
    assert!(
        not_json
            .iter()
            .any(|fault| matches!(fault.problem, Problem::NotJson { .. })),
        "{not_json:?}"
    );
}

#[test]
fn misspelt_names_are_bounded_and_forge_no_log_line() {
    let names: Vec<_> = (0..1_000).map(|number| format!("MULTI_TENANT_\n{number}")).collect();
    let variables: Vec<_> = names.iter().map(|name| (name.as_str(), "hunter2")).collect();
    let found = refused(&smallest(), &variables);
    assert_eq!(found.len(), 16);
    assert!(
        found
            .iter()
            .all(|fault| !fault.contains('\n') && !fault.contains("hunter2")),
        "{found:#?}"
    );
}

#[test]
fn variables_of_services_and_of_the_bridge_mean_nothing_here() {
    for name in [
        "MULTI_TENANT_MAX_TENANT_POOLS",
        "MULTI_TENANT_IDLE_TIMEOUT_SEC",
        "MULTI_TENANT_CONNECTIONS_CHECK_INTERVAL_SEC",
        "MULTI_TENANT_REDIS_HOST",
        "MULTI_TENANT_REDIS_PORT",
        "MULTI_TENANT_REDIS_PASSWORD",
        "MULTI_TENANT_REDIS_TLS",
        "MULTI_TENANT_REDIS_CA_CERT",
    ] {
        assert_eq!(refused(&smallest(), &[(name, "a b")]), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn a_value_that_is_not_utf8_is_a_fault_that_does_not_show_it() {
    let unreadable = |document: &Value, name: &str| {
        let value = OsString::from_vec(b"hunter2\xff".to_vec());
        let environment = Environment::of([(OsString::from(name), value)]);
        match compile(document.to_string().as_bytes(), &environment) {
            Ok(_) => Vec::new(),
            Err(faults) => faults.iter().map(ToString::to_string).collect(),
        }
    };
    let document = without(asking(&json!({})), &["enabled", "service"]);
    for (name, place) in [
        ("MULTI_TENANT_ENABLED", "/enabled"),
        ("APPLICATION_NAME", "/service"),
        ("ENVIRONMENT_NAME", "/environment"),
        ("MULTI_TENANT_URL", "/tenant_manager/authority"),
        ("MULTI_TENANT_TIMEOUT", "/tenant_manager/timeout_ms"),
        ("MULTI_TENANT_CACHE_TTL_SEC", "/tenant_manager/cache/ttl_seconds"),
        (
            "MULTI_TENANT_CIRCUIT_BREAKER_THRESHOLD",
            "/tenant_manager/breaker/threshold",
        ),
        (
            "MULTI_TENANT_CIRCUIT_BREAKER_TIMEOUT_SEC",
            "/tenant_manager/breaker/open_seconds",
        ),
        ("MULTI_TENANT_SERVICE_API_KEY", "/tenant_manager/api_keys"),
    ] {
        let expected =
            format!("{place}: found a value that is not UTF-8 (the environment variable {name}), accepted: UTF-8");
        assert_eq!(unreadable(&document, name), [expected]);
    }
    assert_eq!(unreadable(&full(), "HOME"), Vec::<String>::new(), "not ours");
    let key = asking(&json!({ "enabled": false, "tenant_manager": { "api_keys": [{ "env": "KEY" }] } }));
    let found = unreadable(&key, "KEY");
    assert!(
        found.len() == 1
            && found[0].starts_with("/tenant_manager/api_keys/0/env: found a variable whose value is not UTF-8"),
        "{found:#?}"
    );
    let mut secret = smallest();
    secret["auth"]["issuers"][0]["jwks"]["inline"]["keys"][0] = json!({ "kty": "oct", "kid": "k", "k_env": "KEY" });
    let found = unreadable(&secret, "KEY");
    assert!(
        found.len() == 1
            && found[0]
                .starts_with("/auth/issuers/0/jwks/inline/keys/0/k_env: found a variable whose value is not UTF-8"),
        "{found:#?}"
    );
}

#[test]
fn a_variable_that_is_named_and_not_there_is_missed_only_where_something_is_enforced() {
    let mut document = asking(&json!({ "tenant_manager": { "authority": "tm", "api_keys": [{ "env": "KEY" }] } }));
    document["auth"]["issuers"][0]["jwks"]["inline"]["keys"][0] =
        json!({ "kty": "oct", "kid": "k", "k_env": "SECRET" });
    let found = refused(&document, &[]);
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(
        found
            .iter()
            .all(|fault| fault.contains("found a variable that the VM does not have")),
        "{found:#?}"
    );
    document["enabled"] = json!(false);
    assert_eq!(refused(&document, &[]), Vec::<String>::new());
}

#[test]
fn effective_values_decide_about_the_fingerprint() {
    let text = |variables: &Variables<'_>| {
        let document = asking(&json!({ "tenant_manager": { "api_keys": [{ "value": "k" }] } }));
        let mut all = vec![("MULTI_TENANT_URL", "http://tm")];
        all.retain(|(name, _)| variables.iter().all(|(other, _)| other != name));
        all.extend(variables);
        enabled(&document, &all).resolution_fingerprint_text()
    };
    let written = asking(&json!({ "tenant_manager": { "authority": "tm", "api_keys": [{ "value": "k" }] } }));
    assert_eq!(text(&[]), config(&written).resolution_fingerprint_text());
    for variables in [
        [("MULTI_TENANT_URL", "http://other")],
        [("MULTI_TENANT_URL", "http://tm/base")],
        [("MULTI_TENANT_CACHE_TTL_SEC", "121")],
        [("ENVIRONMENT_NAME", "staging")],
    ] {
        assert_ne!(text(&variables), text(&[]), "{variables:?}");
    }
    assert_eq!(
        text(&[("MULTI_TENANT_URL", "https://tm/")]),
        text(&[]),
        "the scheme is the cluster's business"
    );
    assert_eq!(text(&[("MULTI_TENANT_TIMEOUT", "9")]), text(&[]));
}
