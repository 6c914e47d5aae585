//! A real Envoy with what it needs around it, as values that end when they are dropped.
//!
//! * [`Bootstrap`] is a bootstrap file read as data, with one method per thing that a run changes.
//! * [`ListenerFile`] holds its listeners where they can be updated while Envoy runs.
//! * [`Envoy`] is one running Envoy process on free ports.
//! * [`TenantManager`] and [`IdentityProvider`] answer as the corpus says ([`corpus::answer::Answer`]),
//!   faults included.
//! * [`Echo`] is an upstream that answers with what it saw.
//! * [`Prometheus`] scrapes an Envoy, and [`promtool`] judges what it shows.
//!
//! Everything listens on loopback, on ports that the system chooses, so that any number of them run
//! side by side. All of it needs a Tokio runtime with I/O and time enabled.

mod admin;
mod bootstrap;
mod clock;
mod echo;
mod hot_restart;
mod listener_file;
mod logs;
mod process;
mod prometheus;
mod recorded;
mod scripted;
mod server;
mod version;

pub use bootstrap::{Bootstrap, TENANT_EVENTS};
pub use clock::now;
pub use echo::Echo;
pub use hot_restart::{HotRestart, PARENT_REMAINS};
pub use listener_file::ListenerFile;
pub use logs::Logs;
pub use process::{Envoy, Options, StartError, envoy_binary};
pub use prometheus::{Prometheus, Rule, Series, promtool};
pub use recorded::{Recorded, latin1};
pub use scripted::{By, ByPath, ByTenant, IdentityProvider, Scripted, TenantManager};
pub use version::envoy_version;
