//! The imagined peers of the filter, over HTTP: the Tenant Manager and the identity provider.

use std::collections::BTreeMap;
use std::io;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use corpus::answer::{Answer, Fault};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming, SizeHint};
use tokio::sync::watch;

use crate::recorded::{Recorded, Recorder};
use crate::server::{Body, Broken, Server, whole};

/// How long [`Scripted::resume`] tries to get its port back.
const PORT_DEADLINE: Duration = Duration::from_secs(10);

/// A Tenant Manager that answers by tenant id, with 404 for every other. It checks nothing, API keys
/// included.
///
/// The tenant id is the path segment behind `tenants`, whatever the path looks like otherwise.
pub type TenantManager = Scripted<ByTenant>;

/// An identity provider that answers by path, with 404 for every other.
pub type IdentityProvider = Scripted<ByPath>;

/// A server that answers as it is told, and records every request.
#[derive(Debug)]
pub struct Scripted<B> {
    address: SocketAddr,
    server: Option<Server>,
    world: World,
    by: PhantomData<B>,
}

/// By what of a request a server chooses its answer.
pub trait By {
    /// What stands for the answer, if the request target has it.
    fn name(target: &str) -> Option<&str>;

    /// What is answered to everything else.
    fn otherwise() -> Answer;
}

/// By the id of the tenant.
#[derive(Debug)]
pub struct ByTenant;

impl By for ByTenant {
    fn name(target: &str) -> Option<&str> {
        let path = target.split_once('?').map_or(target, |(path, _)| path);
        path.split('/').skip_while(|segment| *segment != "tenants").nth(1)
    }

    fn otherwise() -> Answer {
        Answer::unknown_tenant()
    }
}

/// By the whole path, query included.
#[derive(Debug)]
pub struct ByPath;

impl By for ByPath {
    fn name(target: &str) -> Option<&str> {
        Some(target)
    }

    fn otherwise() -> Answer {
        Answer::unknown_path()
    }
}

#[derive(Debug, Clone)]
struct World {
    answers: Arc<Mutex<BTreeMap<String, Answer>>>,
    recorder: Recorder,
    held: Arc<watch::Sender<bool>>,
}

