//! What holds for every target, against a second and slower reading of the rules.

use crate::world::World;
use std::collections::BTreeSet;

use oracle::spelling::{self, Spelling};
use oracle::{target, upstream};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;
use crate::config::{ModuleRoute, PublicPath};

const PUBLIC: [&str; 2] = ["/health", "/swagger/v1"];

/// The same cases in every run: a pull request fails for what it changes.
fn seeded() -> ProptestConfig {
    ProptestConfig {
        cases: 4_096,
        rng_seed: RngSeed::Fixed(0x7e4a_47a7),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn paths(reject_hazardous: bool) -> Paths {
    let rule = |prefix: &str| PublicPath {
        prefix: Prefix::parse(prefix).unwrap(),
        methods: None,
    };
    Paths {
        public: PUBLIC.map(rule).into(),
        reject_hazardous,
        allow_connect: false,
    }
}

fn modules_of(routes: &[(&str, &str)], default: Option<&str>) -> Modules {
    let module = |name: &str| Module::new(name).unwrap();
    Modules {
        from_route: true,
        default: default.map(module),
        routes: routes
            .iter()
            .map(|(prefix, name)| ModuleRoute {
                prefix: Prefix::parse(prefix).unwrap(),
                module: module(name),
            })
            .collect(),
    }
}

fn decide(reject_hazardous: bool, method: &str, target: &[u8], more: &[(&[u8], &[u8])]) -> Result<Route, Denial> {
    let mut fields = vec![(&b":method"[..], method.as_bytes()), (b":path", target)];
    fields.extend(more);
    let modules = modules_of(&[("/v1/transactions", "transaction")], Some("onboarding"));
    route(
        &paths(reject_hazardous),
        &modules,
        &RequestHead::new(&fields),
        &World::default(),
    )
}

fn is_public(target: &[u8]) -> bool {
    decide(true, "GET", target, &[]) == Ok(Route::Public)
}

/// Plain paths, near the prefixes and elsewhere, that some server or other has.
fn plain() -> impl Strategy<Value = Vec<u8>> {
    let start = prop::sample::select(vec![
        "/health",
        "/healthz",
        "/heal",
        "/swagger",
        "/swagger/v1",
        "/swagger/v2",
        "/v1",
        "/v1/transactions",
        "/V1",
        "",
    ]);
    let rest = "(/[a-z0-9._-]{0,5}){0,3}";
    (start, rest).prop_map(|(start, rest)| format!("{start}{rest}").into_bytes())
}

/// Up to four disguises, each at some place.
fn disguises(least: usize) -> impl Strategy<Value = Vec<(Spelling, usize)>> {
    prop::collection::vec((prop::sample::select(spelling::ALL), 0_usize..64), least..5)
}

fn disguised(path: Vec<u8>, disguises: &[(Spelling, usize)]) -> Vec<u8> {
    disguises
        .iter()
        .fold(path, |path, (spelling, place)| spelling.of(&path, *place))
}

/// Whatever a client may send as a target: disguised paths, text made of what paths are made of, bytes.
fn any_target() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop::sample::select(vec![
        "/health",
        "health",
        "/",
        "/",
        "..",
        ".",
        "%2e",
        "%2E",
        "%252e",
        "%2f",
        "%25",
        "%",
        "2e",
        ";",
        ";a=b",
        "?",
        "#",
        "\\",
        "%5c",
        "%00",
        "\t",
        "a",
        "Z",
        "~",
        "%41",
        "%c0",
        "%af",
        "http://",
        "h",
        ":",
        "@",
        "*",
        "swagger/v1",
    ]);
    prop_oneof![
        4 => (plain(), disguises(0)).prop_map(|(path, with)| disguised(path, &with)),
        3 => prop::collection::vec(pieces, 0..12).prop_map(|pieces| pieces.concat().into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..40),
        1 => prop::collection::vec(any::<u8>(), 0..12).prop_map(|tail| [b"/health/", &tail[..]].concat()),
    ]
}

/// Ways to a route that are not hazardous as such.
fn way_to_a_route() -> impl Strategy<Value = Vec<u8>> {
    let harmless: Vec<_> = spelling::ALL
        .iter()
        .filter(|spelling| !target::is_hazardous(&spelling.of(b"/v1/transactions/7", 5)))
        .copied()
        .collect();
    let starts = vec![
        "/v1/transactions",
        "/V1/Transactions",
        "/v1/x/transactions",
        "/v1",
        "/a/v1",
    ];
    let disguises = prop::collection::vec((prop::sample::select(harmless), 0_usize..24), 0..5);
    (prop::sample::select(starts), "(/[a-z0-9]{1,3}){0,2}", disguises)
        .prop_map(|(start, rest, with)| disguised(format!("{start}{rest}").into_bytes(), &with))
}

/// The module of a reading: of the first route that covers it. A server that ignores case does so in
/// its routes too.
fn module_of<'m>(modules: &'m Modules, reading: &[u8], ignores_case: bool) -> Option<&'m Module> {
    let covers = if ignores_case {
        upstream::covers_in_any_case
    } else {
        upstream::covers
    };
    let route = modules.routes.iter().find(|route| covers(&route.prefix.0, reading));
    route.map(|route| &route.module).or(modules.default.as_ref())
}

