//! `docs/headers.md` against the code: neither names a header that the other does not have, and what the page says of
//! each place is what happens there.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that meets the impossible should stop"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::json;
use tenant_policy::config::{self, Environment, Plugin};
use tenant_policy::request::RequestHead;
use tenant_policy::sanitize::{Place, Sanitizer};
use tenant_policy::scope::HeaderName;

const PAGE: &str = include_str!("../../../docs/headers.md");

/// Headers of one word that the filter has to do with. Any string with a hyphen is looked at anyway.
const SINGLE_WORDS: [&str; 11] = [
    "accept",
    "authorization",
    "connection",
    "cookie",
    "expect",
    "host",
    "ratelimit",
    "te",
    "traceparent",
    "trailer",
    "upgrade",
];

/// What looks like a header and is none, and what it is.
const OTHERS: [(&str, &str); 3] = [
    ("no-store", "a value of `cache-control`"),
    ("pure-rust", "a word of a log line"),
    ("x-envoy-", "the beginning of names, `x-envoy-*` on the page"),
];

/// The columns about places, in the order of the table.
const PLACES: [Place; 4] = [Place::Protected, Place::SecondPass, Place::Public, Place::Trailers];

/// Members that change what becomes of headers that they do not name. A row with one of them says what
/// happens where the document has it; the others, what happens where it has none of them.
const CONDITIONS: [&str; 2] = ["modules.routes", "scope.path"];

/// The sources that ship, without their tests and comments.
fn sources() -> String {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![package.join("src"), package.join("../src")];
    let mut files = Vec::<PathBuf>::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            let name = path.file_stem().unwrap_or_default();
            if name == "tests" || name == "properties" && path.starts_with(package.join("src")) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    assert!(files.len() > 50, "{} files", files.len());
    let mut sources = String::new();
    for file in files {
        let text = std::fs::read_to_string(file).expect("a source");
        let text = text
            .replace("#[cfg(test)]\nmod tests;", "")
            .replace("#[cfg(test)]\nmod properties;", "");
        let shipped = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let code = shipped.lines().filter(|line| !line.trim_start().starts_with("//"));
        sources.extend(code.flat_map(|line| [line, "\n"]));
    }
    sources
}

/// Whether a string may be the name of a header: lower-case words with hyphens, or one of the known ones.
fn looks_like_a_header(text: &str) -> bool {
    let name = text.strip_prefix(':').unwrap_or(text);
    let plain =
        name.starts_with(|c: char| c.is_ascii_lowercase()) && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
    plain && (name.contains('-') || text.starts_with(':') || SINGLE_WORDS.contains(&name))
}

fn headers_in_the_code() -> BTreeSet<String> {
    let sources = sources();
    let strings = sources
        .split('"')
        .skip(1)
        .step_by(2)
        .chain(sources.split('"').step_by(2));
    let headers = strings.filter(|text| looks_like_a_header(text));
    let others: Vec<_> = OTHERS.iter().map(|(other, _)| *other).collect();
    headers
        .filter(|text| !others.contains(text))
        .map(str::to_owned)
        .collect()
}

/// Every word in backticks in a part of the page.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn section(heading: &str) -> &'static str {
    let found = PAGE.split("\n## ").find(|part| part.starts_with(heading));
    found.unwrap_or_else(|| panic!("no section `{heading}`"))
}

/// The cells of the rows of a section's table.
fn rows(section: &str) -> Vec<Vec<&str>> {
    let rows = section
        .lines()
        .filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'));
    rows.skip(2)
        .map(|row| row.split('|').map(str::trim).collect())
        .collect()
}

#[test]
fn every_header_in_the_code_is_on_the_page() {
    let page: BTreeSet<_> = quoted(PAGE).collect();
    for header in headers_in_the_code() {
        let prefix = format!("{header}*");
        assert!(
            page.contains(header.as_str()) || page.contains(prefix.as_str()),
            "`{header}` is not on the page"
        );
    }
}

