use serde_json::json;

use super::*;

fn expectation(json: serde_json::Value) -> Expect {
    serde_json::from_value(json).expect("an expectation")
}

fn field(name: &str, value: &str) -> Field {
    (name.into(), value.into())
}

const BODY: &str = r#"{"code":"TOKEN_INVALID","title":"Unauthorized","message":"no"}"#;

fn denial(status: u16, body: &str, more: &[(&str, &str)]) -> Observed {
    let mut headers = vec![
        field("content-type", "application/json; charset=utf-8"),
        field("cache-control", "no-store"),
    ];
    headers.extend(more.iter().map(|(name, value)| field(name, value)));
    Observed::Replied {
        status,
        headers,
        body: body.into(),
        trailers: Vec::new(),
    }
}

fn forwarded(headers: &[(&str, &str)]) -> Observed {
    Observed::Forwarded {
        path: b"/v1/accounts".to_vec(),
        headers: headers.iter().map(|(n, v)| field(n, v)).collect(),
        body: b"\xffbody".to_vec(),
        trailers: vec![field("t", "1")],
    }
}

#[track_caller]
fn fails_with(expect: serde_json::Value, observed: &Observed, part: &str) {
    let fault = check(&expectation(expect), observed).expect_err("a mismatch");
    assert!(fault.contains(part), "{fault}");
}

#[test]
fn a_forwarded_request_is_compared_in_every_part() {
    let seen = forwarded(&[("X-Tenant-Id", "acme"), ("x-a", "1"), ("x-a", "2")]);
    let whole = json!({ "forwarded": {
        "path": "/v1/accounts",
        "headers": { "x-tenant-id": "acme", "x-a": ["1", "2"], "x-b": [] },
        "body": "\u{ff}body",
        "trailers": { "t": "1", "u": [] },
    } });
    assert_eq!(check(&expectation(whole), &seen), Ok(()));
    for (part, wrong) in [
        ("path", json!({ "path": "/v1/account" })),
        ("body", json!({ "body": "body" })),
        ("`x-a` is `1`, `2`", json!({ "headers": { "x-a": "1" } })),
        ("`x-b` is absent", json!({ "headers": { "x-b": "" } })),
        ("expected absent", json!({ "headers": { "x-tenant-id": [] } })),
        ("trailer", json!({ "trailers": { "t": "2" } })),
    ] {
        fails_with(json!({ "forwarded": wrong }), &seen, part);
    }
}

#[test]
fn forwarded_and_denied_are_not_confused() {
    let reply = denial(401, BODY, &[("www-authenticate", "Bearer")]);
    fails_with(json!({ "forwarded": {} }), &reply, "the reply was 401");
    fails_with(
        json!({ "denied": { "status": 401 } }),
        &forwarded(&[]),
        "it was forwarded",
    );
    assert!(check(&Expect::default(), &reply).is_err());
}

#[test]
fn a_well_formed_denial_passes() {
    let expect = json!({ "denied": { "status": 401, "code": "TOKEN_INVALID",
        "title": "Unauthorized", "message": "no", "headers": { "www-authenticate": "Bearer" } } });
    let reply = denial(401, BODY, &[("www-authenticate", "Bearer")]);
    assert_eq!(check(&expectation(expect), &reply), Ok(()));
}

