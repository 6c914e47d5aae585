use super::*;
use crate::resolve::Unavailable;
use crate::telemetry::LookupFailure;
use crate::world::World;

fn tenant() -> TenantId {
    TenantId::parse("acme", false).unwrap()
}

fn found(json: &str) -> Outcome {
    Outcome::Found(Rc::new(Record::parse(json.as_bytes()).unwrap()))
}

fn to(module: &str, readings: &[&str]) -> Destination {
    Destination {
        module: Module::new(module).unwrap(),
        readings: readings.iter().map(|name| Module::new(name).unwrap()).collect(),
    }
}

fn judged(to: Destination, outcome: Option<&Outcome>) -> Result<Admitted, Denial> {
    let candidate = Candidate {
        tenant: tenant(),
        to,
        outcome,
        is_second_pass: false,
    };
    admit(candidate, OnUnavailable::Deny, None, &World::default())
}

fn denied(outcome: &Outcome) -> Option<Denial> {
    judged(to("onboarding", &[]), Some(outcome)).err()
}

#[test]
fn a_granted_module_of_an_active_tenant_is_admitted() {
    for json in [
        r#"{"id":"acme","databases":{"onboarding":{}}}"#,
        r#"{"id":"acme","status":"active","databases":{"onboarding":{"postgresql":{"password":"p"}}}}"#,
        r#"{"id":"acme","isolationMode":"schema","databases":{"onboarding":{"postgresql":{"schema":"acme_1"}}}}"#,
    ] {
        assert_eq!(denied(&found(json)), None, "{json}");
    }
}

#[test]
fn status_is_judged_before_the_module() {
    for status in ["suspended", "purged", "Active", "ACTIVE", "", " active"] {
        let json = format!(r#"{{"id":"acme","status":"{status}"}}"#);
        assert_eq!(
            denied(&found(&json)),
            Some(Denial::TenantRefused { status: status.into() })
        );
    }
}

#[test]
fn every_outcome_has_its_denial() {
    for (outcome, denial) in [
        (
            Outcome::Refused {
                status: "purged".into(),
            },
            Denial::TenantRefused {
                status: "purged".into(),
            },
        ),
        (Outcome::AccessDenied, Denial::AccessDenied),
        (Outcome::NotFound, Denial::TenantNotFound(tenant())),
        (Outcome::NotProvisioned, Denial::NotProvisioned),
        (
            Outcome::Unavailable(Unavailable::Failed(LookupFailure::BadRecord)),
            Denial::Unavailable(Unavailable::Failed(LookupFailure::BadRecord)),
        ),
        (found(r#"{"id":"acme"}"#), Denial::ServiceNotConfigured),
        (found(r#"{"id":"acme","databases":{}}"#), Denial::ServiceNotConfigured),
        (
            found(r#"{"id":"acme","databases":{"Onboarding":{}}}"#),
            Denial::ServiceNotConfigured,
        ),
        (
            found(r#"{"id":"acme","databases":{"onboarding":null}}"#),
            Denial::ServiceNotConfigured,
        ),
        (
            found(
                r#"{"id":"acme","isolationMode":"schema","databases":{"onboarding":{"postgresql":{"schema":"a b"}}}}"#,
            ),
            Denial::SchemaInvalid,
        ),
        (
            found(r#"{"id":"acme","isolationMode":"schema","databases":{"onboarding":{}}}"#),
            Denial::SchemaInvalid,
        ),
    ] {
        assert_eq!(denied(&outcome), Some(denial));
    }
}

#[test]
fn without_a_tenant_manager_the_claim_is_enough() {
    assert!(judged(to("anything", &[]), None).is_ok());
}

#[test]
fn every_module_that_a_path_may_be_taken_for_must_be_granted() {
    let both = found(r#"{"id":"acme","databases":{"onboarding":{},"transaction":{}}}"#);
    let one = found(r#"{"id":"acme","databases":{"onboarding":{}}}"#);
    let path = || to("onboarding", &["transaction"]);
    assert!(judged(path(), Some(&both)).is_ok());
    assert_eq!(judged(path(), Some(&one)).err(), Some(Denial::ServiceNotConfigured));
}
