//! Has things happen while the clients work, and writes them down: faults of the Tenant Manager, events, keys that turn.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use fastrand::Rng;
use serde_json::{Value, json};

use crate::faults::Trouble;
use crate::history::Said;
use crate::load::Shared;
use crate::memory::Sample;
use crate::population::{FORGED, Standing, TURNING_KEYS, suspended};
use crate::world::{World, keys};

/// How often it looks what is due.
const TICK: Duration = Duration::from_millis(50);
/// How often it takes samples.
const SAMPLE: Duration = Duration::from_secs(1);
/// How often it suspends or activates a tenant, and forgets everything.
const SWING: Duration = Duration::from_millis(700);
const FORGET: Duration = Duration::from_secs(23);
/// How long a key set lasts.
const TURN: Duration = Duration::from_secs(17);
/// What Envoy counts when a lookup has failed that nobody has made fail.
const FAILURES: [&str; 6] = [
    "upstream_rq_timeout",
    "upstream_cx_connect_fail",
    "upstream_cx_connect_timeout",
    "upstream_rq_pending_overflow",
    "upstream_rq_rx_reset",
    "upstream_cx_destroy_remote_with_active_rq",
];

/// A fault of the Tenant Manager, for the report.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Fault {
    /// Which.
    pub trouble: String,
    /// When it began, in seconds since the start.
    pub from: f64,
    /// When it ended.
    pub to: f64,
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Director<'w> {
    pub(crate) world: &'w mut World,
    pub(crate) shared: &'w Shared,
    pub(crate) started: Instant,
    pub(crate) dice: Rng,
    /// How long nothing is wrong, and how long something is, in seconds.
    pub(crate) calm: RangeInclusive<f64>,
    pub(crate) trouble: RangeInclusive<f64>,
    pub(crate) log: Log,
    now: Option<Trouble>,
    suspended: BTreeSet<usize>,
    turned: usize,
    failures: u64,
    sampled: Instant,
    looked_up: usize,
}

/// What has happened.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) samples: Vec<Sample>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) events: u64,
    pub(crate) turns: u64,
    /// Seconds in which lookups failed though nothing was wrong: the machine was too slow.
    pub(crate) unplanned: u64,
    /// Streams that were ended because their tenant was refused, as the filter has counted them.
    pub(crate) cut: u64,
    /// What has gone wrong besides decisions.
    pub(crate) wrong: Vec<String>,
}

impl<'w> Director<'w> {
    pub(crate) fn new(world: &'w mut World, shared: &'w Shared, dice: Rng) -> Self {
        let now = Instant::now();
        Self {
            world,
            shared,
            started: now,
            dice,
            calm: 9.0..=16.0,
            trouble: 2.0..=7.0,
            log: Log::default(),
            now: None,
            suspended: BTreeSet::new(),
            turned: 0,
            failures: 0,
            sampled: now,
            looked_up: 0,
        }
    }

    /// Directs for so long.
    ///
    /// # Errors
    /// When Envoy or a server fails it.
    pub(crate) async fn direct(&mut self, length: Duration) -> Result<()> {
        let start = self.started;
        // What begins is not settled yet, the key set included.
        self.shared.history.disturbed_at(start, start);
        self.shared.history.turn(start, vec![0, 1]);
        let (mut change, mut swing, mut forget, mut turn, mut sample) = (
            start + self.length(&self.calm.clone()),
            start + SWING,
            start + FORGET,
            start + TURN,
            start,
        );
        while start.elapsed() < length {
            let now = Instant::now();
            if now >= sample {
                sample = now + SAMPLE;
                self.sample().await?;
            }
            if now >= change {
                let length = match self.now {
                    None => self.begin().await,
                    Some(_) => self.end().await?,
                };
                change = Instant::now() + length;
            }
            if now >= swing {
                swing = now + SWING;
                self.swing().await?;
            }
            if now >= forget {
                forget = now + FORGET;
                self.tell(json!({ "type": "cache.invalidate_all" })).await?;
            }
            if now >= turn {
                turn = now + TURN;
                self.turn()?;
            }
            tokio::time::sleep(TICK).await;
        }
        if self.now.is_some() {
            self.end().await?;
        }
        Ok(())
    }

    /// The last sample, when the clients have gone.
    ///
    /// # Errors
    /// As [`Director::direct`].
    pub(crate) async fn conclude(&mut self) -> Result<()> {
        self.sample().await?;
        let traps = self.world.traps().await?;
        self.log.wrong.extend(traps);
        self.log.wrong.extend(self.world.upstream.faults());
        Ok(())
    }

    fn length(&mut self, of: &RangeInclusive<f64>) -> Duration {
        Duration::from_secs_f64(of.start() + self.dice.f64() * (of.end() - of.start()))
    }

    fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    async fn begin(&mut self) -> Duration {
        let trouble = Trouble::any(&mut self.dice);
        self.shared.history.disturb(Instant::now());
        let from = self.seconds();
        self.log.faults.push(Fault {
            trouble: format!("{trouble:?}"),
            from,
            to: f64::INFINITY,
        });
        self.now = Some(trouble);
        if trouble == Trouble::Down {
            self.world.tenant_manager.pause().await;
        }
        self.answer_all();
        self.length(&self.trouble.clone())
    }

    async fn end(&mut self) -> Result<Duration> {
        let ended = self.now.take();
        self.answer_all();
        if ended == Some(Trouble::Down) {
            self.world.tenant_manager.resume().await?;
        }
        self.shared.history.calm(Instant::now());
        let to = self.seconds();
        if let Some(fault) = self.log.faults.last_mut() {
            fault.to = to;
        }
        Ok(self.length(&self.calm.clone()))
    }

    /// What the Tenant Manager says of everybody from now on.
    fn answer_all(&mut self) {
        let all = (0..self.shared.people.tenants.len())
            .map(|place| self.answer(place))
            .collect();
        self.world.tenant_manager.set(all);
    }

    fn answer(&mut self, place: usize) -> (String, corpus::answer::Answer) {
        let tenant = &self.shared.people.tenants[place];
        let truth = if self.suspended.contains(&place) {
            suspended()
        } else {
            tenant.answer()
        };
        let answer = match self.now {
            None => truth,
            Some(trouble) => trouble.of(truth, &mut self.dice),
        };
        (tenant.id.clone(), answer)
    }

    /// Suspends a tenant or activates it again, and has the node hear of it.
    async fn swing(&mut self) -> Result<()> {
        let swinging: Vec<_> = self.shared.people.of(Standing::Swinging).collect();
        let Some(place) = self.dice.choice(swinging) else {
            return Ok(());
        };
        let suspends = !self.suspended.contains(&place);
        let id = &self.shared.people.tenants[place].id;
        let of_service = |kind: &str| {
            json!({
                "event_id": "soak", "event_type": kind, "tenant_id": id, "environment": "staging",
                "payload": { "service_name": "ledger" },
            })
        };
        let event = match (suspends, self.dice.bool()) {
            (true, true) => json!({ "type": "tenant.suspended", "tenantId": id }),
            (true, false) => of_service("tenant.service.suspended"),
            (false, true) => json!({ "type": "tenant.activated", "tenantId": id }),
            (false, false) => of_service("tenant.service.reactivated"),
        };
        self.shared.history.say(place, Instant::now(), Said::Open);
        if suspends {
            self.suspended.insert(place);
        } else {
            self.suspended.remove(&place);
        }
        let answer = self.answer(place);
        self.world.tenant_manager.merge([answer].into());
        self.tell(event).await?;
        let said = if suspends { Said::Suspended } else { Said::Active };
        self.shared.history.say(place, Instant::now(), said);
        Ok(())
    }

    async fn tell(&mut self, event: Value) -> Result<()> {
        self.log.events += 1;
        self.world.tell(&event).await.with_context(|| format!("{event}"))
    }

    /// Another two of the turning keys are good.
    fn turn(&mut self) -> Result<()> {
        self.turned = (self.turned + 1) % TURNING_KEYS.len();
        let places = vec![self.turned, (self.turned + 1) % TURNING_KEYS.len()];
        self.world.idp.set(keys(&places)?);
        self.shared.history.turn(Instant::now(), places);
        self.log.turns += 1;
        Ok(())
    }

    async fn sample(&mut self) -> Result<()> {
        let stats = self.world.envoy.stats().await?;
        let at = Instant::now();
        let stat = |name: &str| stats.get(name).copied().unwrap_or_default();
        let failures = FAILURES
            .iter()
            .map(|name| stat(&format!("cluster.tenant-manager.{name}")))
            .sum();
        if failures > self.failures {
            // Also while what was planned is not over yet: a machine that stands still for a moment then opens the
            // circuit once more.
            self.log.unplanned += u64::from(!self.shared.history.is_disturbed(self.sampled, at));
            self.shared.history.disturbed_at(self.sampled, at);
        }
        (self.failures, self.sampled) = (failures, at);
        self.log.cut = stat("wasmcustom.tenantgate_streams_cut_total");
        self.log.samples.push(Sample {
            at: self.seconds(),
            resident: self.world.resident_bytes()?,
            allocated: stat("server.memory_allocated"),
            failures,
            answered: self.shared.answered.load(Ordering::Relaxed),
            forwarded: self.shared.forwarded.load(Ordering::Relaxed),
        });
        self.watch_lookups();
        Ok(())
    }

    /// Nobody asks about tenants that only bad tokens name.
    fn watch_lookups(&mut self) {
        let total = self.world.tenant_manager.total();
        if total == self.looked_up {
            return;
        }
        let requests = self.world.tenant_manager.requests();
        let new = requests.iter().rev().take(total - self.looked_up);
        let forged = new.filter(|request| request.target.contains(FORGED)).take(3);
        self.log
            .wrong
            .extend(forged.map(|request| format!("the Tenant Manager was asked {}", request.target)));
        self.looked_up = total;
    }
}
