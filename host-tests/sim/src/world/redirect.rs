//! Requests that the host sends through the filter again.

use tiny_envoy::{Outcome, PeerRequest};

use super::send::sent_with;
use super::{Live, World, story};
use crate::fault::{Fault, Rule};
use crate::model::Seen;
use crate::script::{Again, Edit, Request};

/// What the filter leaves with a request that it has scoped.
const NOTE: &[u8] = b"tenantgate_pass";

/// What others are told, where it is only reported.
const TOLD: [&[u8]; 3] = [b"tenant_decision", b"tenant_id", b"tenant_module"];

impl Edit {
    /// The hostcall that does it.
    pub(super) fn hostcall(self) -> &'static str {
        match self {
            Self::Remove => "proxy_remove_header_map_value",
            Self::Set => "proxy_replace_header_map_value",
            Self::Add => "proxy_add_header_map_value",
        }
    }
}

impl World<'_> {
    /// A request whose upstream has redirected it comes again.
    pub(super) fn comes_again(&mut self, again: &Again) -> Result<(), Fault> {
        let Some(live) = self.live.get(&again.of) else {
            return Ok(());
        };
        let (Some(settled), Outcome::Forwarded(sent)) = (&live.settled, self.envoy.outcome(live.stream)) else {
            return Ok(());
        };
        let mut left = live.left.clone();
        let mut state = self.envoy.all_filter_state(live.stream);
        // What is told to others ends with the pass.
        state.retain(|name, _| !TOLD.contains(&name.as_slice()));
        left.extend(state);
        let note = if live.is_bare {
            live.seen.note.clone()
        } else {
            self.model.leaves_behind(settled)
        };
        if left.keys().any(|name| name != NOTE) || left.contains_key(NOTE) != note.is_some() {
            return Rule::Identity.broken(format!(
                "request {} was forwarded and has left {left:?} with the host, where {note:?} is what it should",
                again.of
            ));
        }
        let request = redirected(live, &sent, again);
        let at = self.envoy.elapsed();
        self.story.tell(at, || story::of_return(again, &request, note.as_ref()));
        self.tally.count("internal redirects");
        if note.is_some() {
            self.tally.count("internal redirects of what was scoped");
        }
        let (config, number) = self.serves(request.worker);
        let begun = self.ledger.tick();
        let seen = Seen {
            note,
            life: self.model.life(request.worker),
            config,
            number,
            begun: crate::ledger::Span { from: begun, to: begun },
            begun_ms: self.now_ms(),
            is_in_burst: false,
            request,
        };
        let span = self.span(|world| {
            world.notes(&seen);
            let stream = sent_with(&mut world.envoy, &seen.request, &left);
            world.sent(seen, stream);
            world.live.entry(again.id).and_modify(|live| live.left = left);
        });
        self.observe(span)
    }
}

/// The head that the upstream has got, with another target and what was added since.
fn redirected(live: &Live, sent: &PeerRequest, again: &Again) -> Request {
    let earlier = &live.seen.request;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let is_the_hosts = |name: &[u8]| {
        name.starts_with(b":")
            || [&b"content-length"[..], b"transfer-encoding", b"x-envoy-original-url"].contains(&name)
    };
    // The credential stands beside the field lines.
    let lines = sent
        .headers
        .iter()
        .filter(|(name, _)| !is_the_hosts(name) && *name != b"authorization");
    let mut headers: Vec<_> = lines.map(|(name, value)| (text(name), text(value))).collect();
    let original = format!("http://tiny.example{}", sent.path());
    headers.push(("x-envoy-original-url".to_owned(), original));
    headers.extend(again.added.clone());
    Request {
        id: again.id,
        path: again.path.clone(),
        headers,
        body: sent.body.len(),
        trailers: Vec::new(),
        stays_open: false,
        ..earlier.clone()
    }
}
