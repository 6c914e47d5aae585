//! What is enforced, told and scoped once the tenant is known.

use super::*;
use crate::node::Earlier;

/// A plugin without a Tenant Manager: the claim is enough.
fn engine_with(patch: &Value) -> Engine {
    let mut whole = json!({ "tenant_manager": null });
    if let (Value::Object(whole), Value::Object(patch)) = (&mut whole, patch.clone()) {
        whole.extend(patch);
    }
    engine(&whole)
}

/// A request with a token of `acme`.
fn ask(engine: &mut Engine, world: &World, headers: &[(&str, &str)]) -> Step {
    let token = bearer("acme");
    let mut all = vec![("authorization", token.as_str())];
    all.extend(headers);
    start(engine, world, &all)
}

fn forwarded(step: Step) -> Forward {
    match step {
        Step::Forward(forward) => forward,
        other => panic!("{other:?}"),
    }
}

fn refused(step: Step) -> Refused {
    match step {
        Step::Reply(refused) => *refused,
        other => panic!("{other:?}"),
    }
}

fn told(properties: &[Told]) -> Vec<(&'static str, String)> {
    let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
    properties
        .iter()
        .map(|(property, value)| (property.name(), text(value)))
        .collect()
}

fn set(name: &str, value: &str) -> Edit {
    Edit::Set(name.as_bytes().to_vec(), value.as_bytes().to_vec())
}

fn keeping(world: &World, earlier: Earlier) {
    world.earlier_pass.replace(Some(earlier));
}

/// The note that a pass of this very configuration leaves.
fn noted(engine: &Engine, tenant: &str) -> Earlier {
    let (_, note) = pass::note(&engine.config, &TenantId::parse(tenant, false).unwrap());
    Earlier::Noted(note)
}

#[test]
fn other_filters_are_told_where_that_is_configured() {
    let world = World::default();
    let mut engine = engine_with(&json!({ "scope": { "properties": true } }));
    let pairs = |decision: &str| {
        vec![
            ("tenant_decision", decision.to_owned()),
            ("tenant_id", "acme".to_owned()),
            ("tenant_module", "ledger".to_owned()),
        ]
    };
    let forward = forwarded(ask(&mut engine, &world, &[]));
    assert_eq!(told(&forward.properties), pairs("allowed"));
    let denied = refused(start(&mut engine, &world, &[]));
    assert_eq!(
        told(&denied.properties),
        [("tenant_decision", "TENANT_ID_REQUIRED".to_owned())]
    );
    let mut engine = engine_with(&json!({
        "scope": { "properties": true, "headers": [{ "name": "x-redis-key", "kind": "redis_key" }] },
    }));
    let denied = refused(ask(&mut engine, &world, &[("x-redis-key", "*")]));
    assert_eq!(told(&denied.properties), pairs("KEY_REJECTED"));
    let fields: [(&[u8], &[u8]); 2] = [(b":method", b"GET"), (b":path", b"/health")];
    let public = forwarded(RequestFlow::start(&mut engine, &RequestHead::new(&fields), &world));
    assert_eq!(told(&public.properties), [("tenant_decision", "public".to_owned())]);
    let mut silent = engine_with(&json!({}));
    assert!(forwarded(ask(&mut silent, &world, &[])).properties.is_empty());
}

#[test]
fn claims_are_copied_where_they_are_short_visible_texts() {
    let world = World::default();
    let mut engine = engine_with(&json!({
        "scope": { "emit_claims": { "sub": "x-user-id", "n": "x-number", "bad": "x-bad", "absent": "x-absent" } },
    }));
    let token = bearer_of(json!({
        "tenant": "acme", "key": "main-eddsa",
        "claims": { "sub": "u 1", "n": 7, "bad": "a\r\nx-tenant-id: globex" },
    }));
    let headers = [
        ("authorization", token.as_str()),
        ("x-user-id", "root"),
        ("x_user_id", "root"),
        ("x-number", "1"),
        ("x-bad", "1"),
    ];
    let forward = forwarded(start(&mut engine, &world, &headers));
    let remove = |name: &str| Edit::Remove(name.as_bytes().to_vec());
    assert_eq!(
        forward.edits,
        [
            remove("x_user_id"),
            remove("x-number"),
            remove("x-bad"),
            set("x-tenant-id", "acme"),
            set("x-user-id", "u 1"),
        ]
    );
}

#[test]
fn what_was_scoped_is_remembered_for_a_second_pass() {
    let world = World::default();
    let mut engine = engine_with(&json!({}));
    assert!(
        forwarded(ask(&mut engine, &world, &[("x-routing-key", "a")]))
            .properties
            .is_empty()
    );
    keeping(&world, Earlier::Nothing);
    let pass = |forward: Forward| told(&forward.properties);
    let first = forwarded(ask(&mut engine, &world, &[("x-routing-key", "a")]));
    let note = format!("{:016x}acme", engine.config.fingerprint);
    assert_eq!(pass(first), [("tenantgate_pass", note)]);
    assert!(
        pass(forwarded(ask(&mut engine, &world, &[]))).is_empty(),
        "nothing was scoped"
    );
}