proptest! {
    #![proptest_config(seeded())]

    #[test]
    fn public_is_exactly_what_stands_plainly_under_a_prefix(target in any_target()) {
        prop_assert_eq!(is_public(&target), target::is_public(&PUBLIC, "GET", &target), "{}", target.escape_ascii());
    }

    #[test]
    fn hazards_are_exactly_what_repeated_decoding_finds(target in any_target()) {
        prop_assert_eq!(hazard(&target).is_some(), target::is_hazardous(&target), "{}", target.escape_ascii());
    }

    #[test]
    fn hazardous_targets_are_refused_or_protected_with_any_method(
        target in any_target().prop_filter("a hazard", |target| target::is_hazardous(target)),
        method in prop::sample::select(vec!["GET", "HEAD", "POST", "OPTIONS", "TRACE", "BREW", ""]),
    ) {
        let refused = decide(true, method, &target, &[]);
        prop_assert!(matches!(refused, Err(Denial::PathRejected(Rejection::Hazard(_)))), "{refused:?}");
        let protected = decide(false, method, &target, &[]);
        prop_assert!(matches!(&protected, Ok(Route::Protected(_))), "{protected:?}");
    }

    #[test]
    fn no_server_takes_a_public_target_for_a_path_elsewhere(target in any_target()) {
        for reject_hazardous in [true, false] {
            if decide(reject_hazardous, "GET", &target, &[]) == Ok(Route::Public) {
                let path = target::path(&target).unwrap_or_default();
                prop_assert!(!upstream::may_leave(&PUBLIC, path), "{}", target.escape_ascii());
            }
        }
    }

    #[test]
    fn no_disguise_makes_a_protected_path_public(
        path in plain().prop_filter("protected, whoever reads it", |path| {
            let read = upstream::readings(path);
            !PUBLIC.iter().any(|prefix| read.iter().any(|reading| upstream::covers_in_any_case(prefix, reading)))
        }),
        disguises in disguises(1),
    ) {
        let target = disguised(path.clone(), &disguises);
        if is_public(&target) {
            // Another path under a prefix is no disguise of this one: then no server reads this one in it.
            let read = |target: &[u8]| upstream::readings(target).into_iter().map(|r| r.to_ascii_lowercase()).collect();
            let (read, canonical): (BTreeSet<_>, BTreeSet<_>) =
                (read(target::path(&target).unwrap_or_default()), read(&path));
            prop_assert!(read.is_disjoint(&canonical), "{}: {}", path.escape_ascii(), target.escape_ascii());
        }
    }

    #[test]
    fn the_query_decides_nothing(target in any_target(), query in "[ -~]{0,20}") {
        let bare = target::before_query(&target).to_vec();
        let asked = [&bare[..], b"?", query.replace('#', "").as_bytes()].concat();
        prop_assert_eq!(decide(true, "GET", &bare, &[]), decide(true, "GET", &asked, &[]));
    }

    #[test]
    fn absolute_form_is_judged_by_its_path(
        path in (plain(), disguises(0)).prop_map(|(path, with)| disguised(path, &with)),
        scheme in "[hH][tT][tT][pP][sS]?",
        authority in "[a-z]([a-z0-9-]{0,5}[a-z0-9])?(\\.example)?(:[0-9]{1,5})?",
    ) {
        let path = if path.starts_with(b"/") { path } else { [b"/", &path[..]].concat() };
        let absolute = [scheme.as_bytes(), b"://", authority.as_bytes(), &path].concat();
        prop_assert_eq!(decide(true, "GET", &absolute, &[]), decide(true, "GET", &path, &[]));
    }

    #[test]
    fn connect_trace_and_a_change_of_protocol_are_never_public(
        target in any_target(),
        connect in "(?i)connect",
        trace in "(?i)trace",
        change in prop::sample::select(vec![&b"upgrade"[..], b"Upgrade", b":protocol"]),
        to in "[a-zA-Z0-9/]{0,9}",
    ) {
        prop_assert_eq!(decide(true, &connect, &target, &[]), Err(Denial::PathRejected(Rejection::Connect)));
        prop_assert_ne!(decide(true, &trace, &target, &[]), Ok(Route::Public));
        prop_assert_ne!(decide(true, "GET", &target, &[(change, to.as_bytes())]), Ok(Route::Public));
    }

    #[test]
    fn whatever_some_server_reads_is_a_module_that_is_asked_for(
        target in prop_oneof![way_to_a_route(), any_target()],
        routes in prop::collection::vec(
            (
                prop::sample::select(vec![
                    "/v1", "/V1", "/v1/transactions", "/V1/Transactions", "/v1/TRANSACTIONS", "/v1/x", "/a",
                ]),
                prop::sample::select(vec!["m1", "m2", "m3", "m4"]),
            ),
            1..5,
        ),
        default in prop::option::of(Just("other")),
    ) {
        let modules = modules_of(&routes, default);
        let fields = [(&b":method"[..], &b"GET"[..]), (b":path", &target[..])];
        let none_is_public = Paths { public: Vec::new(), ..paths(true) };
        if let Ok(Route::Protected(to)) = route(&none_is_public, &modules, &RequestHead::new(&fields), &World::default()) {
            let path = target::path(&target).unwrap_or_else(|| target::before_query(&target));
            prop_assert_eq!(Some(&to.module), module_of(&modules, path, false));
            for reading in upstream::readings(path) {
                for module in [false, true].map(|ignores_case| module_of(&modules, &reading, ignores_case)) {
                    let asked = module.is_none_or(|module| *module == to.module || to.readings.contains(module));
                    prop_assert!(asked, "{} in {}: {to:?}", reading.escape_ascii(), target.escape_ascii());
                }
            }
        }
    }
}

#[test]
fn the_asterisk_form_is_protected() {
    let decided = decide(true, "OPTIONS", b"*", &[]);
    assert!(matches!(&decided, Ok(Route::Protected(_))), "{decided:?}");
}
