//! Options and variables, one after the other, going on after a fault.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use tracing::level_filters::LevelFilter;

use super::{CA_CERT, ENVIRONMENT, EVENTS_KEY, HOST, PASSWORD, PORT, TLS};
use super::{Delivery, EnvoyUrl, Fault, Redis, Variables};
use crate::bridge::options::Options;
use crate::bridge::secret::{Secret, Source};
use crate::bridge::tls;

/// How long the name of an environment may be, in bytes: as long as a tenant id.
const MAX_ENVIRONMENT_BYTES: usize = 256;

/// How large a file with CAs may be.
const MAX_CA_BYTES: u64 = 1024 * 1024;

/// A reading that goes on after a fault.
pub(super) struct Reading<'a> {
    options: &'a Options,
    variables: &'a Variables,
    pub(super) faults: Vec<Fault>,
}

/// There was a fault, which has been told.
struct Faulted;

impl<'a> Reading<'a> {
    pub(super) fn of(options: &'a Options, variables: &'a Variables) -> Self {
        Self {
            options,
            variables,
            faults: variables.faults(),
        }
    }

    fn fault(&mut self, place: impl Into<String>, what: impl fmt::Display) {
        self.faults.push(Fault::new(place, what));
    }

    pub(super) fn take<T: Default>(&mut self, read: Result<T, Vec<Fault>>) -> T {
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

    pub(super) fn environment(&mut self) -> Option<String> {
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

    pub(super) fn redis(&mut self) -> Option<Redis> {
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
        match (wanted, self.redis_ca()) {
            (_, Err(Faulted)) | (false, Ok(None)) => None,
            // Somebody who names a CA does not mean to send the password in the clear.
            (false, Ok(Some((place, _)))) => {
                self.fault(place, format!("a CA without TLS; set {TLS} to true, or remove the CA"));
                None
            }
            (true, Ok(Some((_, trusted)))) => Some(trusted),
            (true, Ok(None)) => tls::trusting_system().map_err(|error| self.fault(TLS, error)).ok(),
        }
    }

    /// The CAs that were named, if any, and where.
    fn redis_ca(&mut self) -> Result<Option<(&'static str, Arc<ClientConfig>)>, Faulted> {
        if let Some(file) = &self.options.redis_ca_file {
            let trusted = self.ca_file("--redis-ca-file", file).ok_or(Faulted)?;
            return Ok(Some(("--redis-ca-file", trusted)));
        }
        let Some(encoded) = self.variables.value(CA_CERT) else {
            return Ok(None);
        };
        let encoded: Vec<u8> = encoded.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let trusted = match BASE64_STANDARD.decode(encoded) {
            Ok(pem) => tls::trusting(&pem).map_err(|error| error.to_string()),
            Err(_) => Err("accepted: a PEM file, all of it in base64".to_owned()),
        };
        let trusted = trusted.map_err(|what| {
            self.fault(CA_CERT, what);
            Faulted
        })?;
        Ok(Some((CA_CERT, trusted)))
    }

    fn ca_file(&mut self, place: &str, file: &str) -> Option<Arc<ClientConfig>> {
        let trusted = match read_ca(Path::new(file)) {
            Ok(pem) => tls::trusting(&pem).map_err(|error| error.to_string()),
            Err(error) => Err(format!("cannot be read: {}", error.kind())),
        };
        trusted.map_err(|what| self.fault(place, what)).ok()
    }

    pub(super) fn delivery(&mut self, envoys: &[EnvoyUrl]) -> Option<Delivery> {
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

    pub(super) fn duration(
        &mut self,
        place: &str,
        said: Option<&str>,
        default: u64,
        accepted: RangeInclusive<u64>,
    ) -> Duration {
        Duration::from_millis(self.number(place, said, default, accepted))
    }

    pub(super) fn number(
        &mut self,
        place: &str,
        said: Option<&str>,
        default: u64,
        accepted: RangeInclusive<u64>,
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

    pub(super) fn parsed<T: FromStr>(&mut self, place: &str, said: Option<&str>, default: T, accepted: &str) -> T {
        let Some(said) = said else { return default };
        said.parse().unwrap_or_else(|_| {
            self.fault(place, format!("accepted: {accepted}"));
            default
        })
    }

    pub(super) fn log_level(&mut self) -> LevelFilter {
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
