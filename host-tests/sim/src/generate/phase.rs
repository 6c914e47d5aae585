//! Stretches of a world in each of which something else goes wrong.

use super::Generator;
use crate::config::{DEFAULT_MODULE, ENVIRONMENT, ROUTED_MODULE, SERVICE};
use crate::script::{
    Act, Answer, Change, Credential, Delivery, Event, EventKey, Issuer, Keys, KeysAnswer, Op, Saying, Timed, Token,
};
use crate::tokens::REMOTE_KEYS;

/// What goes wrong.
#[derive(Debug, Clone, Copy)]
pub(super) enum Phase {
    Calm,
    /// The Tenant Manager is ill.
    Outage,
    /// It is slow, some of its answers too slow.
    Slow,
    /// It says something else of one tenant after the other.
    Moody,
    /// It does not take one of the API keys any more.
    ApiKeys,
    /// The identity provider is ill, or signs with another key.
    Rotation,
    /// Events come.
    Events,
    /// Several workers act at the same instant.
    Bursts,
    /// Several workers act when an answer is there.
    Races,
    /// Nothing for a long time.
    Idle,
    /// VMs die.
    Deaths,
    /// Configurations are put in force.
    Updates,
    /// Requests that stay open.
    Streams,
    /// Many at once for one tenant.
    Crowd,
}

const PHASES: [Phase; 20] = [
    Phase::Calm,
    Phase::Outage,
    Phase::Outage,
    Phase::Slow,
    Phase::Moody,
    Phase::Moody,
    Phase::ApiKeys,
    Phase::Rotation,
    Phase::Events,
    Phase::Events,
    Phase::Events,
    Phase::Bursts,
    Phase::Bursts,
    Phase::Races,
    Phase::Races,
    Phase::Idle,
    Phase::Deaths,
    Phase::Updates,
    Phase::Streams,
    Phase::Crowd,
];

const KINDS: [&str; 17] = [
    "tenant.created",
    "tenant.activated",
    "tenant.activated",
    "tenant.updated",
    "tenant.suspended",
    "tenant.suspended",
    "tenant.deleted",
    "tenant.service.associated",
    "tenant.service.disassociated",
    "tenant.service.suspended",
    "tenant.service.purged",
    "tenant.service.reactivated",
    "tenant.credentials.rotated",
    "tenant.connections.updated",
    "tenant.cache.invalidate",
    "cache.invalidate_all",
    "tenant.of.tomorrow",
];

impl Phase {
    pub(super) fn any(generator: &mut Generator) -> Self {
        *generator.one_of(&PHASES)
    }

    pub(super) fn write(self, generator: &mut Generator) {
        let requests = generator.rng.usize(20..150);
        let gap_ms = *generator.one_of(&[1, 5, 20, 100, 400]);
        match self {
            Self::Outage => generator.outage(),
            Self::ApiKeys => generator.api_keys(),
            Self::Idle => {
                let ttl_ms = generator.setup.configs[0].ttl_s * 1_000;
                generator.now_ms += generator.rng.u64(ttl_ms / 2..ttl_ms * 3);
            }
            _ => {}
        }
        for n in 0..requests {
            self.step(generator, n);
            let mut request = generator.request();
            if matches!(self, Self::Streams) && generator.happens(30) {
                generator.stream();
                request = generator.request();
            }
            let id = request.id;
            generator.does(Op::Request(request));
            if generator.happens(2) {
                let at_ms = generator.now_ms + generator.rng.u64(0..200);
                generator.does_at(at_ms, Op::Leave(id));
            }
            if generator.happens(1) {
                generator.last_moment();
            }
            if !generator.happens(30) {
                generator.now_ms += generator.rng.u64(0..=gap_ms * 2);
            }
        }
        if matches!(self, Self::Outage | Self::Slow) {
            generator.does(Op::Manager(Change::Fault(None)));
        }
        if matches!(self, Self::ApiKeys) && generator.happens(70) {
            generator.does(Op::Manager(Change::Takes([true, true])));
        }
        if matches!(self, Self::Rotation) && generator.happens(80) {
            generator.serves_keys();
        }
    }

