//! A small Envoy for tests: it runs a finished Proxy-Wasm plugin on wasmtime.
//!
//! ```no_run
//! use std::time::Duration;
//! use tiny_envoy::{Answer, TinyEnvoy};
//!
//! let mut envoy = TinyEnvoy::builder()
//!     .wasm("tenant_filter.wasm")
//!     .config("{}")
//!     .cluster("tenant-manager", |_: &_| Answer::status(503).after(Duration::from_millis(20)))
//!     .workers(2)
//!     .start()
//!     .expect("the plugin starts");
//! let reply = envoy.get("/v1/accounts").header("authorization", "Bearer x").run().replied();
//! assert_eq!(reply.status, 401);
//! envoy.assert_alive();
//! ```
//!
//! # Modelled
//!
//! * Several workers and the main thread, each with a VM of its own; a canary that tries the
//!   configuration first and whose callouts go nowhere. A VM that traps is dead: its paused
//!   streams stay paused, later requests are answered 503 or load it anew ([`FailurePolicy`]).
//! * Updates of the configuration ([`TinyEnvoy::update`]): a canary tries it, then each VM gets another
//!   root context for it; the old one goes on for the streams that it has, until it is drained.
//! * Envoy's filter manager for one filter, in both directions: a pause on headers holds
//!   everything, or, with [`Builder::allow_on_headers_stop_iteration`], only the headers, so that
//!   an answer to a body or trailers carries the request on; a pause on body buffers up to
//!   [`Builder::buffer_limit`]. Hostcalls that act on streams take effect when the guest has
//!   returned; a guest is never re-entered.
//! * Header maps ([`HeaderMap`]): ordered multimaps of bytes, inline headers joined, edits only
//!   while the filter holds the map, more than 1024 pairs at once erase it.
//! * Local replies, gRPC ones included; response code details; response callbacks on them; the
//!   order `on_log`, `on_done`, `on_delete`.
//! * Streams that the plugin ends by `proxy_close_stream` ([`TinyEnvoy::cut`]); long-lived streams, whose
//!   upstream answers before the request has ended ([`TinyEnvoy::upstream_responds`]) or never ends its
//!   response ([`Answer::unending`]).
//! * Callouts that belong to the root context: responses, timeouts, refused connections, resets,
//!   unknown clusters, clusters without endpoints.
//! * Shared data under compare-and-set, shared queues, stats, ticks, properties, foreign functions,
//!   logs.
//! * Filter state that lasts for a pass or for the request, as the plugin has declared it; internal
//!   redirects ([`Builder::internal_redirects`]), which send a request through the plugin again.
//! * The foreign function `verify_signature` (by [`native_signature`]), on aws-lc.
//! * Workers run one after the other, callback by callback; or, by an [`Explorer`], interleaved like
//!   threads, one overtaking the other before any hostcall on what they share, under every schedule;
//!   or, by [`TinyEnvoy::burst`], under one schedule drawn from a seed, and the world goes on.
//! * One virtual clock. Nothing sleeps, all randomness comes from a seed, and nothing is shared
//!   between two worlds but the compiled module.
//! * Worlds of any length: what is over can be forgotten ([`TinyEnvoy::forget_finished`],
//!   [`TinyEnvoy::take_logs`], [`TinyEnvoy::take_callouts`]).
//!
//! What it does is asked of it and of the real Envoy by one table, the package `conformance`.
//!
//! # Not modelled
//!
//! * Codecs, TLS, and their limits: any number and size of headers arrives.
//! * Routes, retries and stream timers: the router knows one upstream, and a stream that nobody
//!   resumes stays [`Outcome::Pending`]. Of a route there is only its metadata, said by the test.
//! * Other filters, but a buffer filter behind the plugin ([`Builder::buffer_filter`]); other
//!   listeners and plugins; TCP; gRPC callouts; metadata callbacks; WASI files.
//! * Watermarks: a client whose body is held back keeps sending.
//! * What Envoy's connection manager does to headers before any filter: it removes, adds and
//!   rewrites `x-envoy-*`, `x-forwarded-for`, `x-forwarded-client-cert`, `x-request-id`. Here all
//!   of them arrive as the client sent them.
//! * Path normalisation, and the refusal of requests that are malformed.
//! * Other plugins in the same VM: the plugin is the only one with its `vm_id`.
//! * Dynamic metadata but as a whole, by [`RequestBuilder::dynamic_metadata`]: no property inside of
//!   them can be read.
//! * Restrictions of WASI functions and of callbacks: [`Builder::restrict_capability`] takes away
//!   hostcalls only.
//! * The real foreign functions but `clear_route_cache`, `declare_property` and `verify_signature`; see
//!   [`Builder::foreign_function`].
//!
//! A hostcall of the ABI that is not modelled panics, and with it the test that made it. An import
//! that does not exist at all fails [`Builder::start`] by its name.

#![warn(missing_docs)]

mod abi;
mod builder;
mod callbacks;
mod clock;
mod cluster;
mod envoy;
mod exclusive;
mod filter_chain;
mod filter_state;
mod forget;
mod headers;
mod interleave;
mod local_reply;
mod log;
mod metadata;
mod metrics;
mod module;
mod node;
mod redirect;
mod request;
mod shared;
mod signature;
mod stream;
mod tally;
mod update;
mod upstream;
mod watch;
mod worker;

/// The example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

pub use crate::abi::Status;
pub use crate::builder::{Builder, FailurePolicy, StartError};
pub use crate::clock::START_UNIX_SECONDS;
pub use crate::cluster::{Answer, Callout, Cluster, PeerRequest, PeerResponse};
pub use crate::envoy::{Death, TinyEnvoy};
pub use crate::headers::HeaderMap;
pub use crate::interleave::{Act, Burst, BurstError, Explored, Explorer, Run, Scene, Schedule};
pub use crate::log::{Level, LogLine};
pub use crate::metadata::metadata;
pub use crate::module::Plugin;
pub use crate::request::RequestBuilder;
pub use crate::shared::SharedEntry;
pub use crate::stream::{Cut, LocalReply, Outcome, StreamId};

/// What Envoy says in place of a peer that closed the connection.
pub(crate) const UPSTREAM_CLOSED: &str =
    "upstream connect error or disconnect/reset before headers. reset reason: connection termination";
