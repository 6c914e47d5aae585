//! Tenant events, sent to the filter as `tenantgate bridge` sends them.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::client;

/// Where the filter takes events, and what it wants to see of whoever sends them.
#[derive(Debug)]
pub(crate) struct Events {
    listener: SocketAddr,
    path: String,
    key: String,
    environment: String,
}

impl Events {
    /// As the plugin configuration says.
    ///
    /// # Errors
    /// When it takes no events, or has no key in it.
    pub(crate) fn new(config: &Value, listener: SocketAddr) -> Result<Self> {
        let text = |pointer: &str| {
            let found = config.pointer(pointer).and_then(Value::as_str);
            found
                .map(str::to_owned)
                .with_context(|| format!("cli/demo/config.yaml has no {pointer}"))
        };
        Ok(Self {
            listener,
            path: text("/events/path")?,
            key: text("/events/api_keys/0/value")?,
            environment: text("/environment")?,
        })
    }

    /// Tells the filter of something that has happened to a tenant.
    ///
    /// # Errors
    /// When it does not say that it has taken it.
    pub(crate) async fn tell(&self, kind: &str, tenant: &str) -> Result<()> {
        let event = json!({ "event_type": kind, "tenant_id": tenant, "environment": self.environment });
        let key = (b"x-api-key".to_vec(), self.key.as_bytes().to_vec());
        let reply = client::send(self.listener, ("POST", &self.path), &[key], event.to_string()).await?;
        let told = String::from_utf8_lossy(&reply.body);
        ensure!(
            reply.status == 200,
            "the event {kind} is answered {} {told}",
            reply.status
        );
        Ok(())
    }

    /// The same as a command to paste into a shell, with the short form of an event.
    pub(crate) fn command(&self, kind: &str, tenant: &str) -> String {
        let Self {
            listener, path, key, ..
        } = self;
        let event = json!({ "type": kind, "tenantId": tenant });
        format!("curl -i http://{listener}{path} -H 'x-api-key: {key}' -d '{event}'")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_configuration_does_not_say_is_named() {
        let config = json!({ "environment": "demo", "events": { "path": "/-/events" } });
        let error = Events::new(&config, ([127, 0, 0, 1], 1).into()).expect_err("there is no key");
        assert!(error.to_string().contains("/events/api_keys/0/value"), "{error}");
    }
}
