//! The upstream's side of forwarded requests.

use std::time::Duration;

use crate::cluster::{Answer, PeerResponse, Reply};
use crate::envoy::TinyEnvoy;
use crate::node::{Ending, Event};
use crate::stream::{Side, StreamId};

impl TinyEnvoy {
    /// The upstream answers a request whose head has reached it, before the request has ended perhaps,
    /// in place of what the cluster given to [`Builder::upstream`](crate::Builder::upstream) would say.
    /// What has no delay happens at once. Nothing happens once the upstream has answered.
    ///
    /// # Panics
    /// Nothing of the request has reached the upstream.
    pub fn upstream_responds(&mut self, stream: StreamId, answer: Answer) {
        assert!(
            self.upstream_saw(stream).is_some(),
            "the upstream knows nothing of {stream:?}"
        );
        let delay = answer.delay;
        let Some(event) = what_comes(stream, answer) else {
            return;
        };
        if delay > Duration::ZERO {
            self.node.lock().plan(delay, event);
        } else {
            self.happen(event);
        }
    }

    /// The upstream sends a piece of body of a response that has begun and not ended; see
    /// [`Answer::unending`].
    ///
    /// # Panics
    /// The response has not begun.
    pub fn upstream_sends(&mut self, stream: StreamId, bytes: impl AsRef<[u8]>) {
        self.assert_answered(stream);
        self.show_body(stream, Side::Response, bytes.as_ref().to_vec(), false);
    }

    /// The upstream ends a response that has begun.
    ///
    /// # Panics
    /// The response has not begun.
    pub fn upstream_ends(&mut self, stream: StreamId) {
        self.assert_answered(stream);
        self.show_body(stream, Side::Response, Vec::new(), true);
    }

    /// The upstream breaks the connection off. Before it has answered, Envoy makes a 503 of it.
    pub fn upstream_resets(&mut self, stream: StreamId) {
        if self.node.lock().stream(stream).is_answered {
            self.finish(stream);
        } else {
            self.upstream_is_unreachable(stream);
        }
    }

    fn assert_answered(&self, stream: StreamId) {
        let is_answered = self.node.lock().stream(stream).is_answered;
        assert!(is_answered, "the upstream has not answered {stream:?}");
    }

    pub(crate) fn plan_answer(&mut self, stream: StreamId, answer: Answer) {
        let delay = answer.delay;
        if let Some(event) = what_comes(stream, answer) {
            self.node.lock().plan(delay, event);
        }
    }

    pub(crate) fn upstream_is_unreachable(&mut self, stream: StreamId) {
        if self
            .node
            .lock()
            .streams
            .get(&stream)
            .is_none_or(|stream| stream.is_answered)
        {
            return;
        }
        self.reply(
            stream,
            503,
            crate::UPSTREAM_CLOSED,
            "upstream_reset_before_response_started{connection_termination}",
        );
    }

    pub(crate) fn upstream_answers(&mut self, id: StreamId, response: PeerResponse, ending: Ending) {
        {
            let node = self.node.lock();
            // Whoever left before the answer may be forgotten by now.
            let stream = node.streams.get(&id);
            if stream.is_none_or(|stream| stream.finished || stream.local_reply.is_some() || stream.is_answered) {
                return;
            }
        }
        if self.redirect(id, &response.headers) {
            return;
        }
        {
            let mut node = self.node.lock();
            let stream = node.stream(id);
            stream.is_answered = true;
            stream.details = Some("via_upstream".to_owned());
        }
        let PeerResponse {
            headers,
            body,
            trailers,
        } = response;
        let ends_with_body = trailers.is_empty() && ending == Ending::Complete;
        self.show_headers(id, Side::Response, headers, body.is_empty() && ends_with_body);
        if !body.is_empty() {
            self.show_body(id, Side::Response, body, false);
            if ends_with_body {
                self.show_body(id, Side::Response, Vec::new(), true);
            }
        }
        if ending == Ending::Reset {
            self.finish(id);
        } else if !trailers.is_empty() {
            self.show_trailers(id, Side::Response, trailers);
        }
    }
}

/// What an answer makes happen; nothing if it is silence.
fn what_comes(stream: StreamId, answer: Answer) -> Option<Event> {
    let (response, ending) = match answer.reply {
        Reply::Response(response) => (response, Ending::Complete),
        Reply::ResetMidBody(response) => (response, Ending::Reset),
        Reply::Unending(response) => (response, Ending::Open),
        Reply::CloseBeforeHeaders | Reply::NoEndpoints => return Some(Event::UpstreamUnreachable { stream }),
        Reply::Silence => return None,
    };
    Some(Event::Upstream {
        stream,
        response,
        ending,
    })
}
