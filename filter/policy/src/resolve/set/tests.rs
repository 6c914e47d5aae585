use super::*;
use crate::config::Cache;
use crate::resolve::tests::config;

const BASE: u64 = 7;
const SCOPE: Scope = Scope {
    configuration: 1,
    service: 2,
    environment: Some(HERE),
};
const HERE: u64 = 11;

fn rules() -> Cache {
    config(&serde_json::json!({})).tenant_manager.unwrap().cache
}

fn entry(tenant: &str, of: Of, verdict: Option<Verdict>, fresh_ms: u64) -> Entry {
    Entry {
        tenant: tenant.to_owned(),
        of,
        base: BASE,
        times: Times::of_refusal(&rules(), 0, fresh_ms),
        refreshed_until_ms: 0,
        paused_until_ms: 0,
        verdict,
    }
}

fn record(tenant: &str, fresh_ms: u64) -> Entry {
    let verdict = Verdict::Found(Record::parse(b"{}").unwrap());
    entry(tenant, Of::Configuration(1), Some(verdict), fresh_ms)
}

fn refusal(tenant: &str, fresh_ms: u64) -> Entry {
    entry(tenant, Of::Configuration(1), Some(Verdict::AccessDenied), fresh_ms)
}

fn order(tenant: &str, fresh_ms: u64) -> Entry {
    entry(
        tenant,
        Of::Environment(HERE),
        Some(Verdict::Refused("suspended".into())),
        fresh_ms,
    )
}

fn pause(tenant: &str, fresh_ms: u64) -> Entry {
    entry(tenant, Of::Configuration(1), None, fresh_ms)
}

fn names(set: &Set) -> Vec<&str> {
    let mut names: Vec<&str> = set.entries.iter().map(|entry| entry.tenant.as_str()).collect();
    names.sort_unstable();
    names
}

/// A set with these entries, by kind and number: `p` a pause, `r` a record, `d` a refusal, `o` an order.
fn filled(kinds: &str) -> Set {
    let mut set = Set::default();
    for (n, kind) in kinds.chars().enumerate() {
        assert!(set.put(made(kind, n), 0));
    }
    set
}

fn made(kind: char, n: usize) -> Entry {
    let fresh_ms = 1_000 + u64::try_from(n).unwrap();
    let name = format!("{kind}{n}");
    match kind {
        'p' => pause(&name, fresh_ms),
        'r' => record(&name, fresh_ms),
        'd' => refusal(&name, fresh_ms),
        _ => order(&name, fresh_ms),
    }
}

#[test]
fn what_can_be_missed_best_makes_place_first() {
    for (kinds, new, gone) in [
        ("rrrrrrrr", 'r', Some("r0")),
        ("drrrrrrr", 'r', Some("r1")),
        ("orrrrrrr", 'd', Some("r1")),
        ("odpprrrr", 'r', Some("p2")),
        ("oddddddp", 'p', Some("p7")),
        ("dddddddd", 'd', Some("d0")),
        ("dddddddd", 'r', None),
        ("oodddddd", 'd', Some("d2")),
        ("oooooooo", 'd', None),
        ("oooooooo", 'r', None),
        ("oooooooo", 'o', Some("o0")),
        ("odddddrr", 'o', Some("r6")),
        ("rrrrrrrr", 'p', None),
    ] {
        let mut set = filled(kinds);
        let before: Vec<String> = names(&set).into_iter().map(str::to_owned).collect();
        let generation = set.generation();
        assert_eq!(set.put(made(new, 8), 0), gone.is_some(), "{kinds} {new}");
        let missing: Vec<&String> = before
            .iter()
            .filter(|name| !names(&set).contains(&name.as_str()))
            .collect();
        assert_eq!(missing, gone.iter().collect::<Vec<_>>(), "{kinds} {new}");
        assert_eq!(set.entries.len(), WAYS);
        let a_refusal_is_gone = gone.is_some_and(|name| name.starts_with(['d', 'o']));
        assert_eq!(set.generation() != generation, a_refusal_is_gone, "{kinds} {new}");
    }
}

