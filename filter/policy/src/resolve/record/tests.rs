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
