//! The finished module with a trap in each of its callbacks, to be sprung by a request.
//!
//! It is made of the module that ships, which stays as it is: each callback of [`Callback`] is exported through a
//! few instructions that trap when they were told to and call the callback otherwise. What a Rust panic leaves
//! behind is the same trap, `unreachable`.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use wasm_encoder::reencode::{Error as ReencodeError, Reencode, utils};
use wasm_encoder::{BlockType, ConstExpr, ExportKind, ExportSection, Function, GlobalSection, GlobalType, MemArg};
use wasm_encoder::{CodeSection, FunctionSection, InstructionSink, MemArgTarget, ValType};
use wasmparser::{ExternalKind, Parser, Payload, TypeRef};

/// The request header that says in which callback this worker's VM is to trap next: [`Callback::letter`].
pub const CRASH: &str = "x-crash";

/// What a plugin configuration begins with that is to trap while it is read: white space to JSON.
pub const CRASHING_CONFIG: &str = "\t";

/// A callback that can trap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Callback {
    /// The request's headers, those of the very request that says so.
    RequestHeaders,
    /// A part of its body.
    RequestBody,
    /// The headers of its response.
    ResponseHeaders,
    /// The end of a stream, for the access log.
    Log,
    /// The notice of a lookup that is to be made.
    QueueReady,
    /// The answer to a lookup.
    HttpCallResponse,
    /// The timer.
    Tick,
}

impl Callback {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::RequestHeaders,
        Self::RequestBody,
        Self::ResponseHeaders,
        Self::Log,
        Self::QueueReady,
        Self::HttpCallResponse,
        Self::Tick,
    ];

    /// What [`CRASH`] says for it.
    pub fn letter(self) -> &'static str {
        match self {
            Self::RequestHeaders => "h",
            Self::RequestBody => "b",
            Self::ResponseHeaders => "r",
            Self::Log => "l",
            Self::QueueReady => "q",
            Self::HttpCallResponse => "c",
            Self::Tick => "t",
        }
    }

    /// Its name in the module.
    pub fn export(self) -> &'static str {
        match self {
            Self::RequestHeaders => "proxy_on_request_headers",
            Self::RequestBody => "proxy_on_request_body",
            Self::ResponseHeaders => "proxy_on_response_headers",
            Self::Log => "proxy_on_log",
            Self::QueueReady => "proxy_on_queue_ready",
            Self::HttpCallResponse => "proxy_on_http_call_response",
            Self::Tick => "proxy_on_tick",
        }
    }

    fn code(self) -> i32 {
        self.letter().bytes().map(i32::from).sum()
    }
}

const CONFIGURE: &str = "proxy_on_configure";

/// Numbers of the Proxy-Wasm ABI: the map of request headers, the buffer of the plugin configuration.
const REQUEST_HEADERS: i32 = 0;
const PLUGIN_CONFIGURATION: i32 = 7;

/// The module with its traps.
///
/// # Errors
/// When it is no module, or lacks what a Proxy-Wasm filter has.
pub fn crashing(module: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut trapping = Trapping::plan(module)?;
    let mut made = wasm_encoder::Module::new();
    trapping.parse_core_module(&mut made, Parser::new(0), module)?;
    Ok(made.finish())
}

/// What is added where. Everything is added behind what is there, so that no index of the module changes.
struct Trapping {
    /// The functions added, by the name under which they are exported from now on.
    wrappers: BTreeMap<&'static str, Wrapper>,
    header: u32,
    buffer: u32,
    allocate: u32,
    /// The global that holds the letter of the callback to trap in, 0 at first.
    armed: u32,
    /// The global that holds the address of [`SCRATCH_BYTES`] of memory, 0 before there are any.
    scratch: u32,
}

/// A name of up to eight bytes, and behind it where the host puts the address and the length of what it gives.
const SCRATCH_BYTES: i32 = 16;
const GIVEN_ADDRESS: i32 = 8;
const GIVEN_LENGTH: i32 = 12;

struct Wrapper {
    index: u32,
    wrapped: u32,
    type_index: u32,
    parameters: u32,
    callback: Option<Callback>,
}

