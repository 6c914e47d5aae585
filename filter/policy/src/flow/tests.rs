use corpus::case;
use corpus::mint::Keys as Mint;
use serde_json::{Value, json};

use super::*;
use crate::authn::Refusal;
use crate::config::{Environment, Plugin, compile};
use crate::denial::Code;
use crate::errand::{Answer, Answered};
use crate::world::{NOW, World};

mod enforcement;
mod overrides;
mod tenants;

fn engine(patch: &Value) -> Engine {
    let mut document = json!({
        "version": "v1", "enabled": true, "service": "ledger",
        "auth": { "issuers": [{ "issuer": "https://id.example.com", "algorithms": ["EdDSA"], "jwks": { "inline": { "$keys": ["main-eddsa"] } } }] },
        "tenant_manager": { "cluster": "tm", "authority": "tm", "api_keys": [{ "value": "k" }], "timeout_ms": 1000, "max_waiters": 16 },
        "scope": { "headers": [{ "name": "x-routing-key", "kind": "routing_key" }] },
    });
    if let (Value::Object(document), Value::Object(patch)) = (&mut document, patch.clone()) {
        document.extend(patch);
        document.retain(|_, member| !member.is_null());
    }
    let document = Mint::shared().expand_config(&document).unwrap();
    match compile(document.to_string().as_bytes(), &Environment::default()).map(|compiled| compiled.plugin) {
        Ok(Plugin::MultiTenant(config)) => Engine::new(*config),
        other => panic!("{other:?}"),
    }
}

fn bearer(tenant: &str) -> String {
    bearer_of(json!({ "tenant": tenant, "key": "main-eddsa" }))
}

fn bearer_of(made: Value) -> String {
    let token = case::Token::Made(serde_json::from_value(made).unwrap());
    format!(
        "Bearer {}",
        String::from_utf8(Mint::shared().token(&token, NOW).unwrap()).unwrap()
    )
}

fn start(engine: &mut Engine, world: &World, headers: &[(&str, &str)]) -> Step {
    let mut fields: Vec<(&[u8], &[u8])> = vec![(b":method", b"GET"), (b":path", b"/v1/accounts")];
    fields.extend(headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())));
    RequestFlow::start(engine, &RequestHead::new(&fields), world)
}

fn waiting(step: Step) -> (RequestFlow, bool) {
    match step {
        Step::Wait { flow, begins, .. } => (flow, begins.is_some()),
        other => panic!("{other:?}"),
    }
}

fn code(step: &Step) -> &'static str {
    match step {
        Step::Reply(refused) => refused.reply.details,
        Step::Forward { .. } => "forwarded",
        Step::Receive { .. } => "received",
        Step::Wait { .. } => "waits",
    }
}

fn errand(flow: &RequestFlow) -> Errand {
    match flow.awaits() {
        Awaited::Lookup(lookup) => Errand::Lookup(lookup),
        other => panic!("{other:?}"),
    }
}

fn learn(engine: &mut Engine, world: &World, flow: &RequestFlow, body: &str) -> Learned {
    let answer = Answer::Http {
        status: 200,
        retry_after_seconds: None,
        body: Some(body.as_bytes()),
    };
    engine.question(errand(flow), world).expect("begins");
    match engine.answered(errand(flow), answer, world) {
        Answered::Over {
            news: Some((awaited, learned)),
            ..
        } if awaited == flow.awaits() => learned,
        other => panic!("{other:?}"),
    }
}

const GRANTED: &str = r#"{"id":"acme","databases":{"ledger":{}}}"#;

#[test]
fn a_cold_tenant_waits_and_is_forwarded_with_its_edits() {
    let (mut engine, world) = (engine(&json!({})), World::default());
    let token = bearer("acme");
    let headers = [
        ("authorization", token.as_str()),
        ("x-tenant-id", "globex"),
        ("x_tenant_id", "globex"),
        ("x-routing-key", "a"),
        ("x-routing-key", "b"),
    ];
    let Step::Wait { edits, flow, begins } = start(&mut engine, &world, &headers) else {
        panic!("waits")
    };
    assert_eq!(begins, Some(errand(&flow)));
    let removed: Vec<&[u8]> = edits.iter().map(Edit::name).collect();
    assert_eq!(
        removed,
        [&b"x-tenant-id"[..], b"x_tenant_id"],
        "at once, not when it is over"
    );
    let outcome = learn(&mut engine, &world, &flow, GRANTED);
    let Step::Forward(Forward { edits, counters, .. }) =
        flow.resume(&mut engine, Resumption::Learned(&outcome), &world)
    else {
        panic!("forwarded")
    };
    let bytes = |text: &str| text.as_bytes().to_vec();
    assert_eq!(counters, [Counter::TenantMessagesProcessed]);
    assert_eq!(
        edits,
        [
            Edit::Set(bytes("x-routing-key"), bytes("a.acme")),
            Edit::Add(bytes("x-routing-key"), bytes("b.acme")),
            Edit::Set(bytes("x-tenant-id"), bytes("acme")),
        ]
    );
    assert_eq!(code(&start(&mut engine, &world, &headers)), "forwarded", "warm now");
}

