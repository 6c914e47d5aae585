//! Whatever bytes a key is made of: what reaches the upstream is in the scope of exactly this tenant, as
//! those read it who read keys. Generated, from fixed seeds.

use oracle::keys::{glob_matches, topic_matches};
use oracle::upstream::readings;
use serde_json::{Value, json};
use tiny_envoy::{Outcome, PeerRequest};

use crate::dice::Dice;
use crate::world::{ACCOUNTS, World, config, denied};

/// Values for each kind of key.
const ROUNDS: usize = 3_000;
/// Of them so many at least must be taken, and so many refused.
const EACH: usize = 300;
/// Others, whose scopes are like the tenant's to somebody who looks sloppily.
const OTHERS: [&str; 6] = ["globex", "acme2", "acm", "ACME", "xacme", "acme-"];

const PIECES: &[&str] = &[
    "a",
    "orders",
    "acme",
    "globex",
    "tenant:acme:",
    "tenant:globex:",
    "tenant:",
    ":",
    ".",
    "..",
    "...",
    "*",
    "#",
    "?",
    "[a-z]",
    "[",
    "]",
    "^",
    "\\",
    "/",
    "//",
    "../",
    "/..",
    "./",
    "%2e",
    "%2E",
    "%2f",
    "%5c",
    "%25",
    "%252e",
    "%252f",
    "%25252e",
    "%00",
    "%c0%af",
    "%e0%80%af",
    "%",
    "%3f",
    "%3b",
    ";",
    ";v=1",
    "?x",
    " ",
    "%20",
    "\t",
    ",",
    "-",
    "_",
    "A",
    "Z",
    "0",
    "storage",
    "Storage",
    "sto%72age",
    "%73torage",
];

fn world(patch: Value) -> World {
    // The verified claim is enough: there are thousands of requests.
    let mut patch = patch;
    patch["tenant_manager"] = Value::Null;
    patch["modules"] = Value::Null;
    World::start(&config(patch), |builder| builder)
}

/// A value of which many are taken and many are not.
fn value(dice: &mut Dice) -> Vec<u8> {
    match dice.below(4) {
        0 => dice.woven(PIECES, 6),
        1 => dice.woven(PIECES, 2),
        _ => {
            let words = ["a", "orders", "created", "acme", "globex", "*", "#", "v1", "tenant"];
            let between = if dice.one_in(3) { "/" } else { "." };
            let length = dice.below(5) + 1;
            let words: Vec<&str> = (0..length).map(|_| dice.pick(&words)).collect();
            words.join(between).into_bytes()
        }
    }
}

/// Sends a request and gives it as it was forwarded; `None` when it was refused for its keys or its path.
#[track_caller]
fn passed(world: &mut World, path: &[u8], line: Option<(&str, &[u8])>) -> Option<PeerRequest> {
    let bearer = world.bearer("acme");
    let mut request = world.envoy.get(path).header("authorization", bearer);
    if let Some((name, value)) = line {
        request = request.header(name, value);
    }
    match request.run() {
        Outcome::Forwarded(request) => {
            assert_eq!(request.headers.get_all("x-tenant-id"), [b"acme"]);
            Some(request)
        }
        outcome => {
            let (status, code) = denied(outcome);
            assert_eq!(status, 400, "{code}");
            assert!(["KEY_REJECTED", "PATH_REJECTED"].contains(&code.as_str()), "{code}");
            None
        }
    }
}

/// Checks what becomes of values of one kind. `holds` says whether a result is what it must be.
fn every_result_of(rule: Value, most_bytes: usize, holds: impl Fn(&[u8], &[u8]) -> Result<(), String>) {
    let mut world = world(json!({ "scope": { "headers": [rule] } }));
    let name = rule_name(&rule);
    let mut dice = Dice(42);
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..ROUNDS {
        let value = value(&mut dice);
        let Some(request) = passed(&mut world, ACCOUNTS.as_bytes(), Some((&name, &value))) else {
            refused += 1;
            continue;
        };
        taken += 1;
        let results = request.headers.get_all(&name);
        let [result] = results[..] else {
            panic!("{} became {results:?}", value.escape_ascii());
        };
        let about = || format!("{} became {}", value.escape_ascii(), result.escape_ascii());
        assert!(result.len() <= most_bytes, "{}", about());
        assert!(result.iter().all(|byte| (b' '..=b'~').contains(byte)), "{}", about());
        if let Err(fault) = holds(&value, result) {
            panic!("{}: {fault}", about());
        }
    }
    assert!(taken >= EACH && refused >= EACH, "{taken} taken, {refused} refused");
    world.assert_healthy();
}

fn rule_name(rule: &Value) -> String {
    rule["name"].as_str().expect("a name").to_owned()
}

fn ensure(holds: bool, fault: &str) -> Result<(), String> {
    holds.then_some(()).ok_or_else(|| fault.to_owned())
}

#[test]
fn a_routing_key_is_for_the_tenants_queues_only() {
    let rule = json!({ "name": "x-routing-key", "kind": "routing_key" });
    every_result_of(rule, 255, |value, result| {
        ensure(result == [value, b".acme"].concat(), "not the value with the tenant")?;
        ensure(topic_matches(b"#.acme", result), "the tenant does not get it")?;
        for other in OTHERS {
            ensure(!topic_matches(format!("#.{other}").as_bytes(), result), other)?;
        }
        // Only a binding has wildcards: a message is for those who are bound for it, word by word.
        ensure(topic_matches(result, result), "it matches itself")?;
        ensure(!result.iter().any(|byte| b"*#".contains(byte)), "a wildcard")
    });
}

