//! What clients send.

use super::Generator;
use crate::config::TRACE;
use crate::script::{Credential, Flaw, Issuer, Request, Token};
use crate::tokens::{REMOTE_KEYS, REMOTE_PREFIX, REMOTE_TENANT};

/// Targets, most of them harmless.
const PATHS: [&str; 20] = [
    "/v1/accounts",
    "/v1/accounts",
    "/v1/accounts",
    "/v1/accounts",
    "/v1/accounts/1?x=/../2",
    "/v1/transactions",
    "/v1/transactions/9?page=2",
    "/v1/transactionsx",
    "/storage/a/b.txt",
    "/storage",
    "/storage/x?y=1",
    "/health",
    "/health/live?x",
    "/healthz",
    "/version",
    "/v1/../admin",
    "/v1/%2e%2e/admin",
    "/health%2f..%2fv1",
    "/v1\\accounts",
    "/",
];

/// Headers that only the filter may say, that look like them, or that it scopes.
const SPOOFED: [(&str, &str); 18] = [
    ("x-tenant-id", "globex"),
    ("X-Tenant-Id", "acme"),
    ("x_tenant_id", "globex"),
    ("x-tenant--id", "globex"),
    ("x-tenant-slug", "answer-1"),
    ("x-tenant-anything", "1"),
    ("x.tenant.module", "transaction"),
    ("x-tenant-resolution", "verified"),
    ("x-original-url", "/v1/admin"),
    ("x-rewrite-url", "/v1/admin"),
    ("x-http-method-override", "DELETE"),
    ("x_routing_key", "spoofed.globex"),
    ("x-redis.key", "tenant:globex:x"),
    ("x-plain", "stays"),
    ("x-organization-id", "globex"),
    ("traceparent", TRACE),
    (
        "traceparent",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-planted-trace",
    ),
    ("cookie", "session=planted-cookie"),
];

const KEYS: [(&str, &str); 18] = [
    ("x-routing-key", "orders.created"),
    ("x-routing-key", "orders.globex"),
    ("x-routing-key", "a"),
    ("x-routing-key", "a..b"),
    ("x-routing-key", "a.#"),
    ("x-binding-key", "orders.*"),
    ("x-binding-key", "#"),
    ("x-binding-key", "a*"),
    ("x-redis-key", "session:1"),
    ("x-redis-key", "tenant:globex:session"),
    ("x-redis-key", "a*"),
    ("x-storage-key", "reports/a.html"),
    ("x-storage-key", "/globex/a"),
    ("x-storage-key", "../globex/a"),
    ("x-storage-key", "a%2fb"),
    ("x-storage-key", "///"),
    ("x-idempotency", "once-1"),
    ("x-idempotency", "tenant:globex:1"),
];

/// Keys that every tenant can have.
const GOOD_KEYS: [(&str, &str); 4] = [
    ("x-routing-key", "orders.created"),
    ("x-redis-key", "session:1"),
    ("x-storage-key", "reports/a.html"),
    ("x-idempotency", "once-2"),
];

/// What the service behind is to say in its response: keys of the tenant, of another, of nobody.
const ANSWERS: [&str; 8] = [
    "x-storage-key=TENANT/reports/a",
    "x-storage-key=TENANT/reports/a",
    "x-storage-key=globex/reports/a",
    "x-storage-key=plain",
    "x-redis-key=tenant:TENANT:session",
    "x-redis-key=tenant:TENANT:tenant:globex:session",
    "x-redis-key=tenant:globex:session",
    "x-redis-key=session",
];

/// Types of bodies, of gRPC and like it.
const GRPC: [&str; 3] = ["application/grpc", "application/grpc+proto", "application/grpc-web"];

const METHODS: [&str; 6] = ["GET", "GET", "GET", "POST", "PUT", "OPTIONS"];

/// `authorization` that is no credential.
const UNUSABLE: [&str; 5] = ["", "Bearer", "Basic dTpw", "Bearer a, Bearer b", "Bearer \ta"];

/// Well-formed, and no token.
const GARBAGE: [&str; 3] = ["Bearer x", "Bearer a.b.c", "bearer eyJhbGciOiJub25lIn0.e30."];

const FLAWS: [Flaw; 10] = [
    Flaw::OthersKey,
    Flaw::FlippedSignature,
    Flaw::Unsigned,
    Flaw::UnknownKid,
    Flaw::UnknownIssuer,
    Flaw::NotYet,
    Flaw::Endless,
    Flaw::NoTenant,
    Flaw::BadTenant,
    Flaw::OthersKey,
];

impl Generator {
    /// A request, most probably a good one.
    pub(super) fn request(&mut self) -> Request {
        let tenant = self.tenant();
        self.request_of(&tenant)
    }

