//! The Envoys that are told.

use std::collections::BTreeSet;
use std::fmt;

use http::Uri;
use http::uri::Scheme;

use super::Fault;

/// How many Envoys one bridge serves. Each is a label in the metrics.
const MAX_ENVOYS: usize = 256;

/// The events path of an Envoy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EnvoyUrl(Uri);

impl EnvoyUrl {
    /// Reads all of them.
    ///
    /// # Errors
    /// When there is none, when there are too many, and for each that cannot be used.
    pub(super) fn all(said: &[String]) -> Result<Vec<Self>, Vec<Fault>> {
        let (mut envoys, mut faults, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
        if said.is_empty() {
            faults.push(Fault::new(
                "--envoy",
                "is missing; the events path of at least one Envoy",
            ));
        }
        if said.len() > MAX_ENVOYS {
            faults.push(Fault::new("--envoy", format!("accepted: at most {MAX_ENVOYS}")));
        }
        for (number, url) in said.iter().enumerate().take(MAX_ENVOYS) {
            let place = || format!("--envoy, number {}", number + 1);
            match Self::read(url) {
                None => faults.push(Fault::new(
                    place(),
                    "accepted: `http://host:port/path` or `https://…`, without user, query or fragment",
                )),
                Some(envoy) if seen.insert(envoy.to_string()) => envoys.push(envoy),
                Some(_) => faults.push(Fault::new(place(), "is there already")),
            }
        }
        if faults.is_empty() { Ok(envoys) } else { Err(faults) }
    }

    fn read(url: &str) -> Option<Self> {
        let uri: Uri = url.parse().ok().filter(|_| !url.contains('#'))?;
        let authority = uri.authority()?;
        let plain = [Scheme::HTTP, Scheme::HTTPS].iter().any(|scheme| uri.scheme() == Some(scheme))
            && !authority.host().is_empty()
            && !authority.as_str().contains('@')
            // A port that is none is left out by the parser of URIs.
            && authority.as_str().rsplit(']').next().is_none_or(|rest| !rest.contains(':') || authority.port_u16().is_some_and(|port| port != 0))
            && uri.query().is_none()
            && uri.path().len() > 1;
        plain.then_some(Self(uri))
    }

    /// Whether certificates matter.
    pub(super) fn is_https(&self) -> bool {
        self.0.scheme() == Some(&Scheme::HTTPS)
    }

    /// Where to post to.
    pub(crate) fn uri(&self) -> &Uri {
        &self.0
    }
}

impl fmt::Display for EnvoyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
