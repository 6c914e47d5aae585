//! The life of the plugin: configure, tick, queue, answers to calls.

use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{ContextType, LogLevel};
use tenant_policy::config::{self, Environment, Plugin};
use tenant_policy::engine::Engine;
use tenant_policy::node::Node;
use tenant_policy::telemetry::Counter;

use crate::host;
use crate::http::{Identity, Stream, Unconfigured};
use crate::node::HostNode;
use crate::worker::Worker;

/// Counts the queues of all VMs of a node, so that each has a name of its own.
const QUEUE_NUMBER_KEY: &str = "tenantgate.queue.number";

/// A root context: one plugin configuration on one worker.
pub(crate) struct Root {
    context: u32,
    mode: Mode,
}

enum Mode {
    /// Not configured yet: nothing may pass.
    Unconfigured,
    /// `enabled: false`.
    SingleTenant,
    MultiTenant(Rc<Worker>),
}

impl Root {
    pub(crate) fn new(context: u32) -> Self {
        Self {
            context,
            mode: Mode::Unconfigured,
        }
    }

    fn configure(&mut self) -> bool {
        let text = match host::plugin_configuration() {
            Ok(text) => text,
            Err(host::Refused(status)) => {
                host::log(
                    LogLevel::Error,
                    &format!("configuration cannot be read: status {status}"),
                );
                return false;
            }
        };
        let compiled = match config::compile(&text, &Environment::of(std::env::vars_os())) {
            Ok(compiled) => compiled,
            Err(faults) => {
                for fault in faults {
                    host::log(LogLevel::Error, &format!("configuration refused: {fault}"));
                }
                return false;
            }
        };
        for warning in &compiled.warnings {
            host::log(LogLevel::Warn, &format!("configuration: {warning}"));
        }
        let version = env!("CARGO_PKG_VERSION");
        match compiled.plugin {
            Plugin::SingleTenant => {
                host::log(
                    LogLevel::Warn,
                    &format!("tenantgate {version}: `enabled` is false, nothing is enforced"),
                );
                self.mode = Mode::SingleTenant;
            }
            Plugin::MultiTenant(config) => {
                let Some(queue) = own_queue() else {
                    return false;
                };
                let node = HostNode::new();
                if !node.has_bell() {
                    host::log(
                        LogLevel::Warn,
                        "the gauge tenantgate_epoch_… does not move (is it rejected by stats_config?): the shared data are \
                         read for every request instead",
                    );
                }
                let signatures = if node.has_native_signatures() {
                    "native"
                } else {
                    "pure-rust"
                };
                let (level, verb) = if config.reports_only {
                    (LogLevel::Warn, "reporting, nothing is denied:")
                } else {
                    (LogLevel::Info, "enforcing")
                };
                host::log(
                    level,
                    &format!("tenantgate {version}: {verb} {}", config.summary(signatures)),
                );
                for _ in &compiled.warnings {
                    node.count(Counter::KeysRefused);
                }
                let worker = Rc::new(Worker::new(self.context, queue, node, Engine::new(*config)));
                worker.tick();
                self.mode = Mode::MultiTenant(worker);
            }
        }
        true
    }

    fn worker(&self) -> Option<&Rc<Worker>> {
        match &self.mode {
            Mode::MultiTenant(worker) => Some(worker),
            Mode::Unconfigured | Mode::SingleTenant => None,
        }
    }
}

/// A queue that only this root context is told about.
fn own_queue() -> Option<u32> {
    let queue =
        host::next_number(QUEUE_NUMBER_KEY).and_then(|number| host::register_queue(&format!("tenantgate.{number}")));
    match queue {
        Ok(queue) => Some(queue),
        Err(host::Refused(status)) => {
            host::log(
                LogLevel::Error,
                &format!("no queue to be had from the host: status {status}"),
            );
            None
        }
    }
}

impl Context for Root {
    fn on_http_call_response(&mut self, token: u32, headers: usize, body_size: usize, _trailers: usize) {
        if let Some(worker) = self.worker() {
            worker.call_answered(token, headers, body_size);
        }
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        self.configure()
    }

    fn on_queue_ready(&mut self, queue: u32) {
        if let Some(worker) = self.worker().filter(|worker| worker.is_told_by(queue)) {
            worker.start_errands();
        }
    }

    fn on_tick(&mut self) {
        if let Some(worker) = self.worker() {
            worker.tick();
        }
    }

    fn create_http_context(&self, context: u32) -> Option<Box<dyn HttpContext>> {
        Some(match &self.mode {
            Mode::Unconfigured => Box::new(Unconfigured),
            Mode::SingleTenant => Box::new(Identity),
            Mode::MultiTenant(worker) => Box::new(Stream::new(context, Rc::clone(worker))),
        })
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}
