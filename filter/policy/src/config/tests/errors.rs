use super::*;
use crate::denial::Code;

fn overriding(overrides: &Value) -> Value {
    patched(&json!({ "errors": { "overrides": overrides } }))
}

#[test]
fn without_the_block_no_code_is_overridden() {
    for document in [smallest(), patched(&json!({ "errors": {} })), overriding(&json!({}))] {
        let errors = config(&document).errors;
        assert!(Code::ALL.iter().all(|code| errors.of(*code).is_none()), "{document}");
    }
}

#[test]
fn what_an_override_leaves_out_stays_as_it_is() {
    let errors = config(&overriding(&json!({
        "TENANT_SUSPENDED": { "code": "0131" },
        "CIRCUIT_OPEN": { "status": 599, "title": "Später", "message": "x" },
    })))
    .errors;
    let suspended = errors.of(Code::TenantSuspended).expect("overridden");
    assert_eq!(suspended.code.as_deref(), Some("0131"));
    assert_eq!(
        (suspended.status, &suspended.title, &suspended.message),
        (None, &None, &None)
    );
    let open = errors.of(Code::CircuitOpen).expect("overridden");
    assert_eq!((open.status, open.code.as_deref()), (Some(599), None));
    assert_eq!(
        (open.title.as_deref(), open.message.as_deref()),
        (Some("Später"), Some("x"))
    );
    assert!(errors.of(Code::TenantAccessDenied).is_none());
}

#[test]
fn every_code_for_callers_can_be_overridden_and_no_other() {
    let refused = [
        "EVENTS_UNAUTHORIZED",
        "EVENTS_MALFORMED",
        "EVENTS_NOT_TAKEN",
        "INTERNAL_ERROR",
    ];
    for code in Code::ALL {
        let found = faults(&overriding(&json!({ code.as_str(): { "status": 418 } })));
        assert_eq!(found.is_empty(), !refused.contains(&code.as_str()), "{found:?}");
    }
    assert_eq!(Code::OVERRIDABLE.len(), Code::ALL.len() - refused.len());
}

#[test]
fn the_longest_texts_and_the_outermost_statuses_are_accepted() {
    for status in [400, 599] {
        let all = json!({
            "status": status,
            "code": "c".repeat(64),
            "title": "ü".repeat(128),
            "message": "ü".repeat(512),
        });
        assert_eq!(
            faults(&overriding(&json!({ "KEY_REJECTED": all }))),
            Vec::<String>::new()
        );
    }
}

#[test]
fn every_fault_of_an_override_is_found_and_its_place_named() {
    const TITLE: &str = "accepted: 1 to 128 characters, no control characters";
    const MESSAGE: &str = "accepted: 1 to 512 characters, no control characters";
    for (member, found, accepted) in [
        (
            json!({ "status": 399 }),
            "/status: found `399`",
            "accepted: a whole number from 400 to 599",
        ),
        (
            json!({ "status": 600 }),
            "/status: found `600`",
            "accepted: a whole number from 400 to 599",
        ),
        (
            json!({ "status": "401" }),
            "/status: found a string",
            "accepted: a whole number from 400 to 599",
        ),
        (
            json!({ "code": "" }),
            "/code: found ``",
            "accepted: 1 to 64 visible ASCII characters",
        ),
        (
            json!({ "code": "a b" }),
            "/code: found `a b`",
            "accepted: 1 to 64 visible ASCII characters",
        ),
        (
            json!({ "code": "ü" }),
            "/code: found `ü`",
            "accepted: 1 to 64 visible ASCII characters",
        ),
        (
            json!({ "code": "c".repeat(65) }),
            "/code: found `cccc",
            "accepted: 1 to 64 visible ASCII characters",
        ),
        (json!({ "code": 131 }), "/code: found a number", "accepted: a string"),
        (json!({ "title": "" }), "/title: found ``", TITLE),
        (json!({ "title": "a\nb" }), "/title: found `a\\nb`", TITLE),
        (json!({ "title": "t".repeat(129) }), "/title: found `tttt", TITLE),
        (json!({ "message": "" }), "/message: found ``", MESSAGE),
        (json!({ "message": "\u{85}" }), "/message: found `\\u{85}`", MESSAGE),
        (json!({ "message": "m".repeat(513) }), "/message: found `mmmm", MESSAGE),
        (
            json!({ "titel": "x" }),
            "/titel: found an unknown member",
            "accepted: `status`, `code`, `title`, `message`",
        ),
        (
            json!({}),
            ": found nothing to override",
            "accepted: one or more of `status`",
        ),
        (json!(7), ": found a number", "accepted: an object"),
    ] {
        let faults = faults(&overriding(&json!({ "KEY_REJECTED": member })));
        let [fault] = faults.as_slice() else {
            panic!("one cause, one fault: {faults:#?}")
        };
        let at = format!("/errors/overrides/KEY_REJECTED{found}");
        assert!(fault.starts_with(&at) && fault.contains(accepted), "{fault}");
    }
}

#[test]
fn a_code_that_cannot_be_overridden_is_answered_with_those_that_can() {
    for name in [
        "TENANT_UNKNOWN",
        "tenant_not_found",
        "INTERNAL_ERROR",
        "EVENTS_NOT_TAKEN",
    ] {
        let found = faults(&overriding(&json!({ name: { "status": 404 } })));
        let [fault] = found.as_slice() else {
            panic!("one cause, one fault: {found:#?}")
        };
        let start =
            format!("/errors/overrides/{name}: found no code that can be overridden, accepted: `PATH_REJECTED`, ");
        assert!(fault.starts_with(&start), "{fault}");
        assert!(
            fault.contains("`TENANT_RATE_LIMITED`") && !fault.contains("`INTERNAL_ERROR`"),
            "{fault}"
        );
    }
}

#[test]
fn overrides_are_judged_where_nothing_is_enforced_too() {
    let document = json!({ "version": "v1", "errors": { "overrides": { "NONE": { "status": 1 } } } });
    assert_eq!(faults(&document).len(), 1);
}
