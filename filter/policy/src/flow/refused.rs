//! Requests that are answered instead of forwarded, or with `enforcement: report` would be.

use super::told::{Known, Told, told};
use super::{Forward, Step};
use crate::config::{Config, Errors, Module};
use crate::denial::{Code, Denial, Reply};
use crate::node::Node;
use crate::scope::Edit;
use crate::telemetry::Counter;
use crate::tenant_id::TenantId;

/// A request that is answered instead of forwarded.
#[derive(Debug)]
pub struct Refused {
    /// With what.
    pub reply: Reply,
    /// Told to the host before.
    pub properties: Vec<Told>,
    /// What is done to the head before: the access log must not show what a caller made up.
    pub edits: Vec<Edit>,
    denial: Denial,
    tenant: Option<TenantId>,
    module: Option<Module>,
}

impl Refused {
    /// One line for the log, without anything secret: status, code, and whom it concerns as far
    /// as that was proven. `verb` is what was done.
    pub fn summary(&self, verb: &str) -> String {
        let mut line = format!("{verb} {} {}", self.reply.status, self.reply.details);
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
            properties: Vec::new(),
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

/// How a request is refused.
#[derive(Debug)]
pub(super) struct Manner {
    pub(super) grpc: bool,
    /// With `enforcement: report`, what makes of the head one without a tenant.
    pub(super) unscoping: Option<Vec<Edit>>,
}

/// Refuses a request; with `enforcement: report` it goes on without a tenant instead.
pub(super) fn refuse(
    config: &Config,
    denial: Denial,
    manner: Manner,
    edits: Vec<Edit>,
    known: Known,
    node: &impl Node,
) -> Step {
    match refused(config, denial, manner, edits, known, node) {
        Ok(forward) => Step::Forward(forward),
        Err(refused) => Step::Reply(refused),
    }
}

pub(super) fn refused(
    config: &Config,
    denial: Denial,
    manner: Manner,
    edits: Vec<Edit>,
    known: Known,
    node: &impl Node,
) -> Result<Forward, Box<Refused>> {
    let Manner { grpc, unscoping } = manner;
    let code = denial.code();
    // What is wrong with the host is no decision about the request.
    let unscoping = unscoping.filter(|_| code != Code::InternalError);
    let decision = match unscoping {
        Some(_) => format!("would_deny:{}", code.as_str()),
        None => code.as_str().to_owned(),
    };
    let properties = told(config, &decision, &known);
    let reply = denial.reply(grpc, &config.errors);
    let Known { tenant, module } = known;
    let mut refused = Box::new(Refused {
        reply,
        properties,
        edits,
        denial,
        tenant,
        module,
    });
    if unscoping.is_none() {
        node.count(Counter::Denials(code));
    }
    if let Some(refusal) = refused.denial.auth_refusal() {
        node.count(Counter::AuthRefusals(refusal));
    }
    match unscoping {
        None => Err(refused),
        Some(edits) => Ok(Forward {
            properties: std::mem::take(&mut refused.properties),
            edits,
            counters: vec![Counter::WouldDeny(code)],
            way_back: None,
            ends_with: None,
            would_be: Some(refused),
        }),
    }
}
