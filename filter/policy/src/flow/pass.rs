//! Requests that pass a second time, after an internal redirect of the host.
//!
//! A pass that has scoped something leaves a note, which outlives the redirect: the configuration that
//! did it, and the tenant. It is read only where the host says that it has redirected
//! (`x-envoy-original-url`), and only a note of this very configuration is believed: another plugin
//! authenticates by rules of its own.

use super::told::{Property, Told};
use crate::config::Config;
use crate::node::{Earlier, Node};
use crate::request::RequestHead;
use crate::tenant_id::TenantId;

/// What is known of a request's earlier passes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pass {
    /// It is the first one, or nothing was scoped before.
    First,
    /// It has been scoped to this tenant.
    Second(TenantId),
    /// It may have been scoped, or not.
    Unknowable,
}

impl Pass {
    pub(super) fn of(config: &Config, head: &RequestHead<'_>, node: &impl Node) -> Self {
        if !head.has(b"x-envoy-original-url") {
            return Self::First;
        }
        match node.earlier_pass() {
            Earlier::Nothing => Self::First,
            Earlier::Unknowable => Self::Unknowable,
            Earlier::Noted(note) => read(config, &note).map_or(Self::Unknowable, Self::Second),
        }
    }
}

/// The note that a pass leaves.
pub(super) fn note(config: &Config, tenant: &TenantId) -> Told {
    let note = format!("{:016x}{}", config.fingerprint, tenant.as_str());
    (Property::Pass, note.into_bytes())
}

/// The tenant of a note that this configuration has written.
fn read(config: &Config, note: &[u8]) -> Option<TenantId> {
    let by = format!("{:016x}", config.fingerprint);
    let tenant = note.strip_prefix(by.as_bytes())?;
    TenantId::parse(std::str::from_utf8(tenant).ok()?, false)
}
