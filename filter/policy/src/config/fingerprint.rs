//! What two configurations must agree on before one may use what the other has stored.

use super::{Cache, Config, Name, TenantManager};

impl Config {
    /// Everything that decides what a stored record or refusal means, as canonical text: equal
    /// texts, equal meaning, whatever the order in which modules are written. It holds no secret,
    /// and nothing of how the Tenant Manager is asked (keys, timeouts, breaker) or of how much is
    /// kept (entries, bytes, slots).
    ///
    /// Every value is on a line of its own: none can hold a line break.
    pub fn resolution_fingerprint_text(&self) -> String {
        let mut modules: Vec<&str> = Vec::new();
        for module in self.modules.all().map(Name::as_str) {
            if let Err(place) = modules.binary_search(&module) {
                modules.insert(place, module);
            }
        }
        let mut lines = vec![
            format!("service={}", self.service.as_str()),
            format!("environment={}", self.environment.as_ref().map_or("", Name::as_str)),
            format!("fold_uuid={}", self.tenant_id.fold_uuid),
            format!("schema={}", self.scope.emit.schema.is_some()),
            format!("vhost={}", self.scope.emit.vhost.is_some()),
            format!("modules_of_routes={}", self.modules.from_route),
        ];
        lines.extend(modules.iter().map(|module| format!("module={module}")));
        if let Some(manager) = &self.tenant_manager {
            // Taken apart, so that a new member has to be judged here.
            let Cache {
                ttl_ms,
                stale_while_revalidate_ms,
                stale_if_error_ms,
                negative_ttl_ms,
                max_entries: _,
                max_bytes: _,
                shared_slots: _,
            } = manager.cache;
            lines.extend([
                manager.identity_text(),
                format!("path={}", manager.path.as_str()),
                format!("max_body_bytes={}", manager.max_body_bytes),
                format!("ttl_ms={ttl_ms}"),
                format!("stale_while_revalidate_ms={stale_while_revalidate_ms}"),
                format!("stale_if_error_ms={stale_if_error_ms}"),
                format!("negative_ttl_ms={negative_ttl_ms}"),
            ]);
        }
        lines.join("\n")
    }
}

impl TenantManager {
    /// Which Tenant Manager this is, as canonical text: all that ask it share its breaker, its
    /// pauses and the API key that it prefers.
    pub fn identity_text(&self) -> String {
        format!("cluster={}\nauthority={}", self.cluster, self.authority)
    }
}
