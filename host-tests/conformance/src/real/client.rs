//! The client of a row.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, bail};
use envoy_e2e::{Connection, KeepAlive, Reply};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::lines::Message;
use crate::table::{Request, Row, pairs, unescaped};

const POLL: Duration = Duration::from_millis(10);

/// What has come back on a connection, once something has.
type Slot = Arc<OnceLock<Result<Reply, String>>>;

#[derive(Debug)]
pub(super) struct Client {
    address: SocketAddr,
    /// How long the log was before its first request.
    mark: usize,
    exchanges: Vec<Exchange>,
    kept: BTreeMap<usize, KeepAlive>,
}

#[derive(Debug)]
struct Exchange {
    method: Vec<u8>,
    /// While the request is being sent piece by piece.
    connection: Option<Connection>,
    slot: Slot,
    reading: Option<JoinHandle<()>>,
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if let Some(reading) = &self.reading {
            reading.abort();
        }
    }
}

impl Exchange {
    fn read(&mut self, rest: Vec<u8>) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        let (slot, method) = (Arc::clone(&self.slot), self.method.clone());
        self.reading = Some(tokio::spawn(async move {
            let reply = connection.finish(&method, &rest).await;
            let _first = slot.set(reply.map_err(|error| format!("{error:#}")));
        }));
    }
}

impl Client {
    pub(super) fn new(address: SocketAddr, mark: usize) -> Self {
        Self {
            address,
            mark,
            exchanges: Vec::new(),
            kept: BTreeMap::new(),
        }
    }

    pub(super) fn mark(&self) -> usize {
        self.mark
    }

    /// Sends a whole request. On a kept connection its reply is waited for.
    pub(super) async fn request(&mut self, row: &Row, request: &Request) -> anyhow::Result<()> {
        let message = message(row, request);
        if let Some(on) = request.on {
            let kept = self.kept.entry(on).or_insert_with(|| KeepAlive::new(self.address));
            let reply = kept.send(&message).await.map_err(|error| format!("{error:#}"));
            let mut exchange = self.exchange(request, None);
            exchange.slot = Arc::new(OnceLock::from(reply));
            self.exchanges.push(exchange);
            return Ok(());
        }
        let connection = Connection::open(self.address).await?;
        let mut exchange = self.exchange(request, Some(connection));
        exchange.read(message.bytes());
        self.exchanges.push(exchange);
        Ok(())
    }

    /// Sends the head of one.
    pub(super) async fn open(&mut self, row: &Row, request: &Request) -> anyhow::Result<()> {
        let mut connection = Connection::open(self.address).await?;
        let mut head = message(row, request).chunked().bytes();
        // Without the last chunk.
        head.truncate(head.len() - b"0\r\n\r\n".len());
        connection.write(&head).await?;
        let exchange = self.exchange(request, Some(connection));
        self.exchanges.push(exchange);
        Ok(())
    }

    pub(super) async fn send(&mut self, text: &str) -> anyhow::Result<()> {
        let bytes = unescaped(text);
        let chunk = [format!("{:x}\r\n", bytes.len()).as_bytes(), &bytes, b"\r\n"].concat();
        let connection = self.last()?.connection.as_mut().context("the request has ended")?;
        Ok(connection.write(&chunk).await?)
    }

    pub(super) async fn end(&mut self, trailers: &[(String, Value)]) -> anyhow::Result<()> {
        let mut rest = b"0\r\n".to_vec();
        for (name, value) in pairs(trailers) {
            rest.extend([&name[..], b": ", &value, b"\r\n"].concat());
        }
        rest.extend(b"\r\n");
        self.last()?.read(rest);
        Ok(())
    }

    pub(super) fn leave(&mut self) -> anyhow::Result<()> {
        let last = self.last()?;
        last.connection = None;
        if let Some(reading) = last.reading.take() {
            reading.abort();
        }
        let _first = last.slot.set(Err("the client has left".to_owned()));
        Ok(())
    }

    pub(super) async fn answered(&mut self, within: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + within;
        let last = self.last()?;
        last.read(Vec::new());
        let slot = Arc::clone(&last.slot);
        while slot.get().is_none() {
            if Instant::now() > deadline {
                bail!("there is no answer");
            }
            sleep(POLL).await;
        }
        Ok(())
    }

    /// Begins to read where a request was left open.
    pub(super) fn read_all(&mut self) {
        for exchange in &mut self.exchanges {
            exchange.read(Vec::new());
        }
    }

    /// A line for each name and each request.
    pub(super) fn responses(&self, names: &[String]) -> Vec<String> {
        let lines = self.exchanges.iter().map(|exchange| match exchange.slot.get() {
            None => vec!["response none".to_owned()],
            Some(Err(_)) => vec!["response closed".to_owned()],
            Some(Ok(reply)) => {
                let mut headers = vec![(b":status".to_vec(), reply.status.to_string().into_bytes())];
                headers.extend(reply.headers.iter().cloned());
                let message = Message {
                    headers,
                    body: reply.body.clone(),
                    trailers: reply.trailers.clone(),
                };
                message.lines("response", names)
            }
        });
        lines.flatten().collect()
    }

    fn exchange(&self, request: &Request, connection: Option<Connection>) -> Exchange {
        Exchange {
            method: request.method.clone().into_bytes(),
            connection,
            slot: Slot::default(),
            reading: None,
        }
    }

    fn last(&mut self) -> anyhow::Result<&mut Exchange> {
        self.exchanges.last_mut().context("there is no request")
    }
}

fn message(row: &Row, request: &Request) -> envoy_e2e::Message {
    envoy_e2e::Message::new(request.method.as_str(), unescaped(&request.path))
        .lines(request.lines(row))
        .body(request.body_bytes())
        .trailers(pairs(&request.trailers))
}
