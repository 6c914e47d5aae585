//! Signatures: the engine against public vectors, and its two ways of verifying against each other.
//!
//! `../vectors/README.md` says where the vectors come from, `../vectors/disagreements.yaml` where
//! the engine says otherwise, and why.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that meets the impossible should stop"
)]

mod differential;
mod disagreements;
mod published;
mod surroundings;
mod vectors;
