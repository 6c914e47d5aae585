//! What lasts longer than a request: configuration and mutable state, one per plugin and worker.

use crate::authn::{Authenticator, MAX_SET_BYTES};
use crate::config::Config;
use crate::denial::Denial;
use crate::enforce::rate::Limiter;
use crate::errand::{Answer, Answered, Callout, Errand};
use crate::events::{self, Delivery, Received};
use crate::flow::{self, Forward, Refused, Told, WayBack};
use crate::labels::Labels;
use crate::node::Node;
use crate::remark::Remark;
use crate::request::RequestHead;
use crate::resolve::Resolver;
use crate::sanitize::{Place, Sanitizer};
use crate::scope::Edit;
use crate::telemetry::Counter;
use crate::tenant_id::TenantId;

/// The engine of one worker.
#[derive(Debug)]
pub struct Engine {
    pub(crate) config: Config,
    pub(crate) sanitizer: Sanitizer,
    pub(crate) authenticator: Authenticator,
    pub(crate) resolver: Option<Resolver>,
    pub(crate) limiter: Option<Limiter>,
    pub(crate) labels: Option<Labels>,
}

impl Engine {
    /// An engine with empty caches.
    pub fn new(config: Config) -> Self {
        let sanitizer = Sanitizer::new(&config);
        let authenticator = Authenticator::new(&config.auth);
        let resolver = config
            .tenant_manager
            .as_ref()
            .map(|manager| Resolver::new(&config, manager));
        let limiter = config
            .rate_limit
            .as_ref()
            .map(|limits| Limiter::new(limits, config.service.as_str()));
        let labels = config.telemetry.labelled_tenants.map(Labels::new);
        Self {
            config,
            sanitizer,
            authenticator,
            resolver,
            limiter,
            labels,
        }
    }

    /// Largest body that [`Self::answered`] wants to see for an errand, in bytes.
    pub fn max_body_bytes(&self, errand: Errand) -> usize {
        let manager = self.config.tenant_manager.as_ref();
        match errand {
            Errand::Lookup(_) | Errand::List(_) => manager.map_or(0, |manager| manager.max_body_bytes),
            Errand::Fetch(_) => MAX_SET_BYTES,
        }
    }

    /// The first call of an errand that a [`crate::flow::Step::Wait`] or [`Self::tick`] asked for;
    /// `None` when it is under way or over.
    pub fn question(&mut self, errand: Errand, node: &impl Node) -> Option<Callout> {
        match errand {
            Errand::Lookup(lookup) => self.resolver.as_mut()?.question(&self.config, lookup),
            Errand::List(list) => self.resolver.as_mut()?.list_question(&self.config, list),
            Errand::Fetch(fetch) => self.authenticator.question(&self.config.auth, fetch, node),
        }
    }

    /// Takes in what came of an errand's call.
    pub fn answered(&mut self, errand: Errand, answer: Answer<'_>, node: &impl Node) -> Answered {
        if let Answer::Http { body: Some(body), .. } = answer {
            node.add(Counter::CalloutBytes, u64::try_from(body.len()).unwrap_or_default());
        }
        match (errand, self.resolver.as_mut()) {
            (Errand::Lookup(lookup), Some(resolver)) => resolver.answered(&self.config, lookup, answer, node),
            (Errand::List(list), Some(resolver)) => resolver.list_answered(&self.config, list, answer, node),
            (Errand::Lookup(_) | Errand::List(_), None) => Answered::FORGOTTEN,
            (Errand::Fetch(fetch), _) => self.authenticator.answered(&self.config.auth, fetch, answer, node),
        }
    }

    /// The removals for a request's trailers.
    pub fn trailer_edits(&self, trailers: &RequestHead<'_>) -> Vec<Edit> {
        self.sanitizer.edits(trailers, Place::Trailers)
    }

    /// What other filters and the access log are told of a request that the host does not let be handled,
    /// where that is configured.
    pub fn told_of_failure(&self) -> Vec<Told> {
        flow::told_of_failure(&self.config)
    }

    /// What is done to the head of the response to a request that was forwarded so.
    ///
    /// # Errors
    ///
    /// With what to answer instead, when the response holds a key of another tenant.
    pub fn response(
        &self,
        way_back: &WayBack,
        head: &RequestHead<'_>,
        grpc: bool,
        node: &impl Node,
    ) -> Result<Forward, Box<Refused>> {
        flow::response(&self.config, way_back, head, grpc, node)
    }

    /// The edits for the trailers of such a response.
    pub fn response_trailer_edits(
        &self,
        way_back: &WayBack,
        trailers: &RequestHead<'_>,
        node: &impl Node,
    ) -> Vec<Edit> {
        flow::response_trailer_edits(&self.config, way_back, trailers, node)
    }

    /// Carries out the events of a delivery whose body has come. Afterwards [`Self::take_errands`] may
    /// have something to start.
    ///
    /// # Errors
    ///
    /// With what to answer when not all of them can be read or carried out.
    pub fn receive(&mut self, delivery: &Delivery, node: &impl Node) -> Result<Received, Denial> {
        events::receive(self, delivery, node)
    }

    /// Those of the tenants with open streams that are refused since this was asked last, with
    /// `enforce.cut_streams`: their streams are to be cut. Afterwards [`Self::take_errands`] may have something
    /// to start.
    pub fn refused_since<'t>(&mut self, open: impl Iterator<Item = &'t TenantId>, node: &impl Node) -> Vec<TenantId> {
        match (self.resolver.as_mut(), &self.config.tenant_manager) {
            (Some(resolver), Some(manager)) => resolver.refused_since(manager, open, node),
            _ => Vec::new(),
        }
    }

    /// The errands that nobody waits for and that must be started now. Asked for after everything
    /// else that is called here.
    pub fn take_errands(&mut self) -> Vec<Errand> {
        self.resolver.as_mut().map(Resolver::take_errands).unwrap_or_default()
    }

    /// Does what is due by time alone, at the start too. Gives the errands that must be started
    /// now, and what the log should hear of.
    pub fn tick(&mut self, node: &impl Node) -> (Vec<Errand>, Vec<Remark>) {
        if let (Some(resolver), Some(manager)) = (self.resolver.as_mut(), &self.config.tenant_manager) {
            resolver.tick(manager, node);
        }
        if let Some(limiter) = self.limiter.as_mut() {
            limiter.tick(node);
        }
        self.authenticator.tick(&self.config.auth, node)
    }

    /// When [`Self::tick`] is due next, in monotonic milliseconds; `None`: not by itself.
    pub fn due_ms(&self) -> Option<u64> {
        let resolver = self.resolver.as_ref().and_then(Resolver::due_ms);
        let limiter = self.limiter.as_ref().map(Limiter::due_ms);
        [resolver, limiter, self.authenticator.due_ms()]
            .into_iter()
            .flatten()
            .min()
    }
}
