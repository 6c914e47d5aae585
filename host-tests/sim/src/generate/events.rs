//! What workers are told of tenants.

use super::Generator;
use crate::config::{ENVIRONMENT, SERVICE};
use crate::script::{Delivery, Event, EventKey};

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

impl Generator {
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

    pub(super) fn event(&mut self, is_alone: bool) -> Event {
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
}
