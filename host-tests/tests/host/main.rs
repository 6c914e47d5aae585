//! The tiny Envoy against the facts measured on the real one, with guests made for the purpose.

mod bodies;
mod bursts;
mod callouts;
mod closing;
mod forgetting;
mod headers;
mod interleaving;
mod passes;
mod pausing;
mod probe;
mod replies;
mod responses;
mod sharing;
mod signatures;
mod updates;
mod vms;
