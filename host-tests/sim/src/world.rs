//! Plays a script, and has every step judged.

mod burst;
mod end;
mod events;
mod story;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use tiny_envoy::{FailurePolicy, Outcome, PeerRequest, Plugin, RequestBuilder, StreamId, TinyEnvoy};

pub use self::story::Story;
use crate::config;
use crate::fault::{Fault, Rule};
use crate::ledger::{Ledger, Span};
use crate::model::{Decision, Denied, Made, Model, Seen, Settled};
use crate::peers;
use crate::script::{Credential, Op, Request, Script};
use crate::secrets::Secrets;
use crate::tally::Tally;
use crate::tokens;

/// Old configurations stay to the end of a world.
const LONGEST_DRAIN: Duration = Duration::from_secs(1_000_000);

/// What has come of a script.
#[derive(Debug)]
pub struct Played {
    /// What must not have happened, if anything.
    pub fault: Option<Fault>,
    /// What happened how often.
    pub tally: Tally,
    /// How it came about, where it was to be told.
    pub story: Vec<String>,
}

/// A world being played.
struct World<'a> {
    script: &'a Script,
    envoy: TinyEnvoy,
    ledger: Ledger,
    model: Model,
    calls: usize,
    callouts: usize,
    live: BTreeMap<u32, Live>,
    /// Those about which it has not been decided, and those of which not all has come.
    pending: Vec<u32>,
    open: Vec<u32>,
    events: events::Told,
    /// VMs that died by will.
    killed: usize,
    secrets: Secrets,
    tally: Tally,
    story: Story,
}

/// A request that was sent.
struct Live {
    seen: Seen,
    stream: StreamId,
    settled: Option<Settled>,
    /// Where it is known better than from the step in which it was seen: when it was decided.
    within: Option<Span>,
}

/// The finished filter, compiled once.
///
/// # Errors
/// It is not there, or is no module.
pub fn filter() -> anyhow::Result<Plugin> {
    Plugin::load(corpus::finished_filter()?).map_err(anyhow::Error::msg)
}

/// Plays a script from beginning to end, or to its first fault.
#[must_use]
pub fn play(script: &Script, plugin: &Plugin, is_told: bool) -> Played {
    let ledger = Ledger::default();
    let mut story = Story::new(is_told);
    let mut tally = Tally::default();
    let played = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(script, plugin, ledger, std::mem::take(&mut story))?;
        let result = world.run();
        story = std::mem::take(&mut world.story);
        tally = std::mem::take(&mut world.tally);
        result
    }));
    let fault = match played {
        Ok(result) => result.err(),
        Err(payload) => {
            let text = payload.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
            Some(Fault {
                rule: Rule::Integrity,
                what: format!("the world broke off: {}", text.unwrap_or("a panic")),
            })
        }
    };
    Played {
        fault,
        tally,
        story: story.lines(),
    }
}

impl<'a> World<'a> {
    fn new(script: &'a Script, plugin: &Plugin, ledger: Ledger, story: Story) -> Result<Self, Fault> {
        let setup = &script.setup;
        {
            let mut book = ledger.book();
            book.tenants = setup.tenants.iter().cloned().collect();
            book.takes = [true, true];
            book.keys = Some(setup.keys.clone());
        }
        let (manager, provider) = (ledger.clone(), ledger.clone());
        let envoy = TinyEnvoy::builder()
            .plugin(plugin)
            .config(config::text(&setup.configs[0]))
            .workers(setup.workers)
            .seed(setup.host_seed)
            .allow_on_headers_stop_iteration(setup.holds_headers_only)
            .drain_time(LONGEST_DRAIN)
            .failure_policy(FailurePolicy::Reload(Duration::ZERO))
            .cluster("tenant-manager", move |request: &PeerRequest| {
                peers::manager(&manager, request)
            })
            .cluster("idp", move |request: &PeerRequest| {
                peers::identity_provider(&provider, request)
            })
            .start()
            .or_else(|error| Rule::Integrity.broken(format!("the plugin does not start: {error}")))?;
        let mut world = Self {
            script,
            envoy,
            ledger,
            model: Model::new(&setup.configs, setup.workers),
            calls: 0,
            callouts: 0,
            live: BTreeMap::new(),
            pending: Vec::new(),
            open: Vec::new(),
            events: events::Told::default(),
            killed: 0,
            secrets: Secrets::default(),
            tally: Tally::default(),
            story,
        };
        let span = world.span(|_| ());
        world.observe(span)?;
        Ok(world)
    }

