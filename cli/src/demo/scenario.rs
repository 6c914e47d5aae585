//! What the demo sends and what must become of it: data, and the shapes it is written in.

use std::collections::BTreeMap;

use corpus::answer::Answer;
use corpus::case::{Damage, Denied, Expect, Forwarded, Lines, Made, Request, Response, Token};
use serde_json::{Value, json};

use super::table::Cell;

/// One row of the table: a request and what must become of it.
#[derive(Debug)]
pub(crate) struct Row {
    /// The request in words, for somebody who sees it for the first time.
    pub(crate) sent: &'static str,
    /// What happens before it is sent.
    pub(crate) before: Option<Event>,
    /// How it is sent, and what must become of it.
    pub(crate) request: Request,
    /// Whether it may take some time until that becomes of it: what is remembered ages, and a circuit
    /// opens and closes by and by.
    pub(crate) patient: bool,
    /// Whether it must be served from a record that only serves because the Tenant Manager is
    /// unavailable.
    pub(crate) fallback: bool,
}

/// Something that happens to the world. Happening again changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// The Tenant Manager goes away.
    TenantManagerStops,
    /// It is there again.
    TenantManagerReturns,
    /// The events listener is told of something that has happened to a tenant, and says that it has
    /// taken it.
    Told {
        /// The `event_type`.
        kind: &'static str,
        /// The `tenant_id`.
        tenant: &'static str,
    },
}

/// Enough connections that every worker has some: the kernel deals them out.
const CONNECTIONS: usize = 32;

/// The rows in the order in which they are sent. Later rows rely on what earlier ones left in the
/// filter's cache: `asks` counts the questions to the Tenant Manager.
pub(crate) fn rows() -> Vec<Row> {
    vec![
        row("acme, with four keys of its own")
            .token(tenant("acme"))
            .header("x-routing-key", "order.created")
            .header("x-binding-key", "order.*")
            .header("x-redis-key", "session:42")
            .header("x-storage-key", "reports/2026.pdf")
            .asks(1)
            .forwarded(&[
                ("x-tenant-id", "acme"),
                ("x-routing-key", "order.created.acme"),
                ("x-binding-key", "order.*.acme"),
                ("x-redis-key", "tenant:acme:session:42"),
                ("x-storage-key", "acme/reports/2026.pdf"),
            ]),
        row("globex, with the same keys")
            .token(tenant("globex"))
            .header("x-routing-key", "order.created")
            .header("x-binding-key", "order.*")
            .header("x-redis-key", "session:42")
            .header("x-storage-key", "reports/2026.pdf")
            .asks(1)
            .forwarded(&[
                ("x-tenant-id", "globex"),
                ("x-routing-key", "order.created.globex"),
                ("x-binding-key", "order.*.globex"),
                ("x-redis-key", "tenant:globex:session:42"),
                ("x-storage-key", "globex/reports/2026.pdf"),
            ]),
        row("acme, claiming to be globex in a header")
            .token(tenant("acme"))
            .header("x-tenant-id", "globex")
            .patiently()
            .forwarded(&[("x-tenant-id", "acme")]),
        row("acme, asking for a file of globex")
            .path("/storage/globex/2026.pdf")
            .token(tenant("acme"))
            .patiently()
            .forwarded_as("/storage/acme/globex/2026.pdf", &[("x-tenant-id", "acme")]),
        row("acme, told the name of its own file")
            .token(tenant("acme"))
            .answered(&[("x-storage-key", "acme/a.pdf")])
            .returned(&[("x-storage-key", "a.pdf")])
            .patiently()
            .forwarded(&[("x-tenant-id", "acme")]),
        row("acme, answered with a file of globex")
            .token(tenant("acme"))
            .answered(&[("x-storage-key", "globex/a.pdf")])
            .withheld(502, "TENANT_LEAK_BLOCKED")
            .patiently()
            .forwarded(&[("x-tenant-id", "acme")]),
        row("no token").denied(401, "TENANT_ID_REQUIRED"),
        row("a token signed with somebody else's key")
            .token(Made {
                key: Some("other-rs256".to_owned()),
                header: Some(json!({ "kid": "main-rs256" })),
                ..acme()
            })
            .denied(401, "TOKEN_INVALID"),
        row("acme's token, edited to say globex")
            .token(Made {
                damage: Some(Damage::SwapClaims),
                ..acme()
            })
            .denied(401, "TOKEN_INVALID"),
        row("a token that expired five minutes ago")
            .token(with_claims(
                json!({ "iat": { "$now": -3900 }, "exp": { "$now": -300 } }),
            ))
            .denied(401, "TOKEN_INVALID"),
        row("a token made for another service")
            .token(with_claims(json!({ "aud": "billing" })))
            .denied(401, "TOKEN_INVALID"),
        row("a tenant id that is no tenant id")
            .token(with_claims(json!({ "tenantId": "acme/../globex" })))
            .denied(401, "TENANT_ID_INVALID"),
        row("hooli, which is suspended")
            .token(tenant("hooli"))
            .asks(1)
            .denied(403, "TENANT_SUSPENDED"),
        row("hooli, over gRPC")
            .path("/ledger.Accounts/List")
            .token(tenant("hooli"))
            .patiently()
            .denied_grpc(7),
        row("a tenant that nobody has heard of")
            .token(tenant("nobody"))
            .asks(1)
            .denied(404, "TENANT_NOT_FOUND"),
        row("initech, which has not bought payments")
            .path("/v1/payments")
            .token(tenant("initech"))
            .asks(1)
            .denied(503, "SERVICE_NOT_CONFIGURED"),
        row("initech, again and again within a second")
            .token(tenant("initech"))
            .patiently()
            .denied(429, "TENANT_RATE_LIMITED"),
        row("a public path needs no token").path("/health").forwarded(&[]),
        row("a public path, claiming to be globex")
            .path("/health")
            .header("x-tenant-id", "globex")
            .forwarded(&[]),
        row("climbing out of a public path")
            .path("/health/%252e%252e/v1/accounts")
            .denied(400, "PATH_REJECTED"),
        row("acme, climbing out of its storage")
            .token(tenant("acme"))
            .header("x-storage-key", "../globex/2026.pdf")
            .patiently()
            .denied(400, "KEY_REJECTED"),
        row("globex, suspended by an event")
            .after(told("tenant.suspended", "globex"))
            .token(tenant("globex"))
            .on_every_worker()
            .patiently()
            .denied(403, "TENANT_SUSPENDED"),
        row("globex, activated again by an event")
            .after(told("tenant.activated", "globex"))
            .token(tenant("globex"))
            .asks(1)
            .forwarded(&[("x-tenant-id", "globex")]),
        row("Tenant Manager stopped: umbrella, new")
            .after(Event::TenantManagerStops)
            .token(tenant("umbrella"))
            .denied(503, "TENANT_MANAGER_UNAVAILABLE"),
        row("Tenant Manager stopped: acme, remembered")
            .token(tenant("acme"))
            .forwarded(&[("x-tenant-id", "acme")]),
        row("Tenant Manager stopped: acme, too old")
            .token(tenant("acme"))
            .until_too_old()
            .forwarded(&[("x-tenant-id", "acme")]),
        row("some failures later: umbrella, still new")
            .token(tenant("umbrella"))
            .patiently()
            .denied(503, "CIRCUIT_OPEN"),
        row("Tenant Manager back: umbrella")
            .after(Event::TenantManagerReturns)
            .token(tenant("umbrella"))
            .asks(1)
            .patiently()
            .forwarded(&[("x-tenant-id", "umbrella")]),
    ]
}

