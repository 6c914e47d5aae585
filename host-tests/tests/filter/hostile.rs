//! A life under hostile input: thousands of generated requests and answers, and no trap.

use corpus::case::{Damage, Made};
use serde_json::json;
use tiny_envoy::{Answer, HeaderMap, Outcome, PeerRequest};

use crate::dice::Dice;
use crate::world::{World, config, forwarded_for, ms};

/// One run per seed; a failure names its seed and request.
const SEEDS: u64 = 3;
const REQUESTS: u64 = 1_000;

const NAMES: &[&str] = &[
    "x-tenant-id",
    "X-Tenant-Id",
    "x_tenant_id",
    "x-tenant--id",
    "x-tenant-slug",
    "x-redis-key",
    "x_redis_key",
    "x-routing-key",
    "x-storage-key",
    "content-type",
    "content-length",
    "transfer-encoding",
    "te",
    "connection",
    "upgrade",
    "cookie",
    "x-request-id",
    "traceparent",
    "host",
    ":path",
    ":method",
    ":authority",
    ":protocol",
    "x-original-url",
    "x-http-method-override",
    "authorization",
    "Authorization",
    "",
    " ",
    "x-forwarded-for",
    "x-envoy-original-path",
];

const VALUES: &[&str] = &[
    "acme",
    "globex",
    "application/grpc",
    "application/json",
    "trailers",
    "Upgrade",
    "websocket",
    "x-tenant-id",
    ",",
    " ",
    "\t",
    "chunked",
    "Bearer",
    "bearer ",
    "Basic ",
    ".",
    "..",
    "/",
    "%2e",
    "%00",
    "*",
    "#",
    "\0",
    "\r\n",
    "é",
    "a",
    "{",
    "\"",
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "-1",
    "18446744073709551616",
];

const TARGET: &[&str] = &[
    "/",
    "/health",
    "/version",
    "/swagger",
    "/v1",
    "/transactions",
    "accounts",
    "..",
    ".",
    "%2e",
    "%2E%2e",
    "%252e",
    "%2f",
    "%5c",
    "\\",
    ";",
    "?",
    "#",
    "%",
    "%zz",
    "%c0%ae",
    "//",
    "http://",
    "tiny.example",
    "*",
    "\0",
    "%00",
    "é",
    "=",
    "&",
    " ",
];

const METHODS: &[&str] = &[
    "GET", "POST", "OPTIONS", "CONNECT", "TRACE", "get", "", "G\0T", "PROPFIND",
];

/// What the Tenant Manager answers about anybody but `acme`.
fn nonsense(dice: &mut Dice) -> Answer {
    const STATUSES: &[&u16] = &[
        &200, &200, &200, &204, &302, &400, &401, &403, &404, &422, &429, &500, &503, &999,
    ];
    const JSON: &[&str] = &[
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\"",
        "\"id\"",
        "\"status\"",
        "\"databases\"",
        "\"onboarding\"",
        "null",
        "true",
        "1e999",
        "-0",
        "\\ud800",
        "\"isolationMode\"",
        "\"schema\"",
        "{}",
        " ",
    ];
    let body = match dice.below(4) {
        0 => dice.bytes(200),
        1 => "[".repeat(dice.below(100_000)).into_bytes(),
        _ => dice.woven(JSON, 40),
    };
    let answer = Answer::status(*dice.pick(STATUSES)).body(body);
    let answer = match dice.below(8) {
        0 => answer.reset_mid_body(),
        1 => Answer::close_before_headers(),
        2 => Answer::no_endpoints(),
        3 => Answer::silence(),
        _ => answer,
    };
    answer.after(ms(dice.roll() % 700))
}

fn hostile_world(seed: u64) -> World {
    let mut dice = Dice(!seed);
    World::start(
        &config(json!({ "tenant_manager": { "max_waiters": 16 } })),
        move |builder| {
            builder
                .workers(2)
                .allow_on_headers_stop_iteration(seed % 2 == 1)
                .cluster("tenant-manager", move |request: &PeerRequest| {
                    if request.path() == "/tenants/acme/services/ledger/settings" {
                        Answer::json(
                            200,
                            r#"{ "id": "acme", "databases": { "onboarding": {}, "transaction": {} } }"#,
                        )
                    } else {
                        nonsense(&mut dice)
                    }
                })
        },
    )
}

