//! Requests that come again, and a host that does not let heads be edited.

use super::keys::{KEY_HEADERS, Place, is_in_scope, is_target_in_scope, place};
use super::upstream::is_taken_out;
use super::{Model, Seen, Settled};
use crate::config::SCOPED_PREFIX;
use crate::script::{Edit, Request};

/// What a pass in which something was scoped leaves with the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The configuration that has scoped it.
    pub config: usize,
    /// To whom.
    pub tenant: String,
}

/// Which pass of a request this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Pass {
    /// The first, or nothing was scoped before.
    First,
    /// It was scoped to this tenant before.
    Second(String),
    /// What it carries was scoped by another configuration, or not at all.
    Unclear,
}

fn is_key(name: &str) -> bool {
    KEY_HEADERS.contains(&name)
}

/// Whether a request has anything that is scoped.
fn has_keys(request: &Request) -> bool {
    let before_query = request.path.split('?').next().unwrap_or_default();
    let behind = before_query.strip_prefix(SCOPED_PREFIX);
    request.headers.iter().any(|(name, _)| is_key(name))
        || behind.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Model {
    /// Which pass of a request this is.
    pub(super) fn pass(&self, seen: &Seen) -> Pass {
        match &seen.note {
            None => Pass::First,
            Some(note) if self.knobs(note.config) == self.knobs(seen.config) => Pass::Second(note.tenant.clone()),
            Some(_) if has_keys(&seen.request) => Pass::Unclear,
            Some(_) => Pass::First,
        }
    }

    /// What a request that was forwarded has left with the host.
    pub fn leaves_behind(&self, settled: &Settled) -> Option<Note> {
        let Seen {
            request, config, note, ..
        } = &settled.seen;
        let is_scoped = matches!(place(&request.method, &request.path), Place::Module(_)) && has_keys(request);
        match self.verdict(settled).tenant {
            Some(tenant) if is_scoped => Some(Note {
                config: *config,
                tenant,
            }),
            _ => note.clone(),
        }
    }

    /// Whether a request cannot be let go since the host does not let its head be edited.
    pub(super) fn may_be_stuck(&self, settled: &Settled) -> bool {
        let request = &settled.seen.request;
        let is_tenants = matches!(place(&request.method, &request.path), Place::Module(_));
        let key_lines = |key: &str| request.headers.iter().filter(|(name, _)| name == key).count();
        match self.refuses {
            None => false,
            // A head that waits goes with what comes behind it.
            Some(Edit::Remove) => {
                // What is only reported goes on without its keys.
                let may_keep_keys = is_tenants && !self.knobs(settled.seen.config).reports;
                let mut headers = request.headers.iter();
                headers.any(|(name, _)| is_taken_out(name, may_keep_keys)) || self.may_be_broken_off(&settled.seen)
            }
            // The upstream is always told of the tenant.
            Some(Edit::Set) => is_tenants && self.verdict(settled).tenant.is_some(),
            Some(Edit::Add) => is_tenants && KEY_HEADERS.iter().any(|key| key_lines(key) > 1),
        }
    }

    /// Whether a request that was let go may be broken off since its trailers cannot be edited.
    pub fn may_be_broken_off(&self, seen: &Seen) -> bool {
        let request = &seen.request;
        // What stays open gets its trailers later.
        let mut trailers = request.trailers.iter();
        let has_any = request.stays_open || trailers.any(|(name, _)| is_taken_out(name, false));
        self.refuses == Some(Edit::Remove) && has_any
    }
}

/// Whether a request that was scoped before has a key outside of its tenant's scope, or lacks one.
pub(super) fn is_outside(request: &Request, tenant: &str, requires: bool) -> bool {
    let mut keys = request.headers.iter().filter(|(name, _)| is_key(name));
    let lacks = requires && !request.headers.iter().any(|(name, _)| name == "x-idempotency");
    lacks || keys.any(|(name, value)| !is_in_scope(name, value, tenant)) || !is_target_in_scope(&request.path, tenant)
}