impl Trapping {
    fn plan(module: &[u8]) -> anyhow::Result<Self> {
        let (mut parameters, mut types, mut imports, mut exports) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut globals = 0;
        for payload in Parser::new(0).parse_all(module) {
            match payload? {
                Payload::TypeSection(section) => {
                    for declared in section.into_iter_err_on_gc_types() {
                        parameters.push(u32::try_from(declared?.params().len())?);
                    }
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = import?;
                        let TypeRef::Func(declared) = import.ty else {
                            anyhow::bail!("{import:?} is no function");
                        };
                        types.push(declared);
                        imports.push(import.name);
                    }
                }
                Payload::FunctionSection(section) => {
                    for declared in section {
                        types.push(declared?);
                    }
                }
                Payload::GlobalSection(section) => globals = section.count(),
                Payload::ExportSection(section) => {
                    for export in section {
                        exports.push(export?);
                    }
                }
                _ => {}
            }
        }
        let import = |name: &str| -> anyhow::Result<u32> {
            let place = imports.iter().position(|found| *found == name);
            Ok(u32::try_from(
                place.with_context(|| format!("the module does not import {name}"))?,
            )?)
        };
        let export = |name: &str| -> anyhow::Result<u32> {
            let found = exports
                .iter()
                .find(|export| export.name == name && export.kind == ExternalKind::Func);
            Ok(found
                .with_context(|| format!("the module does not export {name}"))?
                .index)
        };
        let callbacks = Callback::ALL.map(|callback| (callback.export(), Some(callback)));
        let mut wrappers = BTreeMap::new();
        for (name, callback) in callbacks.into_iter().chain([(CONFIGURE, None)]) {
            let wrapped = export(name)?;
            let type_index = *types.get(usize::try_from(wrapped)?).context("a function has a type")?;
            let parameters = *parameters
                .get(usize::try_from(type_index)?)
                .context("a type is declared")?;
            let wrapper = Wrapper {
                index: u32::try_from(types.len() + wrappers.len())?,
                wrapped,
                type_index,
                parameters,
                callback,
            };
            ensure!(wrappers.insert(name, wrapper).is_none(), "{name} is there twice");
        }
        Ok(Self {
            wrappers,
            header: import("proxy_get_header_map_value")?,
            buffer: import("proxy_get_buffer_bytes")?,
            allocate: export("proxy_on_memory_allocate")?,
            armed: globals,
            scratch: globals + 1,
        })
    }

    /// In the order of their indices, which is that of the code.
    fn in_order(&self) -> Vec<&Wrapper> {
        let mut wrappers: Vec<_> = self.wrappers.values().collect();
        wrappers.sort_by_key(|wrapper| wrapper.index);
        wrappers
    }

    fn body(&self, wrapper: &Wrapper) -> Function {
        let mut body = Function::new([]);
        let mut code = body.instructions();
        match wrapper.callback {
            Some(callback) => {
                if callback == Callback::RequestHeaders {
                    self.arm(&mut code);
                }
                code.global_get(self.armed).i32_const(callback.code()).i32_eq();
                code.if_(BlockType::Empty).unreachable().end();
            }
            None => self.trap_on_configuration(&mut code),
        }
        for parameter in 0..wrapper.parameters {
            code.local_get(parameter);
        }
        code.call(wrapper.wrapped).end();
        body
    }

    /// Has the address of the scratch memory on the stack.
    fn scratch(&self, code: &mut InstructionSink<'_>) {
        code.global_get(self.scratch).i32_eqz().if_(BlockType::Empty);
        code.i32_const(SCRATCH_BYTES)
            .call(self.allocate)
            .global_set(self.scratch);
        code.end().global_get(self.scratch);
    }

    fn scratch_at(&self, offset: i32, code: &mut InstructionSink<'_>) {
        self.scratch(code);
        code.i32_const(offset).i32_add();
    }

    /// Has the first byte of what the host has given on the stack.
    fn first_byte(&self, code: &mut InstructionSink<'_>) {
        self.scratch_at(GIVEN_ADDRESS, code);
        code.i32_load(at(2)).i32_load8_u(at(0));
    }

    /// Keeps the first byte of the header [`CRASH`], where there is one. What the host gave is left allocated.
    fn arm(&self, code: &mut InstructionSink<'_>) {
        let name = CRASH
            .bytes()
            .rev()
            .fold(0, |packed, byte| packed << 8 | i64::from(byte));
        self.scratch(code);
        code.i64_const(name).i64_store(at(0)).i32_const(REQUEST_HEADERS);
        self.scratch(code);
        code.i32_const(CRASH.bytes().map(|_| 1).sum());
        self.scratch_at(GIVEN_ADDRESS, code);
        self.scratch_at(GIVEN_LENGTH, code);
        code.call(self.header).i32_eqz().if_(BlockType::Empty);
        self.first_byte(code);
        code.global_set(self.armed).end();
    }

    /// Traps where the plugin configuration begins with [`CRASHING_CONFIG`].
    fn trap_on_configuration(&self, code: &mut InstructionSink<'_>) {
        code.i32_const(PLUGIN_CONFIGURATION).i32_const(0).i32_const(1);
        self.scratch_at(GIVEN_ADDRESS, code);
        self.scratch_at(GIVEN_LENGTH, code);
        code.call(self.buffer).i32_eqz().if_(BlockType::Empty);
        self.first_byte(code);
        code.i32_const(CRASHING_CONFIG.bytes().map(i32::from).sum()).i32_eq();
        code.if_(BlockType::Empty).unreachable().end().end();
    }
}

fn at(align: u32) -> MemArg {
    MemArg {
        offset: 0,
        align,
        target: MemArgTarget::default(),
        ordering: None,
    }
}

type Never = std::convert::Infallible;

impl Reencode for Trapping {
    type Error = Never;

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: wasmparser::FunctionSectionReader<'_>,
    ) -> Result<(), ReencodeError<Never>> {
        utils::parse_function_section(self, functions, section)?;
        for wrapper in self.in_order() {
            functions.function(wrapper.type_index);
        }
        Ok(())
    }

    fn parse_global_section(
        &mut self,
        globals: &mut GlobalSection,
        section: wasmparser::GlobalSectionReader<'_>,
    ) -> Result<(), ReencodeError<Never>> {
        utils::parse_global_section(self, globals, section)?;
        let zero = GlobalType {
            val_type: ValType::I32,
            mutable: true,
            shared: false,
        };
        globals
            .global(zero, &ConstExpr::i32_const(0))
            .global(zero, &ConstExpr::i32_const(0));
        Ok(())
    }

    fn parse_export(
        &mut self,
        exports: &mut ExportSection,
        export: wasmparser::Export<'_>,
    ) -> Result<(), ReencodeError<Never>> {
        match self.wrappers.get(export.name) {
            Some(wrapper) => drop(exports.export(export.name, ExportKind::Func, wrapper.index)),
            None => utils::parse_export(self, exports, export)?,
        }
        Ok(())
    }

    fn parse_code_section(
        &mut self,
        code: &mut CodeSection,
        section: wasmparser::CodeSectionReader<'_>,
    ) -> Result<(), ReencodeError<Never>> {
        utils::parse_code_section(self, code, section)?;
        for wrapper in self.in_order() {
            code.function(&self.body(wrapper));
        }
        Ok(())
    }
}
