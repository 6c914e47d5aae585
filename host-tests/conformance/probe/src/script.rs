//! Scripts: what is to be done in which callback.

use std::collections::HashMap;
use std::rc::Rc;

use serde_json::Value;

use crate::operations::Moment;
use crate::{host, state};

/// What one row of the table has the probe do.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) row: String,
    on: HashMap<String, Vec<Value>>,
}

impl Script {
    /// Reads one; `None` when the bytes are none.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Rc<Self>> {
        let script: Value = serde_json::from_slice(bytes).ok()?;
        let on = script.get("on")?.as_object()?.iter();
        Some(Rc::new(Self {
            row: script.get("row")?.as_str()?.to_owned(),
            on: on
                .filter_map(|(name, operations)| Some((name.clone(), operations.as_array()?.clone())))
                .collect(),
        }))
    }
}

/// Does what the script of this context says for a callback. Returns what the callback is to return, if
/// the script says that.
pub(crate) fn run(context: u32, callback: &str, arguments: &[u32]) -> Option<u32> {
    let script = state::with(|state| {
        let root = state.roots.get(&context).copied().unwrap_or(context);
        state
            .scripts
            .get(&context)
            .or_else(|| state.scripts.get(&root))
            .cloned()
    })?;
    play(&script, context, callback, arguments)
}

/// Does what this script says under a name.
pub(crate) fn play(script: &Rc<Script>, context: u32, name: &str, arguments: &[u32]) -> Option<u32> {
    let mut moment = Moment {
        script,
        context,
        arguments,
        returns: None,
    };
    for operation in script.on.get(name)? {
        let line = moment.perform(operation.as_array()?);
        if let Some(line) = line {
            host::log(&format!("conformance {}: {name} {line}", script.row));
        }
    }
    moment.returns
}
