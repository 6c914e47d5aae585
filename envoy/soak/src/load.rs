//! The clients, as fast as they are answered.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use fastrand::Rng;
use tokio::task::JoinSet;

use crate::client::{Came, Client};
use crate::history::History;
use crate::judge::{Got, Judge};
use crate::plan::{Aim, Plan};
use crate::population::{Population, Standing};
use crate::tally::{Class, Tally};

/// How many answers are kept that seem wrong, to be judged again when the whole history is known.
const MAX_SUSPECTS: usize = 5_000;

/// What all clients have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) people: Population,
    pub(crate) history: History,
    pub(crate) upstream_started: Instant,
    pub(crate) cuts: bool,
    pub(crate) ends: AtomicBool,
    /// Requests answered so far, and those of them that were forwarded.
    pub(crate) answered: AtomicU64,
    pub(crate) forwarded: AtomicU64,
}

impl Shared {
    pub(crate) fn judge(&self) -> Judge<'_> {
        Judge {
            people: &self.people,
            history: &self.history,
            upstream_started: self.upstream_started,
            cuts: self.cuts,
        }
    }
}

/// An answer that seemed wrong when it came.
#[derive(Debug)]
pub(crate) struct Suspect {
    pub(crate) plan: Plan,
    pub(crate) times: (Instant, Instant),
    pub(crate) got: Got,
}

/// Clients at work.
#[derive(Debug)]
pub(crate) struct Load(JoinSet<(Tally, Vec<Suspect>)>);

impl Load {
    /// Sets so many clients to work on that server.
    pub(crate) fn start(shared: &Arc<Shared>, to: SocketAddr, clients: usize, dice: &mut Rng) -> Self {
        let mut set = JoinSet::new();
        for _ in 0..clients {
            set.spawn(client(Arc::clone(shared), to, dice.fork()));
        }
        Self(set)
    }

    /// Lets them finish. Gives what they have counted and what seemed wrong to them.
    ///
    /// # Errors
    /// When one has panicked.
    pub(crate) async fn stop(mut self, shared: &Shared) -> Result<(Tally, Vec<Suspect>)> {
        shared.ends.store(true, Ordering::Relaxed);
        let (mut all, mut suspects) = (Tally::default(), Vec::new());
        while let Some(ended) = self.0.join_next().await {
            let (tally, suspicious) = ended.context("a client has panicked")?;
            all.add(tally)?;
            suspects.extend(suspicious);
        }
        Ok((all, suspects))
    }
}

async fn client(shared: Arc<Shared>, to: SocketAddr, mut dice: Rng) -> (Tally, Vec<Suspect>) {
    let (mut client, mut tally, mut suspects) = (Client::new(to), Tally::default(), Vec::new());
    while !shared.ends.load(Ordering::Relaxed) {
        let plan = Plan::new(&shared.people, &mut dice);
        if plan.leaves {
            let moment = Duration::from_micros(dice.u64(..20_000));
            match client.leave(&plan, dice.f64(), moment).await {
                Ok(()) => tally.left += 1,
                Err(error) => {
                    tally.wrong += 1;
                    tally.example(|| format!("nobody listens ({error:#}): {}", told(&plan, &shared.people)));
                }
            }
            continue;
        }
        let (came, began) = client.send(&plan).await;
        let ended = Instant::now();
        let got = match came {
            Came::Answer(got) => got,
            Came::Hung => {
                tally.hung += 1;
                tally.example(|| format!("no answer: {}", told(&plan, &shared.people)));
                continue;
            }
            Came::Broken(why) => Got::Broken(why),
        };
        count(&mut tally, &shared, &plan, (began, ended), &got);
        if shared.judge().judge(&plan, (began, ended), &got).is_err() {
            if suspects.len() < MAX_SUSPECTS {
                let times = (began, ended);
                suspects.push(Suspect { plan, times, got });
            } else {
                tally.wrong += 1;
            }
        }
    }
    (tally, suspects)
}

fn count(tally: &mut Tally, shared: &Shared, plan: &Plan, (began, ended): (Instant, Instant), got: &Got) {
    shared.answered.fetch_add(1, Ordering::Relaxed);
    let in_faults = shared.history.is_disturbed(began, ended);
    let (decision, class) = match got {
        Got::Broken(_) => {
            tally.broken += 1;
            return;
        }
        Got::Forwarded(_, _) => {
            shared.forwarded.fetch_add(1, Ordering::Relaxed);
            let class = if in_faults {
                Class::ForwardedInFaults
            } else {
                Class::ForwardedInCalm
            };
            ("200 forwarded".to_owned(), class)
        }
        Got::Refused(status, code) => {
            let class = if in_faults {
                Class::RefusedInFaults
            } else {
                Class::RefusedInCalm
            };
            let code = if code.is_empty() { "by Envoy" } else { code };
            (format!("{status} {code}"), class)
        }
    };
    let has_passed = match got {
        Got::Forwarded(_, _) => plan.aim != Aim::Public,
        Got::Refused(status, _) => *status == 502,
        Got::Broken(_) => false,
    };
    if let Some(tenant) = plan.tenant().filter(|_| has_passed)
        && shared.people.tenants[tenant].standing == Standing::Limited
    {
        *tally.limited.entry(tenant).or_default() += 1;
    }
    tally.decided(decision, class, ended - began);
}

/// A request in words.
pub(crate) fn told(plan: &Plan, people: &Population) -> String {
    let who = match plan.tenant() {
        Some(tenant) => format!("{} ({:?})", people.tenants[tenant].id, people.tenants[tenant].standing),
        None => "nobody".to_owned(),
    };
    let shown = |(name, value): &(String, Vec<u8>)| match name.as_str() {
        "authorization" => "authorization: …".to_owned(),
        name => format!("{name}: {}", value.escape_ascii()),
    };
    let lines: Vec<_> = plan.lines.iter().map(shown).collect();
    format!(
        "{} {} of {who} as {:?}, {lines:?}",
        plan.method, plan.target, plan.caller
    )
}
