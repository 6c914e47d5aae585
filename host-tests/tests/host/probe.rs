//! Guests for these tests: WAT put together from the bodies of a few callbacks.
//!
//! In a body `@'text'` stands for the address and the length of that text. `$note` logs a text and
//! a number, `$tell` a text and the bytes that the last hostcall returned through [`RETURNED`].

use std::fmt::Write as _;

use tiny_envoy::{Builder, Plugin, TinyEnvoy};

/// Callbacks: name, parameters, and the result when no body is given.
const CALLBACKS: &[(&str, &str, Option<&str>)] = &[
    ("context_create", "$context $root", None),
    ("vm_start", "$context $size", Some("1")),
    ("configure", "$context $size", Some("1")),
    ("tick", "$context", None),
    ("queue_ready", "$context $queue", None),
    ("request_headers", "$context $count $end", Some("0")),
    ("request_body", "$context $size $end", Some("0")),
    ("request_trailers", "$context $count", Some("0")),
    ("response_headers", "$context $count $end", Some("0")),
    ("response_body", "$context $size $end", Some("0")),
    ("http_call_response", "$context $token $headers $body $trailers", None),
    ("log", "$context", None),
    ("response_trailers", "$context $count", Some("0")),
    ("done", "$context", Some("1")),
    ("delete", "$context", None),
];

/// Hostcalls: name and parameters.
const HOSTCALLS: &[(&str, &str)] = &[
    ("log", "i32 i32 i32"),
    ("get_current_time_nanoseconds", "i32"),
    ("set_tick_period_milliseconds", "i32"),
    ("get_buffer_bytes", "i32 i32 i32 i32 i32"),
    ("set_buffer_bytes", "i32 i32 i32 i32 i32"),
    ("get_header_map_pairs", "i32 i32 i32"),
    ("get_header_map_value", "i32 i32 i32 i32 i32"),
    ("set_header_map_pairs", "i32 i32 i32"),
    ("add_header_map_value", "i32 i32 i32 i32 i32"),
    ("replace_header_map_value", "i32 i32 i32 i32 i32"),
    ("remove_header_map_value", "i32 i32 i32"),
    ("get_property", "i32 i32 i32 i32"),
    ("set_property", "i32 i32 i32 i32"),
    ("get_shared_data", "i32 i32 i32 i32 i32"),
    ("set_shared_data", "i32 i32 i32 i32 i32"),
    ("register_shared_queue", "i32 i32 i32"),
    ("resolve_shared_queue", "i32 i32 i32 i32 i32"),
    ("enqueue_shared_queue", "i32 i32 i32"),
    ("dequeue_shared_queue", "i32 i32 i32"),
    ("continue_stream", "i32"),
    ("close_stream", "i32"),
    ("send_local_response", "i32 i32 i32 i32 i32 i32 i32 i32"),
    ("http_call", "i32 i32 i32 i32 i32 i32 i32 i32 i32 i32"),
    ("get_status", "i32 i32 i32"),
    ("set_effective_context", "i32"),
    ("call_foreign_function", "i32 i32 i32 i32 i32 i32"),
    ("define_metric", "i32 i32 i32 i32"),
    ("increment_metric", "i32 i64"),
    ("record_metric", "i32 i64"),
    ("get_metric", "i32 i32"),
    ("grpc_cancel", "i32"),
];

/// The two addresses where hostcalls leave address and length of what they return.
pub(crate) const RETURNED: &str = "(i32.const 16) (i32.const 20)";

const FIXED: &str = r#"
  (memory (export "memory") 8)
  (global $heap (mut i32) (i32.const 131072))
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_memory_allocate") (param $size i32) (result i32)
    (global.get $heap)
    (global.set $heap (i32.add (global.get $heap) (local.get $size))))
  (func $line (param $text i32) (param $length i32) (result i32)
    (memory.copy (i32.const 1024) (local.get $text) (local.get $length))
    (i32.store8 (i32.add (i32.const 1024) (local.get $length)) (i32.const 32))
    (i32.add (i32.const 1025) (local.get $length)))
  (func $digit (param $at i32) (param $digit i32)
    (i32.store8 (local.get $at) (i32.add (i32.const 48) (i32.rem_u (local.get $digit) (i32.const 10)))))
  (func $note (param $text i32) (param $length i32) (param $number i32) (local $at i32)
    (local.set $at (call $line (local.get $text) (local.get $length)))
    (call $digit (local.get $at) (i32.div_u (local.get $number) (i32.const 100)))
    (call $digit (i32.add (local.get $at) (i32.const 1)) (i32.div_u (local.get $number) (i32.const 10)))
    (call $digit (i32.add (local.get $at) (i32.const 2)) (local.get $number))
    (drop (call $log (i32.const 2) (i32.const 1024) (i32.add (local.get $length) (i32.const 4)))))
  (func $tell (param $text i32) (param $length i32) (local $at i32)
    (local.set $at (call $line (local.get $text) (local.get $length)))
    (memory.copy (local.get $at) (i32.load (i32.const 16)) (i32.load (i32.const 20)))
    (drop (call $log (i32.const 2) (i32.const 1024)
      (i32.add (local.get $length) (i32.add (i32.const 1) (i32.load (i32.const 20)))))))