#[test]
fn a_binding_key_takes_no_message_of_another_tenant() {
    let rule = json!({ "name": "x-binding-key", "kind": "binding_key" });
    every_result_of(rule, 255, |value, result| {
        ensure(result == [value, b".acme"].concat(), "not the value with the tenant")?;
        let mut dice = Dice(value.len() as u64);
        for _ in 0..8 {
            // A message that the binding is for but for its tenant.
            let mut words: Vec<Vec<u8>> = Vec::new();
            for word in value.split(|byte| *byte == b'.') {
                match word {
                    b"*" => words.push(b"any".to_vec()),
                    b"#" => words.extend((0..dice.below(4)).map(|_| b"more".to_vec())),
                    word => words.push(word.to_vec()),
                }
            }
            let message = |tenant: &str| {
                let mut words = words.clone();
                words.push(tenant.into());
                words.join(&b'.')
            };
            ensure(
                topic_matches(result, &message("acme")),
                "the tenant does not get its own",
            )?;
            for other in OTHERS {
                ensure(!topic_matches(result, &message(other)), other)?;
            }
        }
        Ok(())
    });
}

#[test]
fn a_redis_key_is_one_key_of_the_tenant() {
    let rule = json!({ "name": "x-redis-key", "kind": "redis_key" });
    every_result_of(rule, 1_024, |value, result| {
        ensure(
            result == [b"tenant:acme:", value].concat(),
            "not the tenant with the value",
        )?;
        ensure(glob_matches(result, result), "it matches itself")?;
        ensure(!result.iter().any(|byte| b"*?[]\\".contains(byte)), "a pattern")
    });
}

#[test]
fn a_redis_pattern_matches_keys_of_the_tenant_only() {
    let rule = json!({ "name": "x-redis-key", "kind": "redis_key", "pattern": true });
    every_result_of(rule, 1_024, |value, result| {
        ensure(
            result == [b"tenant:acme:", value].concat(),
            "not the tenant with the value",
        )?;
        for other in OTHERS {
            for key in [value, b"k".as_slice(), b"", b"tenant:acme:k", b":acme:k"] {
                let theirs = [format!("tenant:{other}:").as_bytes(), key].concat();
                ensure(!glob_matches(result, &theirs), other)?;
            }
        }
        ensure(
            !glob_matches(result, b"tenant:") && !glob_matches(result, b""),
            "what nobody has",
        )
    });
}

#[test]
fn an_idempotency_key_is_the_tenants() {
    let rule = json!({ "name": "idempotency-key", "kind": "idempotency_key" });
    every_result_of(rule, 255, |value, result| {
        ensure(
            result == [b"tenant:acme:", value].concat(),
            "not the tenant with the value",
        )
    });
}

/// Whether all that a server may take a path for is in this folder.
fn is_inside(path: &[u8], folder: &str) -> Result<(), String> {
    let inner = format!("{folder}/");
    for reading in readings(path) {
        let is_in = reading == folder.as_bytes() || reading.starts_with(inner.as_bytes());
        ensure(is_in, &format!("it may be read as {}", reading.escape_ascii()))?;
    }
    Ok(())
}

#[test]
fn a_storage_key_stays_in_the_tenants_folder_however_it_is_read() {
    let rule = json!({ "name": "x-storage-key", "kind": "storage_key" });
    every_result_of(rule, 1_024, |_, result| is_inside(&[b"/", result].concat(), "/acme"));
}

#[test]
fn a_path_behind_a_prefix_stays_in_the_tenants_folder_and_none_leads_around_it() {
    for hazardous in ["reject", "protect"] {
        let mut world = world(json!({
            "paths": { "hazardous": hazardous },
            "scope": { "path": [{ "prefix": "/storage", "kind": "storage_path" }] },
        }));
        let mut dice = Dice(1);
        let (mut inside, mut elsewhere, mut refused) = (0, 0, 0);
        for _ in 0..2 * ROUNDS {
            let rest = value(&mut dice);
            let start: &[u8] = match dice.below(4) {
                0 => b"/",
                1 => b"/a/",
                _ => b"/storage/",
            };
            let sent = [start, &rest].concat();
            let Some(request) = passed(&mut world, &sent, None) else {
                refused += 1;
                continue;
            };
            let path = request.headers.get(":path").expect("a path").to_vec();
            let about = || format!("{} became {}", sent.escape_ascii(), path.escape_ascii());
            if path.starts_with(b"/storage/") {
                inside += 1;
                is_inside(&path, "/storage/acme").unwrap_or_else(|fault| panic!("{}: {fault}", about()));
                let length = path.iter().position(|byte| *byte == b'?').unwrap_or(path.len());
                assert!(length <= 1_024, "{}", about());
            } else {
                elsewhere += 1;
                assert_eq!(path, sent, "what is not scoped is not touched");
                for reading in readings(&path) {
                    let reading = reading.to_ascii_lowercase();
                    let is_storage = reading == b"/storage" || reading.starts_with(b"/storage/");
                    assert!(!is_storage, "{} may be read as {}", about(), reading.escape_ascii());
                }
            }
        }
        assert!(
            inside >= EACH && elsewhere >= EACH && refused >= EACH,
            "{inside} inside, {elsewhere} elsewhere, {refused} refused"
        );
        world.assert_healthy();
    }
}
