//! Reading the corpus: every file that is wrong is named, with what is wrong in it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::answer::Answer;
use crate::case::{Base, Case, Expect, Request, Step, Suite, Token, Without};
use crate::mint::Keys;
use crate::repeat::repeated;
use crate::wire::latin1;

/// Everything under `host-tests/cases`.
#[derive(Debug, Clone)]
pub struct Corpus {
    /// What every case starts from.
    pub base: Base,
    /// The suites with their file stems, in the order of the stems.
    pub suites: Vec<(String, Suite)>,
}

/// The folder of this repository's own cases.
#[must_use]
pub fn cases_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../cases")
}

/// Reads `base.yaml` and every other `*.yaml` of a folder.
///
/// # Errors
/// When a file cannot be read, has another shape than [`crate::case`] says, or contradicts
/// itself. The error names the file and, where there is one, the case.
pub fn load(dir: &Path) -> Result<Corpus> {
    let base: Base = read(&dir.join("base.yaml"))?;
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "yaml")
            && let Some(stem) = path.file_stem().and_then(|stem| stem.to_str())
            && stem != "base"
        {
            files.push((stem.to_owned(), path));
        }
    }
    files.sort();
    let suites = files
        .into_iter()
        .map(|(stem, path)| {
            let suite: Suite = read(&path)?;
            validate(&suite).with_context(|| path.display().to_string())?;
            Ok((stem, suite))
        })
        .collect::<Result<_>>()?;
    Ok(Corpus { base, suites })
}

/// The plugin configuration of a case: base, suite's patch, case's patch, in that order.
/// `$keys` and `$secret` are still in it; see [`Keys::expand_config`].
#[must_use]
pub fn merged_config(base: &Base, suite: &Suite, case: &Case) -> Value {
    let mut config = base.config.clone();
    for patch in [&suite.config, &case.config].into_iter().flatten() {
        json_patch::merge(&mut config, patch);
    }
    config
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let parse = || -> Result<T> {
        let text = std::fs::read_to_string(path)?;
        // By way of JSON, so that a step is written `request: …` and not as a YAML tag; and by
        // way of a YAML value first, because that refuses duplicate keys.
        let yaml: serde_norway::Value = serde_norway::from_str(&text)?;
        let json = repeated(serde_json::to_value(yaml)?)?;
        Ok(serde_path_to_error::deserialize(json)?)
    };
    parse().with_context(|| path.display().to_string())
}

fn validate(suite: &Suite) -> Result<()> {
    let mut names = BTreeSet::new();
    for case in &suite.cases {
        ensure!(names.insert(&case.name), "two cases are named `{}`", case.name);
        validate_case(case).with_context(|| format!("case `{}`", case.name))?;
    }
    Ok(())
}

fn validate_case(case: &Case) -> Result<()> {
    ensure!(case.workers > 0, "`workers` is 0");
    ensure!(
        case.config.is_none() || case.raw_config.is_none(),
        "`config` and `raw_config` exclude each other"
    );
    ensure!(
        case.refused.is_some() != case.steps.iter().any(|s| matches!(s, Step::Request(_))),
        "a case has either `refused` or a request among its steps"
    );
    ensure!(
        !case.envoy || case.without == Without::default(),
        "`without` in a case that the real Envoy runs"
    );
    validate_idp(&case.idp)?;
    ensure!(
        case.route_metadata.as_ref().is_none_or(are_by_namespace),
        "`route_metadata` are objects by namespace"
    );
    ensure!(
        case.logged.iter().all(|parts| !parts.is_empty()),
        "`logged` must name parts of a log line"
    );
    if let Some(refused) = &case.refused {
        ensure!(case.steps.is_empty(), "`refused` with `steps`");
        ensure!(
            !refused.is_empty() && refused.iter().all(|parts| !parts.is_empty()),
            "`refused` must name parts of a log line"
        );
    }
    for (index, step) in case.steps.iter().enumerate() {
        match step {
            Step::Idp(answers) => validate_idp(answers).with_context(|| format!("step {index}"))?,
            Step::Request(request) => {
                validate_request(case, request).with_context(|| format!("step {index}"))?;
            }
            Step::AdvanceMs(_) if case.envoy => {
                bail!("step {index}: `advance_ms` in a case that the real Envoy runs")
            }
            Step::AdvanceMs(_) | Step::Tenants(_) => {}
        }
    }
    Ok(())
}

