//! What is left of an answer of the Tenant Manager once it has been handled: no password, neither in
//! anything that others can read nor in the linear memory of any VM.

use serde_json::{Value, json};
use tiny_envoy::Outcome;

use crate::world::{EVENTS_KEY, World, ms, with_events};

const WORKERS: usize = 3;
const API_KEY: &str = "planted-tenant-manager-key";
/// Every password begins like this, and its place follows.
const PASSWORD: &str = "planted-password-of-";
/// What is read of a record, so that the search finds something.
const SLUG: &str = "planted-slug";

/// One place for a credential after the other, each with one of its own.
struct Planter(u32);

impl Planter {
    fn plant(&mut self) -> String {
        self.0 += 1;
        format!("{PASSWORD}{}", self.0)
    }

    /// A record as Tenant Managers send them, and more.
    fn record(&mut self, tenant: &str) -> Value {
        let mut database = || {
            json!({
                "postgresql": {
                    "host": "db", "port": 5432, "username": self.plant(), "password": self.plant(), "schema": "s",
                    "uri": format!("postgres://u:{}@db/d", self.plant()),
                },
                "postgresqlReplica": { "password": self.plant() },
                "mongodb": { "uri": format!("mongodb://u:{}@mongo/d?replicaSet=rs", self.plant()), "password": self.plant() },
                "connectionSettings": { "maxOpenConns": 5, "password": self.plant(), "nested": [[{ "deep": self.plant() }]] },
            })
        };
        let databases = json!({ "onboarding": database(), "transaction": database(), "nobodys": database() });
        json!({
            "id": tenant, "tenantSlug": SLUG, "tenantName": "N", "status": "active", "isolationMode": "isolated",
            "databases": databases,
            "rabbitmq": { "onboarding": { "vhost": "v", "username": self.plant(), "password": self.plant() } },
            "messaging": { "rabbitmq": { "vhost": "w", "password": self.plant(), "uri": format!("amqp://u:{}@mq", self.plant()) } },
            "connectionSettings": { "password": self.plant() },
            "unknown": [self.plant(), { "unknown": self.plant() }],
            // With escapes in them a parser has to build the text somewhere.
            "escaped": format!("tab\t\"quoted\" \u{e9} {}", self.plant()),
            "password": self.plant(),
        })
    }
}

/// What the Tenant Manager says of each tenant, every answer full of passwords.
fn answers(planter: &mut Planter) -> Vec<(&'static str, Value)> {
    let refusal = |planter: &mut Planter| json!({ "status": "suspended", "error": planter.plant(), "record": planter.record("x") });
    let mut other = planter.record("somebody-else");
    other["tenantSlug"] = json!("s");
    let mut shapeless = planter.record("shapeless");
    shapeless["isolationMode"] = json!(7);
    let mut wrong_type = planter.record("wrong-type");
    wrong_type["databases"]["onboarding"]["postgresql"]["schema"] = json!({ "password": planter.plant() });
    wrong_type["rabbitmq"]["onboarding"]["vhost"] = json!([planter.plant()]);
    let cut = planter.record("cut").to_string();
    let cut = cut[..cut.len() - 30].to_owned();
    vec![
        ("acme", json!({ "record": planter.record("acme") })),
        ("other-id", json!({ "record": other })),
        ("shapeless", json!({ "record": shapeless })),
        ("wrong-type", json!({ "record": wrong_type })),
        ("cut", json!({ "body": cut })),
        (
            "reset",
            json!({ "record": planter.record("reset"), "fault": "reset_mid_body" }),
        ),
        (
            "large",
            json!({ "record": planter.record("large"), "pad_to_bytes": 1_000_000 }),
        ),
        (
            "too-large",
            json!({ "record": planter.record("too-large"), "pad_to_bytes": 1_048_577 }),
        ),
        ("suspended", json!({ "status": 403, "body": refusal(planter) })),
        ("barred", json!({ "status": 403, "body": { "error": planter.plant() } })),
        ("missing", json!({ "status": 404, "body": refusal(planter) })),
        ("empty", json!({ "status": 422, "body": refusal(planter) })),
        ("odd", json!({ "status": 400, "body": refusal(planter) })),
        ("moved", json!({ "status": 302, "body": refusal(planter) })),
        ("down", json!({ "status": 500, "body": refusal(planter) })),
        ("busy", json!({ "status": 429, "body": refusal(planter) })),
        ("locked", json!({ "status": 401, "body": refusal(planter) })),
    ]
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// Everything that somebody can read who is not the VM itself, by where it stands.
fn readable(world: &World) -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<(String, Vec<u8>)> = Vec::new();
    for (key, entry) in world.envoy.shared_data() {
        all.push(("a key of the shared data".to_owned(), key.clone()));
        all.push((format!("shared data {}", String::from_utf8_lossy(&key)), entry.value));
    }
    for line in world.envoy.logs() {
        all.push(("the log".to_owned(), line.message.into_bytes()));
    }
    for name in world.envoy.metrics().into_keys() {
        all.push(("the metrics".to_owned(), name.into_bytes()));
    }
    all
}