"#;

/// A guest that is being put together.
#[derive(Debug, Default)]
pub(crate) struct Probe {
    functions: String,
    data: String,
    data_end: usize,
}

impl Probe {
    pub(crate) fn new() -> Self {
        Self {
            data_end: 65536,
            ..Self::default()
        }
    }

    /// Gives a callback a body.
    pub(crate) fn on(mut self, name: &str, body: &str) -> Self {
        let (_, parameters, result) = CALLBACKS
            .iter()
            .find(|(known, ..)| *known == name)
            .expect("a known callback");
        let parameters: String = parameters
            .split(' ')
            .map(|name| format!(" (param {name} i32)"))
            .collect();
        let result = result.map_or("", |_| " (result i32)");
        let body = self.with_texts(body);
        writeln!(
            self.functions,
            "(func (export \"proxy_on_{name}\"){parameters}{result}\n{body})"
        )
        .expect("strings take everything");
        self
    }

    /// Adds a function, global or import of its own.
    pub(crate) fn with(mut self, wat: &str) -> Self {
        let wat = self.with_texts(wat);
        self.functions.push_str(&wat);
        self
    }

    /// A world with this guest.
    pub(crate) fn world(self) -> Builder {
        TinyEnvoy::builder().plugin(&self.plugin())
    }

    pub(crate) fn plugin(self) -> Plugin {
        let mut imports = String::new();
        for (name, parameters) in HOSTCALLS {
            writeln!(
                imports,
                "(import \"env\" \"proxy_{name}\" (func ${name} (param {parameters}) (result i32)))"
            )
            .expect("strings take everything");
        }
        // Imports come first in a module, those that a test adds too.
        let (own_imports, functions): (Vec<_>, Vec<_>) =
            self.functions.lines().partition(|line| line.starts_with("(import"));
        let wat = format!(
            "(module {imports} {} {FIXED} {} {})",
            own_imports.join("\n"),
            functions.join("\n"),
            self.data
        );
        let bytes = wat::parse_str(&wat).unwrap_or_else(|error| panic!("{error}"));
        Plugin::compile(&bytes).expect("the probe is valid")
    }

    fn with_texts(&mut self, wat: &str) -> String {
        let mut parts = wat.split("@'");
        let mut result = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (text, rest) = part.split_once('\'').expect("a closing quote");
            let text = text.replace("\\0", "\0");
            let escaped: String = text.bytes().map(|byte| format!("\\{byte:02x}")).collect();
            let (at, length) = (self.data_end, text.len());
            writeln!(self.data, "(data (i32.const {at}) \"{escaped}\")").expect("strings take everything");
            self.data_end += length;
            write!(result, "(i32.const {at}) (i32.const {length}){rest}").expect("strings take everything");
        }
        result
    }
}

/// Header pairs as a text for `@'…'`.
pub(crate) fn pairs(list: &[(&str, &str)]) -> String {
    let word = |number: usize| {
        let [a, b, c, d] = u32::try_from(number).expect("small").to_le_bytes();
        assert!([a, b, c, d].iter().all(|byte| *byte < 0x80), "texts are UTF-8 here");
        String::from_utf8(vec![a, b, c, d]).expect("ASCII")
    };
    let mut text = word(list.len());
    for (name, value) in list {
        text += &word(name.len());
        text += &word(value.len());
    }
    for (name, value) in list {
        text += &format!("{name}\0{value}\0");
    }
    text
}

/// What a probe has logged, `worker:` first where it is not worker 0; numbers without the zeros
/// before them.
pub(crate) fn notes(envoy: &TinyEnvoy) -> Vec<String> {
    let trimmed = |text: &str| match text.rsplit_once(' ') {
        Some((start, number)) if number.len() == 3 && number.bytes().all(|b| b.is_ascii_digit()) => {
            format!("{start} {}", number.parse::<u32>().expect("digits"))
        }
        _ => text.to_owned(),
    };
    envoy
        .logs()
        .iter()
        .map(|line| match line.worker {
            0 => trimmed(&line.message),
            worker => format!("{worker}: {}", trimmed(&line.message)),
        })
        .collect()
}

/// What the probes of worker 0 have logged.
pub(crate) fn own_notes(envoy: &TinyEnvoy) -> Vec<String> {
    let is_foreign = |note: &String| note.as_bytes().get(1) == Some(&b':');
    notes(envoy).into_iter().filter(|note| !is_foreign(note)).collect()
}
