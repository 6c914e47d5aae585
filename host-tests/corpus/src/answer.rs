//! What the imagined peers of the filter answer: the Tenant Manager when it is asked about a tenant,
//! the identity provider when it is asked for its keys.

use serde::Deserialize;
use serde_json::Value;

use crate::mint::Keys;

/// One answer. `{ record: {…} }`, `{ status: 403, body: … }`, `{ body: { $keys: […] } }` or a fault.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// A tenant record: short for status 200 with this JSON as the body.
    #[serde(default)]
    pub record: Option<Value>,
    /// The status, 200 when absent.
    #[serde(default)]
    pub status: Option<u16>,
    /// A JSON body, in which `$keys`, `$jwk` and `$secret` stand for keys as in a configuration; a JSON
    /// string is sent as it stands, without quotes.
    #[serde(default)]
    pub body: Option<Value>,
    /// Pads the body with spaces up to this many bytes, for bodies over the limit.
    #[serde(default)]
    pub pad_to_bytes: Option<usize>,
    /// Response headers besides `content-type: application/json`.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// Trailers. Over HTTP/1.1 they are there for whoever has sent `te: trailers`.
    #[serde(default)]
    pub trailers: Vec<(String, String)>,
    /// How long the answer takes.
    #[serde(default)]
    pub delay_ms: u64,
    /// Breaks the exchange instead of completing it.
    #[serde(default)]
    pub fault: Option<Fault>,
}

/// How an exchange with a peer breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The connection is closed before a status line. Envoy makes a 503 of it.
    CloseBeforeHeaders,
    /// Headers and half a body, then a reset. Envoy calls back without headers.
    ResetMidBody,
    /// Nothing ever comes. Envoy makes a 504 of it at the timeout.
    Silence,
}

impl Answer {
    /// What is answered about tenants that nobody described: 404.
    #[must_use]
    pub fn unknown_tenant() -> Self {
        Self {
            status: Some(404),
            body: Some(serde_json::json!({ "code": "TENANT_NOT_FOUND" })),
            ..Self::default()
        }
    }

    /// What is answered on paths that nobody described: 404.
    #[must_use]
    pub fn unknown_path() -> Self {
        Self {
            status: Some(404),
            body: Some(serde_json::json!({ "error": "not_found" })),
            ..Self::default()
        }
    }

    /// The answer with the keys in its body that placeholders stand for.
    ///
    /// # Errors
    /// As [`Keys::expand_config`].
    pub fn with_keys(&self, keys: &Keys) -> anyhow::Result<Self> {
        let body = self.body.as_ref().map(|body| keys.expand_config(body)).transpose()?;
        Ok(Self { body, ..self.clone() })
    }

    /// The status of the answer.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status.unwrap_or(200)
    }

    /// The body in bytes, padded as asked.
    #[must_use]
    pub fn body_bytes(&self) -> Vec<u8> {
        let mut bytes = match self.record.as_ref().or(self.body.as_ref()) {
            None => Vec::new(),
            Some(Value::String(text)) => text.clone().into_bytes(),
            Some(json) => json.to_string().into_bytes(),
        };
        if let Some(length) = self.pad_to_bytes
            && bytes.len() < length
        {
            bytes.resize(length, b' ');
        }
        bytes
    }
}
