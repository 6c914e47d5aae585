//! What worlds are like.

use fastrand::Rng;

use crate::config::{DEFAULT_MODULE, ROUTED_MODULE};
use crate::script::{Answer, Edit, Keys, KeysAnswer, Knobs, Rate, Remote, Saying, Setup};

/// Names that begin like each other, or look like a scope.
const NAMES: [&str; 16] = [
    "acme",
    "globex",
    "eu-north",
    "acme-2",
    "initech",
    "eu-south",
    "acme_",
    "a",
    "umbrella",
    "tenant",
    "hooli",
    "eu-",
    "0",
    "ACME",
    "globex-eu-north",
    "x-tenant-id",
];

/// A world, and the tenants in it.
pub(super) fn any(rng: &mut Rng) -> (Setup, Vec<String>) {
    let many = rng.usize(2..=NAMES.len());
    let tenants: Vec<_> = NAMES[..many].iter().map(|name| (*name).to_owned()).collect();
    let sayings = tenants.iter().map(|name| (name.clone(), saying(rng))).collect();
    let knobs = knobs(rng);
    let mut configs = vec![knobs.clone()];
    let mut other = knobs;
    // The same for tenants, so that what is known is kept; then not.
    other.remembered_tokens = other.remembered_tokens.max(1) * 2;
    configs.push(other.clone());
    other.ttl_s += 1;
    other.reports ^= rng.u8(..) < 40;
    configs.push(other);
    let setup = Setup {
        host_seed: rng.u64(..),
        workers: *choice(rng, &[1, 2, 2, 3, 4]),
        holds_headers_only: rng.bool(),
        refuses: (rng.u8(..) < 14).then(|| *choice(rng, &[Edit::Remove, Edit::Set, Edit::Add])),
        configs,
        tenants: sayings,
        keys: Keys {
            answer: if rng.u8(..) < 200 {
                KeysAnswer::Set(vec![0])
            } else {
                KeysAnswer::Status(503)
            },
            delay_ms: rng.u64(1..40),
        },
    };
    (setup, tenants)
}

fn choice<'a, T>(rng: &mut Rng, all: &'a [T]) -> &'a T {
    &all[rng.usize(..all.len())]
}

/// A record in schema mode; the schemas are good ones and others.
pub(super) fn in_schema(rng: &mut Rng) -> Answer {
    let schema = *choice(rng, &["tenant_7", "tenant_7", "_x", "A", "", "7up", "a b", "a-b"]);
    Answer::Schema(
        vec![DEFAULT_MODULE.to_owned(), ROUTED_MODULE.to_owned()],
        schema.to_owned(),
    )
}

fn saying(rng: &mut Rng) -> Saying {
    let answer = match rng.u8(0..20) {
        0 => Answer::Refused(Some("suspended".to_owned())),
        1 => Answer::Inactive("pending".to_owned()),
        2 => Answer::Unknown,
        3 => Answer::Unprovisioned,
        4 => Answer::Active(vec![DEFAULT_MODULE.to_owned()]),
        5 | 6 => in_schema(rng),
        _ => Answer::Active(vec![DEFAULT_MODULE.to_owned(), ROUTED_MODULE.to_owned()]),
    };
    Saying {
        answer,
        delay_ms: *choice(rng, &[0, 1, 3, 10, 40]),
    }
}

fn knobs(rng: &mut Rng) -> Knobs {
    let ttl_s = *choice(rng, &[1, 2, 5, 10, 20]);
    let timeout_ms = *choice(rng, &[100, 300, 500, 2_000]);
    let is_small = rng.u8(..) < 50;
    Knobs {
        ttl_s,
        stale_s: *choice(rng, &[0, 1, 3, 10]),
        fallback_s: *choice(rng, &[0, 5, 30]),
        negative_s: *choice(rng, &[1, 2, 5]),
        max_entries: if is_small { rng.u64(1..6) } else { 10_000 },
        shared_slots: if is_small && rng.bool() {
            *choice(rng, &[64, 128])
        } else {
            16_384
        },
        timeout_ms,
        max_waiters: *choice(rng, &[8, 16, 64, 1_024, 1_024, 1_024]),
        threshold: *choice(rng, &[1, 2, 3, 5, 5, 10]),
        open_s: *choice(rng, &[1, 2, 5]),
        two_api_keys: rng.bool(),
        allows_unverified: rng.u8(..) < 30,
        leeway_s: *choice(rng, &[0, 5, 60]),
        remembered_tokens: *choice(rng, &[0, 4, 10_000, 10_000]),
        remote: rng.bool().then(|| Remote {
            timeout_ms: *choice(rng, &[100, 500]),
            refresh_s: *choice(rng, &[10, 20, 60]),
            max_stale_s: *choice(rng, &[10, 60, 600]),
            cooldown_s: *choice(rng, &[1, 5, 30]),
        }),
        rate: (rng.u8(..) < 50).then(|| Rate {
            per_second: *choice(rng, &[2, 10, 50]),
            burst: *choice(rng, &[3, 10, 100]),
        }),
        discovery_s: (rng.u8(..) < 30).then(|| *choice(rng, &[2, 5, 20])),
        required_key: rng.u8(..) < 20,
        cuts_streams: rng.bool(),
        reports: rng.u8(..) < 25,
        guards: rng.bool(),
    }
}