impl<B: By + 'static> Scripted<B> {
    /// Starts on a free loopback port.
    pub async fn start(answers: BTreeMap<String, Answer>) -> io::Result<Self> {
        let world = World {
            answers: Arc::new(Mutex::new(answers)),
            recorder: Recorder::new(),
            held: Arc::new(watch::Sender::new(false)),
        };
        let answering = world.clone();
        let server = Server::start(move |request| answering.clone().respond::<B>(request)).await?;
        Ok(Self {
            address: server.address(),
            server: Some(server),
            world,
            by: PhantomData,
        })
    }

    /// Where it listens, also while it is paused.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Replaces all answers. Requests that have been read already get the old ones.
    pub fn set(&self, answers: BTreeMap<String, Answer>) {
        *self.world.answers() = answers;
    }

    /// Replaces or adds answers and keeps the others.
    pub fn merge(&self, answers: BTreeMap<String, Answer>) {
        self.world.answers().extend(answers);
    }

    /// Reads and records requests from now on, but leaves them unanswered until [`Scripted::release`].
    pub fn hold(&self) {
        self.world.held.send_replace(true);
    }

    /// Answers what was held, and everything from now on, with what was to be answered on arrival.
    pub fn release(&self) {
        self.world.held.send_replace(false);
    }

    /// The requests so far, oldest first; at most the last 10 000.
    pub fn requests(&self) -> Vec<Recorded> {
        self.world.recorder.all()
    }

    /// How many requests there have been.
    pub fn total(&self) -> usize {
        self.world.recorder.total()
    }

    /// Waits until there have been `total` requests.
    ///
    /// # Errors
    /// When they have not come `within` that time.
    pub async fn wait_for(&self, total: usize, within: Duration) -> anyhow::Result<()> {
        self.world.recorder.wait_for(total, within).await
    }

    /// Closes the listener and every connection: from now on connections are refused.
    pub async fn pause(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop().await;
        }
    }

    /// Listens again, on the same port. Answers and recorded requests are kept.
    ///
    /// # Errors
    /// When somebody else has the port and keeps it for ten seconds.
    pub async fn resume(&mut self) -> io::Result<()> {
        if self.server.is_some() {
            return Ok(());
        }
        let deadline = tokio::time::Instant::now() + PORT_DEADLINE;
        loop {
            let answering = self.world.clone();
            match Server::start_at(self.address, move |request| answering.clone().respond::<B>(request)) {
                Ok(server) => {
                    self.server = Some(server);
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Closes the listener and every connection for good.
    pub async fn stop(mut self) {
        self.pause().await;
    }
}

impl World {
    fn answers(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Answer>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn respond<B: By>(self, request: http::Request<Incoming>) -> Result<http::Response<Body>, Broken> {
        let target = request.uri().path_and_query().map_or("", |target| target.as_str());
        let answer = B::name(target).and_then(|name| self.answers().get(name).cloned());
        let answer = answer.unwrap_or_else(B::otherwise);
        self.recorder.record(request).await;
        // The sender is in `self`, so the wait can only end by being released.
        let _ = self.held.subscribe().wait_for(|held| !held).await;
        tokio::time::sleep(Duration::from_millis(answer.delay_ms)).await;
        match answer.fault {
            None => response(&answer, body(&answer)?),
            Some(Fault::CloseBeforeHeaders) => Err(Broken),
            Some(Fault::Silence) => std::future::pending().await,
            Some(Fault::ResetMidBody) => response(&answer, HalfBody::of(answer.body_bytes().into()).boxed()),
        }
    }
}

/// The body of an answer, with its trailers behind it.
pub(crate) fn body(answer: &Answer) -> Result<Body, Broken> {
    if answer.trailers.is_empty() {
        return Ok(whole(answer.body_bytes()));
    }
    let mut trailers = http::HeaderMap::new();
    for (name, value) in &answer.trailers {
        let name = http::HeaderName::try_from(name).map_err(|_| Broken)?;
        trailers.append(name, http::HeaderValue::try_from(value).map_err(|_| Broken)?);
    }
    let pieces = vec![Frame::data(answer.body_bytes().into()), Frame::trailers(trailers)];
    Ok(Pieces(pieces.into_iter()).boxed())
}

/// An answer that is not HTTP (a status out of range, a header with a line break) breaks the connection.
pub(crate) fn response(answer: &Answer, body: Body) -> Result<http::Response<Body>, Broken> {
    let head = http::Response::builder()
        .status(answer.status())
        .header(http::header::CONTENT_TYPE, "application/json");
    // HTTP/1.1 sends the trailers only that the head has named.
    let trailers = answer.trailers.iter().map(|(name, _)| ("trailer", name));
    let lines = answer.headers.iter().map(|(name, value)| (name.as_str(), value));
    lines
        .chain(trailers)
        .fold(head, |head, (name, value)| head.header(name, value))
        .body(body)
        .map_err(|_| Broken)
}

/// A body of unknown length, piece by piece.
struct Pieces(std::vec::IntoIter<Frame<Bytes>>);

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        Poll::Ready(self.0.next().map(Ok))
    }
}

/// A body that declares its length, gives half of it and breaks.
struct HalfBody {
    half: Option<Bytes>,
    declared: u64,
    flushed: bool,
}

impl HalfBody {
    fn of(body: Bytes) -> Self {
        // An empty body has no middle to break in.
        let body = if body.is_empty() {
            Bytes::from_static(b"{}")
        } else {
            body
        };
        Self {
            half: Some(body.slice(..body.len() / 2)),
            declared: body.len() as u64,
            flushed: false,
        }
    }
}

impl hyper::body::Body for HalfBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if let Some(half) = self.half.take() {
            return Poll::Ready(Some(Ok(Frame::data(half))));
        }
        if !self.flushed {
            // The connection is flushed when a body is not ready: without this pause the error would
            // come first and the peer would not even see the headers.
            self.flushed = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Some(Err(Broken)))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.declared)
    }
}
