//! The end of a world, and what must be left of it.

use super::World;
use crate::fault::{Fault, Rule};
use crate::script::Op;

/// Most linear memory of a worker, in bytes.
const MOST_MEMORY: usize = 32 * 1024 * 1024;
/// What there is in the shared data besides the tables: the log, the queue's number, the sweep, a Tenant
/// Manager per configuration, discovery, shares of rates, labels.
const OTHER_KEYS: usize = 48;
/// Slots of a set in the tables of tenants and of rates.
const SLOTS_OF_A_SET: u64 = 8;
/// `rate_limit.shared_slots` unless configured.
const RATE_SLOTS: u64 = 16_384;
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
        self.check_counters()?;
        self.check_bounds()?;
        self.check_words()?;
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
        let slots: u64 = setup.configs.iter().map(|knobs| knobs.shared_slots).sum();
        let held = self.envoy.metric("tenant_consumers_active").unwrap_or_default();
        if held > slots {
            return Rule::Bounds.broken(format!("{held} tenants are held in {slots} slots"));
        }
        let shared = self.envoy.shared_data();
        let slots: u64 = setup.configs.iter().map(|knobs| knobs.shared_slots + RATE_SLOTS).sum();
        let most = usize::try_from(slots / SLOTS_OF_A_SET).expect("a small number") + OTHER_KEYS;
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

    /// A worker's VM dies.
    pub(super) fn kills(&mut self, worker: usize) -> Result<(), Fault> {
        if worker > self.script.setup.workers {
            return Ok(());
        }
        self.story
            .tell(self.envoy.elapsed(), || format!("the VM of worker {worker} dies"));
        self.tally.count("VMs killed");
        let span = self.span(|world| world.envoy.kill(worker));
        self.model.dies(worker);
        self.killed = self.envoy.deaths().len();
        self.observe(span)
    }
}
