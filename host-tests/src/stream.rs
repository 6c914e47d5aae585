//! Streams: one request and its response, and how far each has come.

use std::collections::HashMap;
use std::fmt;

use crate::cluster::{PeerRequest, PeerResponse};
use crate::filter_state::FilterState;
use crate::headers::HeaderMap;
use crate::tally::Tally;
use crate::worker::VmRef;

/// Names a stream within its world.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub(crate) u64);

/// Room in the name of a stream for the worker that it arrived at in a thread of its own.
const LANE_BITS: u32 = 16;

impl StreamId {
    /// For the world's stream of this number, in the lane of a worker that runs interleaved, or in 0.
    pub(crate) fn new(number: u64, lane: u64) -> Self {
        Self(number << LANE_BITS | lane)
    }
}

/// `3`, or `3 of worker 1` for one that arrived while workers ran interleaved.
impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.0 >> LANE_BITS;
        match (self.0 - (number << LANE_BITS)).checked_sub(1) {
            None => write!(f, "StreamId({number})"),
            Some(worker) => write!(f, "StreamId({number} of worker {worker})"),
        }
    }
}

/// What has become of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Neither forwarded completely nor answered.
    Pending,
    /// The whole request reached the upstream, like this.
    Forwarded(PeerRequest),
    /// Envoy answered by itself: the plugin's local reply, or one that Envoy made.
    Replied(LocalReply),
    /// The client left, the plugin reset the stream ([`TinyEnvoy::cut`](crate::TinyEnvoy::cut)), or its
    /// connection was closed at the end of a drain, before it was forwarded or answered.
    Gone,
}

/// How far a stream had come when the plugin ended it by `proxy_close_stream`: the client's connection
/// is closed, or its stream reset, without another byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Nothing of a response had reached the client.
    BeforeResponse,
    /// The client had the head of the response, and perhaps a part of its body.
    AfterResponse,
}

impl Outcome {
    /// What the upstream received. Panics unless the request was forwarded.
    #[track_caller]
    pub fn forwarded(self) -> PeerRequest {
        match self {
            Self::Forwarded(request) => request,
            other => panic!("not forwarded: {other:?}"),
        }
    }

    /// The local reply. Panics unless there was one.
    #[track_caller]
    pub fn replied(self) -> LocalReply {
        match self {
            Self::Replied(reply) => reply,
            other => panic!("not replied: {other:?}"),
        }
    }
}

/// A reply that Envoy made itself, as the client received it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalReply {
    /// The HTTP status on the wire; 200 for a gRPC request.
    pub status: u16,
    /// All response headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
    /// Response code details, whitespace replaced by `_`.
    pub details: String,
    /// `grpc-status`, where the request was gRPC.
    pub grpc_status: Option<u32>,
}

/// The two directions of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Request,
    Response,
}

/// Where the filter holds a direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Iteration {
    #[default]
    Continue,
    /// What has arrived is held; what arrives is shown to the filter, which may let all go on.
    StopSingle,
    /// Everything is held, nothing more is shown to the filter.
    StopAll,
}

/// One direction of a stream at this filter.
#[derive(Debug, Default)]
pub(crate) struct Half {
    pub(crate) iteration: Iteration,
    /// Nothing more happens in this direction.
    pub(crate) closed: bool,
    /// The plugin has resumed it in the callback that is asked about it: it goes on, whatever that says.
    pub(crate) resumed: bool,
    /// The peer has sent everything.
    pub(crate) ended: bool,
    /// … and it was headers only.
    pub(crate) ended_with_headers: bool,
    pub(crate) headers: HeaderMap,
    pub(crate) headers_readable: bool,
    /// The piece of body that is being shown.
    pub(crate) current: Vec<u8>,
    pub(crate) current_readable: bool,
    /// Body that the filter has seen and holds.
    pub(crate) buffered: Vec<u8>,
    /// The filter paused on body, and sees all of `buffered` as the body.
    pub(crate) buffering: bool,
    /// The body that the filter was shown last was the end of everything.
    pub(crate) end_shown: bool,
    /// Body that the filter has not seen because everything is held.
    pub(crate) held: Vec<u8>,
    pub(crate) trailers: Option<HeaderMap>,
    pub(crate) trailers_shown: bool,
    pub(crate) trailers_readable: bool,
    /// What has left in this direction.
    pub(crate) sent: Sent,
}

/// What has left in one direction.
#[derive(Debug, Default, Clone)]
pub(crate) struct Sent {
    pub(crate) started: bool,
    pub(crate) complete: bool,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: HeaderMap,
}

impl Half {
    /// The body buffer that a plugin may read and change at this moment.
    pub(crate) fn body(&mut self) -> Option<&mut Vec<u8>> {
        if self.buffering {
            Some(&mut self.buffered)
        } else if self.current_readable {
            Some(&mut self.current)
        } else {
            None
        }
    }

