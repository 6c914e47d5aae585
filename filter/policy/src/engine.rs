//! What lasts longer than a request: configuration and mutable state, one per plugin and worker.

use crate::authn::{Authenticator, MAX_SET_BYTES};
use crate::config::Config;
use crate::errand::{Answer, Answered, Callout, Errand};
use crate::node::Node;
use crate::remark::Remark;
use crate::request::RequestHead;
use crate::resolve::Resolver;
use crate::sanitize::{Place, Sanitizer};
use crate::scope::Edit;

/// The engine of one worker.
#[derive(Debug)]
pub struct Engine {
    pub(crate) config: Config,
    pub(crate) sanitizer: Sanitizer,
    pub(crate) authenticator: Authenticator,
    pub(crate) resolver: Option<Resolver>,
}

impl Engine {
    /// An engine with empty caches.
    pub fn new(config: Config) -> Self {
        let sanitizer = Sanitizer::new(&config);
        let authenticator = Authenticator::new(&config.auth);
        let resolver = config.tenant_manager.as_ref().map(Resolver::new);
        Self {
            config,
            sanitizer,
            authenticator,
            resolver,
        }
    }

    /// Largest body that [`Self::answered`] wants to see for an errand, in bytes.
    pub fn max_body_bytes(&self, errand: Errand) -> usize {
        let manager = self.config.tenant_manager.as_ref();
        match errand {
            Errand::Lookup(_) => manager.map_or(0, |manager| manager.max_body_bytes),
            Errand::Fetch(_) => MAX_SET_BYTES,
        }
    }

    /// The first call of an errand that a [`crate::flow::Step::Wait`] or [`Self::tick`] asked for;
    /// `None` when it is under way or over.
    pub fn question(&mut self, errand: Errand) -> Option<Callout> {
        match errand {
            Errand::Lookup(lookup) => self.resolver.as_mut()?.question(&self.config, lookup),
            Errand::Fetch(fetch) => self.authenticator.question(&self.config.auth, fetch),
        }
    }

    /// Takes in what came of an errand's call.
    pub fn answered(&mut self, errand: Errand, answer: Answer<'_>, node: &impl Node) -> Answered {
        match (errand, self.resolver.as_mut()) {
            (Errand::Lookup(lookup), Some(resolver)) => resolver.answered(&self.config, lookup, answer, node),
            (Errand::Lookup(_), None) => Answered::FORGOTTEN,
            (Errand::Fetch(fetch), _) => self.authenticator.answered(&self.config.auth, fetch, answer, node),
        }
    }

    /// The removals for a request's trailers.
    pub fn trailer_edits(&self, trailers: &RequestHead<'_>) -> Vec<Edit> {
        self.sanitizer.edits(trailers, Place::Trailers)
    }

    /// Takes what this engine has counted out of the node's gauges, before it goes.
    pub fn close(&mut self, node: &impl Node) {
        if let Some(resolver) = self.resolver.as_mut() {
            resolver.close(node);
        }
    }

    /// Does what is due by time alone, at the start too. Gives the errands that must be started
    /// now, and what the log should hear of.
    pub fn tick(&mut self, node: &impl Node) -> (Vec<Errand>, Vec<Remark>) {
        if let Some(resolver) = self.resolver.as_mut() {
            resolver.tick(node);
        }
        self.authenticator.tick(&self.config.auth, node)
    }

    /// When [`Self::tick`] is due next, in monotonic milliseconds; `None`: not by itself.
    pub fn due_ms(&self) -> Option<u64> {
        let resolver = self.resolver.as_ref().and_then(Resolver::due_ms);
        [resolver, self.authenticator.due_ms()].into_iter().flatten().min()
    }
}