fn says(reply: Outcome) -> Vec<u8> {
    match reply {
        Outcome::Replied(reply) => [reply.body, format!("{:?}", reply.headers).into_bytes()].concat(),
        Outcome::Forwarded(request) => format!("{:?}", request.headers).into_bytes(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn after_every_answer_no_password_is_left_anywhere() {
    let mut planter = Planter(0);
    let answers = answers(&mut planter);
    let patch = json!({
        "tenant_manager": {
            "api_keys": [{ "value": API_KEY }], "breaker": { "threshold": 1000 },
            "discovery": { "path": "/tenants/active" },
        },
        "scope": { "emit": { "schema": "x-tenant-schema", "vhost": "x-tenant-vhost", "isolation_mode": "x-tenant-mode" } },
    });
    let mut world = World::start(&with_events(patch), |builder| builder.workers(WORKERS));
    for (tenant, answer) in &answers {
        world.answer(tenant, answer.clone());
    }
    for round in 0..2 {
        for (n, (tenant, _)) in answers.iter().enumerate() {
            let outcome = world.run_on(tenant, (n + round) % WORKERS);
            let said = says(outcome);
            assert!(!holds(&said, PASSWORD) && !holds(&said, API_KEY), "{tenant}");
            // Whatever pauses there are.
            world.envoy.advance(ms(11_000));
        }
        let event = json!({ "event_type": "tenant.updated", "tenant_id": "acme", "payload": { "x": EVENTS_KEY } });
        world.told(round, &event);
        world.envoy.advance(ms(1_000));
    }
    assert!(world.envoy.callouts().len() >= answers.len() + 5);
    for (place, bytes) in readable(&world) {
        for secret in [PASSWORD, API_KEY, EVENTS_KEY] {
            assert!(
                !holds(&bytes, secret),
                "{secret} in {place}: {}",
                String::from_utf8_lossy(&bytes)
            );
        }
    }
    for worker in 0..=WORKERS {
        let memory = world.envoy.memory(worker);
        let found: Vec<String> = memory
            .windows(PASSWORD.len())
            .enumerate()
            .filter(|(_, window)| *window == PASSWORD.as_bytes())
            .map(|(at, _)| String::from_utf8_lossy(&memory[at..memory.len().min(at + 40)]).into_owned())
            .collect();
        assert_eq!(found, Vec::<String>::new(), "in the memory of VM {worker}");
    }
    world.assert_healthy_but_for("/tenants/active");
}

#[test]
fn the_search_finds_what_is_there() {
    let patch = json!({ "tenant_manager": { "api_keys": [{ "value": API_KEY }] } });
    let mut world = World::start(&with_events(patch), |builder| builder.workers(WORKERS));
    let mut planter = Planter(0);
    world.answer("acme", json!({ "record": planter.record("acme") }));
    world.run_on("acme", 1).forwarded();
    world.told(1, &json!([]));
    // Keys are needed where they are used, and what is kept of a record is kept.
    for text in [API_KEY, EVENTS_KEY, SLUG] {
        assert!(holds(world.envoy.memory(1), text), "{text}");
    }
    assert!(
        !holds(world.envoy.memory(2), SLUG),
        "another worker has not heard of it"
    );
    let shared = readable(&world);
    assert!(shared.iter().any(|(_, bytes)| holds(bytes, SLUG)));
    // A password where a name belongs that is read is not a password any more: it is found.
    let mut record = planter.record("globex");
    record["tenantSlug"] = json!(planter.plant());
    world.answer("globex", json!({ "record": record }));
    world.run_on("globex", 2).forwarded();
    assert!(holds(world.envoy.memory(2), PASSWORD));
    assert!(readable(&world).iter().any(|(_, bytes)| holds(bytes, PASSWORD)));
}
