//! Lines of the log that the outside could cause without end.

use std::time::Duration;

use tokio::time::Instant;

/// How many such lines are written per [`WINDOW`].
const MAX_LINES: u32 = 10;

const WINDOW: Duration = Duration::from_secs(60);

/// Ten lines a minute of one kind; the next one says how many were left out.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    window: Option<Instant>,
    written: u32,
    unsaid: u64,
}

impl Notices {
    /// Whether a line may be written now, and how many were left out since the last one.
    pub(crate) fn admit(&mut self) -> Option<u64> {
        if self.window.is_none_or(|begun| begun.elapsed() >= WINDOW) {
            self.window = Some(Instant::now());
            self.written = 0;
        }
        if self.written == MAX_LINES {
            self.unsaid += 1;
            return None;
        }
        self.written += 1;
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ten_lines_a_minute_and_then_how_many_were_left_out() {
        let mut notices = Notices::default();
        let admitted = (0..25).filter_map(|_| notices.admit()).count();
        assert_eq!(admitted, 10);
        tokio::time::advance(WINDOW).await;
        assert_eq!((notices.admit(), notices.admit()), (Some(15), Some(0)));
    }
}
