use corpus::mint::Keys;
use serde_json::{Value, json};

use super::*;
use crate::world::World;

const SETTINGS: (u64, u64, u64) = (300_000, 3_600_000, 30_000);

fn settings() -> RemoteJwks {
    let (refresh_ms, max_stale_ms, unknown_kid_cooldown_ms) = SETTINGS;
    RemoteJwks {
        cluster: "idp".to_owned(),
        authority: "id.example.com".to_owned(),
        path: "/jwks".to_owned(),
        timeout_ms: 2_000,
        refresh_ms,
        max_stale_ms,
        unknown_kid_cooldown_ms,
    }
}

struct Fixture {
    keys: RemoteKeys,
    settings: RemoteJwks,
    world: World,
}

impl Fixture {
    fn new() -> Self {
        Self {
            keys: RemoteKeys::new(0),
            settings: settings(),
            world: World::default(),
        }
    }

    fn now_ms(&self) -> u64 {
        self.world.now_ms.get()
    }

    fn begin_due(&mut self) -> Option<FetchId> {
        self.keys.begin_due(&self.settings, self.world.now_ms.get())
    }

    fn question(&mut self, fetch: FetchId) -> Option<Callout> {
        self.keys.question(&self.settings, fetch.serial, &self.world)
    }

    fn prospect(&mut self, arrival: u64) -> Prospect {
        self.keys.prospect(&self.settings, arrival, self.world.now_ms.get())
    }

    fn answered(&mut self, fetch: FetchId, status: u16, body: &str) -> Option<News> {
        let answer = Answer::Http {
            retry_after_seconds: None,
            status,
            body: Some(body.as_bytes()),
        };
        let algorithms = [Algorithm::EdDsa, Algorithm::Es256];
        self.keys
            .answered(&self.settings, &algorithms, fetch.serial, answer, &self.world)
    }

    /// The next fetch that is due, answered with the set of these keys.
    fn fetch(&mut self, names: &[&str]) -> News {
        let fetch = self.begin_due().expect("due");
        self.answered(fetch, 200, &set(names)).expect("wanted")
    }

    fn fail(&mut self) -> News {
        let fetch = self.begin_due().expect("due");
        self.answered(fetch, 500, "").expect("wanted")
    }

    fn knows(&self, kid: &str) -> bool {
        self.keys.usable(self.now_ms()).is_some_and(|set| set.knows(kid))
    }
}

fn kind(news: &News) -> Option<FetchFailure> {
    news.failure.map(|failure| failure.kind)
}

fn set(names: &[&str]) -> String {
    Keys::shared().jwk_set(names).unwrap().to_string()
}

#[test]
fn the_first_fetch_is_due_at_once_and_there_is_one_at_a_time() {
    let mut fixture = Fixture::new();
    let fetch = fixture.begin_due().expect("due");
    assert_eq!(fixture.begin_due(), None);
    assert_eq!(fixture.prospect(1), Prospect::Wait, "tokens wait for it");
    let callout = fixture.question(fetch).expect("asked");
    assert_eq!((callout.cluster.as_str(), callout.timeout_ms), ("idp", 2_000));
    assert!(callout.headers.contains(&(":path", "/jwks".to_owned())));
    assert_eq!(fixture.question(fetch), None, "once");
    let news = fixture.answered(fetch, 200, &set(&["main-eddsa"])).expect("wanted");
    assert!(news.changed && news.failure.is_none());
    assert!(fixture.knows("main-eddsa"));
    assert!(fixture.answered(fetch, 200, &set(&["other-eddsa"])).is_none(), "once");
    assert!(!fixture.knows("other-eddsa"));
}

#[test]
fn a_set_is_fetched_anew_ahead_of_its_expiry_at_a_moment_of_the_workers_own() {
    for (random, due_ms) in [(0, 240_000), (u32::MAX / 2 + 1, 255_000), (u32::MAX, 269_999)] {
        let mut fixture = Fixture::new();
        fixture.world.random.set(random);
        fixture.fetch(&["main-eddsa"]);
        assert_eq!(fixture.keys.due_ms(), due_ms);
        fixture.world.pass(due_ms - 1);
        assert_eq!(fixture.begin_due(), None);
        fixture.world.pass(1);
        let news = fixture.fetch(&["main-eddsa"]);
        assert!(!news.changed, "the same keys");
    }
}