#[test]
fn a_second_pass_keeps_what_is_in_scope_and_refuses_the_rest() {
    let world = World::default();
    let mut engine = engine_with(&json!({
        "auth": { "forward_token": false, "issuers": [{ "issuer": "https://id.example.com", "algorithms": ["EdDSA"],
            "jwks": { "inline": { "$keys": ["main-eddsa"] } } }] },
        "scope": {
            "headers": [{ "name": "x-routing-key", "kind": "routing_key" }], "path": [{ "prefix": "/storage", "kind": "storage_path" }],
            "emit_claims": { "sub": "x-user-id" },
        },
        "rate_limit": { "requests_per_second": 1, "burst": 1 },
    }));
    keeping(&world, noted(&engine, "acme"));
    let mut second = |path: &str, key: &str| {
        let fields: [(&[u8], &[u8]); 5] = [
            (b":method", b"GET"),
            (b":path", path.as_bytes()),
            (b"x-envoy-original-url", b"http://host/v1/accounts"),
            (b"x-routing-key", key.as_bytes()),
            (b"x-user-id", b"u-1"),
        ];
        RequestFlow::start(&mut engine, &RequestHead::new(&fields), &world)
    };
    for path in ["/v1/elsewhere", "/storage/acme/a"] {
        let forward = forwarded(second(path, "orders.acme"));
        assert_eq!(forward.edits, [set("x-tenant-id", "acme")], "{path}");
        assert!(forward.properties.is_empty(), "it is remembered already");
        assert!(forward.counters.is_empty(), "it is counted already");
    }
    for (path, key) in [
        ("/v1/elsewhere", "orders"),
        ("/v1/elsewhere", "orders.globex"),
        ("/storage/a", "orders.acme"),
        ("/storage/globex/a", "orders.acme"),
    ] {
        assert_eq!(code(&second(path, key)), "KEY_REJECTED", "{path} {key}");
    }
}

#[test]
fn the_memory_of_a_first_pass_is_not_read_without_a_redirect() {
    let world = World::default();
    let mut engine = engine_with(&json!({}));
    keeping(&world, noted(&engine, "globex"));
    let forward = forwarded(ask(&mut engine, &world, &[("x-routing-key", "a")]));
    assert!(forward.edits.contains(&set("x-routing-key", "a.acme")));
    assert_eq!(code(&start(&mut engine, &world, &[])), "TENANT_ID_REQUIRED");
}

#[test]
fn a_note_of_another_configuration_opens_nothing() {
    let world = World::default();
    let other = engine_with(&json!({ "service": "payments" }));
    let mut engine = engine_with(&json!({}));
    let redirected = ("x-envoy-original-url", "http://host/");
    let garbage = [&b""[..], b"acme", b"\xff", b"0000000000000000acme"].map(|note| Earlier::Noted(note.to_vec()));
    for note in [noted(&other, "acme")].into_iter().chain(garbage) {
        keeping(&world, note);
        assert_eq!(code(&start(&mut engine, &world, &[redirected])), "TENANT_ID_REQUIRED");
        let scoped = [redirected, ("x-routing-key", "orders.acme")];
        assert_eq!(
            code(&ask(&mut engine, &world, &scoped)),
            "KEY_REJECTED",
            "scoped by whom?"
        );
        assert_eq!(code(&ask(&mut engine, &world, &[redirected])), "forwarded");
    }
}

#[test]
fn where_a_first_pass_cannot_be_remembered_keys_of_a_redirected_request_are_refused() {
    let world = World::default();
    let mut engine = engine_with(&json!({}));
    let redirected = ("x-envoy-original-url", "http://host/");
    assert_eq!(
        code(&ask(&mut engine, &world, &[redirected, ("x-routing-key", "a")])),
        "KEY_REJECTED"
    );
    assert_eq!(code(&ask(&mut engine, &world, &[redirected])), "forwarded");
    keeping(&world, Earlier::Nothing);
    let forward = forwarded(ask(&mut engine, &world, &[redirected, ("x-routing-key", "a")]));
    assert!(
        forward.edits.contains(&set("x-routing-key", "a.acme")),
        "the first pass scoped nothing"
    );
}

#[test]
fn a_route_may_name_the_module() {
    let world = World::default();
    let mut engine = engine_with(&json!({
        "modules": { "routes": [{ "prefix": "/v1/accounts", "module": "accounts" }] },
        "scope": { "emit": { "module": "x-module" } },
    }));
    let module = |forward: Forward| forward.edits.contains(&set("x-module", "payments"));
    assert!(!module(forwarded(ask(&mut engine, &world, &[]))));
    world.route_module.replace(Some(b"payments".to_vec()));
    assert!(module(forwarded(ask(&mut engine, &world, &[]))));
    for bad in [&b""[..], b"no name", b"\xff"] {
        world.route_module.replace(Some(bad.to_vec()));
        assert_eq!(code(&ask(&mut engine, &world, &[])), "ROUTE_NOT_FOUND");
    }
}

