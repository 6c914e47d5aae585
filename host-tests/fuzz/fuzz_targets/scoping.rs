//! A key of each kind, on its way to the upstream and back. The first byte chooses the kind and the tenant, the
//! rest is what the caller wrote there.

#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use oracle::scoping::{KINDS, Kind, Owner, owner_of_list, scoped};
use oracle::{keys, target, upstream};
use serde_json::json;
use tenant_policy::engine::Engine;
use tenant_policy::flow::{Forward, RequestFlow, Step};
use tenant_policy::request::{Field, RequestHead};
use tenant_policy::scope::Edit;
use tenant_policy_fuzz::{World, engine_of, metadata};

const TENANTS: [&str; 4] = ["acme", "a", "0-x_Y", "tenant"];
/// Another one.
const OTHER: &str = "globex";
/// One header for each of [`KINDS`].
const HEADERS: [&str; 6] = [
    "x-routing-key",
    "x-binding-key",
    "x-redis-key",
    "x-redis-pattern",
    "x-idempotency-key",
    "x-storage-key",
];
const STORE: &str = "/storage";
/// Wildcards beyond which nobody waits for the answer.
const MAX_WILD: usize = 4;

thread_local! {
    static ENGINE: (RefCell<Engine>, World) = (RefCell::new(engine_of(&document())), World::default());
}

fn document() -> serde_json::Value {
    let kinds = [
        "routing_key",
        "binding_key",
        "redis_key",
        "redis_key",
        "idempotency_key",
        "storage_key",
    ];
    let mut rules: Vec<_> = HEADERS
        .iter()
        .zip(kinds)
        .map(|(name, kind)| json!({ "name": name, "kind": kind }))
        .collect();
    let response = rules.clone();
    rules[3]["pattern"] = json!(true);
    json!({
        "version": "v1",
        "enabled": true,
        "service": "ledger",
        "auth": { "mode": "upstream_metadata" },
        "scope": { "headers": rules, "response": response, "path": [{ "prefix": STORE, "kind": "storage_path" }] },
    })
}

fuzz_target!(|input: &[u8]| {
    let Some((choice, value)) = input.split_first() else {
        return;
    };
    let (kind, tenant) = (choice & 7, TENANTS[usize::from(choice >> 3) % TENANTS.len()]);
    ENGINE.with(|(engine, world)| {
        world.metadata.replace(Some(metadata::of(tenant, "u")));
        let engine = &mut *engine.borrow_mut();
        match HEADERS.get(usize::from(kind)) {
            Some(header) => header_of(engine, world, (KINDS[usize::from(kind)], header), value, tenant),
            None if kind == 6 => path(engine, world, value, tenant),
            None => {
                for (kind, header) in KINDS.into_iter().zip(HEADERS) {
                    back(engine, world, (kind, header), value, tenant);
                }
            }
        }
    });
});

fn forwarded(engine: &mut Engine, world: &World, fields: &[Field<'_>]) -> Option<Forward> {
    match RequestFlow::start(engine, &RequestHead::new(fields), world) {
        Step::Forward(forward) => Some(forward),
        Step::Reply(refused) => {
            assert_eq!(refused.reply.status, 400, "{}", refused.summary("refused"));
            None
        }
        Step::Wait { .. } | Step::Receive { .. } => panic!("nothing to wait for"),
    }
}

fn set<'e>(forward: &'e Forward, name: &str) -> Option<&'e [u8]> {
    forward.edits.iter().find_map(|edit| match edit {
        Edit::Set(set, value) if set == name.as_bytes() => Some(&value[..]),
        _ => None,
    })
}

fn header_of(engine: &mut Engine, world: &World, (kind, header): (Kind, &str), value: &[u8], tenant: &str) {
    let fields = [
        (&b":method"[..], &b"GET"[..]),
        (b":path", b"/v1"),
        (header.as_bytes(), value),
    ];
    let forward = forwarded(engine, world, &fields);
    let expected = scoped(kind, value, tenant);
    let found = forward.as_ref().and_then(|forward| set(forward, header));
    assert_eq!(found, expected.as_deref(), "{kind:?}");
    let Some(found) = found else {
        assert!(forward.is_none(), "forwarded without its key");
        return;
    };
    nobody_elses(kind, found, value, tenant);
    back(engine, world, (kind, header), found, tenant);
}

