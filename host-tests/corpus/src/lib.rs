//! The corpus: what a request is, what the filter must make of it, written once as data and run
//! by every runner (the tiny Envoy, the real Envoy).
//!
//! * [`case`] is the shape of `host-tests/cases/*.yaml`.
//! * [`mod@load`] reads the files, refuses the ones that make no sense and merges configurations.
//! * [`repeat`] writes out what a file says in short.
//! * [`mint`] makes the keys and tokens that cases name. It signs with aws-lc, never with the
//!   crates that the filter verifies with.
//! * [`jwt_authn`] is Envoy's own filter of that name, as far as cases need it.
//! * [`kept`] remembers tokens that are sent more than once.
//! * [`answer`] is what the imagined Tenant Manager says about a tenant and the identity provider about
//!   its keys.
//! * [`wire`] turns a case's request into bytes, so that every runner sends the same.
//! * [`expect`] compares what was observed with what was expected, so that every runner judges
//!   the same.

pub mod answer;
pub mod case;
pub mod expect;
mod filter;
pub mod jwt_authn;
pub mod kept;
pub mod load;
pub mod mint;
pub mod repeat;
pub mod wire;

pub use filter::finished_filter;
pub use load::{Corpus, cases_dir, load, merged_config};
pub use wire::latin1;
