//! The whole request on one page.

use crate::authn::{Authentication, KeyWait};
use crate::config::{Config, Errors, Module};
use crate::denial::{Denial, Reply};
use crate::enforce;
use crate::engine::Engine;
use crate::errand::{Awaited, Errand, Learned};
use crate::events::{self, Delivery};
use crate::node::{Node, Now};
use crate::path::{self, Destination, Route};
use crate::request::RequestHead;
use crate::resolve::{self, Outcome, Resolution};
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
        counters: Vec<Counter>,
    },
    /// The request brings tenant events: its head goes on, its body is collected and given to
    /// [`Engine::receive`], and it is answered then.
    Receive {
        /// Applied in order, all of them or the request is not let go.
        edits: Vec<Edit>,
        /// What its body is collected in.
        delivery: Delivery,
    },
    /// The request is answered.
    Reply(Refused),
    /// The request is held back, body and trailers included, until [`RequestFlow::resume`].
    Wait {
        /// What is done to its head meanwhile: what only the filter may say is out at once.
        edits: Vec<Edit>,
        /// What is left of the request.
        flow: RequestFlow,
        /// The errand that the shell must start for it.
        begins: Option<Errand>,
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
        let mut line = format!("denied {} {}", self.reply.status, self.reply.details);
        if let Some(tenant) = &self.tenant {
            line = format!("{line} tenant={}", tenant.as_str());
        }
        if let Some(module) = &self.module {
            line = format!("{line} module={}", module.as_str());
        }
        line
    }

    /// A refusal of which nothing but the denial is known.
    pub fn by(denial: Denial) -> Self {
        Self {
            reply: denial.reply(false, &Errors::default()),
            edits: Vec::new(),
            denial,
            tenant: None,
            module: None,
        }
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
    /// For the keys of its token's issuer.
    AwaitingKeys(AwaitingKeys),
    /// For what the Tenant Manager says about the tenant.
    AwaitingTenant(AwaitingTenant),
}

/// What stages 2 to 6 need, kept while the head of the request cannot be read.
#[derive(Debug)]
pub struct AwaitingKeys {
    wait: KeyWait,
    traceparent: Option<String>,
    request: Request,
}

/// What stages 5 and 6 need.
#[derive(Debug)]
pub struct AwaitingTenant {
    wait: resolve::Wait,
    tenant: TenantId,
    traceparent: Option<String>,
    request: Request,
}

/// What is read of a request's head besides its credential.
#[derive(Debug)]
struct Request {
    to: Destination,
    keys: Keys,
    grpc: bool,
}

/// Why a request stops waiting.
#[derive(Debug, Clone, Copy)]
pub enum Resumption<'a> {
    /// There is news of what it waits for.
    Learned(&'a Learned),
    /// The request's own deadline has passed.
    DeadlinePassed,
}

impl RequestFlow {
    /// Takes a request through the stages, as far as it gets without waiting.
    pub fn start(engine: &mut Engine, head: &RequestHead<'_>, node: &impl Node) -> Step {
        let grpc = head.is_grpc();
        let config = &engine.config;
        if let Some(events) = config
            .events
            .as_ref()
            .filter(|events| events::is_addressed(events, head))
        {
            let mut edits = engine.sanitizer.edits(head, Place::Public);
            return match events::accept(events, head) {
                Ok(more) => {
                    edits.extend(more);
                    let delivery = Delivery::default();
                    Step::Receive { edits, delivery }
                }
                Err(denial) => {
                    edits.push(events::without_key());
                    refuse(denial, (grpc, &engine.config.errors), edits, Known::default(), node)
                }
            };
        }
        let to = match path::route(&config.paths, &config.modules, head) {
            Ok(Route::Protected(to)) => to,
            Ok(Route::Public) => {
                let edits = engine.sanitizer.edits(head, Place::Public);
                return Step::Forward {
                    edits,
                    counters: Vec::new(),
                };
            }
            Err(denial) => {
                let edits = engine.sanitizer.edits(head, Place::Protected);
                return refuse(denial, (grpc, &engine.config.errors), edits, Known::default(), node);
            }
        };
        let sanitizing = engine.sanitizer.edits(head, Place::Protected);
        let keys = Keys::of(&config.scope, head);
        let now = Now::of(node);
        let authentication = engine.authenticator.authenticate(&config.auth, head, now, node);
        let identity = identify(config, authentication);
        let traceparent = || head.traceparent();
        Request { to, keys, grpc }.go_on(engine, identity, traceparent, sanitizing, now, node)
    }

