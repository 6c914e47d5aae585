//! More than may wait for keys.

use super::Generator;
use crate::script::{Credential, Issuer, Keys, KeysAnswer, Op};
use crate::tokens::REMOTE_TENANT;

/// More than the 256 that may.
const MANY: usize = 300;

impl Generator {
    /// A worker that has just begun has no keys, the identity provider is silent, and everybody comes.
    pub(super) fn strangers(&mut self) {
        if self.setup.configs[0].remote.is_none() {
            return;
        }
        let worker = self.worker();
        self.does(Op::Idp(Keys {
            answer: KeysAnswer::Silence,
            delay_ms: 0,
        }));
        self.does(Op::Kill(worker));
        self.now_ms += 1;
        for _ in 0..MANY {
            let mut request = self.request_of(REMOTE_TENANT);
            request.worker = worker;
            let mut token = self.token(REMOTE_TENANT);
            token.issuer = Issuer::Remote(self.signing);
            token.flaw = None;
            request.credential = Credential::Token(token);
            self.does(Op::Request(request));
        }
        self.now_ms += 100;
        self.serves_keys();
    }
}