#[test]
fn every_header_that_a_table_is_about_is_in_the_code() {
    let code = headers_in_the_code();
    let headings = [
        "What is set on requests",
        "What is read of requests",
        "What is done to responses",
        "What a denial has",
        "What the filter itself sends and reads",
    ];
    let mut seen = 0;
    for heading in headings {
        for row in rows(section(heading)) {
            for header in quoted(row[0]) {
                assert!(code.contains(header), "`{header}` under `{heading}` is not in the code");
                seen += 1;
            }
        }
    }
    assert!(seen > 25, "{seen} headers");
}

/// What takes headers out of requests, under a document with one of [`CONDITIONS`] or without any.
fn sanitizer(condition: Option<&str>) -> Sanitizer {
    let mut document = json!({
        "version": "v1",
        "enabled": true,
        "service": "ledger",
        "auth": {
            "mode": "upstream_metadata",
            "upstream_metadata": { "namespace": "envoy.filters.http.jwt_authn", "payload": "jwt_payload" },
            "forward_token": false,
        },
        "scope": {
            "emit": { "tenant_id": "x-org", "module": "x-workspace" },
            "emit_claims": { "sub": "x-user-id" },
            "headers": [
                { "name": "x-storage-key", "kind": "storage_key" },
                { "name": "idempotency-key", "kind": "idempotency_key" },
            ],
        },
    });
    match condition {
        None => {}
        Some("scope.path") => document["scope"]["path"] = json!([{ "prefix": "/storage", "kind": "storage_path" }]),
        Some("modules.routes") => {
            document["modules"] = json!({ "routes": [{ "prefix": "/v1", "module": "transaction" }] })
        }
        Some(other) => panic!("`{other}` is no condition"),
    }
    let compiled = config::compile(document.to_string().as_bytes(), &Environment::default());
    let compiled = compiled.unwrap_or_else(|faults| panic!("{faults:?}"));
    let Plugin::MultiTenant(config) = compiled.plugin else {
        panic!("it is enabled");
    };
    Sanitizer::new(&config)
}

#[test]
fn what_the_first_table_says_of_each_place_is_what_happens() {
    let rows = rows(section("What is taken out of requests"));
    assert_eq!(rows.len(), 11, "{rows:?}");
    let mut met = BTreeSet::new();
    for row in rows {
        let examples: Vec<_> = quoted(row[1]).collect();
        assert!(!examples.is_empty(), "{row:?}");
        let mut conditions: Vec<_> = quoted(row[6])
            .filter(|member| CONDITIONS.contains(member))
            .map(Some)
            .collect();
        met.extend(conditions.iter().copied().flatten());
        if conditions.is_empty() {
            conditions.push(None);
        }
        for condition in conditions {
            let sanitizer = sanitizer(condition);
            for (place, said) in PLACES.iter().zip(&row[2..6]) {
                for name in &examples {
                    let fields = [(name.as_bytes(), &b"v"[..])];
                    let goes = !sanitizer.edits(&RequestHead::new(&fields), *place).is_empty();
                    assert!(["goes", "stays", "scoped", "checked"].contains(said), "{row:?}");
                    assert_eq!(goes, *said == "goes", "`{name}`, {place:?}, {condition:?}: {said}");
                }
            }
        }
    }
    assert_eq!(met, CONDITIONS.into());
}

#[test]
fn what_no_rule_may_name_is_refused_and_all_of_it_is_on_the_page() {
    let text = section("What no rule may name");
    let names: Vec<_> = quoted(text).filter(|word| looks_like_a_header(word)).collect();
    assert_eq!(names.len(), 17, "{names:?}");
    for name in names {
        let name = HeaderName::parse(name).expect("a name");
        assert!(!name.may_be_rewritten(), "{name:?}");
    }
    let envoys = HeaderName::parse("x-envoy-anything").expect("a name");
    assert!(!envoys.may_be_rewritten() && text.contains("`x-envoy-*`"));
    for name in headers_in_the_code() {
        let refused = HeaderName::parse(&name).is_some_and(|name| !name.may_be_rewritten());
        let is_there = quoted(text).any(|word| word == name) || name.starts_with("x-envoy-");
        assert!(
            !refused || is_there,
            "`{name}` is refused, and the page does not say so"
        );
    }
}
