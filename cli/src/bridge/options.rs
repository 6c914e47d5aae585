//! What the operator may say on the command line. Everything is text here: [`super::settings`] reads it, so that
//! all faults are told at once.

use clap::Args;

/// Options of `tenantgate bridge`. An option outranks the variable that is named with it.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Options {
    /// The events path of an Envoy, `http://host:port/path` or `https://…`; repeat it for every Envoy
    #[arg(long = "envoy", value_name = "URL")]
    pub(crate) envoys: Vec<String>,

    /// The environment whose events are forwarded [variable: ENVIRONMENT_NAME]
    #[arg(long, value_name = "NAME")]
    pub(crate) environment: Option<String>,

    /// The Redis server [variable: MULTI_TENANT_REDIS_HOST]
    #[arg(long, value_name = "HOST")]
    pub(crate) redis_host: Option<String>,

    /// Its port [variable: MULTI_TENANT_REDIS_PORT] [default: 6379]
    #[arg(long, value_name = "PORT")]
    pub(crate) redis_port: Option<String>,

    /// Whether to use TLS, `true` or `false` [variable: MULTI_TENANT_REDIS_TLS] [default: false]
    #[arg(long, value_name = "BOOL")]
    pub(crate) redis_tls: Option<String>,

    /// PEM file with the CAs that Redis is trusted by, instead of the system's [variable, the PEM in base64:
    /// MULTI_TENANT_REDIS_CA_CERT]
    #[arg(long, value_name = "FILE")]
    pub(crate) redis_ca_file: Option<String>,

    /// File with the password of Redis, read at each connection [variable, the password itself:
    /// MULTI_TENANT_REDIS_PASSWORD]
    #[arg(long, value_name = "FILE")]
    pub(crate) redis_password_file: Option<String>,

    /// File with the key for `x-api-key`, read again when an Envoy answers 401 [variable, the key itself:
    /// TENANTGATE_EVENTS_KEY]
    #[arg(long, value_name = "FILE")]
    pub(crate) events_key_file: Option<String>,

    /// PEM file with the CAs that `https` Envoys are trusted by, instead of the system's
    #[arg(long, value_name = "FILE")]
    pub(crate) envoy_ca_file: Option<String>,

    /// Where /healthz and /metrics are served [default: 127.0.0.1:9474]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<String>,

    /// How long a POST to an Envoy may take, milliseconds, 100 to 60000 [default: 5000]
    #[arg(long, value_name = "MS")]
    pub(crate) envoy_timeout_ms: Option<String>,

    /// How long connecting to Redis and subscribing may take, and the answer to a PING, milliseconds, 100 to
    /// 60000 [default: 5000]
    #[arg(long, value_name = "MS")]
    pub(crate) redis_timeout_ms: Option<String>,

    /// How often Redis is sent a PING, milliseconds, 100 to 60000 [default: 5000]
    #[arg(long, value_name = "MS")]
    pub(crate) redis_ping_ms: Option<String>,

    /// How many messages may wait for one Envoy, 1 to 100000 [default: 1000]
    #[arg(long, value_name = "COUNT")]
    pub(crate) queue_messages: Option<String>,

    /// After how many failed attempts messages are given up and replaced by `cache.invalidate_all`, 1 to 1000
    /// [default: 10]
    #[arg(long, value_name = "COUNT")]
    pub(crate) attempts: Option<String>,

    /// How long an event may wait for an Envoy that fails before /healthz says so, milliseconds, 0 to 3600000
    /// [default: 30000]
    #[arg(long, value_name = "MS")]
    pub(crate) pending_ms: Option<String>,

    /// How long what is queued may still be delivered after SIGTERM or SIGINT, milliseconds, 0 to 600000
    /// [default: 5000]
    #[arg(long, value_name = "MS")]
    pub(crate) drain_ms: Option<String>,

    /// `error`, `warn`, `info` or `debug` [default: info]
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
}
