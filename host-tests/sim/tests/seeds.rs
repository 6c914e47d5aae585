//! A fixed set of worlds, and worlds that once ended in a fault.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use tenantgate_sim::script::{Credential, Issuer, Op, Script, Token};
use tenantgate_sim::tally::Tally;
use tenantgate_sim::{generate, world};
use tiny_envoy::Plugin;

/// The seeds that are played every time.
const SEEDS: std::ops::Range<u64> = 1..101;

/// What must happen in them, and how often at least. A generator that does not get there any more proves
/// nothing.
const LEAST: [(&str, u64); 56] = [
    ("requests", 50_000),
    ("forwarded at once", 2_000),
    ("forwarded after waiting", 200),
    ("denied after waiting", 100),
    ("denied as gRPC", 100),
    ("denied: CIRCUIT_OPEN", 20),
    ("denied: INTERNAL_ERROR", 50),
    ("denied: KEYS_UNAVAILABLE", 5),
    ("denied: KEY_REJECTED", 20),
    ("denied: PATH_REJECTED", 50),
    ("denied: SERVICE_NOT_CONFIGURED", 10),
    ("denied: TENANT_ACCESS_DENIED", 20),
    ("denied: TENANT_ID_INVALID", 5),
    ("denied: TENANT_ID_REQUIRED", 50),
    ("denied: TENANT_LOOKUP_OVERLOADED", 20),
    ("denied: TENANT_MANAGER_UNAVAILABLE", 100),
    ("denied: TENANT_NOT_FOUND", 20),
    ("denied: TENANT_NOT_PROVISIONED", 20),
    ("denied: TENANT_RATE_LIMITED", 20),
    ("denied: TENANT_SCHEMA_INVALID", 20),
    ("denied: TENANT_SUSPENDED", 100),
    ("denied: TOKEN_INVALID", 100),
    ("calls: keys", 50),
    ("calls: lists of tenants", 20),
    ("calls: lookups", 500),
    ("circuit: opened", 10),
    ("circuit: probes", 20),
    ("bursts", 100),
    ("VMs killed", 10),
    ("configurations put in force", 10),
    ("configurations put in force worker by worker", 20),
    ("drains", 20),
    ("requests ended by a drain", 20),
    ("forwarded, though they would be denied", 500),
    ("would be denied: KEY_REJECTED", 10),
    ("would be denied: PATH_REJECTED", 20),
    ("would be denied: TENANT_SUSPENDED", 50),
    ("would be denied: TENANT_SCHEMA_INVALID", 10),
    ("responses", 1_000),
    ("responses that lost a scope", 50),
    ("responses withheld", 30),
    ("leaks that are only reported", 5),
    ("clients that left", 20),
    ("streams cut", 10),
    ("internal redirects", 100),
    ("internal redirects of what was scoped", 50),
    ("Tenant Manager: changes", 200),
    ("identity provider: changes", 10),
    ("events: EVENTS_MALFORMED", 1),
    ("events: EVENTS_UNAUTHORIZED", 5),
    ("events: cache.invalidate_all", 5),
    ("events: outdated", 3),
    ("events: tenant.activated", 10),
    ("events: tenant.suspended", 10),
    ("events: tenant.updated", 10),
    ("events: tenant.cache.invalidate", 3),
];

fn plugin() -> &'static Plugin {
    static PLUGIN: OnceLock<Plugin> = OnceLock::new();
    PLUGIN.get_or_init(|| world::filter().unwrap_or_else(|error| panic!("{error}")))
}

#[track_caller]
fn assert_sound(name: &str, script: &Script) -> Tally {
    let played = world::play(script, plugin(), false);
    if let Some(fault) = played.fault {
        let told = world::play(script, plugin(), true);
        let last = told.story.len().saturating_sub(200);
        panic!("{name}: {fault}\n{}", told.story[last..].join("\n"));
    }
    played.tally
}

#[test]
fn nothing_that_must_not_happen_happens_in_a_fixed_set_of_worlds() {
    let next = AtomicU64::new(SEEDS.start);
    let play = || {
        let mut tally = Tally::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if !SEEDS.contains(&seed) {
                return tally;
            }
            let name = format!("make sim SEED={seed}");
            let script = generate::attempt(seed).unwrap_or_else(|fault| panic!("{name}: {fault}"));
            tally.merge(&assert_sound(&name, &script));
        }
    };
    let tallies: Vec<Tally> = std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        let playing: Vec<_> = (0..threads).map(|_| scope.spawn(play)).collect();
        playing
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    let mut tally = Tally::default();
    for part in &tallies {
        tally.merge(part);
    }
    println!("{tally}");
    for (what, least) in LEAST {
        assert!(
            tally.of(what) >= least,
            "{what}: {} of at least {least}\n{tally}",
            tally.of(what)
        );
    }
}

#[test]
fn what_has_ended_in_a_fault_once_does_not_with_this_filter() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    let mut kept = 0;
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let text = std::fs::read_to_string(&path).expect("a script");
        let script: Script = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_sound(&path.display().to_string(), &script);
        kept += 1;
    }
    assert!(kept > 0, "there is one at least");
}

#[test]
fn a_seed_gives_the_same_world_again() {
    for seed in [3, 11] {
        let script = generate::script(seed);
        assert_eq!(script, generate::script(seed));
        let (one, other) = (
            world::play(&script, plugin(), true),
            world::play(&script, plugin(), true),
        );
        assert_eq!(one.story, other.story, "seed {seed}");
        assert_eq!(one.tally, other.tally, "seed {seed}");
    }
}

#[test]
fn a_script_that_is_kept_is_the_script_that_was_played() {
    let script = generate::script(5);
    let kept = serde_json::to_string(&script).expect("plain data");
    assert_eq!(serde_json::from_str::<Script>(&kept).expect("what was written"), script);
}

#[test]
fn a_world_that_breaks_off_is_told_as_far_as_it_came() {
    let mut script = generate::script(5);
    // No generator writes this: there is no such key.
    let Op::Request(request) = &mut script
        .ops
        .iter_mut()
        .rfind(|timed| matches!(timed.op, Op::Request(_)))
        .expect("one")
        .op
    else {
        unreachable!()
    };
    request.credential = Credential::Token(Token {
        tenant: "acme".to_owned(),
        issuer: Issuer::Remote(1_000),
        expires_s: 100_000,
        serial: 0,
        flaw: None,
    });
    let told = world::play(&script, plugin(), true);
    let fault = told.fault.expect("it breaks off");
    assert!(fault.what.starts_with("the world broke off: "), "{fault}");
    assert!(told.story.len() > 100, "{} lines", told.story.len());
}
