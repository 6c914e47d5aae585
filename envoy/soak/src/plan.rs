//! One request, made up by chance, with all that must be known to judge what becomes of it.

use fastrand::Rng;

use crate::population::{Population, Standing, TURNING_KEYS};

/// Headers of requests and what is done to them, as the configuration of the soak says.
pub(crate) const SCOPED: [(&str, &str, oracle::scoping::Kind); 4] = [
    ("x-routing-key", "routing_key", oracle::scoping::Kind::Routing),
    (
        "x-redis-key",
        "redis_key",
        oracle::scoping::Kind::Redis { pattern: false },
    ),
    ("x-storage-key", "storage_key", oracle::scoping::Kind::Storage),
    ("idempotency-key", "idempotency_key", oracle::scoping::Kind::Idempotency),
];
/// The prefix behind which paths are scoped.
pub(crate) const STORE: &str = "/storage";
/// Asks the upstream to answer with another tenant's key.
pub(crate) const LEAK: &str = "x-soak-leak";
/// Asks the upstream to take so many milliseconds.
pub(crate) const SLOW: &str = "x-soak-slow";
/// Tells the upstream whose request it is to be; `-` for nobody's.
pub(crate) const WHOSE: &str = "x-soak-whose";

/// A field line.
pub(crate) type Line = (String, Vec<u8>);

/// Who sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caller {
    /// A tenant, by its place, with a token that holds.
    Tenant(usize),
    /// The same, with a token by one of the turning keys.
    Turning {
        /// The tenant's place.
        tenant: usize,
        /// The key's place in [`TURNING_KEYS`].
        key: usize,
    },
    /// Somebody with a bad credential, by its place.
    Bad(usize),
}

/// Where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aim {
    /// To a protected path of the module.
    Module(&'static str),
    /// To the store.
    Store,
    /// To a public path.
    Public,
    /// To a path that is hazardous.
    Hazard,
}

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) caller: Caller,
    pub(crate) aim: Aim,
    pub(crate) method: &'static str,
    pub(crate) target: String,
    /// All but `host`.
    pub(crate) lines: Vec<Line>,
    pub(crate) body: Vec<u8>,
    pub(crate) is_chunked: bool,
    /// Whether the upstream is asked to leak.
    pub(crate) leaks: bool,
    /// Whether the client does not wait for the end.
    pub(crate) leaves: bool,
}

const ACCOUNTS: [&str; 3] = ["/v1/accounts", "/v1/accounts?limit=10", "/"];
const TRANSACTIONS: [&str; 2] = ["/v1/transactions", "/v1/transactions/7?x=/health"];
const STORES: [&str; 3] = ["/storage/reports/a.html", "/storage/a%20b?v=1", "/storage/t-00000/x"];
const PUBLICS: [&str; 3] = ["/health", "/version", "/swagger/index.html?tenant=x"];
/// Hazardous as they come, or once Envoy has normalised what it can.
const HAZARDS: [&str; 6] = [
    "/health/%252e%252e;a/v1",
    "/health%2f..%2fv1",
    "/v1/%252e%252e/health",
    "/health/%5c..",
    "/v1/%c0%ae%c0%ae/x",
    "/health%00",
];

/// Keys as callers write them; some of them cannot be scoped.
const KEYS: [(usize, &[u8]); 14] = [
    (0, b"orders.created"),
    (0, b"orders.t-00001"),
    (0, b"orders.*"),
    (0, b"a..b"),
    (1, b"session:42"),
    (1, b"tenant:t-00002:session"),
    (1, b"sess*"),
    (2, b"reports/a.html"),
    (2, b"/t-00003/x"),
    (2, b"a/../../t-00003/x"),
    (2, b"..%2ft-00003"),
    (3, b"7f3c-2b"),
    (3, b"tenant:t-00001:x"),
    (3, b"caf\xe9"),
];

/// What callers say who would like to be somebody else.
const SPOOFS: [(&str, &[u8]); 8] = [
    ("x-tenant-id", b"t-00001"),
    ("X-Tenant-Id", b"t-00002"),
    ("x_tenant_id", b"t-00003"),
    ("x.tenant.id", b"t-00004"),
    ("x-tenant-schema", b"public"),
    ("x-tenant-resolution", b"verified"),
    ("x--tenant-slug", b"root"),
    ("x-module", b"admin"),
];