#[test]
fn failures_are_repeated_in_pauses_that_grow_up_to_ten_seconds() {
    let mut fixture = Fixture::new();
    fixture.world.random.set(u32::MAX);
    for expected_ms in [
        1_000, 2_000, 4_000, 8_000, 10_000, 10_000, 10_000, 10_000, 10_000, 10_000,
    ] {
        let before = fixture.now_ms();
        let news = fixture.fail();
        assert_eq!(kind(&news), Some(FetchFailure::ServerError));
        let pause_ms = fixture.keys.due_ms() - before;
        assert!((expected_ms - 1..=expected_ms).contains(&pause_ms), "{pause_ms}");
        assert_eq!(fixture.prospect(0), Prospect::Wait, "no token hurries it");
        fixture.world.pass(pause_ms);
    }
    fixture.world.random.set(0);
    fixture.fetch(&["main-eddsa"]);
    fixture.world.pass(240_000);
    fixture.fail();
    assert_eq!(
        fixture.keys.due_ms(),
        fixture.now_ms() + 500,
        "from the beginning, and half of it"
    );
}

#[test]
fn the_last_good_set_serves_until_max_stale_after_its_freshness() {
    let mut fixture = Fixture::new();
    fixture.fetch(&["main-eddsa"]);
    let end_ms = SETTINGS.0 + SETTINGS.1;
    while fixture.keys.due_ms() < end_ms {
        fixture.world.now_ms.set(fixture.keys.due_ms());
        fixture.fail();
        assert!(fixture.knows("main-eddsa"));
    }
    fixture.world.now_ms.set(end_ms - 1);
    assert!(fixture.knows("main-eddsa") && !fixture.keys.expire(end_ms - 1));
    fixture.world.now_ms.set(end_ms);
    assert!(!fixture.knows("main-eddsa"), "also before anybody has ticked");
    assert!(fixture.keys.expire(end_ms));
    assert!(!fixture.keys.expire(end_ms), "said once");
}

#[test]
fn an_unknown_kid_begins_one_fetch_per_cooldown() {
    let mut fixture = Fixture::new();
    fixture.fetch(&["main-eddsa"]);
    let arrival = fixture.keys.next_serial();
    let Prospect::Begin(fetch) = fixture.prospect(arrival) else {
        panic!("begins")
    };
    assert_eq!(
        fixture.prospect(fixture.keys.next_serial()),
        Prospect::Wait,
        "others join it"
    );
    fixture.answered(fetch, 200, &set(&["main-eddsa"]));
    assert_eq!(
        fixture.prospect(arrival),
        Prospect::None,
        "it began after the token came"
    );
    let later = fixture.keys.next_serial();
    assert_eq!(fixture.prospect(later), Prospect::None, "the cooldown");
    fixture.world.pass(SETTINGS.2 - 1);
    assert_eq!(fixture.prospect(later), Prospect::None);
    fixture.world.pass(1);
    assert!(matches!(fixture.prospect(later), Prospect::Begin(_)));
}

#[test]
fn a_fetch_that_began_before_the_token_came_proves_nothing() {
    let mut fixture = Fixture::new();
    fixture.fetch(&["main-eddsa"]);
    fixture.world.pass(290_000);
    let refresh = fixture.begin_due().expect("due");
    let arrival = fixture.keys.next_serial();
    assert_eq!(fixture.prospect(arrival), Prospect::Wait);
    fixture.answered(refresh, 200, &set(&["main-eddsa"]));
    let Prospect::Begin(fetch) = fixture.prospect(arrival) else {
        panic!("asks for itself")
    };
    fixture.answered(fetch, 200, &set(&["main-eddsa", "other-eddsa"]));
    assert!(fixture.knows("other-eddsa"));
}

#[test]
fn a_failed_fetch_proves_nothing_either() {
    let mut fixture = Fixture::new();
    fixture.fetch(&["main-eddsa"]);
    let arrival = fixture.keys.next_serial();
    let Prospect::Begin(fetch) = fixture.prospect(arrival) else {
        panic!("begins")
    };
    fixture.answered(fetch, 500, "");
    assert_eq!(fixture.prospect(arrival), Prospect::Wait, "for the next try");
    assert_eq!(
        fixture.prospect(fixture.keys.next_serial()),
        Prospect::Wait,
        "so does who comes now"
    );
    fixture.world.pass(1_000);
    fixture.fetch(&["main-eddsa", "other-eddsa"]);
    assert!(fixture.knows("other-eddsa"));
    assert_eq!(fixture.prospect(arrival), Prospect::None, "a good one does");
}

