//! Worlds that try to break the filter.
//!
//! From one seed comes a [`Script`](script::Script): a configuration, and requests, events and faults in
//! their order. [`world::play`] plays it on the finished filter in the tiny Envoy, and has every step judged
//! by a [`Model`](model::Model) that knows what each may come to and shares no code with the filter. A script
//! that ends in a fault is made smaller by [`shrink`] and told as a story.
//!
//! Nothing is drawn at random while a script is played: of a script some operations can be left out, and what
//! remains happens as before.

pub mod config;
pub mod fault;
pub mod generate;
pub mod ledger;
pub mod model;
pub mod peers;
pub mod script;
pub mod secrets;
pub mod shrink;
pub mod tally;
pub mod tokens;
pub mod world;
