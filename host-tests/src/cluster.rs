//! Clusters: scripted peers that answer callouts, and the upstream that answers requests.

use std::time::Duration;

use crate::headers::HeaderMap;

/// What a peer receives: a callout, or a forwarded request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerRequest {
    /// All headers, pseudo headers included.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
    /// The trailers.
    pub trailers: HeaderMap,
}

impl PeerRequest {
    /// `:method`, empty when it is missing.
    pub fn method(&self) -> String {
        self.headers.text(":method").unwrap_or_default()
    }

    /// `:path`, empty when it is missing; each byte that is not UTF-8 replaced.
    pub fn path(&self) -> String {
        self.headers.text(":path").unwrap_or_default()
    }
}

/// A callout that reached its cluster.
#[derive(Debug, Clone)]
pub struct Callout {
    /// The worker that made it.
    pub worker: usize,
    /// The cluster it went to.
    pub cluster: String,
    /// What the cluster received.
    pub request: PeerRequest,
    /// The timeout the plugin asked for; `None` is "for ever".
    pub timeout: Option<Duration>,
    /// When it was made, since the world began.
    pub at: Duration,
}

/// How a peer answers.
#[derive(Debug, Clone)]
pub struct Answer {
    pub(crate) delay: Duration,
    pub(crate) reply: Reply,
}

#[derive(Debug, Clone)]
pub(crate) enum Reply {
    Response(PeerResponse),
    CloseBeforeHeaders,
    ResetMidBody(PeerResponse),
    Unending(PeerResponse),
    Silence,
    NoEndpoints,
}

/// A response, as a peer sends it or a client receives it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerResponse {
    /// All headers, `:status` included.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
    /// The trailers.
    pub trailers: HeaderMap,
}

impl PeerResponse {
    /// `:status` as a number; 0 when there is none.
    pub fn status(&self) -> u16 {
        self.headers
            .text(":status")
            .and_then(|text| text.parse().ok())
            .unwrap_or_default()
    }
}

impl Answer {
    /// A complete response without a body.
    pub fn status(status: u16) -> Self {
        let headers = [(":status", status.to_string())].into_iter().collect();
        let response = PeerResponse {
            headers,
            ..PeerResponse::default()
        };
        Self {
            delay: Duration::ZERO,
            reply: Reply::Response(response),
        }
    }

    /// A complete response with a body of type `application/json`.
    pub fn json(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self::status(status)
            .header("content-type", "application/json")
            .body(body)
    }

    /// The connection is refused, or closed before a status line. Envoy makes a 503 of it.
    pub fn close_before_headers() -> Self {
        Self {
            delay: Duration::ZERO,
            reply: Reply::CloseBeforeHeaders,
        }
    }

    /// Nothing ever comes. For a callout Envoy makes a 504 of it at the timeout.
    pub fn silence() -> Self {
        Self {
            delay: Duration::ZERO,
            reply: Reply::Silence,
        }
    }

    /// The cluster has no endpoint: the callout is refused where it is made.
    pub fn no_endpoints() -> Self {
        Self {
            delay: Duration::ZERO,
            reply: Reply::NoEndpoints,
        }
    }

    /// Adds a header to the response.
    #[must_use]
    pub fn header(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.response().headers.add(name, value);
        self
    }

    /// Sets the body and its `content-length`.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        let response = self.response();
        response.headers.set("content-length", body.len().to_string());
        response.body = body;
        self
    }

    /// Adds a trailer to the response, which does not say how long its body is then.
    #[must_use]
    pub fn trailer(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        let response = self.response();
        response.headers.remove("content-length");
        response.trailers.add(name, value);
        self
    }

    /// The connection breaks after headers and half of the body.
    #[must_use]
    pub fn reset_mid_body(mut self) -> Self {
        let mut response = self.response().clone();
        response.body.truncate(response.body.len() / 2);
        self.reply = Reply::ResetMidBody(response);
        self
    }

    /// The response begins like this and does not end by itself, as of a stream of events: from the
    /// upstream more may come by [`TinyEnvoy::upstream_sends`](crate::TinyEnvoy::upstream_sends). A
    /// callout is reset at its timeout.
    #[must_use]
    pub fn unending(mut self) -> Self {
        let mut response = self.response().clone();
        response.headers.remove("content-length");
        self.reply = Reply::Unending(response);
        self
    }

    /// The answer, or its failure, takes this long.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    fn response(&mut self) -> &mut PeerResponse {
        match &mut self.reply {
            Reply::Response(response) | Reply::ResetMidBody(response) | Reply::Unending(response) => response,
            _ => panic!("only a response has headers, body and trailers"),
        }
    }
}

/// A scripted peer. Closures from a request to an [`Answer`] are clusters.
pub trait Cluster: Send {
    /// Answers one request. It is asked when the request arrives; the answer says how long it takes.
    fn answer(&mut self, request: &PeerRequest) -> Answer;
}

impl<F: FnMut(&PeerRequest) -> Answer + Send> Cluster for F {
    fn answer(&mut self, request: &PeerRequest) -> Answer {
        self(request)
    }
}