#[test]
fn a_fetch_whose_answer_got_lost_is_overdue_and_its_late_answer_is_not_taken() {
    let mut fixture = Fixture::new();
    let lost = fixture.begin_due().expect("due");
    fixture.world.pass(2_499);
    assert_eq!(fixture.keys.overdue(fixture.now_ms()), None);
    fixture.world.pass(1);
    assert_eq!(fixture.keys.overdue(fixture.now_ms()), Some(lost));
    let algorithms = [Algorithm::EdDsa];
    let news = fixture
        .keys
        .answered(
            &fixture.settings,
            &algorithms,
            lost.serial,
            Answer::Unreachable,
            &fixture.world,
        )
        .expect("wanted");
    assert_eq!(kind(&news), Some(FetchFailure::Unreachable));
    fixture.world.pass(1_000);
    fixture.fetch(&["main-eddsa"]);
    assert!(fixture.answered(lost, 200, &set(&["other-eddsa"])).is_none());
    assert!(fixture.knows("main-eddsa") && !fixture.knows("other-eddsa"));
}

#[test]
fn what_is_no_set_with_a_usable_key_is_a_failure() {
    let oct = json!({ "keys": [{ "kty": "oct", "kid": "o", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2Vj" }] })
        .to_string();
    let twice = r#"{"keys":[],"keys":[]}"#.to_owned();
    for (status, body, expected) in [
        (200, Some(String::new()), FetchFailure::BadSet),
        (200, Some("<html>".to_owned()), FetchFailure::BadSet),
        (200, Some("[]".to_owned()), FetchFailure::BadSet),
        (200, Some(r#"{"keys":{}}"#.to_owned()), FetchFailure::BadSet),
        (200, Some(r#"{"keys":[]}"#.to_owned()), FetchFailure::NoUsableKey),
        (200, Some(twice), FetchFailure::BadSet),
        (200, Some(oct), FetchFailure::NoUsableKey),
        (200, Some(set(&["main-rs256"])), FetchFailure::NoUsableKey),
        (200, None, FetchFailure::TooLarge),
        (204, None, FetchFailure::UnexpectedStatus),
        (302, None, FetchFailure::UnexpectedStatus),
        (404, None, FetchFailure::UnexpectedStatus),
        (0, None, FetchFailure::UnexpectedStatus),
        (503, None, FetchFailure::ServerError),
    ] {
        let body = body.as_ref().map(String::as_bytes);
        let answer = Answer::Http {
            status,
            retry_after_seconds: None,
            body,
        };
        let (set, _) = read(answer, &[Algorithm::EdDsa]);
        assert_eq!(
            set.err(),
            Some(expected),
            "{status} {}",
            body.unwrap_or_default().escape_ascii()
        );
    }
}

#[test]
fn a_key_that_cannot_be_used_is_told_when_it_is_seen_first() {
    let mut fixture = Fixture::new();
    let mut document = Keys::shared().jwk_set(&["main-eddsa"]).unwrap();
    let Value::Array(keys) = &mut document["keys"] else {
        panic!("a list")
    };
    keys.push(json!({ "kty": "oct", "kid": "shared", "k": "AAAA" }));
    let fetch = fixture.begin_due().unwrap();
    let news = fixture.answered(fetch, 200, &document.to_string()).unwrap();
    let told: Vec<_> = news.refused.iter().map(|key| (key.name.as_str(), key.reason)).collect();
    assert_eq!(told, [("shared", "a fetched set must not hold shared secrets")]);
    fixture.world.pass(270_000);
    let fetch = fixture.begin_due().unwrap();
    let news = fixture.answered(fetch, 200, &document.to_string()).unwrap();
    assert_eq!(news.refused, [], "not again");
    assert_eq!(fixture.world.counts(Counter::KeysRefused), 1);
}

#[test]
fn a_postponed_fetch_is_due_since_it_was_first() {
    let mut fixture = Fixture::new();
    for _ in 0..3 {
        assert!(matches!(fixture.prospect(0), Prospect::Begin(_)));
        let now_ms = fixture.now_ms();
        fixture.keys.postpone(now_ms);
        assert_eq!(fixture.keys.due_ms(), 0, "whoever comes later does not move it on");
        fixture.world.pass(1);
    }
    assert!(fixture.begin_due().is_some());
}
