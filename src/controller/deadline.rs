//! How long the writes of a pass may take. An API server, or a webhook behind it, that hangs must not keep the next pass from looking:
//! somebody may need a node, or a migration may have failed. What is not written in time waits for the next pass, which
//! thinks anew.

use crate::act::ActError;
use futures::{StreamExt as _, stream};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// No write is begun later than this after the first could be, …
const BEGIN_WITHIN: Duration = Duration::from_secs(3);
/// … and what has no answer by then is given up: whether it was carried out is seen later.
const OVER_AFTER: Duration = Duration::from_secs(8);

/// When the time of some writes is over: those of plans, and later those of statuses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    begin_until: Instant,
    over: Instant,
}

impl Deadline {
    /// The deadline of writes that may begin now.
    pub(super) fn from_now() -> Self {
        let now = Instant::now();
        Self { begin_until: now + BEGIN_WITHIN, over: now + OVER_AFTER }
    }

    /// Whether nothing more is begun.
    pub(super) fn has_passed(&self) -> bool {
        Instant::now() >= self.begin_until
    }

    /// Writes, if it is not too late to begin, and gives up when time is over.
    pub(super) async fn within<T>(&self, write: impl Future<Output = Result<T, ActError>>) -> Result<T, ActError> {
        if self.has_passed() {
            return Err(ActError::OutOfTime);
        }
        timeout_at(self.over, write).await.unwrap_or(Err(ActError::OutOfTime))
    }
}

/// Makes these writes, so many of them at a time, begun in their order. The answers come in that order too.
pub(super) async fn side_by_side<T>(at_once: usize, writes: Vec<impl Future<Output = T>>) -> Vec<T> {
    stream::iter(writes).buffered(at_once).collect().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    #[tokio::test(start_paused = true)]
    async fn writes_run_side_by_side_within_bounds_and_none_begins_late() {
        let (running, most, done) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        let deadline = Deadline::from_now();
        let began = Instant::now();
        let write = async |_: usize| {
            most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
            tokio::time::sleep(Duration::from_secs(1)).await;
            running.fetch_sub(1, SeqCst);
            done.fetch_add(1, SeqCst);
            Ok(())
        };
        let writes: Vec<_> = (0..100).map(|index| deadline.within(write(index))).collect();
        let answers = side_by_side(8, writes).await;
        assert_eq!((most.load(SeqCst), done.load(SeqCst)), (8, 24));
        assert_eq!(began.elapsed(), BEGIN_WITHIN, "the others did not begin");
        let written: Vec<bool> = answers.iter().map(Result::is_ok).collect();
        assert!(written[..24].iter().all(|written| *written) && !written[24..].contains(&true), "in their order");
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_hangs_is_given_up() {
        let began = Instant::now();
        let answer = Deadline::from_now().within(std::future::pending::<Result<(), ActError>>()).await;
        assert!(matches!(answer, Err(ActError::OutOfTime)));
        assert_eq!(began.elapsed(), OVER_AFTER);
    }
}
