//! What events do to what is known.

use super::Resolver;
use super::freshness::Times;
use super::shared::{Obeyed, Order};
use crate::config::TenantManager;
use crate::node::{Node, NotWritten};
use crate::tenant_id::TenantId;

/// An event, as far as it concerns what is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// Everything is forgotten, refusals by events too.
    ForgetEverything,
    /// About one tenant.
    Tenant {
        tenant: TenantId,
        order: Order,
        /// When it happened, in milliseconds since the Unix epoch; `None`: it does not say.
        at_ms: Option<i64>,
    },
}

/// How often an event is tried again while the table moves.
const ATTEMPTS: usize = 8;

impl Resolver {
    /// Carries commands out in their order. When this returns, no worker of the node serves what was
    /// known before. Gives for each whether it had an effect: one that is older than the last about its
    /// tenant has none.
    ///
    /// # Errors
    ///
    /// [`NotWritten`] when the node's store does not take them: some may have had no effect.
    pub(crate) fn obey(
        &mut self,
        manager: &TenantManager,
        commands: &[Command],
        node: &impl Node,
    ) -> Result<Vec<bool>, NotWritten> {
        let now_ms = node.monotonic_ms();
        let mut refused = NotWritten::Refused;
        for _ in 0..ATTEMPTS {
            self.listen(node);
            match self.try_obey(manager, commands, now_ms, node) {
                Ok(applied) => {
                    self.listen(node);
                    self.pump(manager, now_ms, node);
                    return Ok(applied);
                }
                // The table lies elsewhere since, or the log cannot be read any more.
                Err(NotWritten::Outpaced) => {
                    self.log.distrust();
                    refused = NotWritten::Outpaced;
                }
                Err(NotWritten::Refused) => return Err(NotWritten::Refused),
            }
        }
        Err(refused)
    }

    fn try_obey(
        &mut self,
        manager: &TenantManager,
        commands: &[Command],
        now_ms: u64,
        node: &impl Node,
    ) -> Result<Vec<bool>, NotWritten> {
        let rules = &manager.cache;
        let mut touched: Vec<&str> = Vec::new();
        let mut applied = Vec::with_capacity(commands.len());
        for command in commands {
            let layout = self.log.layout().ok_or(NotWritten::Refused)?;
            match command {
                Command::ForgetEverything => {
                    self.log.publish_everything(node)?;
                    // What was touched before has moved too, and what comes now lies elsewhere.
                    touched.clear();
                    self.listen(node);
                    applied.push(true);
                }
                Command::Tenant { tenant, order, at_ms } => {
                    let times = Times::of_refusal(rules, now_ms, rules.ttl_ms);
                    let obeyed = self
                        .table
                        .obey(tenant.as_str(), layout, order, (*at_ms, times), now_ms, node)?;
                    let Obeyed::Yes { had_record } = obeyed else {
                        applied.push(false);
                        continue;
                    };
                    touched.push(tenant.as_str());
                    if had_record && !matches!(order, Order::Refuse { .. }) {
                        self.look_up_later(tenant.clone(), node);
                    }
                    applied.push(true);
                }
            }
        }
        let layout = self.log.layout().ok_or(NotWritten::Refused)?;
        if !touched.is_empty() {
            self.log.publish(&touched, layout, node)?;
        }
        Ok(applied)
    }
}

#[cfg(test)]
mod tests;