    /// A request of a tenant, most probably a good one.
    pub(super) fn request_of(&mut self, tenant: &str) -> Request {
        let credential = self.credential(tenant);
        let is_plain = self.happens(70);
        let path = if is_plain { PATHS[0] } else { *self.one_of(&PATHS) };
        let mut headers: Vec<(String, String)> = Vec::new();
        let mut adds = |(name, value): &(&str, &str)| headers.push(((*name).to_owned(), (*value).to_owned()));
        if self.happens(30) {
            adds(self.one_of(&GOOD_KEYS));
        }
        if self.happens(20) {
            for _ in 0..self.rng.usize(1..4) {
                adds(self.one_of(&SPOOFED));
            }
        }
        if self.happens(8) {
            adds(self.one_of(&KEYS));
        }
        if self.setup.configs[0].required_key && self.happens(90) {
            adds(&("x-idempotency", "once-3"));
        }
        if self.happens(8) {
            let line = self.one_of(&ANSWERS).replace("TENANT", tenant);
            adds(&("x-answer", line.as_str()));
        }
        if self.happens(5) {
            adds(&("content-type", *self.one_of(&GRPC)));
        }
        let body = match self.rng.u8(0..10) {
            0 => self.rng.usize(1..3_000),
            1 => 1,
            _ => 0,
        };
        let mut trailers = Vec::new();
        if self.happens(4) {
            let (name, value) = *self.one_of(&SPOOFED);
            trailers.push((name.to_ascii_lowercase(), value.to_owned()));
            if self.happens(50) {
                let (name, value) = *self.one_of(&KEYS);
                trailers.push((name.to_owned(), value.to_owned()));
            }
        }
        Request {
            id: self.id(),
            worker: self.worker(),
            method: (*self.one_of(&METHODS)).to_owned(),
            path: path.to_owned(),
            credential,
            headers,
            body,
            trailers,
            stays_open: false,
        }
    }

    fn credential(&mut self, tenant: &str) -> Credential {
        match self.rng.u8(0..100) {
            0..=1 => Credential::Absent,
            2 => Credential::Unusable((*self.one_of(&UNUSABLE)).to_owned()),
            3 => Credential::Garbage((*self.one_of(&GARBAGE)).to_owned()),
            4 => Credential::Twice(self.token(tenant)),
            5..=11 => {
                // Half of them name somebody whom no good token names: nobody may hear of him.
                let mut token = self.token(tenant);
                if self.happens(50) {
                    token.tenant = format!("ghost-{}", self.rng.u8(..));
                }
                token.flaw = Some(*self.one_of(&FLAWS));
                if token.issuer == Issuer::Secret && token.tenant != "globex" && self.happens(10) {
                    token.flaw = Some(Flaw::OtherClaims);
                }
                Credential::Token(token)
            }
            _ => Credential::Token(self.token(tenant)),
        }
    }

    /// A good token, unless it is over.
    pub(super) fn token(&mut self, tenant: &str) -> Token {
        let may_be_remote = tenant == REMOTE_TENANT || tenant.starts_with(REMOTE_PREFIX);
        let has_remote = self.setup.configs[0].remote.is_some();
        let issuer = if has_remote && may_be_remote && self.happens(60) {
            // Some are older than the last rotation, or newer than the set.
            let is_other = self.happens(25);
            Issuer::Remote(if is_other {
                self.rng.usize(..REMOTE_KEYS.len())
            } else {
                self.signing
            })
        } else if self.happens(10) {
            Issuer::Inline
        } else {
            Issuer::Secret
        };
        let now_s = i64::try_from(self.now_ms / 1_000).expect("a world is short");
        let leeway_s = i64::try_from(self.setup.configs[0].leeway_s).expect("a small number");
        let mut serial = self.rng.u8(0..6);
        let expires_s = match self.rng.u8(0..100) {
            // Over in a moment, or for a moment.
            0..3 => now_s - leeway_s + self.rng.i64(-1..3),
            // The same again and again, until it is over and after that.
            3..12 => {
                serial = 0;
                (now_s - leeway_s).div_euclid(4) * 4 + self.rng.i64(0..2) * 4
            }
            _ => 100_000,
        };
        let flaw = (matches!(issuer, Issuer::Secret | Issuer::Inline) && self.happens(2)).then_some(Flaw::NoKid);
        let mut token = Token {
            tenant: tenant.to_owned(),
            issuer,
            expires_s,
            serial,
            flaw,
        };
        if has_remote && !may_be_remote && self.happens(2) {
            token.issuer = Issuer::Remote(self.signing);
            token.flaw = Some(Flaw::ForeignTenant);
        }
        token
    }
}
