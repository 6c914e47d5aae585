//! A real Envoy with the filter, under mixed load at the machine's limit for as long as one likes, while the Tenant
//! Manager fails by chance, tenants are suspended and activated, and keys turn.
//!
//! Every answer is judged against the rules as the crate `oracle` has them and against what was true at that time
//! (the history of faults, events and key sets). Nothing here knows a line of the engine. Chance comes from a seed; what Envoy and
//! the machine make of it does not.
//!
//! At the end there must be no wrong decision, no request without an answer, no connection that broke without one, no VM
//! that trapped, and memory that does not grow.

mod client;
mod director;
mod faults;
mod history;
mod judge;
mod load;
mod memory;
mod plan;
mod plot;
mod population;
mod report;
mod run;
mod tally;
mod upstream;
mod world;

pub use memory::{MAX_GROWTH, Sample, Trend};
pub use report::{Outcome, Report};
pub use run::{Options, run};
pub use tally::{Class, Latency};
