use super::*;
use crate::config::{ModuleRoute, PublicPath};
use crate::world::World;

fn paths() -> Paths {
    let rule = |prefix: &str, methods: Option<&[&str]>| PublicPath {
        prefix: Prefix::parse(prefix).unwrap(),
        methods: methods.map(|names| names.iter().map(|m| (*m).to_owned()).collect()),
    };
    Paths {
        public: vec![rule("/health", None), rule("/swagger/v1", Some(&["GET"]))],
        reject_hazardous: true,
        allow_connect: false,
    }
}

fn modules() -> Modules {
    Modules {
        from_route: true,
        default: Some(Module::new("onboarding").unwrap()),
        routes: vec![ModuleRoute {
            prefix: Prefix::parse("/v1/transactions").unwrap(),
            module: Module::new("transaction").unwrap(),
        }],
    }
}

fn decide(method: &str, target: &[u8]) -> Result<Route, Denial> {
    decide_by(&paths(), &modules(), method, target)
}

fn decide_by(paths: &Paths, modules: &Modules, method: &str, target: &[u8]) -> Result<Route, Denial> {
    let fields = [(&b":method"[..], method.as_bytes()), (b":path", target)];
    route(paths, modules, &RequestHead::new(&fields), &World::default())
}

fn destination(paths: &Paths, modules: &Modules, target: &[u8]) -> Destination {
    match decide_by(paths, modules, "GET", target) {
        Ok(Route::Protected(to)) => to,
        other => panic!("{}: {other:?}", target.escape_ascii()),
    }
}

fn is_public(target: &[u8]) -> bool {
    decide("GET", target) == Ok(Route::Public)
}

#[test]
fn hazards_are_found_in_every_disguise() {
    for (target, expected) in [
        (&b"/a/../b"[..], Hazard::DotSegment),
        (b"/a/.", Hazard::DotSegment),
        (b"/..", Hazard::DotSegment),
        (b"/a/..;/b", Hazard::DotSegment),
        (b"/a/.;x=1/b", Hazard::DotSegment),
        (b"/a/%2e%2e/b", Hazard::DotSegment),
        (b"/a/.%2E/b", Hazard::DotSegment),
        (b"/a/%252e%252e/b", Hazard::DotSegment),
        (b"/a/%25252e./b", Hazard::DotSegment),
        (b"/a/..%3b/b", Hazard::DotSegment),
        (b"/a/..%3Fx", Hazard::DotSegment),
        (b"/a/ ../b", Hazard::DotSegment),
        (b"/a/..%20;x/b", Hazard::DotSegment),
        (b"/a%2fb", Hazard::EncodedSlash),
        (b"/a%2Fb", Hazard::EncodedSlash),
        (b"/a%252fb", Hazard::EncodedSlash),
        (b"/a%5cb", Hazard::Backslash),
        (b"/a\\b", Hazard::Backslash),
        (b"/a%255Cb", Hazard::Backslash),
        (b"/a#b", Hazard::Fragment),
        (b"/a?x#b", Hazard::Fragment),
        (b"/a\tb", Hazard::Control),
        (b"/a?\x7f", Hazard::Control),
        (b"/a%00", Hazard::Control),
        (b"/a%0d%0ab", Hazard::Control),
        (b"/a%7F", Hazard::Control),
        (b"/a%2500", Hazard::Control),
        (b"/a%", Hazard::MalformedEscape),
        (b"/a%2", Hazard::MalformedEscape),
        (b"/a%zz", Hazard::MalformedEscape),
        (b"/%%2e", Hazard::MalformedEscape),
        (b"/a%c0%af", Hazard::OverlongUtf8),
        (b"/a\xc0\xae", Hazard::OverlongUtf8),
        (b"/a%c1%1", Hazard::MalformedEscape),
        (b"/%e0%80%af", Hazard::OverlongUtf8),
        (b"/%f0%80%80%af", Hazard::OverlongUtf8),
        (b"/%f8%80%80%80%af", Hazard::OverlongUtf8),
        (b"/%fc%80%80%80%80%af", Hazard::OverlongUtf8),
        (b"/%2525252525252525252525", Hazard::TooManyEncodings),
    ] {
        assert_eq!(hazard(target), Some(expected), "{}", target.escape_ascii());
    }
}

#[test]
fn ordinary_targets_are_not_hazardous() {
    for target in [
        &b"/"[..],
        b"",
        b"*",
        b"/v1/accounts/a.b/..c/...",
        b"/a%20b",
        b"/100%25",
        b"/100%2525",
        b"/a?x=../../b",
        b"/a?x=%2e%2e%2f%00%zz\\",
        b"/caf%c3%a9",
        b"/caf\xc3\xa9",
        b"/%ff",
        b"/a;b=c/d",
        b"//a",
        b"/%F0%9F%92%B8",
    ] {
        assert_eq!(hazard(target), None, "{}", target.escape_ascii());
    }
}