    /// What goes wrong before the next request.
    fn step(self, generator: &mut Generator, n: usize) {
        match self {
            Self::Calm | Self::Idle => {}
            Self::Streams if generator.happens(10) => {
                let delivery = generator.delivery();
                generator.does(Op::Tell(delivery));
            }
            Self::Streams if generator.happens(10) => generator.mood(),
            Self::Outage if generator.happens(4) => generator.outage(),
            Self::Slow if n.is_multiple_of(10) => generator.slowness(),
            Self::Moody if generator.happens(10) => generator.mood(),
            Self::ApiKeys if generator.happens(4) => generator.api_keys(),
            Self::Rotation if generator.happens(5) => generator.rotation(),
            Self::Events if generator.happens(20) => {
                if generator.happens(30) {
                    generator.mood();
                }
                let delivery = generator.delivery();
                if generator.happens(10) {
                    generator.last_refusal(&delivery);
                }
                generator.does(Op::Tell(delivery));
            }
            Self::Bursts if generator.happens(12) => generator.burst(),
            Self::Races if generator.happens(10) => generator.race(),
            Self::Deaths if generator.happens(4) => {
                let worker = generator.worker();
                generator.does(Op::Kill(worker));
            }
            Self::Updates if generator.happens(3) => {
                let config = generator.rng.usize(..generator.setup.configs.len());
                generator.does(Op::Update(config));
            }
            Self::Crowd if n.is_multiple_of(30) => generator.crowd(),
            _ => {}
        }
    }
}

impl Generator {
    fn delay(&mut self) -> u64 {
        let timeout_ms = self.setup.configs[0].timeout_ms;
        *self.one_of(&[
            0,
            1,
            20,
            timeout_ms / 2,
            timeout_ms - 1,
            timeout_ms,
            timeout_ms + 1,
            timeout_ms * 2,
        ])
    }

    fn illness(&mut self) -> Answer {
        match self.rng.u8(0..14) {
            0..=1 => Answer::Status(500),
            2 => Answer::Status(503),
            3 => Answer::Status(204),
            4 => Answer::Status(302),
            5 => Answer::Garbage,
            6 => Answer::Huge,
            7 => Answer::OfOther,
            8 => Answer::Reset,
            9 => Answer::Close,
            10 => Answer::Silence,
            11 => Answer::NoEndpoints,
            12 => Answer::Throttled(*self.one_of(&[None, Some(0), Some(1), Some(3), Some(600)])),
            _ => Answer::Status(*self.one_of(&[400, 401, 410])),
        }
    }

    fn outage(&mut self) {
        let saying = Saying {
            answer: self.illness(),
            delay_ms: self.delay(),
        };
        self.does(Op::Manager(Change::Fault(Some(saying))));
    }

    fn slowness(&mut self) {
        let tenant = self.tenant();
        let saying = Saying {
            answer: Answer::Active(vec![DEFAULT_MODULE.to_owned(), ROUTED_MODULE.to_owned()]),
            delay_ms: self.delay(),
        };
        self.does(Op::Manager(Change::Says(tenant, saying)));
    }

    fn mood(&mut self) {
        let tenant = self.tenant();
        let answer = match self.rng.u8(0..12) {
            0 => Answer::Refused(Some("suspended".to_owned())),
            1 => Answer::Refused(Some("purged".to_owned())),
            2 => Answer::Refused(None),
            3 => Answer::Inactive("suspended".to_owned()),
            4 => Answer::Unknown,
            5 => Answer::Unprovisioned,
            6 => Answer::Active(vec![ROUTED_MODULE.to_owned()]),
            7 => self.illness(),
            _ => Answer::Active(vec![DEFAULT_MODULE.to_owned(), ROUTED_MODULE.to_owned()]),
        };
        let delay_ms = if self.happens(70) {
            self.rng.u64(0..30)
        } else {
            self.delay()
        };
        self.does(Op::Manager(Change::Says(tenant, Saying { answer, delay_ms })));
    }

    fn api_keys(&mut self) {
        let takes = *self.one_of(&[[true, false], [false, true], [false, false], [true, true]]);
        self.does(Op::Manager(Change::Takes(takes)));
    }

