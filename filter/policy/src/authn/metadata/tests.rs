use super::*;

fn text(text: &str) -> Value {
    Value {
        kind: Some(Kind::Text(text.to_owned())),
    }
}

fn number(number: f64) -> Value {
    Value {
        kind: Some(Kind::Number(number)),
    }
}

fn field(key: &str, value: Value) -> Field {
    Field {
        key: key.to_owned(),
        value: Some(value),
    }
}

fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    let fields = members.map(|(key, value)| field(key, value)).into();
    Value {
        kind: Some(Kind::Struct(Struct { fields })),
    }
}

fn metadata(namespace: &str, payload: &str, claims: Value) -> Vec<u8> {
    let filter_metadata = vec![Namespace {
        key: namespace.to_owned(),
        value: Some(Struct {
            fields: vec![field(payload, claims)],
        }),
    }];
    Metadata { filter_metadata }.encode_to_vec()
}

fn path() -> MetadataPath {
    MetadataPath {
        namespace: "jwt".to_owned(),
        payload: "payload".to_owned(),
    }
}

#[test]
fn every_value_keeps_its_type() {
    let list = List {
        values: vec![text("api"), number(1.5)],
    };
    let claims = object([
        ("tenantId", text("acme")),
        // Eight bytes that read as text would spell `aaaaaaaa`.
        ("number", number(f64::from_le_bytes(*b"aaaaaaaa"))),
        ("exp", number(1_800_000_000.5)),
        ("nan", number(f64::NAN)),
        (
            "bool",
            Value {
                kind: Some(Kind::Bool(true)),
            },
        ),
        (
            "null",
            Value {
                kind: Some(Kind::Null(0)),
            },
        ),
        ("none", Value { kind: None }),
        (
            "aud",
            Value {
                kind: Some(Kind::List(list)),
            },
        ),
        ("inner", object([("tenantId", text("globex"))])),
    ]);
    let claims = path().claims(&metadata("jwt", "payload", claims)).unwrap();
    assert_eq!(claims["tenantId"], "acme");
    assert!(claims["number"].is_number());
    assert_eq!(claims["exp"], 1_800_000_000.5);
    assert_eq!(claims["bool"], true);
    assert!(claims["nan"].is_null() && claims["null"].is_null() && claims["none"].is_null());
    assert_eq!(claims["aud"], serde_json::json!(["api", 1.5]));
    assert_eq!(claims["inner"]["tenantId"], "globex");
}

#[test]
fn what_is_not_a_payload_at_its_place_is_none() {
    let claims = || object([("tenantId", text("acme"))]);
    let good = metadata("jwt", "payload", claims());
    assert!(path().claims(&good).is_some());
    for bytes in [
        Vec::new(),
        metadata("other", "payload", claims()),
        metadata("jwt", "other", claims()),
        metadata("jwt", "payload", text("acme")),
        metadata("jwt", "payload", Value { kind: None }),
        good[..good.len() - 1].to_vec(),
        b"\xff\xff\xff".to_vec(),
        metadata("jwt", "payload", object([("a", text(&"a".repeat(256 * 1024)))])),
    ] {
        assert_eq!(path().claims(&bytes), None, "{} bytes", bytes.len());
    }
}

#[test]
fn of_two_entries_with_one_key_the_last_counts() {
    let claims = |tenant| object([("tenantId", text("first")), ("tenantId", text(tenant))]);
    let twice = [
        metadata("jwt", "payload", claims("a")),
        metadata("jwt", "payload", claims("b")),
    ]
    .concat();
    assert_eq!(path().claims(&twice).unwrap()["tenantId"], "b");
}

#[test]
fn nesting_without_end_is_none() {
    let mut value = text("acme");
    for _ in 0..200 {
        value = object([("a", value)]);
    }
    let bytes = metadata("jwt", "payload", value);
    assert!(bytes.len() < MAX_BYTES);
    assert_eq!(path().claims(&bytes), None);
}