#[test]
fn public_is_a_byte_wise_matter() {
    for (target, public, why) in [
        (&b"/health"[..], true, "the prefix itself"),
        (b"/health/live", true, "continued by a segment"),
        (b"/health?x=1", true, "the query is not looked at"),
        (b"/health/a.b-c_d~e!$&'()*+,=:@", true, "every plain pchar"),
        (
            b"http://any.example/health",
            true,
            "absolute form is judged by its path",
        ),
        (b"/healthz", false, "no segment boundary"),
        (b"/HEALTH", false, "case counts"),
        (b"/heal%74h", false, "nothing is decoded"),
        (b"/health/%61", false, "nor in the rest"),
        (b"/health;x", false, "parameters"),
        (b"/health/a;x", false, "parameters in the rest"),
        (b"//health", false, "empty segment before"),
        (b"/health//x", false, "empty segment inside"),
        (b"/health/", false, "empty segment at the end"),
        (b"/health/...", false, "dots only"),
        (b"/health/a|b", false, "not a pchar"),
        (b"/health/\xc3\xa9", false, "not ASCII"),
        (b"/health/a b", false, "a space"),
        (b"/api?x=/health", false, "prefix in the query"),
        (b"/api/health", false, "prefix further inside"),
        (b"http://any.example?/health", false, "absolute form without a path"),
        (b"x/http://h/health", false, "not an absolute form"),
        (b"ftp://h/health", false, "not a scheme of HTTP"),
        (b"http:///health", false, "no authority"),
        (b"http://a%2fb/health", false, "not an authority"),
        (b"health", false, "no leading slash"),
        (b"", false, "empty"),
        (b"*", false, "asterisk form"),
        (b"/swagger/v1/x", true, "method fits"),
        (b"/swagger", false, "half a prefix"),
    ] {
        assert_eq!(is_public(target), public, "{why}: {}", target.escape_ascii());
    }
    assert_ne!(decide("POST", b"/swagger/v1"), Ok(Route::Public), "method does not fit");
    assert_ne!(
        decide("get", b"/swagger/v1"),
        Ok(Route::Public),
        "methods are case-sensitive"
    );
    assert_ne!(decide("Trace", b"/health"), Ok(Route::Public), "in no case");
    assert_ne!(decide("TRACE", b"/health"), Ok(Route::Public), "TRACE is never public");
    assert_ne!(decide("OPTIONS", b"*"), Ok(Route::Public), "nor is the asterisk form");
}

#[test]
fn a_change_of_protocol_is_never_public() {
    for name in [&b"upgrade"[..], b":protocol", b"Upgrade"] {
        let fields = [
            (&b":method"[..], &b"GET"[..]),
            (b":path", b"/health"),
            (name, b"websocket"),
        ];
        let decided = route(&paths(), &modules(), &RequestHead::new(&fields), &World::default());
        assert!(matches!(decided, Ok(Route::Protected(_))), "{}", name.escape_ascii());
    }
}

#[test]
fn connect_is_refused_unless_allowed_and_then_protected() {
    assert_eq!(
        decide("CONNECT", b"/health"),
        Err(Denial::PathRejected(Rejection::Connect))
    );
    assert_eq!(
        decide("connect", b"/health"),
        Err(Denial::PathRejected(Rejection::Connect))
    );
    let fields = [(&b":method"[..], &b"CONNECT"[..]), (b":authority", b"db:5432")];
    let allowing = Paths {
        allow_connect: true,
        ..paths()
    };
    let decided = route(&allowing, &modules(), &RequestHead::new(&fields), &World::default());
    assert!(matches!(decided, Ok(Route::Protected(_))));
    for target in [&b"/health"[..], b"/health/.."] {
        let decided = decide_by(&allowing, &modules(), "CONNECT", target);
        assert_ne!(decided, Ok(Route::Public));
        let refused = hazard(target).map(|hazard| Denial::PathRejected(Rejection::Hazard(hazard)));
        assert_eq!(decided.err(), refused);
    }
}

#[test]
fn hazardous_targets_are_refused_or_protected_never_public() {
    assert_eq!(
        decide("GET", b"/health/../v1"),
        Err(Denial::PathRejected(Rejection::Hazard(Hazard::DotSegment)))
    );
    let protecting = Paths {
        reject_hazardous: false,
        ..paths()
    };
    let decided = decide_by(&protecting, &modules(), "GET", b"/health/%2e%2e/v1");
    assert!(matches!(decided, Ok(Route::Protected(_))));
}

#[test]
fn the_first_matching_route_names_the_module() {
    let module_of = |target: &[u8]| match decide("GET", target) {
        Ok(Route::Protected(to)) if to.readings.is_empty() => to.module.as_str().to_owned(),
        other => panic!("{other:?}"),
    };
    assert_eq!(module_of(b"/v1/transactions/7?x"), "transaction");
    assert_eq!(module_of(b"/v1/transactionsx"), "onboarding");
    assert_eq!(module_of(b"/"), "onboarding");
    assert_eq!(module_of(b"/v1/transactions/%41"), "transaction", "the same either way");
    assert_eq!(module_of(b"/V1/Accounts;x//y"), "onboarding", "the same either way");
    let none = Modules {
        from_route: true,
        default: None,
        ..modules()
    };
    assert_eq!(
        decide_by(&paths(), &none, "GET", b"/v1/unknown"),
        Err(Denial::RouteNotFound)
    );
}