/// The credential, and the tenant in whose name it may pass.
fn credential(world: &World, dice: &mut Dice) -> (Vec<u8>, Option<String>) {
    let tenant = dice
        .pick(&["acme", "acme", "acme", "acme", "globex", "t1", "t2", "A-b_9"])
        .to_owned();
    let made = Made {
        tenant: Some(tenant.clone()),
        key: Some(dice.pick(&["main-hs256", "main-hs256", "main-eddsa"]).to_owned()),
        ..Made::default()
    };
    match dice.below(6) {
        0 => (dice.bytes(300), None),
        1 => (
            dice.woven(&["Bearer ", "eyJhbGciOiJub25lIn0", ".", "e30", "=", "A", "-", "_"], 12),
            None,
        ),
        2 => {
            let damage = dice.pick(&[
                &Damage::FlipSignature,
                &Damage::DropSignature,
                &Damage::AddPart,
                &Damage::Pad,
            ]);
            (
                world.bearer_of(Made {
                    damage: Some(*damage),
                    ..made
                }),
                None,
            )
        }
        3 => {
            let claims = dice.woven(
                &["{", "}", "\"tenantId\"", ":", "\"acme\"", ",", "\"exp\"", "$NOW+9"],
                20,
            );
            // Each character of raw claims is a byte.
            let claims = claims.into_iter().map(char::from).collect();
            (
                world.bearer_of(Made {
                    raw_claims: Some(claims),
                    ..made
                }),
                None,
            )
        }
        _ => (world.bearer_of(made), Some(tenant)),
    }
}

/// A field line; a tame one leaves credential, target and framing alone.
fn field(dice: &mut Dice, is_tame: bool) -> (Vec<u8>, Vec<u8>) {
    let name = if dice.one_in(3) {
        dice.bytes(20)
    } else {
        dice.pick(NAMES).as_bytes().to_vec()
    };
    let is_credential = name.eq_ignore_ascii_case(b"authorization");
    let is_wild = name.starts_with(b":") || name.iter().any(|byte| !byte.is_ascii_graphic());
    if is_tame && (is_credential || is_wild || name.is_empty() || folded(&name).ends_with("-key")) {
        return (b"x-tenant-tame".to_vec(), dice.bytes(40));
    }
    // Words only: a random value must not happen to be the one credential that holds.
    let value = if is_credential || dice.one_in(2) {
        dice.woven(VALUES, 4)
    } else {
        dice.bytes(40)
    };
    (name, value)
}

