//! What every step has brought about, looked at and judged.

use std::time::Duration;

use tiny_envoy::{Callout, Outcome, PeerRequest, StreamId};

use super::{Live, World, story};
use crate::config::{API_KEYS, TRACE};
use crate::fault::{Fault, Rule};
use crate::ledger::Span;
use crate::model::{Decision, Denied, Made, Seen, Settled};

/// What Envoy says of a response that was withheld.
const WITHHELD: &str = "tenantgate_TENANT_LEAK_BLOCKED";

/// Headers that go from the client to the upstream as they are, secrets and all.
const OF_CLIENTS: [&[u8]; 3] = [b"authorization", b"cookie", b"traceparent"];

impl World<'_> {
    /// Takes in what a step has brought about.
    pub(super) fn observe(&mut self, span: Span) -> Result<(), Fault> {
        self.takes_calls(span)?;
        let now_ms = self.now_ms();
        let is_settled = self
            .envoy
            .next_event_at()
            .is_none_or(|next| next > self.envoy.elapsed());
        self.model.delivers(now_ms, span);
        self.model.settles(span, is_settled);
        let mut decided = Vec::new();
        let mut index = 0;
        while let Some(id) = self.pending.get(index).copied() {
            let Some(decision) = self.decision(id)? else {
                index += 1;
                continue;
            };
            self.pending.remove(index);
            decided.push((id, decision));
        }
        // Who was let in may be why another was not.
        decided.sort_by_key(|(_, decision)| match decision {
            Decision::Forwarded(_) => 0,
            Decision::Denied(Denied { code, .. }) | Decision::Reported(_, code) if code == "KEY_REJECTED" => 1,
            Decision::Denied(_) | Decision::Reported(..) => 2,
        });
        self.model.decides(decided.iter().map(|(id, _)| *id));
        for (id, decision) in &decided {
            self.settles(*id, decision, span)?;
        }
        for (id, _) in &decided {
            self.model.leaves(&self.live[id].seen);
        }
        self.looks_at_open()?;
        self.check_patience()?;
        self.model.check_seats()?;
        if is_settled {
            self.model.check_refreshed(now_ms)?;
        }
        match self.envoy.deaths().get(self.killed..) {
            Some([death, ..]) => Rule::Integrity.broken(format!(
                "the VM of worker {} died at {} ms: {}",
                death.worker,
                self.now_ms(),
                death.cause
            )),
            _ => Ok(()),
        }
    }

    /// Matches what the peers were asked with who the host says has asked.
    fn takes_calls(&mut self, span: Span) -> Result<(), Fault> {
        let new = {
            let book = self.ledger.book();
            book.calls[self.calls..].to_vec()
        };
        if new.is_empty() {
            return Ok(());
        }
        let mut callouts = self.envoy.callouts_since(self.callouts).into_iter();
        for call in new {
            let number = self.calls;
            self.calls += 1;
            let made = if call.is_refused {
                None
            } else {
                let callout = callouts.next().expect("the host has it too");
                self.callouts += 1;
                self.check_callout(&callout)?;
                Some(Made {
                    worker: callout.worker,
                    at_ms: u64::try_from(callout.at.as_millis()).expect("a world is short"),
                    timeout_ms: u64::try_from(callout.timeout.unwrap_or_default().as_millis()).expect("a short time"),
                })
            };
            if let Some(made) = made {
                self.model.delivers(made.at_ms, span);
            }
            self.tally.count(story::kind_of_call(&call.about));
            let at = Duration::from_millis(made.map_or(self.now_ms(), |made| made.at_ms));
            self.story.tell(at, || story::of_call(&call, number, made));
            let now_ms = self.now_ms();
            self.model.calls(number, &call, made, now_ms)?;
        }
        Ok(())
    }

    /// A peer hears nothing of a client but where it is to be traced.
    fn check_callout(&self, callout: &Callout) -> Result<(), Fault> {
        let is_manager = callout.cluster == "tenant-manager";
        for (name, value) in callout.request.headers.iter() {
            let may_be = match name {
                b":method" => value == b"GET",
                b":path" | b":authority" | b":scheme" | b"accept" | b"x-envoy-internal" | b"x-forwarded-for" => true,
                b"x-envoy-expected-rq-timeout-ms" => true,
                b"x-api-key" => is_manager && API_KEYS.iter().any(|key| key.as_bytes() == value),
                b"traceparent" => is_manager && value == TRACE.as_bytes(),
                _ => false,
            };
            if !may_be {
                return Rule::Integrity.broken(format!(
                    "the callout to {} says {}: {}",
                    callout.cluster,
                    name.escape_ascii(),
                    value.escape_ascii()
                ));
            }
            if name != b"x-api-key" {
                self.secrets.check("a header of a callout", value)?;
            }
        }
        let is_bare = callout.request.body.is_empty() && callout.request.trailers.is_empty();
        if !is_bare {
            return Rule::Integrity.broken(format!("the callout to {} has a body", callout.cluster));
        }
        Ok(())
    }

    /// What has come of a request, if anything.
    fn decision(&self, id: u32) -> Result<Option<Decision>, Fault> {
        let live = &self.live[&id];
        let upstream = self.envoy.upstream_saw(live.stream);
        Ok(match self.envoy.outcome(live.stream) {
            // That concerns the response.
            Outcome::Replied(reply) if upstream.is_some() && reply.details == WITHHELD => {
                upstream.map(|sent| self.let_go(live, sent)).transpose()?
            }
            Outcome::Replied(reply) => {
                // What was forwarded when the VM died is answered by Envoy in the end.
                let is_broken_off = self.model.may_be_broken_off(&live.seen);
                if upstream.is_some() && self.is_alive(&live.seen) && !is_broken_off {
                    return Rule::Answered.broken(format!("request {id} was forwarded and then answered: {reply:?}"));
                }
                self.secrets.check("the body of a reply", &reply.body)?;
                for (name, value) in reply.headers.iter() {
                    self.secrets.check("a header of a reply", name)?;
                    self.secrets.check("a header of a reply", value)?;
                }
                let code = reply.details.strip_prefix("tenantgate_").unwrap_or(&reply.details);
                let code = code.to_owned();
                Some(Decision::Denied(Denied { code, reply }))
            }
            Outcome::Gone => None,
            Outcome::Forwarded(sent) => Some(self.let_go(live, sent)?),
            Outcome::Pending => upstream.map(|sent| self.let_go(live, sent)).transpose()?,
        })
    }

    /// As what a request was let go: others are told where it is only reported.
    fn let_go(&self, live: &Live, sent: PeerRequest) -> Result<Decision, Fault> {
        if !self.model.reports(&live.seen) {
            return Ok(Decision::Forwarded(sent));
        }
        let told = |name| {
            let value = self.envoy.filter_state(live.stream, name);
            value.map(|value| String::from_utf8_lossy(&value).into_owned())
        };
        let decision = told("tenant_decision").unwrap_or_default();
        let code = decision.strip_prefix("would_deny:");
        if let Some(code) = code.filter(|code| *code != "TENANT_LEAK_BLOCKED") {
            return Ok(Decision::Reported(sent, code.to_owned()));
        }
        let tenant = sent.headers.text("x-tenant-id");
        let is_right = match decision.as_str() {
            // The last is said of the response that has come since.
            "allowed" | "unverified" | "would_deny:TENANT_LEAK_BLOCKED" => {
                tenant.is_some() && told("tenant_id") == tenant
            }
            "public" => tenant.is_none() && told("tenant_id").is_none(),
            _ => false,
        };
        if is_right {
            Ok(Decision::Forwarded(sent))
        } else {
            Rule::Decision.broken(format!(
                "request {} was forwarded as {tenant:?}, and others are told {decision:?} of {:?}",
                live.seen.request.id,
                told("tenant_id")
            ))
        }
    }

    fn settles(&mut self, id: u32, decision: &Decision, span: Span) -> Result<(), Fault> {
        let now_ms = self.now_ms();
        let live = self.live.get_mut(&id).expect("it was sent");
        let waited_ms = now_ms - live.seen.begun_ms;
        let settled = Settled {
            seen: live.seen.clone(),
            decided: live.within.take().unwrap_or(Span {
                from: span.from.max(live.seen.begun.from),
                to: span.to,
            }),
            decided_ms: now_ms,
        };
        live.settled = Some(settled.clone());
        let stream = live.stream;
        live.is_bare = matches!(decision, Decision::Reported(..));
        self.story
            .tell(self.envoy.elapsed(), || story::of_decision(id, decision, waited_ms));
        self.check_once(id, stream)?;
        match decision {
            Decision::Forwarded(sent) => {
                self.tally.count(if waited_ms > 0 {
                    "forwarded after waiting"
                } else {
                    "forwarded at once"
                });
                self.check_upstream_secrets(sent)?;
                self.open.push(id);
            }
            Decision::Reported(sent, code) => {
                self.tally.count("forwarded, though they would be denied");
                self.tally.count(&format!("would be denied: {code}"));
                self.check_upstream_secrets(sent)?;
                self.open.push(id);
            }
            Decision::Denied(denied) => {
                self.tally.count(&format!("denied: {}", denied.code));
                if denied.reply.grpc_status.is_some() {
                    self.tally.count("denied as gRPC");
                }
                if waited_ms > 0 {
                    self.tally.count("denied after waiting");
                }
            }
        }
        if matches!(decision, Decision::Denied(denied) if denied.code == "wasm_fail_stream")
            && !self.is_alive(&settled.seen)
        {
            return Ok(());
        }
        let patience_ms = self.model.patience_ms(&settled.seen);
        if waited_ms > patience_ms {
            return Rule::Answered.broken(format!(
                "request {id} was decided after {waited_ms} ms; it was to be answered within {patience_ms} ms"
            ));
        }
        self.model.judge(&settled, decision)
    }

    /// Whoever waits is let go once, or answered once.
    pub(super) fn check_once(&self, id: u32, stream: StreamId) -> Result<(), Fault> {
        let times = self.envoy.releases(stream);
        // Let go, and then broken off in the same step.
        let most = 1 + u32::from(self.model.may_be_broken_off(&self.live[&id].seen));
        if times > most {
            return Rule::Answered.broken(format!("request {id} was resumed or answered {times} times"));
        }
        Ok(())
    }

    /// Whether the VM that got a request is still there.
    pub(super) fn is_alive(&self, seen: &Seen) -> bool {
        self.model.life(seen.request.worker) == seen.life
    }

    /// Looks at what of forwarded requests has come since.
    fn looks_at_open(&mut self) -> Result<(), Fault> {
        let open = std::mem::take(&mut self.open);
        for id in open {
            let live = &self.live[&id];
            self.check_once(id, live.stream)?;
            match self.envoy.outcome(live.stream) {
                Outcome::Forwarded(sent) => {
                    let settled = live.settled.as_ref().expect("it was decided before");
                    self.model.judge_whole(settled, &sent)?;
                    let request = &live.seen.request;
                    let is_whole = request.stays_open || sent.body.len() == request.body;
                    if !is_whole {
                        return Rule::Answered.broken(format!(
                            "request {id} has {} bytes of body, of which {} have reached the upstream",
                            request.body,
                            sent.body.len()
                        ));
                    }
                    match self.envoy.response(live.stream) {
                        Some(_) if !self.is_alive(&live.seen) => {}
                        Some(response) => {
                            self.tally.count("responses");
                            let said = self.model.judge_response(settled, live.is_bare, &response)?;
                            if let Some(what) = said {
                                self.tally.count(what);
                            }
                        }
                        // The upstream has not answered yet.
                        None if !self.envoy.is_finished(live.stream) => self.open.push(id),
                        None => {}
                    }
                }
                Outcome::Pending => {
                    let settled = live.settled.as_ref().expect("it was decided before");
                    let until_ms = self.model.must_be_cut_by(settled);
                    if self.is_alive(&live.seen) && until_ms.is_some_and(|until_ms| self.now_ms() > until_ms) {
                        return Rule::Refusal.broken(format!(
                            "request {id} is open at {} ms, though its tenant was refused: it was to be cut by {} ms",
                            self.now_ms(),
                            until_ms.unwrap_or_default()
                        ));
                    }
                    self.open.push(id);
                }
                Outcome::Replied(_) if !self.is_alive(&live.seen) => {}
                Outcome::Replied(reply) if reply.details == WITHHELD => {
                    let settled = live.settled.as_ref().expect("it was decided before");
                    self.tally.count("responses withheld");
                    self.secrets.check("what is said instead of a response", &reply.body)?;
                    let code = "TENANT_LEAK_BLOCKED".to_owned();
                    self.model
                        .judge_withheld(settled, live.is_bare, &Denied { code, reply })?;
                }
                Outcome::Replied(_) if self.model.may_be_broken_off(&live.seen) => {
                    self.tally.count("broken off, since trailers cannot be edited");
                }
                Outcome::Replied(reply) => {
                    return Rule::Answered.broken(format!("request {id} was forwarded and then answered: {reply:?}"));
                }
                Outcome::Gone => {
                    let settled = live.settled.as_ref().expect("it was decided before");
                    if !self.model.may_be_cut(settled) {
                        return Rule::Answered.broken(format!(
                            "request {id} was forwarded and then cut, though nobody has refused its tenant"
                        ));
                    }
                    let until_ms = self.model.must_be_cut_by(settled);
                    if let Some(until_ms) = until_ms.filter(|until_ms| *until_ms < self.now_ms()) {
                        return Rule::Refusal.broken(format!(
                            "request {id} is cut at {} ms; it was to be cut by {until_ms} ms",
                            self.now_ms()
                        ));
                    }
                    self.story.tell(self.envoy.elapsed(), || format!("request {id} is cut"));
                    self.tally.count("streams cut");
                }
            }
        }
        Ok(())
    }

    fn check_upstream_secrets(&self, sent: &PeerRequest) -> Result<(), Fault> {
        for (name, value) in sent.headers.iter() {
            self.secrets.check("the name of a header of the upstream", name)?;
            // What the client has said for the upstream to hear.
            if !OF_CLIENTS.contains(&name) {
                self.secrets.check("a header of the upstream", value)?;
            }
        }
        Ok(())
    }

    /// Nobody waits longer than he has to.
    pub(super) fn check_patience(&self) -> Result<(), Fault> {
        let now_ms = self.now_ms();
        for id in &self.pending {
            let seen = &self.live[id].seen;
            let until_ms = seen.begun_ms + self.model.patience_ms(seen);
            if self.is_alive(seen) && now_ms > until_ms {
                return Rule::Answered.broken(format!(
                    "request {id} waits at {now_ms} ms since {} ms; it was to be answered by {until_ms} ms",
                    seen.begun_ms
                ));
            }
        }
        Ok(())
    }
}
