//! The whole request on one page.

use crate::authn;
use crate::config::Module;
use crate::denial::{Denial, Reply};
use crate::enforce;
use crate::engine::Engine;
use crate::node::Node;
use crate::path::{self, Route};
use crate::request::RequestHead;
use crate::resolve::{LookupId, Outcome, Resolution, Seat};
use crate::sanitize::Place;
use crate::scope::{self, Edit, Keys};
use crate::telemetry::Counter;
use crate::tenant_id::{self, TenantId};

/// What the shell does next. `Forward` and `Reply` are final; only `Wait` gives a flow back.
#[derive(Debug)]
pub enum Step {
    /// The request goes on, with these edits applied in order.
    Forward(Vec<Edit>),
    /// The request is answered.
    Reply {
        /// Why, for the log.
        denial: Denial,
        /// With what.
        reply: Reply,
    },
    /// The request is held back, body and trailers included, until [`RequestFlow::resume`].
    Wait {
        /// What is left of the request.
        flow: RequestFlow,
        /// Whether the shell must start the lookup that the flow waits for.
        begins: bool,
    },
}

/// A request that waits. It is left once: by [`RequestFlow::resume`], or by dropping it when the
/// client has gone.
#[derive(Debug)]
pub enum RequestFlow {
    /// For what the Tenant Manager says about the tenant.
    AwaitingTenant(AwaitingTenant),
}

/// What stages 5 and 6 need, kept while the head of the request cannot be read.
#[derive(Debug)]
pub struct AwaitingTenant {
    seat: Seat,
    deadline_ms: u64,
    request: Resolvable,
}

#[derive(Debug)]
struct Resolvable {
    tenant: TenantId,
    module: Module,
    keys: Keys,
    sanitizing: Vec<Edit>,
    grpc: bool,
}

/// Why a request stops waiting.
#[derive(Debug, Clone, Copy)]
pub enum Resumption<'a> {
    /// The lookup is over.
    Learned(&'a Outcome),
    /// The request's own deadline has passed.
    DeadlinePassed,
}

impl RequestFlow {
    /// Takes a request through the stages, as far as it gets without waiting.
    pub fn start(engine: &mut Engine, head: &RequestHead<'_>, node: &impl Node) -> Step {
        let grpc = head.is_grpc();
        Self::stages(engine, head, node, grpc).unwrap_or_else(|denial| refuse(denial, grpc))
    }

    fn stages(engine: &mut Engine, head: &RequestHead<'_>, node: &impl Node, grpc: bool) -> Result<Step, Denial> {
        let config = &engine.config;
        let module = match path::route(&config.paths, &config.modules, head)? {
            Route::Public => return Ok(Step::Forward(engine.sanitizer.edits(head, Place::Public))),
            Route::Protected(module) => module,
        };
        let verified = authn::authenticate(&config.auth, head, node.realtime_ms())?;
        let tenant = tenant_id::tenant_of(&config.tenant_id, &verified)?;
        let request = Resolvable {
            keys: Keys::of(&config.scope, head),
            sanitizing: engine.sanitizer.edits(head, Place::Protected),
            tenant,
            module,
            grpc,
        };
        let (Some(manager), Some(resolver)) = (&config.tenant_manager, &mut engine.resolver) else {
            return Ok(request.finish(engine, None, node));
        };
        match resolver.resolve(manager, &request.tenant, head, node)? {
            Resolution::Known(outcome) => Ok(request.finish(engine, Some(&outcome), node)),
            Resolution::Wait(wait) => Ok(Step::Wait {
                begins: wait.begins,
                flow: Self::AwaitingTenant(AwaitingTenant {
                    seat: wait.seat,
                    deadline_ms: wait.deadline_ms,
                    request,
                }),
            }),
        }
    }

    /// The lookup that the request waits for.
    pub fn lookup(&self) -> LookupId {
        match self {
            Self::AwaitingTenant(waiting) => waiting.seat.lookup(),
        }
    }

    /// When the request must be answered, in monotonic milliseconds.
    pub fn deadline_ms(&self) -> u64 {
        match self {
            Self::AwaitingTenant(waiting) => waiting.deadline_ms,
        }
    }

    /// Ends the wait.
    pub fn resume(self, engine: &Engine, resumption: Resumption<'_>, node: &impl Node) -> Step {
        let Self::AwaitingTenant(AwaitingTenant { request, .. }) = self;
        match resumption {
            Resumption::Learned(outcome) => request.finish(engine, Some(outcome), node),
            Resumption::DeadlinePassed => refuse(Denial::ManagerUnavailable, request.grpc),
        }
    }
}

impl Resolvable {
    /// Stages 5 and 6.
    fn finish(self, engine: &Engine, outcome: Option<&Outcome>, node: &impl Node) -> Step {
        let Self {
            tenant,
            module,
            keys,
            sanitizing,
            grpc,
        } = self;
        let edits = enforce::admit(tenant, module, outcome)
            .and_then(|admitted| scope::edits(&engine.config.scope, &keys, &admitted));
        match edits {
            Ok(edits) => {
                node.count(Counter::TenantMessagesProcessed);
                // What is set anyway need not be removed first: setting replaces every line.
                let is_set = |earlier: &Edit| edits.iter().any(|edit| edit.name() == earlier.name());
                let mut all: Vec<Edit> = sanitizing.into_iter().filter(|earlier| !is_set(earlier)).collect();
                all.extend(edits);
                Step::Forward(all)
            }
            Err(denial) => refuse(denial, grpc),
        }
    }
}

fn refuse(denial: Denial, grpc: bool) -> Step {
    Step::Reply {
        reply: denial.reply(grpc),
        denial,
    }
}

#[cfg(test)]
mod tests;
