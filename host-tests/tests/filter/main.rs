//! What the finished filter does over several requests, workers and moments, where a case of the
//! corpus cannot say it. Time is virtual throughout.
//!
//! Not here: two plugins in one VM, and updates of a configuration. The tiny Envoy has one root
//! context per VM.

mod barrier;
mod bell;
mod bounds;
mod breaker;
mod budget;
mod counters;
mod cutting;
mod deadlines;
mod dice;
mod discovery;
mod event_effects;
mod event_races;
mod events;
mod freshness;
mod full_table;
mod garbage;
mod hostile;
mod keys;
mod labels;
mod logging;
mod lookups;
mod memory;
mod node_cache;
mod passes;
mod races;
mod rate;
mod refusing_host;
mod remains;
mod scoping;
mod secrets;
mod signatures;
#[path = "../corpus/tenant_manager.rs"]
mod tenant_manager;
mod waiting;
mod world;
