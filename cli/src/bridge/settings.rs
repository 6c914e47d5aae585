//! What the bridge does, read from options and variables at once.
//!
//! An empty variable is one that is not there, as charts leave them. No fault shows a value: what stands in the
//! wrong place may be a password.

mod envoys;
mod variables;

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use tracing::level_filters::LevelFilter;

pub(crate) use self::envoys::EnvoyUrl;
pub(crate) use self::variables::Variables;

use super::options::Options;
use super::secret::{Secret, Source};
use super::tls;

const HOST: &str = "MULTI_TENANT_REDIS_HOST";
const PORT: &str = "MULTI_TENANT_REDIS_PORT";
const PASSWORD: &str = "MULTI_TENANT_REDIS_PASSWORD";
const TLS: &str = "MULTI_TENANT_REDIS_TLS";
const CA_CERT: &str = "MULTI_TENANT_REDIS_CA_CERT";
const ENVIRONMENT: &str = "ENVIRONMENT_NAME";
const EVENTS_KEY: &str = "TENANTGATE_EVENTS_KEY";

/// How long the name of an environment may be, in bytes: as long as a tenant id.
const MAX_ENVIRONMENT_BYTES: usize = 256;

/// How large a file with CAs may be.
const MAX_CA_BYTES: u64 = 1024 * 1024;

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
        let mut read = Reading {
            options,
            variables,
            faults: variables.faults(),
        };
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

/// A reading that goes on after a fault.
struct Reading<'a> {
    options: &'a Options,
    variables: &'a Variables,
    faults: Vec<Fault>,
}

