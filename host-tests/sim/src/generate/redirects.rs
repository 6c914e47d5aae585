//! Requests that the host sends through the filter again, after an internal redirect.

use super::Generator;
use crate::script::{Again, Credential, Op, Request};

/// Keys that a filter in front may add between two passes: of nobody, of another, of the tenant itself.
const ADDED: [(&str, &str); 8] = [
    ("x-redis-key", "session:2"),
    ("x-redis-key", "tenant:globex:session"),
    ("x-redis-key", "tenant:TENANT:session"),
    ("x-routing-key", "orders.globex"),
    ("x-storage-key", "globex/reports"),
    ("x-storage-key", "TENANT/reports"),
    ("x-tenant-id", "globex"),
    ("x-plain", "added"),
];

/// Where redirects lead.
const TARGETS: [&str; 10] = [
    "/v1/accounts/second",
    "/v1/accounts/second",
    "/v1/accounts/second",
    "/v1/transactions/second?page=2",
    "/health",
    "/storage/TENANT/second",
    "/storage/globex/second",
    "/storage/second",
    "/v1/%2e%2e/admin",
    "/elsewhere",
];

impl Generator {
    /// A request that comes next comes again, once or twice.
    pub(super) fn redirects(&mut self, request: &Request) {
        let tenant = match &request.credential {
            Credential::Token(token) => token.tenant.clone(),
            _ => "globex".to_owned(),
        };
        let (mut of, mut at_ms) = (request.id, self.now_ms);
        for _ in 0..self.rng.usize(1..=2) {
            // Long enough for most lookups, at times for an update or for the end of a record.
            at_ms += *self.one_of(&[1, 20, 20, 50, 50, 300, 3_000]);
            let path = self.one_of(&TARGETS).replace("TENANT", &tenant);
            let mut added = Vec::new();
            if self.happens(30) {
                let (name, value) = *self.one_of(&ADDED);
                added.push((name.to_owned(), value.replace("TENANT", &tenant)));
            }
            let id = self.id();
            self.does_at(at_ms, Op::Again(Again { of, id, path, added }));
            of = id;
        }
    }
}
