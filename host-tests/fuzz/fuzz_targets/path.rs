//! A request target: is it hazardous, is it public, and whose module is it?
//!
//! The first byte chooses the method, what becomes of hazards, and whether a change of protocol is
//! asked for; the rest is the target.

#![no_main]

use libfuzzer_sys::fuzz_target;
use oracle::{target, upstream};
use tenant_policy::config::{Module, ModuleRoute, Modules, Paths, PublicPath};
use tenant_policy::path::{Prefix, Route, hazard, route};
use tenant_policy::request::RequestHead;
use tenant_policy_fuzz::World;

const METHODS: [&str; 8] = ["GET", "POST", "OPTIONS", "TRACE", "CONNECT", "connect", "tRACE", ""];
const PUBLIC: [&str; 2] = ["/health", "/swagger/v1"];
const ROUTES: [(&str, &str); 5] = [
    ("/V1/t", "upper"),
    ("/v1/t", "lower"),
    ("/v1/T", "mixed"),
    ("/v1", "all"),
    ("/a/b", "far"),
];

thread_local! {
    static ENGINE: (Modules, [Paths; 2]) = (modules(), [true, false].map(paths));
}

fn modules() -> Modules {
    let routes = ROUTES.iter().map(|(text, module)| ModuleRoute {
        prefix: prefix(text),
        module: name(module),
    });
    Modules {
        from_route: true,
        default: Some(name("other")),
        routes: routes.collect(),
    }
}

fn name(text: &str) -> Module {
    Module::new(text).expect("a name")
}

fn prefix(text: &str) -> Prefix {
    Prefix::parse(text).expect("a prefix")
}

fn paths(reject_hazardous: bool) -> Paths {
    let public = PUBLIC.map(|text| PublicPath {
        prefix: prefix(text),
        methods: None,
    });
    Paths {
        public: public.into(),
        reject_hazardous,
        allow_connect: false,
    }
}

/// The module of a reading.
fn module_of(reading: &[u8], covers: fn(&str, &[u8]) -> bool) -> &'static str {
    ROUTES
        .iter()
        .find(|(prefix, _)| covers(prefix, reading))
        .map_or("other", |(_, module)| module)
}

fuzz_target!(|input: &[u8]| {
    let Some((choice, target)) = input.split_first() else {
        return;
    };
    let method = METHODS[usize::from(choice & 0b0111)];
    let (protects, changes) = (choice & 0b1000 != 0, choice & 0b1_0000 != 0);
    let mut fields = vec![(&b":method"[..], method.as_bytes()), (b":path", target)];
    if changes {
        fields.push((b"upgrade", b"websocket"));
    }
    let decided = ENGINE.with(|(modules, [rejecting, protecting])| {
        let paths = if protects { protecting } else { rejecting };
        route(paths, modules, &RequestHead::new(&fields), &World::default())
    });

    let hazardous = target::is_hazardous(target);
    assert_eq!(hazard(target).is_some(), hazardous, "repeated decoding says otherwise");
    let connects = method.eq_ignore_ascii_case("CONNECT");
    assert_eq!(decided.is_err(), connects || (hazardous && !protects), "{decided:?}");

    let public = !changes && target::is_public(&PUBLIC, method, target);
    assert_eq!(decided == Ok(Route::Public), public, "{decided:?}");
    let path = target::path(target).unwrap_or_else(|| target::before_query(target));
    if public {
        assert!(
            !upstream::may_leave(&PUBLIC, path),
            "some server takes it for a protected path"
        );
    }
    if let Ok(Route::Protected(to)) = decided {
        assert_eq!(to.module.as_str(), module_of(path, upstream::covers));
        let asked = |module: &str| to.module.as_str() == module || to.readings.iter().any(|m| m.as_str() == module);
        for reading in upstream::readings(path) {
            for covers in [upstream::covers, upstream::covers_in_any_case] {
                let module = module_of(&reading, covers);
                assert!(
                    asked(module),
                    "{} is read as {}: {to:?}",
                    target.escape_ascii(),
                    reading.escape_ascii()
                );
            }
        }
    }
});
