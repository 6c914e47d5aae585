//! Deliveries of tenant events. The first byte chooses how: as one body, or as several, one in each line.

#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use tenant_policy::engine::Engine;
use tenant_policy::errand::{Answer, Answered};
use tenant_policy::flow::{RequestFlow, Resumption, Step};
use tenant_policy::request::RequestHead;
use tenant_policy_fuzz::event::{Delivery as Read, Effect, delivery};
use tenant_policy_fuzz::{World, engine_of, metadata};

const SERVICE: &str = "ledger";
const ENVIRONMENT: &str = "staging";
const KEY: &str = "a-key-of-the-events";
const PATH: &str = "/-/events";
const TENANTS: [&str; 2] = ["acme", "globex"];
/// Most deliveries of one input.
const MAX_DELIVERIES: usize = 8;

fn document() -> Value {
    json!({
        "version": "v1",
        "enabled": true,
        "service": SERVICE,
        "environment": ENVIRONMENT,
        "auth": { "mode": "upstream_metadata" },
        "tenant_manager": {
            "cluster": "tm", "authority": "tm", "api_keys": [{ "value": KEY }],
            "cache": { "max_entries": 4, "shared_slots": 64 },
        },
        "events": { "path": PATH, "api_keys": [{ "value": KEY }] },
    })
}

/// What there is for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Now {
    /// It is forwarded.
    Known,
    /// The Tenant Manager is asked.
    Asked,
    /// An event refuses it.
    Refused,
}

fuzz_target!(|input: &[u8]| {
    let Some((choice, rest)) = input.split_first() else {
        return;
    };
    let (mut here, mut elsewhere, world) = (engine_of(&document()), engine_of(&document()), World::sharing());
    let mut expected: BTreeMap<&str, Now> = BTreeMap::new();
    for tenant in TENANTS {
        learn(&mut here, &world, tenant);
        expected.insert(tenant, Now::Known);
    }
    let bodies: Vec<&[u8]> = match choice & 1 {
        0 => vec![rest],
        _ => rest.split(|byte| *byte == b'\n').take(MAX_DELIVERIES).collect(),
    };
    let mut marks = BTreeMap::new();
    for body in bodies {
        let found = deliver(&mut here, &world, body);
        match delivery(body, SERVICE, ENVIRONMENT, &mut marks) {
            Read::Unreadable => assert_eq!(found, Err(400)),
            Read::Unsure => return,
            Read::Events { effects, is_malformed } => {
                assert_eq!(found.is_err(), is_malformed, "{effects:?}");
                for effect in effects {
                    apply(&effect, &mut expected);
                }
            }
        }
        for (tenant, now) in &expected {
            for engine in [&mut here, &mut elsewhere] {
                assert_eq!(look(engine, &world, tenant).0, *now, "{tenant}");
            }
        }
    }
});

fn apply(effect: &Effect, expected: &mut BTreeMap<&str, Now>) {
    for (tenant, now) in expected.iter_mut() {
        *now = match (effect, *now) {
            (Effect::Everything, _) => Now::Asked,
            (Effect::Refuse(of), _) if of == tenant => Now::Refused,
            (Effect::Lift(of), _) if of == tenant => Now::Asked,
            // What an event refuses stays refused until another lifts it.
            (Effect::Forget(of), Now::Known) if of == tenant => Now::Asked,
            (_, now) => now,
        };
    }
}

fn deliver(engine: &mut Engine, world: &World, body: &[u8]) -> Result<(), u16> {
    let fields = [
        (&b":method"[..], &b"POST"[..]),
        (b":path", PATH.as_bytes()),
        (b"x-api-key", KEY.as_bytes()),
    ];
    let Step::Receive { mut delivery, .. } = RequestFlow::start(engine, &RequestHead::new(&fields), world) else {
        panic!("a delivery is received")
    };
    // In pieces, as it comes.
    for piece in body.chunks(1_000) {
        if delivery.push(piece).is_err() {
            return Err(400);
        }
    }
    let received = engine.receive(&delivery, world);
    drop(engine.take_errands());
    received
        .map(|received| {
            assert_eq!(received.reply.status, 200);
            assert!(
                received
                    .carried_out
                    .iter()
                    .chain(&received.unknown)
                    .all(|line| is_line(line))
            );
        })
        .map_err(|_| 400)
}

/// Whether it may stand in a log.
fn is_line(text: &str) -> bool {
    text.len() < 1_024 && !text.chars().any(char::is_control)
}

fn look(engine: &mut Engine, world: &World, tenant: &str) -> (Now, Option<Step>) {
    world.metadata.replace(Some(metadata::of(tenant, "u")));
    let fields = [(&b":method"[..], &b"GET"[..]), (b":path", b"/v1")];
    match RequestFlow::start(engine, &RequestHead::new(&fields), world) {
        Step::Forward(_) => (Now::Known, None),
        Step::Reply(refused) => {
            assert_eq!(refused.reply.details, "TENANT_SUSPENDED");
            (Now::Refused, None)
        }
        step @ Step::Wait { .. } => (Now::Asked, Some(step)),
        Step::Receive { .. } => panic!("no delivery"),
    }
}

/// Has the tenant looked up.
fn learn(engine: &mut Engine, world: &World, tenant: &str) {
    let Some(Step::Wait {
        flow,
        begins: Some(errand),
        ..
    }) = look(engine, world, tenant).1
    else {
        panic!("{tenant} is not known yet")
    };
    let body = json!({ "id": tenant, "databases": { SERVICE: {} } }).to_string();
    assert!(engine.question(errand, world).is_some());
    let answer = Answer::Http {
        status: 200,
        retry_after_seconds: None,
        body: Some(body.as_bytes()),
    };
    let Answered::Over {
        news: Some((_, learned)),
        ..
    } = engine.answered(errand, answer, world)
    else {
        panic!("an answer")
    };
    assert!(matches!(
        flow.resume(engine, Resumption::Learned(&learned), world),
        Step::Forward(_)
    ));
}