/// Headers that say whose a request is. Whatever a row does not expect of them must be absent at the
/// upstream.
const TENANT_HEADERS: [&str; 5] = [
    "x-tenant-id",
    "x-routing-key",
    "x-binding-key",
    "x-redis-key",
    "x-storage-key",
];

impl Row {
    /// The first column: the words, then the request itself without its token.
    pub(crate) fn cells(&self) -> Cell {
        let request = &self.request;
        let mut lines = vec![self.sent.to_owned()];
        if let Some(Event::Told { kind, tenant }) = self.before {
            lines.push(format!("  event {kind} {tenant}"));
        }
        let often = match request.times {
            0 | 1 => String::new(),
            times => format!(" on {times} connections"),
        };
        lines.push(format!("  {} {}{often}", request.method, request.path));
        lines.extend(request.headers.iter().map(|(name, value)| format!("  {name}: {value}")));
        let answered = request.upstream.iter().flat_map(|answer| &answer.headers);
        lines.extend(answered.map(|(name, value)| format!("  answered {name}: {value}")));
        lines
    }

    /// The headers to show of what the upstream saw: the tenant, and every key that was sent.
    pub(crate) fn watched(&self) -> impl Iterator<Item = &'static str> {
        let sent = |name: &str| self.request.headers.iter().any(|(header, _)| header == name);
        TENANT_HEADERS
            .into_iter()
            .filter(move |name| *name == "x-tenant-id" || sent(name))
    }
}

/// A row that is being written down.
struct Draft(Row);

fn row(sent: &'static str) -> Draft {
    let request = Request {
        expect: Expect {
            tm_calls: Some(0),
            ..Expect::default()
        },
        ..Request::default()
    };
    Draft(Row {
        sent,
        before: None,
        request,
        patient: false,
        fallback: false,
    })
}