    /// What the request waits for.
    pub fn awaits(&self) -> Awaited {
        match self {
            Self::AwaitingKeys(waiting) => waiting.wait.awaits(),
            Self::AwaitingTenant(waiting) => waiting.wait.awaits(),
        }
    }

    /// When the request must be answered, in monotonic milliseconds.
    pub fn deadline_ms(&self) -> u64 {
        match self {
            Self::AwaitingKeys(waiting) => waiting.wait.deadline_ms,
            Self::AwaitingTenant(waiting) => waiting.wait.deadline_ms,
        }
    }

    /// Ends the wait; the request may have to wait again, for something else or for longer, but
    /// not past its deadline for the same.
    pub fn resume(self, engine: &mut Engine, resumption: Resumption<'_>, node: &impl Node) -> Step {
        match self {
            Self::AwaitingKeys(waiting) => {
                let AwaitingKeys {
                    wait,
                    traceparent,
                    request,
                } = waiting;
                let now = Now::of(node);
                let (authenticator, auth) = (&mut engine.authenticator, &engine.config.auth);
                let authentication = match resumption {
                    Resumption::Learned(_) => authenticator.again(auth, wait, now, node),
                    Resumption::DeadlinePassed => Err(authenticator.give_up(auth, &wait, now)),
                };
                let identity = identify(&engine.config, authentication);
                request.go_on(engine, identity, || traceparent, Vec::new(), now, node)
            }
            Self::AwaitingTenant(waiting) => {
                let AwaitingTenant {
                    wait,
                    tenant,
                    traceparent,
                    request,
                } = waiting;
                let (Some(manager), Some(resolver)) = (&engine.config.tenant_manager, &mut engine.resolver) else {
                    return request.finish(engine, tenant, None, Vec::new(), node);
                };
                let outcome = match resumption {
                    Resumption::Learned(Learned::Tenant(tidings)) => resolver.still_true(tidings, node),
                    Resumption::Learned(Learned::Keys) => None,
                    Resumption::DeadlinePassed => {
                        let now = Now::of(node);
                        Some(resolver.give_up(manager, &tenant, (now, node)))
                    }
                };
                match outcome {
                    Some(outcome) => request.finish(engine, tenant, Some(&outcome), Vec::new(), node),
                    None => {
                        let deadline_ms = Some(wait.deadline_ms);
                        // Its seat is free before it takes another.
                        drop(wait);
                        request.resolve(
                            engine,
                            tenant,
                            (|| traceparent, deadline_ms),
                            Vec::new(),
                            Now::of(node),
                            node,
                        )
                    }
                }
            }
        }
    }
}

/// What stages 2 and 3 make of a request.
enum Identity {
    Tenant(TenantId),
    Wait(KeyWait),
}

fn identify(config: &Config, authentication: Result<Authentication<'_>, Denial>) -> Result<Identity, Denial> {
    match authentication? {
        Authentication::Verified(verified) => tenant_id::tenant_of(&config.tenant_id, &verified).map(Identity::Tenant),
        Authentication::Wait(wait) => Ok(Identity::Wait(wait)),
    }
}

