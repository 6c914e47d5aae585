//! Whole heads: requests, responses and trailers. The first byte chooses the configuration and what it is a head
//! of; the rest is its lines, `name:value` each.

#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use oracle::head::{Keys, Line, Place, Rules, clean, is_owned, keys, must_go};
use oracle::scoping::{Kind, Owner, owner_of_list};
use oracle::target;
use serde_json::{Value, json};
use tenant_policy::engine::Engine;
use tenant_policy::flow::{Forward, RequestFlow, Step};
use tenant_policy::request::RequestHead;
use tenant_policy_fuzz::head::{edited, fields, lines, ordered};
use tenant_policy_fuzz::{World, engine_of, metadata};

const TENANT: &str = "t-acme";
const USER: &str = "user 7";
const PUBLIC: [&str; 1] = ["/health"];
const SCOPED: [(&str, &str, Kind); 3] = [
    ("x-routing-key", "routing_key", Kind::Routing),
    ("x-redis-key", "redis_key", Kind::Redis { pattern: false }),
    ("x-storage-key", "storage_key", Kind::Storage),
];

/// How the filter is configured.
#[derive(Debug, Clone, Copy)]
struct Manner {
    forwards_token: bool,
    reports: bool,
    has_modules: bool,
}

impl Manner {
    fn of(choice: u8) -> Self {
        Self {
            forwards_token: choice & 1 == 0,
            reports: choice & 2 != 0,
            has_modules: choice & 4 != 0,
        }
    }

    fn document(self) -> Value {
        let rules: Vec<_> = SCOPED
            .iter()
            .map(|(name, kind, _)| json!({ "name": name, "kind": kind }))
            .collect();
        let mut document = json!({
            "version": "v1",
            "enabled": true,
            "service": "ledger",
            "enforcement": if self.reports { "report" } else { "enforce" },
            "paths": { "public": [{ "prefix": PUBLIC[0] }] },
            "auth": { "mode": "upstream_metadata", "forward_token": self.forwards_token },
            "scope": {
                "headers": rules,
                "response": rules,
                "emit": { "tenant_id": "x-tenant-id", "module": "x-part" },
                "emit_claims": { "sub": "x-user" },
            },
        });
        if self.has_modules {
            document["modules"] = json!({ "default": "ledger", "routes": [{ "prefix": "/v1/t", "module": "t" }] });
        }
        document
    }

    fn rules(self) -> Rules {
        Rules {
            owned: vec!["x-part", "x-user"],
            scoped: SCOPED.iter().map(|(name, _, kind)| (*name, *kind)).collect(),
            dropped: if self.forwards_token {
                Vec::new()
            } else {
                vec!["authorization"]
            },
            keeps_paths: !self.has_modules,
        }
    }
}

thread_local! {
    static ENGINES: Vec<RefCell<Engine>> =
        (0..8).map(|choice| RefCell::new(engine_of(&Manner::of(choice).document()))).collect();
}

fuzz_target!(|input: &[u8]| {
    let Some((choice, rest)) = input.split_first() else {
        return;
    };
    let (manner, written) = (Manner::of(choice & 7), lines(rest));
    let world = World::default();
    world.metadata.replace(Some(metadata::of(TENANT, USER)));
    ENGINES.with(|engines| {
        let engine = &mut *engines[usize::from(choice & 7)].borrow_mut();
        match choice >> 3 & 3 {
            0 => request(engine, &world, manner, written),
            1 => trailers(engine, manner, &written),
            2 => response(engine, &world, manner, &written),
            _ => {
                // A head that somebody has made longer than anybody reads it.
                world.metadata.replace(None);
                anonymous(engine, &world, manner, written);
            }
        }
    });
});

fn forwarded(engine: &mut Engine, world: &World, lines: &[Line]) -> Result<Forward, u16> {
    match RequestFlow::start(engine, &RequestHead::new(&fields(lines)), world) {
        Step::Forward(forward) => Ok(forward),
        Step::Reply(refused) => Err(refused.reply.status),
        Step::Wait { .. } | Step::Receive { .. } => panic!("nothing to wait for"),
    }
}

fn with_target(mut lines: Vec<Line>) -> Vec<Line> {
    for (name, value) in [(":method", "GET"), (":path", "/v1/t/a")] {
        if !lines.iter().any(|(line, _)| line.eq_ignore_ascii_case(name.as_bytes())) {
            lines.insert(0, (name.into(), value.into()));
        }
    }
    lines
}

/// The value of a line that stands there once.
fn only<'l>(lines: &'l [Line], name: &str) -> &'l [u8] {
    let mut values = lines
        .iter()
        .filter(|(line, _)| line.eq_ignore_ascii_case(name.as_bytes()))
        .map(|(_, value)| value);
    match (values.next(), values.next()) {
        (Some(value), None) => value,
        _ => b"",
    }
}

fn has(lines: &[Line], name: &str) -> bool {
    lines.iter().any(|(line, _)| line.eq_ignore_ascii_case(name.as_bytes()))
}

/// What a request is before anybody asks who sends it.
fn is_refused_at_once(lines: &[Line]) -> bool {
    only(lines, ":method").eq_ignore_ascii_case(b"CONNECT") || target::is_hazardous(only(lines, ":path"))
}

fn is_public(lines: &[Line]) -> bool {
    let changes = has(lines, "upgrade") || has(lines, ":protocol");
    let method = String::from_utf8_lossy(only(lines, ":method"));
    !changes && target::is_public(&PUBLIC, &method, only(lines, ":path"))
}

