//! One table of what a Proxy-Wasm host does, asked of the tiny Envoy and of the real one.
//!
//! A [`Row`](table::Row) has the probe (`conformance-probe`, a Wasm module that interprets scripts) do
//! something, and says what must be seen of it, line by line: what the probe was told, what the upstream
//! and the peer got, what the client got. [`tiny`] and [`real`] play a row on one host each; both must see
//! what the row says. Every fact of the register ([`table::Fact`]) has a row.

pub mod table;
pub mod tiny;

mod lines;
pub mod real;
pub mod report;
mod vectors;

pub use lines::Seen;

/// The lines of several messages, or that there was none.
pub(crate) fn lines_of(who: &str, messages: &[lines::Message], names: &[String]) -> Vec<String> {
    if messages.is_empty() {
        return vec![format!("{who} none")];
    }
    messages.iter().flat_map(|message| message.lines(who, names)).collect()
}
