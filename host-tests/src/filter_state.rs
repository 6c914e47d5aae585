//! Filter state: what a plugin sets by `proxy_set_property`, and how long it is kept.

use std::collections::{BTreeMap, HashMap};

use prost::Message;

use crate::abi::Status;

/// For how long a value is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Span {
    /// Until the filters of the stream are gone: an internal redirect begins without it.
    #[default]
    FilterChain,
    /// For all passes of a request.
    Request,
}

/// What a plugin has declared about a property.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Declared {
    span: Span,
    readonly: bool,
}

/// What Envoy takes: `envoy.source.extensions.common.wasm.DeclarePropertyArguments`.
#[derive(Clone, PartialEq, Message)]
struct Arguments {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(bool, tag = "2")]
    readonly: bool,
    #[prost(int32, tag = "3")]
    kind: i32,
    #[prost(string, tag = "4")]
    schema: String,
    #[prost(int32, tag = "5")]
    span: i32,
}

/// The properties that a context has declared, by name.
#[derive(Debug, Default)]
pub(crate) struct Declarations(HashMap<Vec<u8>, Declared>);

impl Declarations {
    /// The foreign function `declare_property`. A name is declared once; arguments that are no
    /// protobuf and a second declaration are a bad argument.
    pub(crate) fn declare(&mut self, arguments: &[u8]) -> Result<(), Status> {
        let arguments = Arguments::decode(arguments).map_err(|_| Status::BadArgument)?;
        // Bytes and strings are kept and read alike.
        assert!(
            matches!(arguments.kind, 0 | 1),
            "not modelled by the tiny Envoy: properties of type {}",
            arguments.kind
        );
        let span = match arguments.span {
            1 => Span::Request,
            2 => panic!("not modelled by the tiny Envoy: properties of a connection"),
            _ => Span::FilterChain,
        };
        let readonly = arguments.readonly;
        let name = arguments.name.into_bytes();
        if self.0.contains_key(&name) {
            return Err(Status::BadArgument);
        }
        self.0.insert(name, Declared { span, readonly });
        Ok(())
    }

    /// What holds for a property; the default for one that was not declared.
    pub(crate) fn of(&self, name: &[u8]) -> Declared {
        self.0.get(name).copied().unwrap_or_default()
    }
}

/// The filter state of a stream, by names without the prefix `wasm.`.
#[derive(Debug, Default)]
pub(crate) struct FilterState(HashMap<Vec<u8>, (Vec<u8>, Declared)>);

impl FilterState {
    /// Sets a value. What was declared when it was first set holds for as long as it is there; a
    /// second value for what is read-only is a bad argument.
    pub(crate) fn set(&mut self, name: Vec<u8>, value: Vec<u8>, declared: Declared) -> Result<(), Status> {
        match self.0.get_mut(&name) {
            Some((_, Declared { readonly: true, .. })) => return Err(Status::BadArgument),
            Some((present, _)) => *present = value,
            None => drop(self.0.insert(name, (value, declared))),
        }
        Ok(())
    }

    pub(crate) fn get(&self, name: &[u8]) -> Option<&Vec<u8>> {
        self.0.get(name).map(|(value, _)| value)
    }

    pub(crate) fn all(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let objects = self.0.iter();
        objects
            .map(|(name, (value, _))| (name.clone(), value.clone()))
            .collect()
    }

    /// What of it the next pass of the request begins with.
    pub(crate) fn for_next_pass(&self) -> Self {
        let kept = self
            .0
            .iter()
            .filter(|(_, (_, declared))| declared.span == Span::Request);
        Self(kept.map(|(name, object)| (name.clone(), object.clone())).collect())
    }
}
