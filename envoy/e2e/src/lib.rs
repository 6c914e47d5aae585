//! What the tests on the real Envoy have in common: a [`World`] to send requests into, and a
//! [`Connection`] that sends whatever bytes a test wants sent.
//!
//! The tests need `envoy/fetch.sh` and `make wasm` to have run; they say so when not.

mod client;
mod crash;
mod keep_alive;
pub mod live;
mod message;
mod traffic;
mod versions;
mod world;

pub use client::{Connection, Reply};
pub use crash::{CRASH, CRASHING_CONFIG, Callback, crashing};
pub use envoy_run::now;
pub use keep_alive::KeepAlive;
pub use message::Message;
pub use traffic::{Sample, Traffic};
pub use versions::Feature;
pub use world::{EVENTS_KEY, EVENTS_PATH, Setup, World, base_config, bootstrap_between, module, with_keys};