#[test]
fn an_entry_takes_the_place_of_the_one_about_the_same_and_of_what_is_spent() {
    let mut set = filled("rrrrrrrr");
    assert!(set.put(record("r3", 9_000), 0));
    assert_eq!(names(&set), ["r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7"]);
    assert!(set.put(order("r3", 9_000), 0), "an order is about something else");
    assert_eq!(set.entries.len(), WAYS);
    // Everything but the two is forgotten 300 s after it was fresh.
    assert!(set.put(record("new", 400_000), 301_008));
    assert_eq!(names(&set), ["new", "r3", "r3"]);
}

#[test]
fn what_found_no_place_or_lost_it_may_still_be_held() {
    let mut set = filled("rrrrrrrr");
    assert!(!set.may_be_held("elsewhere", SCOPE, 0));
    set.put(record("new", 2_000), 0);
    // The first one is gone; its worker may hold it until it is spent.
    for (at_ms, may_be) in [(300_999, true), (301_000, false)] {
        assert_eq!(set.may_be_held("r0", SCOPE, at_ms), may_be);
    }
    let mut set = filled("oooooooo");
    assert!(!set.put(record("new", 2_000), 0));
    for (at_ms, may_be) in [(301_999, true), (302_000, false)] {
        assert_eq!(set.may_be_held("new", SCOPE, at_ms), may_be);
    }
}

#[test]
fn an_order_concerns_everyone_or_one_service_and_ends_when_it_is_not_fresh() {
    let mut set = Set::default();
    set.put(order("a", 1_000), 0);
    set.put(
        entry(
            "b",
            Of::Service {
                service: 2,
                environment: HERE,
            },
            Some(Verdict::Refused("purged".into())),
            1_000,
        ),
        0,
    );
    let other = Scope { service: 3, ..SCOPE };
    let elsewhere = Scope {
        environment: Some(12),
        ..SCOPE
    };
    let anywhere = Scope {
        environment: None,
        ..SCOPE
    };
    for (tenant, scope, at_ms, holds) in [
        ("a", SCOPE, 999, true),
        ("a", other, 999, true),
        ("a", SCOPE, 1_000, false),
        ("b", SCOPE, 999, true),
        ("b", other, 999, false),
        ("a", elsewhere, 999, false),
        ("b", elsewhere, 999, false),
        ("a", anywhere, 999, true),
        ("b", anywhere, 999, true),
        ("c", SCOPE, 0, false),
    ] {
        assert_eq!(
            set.order(tenant, scope, BASE, at_ms).is_some(),
            holds,
            "{tenant} {scope:?} {at_ms}"
        );
    }
    assert!(
        set.order("a", SCOPE, BASE + 1, 0).is_none(),
        "void after a change of everything"
    );
    set.lift("b", other);
    assert!(
        set.order("b", SCOPE, BASE, 0).is_some(),
        "another service's is not theirs to lift"
    );
    set.lift("b", SCOPE);
    set.lift("a", other);
    assert!(set.is_empty());
}

#[test]
fn an_event_is_outdated_when_it_is_over_five_seconds_older_than_the_last() {
    let mut set = Set::default();
    assert!(set.mark("a", SCOPE, 100_000));
    for (at_ms, applies) in [
        (95_000, true),
        (94_999, false),
        (100_000, true),
        (0, false),
        (i64::MIN, false),
    ] {
        assert_eq!(set.mark("a", SCOPE, at_ms), applies, "{at_ms}");
    }
    assert!(set.mark("b", SCOPE, 0), "of each tenant");
    assert!(set.mark("a", SCOPE, 200_000));
    assert!(set.mark("a", SCOPE, 195_000));
    assert!(
        !set.mark("a", SCOPE, 194_999),
        "an older one that was applied does not turn the clock back"
    );
    assert!(set.mark("a", SCOPE, i64::MAX) && !set.mark("a", SCOPE, 200_000));
}

#[test]
fn marks_are_bounded_and_the_one_not_moved_for_longest_goes_first() {
    let mut set = Set::default();
    for n in 0..8 {
        assert!(set.mark(&format!("t{n}"), SCOPE, 100_000));
    }
    assert!(set.mark("t0", SCOPE, 100_000));
    assert!(set.mark("t8", SCOPE, 100_000));
    assert_eq!(set.marks.len(), MARKS);
    assert!(!set.mark("t0", SCOPE, 0));
    assert!(set.mark("t1", SCOPE, 0), "nobody remembers");
}