#[test]
fn nobody_is_asked_before_the_token_holds() {
    let (mut engine, world) = (engine(&json!({})), World::default());
    for (header, expected) in [("", "TENANT_ID_REQUIRED"), ("Bearer a.b.c", "TOKEN_INVALID")] {
        assert_eq!(
            code(&start(&mut engine, &world, &[("authorization", header)])),
            expected
        );
    }
    assert_eq!(
        *world.counted.borrow(),
        [
            Counter::Denials(Code::TenantIdRequired),
            Counter::AuthRefusals(Refusal::NoCredential),
            Counter::Denials(Code::TokenInvalid),
            Counter::AuthRefusals(Refusal::Malformed),
        ]
    );
}

#[test]
fn a_refusal_takes_out_what_the_caller_made_up_and_names_the_tenant_once_it_is_proven() {
    let (mut engine, world) = (engine(&json!({})), World::default());
    let Step::Reply(refused) = start(&mut engine, &world, &[("x-tenant-id", "victim")]) else {
        panic!("refused")
    };
    assert_eq!(refused.edits, [Edit::Remove(b"x-tenant-id".to_vec())]);
    assert_eq!(refused.summary("denied"), "denied 401 TENANT_ID_REQUIRED");
    let token = bearer("acme");
    let (flow, _) = waiting(start(&mut engine, &world, &[("authorization", &token)]));
    let Step::Reply(refused) = flow.resume(&mut engine, Resumption::DeadlinePassed, &world) else {
        panic!("refused")
    };
    assert_eq!(
        refused.summary("denied"),
        "denied 503 TENANT_MANAGER_UNAVAILABLE tenant=acme module=ledger"
    );
    assert_eq!(refused.detail().as_deref(), Some("deadline"));
}

#[test]
fn who_waits_too_long_is_unavailable() {
    let (mut engine, world) = (engine(&json!({})), World::default());
    let token = bearer("acme");
    let (flow, _) = waiting(start(&mut engine, &world, &[("authorization", &token)]));
    assert_eq!(flow.deadline_ms(), 1_500);
    world.now_ms.set(700);
    let (late, begins) = waiting(start(&mut engine, &world, &[("authorization", &token)]));
    assert!(!begins);
    assert_eq!(late.deadline_ms(), 2_200, "each request has its own deadline");
    let step = flow.resume(&mut engine, Resumption::DeadlinePassed, &world);
    assert_eq!(code(&step), "TENANT_MANAGER_UNAVAILABLE");
}

#[test]
fn too_many_waiters_are_turned_away_and_a_place_that_is_left_is_free() {
    let (mut engine, world) = (engine(&json!({})), World::default());
    let token = bearer("acme");
    let headers = [("authorization", token.as_str())];
    let first = waiting(start(&mut engine, &world, &headers));
    let second = waiting(start(&mut engine, &world, &headers));
    assert_eq!(code(&start(&mut engine, &world, &headers)), "TENANT_LOOKUP_OVERLOADED");
    drop(first);
    assert_eq!(code(&start(&mut engine, &world, &headers)), "waits");
    drop(second);
}