    /// The trailers that a plugin may change at this moment. At the end of a body without any there are
    /// some as soon as it does; they are not shown to it.
    pub(crate) fn trailers_to_edit(&mut self) -> Option<&mut HeaderMap> {
        if self.trailers.is_none() && self.end_shown && self.body().is_some() {
            self.trailers = Some(HeaderMap::default());
            self.trailers_shown = true;
            self.trailers_readable = true;
        }
        self.trailers_to_read()
    }

    /// The trailers that a plugin may read at this moment.
    pub(crate) fn trailers_to_read(&mut self) -> Option<&mut HeaderMap> {
        self.trailers.as_mut().filter(|_| self.trailers_readable)
    }

    /// The trailers leave behind the body; what is changed of them later does not. On the wire a message has
    /// none that says how long its body is.
    pub(crate) fn send_trailers(&mut self) {
        if let Some(trailers) = &self.trailers
            && self.sent.headers.get("content-length").is_none()
        {
            self.sent.trailers = trailers.clone();
        }
    }

    /// Ends all access by the plugin.
    pub(crate) fn hide(&mut self) {
        self.headers_readable = false;
        self.current_readable = false;
        self.trailers_readable = false;
    }
}

/// One request and its response.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) worker: usize,
    /// The number of the configuration that it began under.
    pub(crate) configuration: u64,
    /// The VM and the context that handle it, once there are any.
    pub(crate) context: Option<(VmRef, u32)>,
    pub(crate) request: Half,
    pub(crate) response: Half,
    /// The request is gRPC, seen before any plugin changed it.
    pub(crate) grpc: bool,
    pub(crate) head: bool,
    pub(crate) is_logging: bool,
    /// A local reply has been asked for; there is at most one.
    pub(crate) local_reply: Option<LocalReplyFacts>,
    /// Why the response is what it is, as an access log has it.
    pub(crate) details: Option<String>,
    /// The upstream has begun to answer.
    pub(crate) is_answered: bool,
    pub(crate) finished: bool,
    pub(crate) gone: bool,
    /// The plugin ended it.
    pub(crate) cut: Option<Cut>,
    pub(crate) properties: HashMap<Vec<u8>, Vec<u8>>,
    pub(crate) filter_state: FilterState,
    /// How many internal redirects have led here.
    pub(crate) redirects: u32,
    /// The next pass of the request, once the upstream has redirected it.
    pub(crate) next_pass: Option<StreamId>,
    pub(crate) hostcalls: Tally,
    pub(crate) fuel: u64,
    /// How often the plugin has said that its request goes on, or has answered it.
    pub(crate) releases: u32,
}

/// What of a local reply is not on the wire.
#[derive(Debug, Clone)]
pub(crate) struct LocalReplyFacts {
    pub(crate) details: String,
}

impl Stream {
    pub(crate) fn new(worker: usize, headers: &HeaderMap) -> Self {
        Self {
            worker,
            configuration: 0,
            context: None,
            request: Half::default(),
            response: Half::default(),
            grpc: crate::headers::is_grpc(headers),
            head: headers.get(":method") == Some(b"HEAD"),
            is_logging: false,
            local_reply: None,
            details: None,
            is_answered: false,
            finished: false,
            gone: false,
            cut: None,
            properties: HashMap::new(),
            filter_state: FilterState::default(),
            redirects: 0,
            next_pass: None,
            hostcalls: Tally::default(),
            fuel: 0,
            releases: 0,
        }
    }

    pub(crate) fn half(&mut self, side: Side) -> &mut Half {
        match side {
            Side::Request => &mut self.request,
            Side::Response => &mut self.response,
        }
    }

    pub(crate) fn upstream_request(&self) -> Option<PeerRequest> {
        let sent = &self.request.sent;
        sent.started.then(|| PeerRequest {
            headers: sent.headers.clone(),
            body: sent.body.clone(),
            trailers: sent.trailers.clone(),
        })
    }

    pub(crate) fn client_response(&self) -> Option<PeerResponse> {
        let sent = &self.response.sent;
        sent.started.then(|| PeerResponse {
            headers: sent.headers.clone(),
            body: sent.body.clone(),
            trailers: sent.trailers.clone(),
        })
    }

    /// Neither forwarded completely nor answered, and not gone.
    pub(crate) fn is_pending(&self) -> bool {
        let is_answered = self.local_reply.is_some() && self.response.sent.started;
        !is_answered && !self.request.sent.complete && !self.gone
    }

    pub(crate) fn outcome(&self) -> Outcome {
        if let (Some(facts), Some(response)) = (&self.local_reply, self.client_response()) {
            let grpc_status = response.headers.text("grpc-status");
            return Outcome::Replied(LocalReply {
                status: response.status(),
                grpc_status: grpc_status.and_then(|text| text.parse().ok()),
                headers: response.headers,
                body: response.body,
                details: facts.details.clone(),
            });
        }
        match self.upstream_request() {
            Some(request) if self.request.sent.complete => Outcome::Forwarded(request),
            _ if self.gone => Outcome::Gone,
            _ => Outcome::Pending,
        }
    }
}