impl Draft {
    fn after(mut self, event: Event) -> Self {
        self.0.before = Some(event);
        self
    }

    /// It is sent again until it is as expected.
    fn patiently(mut self) -> Self {
        self.0.patient = true;
        self
    }

    /// It is sent again until the record that serves it is too old to serve otherwise.
    fn until_too_old(mut self) -> Self {
        self.0.fallback = true;
        self.patiently()
    }

    /// It is sent so often that every worker gets it.
    fn on_every_worker(mut self) -> Self {
        self.0.request.times = CONNECTIONS;
        self
    }

    fn path(mut self, path: &str) -> Self {
        path.clone_into(&mut self.0.request.path);
        self
    }

    fn token(mut self, made: Made) -> Self {
        self.0.request.token = Some(Token::Made(Box::new(made)));
        self
    }

    fn header(mut self, name: &str, value: &str) -> Self {
        self.0.request.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The Tenant Manager is asked that often, otherwise never.
    fn asks(mut self, times: usize) -> Self {
        self.0.request.expect.tm_calls = Some(times);
        self
    }

    /// The upstream answers with these headers, and a body that is not to be had without them.
    fn answered(mut self, headers: &[(&str, &str)]) -> Self {
        let headers = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        self.0.request.upstream = vec![Answer {
            headers: headers.collect(),
            body: Some(json!(UPSTREAM_BODY)),
            ..Answer::default()
        }];
        self
    }

    /// The client gets the upstream's answer, with these headers.
    fn returned(mut self, headers: &[(&str, &str)]) -> Self {
        let headers = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Lines::One((*value).to_owned())));
        self.0.request.expect.response = Some(Response {
            status: 200,
            headers: headers.collect(),
            body: Some(UPSTREAM_BODY.to_owned()),
            ..Response::default()
        });
        self
    }

    /// The upstream's answer is held back, and the client gets this.
    fn withheld(mut self, status: u16, code: &str) -> Self {
        self.0.request.expect.blocked = Some(denial(status, code));
        self
    }

    /// The upstream gets the same path and of the tenant headers exactly these.
    fn forwarded(self, headers: &[(&str, &str)]) -> Row {
        let path = self.0.request.path.clone();
        self.forwarded_as(&path, headers)
    }

    /// The upstream gets this path and of the tenant headers exactly these.
    fn forwarded_as(mut self, path: &str, headers: &[(&str, &str)]) -> Row {
        let mut expected: BTreeMap<_, _> = TENANT_HEADERS
            .into_iter()
            .map(|name| (name.to_owned(), Lines::Many(Vec::new())))
            .collect();
        expected.extend(
            headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), Lines::One((*value).to_owned()))),
        );
        self.0.request.expect.forwarded = Some(Forwarded {
            path: Some(path.to_owned()),
            headers: expected,
            ..Forwarded::default()
        });
        self.0
    }

    /// The upstream gets nothing, the client this.
    fn denied(mut self, status: u16, code: &str) -> Row {
        self.0.request.expect.denied = Some(denial(status, code));
        self.0
    }

    /// It is a call of gRPC; the upstream gets nothing, the client this status.
    fn denied_grpc(mut self, status: u8) -> Row {
        "POST".clone_into(&mut self.0.request.method);
        let status = ("grpc-status".to_owned(), Lines::One(status.to_string()));
        let denied = Denied {
            status: 200,
            code: None,
            title: None,
            message: None,
            headers: [status].into(),
        };
        let mut row = self
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .0;
        row.request.expect.denied = Some(denied);
        row
    }
}

/// What an upstream answers that does not answer with what it saw.
const UPSTREAM_BODY: &str = "the file";

fn denial(status: u16, code: &str) -> Denied {
    Denied {
        status,
        code: Some(code.to_owned()),
        title: None,
        message: None,
        headers: BTreeMap::new(),
    }
}

fn told(kind: &'static str, tenant: &'static str) -> Event {
    Event::Told { kind, tenant }
}

/// A valid token of that tenant.
pub(crate) fn tenant(id: &str) -> Made {
    Made {
        tenant: Some(id.to_owned()),
        ..Made::default()
    }
}

fn acme() -> Made {
    tenant("acme")
}

