//! What a stream is given for other filters, for the access log, and for its own second pass.

use prost::Message;
use tenant_policy::flow::{Property, Told};
use tenant_policy::node::Earlier;

use crate::host::{self, BAD_ARGUMENT, Refused};

/// The function that says how long a property lives.
const FUNCTION: &str = "declare_property";
/// A property that outlives an internal redirect: it belongs to the request.
const SPAN_REQUEST: i32 = 1;

/// `DeclarePropertyArguments`; what is left out is 0: writable, bytes.
#[derive(Clone, PartialEq, Message)]
struct Arguments {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int32, tag = "5")]
    span: i32,
}

/// Has the host keep [`Property::Pass`] for as long as there is the request. Gives whether it does.
pub(crate) fn declare_pass() -> bool {
    let arguments = Arguments {
        name: Property::Pass.name().to_owned(),
        span: SPAN_REQUEST,
    };
    match host::call_foreign_function(FUNCTION, &arguments.encode_to_vec()) {
        // A bad argument is one that was declared before.
        Ok(_) | Err(Refused(BAD_ARGUMENT)) => true,
        Err(Refused(_)) => false,
    }
}

/// What an earlier pass of the current request has left.
pub(crate) fn earlier_pass() -> Earlier {
    match host::property(&[Property::Pass.name()]) {
        Ok(note) => Earlier::Noted(note),
        Err(Refused(_)) => Earlier::Nothing,
    }
}

/// Tells the host about the current request.
///
/// # Errors
///
/// What it answered to the first property that it refused.
pub(crate) fn tell(properties: &[Told]) -> Result<(), Refused> {
    properties
        .iter()
        .try_for_each(|(property, value)| host::set_property(property.name(), value))
}
