//! The loop that samples once a second.

use super::{Capacity, FileError};
use crate::stream::{Newest, WallClock};
use miyako_api::wire::{
    SAMPLE_INTERVAL,
    load::{NodeSample, Usage, VmSample},
};
use std::{path::PathBuf, time::Duration};
use tokio::time::{Instant, MissedTickBehavior, interval};

/// What was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// The whole node.
    pub usage: Usage,
    /// What the node can give.
    pub capacity: Capacity,
    /// The VMs on it.
    pub vms: Vec<VmSample>,
}

/// Why nothing could be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A file could not be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file does not look as the kernel writes it.
    #[error("{} does not look as expected: {what}", .path.display())]
    Format {
        /// Which.
        path: PathBuf,
        /// What is missing.
        what: &'static str,
    },
    /// The node is a control group, and there are none.
    #[error("{} holds no control groups; name their mount with --cgroup", .0.display())]
    NoGroups(PathBuf),
}

/// A source of figures about this node.
pub trait LoadReader: Send {
    /// What was in use since the reading before, at `now` on a monotonic clock of any origin. The first reading has
    /// nothing to compare with and yields `None`.
    ///
    /// # Errors
    /// When a figure can't be had; none is ever made up.
    fn read(&mut self, now: Duration) -> Result<Option<Measured>, ReadError>;
}

/// Offers a sample of `node` to `newest` every second, for ever. A reading that fails offers none, so the operator
/// sees the node's load grow stale instead of believing an old figure.
pub async fn sample_for_ever(mut reader: impl LoadReader, node: String, newest: Newest, clock: WallClock) {
    let mut ticks = interval(SAMPLE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let begun = Instant::now();
    let mut sequence = 0;
    let mut last_error = None;
    loop {
        ticks.tick().await;
        match reader.read(begun.elapsed()) {
            Ok(measured) => {
                last_error = None;
                if let Some(Measured { usage, vms, .. }) = measured {
                    sequence += 1;
                    let now = clock();
                    newest.offer(NodeSample {
                        node: node.clone(),
                        sequence,
                        sampled_unix_ms: now,
                        sent_unix_ms: now,
                        usage: Some(usage),
                        vms,
                    });
                }
            }
            // Said once, not every second.
            Err(error) if last_error.as_ref() == Some(&error.to_string()) => {}
            Err(error) => {
                tracing::error!(%error, "could not measure; nothing is reported until this is mended");
                last_error = Some(error.to_string());
            }
        }
    }
}