    fn rotation(&mut self) {
        match self.rng.u8(0..8) {
            0..=2 => {
                self.signing = self.rng.usize(..REMOTE_KEYS.len());
                self.serves_keys();
            }
            // Signed with a key that is not published yet.
            3 => self.signing = self.rng.usize(..REMOTE_KEYS.len()),
            4 => self.serves_keys(),
            _ => {
                let answer = match self.rng.u8(0..6) {
                    0 => KeysAnswer::Status(500),
                    1 => KeysAnswer::Garbage,
                    2 => KeysAnswer::Unusable,
                    3 => KeysAnswer::Reset,
                    4 => KeysAnswer::Silence,
                    _ => KeysAnswer::NoEndpoints,
                };
                let delay_ms = self.rng.u64(0..700);
                self.does(Op::Idp(Keys { answer, delay_ms }));
                if let Some(remote) = self.setup.configs[0].remote.filter(|_| self.happens(30)) {
                    // Until the next refresh is due, or until no set is left.
                    let stale_s = *self.one_of(&[0, 0, remote.max_stale_s.min(60)]);
                    self.now_ms += (remote.refresh_s + stale_s) * 1_000 - 1_500;
                }
            }
        }
    }

    fn serves_keys(&mut self) {
        let mut set = vec![self.signing];
        let other = self.rng.usize(..REMOTE_KEYS.len());
        if other != self.signing && self.happens(50) {
            set.push(other);
        }
        let delay_ms = *self.one_of(&[0, 5, 50, 90, 400, 600]);
        self.does(Op::Idp(Keys {
            answer: KeysAnswer::Set(set),
            delay_ms,
        }));
    }

    pub(super) fn delivery(&mut self) -> Delivery {
        let key = match self.rng.u8(0..30) {
            0 => EventKey::Wrong,
            1 => EventKey::Absent,
            _ => EventKey::Right,
        };
        let many = if self.happens(15) { self.rng.usize(2..6) } else { 1 };
        let events = (0..many).map(|_| self.event(many == 1)).collect();
        Delivery {
            worker: self.worker(),
            key,
            is_cut_off: self.happens(2),
            events,
        }
    }

    fn event(&mut self, is_alone: bool) -> Event {
        let kind = (*self.one_of(&KINDS)).to_owned();
        let now = i64::try_from(self.now_ms).expect("a world is short");
        let happened_ms = match self.rng.u8(0..10) {
            0 if is_alone => Some(now - self.rng.i64(0..20_000)),
            1 if is_alone => Some(now + self.rng.i64(0..20_000)),
            2..=5 => Some(now),
            _ => None,
        };
        let is_short = self.happens(20);
        let environment = match self.rng.u8(0..12) {
            0 => Some("production".to_owned()),
            1..=6 => Some(ENVIRONMENT.to_owned()),
            _ => None,
        };
        let is_scoped =
            kind.starts_with("tenant.service.") || kind.ends_with("rotated") || kind.starts_with("tenant.c");
        let service = match self.rng.u8(0..10) {
            0 if is_scoped => Some("another".to_owned()),
            1 if is_scoped => None,
            _ if is_scoped => Some(SERVICE.to_owned()),
            _ => None,
        };
        Event {
            kind,
            tenant: self.tenant(),
            happened_ms,
            environment,
            service,
            is_short,
        }
    }

    /// Several workers at one instant, about few tenants.
    fn burst(&mut self) {
        let tenant = self.tenant();
        let acts = self.acts(&tenant);
        let schedule = self.rng.u64(..);
        self.does(Op::Burst { schedule, acts });
    }

    /// What comes to several workers at once, most of it about one tenant.
    fn acts(&mut self, tenant: &str) -> Vec<Act> {
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

    /// A token in the last millisecond in which it holds, and in the next.
    fn last_moment(&mut self) {
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
    fn last_refusal(&mut self, delivery: &Delivery) {
        let tenant = delivery.events[0].tenant.clone();
        let end_ms = self.now_ms + self.setup.configs[0].ttl_s * 1_000;
        for at_ms in [end_ms - 1, end_ms] {
            let request = self.request_of(&tenant);
            self.does_at(at_ms, Op::Request(request));
        }
    }

    /// Requests wait, and when their answer is there several workers act in the same instant.
    fn race(&mut self) {
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

    /// A request that stays open for a while.
    fn stream(&mut self) {
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

    /// Many for a tenant whose answer takes a while.
    fn crowd(&mut self) {
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
}