/// Acme's token with other claims.
fn with_claims(patch: Value) -> Made {
    Made {
        claims: Some(patch),
        ..acme()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use corpus::mint::Keys;

    use super::super::{table, world};
    use super::*;

    fn codes() -> BTreeSet<String> {
        let rows = rows().into_iter().map(|row| row.request.expect);
        rows.filter_map(|expect| expect.denied.or(expect.blocked)?.code)
            .collect()
    }

    #[test]
    fn every_refusal_that_a_newcomer_would_think_of_is_there() {
        let wanted = [
            "CIRCUIT_OPEN",
            "KEY_REJECTED",
            "PATH_REJECTED",
            "SERVICE_NOT_CONFIGURED",
            "TENANT_ID_INVALID",
            "TENANT_ID_REQUIRED",
            "TENANT_LEAK_BLOCKED",
            "TENANT_MANAGER_UNAVAILABLE",
            "TENANT_NOT_FOUND",
            "TENANT_RATE_LIMITED",
            "TENANT_SUSPENDED",
            "TOKEN_INVALID",
        ];
        assert_eq!(codes(), wanted.map(str::to_owned).into());
    }

    #[test]
    fn every_row_is_whole() {
        let mut words = BTreeSet::new();
        for row in rows() {
            let expect = &row.request.expect;
            assert!(words.insert(row.sent), "`{}` is there twice", row.sent);
            assert_ne!(expect.forwarded.is_some(), expect.denied.is_some(), "{}", row.sent);
            for line in row.cells() {
                assert!(
                    line.chars().count() <= table::MAX_WIDTHS[0],
                    "`{line}` does not fit its column"
                );
            }
            row.request
                .field_lines(Keys::shared(), 1_800_000_000)
                .expect("a request that can be sent");
        }
    }

    #[test]
    fn whoever_is_forwarded_with_a_token_has_its_tenant_seen() {
        for row in rows() {
            let Some(forwarded) = &row.request.expect.forwarded else {
                continue;
            };
            let seen = forwarded.headers.get("x-tenant-id");
            let wanted = match &row.request.token {
                Some(Token::Made(made)) => Lines::One(made.tenant.clone().expect("a tenant")),
                Some(Token::Tenant(id)) => Lines::One(id.clone()),
                None => Lines::Many(Vec::new()),
            };
            assert_eq!(seen, Some(&wanted), "{}", row.sent);
        }
    }

    #[test]
    fn only_known_tenants_are_forwarded_and_unknown_ones_are_unknown() {
        let tenants = world::tenants().expect("the demo's tenants");
        for row in rows() {
            let Some(Token::Made(made)) = &row.request.token else {
                continue;
            };
            let id = made.tenant.as_deref().expect("a tenant");
            let code = row
                .request
                .expect
                .denied
                .as_ref()
                .and_then(|denied| denied.code.as_deref());
            assert_eq!(
                tenants.contains_key(id),
                code != Some("TENANT_NOT_FOUND"),
                "{}",
                row.sent
            );
        }
    }

    #[test]
    fn the_tenant_manager_stops_once_returns_once_and_is_not_asked_in_between() {
        let rows = rows();
        let place = |event| {
            let places: Vec<_> = (0..rows.len())
                .filter(|place| rows[*place].before == Some(event))
                .collect();
            assert_eq!(places.len(), 1, "{event:?}");
            places[0]
        };
        let away = &rows[place(Event::TenantManagerStops)..place(Event::TenantManagerReturns)];
        assert!(away.iter().all(|row| row.request.expect.tm_calls == Some(0)));
        assert!(away.iter().any(|row| row.request.expect.forwarded.is_some()));
        assert!(away.iter().any(|row| row.request.expect.denied.is_some()));
        assert_eq!(away.iter().filter(|row| row.fallback).count(), 1);
    }

    #[test]
    fn a_tenant_is_served_before_an_event_refuses_it_and_again_after_another() {
        let rows = rows();
        let told: Vec<_> = (0..rows.len())
            .filter_map(|place| match rows[place].before {
                Some(Event::Told { kind, tenant }) => Some((place, kind, tenant)),
                _ => None,
            })
            .collect();
        let [
            (refusal, "tenant.suspended", refused),
            (lift, "tenant.activated", lifted),
        ] = told[..]
        else {
            panic!("{told:?}");
        };
        assert_eq!((refused, lift), (lifted, refusal + 1));
        let is_of = |row: &Row| matches!(&row.request.token, Some(Token::Made(made)) if made.tenant.as_deref() == Some(refused));
        let before = rows[..refusal]
            .iter()
            .rev()
            .find(|row| is_of(row))
            .expect("it is known");
        for (row, is_served) in [(before, true), (&rows[refusal], false), (&rows[lift], true)] {
            assert!(is_of(row), "{}", row.sent);
            assert_eq!(row.request.expect.forwarded.is_some(), is_served, "{}", row.sent);
        }
        assert_eq!(rows[refusal].request.expect.tm_calls, Some(0), "nobody asks");
        assert_eq!(rows[refusal].request.times, CONNECTIONS);
    }
}
