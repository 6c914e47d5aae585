//! What comes to several workers at once, or many times to one.

use super::Generator;
use crate::config::{DEFAULT_MODULE, ROUTED_MODULE};
use crate::script::{Act, Answer, Change, Delivery, EventKey, Op, Saying, Timed};

impl Generator {
    /// Several workers at one instant, about few tenants.
    pub(super) fn burst(&mut self) {
        let tenant = self.tenant();
        let acts = self.acts(&tenant);
        let schedule = self.rng.u64(..);
        self.does(Op::Burst { schedule, acts });
    }

    /// What comes to several workers at once, most of it about one tenant.
    pub(super) fn acts(&mut self, tenant: &str) -> Vec<Act> {
        let others = self.tenant();
        let many = self.rng.usize(2..=7);
        (0..many)
            .map(|_| {
                let tenant = if self.happens(70) {
                    tenant.to_owned()
                } else {
                    others.clone()
                };
                if self.happens(20) {
                    Act::Settle(self.worker())
                } else if self.happens(30) {
                    let mut delivery = self.delivery();
                    delivery.events.truncate(1);
                    for event in &mut delivery.events {
                        event.tenant.clone_from(&tenant);
                        event.happened_ms = None;
                    }
                    Act::Tell(delivery)
                } else {
                    Act::Request(self.request_of(&tenant))
                }
            })
            .collect()
    }

    /// Requests wait, and when their answer is there several workers act in the same instant.
    pub(super) fn race(&mut self) {
        let tenant = self.tenant();
        let delay_ms = self.rng.u64(1..40);
        if self.happens(70) {
            let answer = if self.happens(75) {
                Answer::Active(vec![DEFAULT_MODULE.to_owned(), ROUTED_MODULE.to_owned()])
            } else {
                Answer::Refused(Some("suspended".to_owned()))
            };
            self.does(Op::Manager(Change::Says(tenant.clone(), Saying { answer, delay_ms })));
        }
        let mut delivery = self.delivery();
        delivery.events.truncate(1);
        for event in &mut delivery.events {
            event.tenant.clone_from(&tenant);
        }
        self.does(Op::Tell(delivery));
        for _ in 0..self.rng.usize(1..4) {
            let mut request = self.request_of(&tenant);
            "/v1/accounts".clone_into(&mut request.path);
            self.does(Op::Request(request));
        }
        let (at_ms, schedule) = (self.now_ms + delay_ms, self.rng.u64(..));
        self.now_ms = at_ms;
        let mut acts = self.acts(&tenant);
        let others = self.setup.workers;
        for worker in 0..others {
            if self.happens(70) {
                let place = self.rng.usize(..=acts.len());
                acts.insert(place, Act::Settle(worker));
            }
        }
        let op = Op::Burst { schedule, acts };
        self.ops.push(Timed {
            at_ms,
            rushed: true,
            op,
        });
    }

    /// Many for a tenant whose answer takes a while.
    pub(super) fn crowd(&mut self) {
        let tenant = self.tenant();
        let saying = Saying {
            answer: Answer::Active(vec![DEFAULT_MODULE.to_owned(), ROUTED_MODULE.to_owned()]),
            delay_ms: self.delay(),
        };
        self.does(Op::Manager(Change::Says(tenant.clone(), saying)));
        let mut delivery = self.delivery();
        delivery.key = EventKey::Right;
        delivery.is_cut_off = false;
        delivery.events.truncate(1);
        for event in &mut delivery.events {
            "tenant.updated".clone_into(&mut event.kind);
            event.tenant.clone_from(&tenant);
            event.environment = None;
            event.service = None;
            event.happened_ms = None;
        }
        self.does(Op::Tell(delivery));
        for _ in 0..self.rng.usize(5..40) {
            let request = self.request_of(&tenant);
            self.does(Op::Request(request));
        }
    }

    /// Another configuration, on all workers at once or on one after the other.
    pub(super) fn update(&mut self) {
        let config = self.rng.usize(..self.setup.configs.len());
        if self.happens(50) {
            self.does(Op::Update(config));
            return;
        }
        self.does(Op::UpdateLater(config));
        if self.happens(70) {
            let (tenant, schedule) = (self.tenant(), self.rng.u64(..));
            let acts = self.acts(&tenant);
            let (at_ms, op) = (self.now_ms, Op::Burst { schedule, acts });
            self.ops.push(Timed {
                at_ms,
                rushed: true,
                op,
            });
        }
        if self.happens(30) {
            let at_ms = self.now_ms + self.rng.u64(0..3_000);
            self.does_at(at_ms, Op::Drain);
        }
    }
    /// Many wait for an answer, and while one after the other is let go another worker is told that their tenant
    /// is suspended.
    pub(super) fn overtaken(&mut self) {
        if self.setup.workers < 2 {
            return;
        }
        let tenant = self.tenant();
        let delay_ms = self.rng.u64(2..30);
        let modules = vec![DEFAULT_MODULE.to_owned(), ROUTED_MODULE.to_owned()];
        let answer = Answer::Active(modules);
        self.does(Op::Manager(Change::Says(tenant.clone(), Saying { answer, delay_ms })));
        let told = |kind: &str, delivery: &mut Delivery| {
            delivery.worker = 1;
            delivery.key = EventKey::Right;
            delivery.is_cut_off = false;
            delivery.events.truncate(1);
            for event in &mut delivery.events {
                kind.clone_into(&mut event.kind);
                event.tenant.clone_from(&tenant);
                event.environment = None;
                event.service = None;
                event.happened_ms = None;
            }
        };
        let mut dropped = self.delivery();
        told("tenant.updated", &mut dropped);
        self.does(Op::Tell(dropped));
        for _ in 0..self.rng.usize(10..50) {
            let mut request = self.request_of(&tenant);
            request.worker = 0;
            "/v1/accounts".clone_into(&mut request.path);
            self.does(Op::Request(request));
        }
        let mut suspended = self.delivery();
        told("tenant.suspended", &mut suspended);
        let schedule = self.rng.u64(..);
        self.now_ms += delay_ms;
        let acts = vec![Act::Settle(0), Act::Tell(suspended), Act::Settle(0)];
        let op = Op::Burst { schedule, acts };
        let (at_ms, rushed) = (self.now_ms, true);
        self.ops.push(Timed { at_ms, rushed, op });
    }
}
