//! What the workers of a node share, and other plugins may write to as well. The first byte chooses what the rest
//! is:
//!
//! * what stands under one of the keys;
//! * changes to what stands there, three bytes each: where, and which byte stands there instead;
//! * what an earlier pass has left;
//! * what came out of a queue.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use tenant_policy::engine::Engine;
use tenant_policy::errand::{Answer, Answered, Errand, Learned};
use tenant_policy::events::Delivery;
use tenant_policy::flow::{RequestFlow, Resumption, Step};
use tenant_policy::request::RequestHead;
use tenant_policy::scope::Edit;
use tenant_policy_fuzz::{World, engine_of, metadata};

const SERVICE: &str = "ledger";
/// Served by the Tenant Manager, and refused by it.
const GOOD: &str = "acme";
const BAD: &str = "globex";
/// Longer than anything is remembered or barred for, the emptiest bucket of a rate limit included, in milliseconds.
const LONG_MS: u64 = 1_000_000_000;
/// Largest value that the filter may leave under one key.
const MAX_VALUE: usize = 80_000;

fn document() -> Value {
    json!({
        "version": "v1",
        "enabled": true,
        "service": SERVICE,
        "environment": "staging",
        "auth": { "mode": "upstream_metadata" },
        "tenant_manager": {
            "cluster": "tm", "authority": "tm", "api_keys": [{ "value": "one" }, { "value": "two" }],
            "cache": { "max_entries": 4, "shared_slots": 8 },
            "discovery": { "interval_seconds": 60 },
        },
        "scope": { "headers": [{ "name": "x-redis-key", "kind": "redis_key" }] },
        "rate_limit": { "requests_per_second": 1000, "burst": 100, "shared_slots": 8, "headers": true },
        "events": { "path": "/-/events", "api_keys": [{ "value": "a-key-of-the-events" }] },
        "telemetry": { "tenant_label": true, "max_tenants": 2 },
    })
}

fuzz_target!(|input: &[u8]| {
    let [choice, place, rest @ ..] = input else {
        return;
    };
    match choice % 4 {
        2 => note(rest),
        3 => errand(&input[1..]),
        choice => {
            let world = World::sharing();
            let mut here = engine_of(&document());
            live(&mut here, &world);
            let keys = world.stored();
            let (key, before) = &keys[usize::from(*place) % keys.len()];
            let planted = if choice == 0 {
                rest.to_vec()
            } else {
                changed(before, rest)
            };
            // A name that stands there is believed: it is the node's own memory.
            let names = [GOOD, BAD].map(|tenant| contains(&planted, tenant.as_bytes()));
            world.plant(key, &planted);
            after(&mut here, &world, names);
            after(&mut engine_of(&document()), &world, names);
            for (key, value) in world.stored() {
                assert!(
                    value.len() <= MAX_VALUE.max(planted.len()),
                    "{} bytes under {key}",
                    value.len()
                );
            }
        }
    }
});

fn changed(before: &[u8], changes: &[u8]) -> Vec<u8> {
    let mut bytes = before.to_vec();
    for change in changes.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]]));
        match bytes.len() {
            0 => bytes.push(change[2]),
            length => bytes[at % length] = change[2],
        }
    }
    bytes
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// A life in which everything is written that may be.
fn live(engine: &mut Engine, world: &World) {
    tick(engine, world);
    assert_eq!(ask(engine, world, GOOD), Ok(()));
    assert_eq!(ask(engine, world, BAD), Err("TENANT_SUSPENDED"));
    world.passed_ms.set(10_000);
    tick(engine, world);
}

fn tick(engine: &mut Engine, world: &World) {
    let (mut errands, _) = engine.tick(world);
    errands.extend(engine.take_errands());
    for errand in errands {
        run(engine, world, errand);
    }
}

/// Plays the Tenant Manager, which is always there.
fn run(engine: &mut Engine, world: &World, errand: Errand) -> Option<Learned> {
    let callout = engine.question(errand, world)?;
    let path = callout
        .headers
        .iter()
        .find(|(name, _)| *name == ":path")
        .map(|(_, path)| path.as_str());
    let path = path.unwrap_or_default();
    let body = if path.contains(GOOD) {
        json!({ "id": GOOD, "databases": { SERVICE: {} } })
    } else if path.contains(BAD) {
        json!({ "id": BAD, "status": "suspended", "databases": { SERVICE: {} } })
    } else {
        json!([])
    };
    let body = body.to_string();
    let answer = Answer::Http {
        status: 200,
        retry_after_seconds: None,
        body: Some(body.as_bytes()),
    };
    match engine.answered(errand, answer, world) {
        Answered::Over { news, .. } => news.map(|(_, learned)| learned),
        Answered::Again(_) => panic!("a good answer is enough"),
    }
}

