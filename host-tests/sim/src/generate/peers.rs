//! What the Tenant Manager and the identity provider come to.

use super::Generator;
use super::setup::in_schema;
use crate::config::{DEFAULT_MODULE, ROUTED_MODULE};
use crate::script::{Answer, Change, Keys, KeysAnswer, Op, Saying};
use crate::tokens::REMOTE_KEYS;

impl Generator {
    pub(super) fn delay(&mut self) -> u64 {
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

    pub(super) fn illness(&mut self) -> Answer {
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

    pub(super) fn outage(&mut self) {
        let saying = Saying {
            answer: self.illness(),
            delay_ms: self.delay(),
        };
        self.does(Op::Manager(Change::Fault(Some(saying))));
    }

    pub(super) fn slowness(&mut self) {
        let tenant = self.tenant();
        let saying = Saying {
            answer: Answer::Active(vec![DEFAULT_MODULE.to_owned(), ROUTED_MODULE.to_owned()]),
            delay_ms: self.delay(),
        };
        self.does(Op::Manager(Change::Says(tenant, saying)));
    }

    pub(super) fn mood(&mut self) {
        let tenant = self.tenant();
        let answer = match self.rng.u8(0..13) {
            0 => Answer::Refused(Some("suspended".to_owned())),
            1 => Answer::Refused(Some("purged".to_owned())),
            2 => Answer::Refused(None),
            3 => Answer::Inactive("suspended".to_owned()),
            4 => Answer::Unknown,
            5 => Answer::Unprovisioned,
            6 => Answer::Active(vec![ROUTED_MODULE.to_owned()]),
            7 => self.illness(),
            8 => in_schema(&mut self.rng),
            _ => Answer::Active(vec![DEFAULT_MODULE.to_owned(), ROUTED_MODULE.to_owned()]),
        };
        let delay_ms = if self.happens(70) {
            self.rng.u64(0..30)
        } else {
            self.delay()
        };
        self.does(Op::Manager(Change::Says(tenant, Saying { answer, delay_ms })));
    }

    pub(super) fn api_keys(&mut self) {
        let takes = *self.one_of(&[[true, false], [false, true], [false, false], [true, true]]);
        self.does(Op::Manager(Change::Takes(takes)));
    }

    pub(super) fn rotation(&mut self) {
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

    pub(super) fn serves_keys(&mut self) {
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
}