fn request(engine: &mut Engine, world: &World, manner: Manner, lines: Vec<Line>) {
    let (lines, rules) = (with_target(lines), manner.rules());
    let found = forwarded(engine, world, &lines);
    let anonymous = || Ok(ordered(clean(&rules, &lines, Place::Nobody)));
    let refused = || if manner.reports { anonymous() } else { Err(400) };
    let expected = if is_refused_at_once(&lines) {
        refused()
    } else if is_public(&lines) {
        anonymous()
    } else if let Some(keys) = keys(&rules, &lines, TENANT) {
        Ok(ordered(tenants(&rules, &lines, keys)))
    } else {
        refused()
    };
    let after = found.map(|forward| edited(&lines, &forward.edits));
    assert_eq!(after.clone().map(ordered), expected, "{manner:?}");
    // Where only reported, a request may be better without what was wrong with it.
    if let (Ok(after), false) = (after, manner.reports) {
        again(engine, world, &after, &rules);
    }
}

/// The lines of a tenant's request.
fn tenants(rules: &Rules, lines: &[Line], keys: Vec<Keys>) -> Vec<Line> {
    let mut after = clean(rules, lines, Place::Tenant);
    after.retain(|(name, _)| {
        !rules
            .scoped
            .iter()
            .any(|(scoped, _)| name.eq_ignore_ascii_case(scoped.as_bytes()))
    });
    if has(lines, "upgrade") {
        after.retain(|(name, _)| !name.eq_ignore_ascii_case(b"connection"));
        after.push((b"connection".to_vec(), b"Upgrade".to_vec()));
    }
    for (name, values) in keys {
        after.extend(values.into_iter().map(|value| (name.into(), value)));
    }
    let path = target::path(only(lines, ":path")).unwrap_or_default();
    let is_of_t = !rules.keeps_paths && is_under(path);
    let module = if is_of_t { "t" } else { "ledger" };
    for (name, value) in [("x-tenant-id", TENANT), ("x-user", USER), ("x-part", module)] {
        after.push((name.into(), value.into()));
    }
    after
}

fn is_under(path: &[u8]) -> bool {
    path.strip_prefix(b"/v1/t")
        .is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

/// Whatever the filter lets go, what is owned in it says the same when the filter sees it again.
fn again(engine: &mut Engine, world: &World, lines: &[Line], rules: &Rules) {
    if let Ok(forward) = forwarded(engine, world, lines) {
        let owned = |lines: &[Line]| {
            ordered(
                lines
                    .iter()
                    .filter(|(name, _)| is_owned(rules, name))
                    .cloned()
                    .collect(),
            )
        };
        assert_eq!(owned(&edited(lines, &forward.edits)), owned(lines));
    }
}

/// Without proof there is no tenant, whatever the head says.
fn anonymous(engine: &mut Engine, world: &World, manner: Manner, lines: Vec<Line>) {
    let (lines, rules) = (with_target(lines), manner.rules());
    let expected = if is_refused_at_once(&lines) {
        Err(400)
    } else if is_public(&lines) {
        Ok(())
    } else {
        Err(401)
    };
    match forwarded(engine, world, &lines) {
        Ok(forward) => {
            assert!(expected.is_ok() || manner.reports, "{expected:?}");
            let after = edited(&lines, &forward.edits);
            assert_eq!(ordered(after), ordered(clean(&rules, &lines, Place::Nobody)));
        }
        Err(status) => assert_eq!(expected, Err(status)),
    }
}

fn trailers(engine: &Engine, manner: Manner, lines: &[Line]) {
    let rules = manner.rules();
    let edits = engine.trailer_edits(&RequestHead::new(&fields(lines)));
    let after = edited(lines, &edits);
    assert_eq!(after, clean(&rules, lines, Place::Nobody));
    assert!(after.iter().all(|(name, _)| !must_go(&rules, name, Place::Nobody)));
}

fn response(engine: &mut Engine, world: &World, manner: Manner, lines: &[Line]) {
    let way_back = forwarded(engine, world, &with_target(Vec::new()))
        .ok()
        .and_then(|forward| forward.way_back);
    let way_back = way_back.expect("a way back");
    let mut is_leak = false;
    let mut whole = Vec::new();
    let mut rest = Vec::new();
    for (name, value) in lines {
        let rule = SCOPED
            .iter()
            .find(|(scoped, _, _)| name.eq_ignore_ascii_case(scoped.as_bytes()));
        let owner = rule.map_or(Owner::Nobody, |(_, _, kind)| owner_of_list(*kind, value, TENANT));
        let value = match owner {
            Owner::Nobody => value.clone(),
            Owner::Tenant(inner) => inner,
            Owner::Other => {
                is_leak = true;
                rest.push(name.to_ascii_lowercase());
                continue;
            }
        };
        whole.push((name.clone(), value));
    }
    let head = fields(lines);
    let found = engine.response(&way_back, &RequestHead::new(&head), false, world).ok();
    let after = found.map(|forward| ordered(edited(lines, &forward.edits)));
    match after {
        Some(after) if is_leak => {
            assert!(manner.reports, "a leak goes out");
            assert_eq!(
                after,
                ordered(lines.to_vec()),
                "where nothing is enforced nothing is changed"
            );
        }
        after => assert_eq!(after, (!is_leak).then(|| ordered(whole.clone()))),
    }
    let trailers = engine.response_trailer_edits(&way_back, &RequestHead::new(&head), world);
    whole.retain(|(name, _)| !rest.contains(&name.to_ascii_lowercase()));
    assert_eq!(ordered(edited(lines, &trailers)), ordered(whole));
}
