//! Workers that race each other about one tenant: an event, an answer on its way, a request, each
//! overtaken by the others at every hostcall on what workers share, under every schedule there is.
//!
//! What must hold under each of them: when an event has been answered, nothing is served by what
//! was known before, and no cache holds it, neither a worker's nor the node's, now or later.

mod events;
mod finished;
mod lookups;
mod race;
