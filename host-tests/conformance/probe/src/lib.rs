//! A Proxy-Wasm module that does what its script says, and logs what the host answers.
//!
//! A script is JSON: `{ "row": id, "on": { callback: [operation, …] } }`. The script of a root context is the
//! plugin configuration; that of a stream is its request header `x-probe`, and where there is none, the
//! script of its root context. An operation is a list, its name first: `["get", "request", "x-a"]`. What
//! comes of it is a line in the log: `conformance <row>: request_headers get request x-a = Ok "1"`.
//! All operations stand in [`operations`]; nothing is done that no script says.

#![cfg(target_arch = "wasm32")]

mod callbacks;
mod host;
mod operations;
mod pairs;
mod script;
mod state;
mod text;
