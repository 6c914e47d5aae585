//! Denials in other words, wherever a request is refused: at its path, its token, its tenant.

use super::*;

fn refused(step: Step) -> Refused {
    match step {
        Step::Reply(refused) => *refused,
        other => panic!("{other:?}"),
    }
}

fn word(code: &str) -> Value {
    json!({ "status": 418, "code": code })
}

#[test]
fn every_stage_refuses_in_the_words_of_the_document_and_counts_its_own_code() {
    let overrides = json!({
        "PATH_REJECTED": word("path"),
        "TENANT_ID_REQUIRED": word("token"),
        "TENANT_SUSPENDED": word("tenant"),
    });
    let (mut engine, world) = (
        engine(&json!({ "errors": { "overrides": overrides } })),
        World::default(),
    );
    let (token, grpc) = (bearer("acme"), ("content-type", "application/grpc"));

    let head: [(&[u8], &[u8]); 2] = [(b":method", b"GET"), (b":path", b"/a/../b")];
    let path = refused(RequestFlow::start(&mut engine, &RequestHead::new(&head), &world));
    let anonymous = refused(start(&mut engine, &world, &[]));
    let (flow, _) = waiting(start(&mut engine, &world, &[("authorization", &token)]));
    let learned = learn(&mut engine, &world, &flow, r#"{"id":"acme","status":"suspended"}"#);
    let tenant = refused(flow.resume(&mut engine, Resumption::Learned(&learned), &world));
    for (refused, said, code) in [
        (&path, "path", Code::PathRejected),
        (&anonymous, "token", Code::TenantIdRequired),
        (&tenant, "tenant", Code::TenantSuspended),
    ] {
        let body: Value = serde_json::from_slice(&refused.reply.body).expect("JSON");
        assert_eq!((refused.reply.status, &body["code"]), (418, &json!(said)));
        let line = format!("denied 418 {}", code.as_str());
        assert!(
            refused.summary("denied").starts_with(&line),
            "{}",
            refused.summary("denied")
        );
        assert_eq!(world.counts(Counter::Denials(code)), 1, "{}", code.as_str());
    }

    let grpc = refused(start(&mut engine, &world, &[grpc, ("authorization", &token)]));
    assert_eq!((grpc.reply.grpc_status, grpc.reply.details), (9, "TENANT_SUSPENDED"));
}
