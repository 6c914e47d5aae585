use serde_json::json;

use super::*;
use crate::config::{Plugin, compile};
use crate::telemetry::LookupFailure;
use crate::world::World;

fn config() -> Config {
    let document = json!({
        "version": "v1", "enabled": true, "service": "ledger",
        "auth": { "issuers": [{ "issuer": "i", "algorithms": ["HS256"], "jwks": { "inline": { "keys": [
            { "kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2Vj" }] } } }] },
        "tenant_manager": { "cluster": "tm", "authority": "tm", "api_keys": [{ "value": "one" }, { "value": "two" }], "timeout_ms": 1000 },
    });
    match compile(document.to_string().as_bytes(), &|_| None).map(|compiled| compiled.plugin) {
        Ok(Plugin::MultiTenant(config)) => *config,
        other => panic!("{other:?}"),
    }
}

fn acme() -> TenantId {
    TenantId::parse("acme", false).unwrap()
}

struct Fixture {
    config: Config,
    resolver: Resolver,
    world: World,
}

impl Fixture {
    fn new() -> Self {
        let config = config();
        let resolver = Resolver::new(config.tenant_manager.as_ref().unwrap());
        Self {
            config,
            resolver,
            world: World::default(),
        }
    }

    fn resolve(&mut self) -> Resolution {
        let manager = self.config.tenant_manager.as_ref().unwrap();
        self.resolver
            .resolve(manager, &acme(), || None, Now::of(&self.world), &self.world)
            .unwrap()
    }

    fn wait(&mut self) -> Wait {
        self.wait_for("acme")
    }

    fn wait_for(&mut self, tenant: &str) -> Wait {
        let tenant = TenantId::parse(tenant, false).unwrap();
        let manager = self.config.tenant_manager.as_ref().unwrap();
        match self
            .resolver
            .resolve(manager, &tenant, || None, Now::of(&self.world), &self.world)
            .unwrap()
        {
            Resolution::Wait(wait) => wait,
            known => panic!("{known:?}"),
        }
    }

    fn tick(&mut self) -> Option<u64> {
        self.resolver.tick(&self.world);
        self.resolver.due_ms()
    }

    fn answered(&mut self, lookup: LookupId, status: u16, body: &str) -> Answered {
        let answer = Answer::Http {
            status,
            body: Some(body.as_bytes()),
        };
        self.resolver.answered(&self.config, lookup, answer, &self.world)
    }
}

fn outcome(answered: Answered) -> Rc<Outcome> {
    match answered {
        Answered::Over {
            news: Some((_, Learned::Outcome(outcome))),
            ..
        } => outcome,
        other => panic!("{other:?}"),
    }
}

fn is_forgotten(answered: &Answered) -> bool {
    matches!(answered, Answered::Over { news: None, remarks } if remarks.is_empty())
}

fn api_key(callout: &Callout) -> &str {
    callout
        .headers
        .iter()
        .find(|(name, _)| *name == "x-api-key")
        .map(|(_, value)| value.as_str())
        .unwrap()
}

