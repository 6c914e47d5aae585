//! Threads that are kept for the next time workers run interleaved.

use std::fmt;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// Threads that wait for jobs. They end when it is dropped.
#[derive(Default)]
pub(crate) struct Crew {
    hands: Vec<(Sender<Job>, JoinHandle<()>)>,
}

impl fmt::Debug for Crew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crew").field("hands", &self.hands.len()).finish()
    }
}

impl Crew {
    /// A thread of its own for each of `count` jobs: what is sent to it runs there.
    pub(crate) fn hands(&mut self, count: usize) -> impl Iterator<Item = Sender<Job>> + '_ {
        while self.hands.len() < count {
            let (jobs, received) = channel::<Job>();
            let thread = std::thread::spawn(move || received.into_iter().for_each(|job| job()));
            self.hands.push((jobs, thread));
        }
        self.hands.iter().take(count).map(|(jobs, _)| jobs.clone())
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for (jobs, thread) in self.hands.drain(..) {
            drop(jobs);
            thread.join().expect("jobs catch their panics");
        }
    }
}
