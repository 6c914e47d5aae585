//! What the bridge does, read from options and variables at once.
//!
//! An empty variable is one that is not there, as charts leave them. No fault shows a value: what stands in the
//! wrong place may be a password.

mod envoys;
mod reading;
mod variables;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::rustls::ClientConfig;
use tracing::level_filters::LevelFilter;

use self::reading::Reading;

pub(crate) use self::envoys::EnvoyUrl;
pub(crate) use self::variables::Variables;

use super::options::Options;
use super::secret::Source;

const HOST: &str = "MULTI_TENANT_REDIS_HOST";
const PORT: &str = "MULTI_TENANT_REDIS_PORT";
const PASSWORD: &str = "MULTI_TENANT_REDIS_PASSWORD";
const TLS: &str = "MULTI_TENANT_REDIS_TLS";
const CA_CERT: &str = "MULTI_TENANT_REDIS_CA_CERT";
const ENVIRONMENT: &str = "ENVIRONMENT_NAME";
const EVENTS_KEY: &str = "TENANTGATE_EVENTS_KEY";

/// Something that is wrong with the configuration: where, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    place: String,
    what: String,
}

impl Fault {
    pub(crate) fn new(place: impl Into<String>, what: impl fmt::Display) -> Self {
        Self {
            place: place.into(),
            what: what.to_string(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// Everything that the bridge was told, checked.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) environment: String,
    pub(crate) redis: Redis,
    pub(crate) envoys: Vec<EnvoyUrl>,
    pub(crate) delivery: Delivery,
    pub(crate) listen: SocketAddr,
    pub(crate) pending: Duration,
    pub(crate) drain: Duration,
    pub(crate) log_level: LevelFilter,
}

/// How Redis is reached.
#[derive(Debug, Clone)]
pub(crate) struct Redis {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) password: Option<Source>,
    pub(crate) tls: Option<Arc<ClientConfig>>,
    /// For connecting and subscribing together, and for the answer to a PING.
    pub(crate) timeout: Duration,
    pub(crate) ping: Duration,
}

/// How Envoys are told.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(crate) key: Source,
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) timeout: Duration,
    pub(crate) queue_messages: usize,
    pub(crate) attempts: u32,
}

impl Settings {
    /// Reads options and variables.
    ///
    /// # Errors
    /// Every fault, in the order of the documentation.
    pub(crate) fn compile(options: &Options, variables: &Variables) -> Result<Self, Vec<Fault>> {
        let mut read = Reading::of(options, variables);
        let environment = read.environment();
        let redis = read.redis();
        let envoys = read.take(EnvoyUrl::all(&options.envoys));
        let delivery = read.delivery(&envoys);
        let listen = read.parsed(
            "--listen",
            options.listen.as_deref(),
            ([127, 0, 0, 1], 9474).into(),
            "an IP address and a port",
        );
        let pending = read.duration("--pending-ms", options.pending_ms.as_deref(), 30_000, 0..=3_600_000);
        let drain = read.duration("--drain-ms", options.drain_ms.as_deref(), 5_000, 0..=600_000);
        let log_level = read.log_level();
        match (environment, redis, delivery) {
            (Some(environment), Some(redis), Some(delivery)) if read.faults.is_empty() => Ok(Self {
                environment,
                redis,
                envoys,
                delivery,
                listen,
                pending,
                drain,
                log_level,
            }),
            _ => Err(read.faults),
        }
    }
}

#[cfg(test)]
mod tests;