#[test]
fn a_sweep_takes_out_what_is_void_and_leaves_what_was_written_later() {
    let mut set = filled("rdo");
    let of_base = |base: u64| Entry {
        base,
        ..record(&format!("b{base}"), 1_000)
    };
    for base in [BASE - 1, BASE + 1, BASE + 2, BASE + (1 << 40)] {
        set.entries.push(of_base(base));
    }
    set.sweep(BASE, 0);
    assert_eq!(names(&set), ["b8", "b9", "d1", "o2", "r0"]);
    set.sweep(BASE, 1_002);
    assert_eq!(
        names(&set),
        ["b8", "b9", "d1", "o2", "r0"],
        "an order that has come to its end is remembered for a while"
    );
    set.sweep(BASE, 301_002);
    assert!(set.is_empty(), "the later ones have their time too");
}

#[test]
fn a_stored_set_is_what_it_was_and_anything_else_is_empty_with_a_generation_of_its_own() {
    let set = filled("prdo");
    let bytes = set.encode();
    assert_eq!(Set::decode(&bytes, Version(3)), set);
    assert_eq!(Set::decode(b"", Version::ABSENT), Set::default());
    let other_format = [&[FORMAT + 1], &bytes[1..]].concat();
    for damaged in [&b"somebody else's"[..], &bytes[..bytes.len() / 2], &other_format] {
        let (mut one, other) = (Set::decode(damaged, Version(3)), Set::decode(damaged, Version(4)));
        assert!(one.is_empty());
        assert_ne!(one.generation(), set.generation());
        assert_ne!(one.generation(), other.generation(), "each write of it is another");
        assert!(one.may_be_held("anybody", SCOPE, 5));
        assert!(!one.may_be_held("anybody", SCOPE, 5 + LONGEST_MS), "not for ever");
    }
    let emptied = Set::decode(b"", Version(3));
    assert_ne!(
        emptied.generation(),
        Set::default().generation(),
        "somebody has emptied it"
    );
}

#[test]
fn an_outcome_replaces_its_own() {
    let other = |verdict| entry("a", Of::Configuration(9), Some(verdict), 1_000);
    let found = || Verdict::Found(Record::parse(b"{}").unwrap());
    for (refuses, others, left) in [
        (false, found(), 2),
        (false, Verdict::AccessDenied, 2),
        (true, found(), 2),
        (true, Verdict::AccessDenied, 2),
    ] {
        let mut set = Set::default();
        set.put(record("a", 1_000), 0);
        set.put(other(others), 0);
        set.put(order("a", 1_000), 0);
        set.replace("a", SCOPE, (refuses, u64::MAX));
        assert_eq!(set.entries.len(), left, "{refuses}");
    }
}

#[test]
fn a_record_that_is_replaced_by_a_shorter_one_may_still_be_held() {
    let mut set = Set::default();
    set.put(record("a", 2_000), 0);
    set.replace("a", SCOPE, (false, 301_500));
    for (at_ms, may_be) in [(301_999, true), (302_000, false)] {
        assert_eq!(set.may_be_held("a", SCOPE, at_ms), may_be);
    }
    let mut set = Set::default();
    set.put(record("a", 2_000), 0);
    set.replace("a", SCOPE, (false, 302_000));
    assert!(!set.may_be_held("a", SCOPE, 0));
}

#[test]
fn a_refusal_outdates_the_records_of_its_tenant_and_of_others_only_when_there_were_too_many() {
    let mut set = Set::default();
    set.note_refusal("a");
    let began = set.refusals();
    assert!(!set.was_refused_since("a", began), "that was before");
    set.note_refusal("b");
    assert!(set.was_refused_since("b", began));
    assert!(!set.was_refused_since("a", began) && !set.was_refused_since("c", began));
    for _ in 0..REFUSED - 1 {
        set.note_refusal("d");
    }
    assert!(!set.was_refused_since("c", began));
    set.note_refusal("d");
    assert!(set.was_refused_since("c", began), "nobody remembers who it was");
}

#[test]
fn forgetting_keeps_that_a_tenant_was_refused_and_lifting_does_not() {
    for keeps in [true, false] {
        let mut set = Set::default();
        set.put(refusal("a", 1_000), 0);
        assert!(!set.forget("a", keeps, BASE, 10));
        let age = set.answer("a", SCOPE, BASE, 10).map(|entry| entry.times.age(10));
        assert_eq!(age, keeps.then_some(Age::Fallback));
    }
}
