//! The whole request on one page.

mod pass;
mod refused;
mod told;
mod way_back;

pub use refused::Refused;
pub(crate) use told::told_of_failure;
pub use told::{Property, Told};
pub use way_back::WayBack;
pub(crate) use way_back::{response, response_trailer_edits};

use pass::Pass;
use refused::{Manner, refuse};
use told::{Known, told};

use crate::authn::{Authentication, KeyWait};
use crate::config::{Config, OnUnavailable};
use crate::denial::Denial;
use crate::enforce::{self, Candidate};
use crate::engine::Engine;
use crate::errand::{Awaited, Errand, Learned};
use crate::events::{self, Delivery};
use crate::node::{Node, Now};
use crate::path::{self, Destination, Route};
use crate::request::RequestHead;
use crate::resolve::{self, Outcome, Resolution};
use crate::sanitize::Place;
use crate::scope::{self, Edit, Keys};
use crate::telemetry::{Counter, Decision};
use crate::tenant_id::{self, TenantId};

/// What the shell does next. `Forward` and `Reply` are final; only `Wait` gives a flow back.
#[derive(Debug)]
pub enum Step {
    /// The request goes on.
    Forward(Forward),
    /// The request brings tenant events: its head goes on, its body is collected and given to
    /// [`Engine::receive`], and it is answered then.
    Receive {
        /// Applied in order, all of them or the request is not let go.
        edits: Vec<Edit>,
        /// What its body is collected in.
        delivery: Delivery,
    },
    /// The request is answered.
    Reply(Box<Refused>),
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

/// A request that goes on.
#[derive(Debug, Default)]
pub struct Forward {
    /// Told to the host before the head is edited, since an edit has it choose the route again: all of
    /// them or the request is not forwarded.
    pub properties: Vec<Told>,
    /// Applied in order, all of them or the request is not forwarded.
    pub edits: Vec<Edit>,
    /// What is counted once it has been let go.
    pub counters: Vec<Counter>,
    /// What is done to the response; `None`: nothing.
    pub way_back: Option<WayBack>,
    /// In whose name it goes on, with `enforce.cut_streams`: its stream ends when that tenant is refused.
    pub ends_with: Option<TenantId>,
    /// With `enforcement: report`, what it would have been answered with.
    pub would_be: Option<Box<Refused>>,
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
    manner: Manner,
    /// Whether an earlier pass has scoped it.
    is_second_pass: bool,
    /// What claims of its token are copied into.
    claims: Vec<Edit>,
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
                    let manner = Manner { grpc, unscoping: None };
                    refuse(config, denial, manner, edits, Known::default(), node)
                }
            };
        }
        let manner = Manner {
            grpc,
            unscoping: config.reports_only.then(|| engine.sanitizer.edits(head, Place::Public)),
        };
        let to = match path::route(&config.paths, &config.modules, head, node) {
            Ok(Route::Protected(to)) => to,
            Ok(Route::Public) => {
                return Step::Forward(Forward {
                    properties: told(config, "public", &Known::default()),
                    edits: engine.sanitizer.edits(head, Place::Public),
                    ..Forward::default()
                });
            }
            Err(denial) => {
                let edits = engine.sanitizer.edits(head, Place::Protected);
                return refuse(config, denial, manner, edits, Known::default(), node);
            }
        };
        let keys = Keys::of(&config.scope, head);
        let now = Now::of(node);
        let mut request = Request {
            to,
            keys,
            manner,
            is_second_pass: false,
            claims: Vec::new(),
        };
        let traceparent = || head.traceparent();
        match Pass::of(config, head, node) {
            Pass::First => {}
            Pass::Second(tenant) => {
                request.is_second_pass = true;
                let sanitizing = engine.sanitizer.edits(head, Place::SecondPass);
                return request.go_on(engine, Ok(Identity::Tenant(tenant)), traceparent, sanitizing, now, node);
            }
            Pass::Unknowable if request.keys.are_none() => {}
            Pass::Unknowable => {
                let edits = engine.sanitizer.edits(head, Place::Protected);
                let denial = Denial::KeyRejected {
                    header: "x-envoy-original-url".to_owned(),
                    reason: "leaves open whether the keys have been scoped before",
                };
                return refuse(config, denial, request.manner, edits, Known::default(), node);
            }
        }
        let sanitizing = engine.sanitizer.edits(head, Place::Protected);
        let authentication = engine.authenticator.authenticate(&config.auth, head, now, node);
        let identity = identify(config, authentication, &mut request.claims);
        request.go_on(engine, identity, traceparent, sanitizing, now, node)
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
                    mut request,
                } = waiting;
                let now = Now::of(node);
                let (authenticator, auth) = (&mut engine.authenticator, &engine.config.auth);
                let authentication = match resumption {
                    Resumption::Learned(_) => authenticator.again(auth, wait, now, node),
                    Resumption::DeadlinePassed => Err(authenticator.give_up(auth, &wait, now)),
                };
                let identity = identify(&engine.config, authentication, &mut request.claims);
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