/// A request; whether it is forwarded, in the name of its tenant and nobody else's.
fn ask(engine: &mut Engine, world: &World, tenant: &str) -> Result<(), &'static str> {
    world.metadata.replace(Some(metadata::of(tenant, "u")));
    let fields = [
        (&b":method"[..], &b"GET"[..]),
        (b":path", b"/v1"),
        (b"x-redis-key", b"k"),
    ];
    let mut step = RequestFlow::start(engine, &RequestHead::new(&fields), world);
    // Somebody else may have a lookup under way that is not: but not twice.
    for _ in 0..8 {
        step = match step {
            Step::Forward(forward) => {
                let told = |name: &str| {
                    forward.edits.iter().find_map(|edit| match edit {
                        Edit::Set(set, value) if set == name.as_bytes() => Some(&value[..]),
                        _ => None,
                    })
                };
                assert_eq!(told("x-tenant-id"), Some(tenant.as_bytes()));
                assert_eq!(told("x-redis-key"), Some(format!("tenant:{tenant}:k").as_bytes()));
                return Ok(());
            }
            Step::Reply(refused) => {
                return Err(refused.reply.details);
            }
            Step::Wait { flow, begins, .. } => {
                let learned = begins.and_then(|errand| run(engine, world, errand));
                let resumption = learned.as_ref().map_or(Resumption::DeadlinePassed, Resumption::Learned);
                flow.resume(engine, resumption, world)
            }
            Step::Receive { .. } => panic!("no delivery"),
        };
    }
    panic!("it waits for ever")
}

/// What holds whatever stands there.
fn after(engine: &mut Engine, world: &World, [names_good, names_bad]: [bool; 2]) {
    tick(engine, world);
    let good = ask(engine, world, GOOD);
    let bad = ask(engine, world, BAD);
    assert!(bad.is_err() || names_bad, "the Tenant Manager refuses {BAD}");
    // An event has the last word.
    if deliver(engine, world, "tenant.suspended").is_ok() && !names_good {
        let refused = looked(engine, world);
        assert!(refused, "{GOOD} is served after it was suspended");
    }
    let lifted = deliver(engine, world, "tenant.activated");
    // Nobody is locked out for ever, nor let in.
    world.passed_ms.set(world.passed_ms.get() + LONG_MS);
    tick(engine, world);
    assert_eq!(ask(engine, world, BAD), Err("TENANT_SUSPENDED"), "for ever");
    assert_eq!(ask(engine, world, GOOD), Ok(()), "{good:?} before, {lifted:?}");
}

/// Whether the tenant is not served from what is known.
fn looked(engine: &mut Engine, world: &World) -> bool {
    world.metadata.replace(Some(metadata::of(GOOD, "u")));
    let fields = [(&b":method"[..], &b"GET"[..]), (b":path", b"/v1")];
    !matches!(
        RequestFlow::start(engine, &RequestHead::new(&fields), world),
        Step::Forward(_)
    )
}

fn deliver(engine: &mut Engine, world: &World, kind: &str) -> Result<(), ()> {
    let mut delivery = Delivery::default();
    let body = json!({ "type": kind, "tenantId": GOOD }).to_string();
    delivery.push(body.as_bytes()).map_err(|_| ())?;
    let received = engine.receive(&delivery, world).map_err(|_| ())?;
    drop(engine.take_errands());
    assert_eq!(received.reply.status, 200);
    Ok(())
}

/// A note says who has scoped a request, or nothing.
fn note(note: &[u8]) {
    let mut engine = engine_of(&document());
    let world = World::sharing();
    world.metadata.replace(None);
    world.note.replace(Some(note.to_vec()));
    let own = format!("tenant:{GOOD}:k");
    let fields = [
        (&b":method"[..], &b"GET"[..]),
        (b":path", b"/v1"),
        (b"x-envoy-original-url", b"http://host/v1"),
        (b"x-redis-key", own.as_bytes()),
    ];
    match RequestFlow::start(&mut engine, &RequestHead::new(&fields), &world) {
        // Whom it names is looked up like anybody: it has the filter's own mark then, and the name of a tenant.
        Step::Wait { .. } => {
            let (mark, tenant) = note.split_at(16.min(note.len()));
            assert!(
                mark.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')),
                "a mark of another kind"
            );
            assert!(
                std::str::from_utf8(tenant).is_ok_and(oracle::scoping::is_id),
                "no tenant"
            );
        }
        Step::Reply(refused) => assert_eq!(refused.reply.status, 400),
        Step::Forward(_) | Step::Receive { .. } => panic!("nobody has asked about it"),
    }
}

/// What comes out of a queue is an errand in one way only, and one of nobody's harms nobody.
fn errand(bytes: &[u8]) {
    let Some(errand) = Errand::from_bytes(bytes) else {
        return;
    };
    assert_eq!(errand.to_bytes(), bytes);
    let mut engine = engine_of(&document());
    let world = World::sharing();
    assert_eq!(engine.question(errand, &world), None, "nobody has asked for it");
    let answer = Answer::Http {
        status: 200,
        retry_after_seconds: None,
        body: Some(b"{}"),
    };
    match engine.answered(errand, answer, &world) {
        Answered::Over { news: None, .. } => {}
        other => panic!("{other:?}"),
    }
}