/// Whoever reads the key finds nothing of another tenant's behind it.
fn nobody_elses(kind: Kind, key: &[u8], value: &[u8], tenant: &str) {
    let few = |wild: &[u8]| key.iter().filter(|byte| wild.contains(byte)).count() <= MAX_WILD;
    match kind {
        Kind::Routing => {
            for binding in [format!("#.{OTHER}"), format!("*.{OTHER}")] {
                assert!(!keys::topic_matches(binding.as_bytes(), key), "{OTHER} is sent it");
            }
            assert!(
                keys::topic_matches(format!("#.{tenant}").as_bytes(), key),
                "{tenant} is not"
            );
        }
        Kind::Binding if few(b"#") => {
            let plain: Vec<u8> = value
                .iter()
                .map(|byte| if b"*#".contains(byte) { b'w' } else { *byte })
                .collect();
            let routing = |tenant: &str| [&plain[..], b".", tenant.as_bytes()].concat();
            assert!(!keys::topic_matches(key, &routing(OTHER)), "it hears {OTHER}");
            assert!(keys::topic_matches(key, &routing(tenant)), "it does not hear {tenant}");
        }
        Kind::Redis { pattern } if few(b"*") => {
            let others = [&b"tenant:"[..], OTHER.as_bytes(), b":", value].concat();
            assert!(!keys::glob_matches(key, &others), "it finds {OTHER}'s");
            assert!(pattern || keys::glob_matches(key, key), "it does not find itself");
        }
        Kind::Storage => {
            let prefix = format!("/{tenant}");
            let read = [b"/", key].concat();
            assert!(!upstream::may_leave(&[&prefix], &read), "it leads elsewhere");
        }
        Kind::Binding | Kind::Redis { .. } | Kind::Idempotency => {}
    }
}

fn path(engine: &mut Engine, world: &World, value: &[u8], tenant: &str) {
    let written = [STORE.as_bytes(), value].concat();
    let fields = [(&b":method"[..], &b"GET"[..]), (b":path", &written[..])];
    let forward = forwarded(engine, world, &fields);
    let (path, query) = written.split_at(target::before_query(&written).len());
    let rest = path
        .strip_prefix(STORE.as_bytes())
        .filter(|rest| rest.is_empty() || rest[0] == b'/');
    let found = forward.as_ref().map(|forward| set(forward, ":path"));
    match rest {
        _ if target::is_hazardous(&written) => assert_eq!(found, None, "a hazard"),
        Some(rest) => {
            let key = scoped(Kind::Storage, rest, tenant);
            let path = key
                .map(|key| [STORE.as_bytes(), b"/", &key].concat())
                .filter(|path| path.len() <= 1_024);
            let expected = path.map(|path| [&path[..], query].concat());
            assert_eq!(found.flatten(), expected.as_deref());
            assert_eq!(forward.is_some(), expected.is_some());
            if let Some(path) = expected {
                let prefix = format!("{STORE}/{tenant}");
                assert!(!upstream::may_leave(&[&prefix], &path), "it leads elsewhere");
            }
        }
        None if forward.is_some() => {
            assert_eq!(found, Some(None), "no path of the store");
            let readings = upstream::readings(&written);
            assert!(
                !readings.iter().any(|read| upstream::covers_in_any_case(STORE, read)),
                "some server takes it for one of the store"
            );
        }
        None => {}
    }
}

/// A response with this value.
fn back(engine: &mut Engine, world: &World, (kind, header): (Kind, &str), value: &[u8], tenant: &str) {
    let fields = [(&b":method"[..], &b"GET"[..]), (b":path", b"/v1")];
    let way_back = forwarded(engine, world, &fields)
        .and_then(|forward| forward.way_back)
        .expect("a way back");
    let lines = [(&b":status"[..], &b"200"[..]), (header.as_bytes(), value)];
    let edits = engine
        .response(&way_back, &RequestHead::new(&lines), false, world)
        .ok()
        .map(|forward| forward.edits);
    let trailers = engine.response_trailer_edits(&way_back, &RequestHead::new(&lines[1..]), world);
    let name = header.as_bytes().to_vec();
    match owner_of_list(kind, value, tenant) {
        Owner::Other => {
            assert_eq!(edits, None, "{kind:?}: another's goes out");
            assert_eq!(trailers, [Edit::Remove(name)]);
        }
        Owner::Tenant(inner) => {
            assert_eq!(trailers, [Edit::Set(name, inner)]);
            assert_eq!(edits, Some(trailers), "{kind:?}");
        }
        Owner::Nobody => {
            assert_eq!(edits, Some(Vec::new()), "{kind:?}");
            assert!(trailers.is_empty());
        }
    }
}