impl Reading<'_> {
    fn fault(&mut self, place: impl Into<String>, what: impl fmt::Display) {
        self.faults.push(Fault::new(place, what));
    }

    fn take<T: Default>(&mut self, read: Result<T, Vec<Fault>>) -> T {
        read.unwrap_or_else(|faults| {
            self.faults.extend(faults);
            T::default()
        })
    }

    /// What was said, and where: the option outranks the variable.
    fn said<'b>(&'b self, option: &'b Option<String>, name: &str, variable: &str) -> Option<(String, &'b str)> {
        let by_option = option.as_deref().map(|value| (name.to_owned(), value));
        by_option.or_else(|| self.variables.value(variable).map(|value| (variable.to_owned(), value)))
    }

    fn environment(&mut self) -> Option<String> {
        let said = self.said(&self.options.environment, "--environment", ENVIRONMENT);
        let said = said.map(|(place, value)| (place, value.to_owned()));
        let (place, name) = said.or_else(|| {
            self.fault(
                ENVIRONMENT,
                "is missing; the name of the environment whose events are forwarded",
            );
            None
        })?;
        let letters = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        if first && name.len() <= MAX_ENVIRONMENT_BYTES && name.bytes().all(letters) {
            return Some(name);
        }
        let what = "accepted: letters, digits, `-` and `_`, a letter or digit first, at most 256";
        self.fault(place, what);
        None
    }

    fn redis(&mut self) -> Option<Redis> {
        let options = self.options;
        let host = self.redis_host();
        let port = self.said(&options.redis_port, "--redis-port", PORT);
        let port = port.map(|(place, value)| (place, value.parse::<u16>().ok().filter(|port| *port != 0)));
        let port = port.map_or(6379, |(place, port)| {
            port.unwrap_or_else(|| {
                self.fault(place, "accepted: a port, 1 to 65535");
                6379
            })
        });
        let password = self.secret(
            options.redis_password_file.as_deref(),
            "--redis-password-file",
            PASSWORD,
            false,
        );
        let tls = self.redis_tls();
        let timeout = self.duration(
            "--redis-timeout-ms",
            options.redis_timeout_ms.as_deref(),
            5_000,
            100..=60_000,
        );
        let ping = self.duration("--redis-ping-ms", options.redis_ping_ms.as_deref(), 5_000, 100..=60_000);
        Some(Redis {
            host: host?,
            port,
            password,
            tls,
            timeout,
            ping,
        })
    }

    fn redis_host(&mut self) -> Option<String> {
        let said = self.said(&self.options.redis_host, "--redis-host", HOST);
        match said.map(|(place, value)| (place, value.to_owned())) {
            None => self.fault(HOST, "is missing; the name or address of the Redis server"),
            Some((_, host)) if ServerName::try_from(host.as_str()).is_ok() => return Some(host),
            Some((place, _)) => self.fault(
                place,
                "accepted: a host name or an IP address, without port, scheme or user",
            ),
        }
        None
    }

    fn redis_tls(&mut self) -> Option<Arc<ClientConfig>> {
        let said = self.said(&self.options.redis_tls, "--redis-tls", TLS);
        let wanted = match said.map(|(place, value)| (place, value.parse::<bool>())) {
            None => false,
            Some((_, Ok(wanted))) => wanted,
            Some((place, Err(_))) => {
                self.fault(place, "accepted: true or false");
                return None;
            }
        };
        let (place, trusted) = self.redis_ca()?;
        match (wanted, trusted) {
            (false, None) => None,
            // Somebody who names a CA does not mean to send the password in the clear.
            (false, Some(_)) => {
                self.fault(place, format!("a CA without TLS; set {TLS} to true, or remove the CA"));
                None
            }
            (true, Some(trusted)) => Some(trusted),
            (true, None) => match tls::trusting_system() {
                Ok(trusted) => Some(trusted),
                Err(error) => {
                    self.fault(TLS, error);
                    None
                }
            },
        }
    }

    /// The CAs that were named, if any; nothing at all after a fault.
    #[allow(clippy::type_complexity, reason = "a place and what was found there, nowhere else")]
    fn redis_ca(&mut self) -> Option<(String, Option<Arc<ClientConfig>>)> {
        if let Some(file) = &self.options.redis_ca_file {
            let trusted = self.ca_file("--redis-ca-file", file)?;
            return Some(("--redis-ca-file".to_owned(), Some(trusted)));
        }
        let Some(encoded) = self.variables.value(CA_CERT) else {
            return Some((String::new(), None));
        };
        let encoded: Vec<u8> = encoded.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let trusted = match BASE64_STANDARD.decode(encoded) {
            Ok(pem) => tls::trusting(&pem).map_err(|error| error.to_string()),
            Err(_) => Err("accepted: a PEM file, all of it in base64".to_owned()),
        };
        match trusted {
            Ok(trusted) => Some((CA_CERT.to_owned(), Some(trusted))),
            Err(what) => {
                self.fault(CA_CERT, what);
                None
            }
        }
    }

    fn ca_file(&mut self, place: &str, file: &str) -> Option<Arc<ClientConfig>> {
        let trusted = match read_ca(Path::new(file)) {
            Ok(pem) => tls::trusting(&pem).map_err(|error| error.to_string()),
            Err(error) => Err(format!("cannot be read: {}", error.kind())),
        };
        trusted.map_err(|what| self.fault(place, what)).ok()
    }

    fn delivery(&mut self, envoys: &[EnvoyUrl]) -> Option<Delivery> {
        let options = self.options;
        let key = self.secret(
            options.events_key_file.as_deref(),
            "--events-key-file",
            EVENTS_KEY,
            true,
        );
        let tls = match &options.envoy_ca_file {
            Some(file) => self.ca_file("--envoy-ca-file", file),
            None if envoys.iter().any(EnvoyUrl::is_https) => tls::trusting_system()
                .map_err(|error| self.fault("--envoy", error))
                .ok(),
            None => Some(tls::trusting_nobody()),
        };
        let timeout = self.duration(
            "--envoy-timeout-ms",
            options.envoy_timeout_ms.as_deref(),
            5_000,
            100..=60_000,
        );
        let queue_messages = self.number(
            "--queue-messages",
            options.queue_messages.as_deref(),
            1_000,
            1..=100_000,
        );
        let attempts = self.number("--attempts", options.attempts.as_deref(), 10, 1..=1_000);
        Some(Delivery {
            key: key?,
            tls: tls?,
            timeout,
            queue_messages: usize::try_from(queue_messages).unwrap_or(usize::MAX),
            attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
        })
    }

    /// A secret from a file or a variable, not from both. A key must fit into a header, and be there.
    fn secret(&mut self, file: Option<&str>, option: &str, variable: &str, key: bool) -> Option<Source> {
        let value = self.variables.value(variable).map(Secret::new);
        let (place, source) = match (file, value) {
            (Some(_), Some(_)) => {
                self.fault(option, format!("{variable} is set as well; remove one of them"));
                return None;
            }
            (Some(file), None) => (option, Source::File(file.into())),
            (None, Some(Ok(secret))) => (variable, Source::Fixed(secret)),
            (None, Some(Err(error))) => {
                self.fault(variable, error);
                return None;
            }
            (None, None) => {
                if key {
                    self.fault(
                        variable,
                        format!("is missing; the key that the Envoys know, or {option}"),
                    );
                }
                return None;
            }
        };
        let usable = source
            .read()
            .and_then(|secret| if key { secret.header().map(drop) } else { Ok(()) });
        match usable {
            Ok(()) => Some(source),
            Err(error) => {
                self.fault(place, error);
                None
            }
        }
    }

    fn duration(
        &mut self,
        place: &str,
        said: Option<&str>,
        default: u64,
        accepted: std::ops::RangeInclusive<u64>,
    ) -> Duration {
        Duration::from_millis(self.number(place, said, default, accepted))
    }

    fn number(
        &mut self,
        place: &str,
        said: Option<&str>,
        default: u64,
        accepted: std::ops::RangeInclusive<u64>,
    ) -> u64 {
        let Some(said) = said else { return default };
        match said.parse() {
            Ok(number) if accepted.contains(&number) => number,
            _ => {
                self.fault(
                    place,
                    format!("accepted: a number, {} to {}", accepted.start(), accepted.end()),
                );
                default
            }
        }
    }

    fn parsed<T: FromStr>(&mut self, place: &str, said: Option<&str>, default: T, accepted: &str) -> T {
        let Some(said) = said else { return default };
        said.parse().unwrap_or_else(|_| {
            self.fault(place, format!("accepted: {accepted}"));
            default
        })
    }

    fn log_level(&mut self) -> LevelFilter {
        match self.options.log_level.as_deref() {
            Some("error") => LevelFilter::ERROR,
            Some("warn") => LevelFilter::WARN,
            None | Some("info") => LevelFilter::INFO,
            Some("debug") => LevelFilter::DEBUG,
            Some(_) => {
                self.fault("--log-level", "accepted: error, warn, info or debug");
                LevelFilter::INFO
            }
        }
    }
}

fn read_ca(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let mut pem = Vec::new();
    std::fs::File::open(path)?.take(MAX_CA_BYTES).read_to_end(&mut pem)?;
    Ok(pem)
}

#[cfg(test)]
mod tests;