fn validate_idp(answers: &BTreeMap<String, Answer>) -> Result<()> {
    for (path, answer) in answers {
        ensure!(path.starts_with('/'), "`{path}` is no path");
        answer.with_keys(Keys::shared()).with_context(|| path.clone())?;
    }
    Ok(())
}

fn are_by_namespace(metadata: &Value) -> bool {
    let namespaces = metadata.as_object().map(|namespaces| namespaces.values());
    namespaces.is_some_and(|mut members| members.all(Value::is_object))
}

fn validate_request(case: &Case, request: &Request) -> Result<()> {
    ensure!(request.times > 0, "`times` is 0");
    ensure!(
        request.worker < case.workers,
        "worker {} of {}",
        request.worker,
        case.workers
    );
    if let Some(metadata) = &request.metadata {
        ensure!(
            !case.envoy && !case.jwt_authn,
            "`metadata` where the real Envoy or `jwt_authn` makes them"
        );
        ensure!(are_by_namespace(metadata), "`metadata` are objects by namespace");
    }
    ensure!(
        request
            .upstream
            .iter()
            .all(|answer| answer.fault.is_none() && answer.delay_ms == 0),
        "the upstream answers at once and completely"
    );
    if let Some(Token::Made(made)) = &request.token
        && let Some(name) = &made.key
    {
        ensure!(Keys::knows(name), "there is no key `{name}`");
    }
    latin1(&request.method)?;
    latin1(&request.path)?;
    request.body_bytes()?;
    request.trailer_lines()?;
    for (name, value) in &request.headers {
        latin1(name)?;
        latin1(value)?;
        ensure!(
            request.token.is_some() || !value.contains("{token}"),
            "header `{name}` says `{{token}}`, but there is no token"
        );
    }
    let most = usize::try_from(case.redirects)?.saturating_add(1);
    ensure!(
        request.expect.passes.is_none_or(|passes| passes <= most),
        "more `passes` than {most}"
    );
    validate_expectation(&request.expect)
}

