//! An answer of the Tenant Manager. The first byte chooses its status, the second what is told of it; the rest is
//! its body.

#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use tenant_policy::engine::Engine;
use tenant_policy::errand::Errand;
use tenant_policy::errand::{Answer, Answered};
use tenant_policy::flow::{RequestFlow, Resumption, Step};
use tenant_policy::request::RequestHead;
use tenant_policy::scope::Edit;
use tenant_policy_fuzz::record::{Said, of_forbidden, of_ok};
use tenant_policy_fuzz::{World, engine_of, metadata};

const TENANT: &str = "5C1E0F86-0b6d-4d0e-9e0b-b0a3f4b2a001";
const FOLDED: &str = "5c1e0f860b6d4d0e9e0bb0a3f4b2a001";
const MODULE: &str = "ledger";
const STATUSES: [u16; 16] = [
    200, 200, 200, 200, 403, 403, 404, 422, 401, 429, 400, 500, 204, 302, 0, 999,
];
/// How much of a body the engine wants to see.
const MAX_BYTES: usize = 4_096;

/// The headers that the upstream is told, or the code of the denial.
type Verdict = Result<BTreeMap<String, String>, &'static str>;

fn document(choice: u8) -> Value {
    let (tells_places, folds) = (choice & 1 != 0, choice & 2 != 0);
    let mut emit = json!({ "tenant_id": "x-tenant-id", "slug": "x-slug", "isolation_mode": "x-mode" });
    if tells_places {
        emit["schema"] = json!("x-schema");
        emit["vhost"] = json!("x-vhost");
    }
    json!({
        "version": "v1",
        "enabled": true,
        "service": MODULE,
        "auth": { "mode": "upstream_metadata" },
        "tenant_id": { "fold_uuid": folds },
        "tenant_manager": {
            "cluster": "tm", "authority": "tm", "api_keys": [{ "value": "k" }], "max_body_bytes": MAX_BYTES,
            "cache": { "max_entries": 4, "shared_slots": 8 },
        },
        "scope": { "emit": emit },
    })
}

fuzz_target!(|input: &[u8]| {
    let [status, choice, body @ ..] = input else {
        return;
    };
    let (status, choice) = (STATUSES[usize::from(status & 15)], choice & 3);
    let mut engine = engine_of(&document(choice));
    let world = World::sharing();
    world.metadata.replace(Some(metadata::of(TENANT, "u")));
    let verdict = ask(&mut engine, &world, status, body);
    if let Some(expected) = expected(status, choice, body) {
        assert_eq!(verdict, expected, "{status}");
    }
    let (here, elsewhere) = match verdict {
        Err("TENANT_MANAGER_UNAVAILABLE") => (false, false),
        Err("TENANT_NOT_FOUND") => (true, false),
        Ok(_) | Err(_) => (true, true),
    };
    let again = start(&mut engine, &world).ok();
    if here {
        assert_eq!(again, Some(verdict.clone()), "from the worker's cache");
    } else {
        assert!(again.is_none_or(|again| again.is_err()), "a failure is no answer");
    }
    if elsewhere {
        let again = start(&mut engine_of(&document(choice)), &world).ok();
        assert_eq!(again, Some(verdict), "from the node's cache");
    }
});

/// A request, as far as it gets by itself.
fn start(engine: &mut Engine, world: &World) -> Result<Verdict, Box<(RequestFlow, Option<Errand>)>> {
    let fields = [(&b":method"[..], &b"GET"[..]), (b":path", b"/v1")];
    match RequestFlow::start(engine, &RequestHead::new(&fields), world) {
        Step::Wait { flow, begins, .. } => Err(Box::new((flow, begins))),
        step => Ok(verdict(step)),
    }
}

fn verdict(step: Step) -> Verdict {
    match step {
        Step::Forward(forward) => Ok(forward.edits.into_iter().filter_map(told).collect()),
        Step::Reply(refused) => Err(refused.reply.details),
        Step::Wait { .. } | Step::Receive { .. } => panic!("nothing more to wait for"),
    }
}

