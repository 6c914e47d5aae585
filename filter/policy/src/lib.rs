//! The policy of Tenantgate.
//!
//! One request, in order; a stage may end it with a denial, and no later stage runs:
//!
//! | stage | module | decides | refuses with |
//! |---|---|---|---|
//! | 0 | [`sanitize`] | what only the filter may say is taken out | – |
//! | 1 | [`path`] | hazardous, public or protected; the module | 400, 404 |
//! | 2 | [`authn`] | whose signature, and does it hold now | 401, 503 |
//! | 3 | [`tenant_id`] | the tenant, from a verified claim | 401 |
//! | 4 | [`resolve`] | what the Tenant Manager knows about it | 503 |
//! | 5 | [`enforce`] | may it use this module now | 403, 404, 422, 429, 503 |
//! | 6 | [`scope`] | keys and headers that carry the tenant | 400 |
//!
//! [`flow`] is that table as code. Public paths leave after stage 1, sanitized and unscoped.
//!
//! The crate does no I/O, has no clock and knows nothing of Proxy-Wasm: what it needs of its
//! surroundings is [`node::Node`], what it wants done is a [`flow::Step`]. Nothing in it panics,
//! whatever bytes it is given; lints see to that.

#![cfg_attr(
    test,
    allow(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used,
        reason = "a test that meets the impossible should stop"
    )
)]

mod cell;
pub mod config;
pub mod denial;
pub mod errand;
pub mod events;
mod fingerprint;
pub mod json;
mod labels;
pub mod node;
pub mod remark;
pub mod request;
mod seats;
pub mod telemetry;
#[cfg(test)]
mod world;

pub mod engine;
pub mod flow;

// The stages, in request order.

pub mod sanitize;

pub mod path;

pub mod authn;

pub mod tenant_id;

pub mod resolve;

pub mod enforce;

pub mod scope;
