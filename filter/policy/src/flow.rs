//! The whole request on one page.

use crate::authn;
use crate::config::Module;
use crate::denial::{Denial, Reply};
use crate::enforce;
use crate::engine::Engine;
use crate::node::Node;
use crate::path::{self, Destination, Route};
use crate::request::RequestHead;
use crate::resolve::{LookupId, Outcome, Resolution, Seat};
use crate::sanitize::Place;
use crate::scope::{self, Edit, Keys};
use crate::telemetry::Counter;
use crate::tenant_id::{self, TenantId};

/// What the shell does next. `Forward` and `Reply` are final; only `Wait` gives a flow back.
#[derive(Debug)]
pub enum Step {
    /// The request goes on.
    Forward {
        /// Applied in order, all of them or the request is not forwarded.
        edits: Vec<Edit>,
        /// What is counted once it has been let go.
        counter: Option<Counter>,
    },
    /// The request is answered.
    Reply(Refused),
    /// The request is held back, body and trailers included, until [`RequestFlow::resume`].
    Wait {
        /// What is done to its head meanwhile: what only the filter may say is out at once.
        edits: Vec<Edit>,
        /// What is left of the request.
        flow: RequestFlow,
        /// Whether the shell must start the lookup that the flow waits for.
        begins: bool,
    },
}

/// A request that is answered instead of forwarded.
#[derive(Debug)]
pub struct Refused {
    /// With what.
    pub reply: Reply,
    /// What is done to the head before: the access log must not show what a caller made up.
    pub edits: Vec<Edit>,
    denial: Denial,
    tenant: Option<TenantId>,
    module: Option<Module>,
}

impl Refused {
    /// One line for the log, without anything secret: status, code, and whom it concerns as far
    /// as that was proven.
    pub fn summary(&self) -> String {
        let mut line = format!("denied {} {}", self.reply.status, self.reply.code.as_str());
        if let Some(tenant) = &self.tenant {
            line = format!("{line} tenant={}", tenant.as_str());
        }
        if let Some(module) = &self.module {
            line = format!("{line} module={}", module.as_str());
        }
        line
    }

    /// What the reply does not say: which check failed.
    pub fn detail(&self) -> Option<String> {
        self.denial.detail()
    }
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
    to: Destination,
    keys: Keys,
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
        let mut known = Known::default();
        Self::stages(engine, head, node, &mut known).unwrap_or_else(|denial| {
            let edits = engine.sanitizer.edits(head, Place::Protected);
            refuse(denial, head.is_grpc(), edits, known, node)
        })
    }

    fn stages(
        engine: &mut Engine,
        head: &RequestHead<'_>,
        node: &impl Node,
        known: &mut Known,
    ) -> Result<Step, Denial> {
        let config = &engine.config;
        let to = match path::route(&config.paths, &config.modules, head)? {
            Route::Public => {
                let edits = engine.sanitizer.edits(head, Place::Public);
                return Ok(Step::Forward { edits, counter: None });
            }
            Route::Protected(destination) => destination,
        };
        let verified = authn::authenticate(&config.auth, head, node.realtime_ms())?;
        let tenant = tenant_id::tenant_of(&config.tenant_id, &verified)?;
        *known = Known {
            tenant: Some(tenant.clone()),
            module: Some(to.module.clone()),
        };
        let keys = Keys::of(&config.scope, head);
        let grpc = head.is_grpc();
        let request = Resolvable { tenant, to, keys, grpc };
        let (Some(manager), Some(resolver)) = (&config.tenant_manager, &mut engine.resolver) else {
            let sanitizing = engine.sanitizer.edits(head, Place::Protected);
            return Ok(request.finish(engine, None, sanitizing, node));
        };
        let resolution = resolver.resolve(manager, &request.tenant, head, node)?;
        let sanitizing = engine.sanitizer.edits(head, Place::Protected);
        match resolution {
            Resolution::Known(outcome) => Ok(request.finish(engine, Some(&outcome), sanitizing, node)),
            Resolution::Wait(wait) => Ok(Step::Wait {
                edits: sanitizing,
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
            Resumption::Learned(outcome) => request.finish(engine, Some(outcome), Vec::new(), node),
            Resumption::DeadlinePassed => {
                let known = Known {
                    tenant: Some(request.tenant),
                    module: Some(request.to.module),
                };
                refuse(Denial::ManagerUnavailable(None), request.grpc, Vec::new(), known, node)
            }
        }
    }
}

impl Resolvable {
    /// Stages 5 and 6. `sanitizing` are the edits of stage 0 that have not been applied yet.
    fn finish(self, engine: &Engine, outcome: Option<&Outcome>, sanitizing: Vec<Edit>, node: &impl Node) -> Step {
        let Self { tenant, to, keys, grpc } = self;
        let known = Known {
            tenant: Some(tenant.clone()),
            module: Some(to.module.clone()),
        };
        let edits = enforce::admit(tenant, to, outcome)
            .and_then(|admitted| scope::edits(&engine.config.scope, &keys, &admitted));
        match edits {
            Ok(edits) => {
                let edits = scope::after(sanitizing, edits);
                Step::Forward {
                    edits,
                    counter: Some(Counter::TenantMessagesProcessed),
                }
            }
            Err(denial) => refuse(denial, grpc, sanitizing, known, node),
        }
    }
}

/// What has been proven about a request, for the log.
#[derive(Debug, Default)]
struct Known {
    tenant: Option<TenantId>,
    module: Option<Module>,
}

fn refuse(denial: Denial, grpc: bool, edits: Vec<Edit>, known: Known, node: &impl Node) -> Step {
    let reply = denial.reply(grpc);
    node.count(Counter::Denials(reply.code));
    let Known { tenant, module } = known;
    Step::Reply(Refused {
        reply,
        edits,
        denial,
        tenant,
        module,
    })
}

#[cfg(test)]
mod tests;