#[test]
fn keys_are_judged_after_the_tenant() {
    let (mut engine, world) = (engine(&json!({})), World::default());
    let token = bearer("acme");
    let headers = [("authorization", token.as_str()), ("x-routing-key", "#")];
    let (flow, _) = waiting(start(&mut engine, &world, &headers));
    let suspended = learn(&mut engine, &world, &flow, r#"{"id":"acme","status":"suspended"}"#);
    let step = flow.resume(&mut engine, Resumption::Learned(&suspended), &world);
    assert_eq!(code(&step), "TENANT_SUSPENDED");
    world.pass(1_000_000);
    let (flow, _) = waiting(start(&mut engine, &world, &headers));
    let outcome = learn(&mut engine, &world, &flow, GRANTED);
    assert_eq!(
        code(&flow.resume(&mut engine, Resumption::Learned(&outcome), &world)),
        "KEY_REJECTED"
    );
}

#[test]
fn without_a_tenant_manager_nobody_waits() {
    let (mut engine, world) = (engine(&json!({ "tenant_manager": () })), World::default());
    let token = bearer("whoever");
    assert_eq!(
        code(&start(&mut engine, &world, &[("authorization", &token)])),
        "forwarded"
    );
    assert_eq!(
        *world.counted.borrow(),
        [Counter::TokensVerified],
        "the shell counts what it has let go"
    );
}

fn remote_engine() -> Engine {
    let remote = json!({ "remote": { "cluster": "idp", "authority": "idp", "path": "/jwks", "timeout_ms": 700 } });
    let issuer = json!({ "issuer": "https://id.example.com", "algorithms": ["EdDSA"], "jwks": remote });
    engine(&json!({ "auth": { "issuers": [issuer] } }))
}

fn fetched(engine: &mut Engine, world: &World, fetch: Errand, names: &[&str]) -> Option<Learned> {
    let set = Mint::shared().jwk_set(names).unwrap().to_string();
    let answer = Answer::Http {
        status: 200,
        retry_after_seconds: None,
        body: Some(set.as_bytes()),
    };
    engine.question(fetch, world).expect("asked once");
    match engine.answered(fetch, answer, world) {
        Answered::Over { news, .. } => news.map(|(_, learned)| learned),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_token_waits_for_the_first_keys_and_then_for_its_tenant() {
    let (mut engine, world) = (remote_engine(), World::default());
    let (errands, _) = engine.tick(&world);
    let [fetch] = errands.as_slice() else {
        panic!("{errands:?}")
    };
    let token = bearer("acme");
    let headers = [("authorization", token.as_str()), ("x-routing-key", "a")];
    let Step::Wait { flow, begins, edits } = start(
        &mut engine,
        &world,
        &[("x-tenant-id", "globex"), headers[0], headers[1]],
    ) else {
        panic!("waits")
    };
    assert_eq!(begins, None, "the fetch is under way");
    assert_eq!(edits, [Edit::Remove(b"x-tenant-id".to_vec())], "at once");
    assert_eq!((flow.awaits(), flow.deadline_ms()), (Awaited::Keys(0), 1_200));
    let learned = fetched(&mut engine, &world, *fetch, &["main-eddsa"]).expect("news");
    let (flow, begins) = waiting(flow.resume(&mut engine, Resumption::Learned(&learned), &world));
    assert!(begins, "now the tenant");
    let learned = learn(&mut engine, &world, &flow, GRANTED);
    let Step::Forward(Forward { edits, .. }) = flow.resume(&mut engine, Resumption::Learned(&learned), &world) else {
        panic!("forwarded")
    };
    assert!(edits.contains(&Edit::Set(b"x-routing-key".to_vec(), b"a.acme".to_vec())));
}

#[test]
fn who_has_waited_in_vain_for_keys_is_told_whose_fault_it_is() {
    let (mut engine, world) = (remote_engine(), World::default());
    let (errands, _) = engine.tick(&world);
    let token = bearer("acme");
    let headers = [("authorization", token.as_str())];
    let (flow, _) = waiting(start(&mut engine, &world, &headers));
    let Step::Reply(refused) = flow.resume(&mut engine, Resumption::DeadlinePassed, &world) else {
        panic!("refused")
    };
    assert_eq!((refused.reply.status, refused.reply.details), (503, "KEYS_UNAVAILABLE"));
    assert!(refused.reply.headers.iter().any(|(name, _)| *name == "retry-after"));

    fetched(&mut engine, &world, errands[0], &["other-eddsa"]);
    let (flow, begins) = waiting(start(&mut engine, &world, &headers));
    assert!(begins, "its key may be there by now");
    assert_eq!(
        code(&flow.resume(&mut engine, Resumption::DeadlinePassed, &world)),
        "TOKEN_INVALID"
    );
    assert_eq!(
        code(&start(&mut engine, &world, &headers)),
        "waits",
        "the fetch is still under way"
    );
}

#[test]
fn places_for_those_who_wait_for_keys_are_bounded_and_freed() {
    let (mut engine, world) = (remote_engine(), World::default());
    engine.tick(&world);
    let token = bearer("acme");
    let headers = [("authorization", token.as_str())];
    let waits: Vec<_> = (0..256)
        .map(|_| waiting(start(&mut engine, &world, &headers)))
        .collect();
    assert_eq!(code(&start(&mut engine, &world, &headers)), "TOKEN_INVALID");
    assert_eq!(world.counts(Counter::AuthRefusals(Refusal::KeyWaitOverloaded)), 1);
    drop(waits);
    assert_eq!(code(&start(&mut engine, &world, &headers)), "waits");
}

#[test]
fn a_key_that_is_gone_takes_its_tokens_along() {
    let (mut engine, world) = (remote_engine(), World::default());
    let (errands, _) = engine.tick(&world);
    fetched(&mut engine, &world, errands[0], &["main-eddsa", "other-eddsa"]);
    let token = bearer("acme");
    let headers = [("authorization", token.as_str())];
    let verified = |world: &World| world.counts(Counter::TokensVerified);
    for _ in 0..3 {
        assert_eq!(code(&start(&mut engine, &world, &headers)), "waits", "for its tenant");
    }
    assert_eq!(verified(&world), 1);
    world.pass(270_000);
    let (errands, _) = engine.tick(&world);
    fetched(&mut engine, &world, errands[0], &["other-eddsa"]);
    let (flow, begins) = waiting(start(&mut engine, &world, &headers));
    assert!(begins && flow.awaits() == Awaited::Keys(0));
    assert_eq!(verified(&world), 1, "there is nothing to verify it with");
}

#[test]
fn a_token_that_would_be_refused_anyway_waits_for_nothing() {
    let (mut engine, world) = (remote_engine(), World::default());
    engine.tick(&world);
    let made = json!({ "tenant": "acme", "key": "main-eddsa", "claims": { "exp": 1 } });
    let token = case::Token::Made(serde_json::from_value(made).unwrap());
    let token = format!(
        "Bearer {}",
        String::from_utf8(Mint::shared().token(&token, NOW).unwrap()).unwrap()
    );
    assert_eq!(
        code(&start(&mut engine, &world, &[("authorization", token.as_str())])),
        "TOKEN_INVALID"
    );
    assert_eq!(world.counts(Counter::AuthRefusals(Refusal::Expired)), 1);
}

#[test]
fn those_who_wait_with_one_token_have_it_verified_once() {
    let (mut engine, world) = (remote_engine(), World::default());
    let (errands, _) = engine.tick(&world);
    let token = bearer("acme");
    let headers = [("authorization", token.as_str())];
    let flows: Vec<_> = (0..10)
        .map(|_| waiting(start(&mut engine, &world, &headers)).0)
        .collect();
    let learned = fetched(&mut engine, &world, errands[0], &["main-eddsa"]).expect("news");
    // Their tenant has room for two: the others are turned away, but not for their token.
    for flow in flows {
        let step = flow.resume(&mut engine, Resumption::Learned(&learned), &world);
        assert!(["waits", "TENANT_LOOKUP_OVERLOADED"].contains(&code(&step)));
    }
    assert_eq!(world.counts(Counter::TokensVerified), 1);
}

#[test]
fn the_trouble_of_one_issuer_takes_no_place_from_another_and_no_fetch() {
    let remote = |issuer: &str| {
        let set = json!({ "remote": { "cluster": "idp", "authority": "idp", "path": "/jwks" } });
        json!({ "issuer": issuer, "algorithms": ["EdDSA"], "tenants": "any", "jwks": set })
    };
    let issuers = [remote("https://down.example.com"), remote("https://id.example.com")];
    let (mut engine, world) = (engine(&json!({ "auth": { "issuers": issuers } })), World::default());
    let (errands, _) = engine.tick(&world);
    fetched(&mut engine, &world, errands[1], &["other-eddsa"]);
    let made = json!({ "tenant": "acme", "key": "other-eddsa", "claims": { "iss": "https://down.example.com" } });
    let token = case::Token::Made(serde_json::from_value(made).unwrap());
    let forged = String::from_utf8(Mint::shared().token(&token, NOW).unwrap()).unwrap();
    let forged = format!("Bearer {forged}");
    let flood: Vec<_> = (0..300)
        .map(|_| start(&mut engine, &world, &[("authorization", &forged)]))
        .filter(|step| matches!(step, Step::Wait { .. }))
        .collect();
    assert_eq!(flood.len(), 128, "half of the places");
    let token = bearer("acme");
    let (flow, begins) = waiting(start(&mut engine, &world, &[("authorization", &token)]));
    assert!(begins, "the other issuer is asked");
    assert_eq!(flow.awaits(), Awaited::Keys(1));
}

#[test]
fn a_fetch_is_begun_also_when_there_is_no_place_to_wait_for_it() {
    let (mut engine, world) = (remote_engine(), World::default());
    let (errands, _) = engine.tick(&world);
    fetched(&mut engine, &world, errands[0], &["other-eddsa"]);
    let token = bearer("acme");
    let headers = [("authorization", token.as_str())];
    let mut waits: Vec<_> = (0..256).map(|_| start(&mut engine, &world, &headers)).collect();
    // The fetch that they wait for gets lost; the set stays.
    world.pass(2_000);
    engine.tick(&world);
    world.pass(30_000);
    assert_eq!(code(&start(&mut engine, &world, &headers)), "TOKEN_INVALID", "no place");
    assert!(
        engine.due_ms().is_some_and(|due_ms| due_ms <= 32_000),
        "something is due at once"
    );
    waits.clear();
}