fn told(edit: Edit) -> Option<(String, String)> {
    let text = |bytes| String::from_utf8(bytes).expect("what the upstream is told is text");
    match edit {
        Edit::Set(name, value) => Some((text(name), text(value))),
        Edit::Remove(_) | Edit::Add(_, _) => None,
    }
}

/// The same, with the Tenant Manager answering.
fn ask(engine: &mut Engine, world: &World, status: u16, body: &[u8]) -> Verdict {
    let (flow, begins) = *start(engine, world).expect_err("nothing is known yet");
    let errand = begins.expect("a lookup");
    assert!(engine.question(errand, world).is_some());
    let body = Some(body).filter(|body| body.len() <= engine.max_body_bytes(errand));
    let answer = Answer::Http {
        status,
        retry_after_seconds: None,
        body,
    };
    let Answered::Over { news, remarks } = engine.answered(errand, answer, world) else {
        panic!("there is one key")
    };
    assert!(remarks.len() <= 2, "{remarks:?}");
    let (_, learned) = news.expect("news");
    verdict(flow.resume(engine, Resumption::Learned(&learned), world))
}

/// What the table of answers says; `None`: this reading cannot tell.
fn expected(status: u16, choice: u8, body: &[u8]) -> Option<Verdict> {
    const UNAVAILABLE: Verdict = Err("TENANT_MANAGER_UNAVAILABLE");
    let tells_places = choice & 1 != 0;
    let is_small = body.len() <= MAX_BYTES;
    let record = match status {
        200 if !is_small => return Some(UNAVAILABLE),
        200 => match of_ok(body, MODULE) {
            Said::This(record) => record,
            Said::Nothing => return Some(UNAVAILABLE),
            Said::Unsure => return None,
        },
        403 if is_small => {
            return match of_forbidden(body) {
                Said::This(_) => Some(Err("TENANT_SUSPENDED")),
                Said::Nothing => Some(Err("TENANT_ACCESS_DENIED")),
                Said::Unsure => None,
            };
        }
        403 => return Some(Err("TENANT_ACCESS_DENIED")),
        404 => return Some(Err("TENANT_NOT_FOUND")),
        422 => return Some(Err("TENANT_NOT_PROVISIONED")),
        _ => return Some(UNAVAILABLE),
    };
    let is_asked_for = match &record.id {
        None => !tells_places,
        Some(id) if choice & 2 != 0 => id == TENANT || is_spelling_of_tenant(id),
        Some(id) => id == TENANT,
    };
    Some(if !is_asked_for {
        UNAVAILABLE
    } else if record.status.as_deref().is_some_and(|status| status != "active") {
        Err("TENANT_SUSPENDED")
    } else if !record.grants {
        Err("SERVICE_NOT_CONFIGURED")
    } else if record.in_schema && record.schema.is_none() {
        Err("TENANT_SCHEMA_INVALID")
    } else {
        let tenant = if choice & 2 != 0 { FOLDED } else { TENANT };
        let mode = if record.in_schema { "schema" } else { "isolated" };
        let places = [("x-schema", record.schema), ("x-vhost", record.vhost)]
            .map(|(name, value)| (name, value.filter(|_| tells_places)));
        let others = [
            ("x-tenant-id", Some(tenant.to_owned())),
            ("x-mode", Some(mode.to_owned())),
            ("x-slug", record.slug),
        ];
        let all = others.into_iter().chain(places);
        Ok(all
            .filter_map(|(name, value)| Some((name.to_owned(), value?)))
            .collect())
    })
}

/// Whether it is the tenant's id, dashed or bare, in either case.
fn is_spelling_of_tenant(id: &str) -> bool {
    let dashes: Vec<usize> = id.match_indices('-').map(|(at, _)| at).collect();
    (dashes.is_empty() || dashes == [8, 13, 18, 23]) && id.replace('-', "").eq_ignore_ascii_case(FOLDED)
}
