//! Requests of every kind, always the same ones.

use std::ops::Range;

use corpus::wire::Field;
use envoy_e2e::Message;
use fastrand::Rng;

use crate::answers::{self, Answer, EARLY_BYTES};

/// Whatever the machine: always the same requests.
const SEED: u64 = 0x6f66_6673;

/// How large a large body is: more than Envoy's buffers hold.
const LARGE_BYTES: usize = 200_000;

/// How large others are: one packet.
const BODY_BYTES: Range<usize> = 0..6_000;

const METHODS: &[&str] = &[
    "GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "PURGE", "TRACE",
];

const PATHS: &[&str] = &[
    "/",
    "/v1/accounts",
    "/v1/transactions/7?tenantId=acme&x=%00",
    "/health",
    "/health/../v1",
    "/swagger/index.html",
    "/storage/acme/a.txt",
    "/-/tenantgate/events",
    "//a//b",
    "/a/./b/..;/c",
    "/%2e%2e%2f%5c",
    "/a%00%zz%",
    "/\u{e4}",
    "/a?b?c=d/../e",
    "http://ledger.example.com/v1/absolute",
];

/// What is put into targets, some of which no server takes.
const PIECES: &[&[u8]] = &[
    b"%2F",
    b"%252e",
    b"..",
    b"/",
    b";x=1",
    b"?",
    b"#",
    b"\\",
    b"\xff",
    b"\xc3\xa4",
    b"\"",
    b"|",
    b"~",
    b"+",
    b"*",
    b"{}",
    b"\x7f",
    b" ",
];

/// Headers that an enforcing filter owns, scopes, reads or takes for one of these, and others.
const NAMES: &[&str] = &[
    "x-tenant-id",
    "X-Tenant-ID",
    "x-TENANT-slug",
    "x_tenant_id",
    "x.tenant.id",
    "X--Tenant--Id",
    "x-tenant-resolution",
    "x-user-id",
    "x-routing-key",
    "X-Routing-Key",
    "x-redis-key",
    "x-storage-key",
    "X_Storage_Key",
    "idempotency-key",
    "authorization",
    "Authorization",
    "x-api-key",
    "x-original-url",
    "x-rewrite-url",
    "X-HTTP-Method-Override",
    "x-envoy-original-url",
    "x-envoy-original-path",
    "x-request-id",
    "x-forwarded-for",
    "x-forwarded-proto",
    "forwarded",
    "traceparent",
    "cookie",
    "accept",
    "User-Agent",
    "content-type",
    "content-encoding",
    "range",
    "if-none-match",
    "expect",
    "te",
    "x-NoTe",
    "x-note",
];

const VALUES: &[&[u8]] = &[
    b"",
    b"a",
    b"acme",
    b"victim",
    b"acme/a/../b",
    b"Bearer a.b.c",
    b"bearer",
    b"application/grpc",
    b"application/json",
    b"a, b,,c",
    b"\"quoted\"; q=0.5",
    b"  padded\t",
    b"\xc3\xa4\xe2\x82\xac",
    b"\xff\xfe\x80",
    b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    b"2026-01-01 00:00:00 \\ %00 ${x} \x7e",
    b"trailers",
];

/// A request, whatever protocol it is sent over.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub(crate) method: &'static str,
    pub(crate) target: Vec<u8>,
    pub(crate) lines: Vec<Field>,
    pub(crate) body: Vec<u8>,
    pub(crate) chunked: bool,
    pub(crate) trailers: Vec<Field>,
    pub(crate) answer: &'static str,
}

impl Spec {
    /// As it is sent over HTTP/1.1.
    pub(crate) fn message(&self) -> Message {
        let message = Message::new(self.method, self.target.clone())
            .line(answers::NAME, self.answer)
            .lines(self.lines.clone())
            .body(self.body.clone())
            .trailers(self.trailers.clone());
        if self.chunked { message.chunked() } else { message }
    }

    /// The answer that it asks for.
    pub(crate) fn answer(&self) -> Answer {
        answers::named(self.answer)
    }

    fn new(method: &'static str, target: &str, answer: &'static str) -> Self {
        Self {
            method,
            target: target.into(),
            lines: Vec::new(),
            body: Vec::new(),
            chunked: false,
            trailers: Vec::new(),
            answer,
        }
    }

    fn line(mut self, name: &str, value: &str) -> Self {
        self.lines.push((name.into(), value.into()));
        self
    }
}

