//! What the fuzz targets share: an engine with its node, tokens, and the rules about claims written down
//! a second time.

pub mod claims;
pub mod event;
pub mod head;
pub mod json;
pub mod metadata;
pub mod record;
pub mod token;
mod world;

pub use world::World;

use serde_json::Value;
use tenant_policy::config::{Environment, Plugin, compile};
use tenant_policy::engine::Engine;
use tenant_policy::flow::{Forward, RequestFlow, Step};
use tenant_policy::request::{Field, RequestHead};
use tenant_policy::scope::Edit;

/// When every run plays, in seconds since the Unix epoch.
pub const NOW: u64 = 1_800_000_000;

/// The only issuer.
pub const ISSUER: &str = "https://id.example.com";

/// Whom its tokens are for.
pub const AUDIENCE: &str = "api";

/// With what the ids of its tenants begin.
pub const TENANTS: &str = "t-";

/// An engine that asks no Tenant Manager, with this `auth`.
///
/// # Panics
/// When the configuration has a fault, which is one of the target.
pub fn engine(auth: &Value) -> Engine {
    let mut document = serde_json::json!({ "version": "v1", "enabled": true, "service": "ledger", "auth": auth });
    // One engine per input, so that an input fails by itself or not at all: a small one.
    document["auth"]["token_cache"] = serde_json::json!({ "max_entries": 4 });
    engine_of(&document)
}

/// The engine of a whole configuration.
///
/// # Panics
/// When it has a fault or leaves tenancy off, which is a fault of the target.
pub fn engine_of(document: &Value) -> Engine {
    let compiled =
        compile(document.to_string().as_bytes(), &Environment::default()).expect("a configuration without faults");
    let Plugin::MultiTenant(config) = compiled.plugin else {
        panic!("tenancy is on")
    };
    Engine::new(*config)
}

/// The tenant in whose name a request for a protected path is forwarded; `None` when it is refused.
///
/// # Panics
/// When the request waits or is forwarded in nobody's name.
pub fn tenant(engine: &mut Engine, world: &World, headers: &[Field<'_>]) -> Option<Vec<u8>> {
    let mut fields = vec![(&b":method"[..], &b"GET"[..]), (b":path", b"/v1/accounts")];
    fields.extend(headers);
    match RequestFlow::start(engine, &RequestHead::new(&fields), world) {
        Step::Forward(Forward { edits, .. }) => {
            let set = edits.into_iter().rev().find_map(|edit| match edit {
                Edit::Set(name, value) if name == b"x-tenant-id" => Some(value),
                _ => None,
            });
            Some(set.expect("a protected request goes on in a tenant's name"))
        }
        Step::Reply(refused) => {
            let status = refused.reply.status;
            assert!((400..600).contains(&status), "refused with {status}");
            None
        }
        Step::Wait { .. } | Step::Receive { .. } => panic!("there is nothing to wait for, and nobody to tell"),
    }
}