#[test]
fn one_lookup_serves_everyone_and_is_remembered() {
    let mut fixture = Fixture::new();
    let first = fixture.wait();
    let second = fixture.wait();
    assert!(first.begins.is_some() && second.begins.is_none());
    assert_eq!(first.deadline_ms, 1_500);
    let lookup = first.seat.lookup();
    drop(first);
    let callout = fixture.resolver.question(&fixture.config, lookup).expect("begins");
    assert_eq!(callout.timeout_ms, 1_000);
    assert!(
        fixture.resolver.question(&fixture.config, lookup).is_none(),
        "only once"
    );
    let found = outcome(fixture.answered(lookup, 200, r#"{"id":"acme"}"#));
    assert!(matches!(*found, Outcome::Found(_)));
    assert!(matches!(fixture.resolve(), Resolution::Known(_)));
    assert_eq!(*fixture.world.counted.borrow(), [Counter::TenantConnections]);
    assert_eq!(fixture.world.consumers.get(), 1);
    assert!(
        is_forgotten(&fixture.answered(lookup, 200, "{}")),
        "an answer counts once"
    );
}

#[test]
fn a_401_is_asked_again_with_the_other_key_in_what_is_left_of_the_time() {
    let mut fixture = Fixture::new();
    let lookup = fixture.wait().seat.lookup();
    let callout = fixture.resolver.question(&fixture.config, lookup).expect("begins");
    assert_eq!(api_key(&callout), "one");
    fixture.world.now_ms.set(400);
    let Answered::Again(callout) = fixture.answered(lookup, 401, "") else {
        panic!("again")
    };
    assert_eq!((api_key(&callout), callout.timeout_ms), ("two", 600));
    let refused = outcome(fixture.answered(lookup, 401, ""));
    assert_eq!(*refused, Outcome::Unavailable(LookupFailure::Unauthorized));
    assert_eq!(
        *fixture.world.counted.borrow(),
        [Counter::TenantConnectionErrors(LookupFailure::Unauthorized)]
    );
    let lookup = fixture.wait().seat.lookup();
    let callout = fixture.resolver.question(&fixture.config, lookup).expect("begins");
    assert_eq!(
        api_key(&callout),
        "one",
        "no key has worked, so none is preferred over the first"
    );
    assert!(matches!(fixture.answered(lookup, 401, ""), Answered::Again(_)));
    outcome(fixture.answered(lookup, 404, ""));
    let lookup = fixture.wait_for("globex").seat.lookup();
    let callout = fixture.resolver.question(&fixture.config, lookup).expect("begins");
    assert_eq!(api_key(&callout), "two", "the key that has worked is preferred");
}

#[test]
fn lookups_that_run_at_once_each_try_the_other_key() {
    let mut fixture = Fixture::new();
    let lookups: Vec<LookupId> = ["a", "b", "c"].map(|name| fixture.wait_for(name).seat.lookup()).into();
    for lookup in &lookups {
        let callout = fixture.resolver.question(&fixture.config, *lookup).expect("begins");
        assert_eq!(api_key(&callout), "one");
    }
    for lookup in &lookups {
        let Answered::Again(callout) = fixture.answered(*lookup, 401, "") else {
            panic!("again")
        };
        assert_eq!(api_key(&callout), "two");
        outcome(fixture.answered(*lookup, 404, ""));
    }
}

#[test]
fn a_401_that_comes_too_late_is_not_asked_again() {
    let mut fixture = Fixture::new();
    let lookup = fixture.wait().seat.lookup();
    fixture.resolver.question(&fixture.config, lookup).expect("begins");
    fixture.world.now_ms.set(1_000);
    outcome(fixture.answered(lookup, 401, ""));
}

#[test]
fn the_answer_table_is_kept() {
    use LookupFailure::{BadRecord, ServerError, Unauthorized, UnexpectedStatus, Unreachable};
    let http = |status, body: &'static str| Answer::Http {
        status,
        body: Some(body.as_bytes()),
    };
    let refused = |status: &str| Ok(Outcome::Refused { status: status.into() });
    for (answer, expected) in [
        (http(403, r#"{"status":"suspended"}"#), refused("suspended")),
        (http(403, r#"{"status":"purged"}"#), refused("purged")),
        (http(403, r#"{"status":"active"}"#), Ok(Outcome::AccessDenied)),
        (http(403, "<html>"), Ok(Outcome::AccessDenied)),
        (
            Answer::Http {
                status: 403,
                body: None,
            },
            Ok(Outcome::AccessDenied),
        ),
        (http(404, ""), Ok(Outcome::NotFound)),
        (http(422, ""), Ok(Outcome::NotProvisioned)),
        (http(200, ""), Err(BadRecord)),
        (http(200, r#"{"id":"other"}"#), Err(BadRecord)),
        (http(200, r#"{"id":"ACME"}"#), Err(BadRecord)),
        (
            Answer::Http {
                status: 200,
                body: None,
            },
            Err(BadRecord),
        ),
        (http(401, ""), Err(Unauthorized)),
        (http(400, ""), Err(UnexpectedStatus)),
        (http(429, ""), Err(UnexpectedStatus)),
        (http(204, ""), Err(UnexpectedStatus)),
        (http(302, ""), Err(UnexpectedStatus)),
        (http(0, ""), Err(UnexpectedStatus)),
        (http(500, ""), Err(ServerError)),
        (http(504, ""), Err(ServerError)),
        (Answer::Unreachable, Err(Unreachable)),
    ] {
        assert_eq!(lookup::outcome(answer, &acme(), &config()), expected, "{answer:?}");
    }
    assert!(matches!(
        lookup::outcome(http(200, "{}"), &acme(), &config()),
        Ok(Outcome::Found(_))
    ));
    let mut emitting = config();
    emitting.scope.emit.schema = crate::scope::HeaderName::parse("x-schema");
    assert_eq!(lookup::outcome(http(200, "{}"), &acme(), &emitting), Err(BadRecord));
}

#[test]
fn only_modules_that_some_path_belongs_to_are_kept() {
    let body = r#"{"id":"acme","databases":{"ledger":{},"other":{}}}"#;
    let answer = Answer::Http {
        status: 200,
        body: Some(body.as_bytes()),
    };
    let Ok(Outcome::Found(record)) = lookup::outcome(answer, &acme(), &config()) else {
        panic!("found")
    };
    let module = |name| crate::config::Module::new(name).unwrap();
    assert!(record.grants(&module("ledger")) && !record.grants(&module("other")));
}

#[test]
fn a_lookup_whose_answer_got_lost_is_forgotten() {
    let mut fixture = Fixture::new();
    let lost = fixture.wait();
    let due = fixture.tick().expect("a lookup to look after");
    fixture.world.now_ms.set(due);
    assert_eq!(fixture.tick(), None, "nothing is left to do");
    assert!(is_forgotten(&fixture.answered(lost.seat.lookup(), 200, "{}")));
}

#[test]
fn an_answer_that_proves_no_key_prefers_none() {
    let mut fixture = Fixture::new();
    let lookup = fixture.wait().seat.lookup();
    fixture.resolver.question(&fixture.config, lookup);
    assert!(matches!(fixture.answered(lookup, 401, ""), Answered::Again(_)));
    outcome(fixture.answered(lookup, 503, ""));
    assert_eq!(fixture.resolver.preferred_key, 0);
}

#[test]
fn each_kind_of_failure_is_complained_about_once_a_minute() {
    let mut fixture = Fixture::new();
    let mut complaint = |at_ms: u64, status: u16| {
        fixture.world.now_ms.set(at_ms);
        let lookup = fixture.wait_for(&format!("t{at_ms}")).seat.lookup();
        match fixture.answered(lookup, status, "") {
            Answered::Over { remarks, .. } => remarks,
            other => panic!("{other:?}"),
        }
    };
    let fails = |failure| vec![Remark::LookupsFail(failure)];
    assert_eq!(complaint(0, 500), fails(LookupFailure::ServerError));
    assert_eq!(complaint(1, 500), []);
    assert_eq!(complaint(2, 404), []);
    assert_eq!(complaint(3, 500), [], "a success in between changes nothing");
    assert_eq!(
        complaint(4, 429),
        fails(LookupFailure::UnexpectedStatus),
        "another kind"
    );
    assert_eq!(complaint(59_999, 500), []);
    assert_eq!(complaint(60_000, 500), fails(LookupFailure::ServerError));
}

#[test]
fn expired_records_leave_the_gauge_by_themselves() {
    let mut fixture = Fixture::new();
    let lookup = fixture.wait().seat.lookup();
    fixture.resolver.question(&fixture.config, lookup);
    fixture.answered(lookup, 200, r#"{"id":"acme"}"#);
    let due = fixture.tick().expect("something to sweep");
    fixture.world.now_ms.set(due);
    assert!(fixture.tick().is_some(), "still fresh");
    fixture.world.now_ms.set(120_000);
    assert_eq!(fixture.tick(), None, "nothing is left to do");
    assert_eq!(fixture.world.consumers.get(), 0);
}
