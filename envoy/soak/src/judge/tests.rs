use fastrand::Rng;

use super::*;
use crate::population::SPECIAL;

/// A world in which nothing happens.
fn world() -> (Population, History) {
    let people = Population::new(80, 3_600, 1_800_000_000).expect("tokens");
    (people, History::default())
}

fn plan(people: &Population, caller: Caller, aim: Aim, target: &str) -> Plan {
    let mut plan = Plan::new(people, &mut Rng::with_seed(1));
    plan.caller = caller;
    plan.aim = aim;
    plan.target = target.to_owned();
    plan.lines = vec![("x-redis-key".to_owned(), b"a".to_vec())];
    plan.leaks = false;
    plan
}

fn seen(plan: &Plan, lines: &[(&str, &str)]) -> Got {
    let lines = lines
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let seen = Seen {
        method: plan.method.to_owned(),
        target: plan.target.clone(),
        lines,
        body_bytes: plan.body.len(),
        body_sum: sum(&plan.body),
        at_us: 0,
    };
    Got::Forwarded(Box::new(seen), vec![b"a".to_vec()])
}

fn judged(people: &Population, history: &History, plan: &Plan, got: &Got) -> Result<(), String> {
    let now = Instant::now();
    let judge = Judge {
        people,
        history,
        upstream_started: now,
        cuts: true,
    };
    judge.judge(plan, (now, now), got)
}

#[test]
fn a_good_tenant_is_forwarded_as_itself_and_in_no_other_way() {
    let (people, history) = world();
    let place = SPECIAL * 8 + 2;
    let id = people.tenants[place].id.clone();
    let (slug, key) = (format!("slug-of-{id}"), format!("tenant:{id}:a"));
    let plan = plan(
        &people,
        Caller::Tenant(place),
        Aim::Module("transaction"),
        "/v1/transactions",
    );
    let good = [
        ("x-tenant-id", id.as_str()),
        ("x-tenant-slug", &slug),
        ("x-tenant-isolation-mode", "isolated"),
        ("x-module", "transaction"),
        ("x-redis-key", &key),
        ("accept", "*/*"),
    ];
    assert!(people.tenants[place].schema.is_none());
    assert_eq!(judged(&people, &history, &plan, &seen(&plan, &good)), Ok(()));
    for wrong in [
        ("x-tenant-id", "t-00001"),
        ("x-module", "onboarding"),
        ("x-redis-key", "a"),
        ("x-redis-key", "tenant:t-00001:a"),
    ] {
        let lines = good.map(|line| if line.0 == wrong.0 { wrong } else { line });
        assert!(
            judged(&people, &history, &plan, &seen(&plan, &lines)).is_err(),
            "{wrong:?}"
        );
    }
    for more in [
        ("x-tenant-vhost", "v"),
        ("x.tenant.id", "t-00001"),
        ("x-redis--key", "b"),
    ] {
        let lines = [&good[..], &[more]].concat();
        assert!(
            judged(&people, &history, &plan, &seen(&plan, &lines)).is_err(),
            "{more:?}"
        );
    }
    assert!(judged(&people, &history, &plan, &seen(&plan, &good[1..])).is_err());
    for (status, code) in [(503, "TENANT_MANAGER_UNAVAILABLE"), (401, "TOKEN_INVALID"), (504, "")] {
        assert!(
            judged(&people, &history, &plan, &Got::Refused(status, code.to_owned())).is_err(),
            "{code}"
        );
    }
    history.disturb(Instant::now());
    let unavailable = Got::Refused(503, "TENANT_MANAGER_UNAVAILABLE".to_owned());
    assert_eq!(judged(&people, &history, &plan, &unavailable), Ok(()));
    assert!(judged(&people, &history, &plan, &Got::Refused(504, String::new())).is_err());
}

#[test]
fn a_suspended_tenant_is_never_forwarded_once_that_was_acknowledged() {
    let (people, history) = world();
    let place = people.of(Standing::Swinging).next().expect("one of them");
    let id = people.tenants[place].id.clone();
    let (slug, key) = (format!("slug-of-{id}"), format!("tenant:{id}:a"));
    let plan = plan(
        &people,
        Caller::Tenant(place),
        Aim::Module("onboarding"),
        "/v1/accounts",
    );
    let lines = [
        ("x-tenant-id", id.as_str()),
        ("x-tenant-slug", &slug),
        ("x-tenant-isolation-mode", "isolated"),
        ("x-module", "onboarding"),
        ("x-redis-key", &key),
    ];
    let (forwarded, refused) = (seen(&plan, &lines), Got::Refused(403, "TENANT_SUSPENDED".to_owned()));
    assert_eq!(judged(&people, &history, &plan, &forwarded), Ok(()));
    assert!(judged(&people, &history, &plan, &refused).is_err());
    let broken = Got::Broken("reset".to_owned());
    assert!(judged(&people, &history, &plan, &broken).is_err());
    history.say(place, Instant::now(), Said::Open);
    assert_eq!(judged(&people, &history, &plan, &broken), Ok(()));
    assert_eq!(judged(&people, &history, &plan, &forwarded), Ok(()));
    assert_eq!(judged(&people, &history, &plan, &refused), Ok(()));
    history.say(place, Instant::now(), Said::Suspended);
    assert!(judged(&people, &history, &plan, &forwarded).is_err());
    assert_eq!(judged(&people, &history, &plan, &refused), Ok(()));
}

#[test]
fn a_stream_does_not_outlast_its_tenant_where_streams_are_cut() {
    let (people, history) = world();
    let place = people.of(Standing::Swinging).next().expect("one of them");
    let start = Instant::now();
    let acknowledged = start + Duration::from_secs(1);
    history.say(place, acknowledged, Said::Suspended);
    for (cuts, seconds, good) in [(true, 2, true), (true, 4, false), (false, 4, true)] {
        let judge = Judge {
            people: &people,
            history: &history,
            upstream_started: start,
            cuts,
        };
        let judged = judge.was_cut(place, start + Duration::from_secs(seconds));
        assert_eq!(judged.is_ok(), good, "{cuts} {seconds}");
    }
}

#[test]
fn who_proves_nothing_is_nobody() {
    let (people, history) = world();
    let protected = plan(&people, Caller::Bad(0), Aim::Module("onboarding"), "/v1/accounts");
    assert_eq!(
        judged(
            &people,
            &history,
            &protected,
            &Got::Refused(401, people.bad[0].code.to_owned())
        ),
        Ok(())
    );
    assert!(
        judged(
            &people,
            &history,
            &protected,
            &Got::Refused(503, "CIRCUIT_OPEN".to_owned())
        )
        .is_err()
    );
    assert!(judged(&people, &history, &protected, &seen(&protected, &[])).is_err());
    let public = plan(&people, Caller::Bad(0), Aim::Public, "/health");
    let Got::Forwarded(seen_there, _) = seen(&public, &[]) else {
        unreachable!("it was forwarded")
    };
    assert_eq!(
        judged(&people, &history, &public, &Got::Forwarded(seen_there, Vec::new())),
        Ok(())
    );
    assert!(
        judged(
            &people,
            &history,
            &public,
            &seen(&public, &[("x-tenant-id", "t-00001")])
        )
        .is_err()
    );
    let hazard = plan(&people, Caller::Bad(0), Aim::Hazard, "/health/%2e%2e;a/x");
    assert!(judged(&people, &history, &hazard, &seen(&hazard, &[])).is_err());
    assert_eq!(
        judged(&people, &history, &hazard, &Got::Refused(400, String::new())),
        Ok(())
    );
}