impl Plan {
    /// A request by chance.
    pub(crate) fn new(people: &Population, dice: &mut Rng) -> Self {
        let caller = caller(people, dice);
        let (aim, target) = aim(dice);
        let mut lines = Vec::new();
        let credential = match caller {
            Caller::Tenant(tenant) => people.tenants[tenant].token.clone().into(),
            Caller::Turning { tenant, key } => people.tenants[tenant].turning[key].clone().into(),
            Caller::Bad(place) => people.bad[place].credential.clone(),
        };
        lines.extend(credential.map(|credential| ("authorization".to_owned(), credential)));
        for (name, value) in SPOOFS {
            if dice.u8(..) < 16 {
                lines.push((name.to_owned(), value.to_vec()));
            }
        }
        for _ in 0..dice.usize(..4) {
            let (header, value) = KEYS[dice.usize(..KEYS.len())];
            // Most callers know what a key looks like.
            let is_good = oracle::scoping::scoped(SCOPED[header].2, value, "t").is_some();
            if is_good || dice.u8(..) < 16 {
                lines.push((SCOPED[header].0.to_owned(), value.to_vec()));
            }
        }
        if dice.u8(..) < 8 {
            lines.push(("x-redis--key".to_owned(), b"tenant:t-00005:x".to_vec()));
        }
        let leaks = aim != Aim::Public && dice.u8(..) < 4;
        if leaks {
            lines.push((LEAK.to_owned(), b"1".to_vec()));
        }
        let is_swinging = |tenant: usize| people.tenants[tenant].standing == Standing::Swinging && aim != Aim::Public;
        // Streams that last while their tenant is suspended.
        let often = if matches!(caller, Caller::Tenant(tenant) if is_swinging(tenant)) {
            128
        } else {
            4
        };
        if dice.u8(..) < often {
            lines.push((SLOW.to_owned(), dice.u16(200..2_000).to_string().into_bytes()));
        }
        let whose = match (aim, caller) {
            (Aim::Public, _) | (_, Caller::Bad(_)) => "-",
            (_, Caller::Tenant(tenant) | Caller::Turning { tenant, .. }) => &people.tenants[tenant].id,
        };
        lines.push((WHOSE.to_owned(), whose.as_bytes().to_vec()));
        let has_body = dice.u8(..) < 48;
        let body = if has_body { body(dice) } else { Vec::new() };
        Self {
            caller,
            aim,
            method: if has_body { "POST" } else { "GET" },
            target: target.to_owned(),
            lines,
            body,
            is_chunked: dice.bool(),
            leaks,
            leaves: dice.u8(..) < 5,
        }
    }

    /// The tenant that its credential names, if that may hold.
    pub(crate) fn tenant(&self) -> Option<usize> {
        match self.caller {
            Caller::Tenant(tenant) | Caller::Turning { tenant, .. } => Some(tenant),
            Caller::Bad(_) => None,
        }
    }

    /// The module of its path.
    pub(crate) fn module(&self) -> &'static str {
        match self.aim {
            Aim::Module(module) => module,
            Aim::Store | Aim::Public | Aim::Hazard => "onboarding",
        }
    }
}

fn caller(people: &Population, dice: &mut Rng) -> Caller {
    match dice.u8(..100) {
        0..15 => Caller::Bad(dice.usize(..people.bad.len())),
        // The special ones are the first.
        15..35 => Caller::Tenant(dice.usize(..people.tenants.len().min(64))),
        35..45 => {
            let tenant = dice.usize(..people.tenants.len()) / 16 * 16;
            if people.tenants[tenant].turning.is_empty() {
                return Caller::Tenant(tenant);
            }
            let key = dice.usize(..TURNING_KEYS.len());
            Caller::Turning { tenant, key }
        }
        // Some are asked for much more often than others.
        45..75 => Caller::Tenant(dice.usize(..people.tenants.len().min(200))),
        _ => Caller::Tenant(dice.usize(..people.tenants.len())),
    }
}

fn aim(dice: &mut Rng) -> (Aim, &'static str) {
    fn one(of: &[&'static str], dice: &mut Rng) -> &'static str {
        of[dice.usize(..of.len())]
    }
    match dice.u8(..100) {
        0..5 => (Aim::Hazard, one(&HAZARDS, dice)),
        5..13 => (Aim::Public, one(&PUBLICS, dice)),
        13..25 => (Aim::Store, one(&STORES, dice)),
        25..50 => (Aim::Module("transaction"), one(&TRANSACTIONS, dice)),
        _ => (Aim::Module("onboarding"), one(&ACCOUNTS, dice)),
    }
}

fn body(dice: &mut Rng) -> Vec<u8> {
    let length = match dice.u8(..8) {
        0 => dice.usize(..65_536),
        1 | 2 => dice.usize(..8_192),
        _ => dice.usize(..256),
    };
    let first = dice.u8(..);
    (0..length).map(|at| first.wrapping_add(at.to_le_bytes()[0])).collect()
}