#[test]
fn the_spelling_of_a_path_evades_no_grant() {
    for (target, module, reading) in [
        (&b"/v1/transactions;x=1/9"[..], "onboarding", "transaction"),
        (b"/v1;a/transactions", "onboarding", "transaction"),
        (b"/V1/Transactions", "onboarding", "transaction"),
        (b"/v1/%74ransactions/9", "onboarding", "transaction"),
        (b"/v1/%2574ransactions/9", "onboarding", "transaction"),
        (b"//v1/transactions", "onboarding", "transaction"),
        (b"/v1//transactions", "onboarding", "transaction"),
        (b"/v1/transactions%20", "onboarding", "transaction"),
        (b"/v1/transactions%3b", "onboarding", "transaction"),
        (b"/v1/transactions%3Fx", "onboarding", "transaction"),
        (b"/v1/transactions%23", "onboarding", "transaction"),
        (b"/v1;%3f/transactions", "onboarding", "transaction"),
        (b"/v1;a=%23/transactions/7", "onboarding", "transaction"),
        (b"/v1/;%3F/transactions", "onboarding", "transaction"),
        (b"/;%3f/v1/transactions", "onboarding", "transaction"),
        (b"/V2/reports", "onboarding", "report"),
        (b"/v2/reports/1", "onboarding", "report"),
        (b"/v2/Reports%3f", "onboarding", "report"),
    ] {
        let mut modules = modules();
        modules.routes.push(ModuleRoute {
            prefix: Prefix::parse("/v2/Reports").unwrap(),
            module: Module::new("report").unwrap(),
        });
        let to = destination(&paths(), &modules, target);
        assert_eq!(to.module.as_str(), module, "{}", target.escape_ascii());
        let readings: Vec<_> = to.readings.iter().map(Module::as_str).collect();
        assert_eq!(readings, [reading], "{}", target.escape_ascii());
    }
}

#[test]
fn servers_may_differ_in_which_route_they_take_first() {
    let modules = Modules {
        from_route: true,
        default: Some(Module::new("other").unwrap()),
        routes: [
            ("/V1/t", "upper"),
            ("/v1/t", "lower"),
            ("/v1/T", "mixed"),
            ("/v1", "all"),
        ]
        .map(|(prefix, module)| ModuleRoute {
            prefix: Prefix::parse(prefix).unwrap(),
            module: Module::new(module).unwrap(),
        })
        .into(),
    };
    for (target, module, readings, why) in [
        (
            &b"/v1;x//t"[..],
            "other",
            &["upper", "lower", "mixed", "all"][..],
            "/v1//t for one, /v1/t for another",
        ),
        (
            b"/v1;x/T/1",
            "other",
            &["upper", "lower", "mixed", "all"],
            "with case and without",
        ),
        (
            b"/v1/T",
            "mixed",
            &["upper", "lower"],
            "routes behind its own take nothing from it",
        ),
        (
            b"/v1/t/a%20b",
            "lower",
            &["upper"],
            "an escape behind the prefix changes nothing",
        ),
        (b"/v1/x/a%20b", "all", &[], "nor does it here"),
        (b"//host/v1", "other", &["all"], "a host, to who reads a reference"),
        (
            b"//a%2523b/v1/t",
            "other",
            &["upper", "lower", "mixed", "all"],
            "the `#` of a host ends no path",
        ),
        (b"//a%3Fb;/v1", "other", &["all"], "nor does its `?`"),
        (
            b"///;/x/v1/",
            "other",
            &["all"],
            "parameters alone are a host to one, and no segment to another",
        ),
    ] {
        let to = destination(&paths(), &modules, target);
        let found: Vec<_> = to.readings.iter().map(Module::as_str).collect();
        assert_eq!(
            (to.module.as_str(), &found[..]),
            (module, readings),
            "{why}: {}",
            target.escape_ascii()
        );
    }
}

#[test]
fn a_hazardous_path_may_lead_to_every_module() {
    let protecting = Paths {
        reject_hazardous: false,
        ..paths()
    };
    for target in [
        &b"/v1/x/../transactions"[..],
        b"/v1\\transactions",
        b"/v1/transactions%00",
    ] {
        let to = destination(&protecting, &modules(), target);
        assert_eq!(to.module.as_str(), "onboarding");
        assert_eq!(to.readings, [Module::new("transaction").unwrap()]);
    }
}

#[test]
fn prefixes_are_plain_segments() {
    for good in ["/health", "/a/b.c", "/~x", "/..a"] {
        assert!(Prefix::parse(good).is_some(), "{good}");
    }
    for bad in [
        "", "/", "health", "/a/", "//a", "/a//b", "/.", "/a/..", "/...", "/a%20", "/a;b", "/a b", "/é", "/a?b", "/a#",
    ] {
        assert!(Prefix::parse(bad).is_none(), "{bad}");
    }
}
