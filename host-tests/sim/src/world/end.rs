//! The end of a world, and what must be left of it.

use super::{LONGEST_DRAIN, World};
use crate::fault::{Fault, Rule};
use crate::peers::PASSWORD;
use crate::script::{Knobs, Op};

/// Most linear memory of a worker, in bytes.
const MOST_MEMORY: usize = 32 * 1024 * 1024;
/// What there is in the shared data besides the tables: the log, the queue's number, the sweep, a Tenant
/// Manager per configuration, discovery, shares of rates, labels.
const OTHER_KEYS: usize = 48;
/// When a world that has ended is quiet: past every lease, pause and refusal, and when the tables have been swept.
const QUIET_AFTER_MS: u64 = 3_600_000;
/// Largest value that is kept for all workers, in bytes.
const MOST_BYTES: usize = 128 * 1024;

impl World<'_> {
    /// Everybody leaves; what remains is looked at.
    pub(super) fn ends(&mut self) -> Result<(), Fault> {
        let longest_ms = self
            .pending
            .iter()
            .map(|id| self.model.patience_ms(&self.live[id].seen))
            .max();
        self.passes_until(self.now_ms() + longest_ms.unwrap_or_default() + 1)?;
        let waiting: Vec<_> = self.live.keys().copied().collect();
        for id in waiting {
            let stream = self.live[&id].stream;
            if !self.envoy.is_finished(stream) {
                let span = self.span(|world| world.envoy.disconnect(stream));
                self.pending.retain(|other| *other != id);
                self.open.retain(|other| *other != id);
                self.observe(span)?;
            }
        }
        for (id, live) in &self.live {
            self.check_once(*id, live.stream)?;
        }
        self.check_counters()?;
        self.check_bounds()?;
        self.check_words()?;
        self.check_memory()?;
        self.check_quiet()?;
        let (opened, probes) = self.model.circuit();
        self.tally.add("circuit: opened", opened);
        self.tally.add("circuit: probes", probes);
        Ok(())
    }

    fn check_counters(&self) -> Result<(), Fault> {
        let has_killed = self.script.ops.iter().any(|timed| matches!(timed.op, Op::Kill(_)));
        let waiters = self.envoy.metric("tenantgate_waiters");
        if !has_killed && waiters != Some(0) {
            return Rule::Bounds.broken(format!("nobody waits any more, and tenantgate_waiters is {waiters:?}"));
        }
        Ok(())
    }

    fn check_bounds(&self) -> Result<(), Fault> {
        let setup = &self.script.setup;
        for worker in 0..=setup.workers {
            let bytes = self.envoy.memory(worker).len();
            if bytes > MOST_MEMORY {
                return Rule::Bounds.broken(format!("the VM of worker {worker} has {bytes} bytes of memory"));
            }
        }
        // Each tenant has one set at most in the table of tenants, and one in that of rates, of each configuration.
        let tenants = self.model.population();
        let most = tenants * setup.configs.len();
        let held = self.envoy.metric("tenant_consumers_active").unwrap_or_default();
        if usize::try_from(held).is_ok_and(|held| held > most) {
            return Rule::Bounds.broken(format!("{held} records are held of {tenants} tenants"));
        }
        let shared = self.envoy.shared_data();
        let most: usize = setup
            .configs
            .iter()
            .map(|knobs| tenants * (1 + usize::from(knobs.rate.is_some())))
            .sum();
        let most = most + OTHER_KEYS;
        if shared.len() > most {
            return Rule::Bounds.broken(format!(
                "there are {} keys of shared data, more than {most}",
                shared.len()
            ));
        }
        for (key, entry) in &shared {
            if entry.value.len() > MOST_BYTES {
                return Rule::Bounds.broken(format!(
                    "{} holds {} bytes of shared data",
                    key.escape_ascii(),
                    entry.value.len()
                ));
            }
        }
        Ok(())
    }

    /// Nothing secret shows anywhere.
    fn check_words(&mut self) -> Result<(), Fault> {
        for line in self.envoy.logs_since(0) {
            self.secrets.check("the log", line.message.as_bytes())?;
        }
        for name in self.envoy.metrics().keys() {
            self.secrets.check("the name of a metric", name.as_bytes())?;
        }
        for (key, entry) in self.envoy.shared_data() {
            self.secrets.check("a key of the shared data", &key)?;
            self.secrets.check("a value of the shared data", &entry.value)?;
        }
        Ok(())
    }

    /// What a record says besides what is taken from it is gone from the memory of every VM.
    fn check_memory(&self) -> Result<(), Fault> {
        let password = format!("\"{PASSWORD}\"");
        let finder = memchr::memmem::Finder::new(password.as_bytes());
        for worker in 0..=self.script.setup.workers {
            if finder.find(self.envoy.memory(worker)).is_some() {
                return Rule::Integrity.broken(format!("the memory of worker {worker} holds the password of a record"));
            }
        }
        Ok(())
    }

    /// Where nobody waits, nothing is fetched by the clock and no rate is shared, no timer runs.
    fn check_quiet(&mut self) -> Result<(), Fault> {
        let by_the_clock =
            |knobs: &Knobs| knobs.remote.is_some() || knobs.discovery_s.is_some() || knobs.rate.is_some();
        if self.script.setup.configs.iter().any(by_the_clock) {
            return Ok(());
        }
        let end_ms = self.now_ms() + QUIET_AFTER_MS;
        self.passes_until(end_ms)?;
        // The end of a drain is the host's.
        match self.envoy.next_event_at().filter(|next| *next < LONGEST_DRAIN) {
            Some(next) => Rule::Bounds.broken(format!(
                "at {} ms nothing is left to do, and a timer runs until {next:?}",
                self.now_ms()
            )),
            None => Ok(()),
        }
    }

    /// A worker's VM dies.
    pub(super) fn kills(&mut self, worker: usize) -> Result<(), Fault> {
        if worker > self.script.setup.workers {
            return Ok(());
        }
        self.story
            .tell(self.envoy.elapsed(), || format!("the VM of worker {worker} dies"));
        self.tally.count("VMs killed");
        let span = self.span(|world| world.envoy.kill(worker));
        self.model.dies(worker, self.now_ms());
        self.killed = self.envoy.deaths().len();
        self.observe(span)
    }
}