impl Request {
    /// From stage 4 on. `sanitizing` are the edits of stage 0 that have not been applied yet.
    fn go_on(
        self,
        engine: &mut Engine,
        identity: Result<Identity, Denial>,
        traceparent: impl FnOnce() -> Option<String>,
        sanitizing: Vec<Edit>,
        now: Now,
        node: &impl Node,
    ) -> Step {
        let tenant = match identity {
            Ok(Identity::Tenant(tenant)) => tenant,
            Ok(Identity::Wait(wait)) => {
                return Step::Wait {
                    edits: sanitizing,
                    begins: wait.begins,
                    flow: RequestFlow::AwaitingKeys(AwaitingKeys {
                        wait,
                        traceparent: traceparent(),
                        request: self,
                    }),
                };
            }
            Err(denial) => {
                return refuse(
                    denial,
                    (self.grpc, &engine.config.errors),
                    sanitizing,
                    Known::default(),
                    node,
                );
            }
        };
        self.resolve(engine, tenant, (traceparent, None), sanitizing, now, node)
    }

    /// From the tenant on. `deadline_ms` is that of a request that has waited before.
    fn resolve(
        self,
        engine: &mut Engine,
        tenant: TenantId,
        (traceparent, deadline_ms): (impl FnOnce() -> Option<String>, Option<u64>),
        sanitizing: Vec<Edit>,
        now: Now,
        node: &impl Node,
    ) -> Step {
        let (Some(manager), Some(resolver)) = (&engine.config.tenant_manager, &mut engine.resolver) else {
            return self.finish(engine, tenant, None, sanitizing, node);
        };
        match resolver.resolve(manager, &tenant, deadline_ms, now, node) {
            Resolution::Known(outcome) => self.finish(engine, tenant, Some(&outcome), sanitizing, node),
            Resolution::Wait(wait) => {
                let traceparent = traceparent();
                if wait.begins.is_some() {
                    resolver.trace(&wait, traceparent.as_deref());
                }
                Step::Wait {
                    edits: sanitizing,
                    begins: wait.begins,
                    flow: RequestFlow::AwaitingTenant(AwaitingTenant {
                        wait,
                        tenant,
                        traceparent,
                        request: self,
                    }),
                }
            }
        }
    }

    /// Stages 5 and 6.
    fn finish(
        self,
        engine: &Engine,
        tenant: TenantId,
        outcome: Option<&Outcome>,
        sanitizing: Vec<Edit>,
        node: &impl Node,
    ) -> Step {
        let Self { to, keys, grpc } = self;
        let known = Known {
            tenant: Some(tenant.clone()),
            module: Some(to.module.clone()),
        };
        let allow_unavailable = engine
            .config
            .tenant_manager
            .as_ref()
            .is_some_and(|manager| manager.allow_unavailable);
        let admitted = enforce::admit(tenant, to, outcome, allow_unavailable).and_then(|admitted| {
            let edits = scope::edits(&engine.config.scope, &keys, &admitted)?;
            Ok((edits, admitted.is_unverified()))
        });
        match admitted {
            Ok((edits, is_unverified)) => {
                let mut counters = vec![Counter::TenantMessagesProcessed];
                if is_unverified {
                    counters.push(Counter::UnverifiedRequests);
                }
                Step::Forward {
                    edits: scope::after(sanitizing, edits),
                    counters,
                }
            }
            Err(denial) => refuse(denial, (grpc, &engine.config.errors), sanitizing, known, node),
        }
    }
}

/// What has been proven about a request, for the log.
#[derive(Debug, Default)]
struct Known {
    tenant: Option<TenantId>,
    module: Option<Module>,
}

fn refuse(denial: Denial, (grpc, errors): (bool, &Errors), edits: Vec<Edit>, known: Known, node: &impl Node) -> Step {
    let reply = denial.reply(grpc, errors);
    node.count(Counter::Denials(denial.code()));
    if let Some(refusal) = denial.auth_refusal() {
        node.count(Counter::AuthRefusals(refusal));
    }
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
