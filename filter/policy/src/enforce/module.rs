//! Rule 2 of enforcement: what the tenant has been granted.

use crate::config::Module;
use crate::denial::Denial;
use crate::resolve::{Isolation, Record};

/// The record must list the module; in schema mode the module must have a usable schema.
pub(super) fn check(record: &Record, module: &Module) -> Result<(), Denial> {
    if !record.grants(module) {
        return Err(Denial::ServiceNotConfigured);
    }
    if record.isolation() == Isolation::Schema && record.schema(module).is_none() {
        return Err(Denial::SchemaInvalid);
    }
    Ok(())
}
