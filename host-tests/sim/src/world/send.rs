//! Requests on their way in.

use tiny_envoy::{RequestBuilder, StreamId, TinyEnvoy};

use super::{Left, Live, World, story};
use crate::fault::Fault;
use crate::ledger::Span;
use crate::model::Seen;
use crate::script::{Credential, Request};
use crate::tokens;

impl World<'_> {
    /// Sends a request. What comes of it is seen later.
    pub(super) fn send(&mut self, request: &Request, is_in_burst: bool) {
        if request.worker >= self.script.setup.workers {
            return;
        }
        let at = self.envoy.elapsed();
        self.story.tell(at, || story::of_request(request));
        let seen = self.sees(request, is_in_burst);
        let stream = sent(&mut self.envoy, request);
        self.sent(seen, stream);
    }

    /// A request as it is about to be sent.
    pub(super) fn sees(&mut self, request: &Request, is_in_burst: bool) -> Seen {
        let begun = self.ledger.tick();
        let (config, number) = self.serves(request.worker);
        let seen = Seen {
            request: request.clone(),
            life: self.model.life(request.worker),
            config,
            number,
            begun: Span { from: begun, to: begun },
            begun_ms: self.now_ms(),
            is_in_burst,
            note: None,
        };
        self.notes(&seen);
        seen
    }

    /// Takes note of a request that is about to be sent.
    pub(super) fn notes(&mut self, seen: &Seen) {
        let request = &seen.request;
        if let Credential::Token(token) | Credential::Twice(token) = &request.credential {
            self.secrets.plant(&tokens::minted(token));
        }
        self.model.begins(seen);
        self.tally.count("requests");
    }

    pub(super) fn sent(&mut self, seen: Seen, stream: StreamId) {
        let id = seen.request.id;
        self.pending.push(id);
        self.live.insert(
            id,
            Live {
                seen,
                stream,
                settled: None,
                is_bare: false,
                left: Left::new(),
                within: None,
            },
        );
    }

    pub(super) fn with_open(&mut self, id: u32, act: impl FnOnce(&mut TinyEnvoy, StreamId)) -> Result<(), Fault> {
        let Some(live) = self.live.get(&id) else { return Ok(()) };
        let stream = live.stream;
        if !live.seen.request.stays_open || self.envoy.is_finished(stream) {
            return Ok(());
        }
        let span = self.span(|world| act(&mut world.envoy, stream));
        self.observe(span)
    }

    pub(super) fn leaves(&mut self, id: u32) -> Result<(), Fault> {
        let Some(live) = self.live.get(&id) else { return Ok(()) };
        let (stream, seen) = (live.stream, live.seen.clone());
        if self.envoy.is_finished(stream) {
            return Ok(());
        }
        self.story
            .tell(self.envoy.elapsed(), || format!("the client of request {id} leaves"));
        self.tally.count("clients that left");
        self.pending.retain(|other| *other != id);
        self.open.retain(|other| *other != id);
        let span = self.span(|world| world.envoy.disconnect(stream));
        self.model.leaves(&seen);
        self.observe(span)
    }
}

/// Sends a request to its worker.
pub(super) fn sent(envoy: &mut TinyEnvoy, request: &Request) -> StreamId {
    sent_with(envoy, request, &Left::new())
}

/// Sends a request to its worker, with what its earlier passes have left with the host.
pub(super) fn sent_with(envoy: &mut TinyEnvoy, request: &Request, left: &Left) -> StreamId {
    let mut builder = envoy.request(&request.method, &request.path).worker(request.worker);
    builder = match &request.credential {
        Credential::Absent => builder,
        Credential::Unusable(text) | Credential::Garbage(text) => builder.header("authorization", text),
        Credential::Token(token) => with_token(builder, token),
        Credential::Twice(token) => with_token(with_token(builder, token), token),
    };
    for (name, value) in &request.headers {
        builder = builder.header(name, value);
    }
    for (name, value) in left {
        builder = builder.property(&[&String::from_utf8_lossy(name)], value.clone());
    }
    if request.stays_open {
        return builder.open();
    }
    if request.body > 0 {
        builder = builder.body(vec![b'x'; request.body]);
    }
    for (name, value) in &request.trailers {
        builder = builder.trailer(name, value);
    }
    builder.send()
}

fn with_token<'e>(builder: RequestBuilder<'e>, token: &crate::script::Token) -> RequestBuilder<'e> {
    builder.header("authorization", format!("Bearer {}", tokens::minted(token)))
}
