use super::*;

#[test]
fn a_record_is_read_as_far_as_it_is_used() {
    let record = Record::parse(
        br#"{"id":"t","tenantSlug":"s","status":"active","isolationMode":"schema","createdAt":"x",
            "databases":{"a":{"postgresql":{"host":"h","password":"hunter2","schema":"s_1"}},"b":{},"c":null}}"#,
    )
    .unwrap();
    let module = |name| Module::new(name).unwrap();
    assert_eq!(
        (record.id(), record.slug(), record.status()),
        (Some("t"), Some("s"), Some("active"))
    );
    assert_eq!(record.schema(&module("a")), Some("s_1"));
    assert_eq!(record.schema(&module("b")), None);
    assert!(record.grants(&module("b")) && !record.grants(&module("c")));
    assert!(!format!("{record:?}").contains("hunter2"));
}

#[test]
fn what_is_no_record_is_refused() {
    let long = format!(r#"{{"id":"{}"}}"#, "a".repeat(257));
    for body in [
        "",
        "null",
        "[]",
        "{",
        "{} x",
        r#"{"id":null}"#,
        r#"{"id":1}"#,
        r#"{"status":null}"#,
        r#"{"status":["active"]}"#,
        r#"{"isolationMode":"shared"}"#,
        r#"{"isolationMode":"Schema"}"#,
        r#"{"databases":[]}"#,
        r#"{"databases":{"a":[]}}"#,
        r#"{"databases":{"a":{"postgresql":[]}}}"#,
        r#"{"databases":{"a":1}}"#,
        r#"{"id":"a","id":"b"}"#,
        long.as_str(),
    ] {
        assert_eq!(Record::parse(body.as_bytes()), None, "{body}");
    }
}

#[test]
fn isolation_is_isolated_unless_it_says_schema() {
    for body in [
        "{}",
        r#"{"isolationMode":""}"#,
        r#"{"isolationMode":"isolated"}"#,
        r#"{"isolationMode":"database"}"#,
        r#"{"isolationMode":null}"#,
    ] {
        assert_eq!(
            Record::parse(body.as_bytes()).map(|record| record.isolation()),
            Some(Isolation::Isolated),
            "{body}"
        );
    }
}

#[test]
fn a_schema_is_an_identifier() {
    for (name, valid) in [
        ("a", true),
        ("_a1", true),
        ("1a", false),
        ("a-b", false),
        ("", false),
        (&"a".repeat(63), true),
        (&"a".repeat(64), false),
    ] {
        let body =
            format!(r#"{{"isolationMode":"schema","databases":{{"m":{{"postgresql":{{"schema":"{name}"}}}}}}}}"#);
        let record = Record::parse(body.as_bytes()).unwrap();
        assert_eq!(record.schema(&Module::new("m").unwrap()).is_some(), valid, "{name}");
    }
}

#[test]
fn a_refusal_names_a_status() {
    for (body, status) in [
        (r#"{"code":"TS","error":"x","status":"suspended"}"#, Some("suspended")),
        (r#"{"status":"purged"}"#, Some("purged")),
        (r#"{"status":""}"#, None),
        (r#"{"status":"active"}"#, None),
        (r#"{"status":7}"#, None),
        ("{}", None),
        ("not json", None),
    ] {
        assert_eq!(refused_status(body.as_bytes()).as_deref(), status, "{body}");
    }
}

fn module(name: &str) -> Module {
    Module::new(name).unwrap()
}

/// `"x"` becomes a JSON string.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

#[test]
fn a_vhost_is_the_modules_own_else_the_tenants() {
    let record = Record::parse(
        br#"{"databases":{"a":{},"b":{},"c":{},"d":{},"e":null},
             "rabbitmq":{"a":{"host":"h","vhost":"/own","username":"u","password":"hunter2"},"b":{"password":"hunter3"},
                         "c":null,"e":{"vhost":"/e"},"f":{"vhost":"/f"}},
             "messaging":{"rabbitmq":{"vhost":"tenant","password":"hunter4"}}}"#,
    )
    .unwrap();
    for (name, vhost) in [
        ("a", Some("/own")),
        ("b", Some("tenant")),
        ("c", Some("tenant")),
        ("d", Some("tenant")),
        ("e", None),
        ("f", None),
    ] {
        assert_eq!(record.vhost(&module(name)), vhost, "{name}");
    }
    assert!(!format!("{record:?}").contains("hunter"));
    let per_module = Record::parse(br#"{"databases":{"a":{},"b":{}},"rabbitmq":{"a":{"vhost":"v"}}}"#).unwrap();
    assert_eq!(per_module.vhost(&module("a")), Some("v"));
    assert_eq!(per_module.vhost(&module("b")), None, "there is none to fall back to");
}

#[test]
fn a_vhost_is_visible_ascii() {
    let longest = quoted(&"v".repeat(255));
    let too_long = quoted(&"v".repeat(256));
    for (written, kept) in [
        (r#""/""#, true),
        (r#""tenant-1/%2f~""#, true),
        (longest.as_str(), true),
        (too_long.as_str(), false),
        (r#""""#, false),
        (r#""a b""#, false),
        (r#""a\r\nx-evil: 1""#, false),
        (r#""\u00e4""#, false),
        ("null", false),
        ("true", false),
        ("7", false),
        ("-7", false),
        ("7.5", false),
        (r#"["v",{"a":[1]}]"#, false),
        (r#"{"vhost":"v","more":{"a":[null]}}"#, false),
    ] {
        let own = format!(r#"{{"databases":{{"m":{{}}}},"rabbitmq":{{"m":{{"vhost":{written}}}}}}}"#);
        let legacy = format!(r#"{{"databases":{{"m":{{}}}},"messaging":{{"rabbitmq":{{"vhost":{written}}}}}}}"#);
        for body in [own, legacy] {
            let record = Record::parse(body.as_bytes()).expect(&body);
            assert_eq!(record.vhost(&module("m")).is_some(), kept, "{body}");
        }
    }
    let record = Record::parse(
        br#"{"databases":{"m":{}},"rabbitmq":{"m":{"vhost":""}},"messaging":{"rabbitmq":{"vhost":"tenant"}}}"#,
    );
    assert_eq!(
        record.unwrap().vhost(&module("m")),
        Some("tenant"),
        "an unusable name is none"
    );
}

#[test]
fn a_schema_of_another_type_is_none() {
    for written in ["null", "7", "true", r#"["s"]"#, r#"{"schema":"s"}"#] {
        let body =
            format!(r#"{{"isolationMode":"schema","databases":{{"m":{{"postgresql":{{"schema":{written}}}}}}}}}"#);
        let record = Record::parse(body.as_bytes()).expect(&body);
        assert_eq!(record.schema(&module("m")), None, "{body}");
    }
}

#[test]
fn brokers_of_the_wrong_shape_are_no_record_and_grant_nothing() {
    for body in [
        r#"{"rabbitmq":[]}"#,
        r#"{"rabbitmq":"amqp://u:p@h"}"#,
        r#"{"rabbitmq":{"a":[]}}"#,
        r#"{"rabbitmq":{"a":1}}"#,
        r#"{"messaging":[]}"#,
        r#"{"messaging":{"rabbitmq":[]}}"#,
        r#"{"rabbitmq":{"a":{"vhost":"a","vhost":"b"}}}"#,
    ] {
        assert_eq!(Record::parse(body.as_bytes()), None, "{body}");
    }
    let record = Record::parse(br#"{"rabbitmq":{"a":{"vhost":"v"}},"messaging":null}"#).unwrap();
    assert!(!record.grants(&module("a")), "only databases grant");
    assert_eq!(record.vhost(&module("a")), None);
}

fn modules(names: &[&str]) -> Modules {
    Modules {
        from_route: true,
        default: names.first().map(|name| module(name)),
        routes: names
            .iter()
            .skip(1)
            .map(|name| crate::config::ModuleRoute {
                prefix: crate::path::Prefix::parse("/p").unwrap(),
                module: module(name),
            })
            .collect(),
    }
}

const FULL: &str = r#"{"id":"t","tenantSlug":"s","status":"active","isolationMode":"schema",
    "databases":{"b":{"postgresql":{"schema":"s_b","password":"hunter2"}},"a":{},"other":{}},
    "rabbitmq":{"other":{"vhost":"o"},"a":{"vhost":"v"}},"messaging":{"rabbitmq":{"vhost":"legacy"}}}"#;

#[test]
fn what_is_kept_is_what_somebody_may_ask_about() {
    let kept = Record::parse(FULL.as_bytes())
        .unwrap()
        .limited_to(&modules(&["a", "b"]));
    assert_eq!(
        (kept.id(), kept.slug(), kept.status()),
        (None, Some("s"), Some("active"))
    );
    assert!(["a", "b", "other"].iter().all(|name| kept.grants(&module(name))));
    assert_eq!(
        (kept.schema(&module("b")), kept.vhost(&module("b"))),
        (Some("s_b"), Some("legacy"))
    );
    assert_eq!(
        (kept.vhost(&module("a")), kept.vhost(&module("other"))),
        (Some("v"), Some("o"))
    );
}

#[test]
fn of_modules_that_only_a_route_can_name_a_few_are_kept() {
    let names = (0..100).map(|number| format!(r#""m{number:02}":{{}}"#));
    let listed: Vec<_> = names
        .chain([r#""no name":{}"#.to_owned(), r#""z":{}"#.to_owned()])
        .collect();
    let body = format!(r#"{{"id":"t","databases":{{{}}}}}"#, listed.join(","));
    let kept = Record::parse(body.as_bytes())
        .unwrap()
        .limited_to(&modules(&["m99", "z"]));
    let granted = |name: &str| kept.modules.iter().any(|(kept, _)| kept == name);
    assert!(granted("m99") && granted("z") && granted("m00") && granted("m31"));
    assert!(!granted("m32") && !granted("no name"));
    assert_eq!(kept.modules.len(), 34);
}

#[test]
fn a_kept_record_is_stored_and_read_back_unchanged() {
    let kept = Record::parse(FULL.as_bytes())
        .unwrap()
        .limited_to(&modules(&["a", "b"]));
    let bytes = postcard::to_allocvec(&kept).unwrap();
    assert_eq!(postcard::from_bytes::<Record>(&bytes).unwrap(), kept);
    assert!(!bytes.windows(6).any(|window| window == b"hunter"));
    for end in 0..bytes.len() {
        let cut = &bytes[..end];
        assert!(
            postcard::from_bytes::<Record>(cut).is_err(),
            "cut at {end} of {}",
            bytes.len()
        );
    }
}

#[test]
fn equal_records_are_stored_as_equal_bytes() {
    let stored = |body: &str| postcard::to_allocvec(&Record::parse(body.as_bytes()).unwrap()).unwrap();
    assert_eq!(
        stored(r#"{"id":"t","databases":{"a":{},"b":{},"c":{}},"rabbitmq":{"c":{"vhost":"v"},"a":{"vhost":"w"}}}"#),
        stored(r#"{"rabbitmq":{"a":{"vhost":"w"},"c":{"vhost":"v"}},"databases":{"c":{},"b":{},"a":{}},"id":"t"}"#),
    );
}
