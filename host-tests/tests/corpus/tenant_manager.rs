//! The Tenant Manager of a case, as a scripted cluster.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use corpus::answer::{Answer, Fault};
use serde_json::Value;
use tiny_envoy::PeerRequest;

/// Where the specification puts a tenant's settings.
const DEFAULT_PATH: &str = "/tenants/{tenantId}/services/{service}/settings";

/// Answers lookups from the case, and remembers them.
#[derive(Debug, Clone)]
pub(crate) struct TenantManager(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    tenants: BTreeMap<String, Answer>,
    /// What stands before and after the tenant id in the path.
    around_id: (String, String),
    received: Vec<PeerRequest>,
    strange_paths: Vec<String>,
}

impl TenantManager {
    /// Knows these tenants, at the path that the plugin configuration names.
    pub(crate) fn new(config: &Value, tenants: BTreeMap<String, Answer>) -> Self {
        let path = config.pointer("/tenant_manager/path").and_then(Value::as_str);
        let service = config.pointer("/service").and_then(Value::as_str).unwrap_or_default();
        let path = path.unwrap_or(DEFAULT_PATH).replace("{service}", service);
        let (before, after) = path.split_once("{tenantId}").unwrap_or((&path, ""));
        Self(Arc::new(Mutex::new(State {
            tenants,
            around_id: (before.to_owned(), after.to_owned()),
            received: Vec::new(),
            strange_paths: Vec::new(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers differently about these tenants from now on.
    pub(crate) fn change(&self, tenants: &BTreeMap<String, Answer>) {
        self.state().tenants.extend(tenants.clone());
    }

    /// Takes the lookups received since the last time.
    pub(crate) fn take_received(&self) -> Vec<PeerRequest> {
        std::mem::take(&mut self.state().received)
    }

    /// Paths that were asked for and are not the configured one.
    pub(crate) fn strange_paths(&self) -> Vec<String> {
        self.state().strange_paths.clone()
    }

    /// Answers one lookup.
    pub(crate) fn answer(&self, request: &PeerRequest) -> tiny_envoy::Answer {
        let mut state = self.state();
        state.received.push(request.clone());
        let path = request.path();
        let (before, after) = &state.around_id;
        let id = path
            .strip_prefix(before.as_str())
            .and_then(|rest| rest.strip_suffix(after.as_str()));
        let Some(id) = id.filter(|id| !id.contains('/')) else {
            state.strange_paths.push(path);
            return tiny_envoy::Answer::status(404);
        };
        scripted(&state.tenants.get(id).cloned().unwrap_or_else(Answer::unknown_tenant))
    }
}

/// An answer of the corpus in the words of the tiny Envoy.
pub(crate) fn scripted(answer: &Answer) -> tiny_envoy::Answer {
    let mut scripted = tiny_envoy::Answer::json(answer.status(), answer.body_bytes());
    for (name, value) in &answer.headers {
        scripted = scripted.header(name, value);
    }
    for (name, value) in &answer.trailers {
        scripted = scripted.trailer(name, value);
    }
    let scripted = match answer.fault {
        None => scripted,
        Some(Fault::ResetMidBody) => scripted.reset_mid_body(),
        Some(Fault::CloseBeforeHeaders) => tiny_envoy::Answer::close_before_headers(),
        Some(Fault::Silence) => tiny_envoy::Answer::silence(),
    };
    scripted.after(Duration::from_millis(answer.delay_ms))
}