/// One request of each kind that there would be too few of by chance.
pub(crate) fn special() -> Vec<Spec> {
    let large = Spec {
        body: vec![b'L'; LARGE_BYTES],
        ..Spec::new("PUT", "/v1/large", "plain")
    };
    let early = Spec {
        body: vec![b'e'; EARLY_BYTES],
        ..Spec::new("POST", "/v1/early", "early")
    };
    let websocket = |target, answer| {
        Spec::new("GET", target, answer)
            .line("Connection", "keep-alive, Upgrade")
            .line("Upgrade", "websocket")
            .line("sec-websocket-version", "13")
            .line("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
    };
    vec![
        large,
        early.line("content-length", "4000"),
        Spec::new("OPTIONS", "*", "plain"),
        Spec::new("CONNECT", "elsewhere.example.com:443", "plain"),
        Spec::new("GET", "/v1/large", "large"),
        Spec::new("GET", "/v1/close", "plain").line("connection", "close"),
        Spec::new("GET", "/v1/hop", "odd")
            .line("connection", "keep-alive, x-tenant-id")
            .line("x-tenant-id", "a"),
        Spec::new("GET", "/v1/two-hosts", "plain")
            .line("host", "a.example.com")
            .line("host", "b.example.com"),
        Spec::new("POST", "/v1/two-lengths", "plain")
            .line("content-length", "1")
            .line("content-length", "2"),
        Spec::new("POST", "/v1/smuggled", "plain")
            .line("content-length", "4")
            .line("transfer-encoding", "chunked"),
        Spec::new("GET", "/v1/long", "plain").line("x-long", &"l".repeat(30_000)),
        Spec::new("GET", "/v1/too-long", "plain").line("x-long", &"l".repeat(70_000)),
        websocket("/v1/socket", "switched"),
        websocket("/health", "switched")
            .line("x-tenant-id", "a")
            .line("x-storage-key", "../a"),
        websocket("/v1/socket?refused", "refusal"),
        websocket("/v1/socket?ignored", "plain"),
        Spec::new("GET", "/v1/h2c", "plain")
            .line("connection", "upgrade, http2-settings")
            .line("upgrade", "h2c"),
    ]
}

/// So many different requests.
pub(crate) fn generated(count: usize) -> Vec<Spec> {
    let mut rng = Rng::with_seed(SEED);
    (0..count).map(|_| one(&mut rng)).collect()
}

fn one(rng: &mut Rng) -> Spec {
    // Every third is a GET.
    let method = if rng.u8(..3) == 0 { "GET" } else { choice(rng, METHODS) };
    let mut spec = Spec::new(method, choice(rng, PATHS), answer_to(method, rng));
    for _ in 0..rng.usize(..3) {
        if rng.bool() {
            let place = rng.usize(1..=spec.target.len());
            spec.target.splice(place..place, choice(rng, PIECES).iter().copied());
        }
    }
    spec.lines = some_lines(rng, 8);
    if !matches!(method, "GET" | "HEAD" | "TRACE") || rng.u8(..8) == 0 {
        spec.body = (0..rng.usize(BODY_BYTES)).map(|_| rng.u8(..)).collect();
        spec.chunked = rng.bool();
        if spec.chunked && rng.bool() {
            spec.trailers = some_lines(rng, 3);
        }
    }
    spec
}

/// An answer that no request after this one meets the end of.
fn answer_to(method: &str, rng: &mut Rng) -> &'static str {
    loop {
        let (name, answer) = choice(rng, answers::ALL);
        let fits_head = matches!(answer, Answer::Kept(bytes) if !bytes.starts_with(b"HTTP/1.1 1"));
        if method != "HEAD" || fits_head {
            return name;
        }
    }
}

/// Lines with names and values at random, some names more than once.
fn some_lines(rng: &mut Rng, most: usize) -> Vec<Field> {
    let mut lines: Vec<Field> = Vec::new();
    for _ in 0..rng.usize(..=most) {
        let again = lines.last().filter(|_| rng.u8(..4) == 0).map(|(name, _)| name.clone());
        let name = again.unwrap_or_else(|| choice(rng, NAMES).into());
        lines.push((name, choice(rng, VALUES).to_vec()));
    }
    lines
}

fn choice<T: Copy>(rng: &mut Rng, of: &[T]) -> T {
    *rng.choice(of).expect("there are some")
}