#[test]
fn a_tenant_that_asks_too_often_is_told_when_to_come_again() {
    let world = World::default();
    let mut engine = engine_with(&json!({ "rate_limit": { "requests_per_second": 1, "burst": 2, "headers": true } }));
    for left in [1, 0] {
        let forward = forwarded(ask(&mut engine, &world, &[]));
        let way_back = forward.way_back.expect("the caller is told");
        let response = engine
            .response(&way_back, &RequestHead::new(&[]), false, &world)
            .unwrap();
        let told = format!("\"tenant\";r={left};t={}", 2 - left);
        assert_eq!(
            response.edits,
            [set("ratelimit-policy", "\"tenant\";q=2;w=2"), set("ratelimit", &told)]
        );
    }
    let denied = refused(ask(&mut engine, &world, &[]));
    assert_eq!(denied.reply.status, 429);
    let header = |name| {
        denied
            .reply
            .headers
            .iter()
            .find(|(other, _)| *other == name)
            .map(|(_, value)| value.as_str())
    };
    assert_eq!(header("retry-after"), Some("1"));
    assert_eq!(header("ratelimit"), Some("\"tenant\";r=0;t=2"));
}

#[test]
fn another_tenants_key_in_a_response_withholds_it() {
    let world = World::default();
    let mut engine =
        engine_with(&json!({ "scope": { "response": [{ "name": "x-storage-key", "kind": "storage_key" }] } }));
    let way_back = forwarded(ask(&mut engine, &world, &[])).way_back.unwrap();
    let respond = |value: &[u8]| {
        let fields: [(&[u8], &[u8]); 2] = [(b":status", b"200"), (b"x-storage-key", value)];
        engine.response(&way_back, &RequestHead::new(&fields), false, &world)
    };
    assert_eq!(respond(b"acme/a").unwrap().edits, [set("x-storage-key", "a")]);
    let refused = respond(b"globex/a").unwrap_err();
    assert_eq!(
        (refused.reply.status, refused.reply.details),
        (502, "TENANT_LEAK_BLOCKED")
    );
    assert_eq!(refused.detail().as_deref(), Some("response header x-storage-key"));
    assert_eq!(world.counts(Counter::ResponseLeaks), 1);
}

#[test]
fn a_report_forwards_without_a_tenant_what_would_be_denied() {
    let world = World::default();
    let mut engine = engine_with(&json!({
        "enforcement": "report",
        "scope": {
            "headers": [{ "name": "x-routing-key", "kind": "routing_key" }], "properties": true,
            "response": [{ "name": "x-storage-key", "kind": "storage_key" }],
        },
    }));
    let forward = forwarded(start(
        &mut engine,
        &world,
        &[("x-tenant-id", "acme"), ("x-routing-key", "a")],
    ));
    let remove = |name: &str| Edit::Remove(name.as_bytes().to_vec());
    assert_eq!(forward.edits, [remove("x-tenant-id"), remove("x-routing-key")]);
    assert_eq!(forward.counters, [Counter::WouldDeny(Code::TenantIdRequired)]);
    assert_eq!(
        world.counted.borrow().as_slice(),
        [Counter::AuthRefusals(Refusal::NoCredential)]
    );
    let would_be = forward.would_be.expect("what would have been");
    assert_eq!(would_be.summary("would deny"), "would deny 401 TENANT_ID_REQUIRED");
    let decision = ("tenant_decision", "would_deny:TENANT_ID_REQUIRED".to_owned());
    assert_eq!(told(&forward.properties), [decision]);
    let admitted = forwarded(ask(&mut engine, &world, &[("x-routing-key", "a")]));
    assert!(
        admitted.edits.contains(&set("x-routing-key", "a.acme")),
        "who is admitted is scoped"
    );
    let fields: [(&[u8], &[u8]); 1] = [(b"x-storage-key", b"globex/a")];
    let way_back = admitted.way_back.unwrap();
    let response = engine
        .response(&way_back, &RequestHead::new(&fields), false, &world)
        .unwrap();
    assert_eq!(response.counters, [Counter::WouldDeny(Code::TenantLeakBlocked)]);
    assert!(response.edits.is_empty() && response.would_be.is_some());
}

#[test]
fn tenants_are_counted_by_name_only_where_that_is_configured() {
    let world = World::default();
    let mut engine = engine_with(&json!({ "telemetry": { "tenant_label": true, "max_tenants": 1 } }));
    ask(&mut engine, &world, &[]);
    ask(&mut engine, &world, &[("x-routing-key", "#")]);
    let acme = |decision| ("acme".to_owned(), decision);
    assert_eq!(
        *world.tenants.borrow(),
        [acme(Decision::Allowed), acme(Decision::Denied)]
    );
    let mut silent = engine_with(&json!({}));
    ask(&mut silent, &world, &[]);
    assert_eq!(world.tenants.borrow().len(), 2);
}
