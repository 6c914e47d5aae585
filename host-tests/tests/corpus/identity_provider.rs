//! The identity provider of a case, as a scripted cluster.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use corpus::answer::Answer;
use corpus::mint::Keys;
use tiny_envoy::PeerRequest;

use crate::tenant_manager::scripted;

/// Answers by path from the case, and remembers what was asked.
#[derive(Debug, Clone, Default)]
pub(crate) struct IdentityProvider(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    paths: BTreeMap<String, Answer>,
    received: Vec<PeerRequest>,
}

impl IdentityProvider {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers differently on these paths from now on.
    pub(crate) fn change(&self, paths: &BTreeMap<String, Answer>) -> Result<()> {
        for (path, answer) in paths {
            let answer = answer.with_keys(Keys::shared())?;
            self.state().paths.insert(path.clone(), answer);
        }
        Ok(())
    }

    /// Takes the requests received since the last time.
    pub(crate) fn take_received(&self) -> Vec<PeerRequest> {
        std::mem::take(&mut self.state().received)
    }

    /// Answers one request.
    pub(crate) fn answer(&self, request: &PeerRequest) -> tiny_envoy::Answer {
        let mut state = self.state();
        state.received.push(request.clone());
        let answer = state.paths.get(&request.path()).cloned();
        scripted(&answer.unwrap_or_else(Answer::unknown_path))
    }
}