fn validate_expectation(expect: &Expect) -> Result<()> {
    ensure!(
        expect.forwarded.is_some() || (expect.response.is_none() && expect.blocked.is_none()),
        "`response` and `blocked` are of a request that is `forwarded`"
    );
    ensure!(
        expect.response.is_none() || expect.blocked.is_none(),
        "`response` and `blocked` exclude each other"
    );
    match (&expect.forwarded, &expect.denied) {
        (Some(_), None) => {}
        (None, Some(denied)) => ensure!(
            denied.code.is_some() || (denied.title.is_none() && denied.message.is_none()),
            "`title` and `message` are only looked at beside a `code`"
        ),
        _ => bail!("expectation needs exactly one of `forwarded` and `denied`"),
    }
    for (calls, request, peer) in [
        (expect.tm_calls, &expect.tm_request, "tm"),
        (expect.idp_calls, &expect.idp_request, "idp"),
    ] {
        ensure!(
            calls != Some(0) || request.is_none(),
            "`{peer}_request` with `{peer}_calls: 0`"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn suite(case: &str) -> Result<Corpus> {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("base.yaml"), "{ config: {}, tenants: {} }").expect("base");
        let text = format!("about: x\ncases:\n{case}");
        std::fs::write(dir.path().join("some.yaml"), text).expect("suite");
        load(dir.path())
    }

    #[track_caller]
    fn refused(case: &str, part: &str) {
        let error = format!("{:#}", suite(case).expect_err("a fault"));
        assert!(error.contains("some.yaml"), "{error}");
        assert!(error.contains(part), "{error}");
    }

    #[test]
    fn the_corpus_of_this_repository_loads() {
        let corpus = load(&cases_dir()).expect("a corpus");
        assert!(corpus.base.tenants.contains_key("acme"));
        Keys::shared()
            .expand_config(&corpus.base.config)
            .expect("a configuration");
    }

    #[test]
    fn steps_are_written_as_maps() {
        let corpus = suite(
            "- name: a\n  steps:\n  - tenants: { acme: { status: 404 } }\n  - advance_ms: 5\n  \
             - request: { token: acme, headers: [[a, \"\\xff\"]], expect: { denied: { status: 404 } } }",
        )
        .expect("a corpus");
        let steps = &corpus.suites[0].1.cases[0].steps;
        assert!(matches!(steps[0], Step::Tenants(_)));
        assert!(matches!(steps[1], Step::AdvanceMs(5)));
        let Step::Request(request) = &steps[2] else {
            panic!("{steps:?}")
        };
        assert_eq!(request.headers, [("a".to_owned(), "\u{ff}".to_owned())]);
    }

    #[test]
    fn cases_that_make_no_sense_are_refused() {
        let ok = "{ request: { expect: { forwarded: {} } } }";
        refused("- { name: a, steps: [{ request: { expect: {} } }] }", "exactly one");
        refused(
            "- { name: a, steps: [{ request: { expect: { forwarded: {}, denied: { status: 401 } } } }] }",
            "exactly one",
        );
        refused(
            &format!("- {{ name: a, envoy: true, steps: [{{ advance_ms: 1 }}, {ok}] }}"),
            "advance_ms",
        );
        refused(
            &format!("- {{ name: a, steps: [{ok}] }}\n- {{ name: a, steps: [{ok}] }}"),
            "two cases are named `a`",
        );
        refused(
            &format!("- {{ name: a, envoy: true, without: {{ stats: [t] }}, steps: [{ok}] }}"),
            "`without` in a case",
        );
        refused(
            &format!("- {{ name: a, without: {{ functions: [verify] }}, steps: [{ok}] }}"),
            "unknown variant `verify`",
        );
        refused("- { name: a, steps: [] }", "either `refused` or a request");
        refused(
            &format!("- {{ name: a, refused: [[x]], steps: [{ok}] }}"),
            "either `refused` or a request",
        );
        refused(
            "- { name: a, steps: [{ request: { worker: 1, expect: { forwarded: {} } } }] }",
            "worker 1 of 1",
        );
        refused(
            "- { name: a, steps: [{ request: { body: €, expect: { forwarded: {} } } }] }",
            "Latin-1",
        );
        refused(
            "- { name: a, steps: [{ request: { token: { key: nobody }, expect: { forwarded: {} } } }] }",
            "no key `nobody`",
        );
        refused(
            &format!("- {{ name: a, idp: {{ /jwks: {{ body: {{ $keys: [nobody] }} }} }}, steps: [{ok}] }}"),
            "no key `nobody`",
        );
        refused(
            &format!("- {{ name: a, steps: [{{ idp: {{ jwks: {{}} }} }}, {ok}] }}"),
            "no path",
        );
        refused(
            "- { name: a, envoy: true, steps: [{ request: { metadata: {}, expect: { forwarded: {} } } }] }",
            "`metadata` where",
        );
        refused(
            "- { name: a, steps: [{ request: { metadata: { n: 1 }, expect: { forwarded: {} } } }] }",
            "objects by namespace",
        );
        refused(
            &format!("- {{ name: a, route_metadata: {{ n: 1 }}, steps: [{ok}] }}"),
            "objects by namespace",
        );
        refused(
            "- { name: a, steps: [{ request: { expect: { denied: { status: 401 }, blocked: { status: 502 } } } }] }",
            "that is `forwarded`",
        );
        refused(
            "- { name: a, steps: [{ request: { expect: { forwarded: {}, response: {}, blocked: { status: 502 } } } }] }",
            "exclude each other",
        );
        refused(
            "- { name: a, redirects: 1, steps: [{ request: { expect: { forwarded: {}, passes: 3 } } }] }",
            "more `passes` than 2",
        );
        refused(
            "- { name: a, steps: [{ request: { upstream: [{ delay_ms: 1 }], expect: { forwarded: {} } } }] }",
            "at once",
        );
        refused("- { name: a, step: [] }", "unknown field `step`");
        refused("- { name: a, name: b }", "duplicate");
    }

    #[test]
    fn patches_apply_in_order() {
        let base = Base {
            config: json!({ "a": 1, "b": { "c": 1, "d": 1 } }),
            tenants: Default::default(),
        };
        let suite: Suite = serde_json::from_value(json!({ "about": "", "config": { "a": 2, "b": { "c": 2 } },
            "cases": [{ "name": "x", "config": { "a": 3, "b": { "d": null } } }] }))
        .expect("a suite");
        assert_eq!(
            merged_config(&base, &suite, &suite.cases[0]),
            json!({ "a": 3, "b": { "c": 2 } })
        );
    }
}
