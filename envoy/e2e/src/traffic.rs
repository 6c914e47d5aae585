//! Many clients that send requests as fast as they are answered.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::keep_alive::KeepAlive;
use crate::message::Message;

/// The most samples that one client takes.
const MAX_SAMPLES: usize = 200_000;

/// One request and its answer.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Which of the messages it was.
    pub message: usize,
    /// When it was sent.
    pub began: Instant,
    /// From there to the last byte of the answer.
    pub took: Duration,
    /// HTTP status.
    pub status: u16,
    /// The code of a denial.
    pub code: String,
}

/// Clients at work.
#[derive(Debug)]
pub struct Traffic {
    ends: watch::Sender<bool>,
    clients: JoinSet<anyhow::Result<Vec<Sample>>>,
}

impl Traffic {
    /// Has that many clients send the messages in turn, each beginning with another one.
    pub fn start(address: SocketAddr, clients: usize, messages: &[Message]) -> Self {
        let ends = watch::Sender::new(false);
        let mut set = JoinSet::new();
        for client in 0..clients {
            let (messages, ends) = (messages.to_vec(), ends.subscribe());
            set.spawn(async move {
                let mut connection = KeepAlive::new(address);
                let mut samples = Vec::new();
                for (message, text) in messages.iter().enumerate().cycle().skip(client) {
                    if *ends.borrow() || samples.len() == MAX_SAMPLES {
                        break;
                    }
                    let began = Instant::now();
                    let reply = connection.send(text).await?;
                    samples.push(Sample {
                        message,
                        began,
                        took: reply.took,
                        status: reply.status,
                        code: if reply.status == 200 {
                            String::new()
                        } else {
                            reply.code()
                        },
                    });
                }
                Ok(samples)
            });
        }
        Self { ends, clients: set }
    }

    /// Lets the clients finish and gives all samples, in no order.
    ///
    /// # Errors
    /// When a client did not get an answer.
    pub async fn stop(mut self) -> anyhow::Result<Vec<Sample>> {
        self.ends.send_replace(true);
        let mut all = Vec::new();
        while let Some(samples) = self.clients.join_next().await {
            all.extend(samples.context("a client has panicked")??);
        }
        ensure!(!all.is_empty(), "there was no traffic");
        Ok(all)
    }
}
