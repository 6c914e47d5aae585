//! What the finished filter does over several requests, workers and moments, where a case of the
//! corpus cannot say it. Time is virtual throughout.
//!
//! Not here: two plugins in one VM, and updates of a configuration. The tiny Envoy has one root
//! context per VM.

mod barrier;
mod bounds;
mod budget;
mod counters;
mod deadlines;
mod dice;
mod hostile;
mod keys;
mod lookups;
mod races;
mod refusing_host;
mod secrets;
mod signatures;
#[path = "../corpus/tenant_manager.rs"]
mod tenant_manager;
mod waiting;
mod world;
