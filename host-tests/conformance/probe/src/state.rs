//! What the probe keeps in its VM.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use crate::script::Script;

/// A callout that was made.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// Whose script goes on when it ends …
    pub(crate) script: Rc<Script>,
    /// … with the operations of this name …
    pub(crate) then: String,
    /// … and the context that made it.
    pub(crate) context: u32,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    /// The root context of each context, itself for a root context.
    pub(crate) roots: HashMap<u32, u32>,
    pub(crate) scripts: HashMap<u32, Rc<Script>>,
    pub(crate) calls: HashMap<u32, Call>,
    /// What a script remembers, by row and name. It is the VM's, not the context's.
    pub(crate) kept: HashMap<(String, String), Vec<u8>>,
    /// Ids of queues and metrics, compare-and-set numbers, by row and name.
    pub(crate) numbers: HashMap<(String, String), u32>,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

/// Looks at the state. No hostcall is made meanwhile.
pub(crate) fn with<T>(look: impl FnOnce(&mut State) -> T) -> T {
    STATE.with_borrow_mut(look)
}
