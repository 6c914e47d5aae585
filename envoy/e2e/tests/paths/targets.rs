//! Targets around public prefixes, protected paths and the routes of modules.

use std::collections::BTreeSet;

use fastrand::Rng;
use oracle::spelling;

/// Whatever the machine: always the same targets.
const SEED: u64 = 0x7061_7468;

const STARTS: [&str; 12] = [
    "/health",
    "/health/live",
    "/version/1.2",
    "/swagger/index.html",
    "/healthz",
    "/HEALTH",
    "/v1",
    "/v1/accounts",
    "/v1/transactions",
    "/v1/transactions/7",
    "/V1/Transactions/7",
    "/admin",
];

/// So many different targets: paths as they are, each with each spelling at its front, and others with
/// one or two spellings anywhere.
pub(crate) fn generated(count: usize) -> Vec<Vec<u8>> {
    let mut targets: BTreeSet<Vec<u8>> = STARTS.iter().map(|start| start.as_bytes().to_vec()).collect();
    for start in STARTS {
        targets.extend(spelling::ALL.iter().map(|spelling| spelling.of(start.as_bytes(), 1)));
    }
    let mut rng = Rng::with_seed(SEED);
    while targets.len() < count {
        let mut target = rng.choice(STARTS).unwrap_or_default().as_bytes().to_vec();
        for _ in 0..rng.usize(1..3) {
            let spelling = rng.choice(spelling::ALL).expect("there are some");
            target = spelling.of(&target, rng.usize(..64));
        }
        targets.insert(target);
    }
    let mut targets: Vec<_> = targets.into_iter().collect();
    rng.shuffle(&mut targets);
    targets
}
