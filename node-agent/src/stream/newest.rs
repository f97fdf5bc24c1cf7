//! A buffer of the newest few samples: whoever is slow misses the oldest.

use miyako_api::wire::load::NodeSample;
use std::sync::Arc;
use tokio::sync::broadcast;

/// Samples that wait for a replica. Older ones would be refused as stale when they arrive.
const KEPT: usize = 2;

/// Where samples go in. Cloning is cheap; all clones feed the same readers.
#[derive(Debug, Clone)]
pub struct Newest(broadcast::Sender<Arc<NodeSample>>);

/// A buffer without readers yet.
#[must_use]
pub fn newest() -> Newest {
    Newest(broadcast::Sender::new(KEPT))
}

impl Newest {
    /// Offers a sample to all readers; with none it is gone.
    pub fn offer(&self, sample: NodeSample) {
        // An error says that nobody reads just now, which is no error here.
        drop(self.0.send(Arc::new(sample)));
    }

    /// A reader of what is offered from now on.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader { samples: self.0.subscribe(), dropped: 0 }
    }
}

/// One reader of the newest samples.
#[derive(Debug)]
pub struct Reader {
    samples: broadcast::Receiver<Arc<NodeSample>>,
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
}
