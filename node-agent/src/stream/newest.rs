//! A buffer of the newest few samples: whoever is slow misses the oldest.

use super::{Past, SampleLog};
use miyako_api::wire::load::NodeSample;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::{sync::broadcast, time::Instant};

/// Samples that wait for a replica. Older ones would be refused as stale when they arrive.
const KEPT: usize = 2;

/// Where samples go in. Cloning is cheap; all clones feed the same readers.
#[derive(Debug, Clone)]
pub struct Newest {
    samples: broadcast::Sender<Arc<NodeSample>>,
    past: Option<SharedPast>,
    log: Option<SampleLog>,
}

type SharedPast = Arc<Mutex<Past>>;

/// A buffer without readers yet, which forgets what it has passed on.
#[must_use]
pub fn newest() -> Newest {
    Newest { samples: broadcast::Sender::new(KEPT), past: None, log: None }
}

/// A buffer without readers yet, whose new readers are told what came before.
#[must_use]
pub fn newest_with_past() -> Newest {
    Newest { past: Some(Arc::default()), ..newest() }
}

impl Newest {
    /// Notes in `log` when samples are taken, and tells it with them.
    #[must_use]
    pub fn timed_by(self, log: SampleLog) -> Self {
        Self { log: Some(log), ..self }
    }

    /// Offers a sample to all readers; with none it is gone, but for what is remembered of it.
    pub fn offer(&self, mut sample: NodeSample) {
        if let Some(log) = &self.log {
            sample.sampled_boot_ms = Some(millis(log.note(sample.sequence)));
        }
        if let Some(past) = &self.past {
            lock(past).note(&sample, Instant::now());
        }
        // An error says that nobody reads just now, which is no error here.
        drop(self.samples.send(Arc::new(sample)));
    }

    /// Forgets what came before: how long ago it was is known no more.
    pub fn forget_past(&self) {
        if let Some(past) = &self.past {
            *lock(past) = Past::default();
        }
    }

    /// A reader of what is offered from now on.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader { samples: self.samples.subscribe(), past: self.past.clone(), log: self.log.clone(), dropped: 0 }
    }
}

fn lock(past: &SharedPast) -> std::sync::MutexGuard<'_, Past> {
    past.lock().unwrap_or_else(PoisonError::into_inner)
}

fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// One reader of the newest samples.
#[derive(Debug)]
pub struct Reader {
    samples: broadcast::Receiver<Arc<NodeSample>>,
    past: Option<SharedPast>,
    log: Option<SampleLog>,
    dropped: u64,
}

impl Reader {
    /// The oldest sample that is still there, waiting for one if need be; `None` when no more will come.
    pub async fn next(&mut self) -> Option<Arc<NodeSample>> {
        loop {
            match self.samples.recv().await {
                Ok(sample) => return Some(sample),
                Err(broadcast::error::RecvError::Lagged(missed)) => self.dropped += missed,
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }

    /// Adds to a sample what came before it, the first time. Later it does nothing: the stream itself is the past.
    pub fn add_past(&mut self, sample: &mut NodeSample) {
        if let Some(past) = self.past.take() {
            lock(&past).add_to(sample);
        }
    }

    /// Says in a sample that it is put on the wire now.
    pub fn note_sent(&self, sample: &mut NodeSample) {
        sample.sent_boot_ms = self.log.as_ref().map(|log| millis(log.now()));
    }

    /// Samples that this reader missed because it was slow.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_reader_gets_the_newest_and_never_more_than_a_few() {
        let newest = newest();
        let mut reader = newest.reader();
        for sequence in 1..=100 {
            newest.offer(NodeSample { sequence, ..NodeSample::default() });
        }
        drop(newest);
        let mut got = Vec::new();
        while let Some(sample) = reader.next().await {
            got.push(sample.sequence);
        }
        assert_eq!(got, [99, 100]);
        assert_eq!(reader.dropped(), 98);
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_reader_learns_once_what_came_before() {
        let newest = newest_with_past();
        let offer =
            |sequence| newest.offer(NodeSample { sequence, usage: Some(Default::default()), ..Default::default() });
        offer(1);
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        let mut reader = newest.reader();
        offer(2);
        let mut first = Arc::unwrap_or_clone(reader.next().await.unwrap());
        reader.add_past(&mut first);
        assert_eq!((first.sequence, first.past_age_ms.as_slice()), (2, [1000].as_slice()));
        offer(3);
        let mut second = Arc::unwrap_or_clone(reader.next().await.unwrap());
        reader.add_past(&mut second);
        assert!(second.past_age_ms.is_empty());
        newest.forget_past();
        let mut other = newest.reader();
        offer(4);
        let mut first = Arc::unwrap_or_clone(other.next().await.unwrap());
        other.add_past(&mut first);
        assert!(first.past_age_ms.is_empty());
    }
}
