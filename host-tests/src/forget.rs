//! Forgetting what is over, so that a world can go on for as long as one likes.

use crate::cluster::Callout;
use crate::envoy::TinyEnvoy;
use crate::log::LogLine;
use crate::stream::StreamId;

impl TinyEnvoy {
    /// Forgets a stream that is over. Nothing may ask for it again.
    ///
    /// # Panics
    /// It is not over, or was forgotten before.
    pub fn forget(&mut self, stream: StreamId) {
        let mut node = self.node.lock();
        assert!(node.stream(stream).finished, "{stream:?} is not over");
        node.streams.remove(&stream);
    }

    /// Forgets all streams that are over: [`Self::streams`] lists them no more, and nothing may ask for
    /// them again.
    pub fn forget_finished(&mut self) {
        self.node.lock().streams.retain(|_, stream| !stream.finished);
    }

    /// The log lines of all VMs since the last time, or the beginning.
    pub fn take_logs(&mut self) -> Vec<LogLine> {
        std::mem::take(&mut self.node.lock().logs)
    }

    /// The callouts that have reached a cluster since the last time, or the beginning.
    pub fn take_callouts(&mut self) -> Vec<Callout> {
        std::mem::take(&mut self.node.lock().callouts)
    }
}
