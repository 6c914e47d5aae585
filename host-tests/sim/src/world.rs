//! Plays a script, and has every step judged.

mod burst;
mod end;
mod events;
mod redirect;
mod send;
mod story;
mod update;
mod watch;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use tiny_envoy::{FailurePolicy, PeerRequest, Plugin, StreamId, TinyEnvoy};

pub use self::story::Story;
use crate::config;
use crate::fault::{Fault, Rule};
use crate::ledger::{Ledger, Span};
use crate::model::{Model, Seen, Settled};
use crate::peers;
use crate::script::{Op, Script};
use crate::secrets::Secrets;
use crate::tally::Tally;

/// Old configurations stay to the end of a world.
const LONGEST_DRAIN: Duration = Duration::from_secs(1_000_000);

/// What has come of a script.
#[derive(Debug, Default)]
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
    /// How many configurations have been put in force.
    updates: u32,
    /// What workers have not all taken over, and who has.
    late: Option<update::Late>,
    /// VMs that died by will.
    killed: usize,
    secrets: Secrets,
    tally: Tally,
    story: Story,
}

/// What a host keeps for a request until its last pass.
type Left = BTreeMap<Vec<u8>, Vec<u8>>;

/// A request that was sent.
struct Live {
    seen: Seen,
    stream: StreamId,
    settled: Option<Settled>,
    /// It was let go without its tenant, since it would have been denied.
    is_bare: bool,
    /// What its passes have left with the host, by name.
    left: Left,
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
    // What was told by then outlives a world that breaks off.
    let story = Story::new(is_told);
    let tally = RefCell::default();
    let played = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(script, plugin, ledger, story.clone())?;
        let result = world.run();
        tally.replace(std::mem::take(&mut world.tally));
        result
    }));
    let fault = match played {
        Ok(result) => result.err(),
        Err(payload) => Some(Fault::of_panic("the world", payload.as_ref())),
    };
    Played {
        fault,
        tally: tally.into_inner(),
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
        let mut builder = TinyEnvoy::builder();
        if let Some(edit) = setup.refuses {
            builder = builder.restrict_capability(edit.hostcall());
        }
        let envoy = builder
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
            .upstream(peers::upstream)
            .cluster("idp", move |request: &PeerRequest| {
                peers::identity_provider(&provider, request)
            })
            .start()
            .or_else(|error| Rule::Integrity.broken(format!("the plugin does not start: {error}")))?;
        let mut world = Self {
            script,
            envoy,
            ledger,
            model: Model::new(setup),
            calls: 0,
            callouts: 0,
            live: BTreeMap::new(),
            pending: Vec::new(),
            open: Vec::new(),
            events: events::Told::default(),
            updates: 0,
            late: None,
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
            self.takes_over(span);
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
            Op::Again(again) => self.comes_again(again),
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
            Op::UpdateLater(config) => self.updates_later(*config),
            Op::Drain => self.drains(),
            Op::Burst { schedule, acts } => self.bursts(*schedule, acts),
        }
    }
}