/// The tenant that a token names, and into `claims` what else of it the upstream is told.
fn identify(
    config: &Config,
    authentication: Result<Authentication<'_>, Denial>,
    claims: &mut Vec<Edit>,
) -> Result<Identity, Denial> {
    match authentication? {
        Authentication::Verified(verified) => {
            claims.extend(scope::claim_edits(&config.scope, |claim| verified.claim(claim)));
            tenant_id::tenant_of(&config.tenant_id, &verified).map(Identity::Tenant)
        }
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
                let config = &engine.config;
                return refuse(config, denial, self.manner, sanitizing, Known::default(), node);
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
        engine: &mut Engine,
        tenant: TenantId,
        outcome: Option<&Outcome>,
        sanitizing: Vec<Edit>,
        node: &impl Node,
    ) -> Step {
        let Self {
            to,
            keys,
            manner,
            is_second_pass,
            claims,
        } = self;
        let config = &engine.config;
        let known = Known {
            tenant: Some(tenant.clone()),
            module: Some(to.module.clone()),
        };
        let on_unavailable = config
            .tenant_manager
            .as_ref()
            .map_or(OnUnavailable::Deny, |manager| manager.on_unavailable);
        let candidate = Candidate {
            tenant: tenant.clone(),
            to,
            outcome,
            is_second_pass,
        };
        let admitted = enforce::admit(candidate, on_unavailable, engine.limiter.as_mut(), node).and_then(|admitted| {
            let edits = scope::edits(&config.scope, &keys, &admitted)?;
            Ok((edits, admitted))
        });
        if let Some(labels) = engine.labels.as_mut().filter(|_| !is_second_pass) {
            let decision = if admitted.is_ok() {
                Decision::Allowed
            } else {
                Decision::Denied
            };
            labels.count(&tenant, decision, node);
        }
        let (mut edits, admitted) = match admitted {
            Ok(admitted) => admitted,
            Err(denial) => return refuse(config, denial, manner, sanitizing, known, node),
        };
        edits.extend(claims);
        let mut counters = Vec::new();
        if !is_second_pass {
            counters.push(Counter::TenantMessagesProcessed);
        }
        let mut decision = Decision::Allowed.name();
        if admitted.is_unverified() {
            counters.push(Counter::UnverifiedRequests);
            decision = "unverified";
        }
        let mut properties = told(config, decision, &known);
        let is_changed_for_good = !keys.are_none() || !config.auth.forward_token;
        if is_changed_for_good && !is_second_pass && node.keeps_passes() {
            properties.push(pass::note(config, &tenant));
        }
        let quota = admitted.quota();
        let is_awaited = quota.is_some() || !config.scope.response.is_empty();
        let ends_with = config.cuts_streams().then(|| tenant.clone());
        let way_back = is_awaited.then_some(WayBack { tenant, known, quota });
        Step::Forward(Forward {
            properties,
            edits: scope::after(sanitizing, edits),
            counters,
            way_back,
            ends_with,
            would_be: None,
        })
    }
}

#[cfg(test)]
mod tests;
