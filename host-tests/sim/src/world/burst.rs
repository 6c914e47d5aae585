//! Several workers at the same instant.

use super::World;
use crate::fault::Fault;
use crate::script::Act;

impl World<'_> {
    pub(super) fn bursts(&mut self, _schedule: u64, acts: &[Act]) -> Result<(), Fault> {
        for act in acts {
            match act {
                Act::Request(request) => {
                    let span = self.span(|world| world.send(request, false));
                    self.observe(span)?;
                }
                Act::Tell(delivery) => self.tells(delivery)?,
            }
        }
        Ok(())
    }
}
