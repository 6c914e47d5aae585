//! Workers that run interleaved, as the threads of an Envoy do, under every schedule there is.

mod baton;
mod burst;
mod crew;
mod op;
mod order;
mod part;
mod pilot;
mod run;
mod scene;
mod search;
mod tree;

pub(crate) use self::baton::Seat;
pub use self::burst::{Burst, BurstError};
pub(crate) use self::crew::Crew;
pub(crate) use self::op::{Access, Op, Place};
pub use self::run::{Act, Run, Schedule};
pub use self::scene::Scene;
pub use self::search::{Explored, Explorer};
