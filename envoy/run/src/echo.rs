//! An upstream that answers with what it saw.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use corpus::answer::Answer;
use serde_json::{Map, Value, json};

use crate::recorded::{Recorded, Recorder, latin1};
use crate::scripted::{body, response};
use crate::server::{Server, whole};

/// An upstream that answers every request with 200 and a JSON object of what it saw: `method`,
/// `path` (with query), `headers` and `trailers` (name to value, or to a list where there are
/// several lines), `body`. Bytes become text as in [`latin1`].
#[derive(Debug)]
pub struct Echo {
    server: Server,
    recorder: Recorder,
    next: Next,
}

/// The answers to the next requests.
type Next = Arc<Mutex<VecDeque<Answer>>>;

impl Echo {
    /// Starts on a free loopback port.
    pub async fn start() -> io::Result<Self> {
        let recorder = Recorder::new();
        let next = Next::default();
        let (record, answers) = (recorder.clone(), Arc::clone(&next));
        let server = Server::start(move |request| {
            let (record, answers) = (record.clone(), Arc::clone(&answers));
            async move {
                let seen = seen(&record.record(request).await);
                let answer = answers.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                if let Some(answer) = answer {
                    return response(&answer, body(&answer)?);
                }
                let mut response = http::Response::new(whole(format!("{seen:#}\n")));
                response.headers_mut().insert(
                    http::header::CONTENT_TYPE,
                    http::HeaderValue::from_static("application/json"),
                );
                Ok(response)
            }
        })
        .await?;
        Ok(Self { server, recorder, next })
    }

    /// Answers the next requests like this, one each, instead of what was left of such answers. Delays
    /// and faults in them are not looked at.
    pub fn will_answer(&self, answers: impl IntoIterator<Item = Answer>) {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = answers.into_iter().collect();
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The requests so far, oldest first; at most the last 10 000.
    pub fn requests(&self) -> Vec<Recorded> {
        self.recorder.all()
    }

    /// How many requests there have been.
    pub fn total(&self) -> usize {
        self.recorder.total()
    }

    /// Waits until there have been `total` requests.
    ///
    /// # Errors
    /// When they have not come `within` that time.
    pub async fn wait_for(&self, total: usize, within: Duration) -> anyhow::Result<()> {
        self.recorder.wait_for(total, within).await
    }

    /// Closes the listener and every connection.
    pub async fn stop(self) {
        self.server.stop().await;
    }
}

fn seen(request: &Recorded) -> Value {
    json!({
        "method": request.method,
        "path": request.target,
        "headers": lines(&request.headers),
        "body": latin1(&request.body),
        "trailers": lines(&request.trailers),
    })
}

fn lines(fields: &[(String, Vec<u8>)]) -> Value {
    let mut lines = Map::new();
    for (name, value) in fields {
        let value = Value::from(latin1(value));
        match lines.get_mut(name) {
            None => drop(lines.insert(name.clone(), value)),
            Some(Value::Array(several)) => several.push(value),
            Some(one) => *one = Value::from(vec![one.take(), value]),
        }
    }
    Value::Object(lines)
}
