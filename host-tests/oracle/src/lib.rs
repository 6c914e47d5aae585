//! The rules about request targets, bearer credentials and keys, written down a second time: slower, plainer,
//! and without a line of the engine. Property tests, fuzz targets and the tests on the real Envoy compare
//! the engine with it.
//!
//! * [`target`]: what is hazardous, what is public.
//! * [`upstream`]: every path that some server behind the proxy may take a target for.
//! * [`spelling`]: other ways to write a path, for tests that need many.
//! * [`bearer`]: what is a credential.
//! * [`keys`]: what a broker and a key-value store take a key for.
//! * [`scoping`]: what becomes of a key, and whose one is.
//! * [`head`]: what of a request's head may reach the upstream.
//!
//! Where the two disagree, the rule decides which of them is wrong.

pub mod bearer;
pub mod head;
pub mod keys;
pub mod scoping;
pub mod spelling;
pub mod target;
pub mod upstream;
