//! What lasts longer than a request: configuration and mutable state, one per plugin and worker.

use crate::config::Config;
use crate::node::Node;
use crate::request::RequestHead;
use crate::resolve::{Answer, Answered, Callout, LookupId, Resolver};
use crate::sanitize::{Place, Sanitizer};
use crate::scope::Edit;

/// The engine of one worker.
#[derive(Debug)]
pub struct Engine {
    pub(crate) config: Config,
    pub(crate) sanitizer: Sanitizer,
    pub(crate) resolver: Option<Resolver>,
}

impl Engine {
    /// An engine with empty caches.
    pub fn new(config: Config) -> Self {
        let sanitizer = Sanitizer::new(&config);
        let resolver = config.tenant_manager.as_ref().map(Resolver::new);
        Self {
            config,
            sanitizer,
            resolver,
        }
    }

    /// Largest body of the Tenant Manager that [`Self::answered`] wants to see, in bytes.
    pub fn max_body_bytes(&self) -> usize {
        self.config
            .tenant_manager
            .as_ref()
            .map_or(0, |manager| manager.max_body_bytes)
    }

    /// The first call of a lookup that a [`crate::flow::Step::Wait`] asked for; `None` when it
    /// is under way or over.
    pub fn question(&mut self, lookup: LookupId) -> Option<Callout> {
        self.resolver.as_mut()?.question(&self.config, lookup)
    }

    /// Takes in what came of a lookup's call. [`Answered::Settled`] is for every request that
    /// waits for this lookup.
    pub fn answered(&mut self, lookup: LookupId, answer: Answer<'_>, node: &impl Node) -> Answered {
        match self.resolver.as_mut() {
            Some(resolver) => resolver.answered(&self.config, lookup, answer, node),
            None => Answered::Forgotten,
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

    /// Does what is due by time alone. Gives the monotonic millisecond at which it wants to be
    /// called again, if at all.
    pub fn tick(&mut self, node: &impl Node) -> Option<u64> {
        self.resolver.as_mut()?.tick(node)
    }
}
