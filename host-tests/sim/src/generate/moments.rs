//! Requests in the last millisecond in which something holds, and in the next; and those that stay.

use super::Generator;
use crate::config::{DEFAULT_MODULE, ROUTED_MODULE};
use crate::script::{Answer, Change, Credential, Delivery, Issuer, Op, Saying, Token};

impl Generator {
    /// A token in the last millisecond in which it holds, and in the next.
    pub(super) fn last_moment(&mut self) {
        let end_s = self.now_ms / 1_000 + 1;
        let leeway_s = self.setup.configs[0].leeway_s;
        let expires_s = i64::try_from(end_s).expect("short") - i64::try_from(leeway_s).expect("short");
        let tenant = self.tenant();
        let mut request = self.request_of(&tenant);
        request.credential = Credential::Token(Token {
            tenant,
            issuer: Issuer::Secret,
            expires_s,
            serial: 0,
            flaw: None,
        });
        for at_ms in [end_s * 1_000 - 1, end_s * 1_000] {
            request.id = self.id();
            self.does_at(at_ms, Op::Request(request.clone()));
        }
    }

    /// Requests in the last millisecond of a refusal, and in the next.
    pub(super) fn last_refusal(&mut self, delivery: &Delivery) {
        let tenant = delivery.events[0].tenant.clone();
        let end_ms = self.now_ms + self.setup.configs[0].ttl_s * 1_000;
        for at_ms in [end_ms - 1, end_ms] {
            let request = self.request_of(&tenant);
            self.does_at(at_ms, Op::Request(request));
        }
    }

    /// A request that stays open for a while.
    pub(super) fn stream(&mut self) {
        let mut request = self.request();
        request.stays_open = true;
        request.body = 0;
        request.trailers.clear();
        let id = request.id;
        self.does(Op::Request(request));
        let mut at_ms = self.now_ms;
        for _ in 0..self.rng.usize(0..4) {
            at_ms += self.rng.u64(0..800);
            self.does_at(at_ms, Op::Body(id));
        }
        at_ms += self.rng.u64(0..3_000);
        let trailers = if self.happens(30) {
            vec![
                ("x-tenant-id".to_owned(), "globex".to_owned()),
                ("x-after".to_owned(), "1".to_owned()),
            ]
        } else {
            Vec::new()
        };
        let op = if self.happens(80) {
            Op::End(id, trailers)
        } else {
            Op::Leave(id)
        };
        self.does_at(at_ms, op);
    }
    /// A stream is open for longer than any record holds, and then somebody else's question brings a refusal.
    pub(super) fn late_refusal(&mut self) {
        let knobs = &self.setup.configs[0];
        let spent_s = knobs.ttl_s + knobs.ttl_s / 10 + knobs.stale_s + knobs.fallback_s + 1;
        let is_seen = knobs.cuts_streams && !knobs.reports && self.setup.workers > 1;
        if !is_seen {
            return;
        }
        let tenant = self.tenant();
        let modules = vec![DEFAULT_MODULE.to_owned(), ROUTED_MODULE.to_owned()];
        let answers = [Answer::Active(modules), Answer::Refused(Some("suspended".to_owned()))];
        for (worker, answer) in answers.into_iter().enumerate() {
            let saying = Saying { answer, delay_ms: 1 };
            self.does(Op::Manager(Change::Says(tenant.clone(), saying)));
            let mut request = self.request_of(&tenant);
            request.worker = worker;
            let mut token = self.token(&tenant);
            token.issuer = Issuer::Secret;
            token.expires_s = 100_000;
            token.flaw = None;
            request.credential = Credential::Token(token);
            "/v1/accounts".clone_into(&mut request.path);
            request.stays_open = worker == 0;
            if request.stays_open {
                request.body = 0;
                request.trailers.clear();
            }
            self.does(Op::Request(request));
            self.now_ms += if worker == 0 { spent_s * 1_000 } else { 600 };
        }
    }
}
