//! Envoy's admin interface, as far as it is used here.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Context;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// How long the admin interface may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Clone)]
pub(crate) struct Admin {
    address: SocketAddr,
    client: reqwest::Client,
}

#[derive(Deserialize)]
struct Listeners {
    #[serde(default)]
    listener_statuses: Vec<Listener>,
}

#[derive(Deserialize)]
struct Listener {
    name: String,
    local_address: Address,
}

#[derive(Deserialize)]
struct Address {
    socket_address: SocketAddress,
}

#[derive(Deserialize)]
struct SocketAddress {
    address: IpAddr,
    port_value: u16,
}

#[derive(Deserialize)]
struct Stats {
    stats: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Stat {
    name: String,
    value: u64,
}

impl Admin {
    pub(crate) fn new(address: SocketAddr) -> anyhow::Result<Self> {
        // A proxy of the environment must not stand between here and loopback.
        let client = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build()?;
        Ok(Self { address, client })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) async fn is_ready(&self) -> bool {
        let ready = self.client.get(self.url("/ready")).send().await;
        ready.is_ok_and(|response| response.status().is_success())
    }

    pub(crate) async fn listeners(&self) -> anyhow::Result<BTreeMap<String, SocketAddr>> {
        let listeners: Listeners = self.json("/listeners?format=json").await?;
        Ok(listeners
            .listener_statuses
            .into_iter()
            .map(|listener| {
                let SocketAddress { address, port_value } = listener.local_address.socket_address;
                (listener.name, SocketAddr::from((address, port_value)))
            })
            .collect())
    }

    pub(crate) async fn stats(&self) -> anyhow::Result<BTreeMap<String, u64>> {
        let stats: Stats = self.json("/stats?format=json").await?;
        // Histograms and texts have no one number; they are left out.
        let numbers = stats
            .stats
            .into_iter()
            .filter_map(|stat| serde_json::from_value::<Stat>(stat).ok());
        Ok(numbers.map(|stat| (stat.name, stat.value)).collect())
    }

    pub(crate) async fn tell(&self, path: &str) -> anyhow::Result<()> {
        let response = self.client.post(self.url(path)).send().await;
        let response = response.and_then(reqwest::Response::error_for_status);
        response.with_context(|| format!("the admin interface did not take {path}"))?;
        Ok(())
    }

    /// What a Prometheus reads.
    pub(crate) async fn prometheus(&self) -> anyhow::Result<String> {
        let response = self.client.get(self.url("/stats/prometheus")).send().await;
        let response = response.and_then(reqwest::Response::error_for_status);
        let text = match response {
            Ok(response) => response.text().await,
            Err(error) => Err(error),
        };
        text.context("the admin interface did not answer /stats/prometheus")
    }

    async fn json<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let response = self.client.get(self.url(path)).send().await;
        let response = response.and_then(reqwest::Response::error_for_status);
        let json = match response {
            Ok(response) => response.json().await,
            Err(error) => Err(error),
        };
        json.with_context(|| format!("the admin interface did not answer {path}"))
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}