#[test]
fn every_fault_of_a_denial_is_found() {
    let expect = json!({ "denied": { "status": 401, "code": "TOKEN_INVALID" } });
    let challenge = [("www-authenticate", "Bearer")];
    let rows: &[(&str, Observed)] = &[
        ("status is 403", denial(403, BODY, &challenge)),
        ("www-authenticate", denial(401, BODY, &[])),
        (
            "`code` is `X`",
            denial(401, r#"{"code":"X","title":"","message":""}"#, &challenge),
        ),
        (
            "not exactly",
            denial(401, r#"{"title":"","code":"TOKEN_INVALID","message":""}"#, &challenge),
        ),
        (
            "not exactly",
            denial(401, r#"{"code":"TOKEN_INVALID", "title":"","message":""}"#, &challenge),
        ),
        (
            "not a denial",
            denial(
                401,
                r#"{"code":"TOKEN_INVALID","title":"","message":"","reason":""}"#,
                &challenge,
            ),
        ),
        ("not a denial", denial(401, "nope", &challenge)),
        (
            "`cache-control` of the reply is `no-store`, `public`",
            denial(
                401,
                BODY,
                &[("www-authenticate", "Bearer"), ("cache-control", "public")],
            ),
        ),
    ];
    for (part, observed) in rows {
        fails_with(expect.clone(), observed, part);
    }
}

#[test]
fn retry_after_is_demanded_where_it_is_promised() {
    let expect = json!({ "denied": { "status": 503, "code": "TENANT_MANAGER_UNAVAILABLE" } });
    let body = r#"{"code":"TENANT_MANAGER_UNAVAILABLE","title":"","message":""}"#;
    let good = denial(503, body, &[("retry-after", "1")]);
    assert_eq!(check(&expectation(expect.clone()), &good), Ok(()));
    for bad in [
        vec![],
        vec![("retry-after", "0")],
        vec![("retry-after", "1.5")],
        vec![("retry-after", "1"), ("retry-after", "1")],
    ] {
        fails_with(expect.clone(), &denial(503, body, &bad), "retry-after");
    }
}

#[test]
fn a_grpc_denial_is_judged_by_status_and_named_headers_only() {
    let reply = Observed::Replied {
        status: 200,
        headers: vec![field("grpc-status", "16")],
        body: Vec::new(),
        trailers: Vec::new(),
    };
    let right = json!({ "denied": { "status": 200, "headers": { "grpc-status": "16" } } });
    assert_eq!(check(&expectation(right), &reply), Ok(()));
    let wrong = json!({ "denied": { "status": 200, "headers": { "grpc-status": "7" } } });
    fails_with(wrong, &reply, "grpc-status");
}

#[test]
fn lookups_are_counted_and_the_last_is_looked_at() {
    let seen = [forwarded(&[]), forwarded(&[("x-api-key", "k")])];
    let right = expectation(json!({ "tm_calls": 2,
        "tm_request": { "headers": { "x-api-key": "k", "cookie": [] } } }));
    assert_eq!(check_lookups(&right, &seen), Ok(()));
    let few = expectation(json!({ "tm_calls": 1 }));
    assert!(check_lookups(&few, &seen).is_err());
    let other = expectation(json!({ "tm_request": { "headers": { "x-api-key": "l" } } }));
    assert!(check_lookups(&other, &seen).is_err());
    assert!(check_lookups(&other, &[]).is_err());
    assert_eq!(check_lookups(&Expect::default(), &seen), Ok(()));
}

#[test]
fn fetches_are_judged_by_what_is_said_of_the_identity_provider_alone() {
    let seen = [forwarded(&[("accept", "application/json")])];
    let right = expectation(json!({ "tm_calls": 0, "idp_calls": 1,
        "idp_request": { "headers": { "accept": "application/json" } } }));
    assert_eq!(check_fetches(&right, &seen), Ok(()));
    assert!(check_fetches(&right, &[]).is_err());
    let none = expectation(json!({ "idp_calls": 0 }));
    let told = check_fetches(&none, &seen).expect_err("a fetch");
    assert!(told.contains("identity provider was asked 1 times"), "{told}");
    assert_eq!(check_lookups(&none, &seen), Ok(()));
}

#[test]
fn forbidden_texts_are_found_in_the_log() {
    let expect = expectation(json!({ "log_absent": ["hunter2"] }));
    assert_eq!(check_log(&expect, ["fine"]), Ok(()));
    assert!(check_log(&expect, ["fine", "password hunter2"]).is_err());
}

fn replied(status: u16, headers: &[(&str, &str)], body: &str) -> Observed {
    Observed::Replied {
        status,
        headers: headers.iter().map(|(name, value)| field(name, value)).collect(),
        body: body.into(),
        trailers: vec![field("t", "1")],
    }
}

#[test]
fn what_the_client_got_of_a_forwarded_request_is_compared_in_every_part() {
    let reply = replied(201, &[("x-a", "1"), ("x-a", "2")], "hello");
    let judge = |response: serde_json::Value| {
        let expect = expectation(json!({ "forwarded": {}, "response": response }));
        check_exchange(&expect, &[forwarded(&[])], &reply)
    };
    let whole = json!({ "status": 201, "headers": { "x-a": ["1", "2"], "x-b": [] }, "body": "hello",
        "trailers": { "t": "1", "u": [] } });
    assert_eq!(judge(whole), Ok(()));
    for (part, wrong) in [
        ("the client got 201, expected 200", json!({})),
        ("`x-a`", json!({ "status": 201, "headers": { "x-a": "1" } })),
        ("`x-b`", json!({ "status": 201, "headers": { "x-b": "1" } })),
        ("body of the response", json!({ "status": 201, "body": "hell" })),
        (
            "trailer of the response `t` is `1`, expected absent",
            json!({ "status": 201, "trailers": { "t": [] } }),
        ),
        ("`u` is absent", json!({ "status": 201, "trailers": { "u": "1" } })),
    ] {
        let fault = judge(wrong).expect_err("a mismatch");
        assert!(fault.contains(part), "{fault}");
    }
}

#[test]
fn a_response_that_is_held_back_is_judged_as_a_denial_behind_a_forwarded_request() {
    let expect = expectation(json!({ "forwarded": { "headers": { "x-a": "1" } },
        "blocked": { "status": 502, "code": "TENANT_LEAK_BLOCKED" } }));
    let body = r#"{"code":"TENANT_LEAK_BLOCKED","title":"","message":""}"#;
    let seen = [forwarded(&[("x-a", "1")])];
    assert_eq!(check_exchange(&expect, &seen, &denial(502, body, &[])), Ok(()));
    let other = [forwarded(&[("x-a", "2")])];
    for (seen, reply, part) in [
        (&seen[..], replied(200, &[], "{}"), "status is 200"),
        (&seen[..], denial(502, BODY, &[]), "`code` is"),
        (&other[..], denial(502, body, &[]), "`x-a`"),
        (&[], denial(502, body, &[]), "the reply was 502"),
    ] {
        let fault = check_exchange(&expect, seen, &reply).expect_err("a mismatch");
        assert!(fault.contains(part), "{fault}");
    }
}

#[test]
fn passes_are_counted_and_the_last_one_is_looked_at() {
    let (first, second) = (forwarded(&[("x-a", "1")]), forwarded(&[("x-a", "2")]));
    let both = [first.clone(), second];
    let reply = denial(400, r#"{"code":"KEY_REJECTED","title":"","message":""}"#, &[]);
    let twice = expectation(json!({ "forwarded": { "headers": { "x-a": "2" } }, "passes": 2 }));
    assert_eq!(check_exchange(&twice, &both, &reply), Ok(()));
    let once = expectation(json!({ "forwarded": { "headers": { "x-a": "2" } } }));
    let fault = check_exchange(&once, &both, &reply).expect_err("a pass too many");
    assert!(fault.contains("2 times, expected 1"), "{fault}");
    assert!(check_exchange(&twice, &both[..1], &reply).is_err());
    let second_refused = expectation(json!({ "denied": { "status": 400, "code": "KEY_REJECTED" }, "passes": 1 }));
    assert_eq!(check_exchange(&second_refused, &both[..1], &reply), Ok(()));
    for seen in [&both[..], &[]] {
        assert!(check_exchange(&second_refused, seen, &reply).is_err(), "{seen:?}");
    }
    let refused = expectation(json!({ "denied": { "status": 400, "code": "KEY_REJECTED" } }));
    assert_eq!(check_exchange(&refused, &[], &reply), Ok(()));
    let fault = check_exchange(&refused, &[first], &reply).expect_err("forwarded");
    assert!(fault.contains("it was forwarded"), "{fault}");
}

#[test]
fn properties_are_what_they_must_be_or_absent() {
    let expect = expectation(json!({ "properties": { "tenant_id": "acme", "tenant_module": null } }));
    let left = |module: Option<&str>| {
        let module = module.map(str::to_owned);
        move |name: &str| match name {
            "tenant_id" => Some("acme".to_owned()),
            _ => module.clone(),
        }
    };
    assert_eq!(check_properties(&expect, left(None)), Ok(()));
    let fault = check_properties(&expect, left(Some("x"))).expect_err("a mismatch");
    assert!(fault.contains("tenant_module"), "{fault}");
    assert!(check_properties(&expect, |_| None).is_err());
}