    fn run(&mut self) -> Result<(), Fault> {
        for timed in &self.script.ops {
            if !timed.rushed {
                self.passes_until(timed.at_ms)?;
            } else if self.now_ms() < timed.at_ms {
                // What falls due in this very millisecond stays due.
                self.passes_until(timed.at_ms - 1)?;
                self.envoy.stall(Duration::from_millis(1));
            }
            self.does(&timed.op)?;
        }
        self.ends()
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.envoy.elapsed().as_millis()).expect("a world is short")
    }

    /// Does something, and says in which stretch.
    fn span(&mut self, act: impl FnOnce(&mut Self)) -> Span {
        let from = self.ledger.tick();
        act(self);
        let to = self.ledger.tick();
        Span { from, to }
    }

    /// Lets time pass, from one thing that happens to the next.
    fn passes_until(&mut self, until_ms: u64) -> Result<(), Fault> {
        let until = Duration::from_millis(until_ms);
        while let Some(next) = self.envoy.next_event_at().filter(|next| *next <= until) {
            let by = next.saturating_sub(self.envoy.elapsed());
            let span = self.span(|world| world.envoy.advance(by));
            self.observe(span)?;
        }
        let left = until.saturating_sub(self.envoy.elapsed());
        self.envoy.advance(left);
        self.check_patience()
    }

    fn does(&mut self, op: &Op) -> Result<(), Fault> {
        match op {
            Op::Request(request) => {
                let span = self.span(|world| {
                    world.send(request, false);
                });
                self.observe(span)
            }
            Op::Body(id) => self.with_open(*id, |envoy, stream| envoy.send_body(stream, b"more of it")),
            Op::End(id, trailers) => {
                let trailers: Vec<_> = trailers.iter().map(|(n, v)| (n.as_str(), v.as_bytes())).collect();
                self.with_open(*id, |envoy, stream| {
                    if trailers.is_empty() {
                        envoy.end(stream);
                    } else {
                        envoy.send_trailers(stream, &trailers);
                    }
                })
            }
            Op::Leave(id) => self.leaves(*id),
            Op::Tell(delivery) => self.tells(delivery),
            Op::Manager(change) => {
                self.story.tell(self.envoy.elapsed(), || story::of_change(change));
                self.tally.count("Tenant Manager: changes");
                self.ledger.book().change(change);
                Ok(())
            }
            Op::Idp(keys) => {
                self.story.tell(self.envoy.elapsed(), || {
                    format!(
                        "the identity provider answers {:?} after {} ms from now on",
                        keys.answer, keys.delay_ms
                    )
                });
                self.tally.count("identity provider: changes");
                self.ledger.book().keys = Some(keys.clone());
                Ok(())
            }
            Op::Kill(worker) => self.kills(*worker),
            Op::Update(config) => self.updates(*config),
            Op::Burst { schedule, acts } => self.bursts(*schedule, acts),
        }
    }

    /// Sends a request. What comes of it is seen later.
    fn send(&mut self, request: &Request, is_in_burst: bool) {
        if request.worker >= self.script.setup.workers {
            return;
        }
        let at = self.envoy.elapsed();
        self.story.tell(at, || story::of_request(request));
        let seen = self.sees(request, is_in_burst);
        let stream = sent(&mut self.envoy, request);
        self.sent(seen, stream);
    }

    /// Takes note of a request that is about to be sent.
    fn sees(&mut self, request: &Request, is_in_burst: bool) -> Seen {
        let begun = self.ledger.tick();
        let seen = Seen {
            request: request.clone(),
            life: self.model.life(request.worker),
            config: self.model.config,
            begun: Span { from: begun, to: begun },
            begun_ms: self.now_ms(),
            is_in_burst,
        };
        if let Credential::Token(token) | Credential::Twice(token) = &request.credential {
            self.secrets.plant(&tokens::minted(token));
        }
        self.model.begins(&seen);
        self.tally.count("requests");
        seen
    }

    fn sent(&mut self, seen: Seen, stream: StreamId) {
        let id = seen.request.id;
        self.pending.push(id);
        self.live.insert(
            id,
            Live {
                seen,
                stream,
                settled: None,
                within: None,
            },
        );
    }

    fn with_open(&mut self, id: u32, act: impl FnOnce(&mut TinyEnvoy, StreamId)) -> Result<(), Fault> {
        let Some(live) = self.live.get(&id) else { return Ok(()) };
        let stream = live.stream;
        if !live.seen.request.stays_open || self.envoy.is_finished(stream) {
            return Ok(());
        }
        let span = self.span(|world| act(&mut world.envoy, stream));
        self.observe(span)
    }

    fn leaves(&mut self, id: u32) -> Result<(), Fault> {
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

    /// Takes in what a step has brought about.
    fn observe(&mut self, span: Span) -> Result<(), Fault> {
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
            Decision::Denied(denied) if denied.code == "KEY_REJECTED" => 1,
            Decision::Denied(_) => 2,
        });
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

    /// What has come of a request, if anything.
    fn decision(&self, id: u32) -> Result<Option<Decision>, Fault> {
        let live = &self.live[&id];
        let upstream = self.envoy.upstream_saw(live.stream);
        Ok(match self.envoy.outcome(live.stream) {
            Outcome::Replied(reply) => {
                // What was forwarded when the VM died is answered by Envoy in the end.
                if upstream.is_some() && self.is_alive(&live.seen) {
                    return Rule::Answered.broken(format!("request {id} was forwarded and then answered: {reply:?}"));
                }
                self.secrets.check("the body of a reply", &reply.body)?;
                for (name, value) in reply.headers.iter() {
                    self.secrets.check("a header of a reply", name)?;
                    self.secrets.check("a header of a reply", value)?;
                }
                let code = reply.details.strip_prefix("tenantgate_").unwrap_or(&reply.details);
                Some(Decision::Denied(Denied {
                    code: code.to_owned(),
                    status: reply.status,
                }))
            }
            Outcome::Gone => None,
            Outcome::Forwarded(sent) => Some(Decision::Forwarded(sent)),
            Outcome::Pending => upstream.map(Decision::Forwarded),
        })
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
            Decision::Denied(denied) => {
                self.tally.count(&format!("denied: {}", denied.code));
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
        self.model.judge(&settled, decision)
    }

    /// Whoever waits is let go once, or answered once.
    fn check_once(&self, id: u32, stream: StreamId) -> Result<(), Fault> {
        let calls = self.envoy.hostcalls_of(stream);
        let of = |name: &str| calls.get(name).copied().unwrap_or_default();
        let (resumed, answered) = (of("proxy_continue_stream"), of("proxy_send_local_response"));
        if resumed + answered > 1 {
            return Rule::Answered.broken(format!(
                "request {id} was resumed {resumed} times and answered {answered} times"
            ));
        }
        Ok(())
    }

    /// Whether the VM that got a request is still there.
    fn is_alive(&self, seen: &Seen) -> bool {
        self.model.life(seen.request.worker) == seen.life
    }

    /// Looks at what of forwarded requests has come since.
    fn looks_at_open(&mut self) -> Result<(), Fault> {
        let open = std::mem::take(&mut self.open);
        for id in open {
            let live = &self.live[&id];
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
            if name != b"authorization" {
                self.secrets.check("a header of the upstream", value)?;
            }
        }
        Ok(())
    }

    /// Nobody waits longer than he has to.
    fn check_patience(&self) -> Result<(), Fault> {
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

/// Sends a request to its worker.
fn sent(envoy: &mut TinyEnvoy, request: &Request) -> StreamId {
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
