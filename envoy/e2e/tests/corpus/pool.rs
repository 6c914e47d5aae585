//! Envoys that several cases use, one after another.

use std::collections::VecDeque;

use envoy_e2e::{Setup, World};
use tokio::sync::Mutex;

/// How many Envoys wait for a further case. As many again as there are test threads may be at work.
const MAX_IDLE: usize = 2;

/// What worlds must have in common to be exchangeable: the plugin configuration and the workers.
pub(crate) type Key = (String, u32);

/// Worlds that are not in use, the longest unused first.
#[derive(Debug, Default)]
pub(crate) struct Pool(Mutex<VecDeque<(Key, World)>>);

impl Pool {
    /// A world of this key that is nobody else's, waiting or new.
    pub(crate) async fn take(&self, key: &Key) -> anyhow::Result<World> {
        let mut idle = self.0.lock().await;
        let place = idle.iter().position(|(of, _)| of == key);
        let found = place.and_then(|place| idle.remove(place));
        drop(idle);
        match found {
            Some((_, world)) => Ok(world),
            None => Setup::new(&key.0).workers(key.1).start().await,
        }
    }

    /// Gives a world back that is as good as new, but for what it has cached.
    pub(crate) async fn give_back(&self, key: Key, world: World) -> anyhow::Result<()> {
        let mut idle = self.0.lock().await;
        idle.push_back((key, world));
        let oldest = if idle.len() > MAX_IDLE { idle.pop_front() } else { None };
        drop(idle);
        match oldest {
            Some((_, world)) => world.stop().await,
            None => Ok(()),
        }
    }

    /// Stops them all.
    pub(crate) async fn stop(&self) {
        for (_, world) in self.0.lock().await.drain(..) {
            if let Err(error) = world.stop().await {
                eprintln!("{error:#}");
            }
        }
    }
}