/// Whether a request with this target may pass without a tenant. Of an absolute-form target the
/// path counts.
fn is_public(target: &str) -> bool {
    let in_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    let path = target.split('?').next().unwrap_or_default();
    let path = match path.split_once("://") {
        Some((scheme, rest)) if scheme.chars().all(in_scheme) => rest.find('/').map_or("", |at| &rest[at..]),
        _ => path,
    };
    ["/health", "/version", "/swagger"]
        .iter()
        .filter_map(|prefix| path.strip_prefix(prefix))
        .any(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A name as the next hop may read it.
fn folded(name: &[u8]) -> String {
    let mut folded = String::new();
    for byte in name {
        let byte = if byte.is_ascii_alphanumeric() {
            char::from(byte.to_ascii_lowercase())
        } else {
            '-'
        };
        if byte != '-' || !folded.ends_with('-') {
            folded.push(byte);
        }
    }
    folded
}

/// Nothing but what the filter has set says a tenant.
#[track_caller]
fn assert_sanitized(about: &str, fields: &HeaderMap, tenant: Option<&str>) {
    for (name, value) in fields.iter().filter(|(name, _)| folded(name).starts_with("x-tenant-")) {
        assert_eq!(
            (name, Some(value)),
            (b"x-tenant-id".as_slice(), tenant.map(str::as_bytes)),
            "{about}"
        );
    }
}

#[test]
fn no_request_and_no_answer_makes_it_trap_or_pass_a_tenant_that_was_not_proven() {
    let (mut forwarded, mut refused) = (0, 0);
    for seed in 0..SEEDS {
        let mut world = hostile_world(seed);
        let mut dice = Dice(seed);
        for n in 0..REQUESTS {
            let (credential, tenant) = credential(&world, &mut dice);
            let method = if dice.one_in(4) { dice.pick(METHODS) } else { "POST" };
            let target = if dice.one_in(3) {
                dice.woven(TARGET, 8)
            } else {
                b"/v1/accounts".to_vec()
            };
            let worker = dice.below(2);
            let mut request = world.envoy.request(method, &target).worker(worker);
            let count = if dice.one_in(100) { 1_100 } else { dice.below(12) };
            let is_tame = dice.one_in(3);
            for _ in 0..count {
                let (name, value) = field(&mut dice, is_tame);
                request = request.header(name, value);
            }
            request = request.header("authorization", credential);
            if dice.one_in(3) {
                request = request.body(dice.bytes(64));
            }
            if dice.one_in(4) {
                request = request
                    .trailer(dice.pick(NAMES), dice.bytes(20))
                    .trailer("x-tenant-id", "globex");
            }
            if dice.one_in(50) {
                request = request.without_header(dice.pick(&[":path", ":method", ":authority"]));
            }
            let stream = request.send();
            if dice.one_in(10) {
                world.envoy.settle();
                world.envoy.disconnect(stream);
            }
            let about = format!("seed {seed}, request {n}");
            match world.envoy.decide(stream) {
                Outcome::Forwarded(request) => {
                    forwarded += 1;
                    let ids = request.headers.get_all("x-tenant-id");
                    let set = ids.first().map(|id| String::from_utf8_lossy(id).into_owned());
                    assert!(ids.len() <= 1, "{about}: {request:?}");
                    assert!(set.is_none() || set == tenant, "{about}: {request:?}");
                    assert!(set.is_some() || is_public(&request.path()), "{about}: {request:?}");
                    assert_sanitized(&about, &request.headers, set.as_deref());
                    assert_sanitized(&about, &request.trailers, None);
                }
                Outcome::Replied(_) => {
                    refused += 1;
                    assert!(world.envoy.upstream_saw(stream).is_none(), "{about}");
                }
                Outcome::Gone => {}
                Outcome::Pending => panic!("{about} is never decided"),
            }
            assert!(world.envoy.deaths().is_empty(), "{about}: {:#?}", world.envoy.deaths());
        }
        world.envoy.advance(ms(600_000));
        assert_eq!(world.envoy.pending(), []);
        assert_eq!(forwarded_for(world.run("acme")), "acme");
        assert_eq!(world.envoy.metric("tenant_consumers_active"), Some(1), "seed {seed}");
        world.assert_healthy();
    }
    assert!(
        forwarded > 100 && refused > 100,
        "a fair share of each: {forwarded} forwarded, {refused} refused"
    );
}

#[test]
fn extreme_heads_are_decided() {
    let mut world = hostile_world(0);
    let bearer = world.bearer("acme");
    let long = vec![b'a'; 1 << 20];
    let good = |world: &mut World| {
        let request = world.envoy.get("/v1/accounts").header("authorization", &bearer);
        assert_eq!(forwarded_for(request.run()), "acme");
    };
    good(&mut world);
    let reply = world.envoy.get("").run().replied();
    assert_eq!(reply.status, 401, "an empty path is protected");
    let reply = world
        .envoy
        .get("/v1/accounts")
        .header("authorization", &long)
        .run()
        .replied();
    assert_eq!(reply.status, 401);
    let with_long_target = world.envoy.get([b"/".as_slice(), &long].concat());
    with_long_target.header("authorization", &bearer).run().forwarded();
    let long_key = world
        .envoy
        .get("/v1/accounts")
        .header("authorization", &bearer)
        .header("x-redis-key", &long)
        .run();
    assert_eq!(long_key.replied().status, 400);
    let mut many = world.envoy.get("/v1/accounts").header("authorization", &bearer);
    for n in 0..1_100 {
        many = many
            .header(format!("x-tenant-{n}"), "globex")
            .header(format!("x-{n}"), "kept");
    }
    let request = many.run().forwarded();
    assert_sanitized("many headers", &request.headers, Some("acme"));
    assert_eq!(request.headers.get_all("x-1099"), [b"kept"]);
    good(&mut world);
    world.envoy.assert_alive();
}
