//! The identity provider of a case, as a scripted cluster.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use anyhow::Result;
use corpus::answer::Answer;
use corpus::mint::Keys;
use tiny_envoy::PeerRequest;

use crate::tenant_manager::scripted;

/// Answers by path from the case, and remembers what was asked.
#[derive(Debug, Clone, Default)]
pub(crate) struct IdentityProvider(Rc<RefCell<State>>);

#[derive(Debug, Default)]
struct State {
    paths: BTreeMap<String, Answer>,
    received: Vec<PeerRequest>,
}

impl IdentityProvider {
    /// Answers differently on these paths from now on.
    pub(crate) fn change(&self, paths: &BTreeMap<String, Answer>) -> Result<()> {
        for (path, answer) in paths {
            let answer = answer.with_keys(Keys::shared())?;
            self.0.borrow_mut().paths.insert(path.clone(), answer);
        }
        Ok(())
    }

    /// Takes the requests received since the last time.
    pub(crate) fn take_received(&self) -> Vec<PeerRequest> {
        std::mem::take(&mut self.0.borrow_mut().received)
    }

    /// Answers one request.
    pub(crate) fn answer(&self, request: &PeerRequest) -> tiny_envoy::Answer {
        let mut state = self.0.borrow_mut();
        state.received.push(request.clone());
        let answer = state.paths.get(&request.path()).cloned();
        scripted(&answer.unwrap_or_else(Answer::unknown_path))
    }
}
