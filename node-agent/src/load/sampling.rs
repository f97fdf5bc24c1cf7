//! The loop that samples once a second.

use super::{Capacity, FileError};
use crate::stream::{Newest, WallClock};
use miyako_api::wire::{
    SAMPLE_INTERVAL,
    load::{NodeSample, Usage, VmSample},
};
use std::{ops::RangeInclusive, path::PathBuf, time::Duration};
use tokio::time::{Instant, MissedTickBehavior, interval};

/// What was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// The whole node.
    pub usage: Usage,
    /// What the node can give.
    pub capacity: Capacity,
    /// What the node draws by its own counters, where it has some.
    pub watts: Option<f64>,
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

/// The shortest and the longest time between two readings that a sample may stand for. A reading that comes later
/// (the agent was stopped) says what was used on average over a time that nobody knows enough of.
const SAMPLE_STANDS_FOR: RangeInclusive<Duration> = Duration::from_millis(200)..=Duration::from_secs(3);

/// How much the wall clock may move against the monotonic one between two readings.
const CLOCKS_AGREE_WITHIN: Duration = Duration::from_millis(500);

/// When a reading was made, by both clocks.
#[derive(Debug, Clone, Copy)]
struct Moment {
    monotonic: Duration,
    wall_ms: i64,
}

/// How two readings lie to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// As they should.
    Steady,
    /// Too close or too far apart.
    OutOfStep,
    /// One clock moved without the other: the machine was suspended, or its clock was set.
    ClockJumped,
}

fn pace(before: Moment, now: Moment) -> Pace {
    let elapsed = now.monotonic.saturating_sub(before.monotonic);
    let by_wall = i128::from(now.wall_ms) - i128::from(before.wall_ms);
    let by_monotonic = i128::try_from(elapsed.as_millis()).unwrap_or(i128::MAX);
    if (by_wall - by_monotonic).unsigned_abs() > CLOCKS_AGREE_WITHIN.as_millis() {
        Pace::ClockJumped
    } else if SAMPLE_STANDS_FOR.contains(&elapsed) {
        Pace::Steady
    } else {
        Pace::OutOfStep
    }
}

/// Offers a sample of `node` to `newest` every second, for ever. A reading that fails offers none, so the operator
/// sees the node's load grow stale instead of believing an old figure. Nor does one around which a clock jumped, or
/// which came late: the next will do.
pub async fn sample_for_ever(mut reader: impl LoadReader, node: String, newest: Newest, clock: WallClock) {
    let mut ticks = interval(SAMPLE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let begun = Instant::now();
    // One that was started anew goes on above its predecessor, which counted a second at a time.
    let mut sequence = u64::try_from(clock()).unwrap_or(0);
    let mut before: Option<Moment> = None;
    let mut last_error = None;
    loop {
        ticks.tick().await;
        let now = Moment { monotonic: begun.elapsed(), wall_ms: clock() };
        let read = reader.read(now.monotonic);
        let pace = before.replace(now).map(|before| pace(before, now));
        if pace == Some(Pace::ClockJumped) {
            tracing::warn!("the clock was set or the machine was suspended; this second is not reported");
            newest.forget_past();
        }
        match read {
            Ok(measured) => {
                last_error = None;
                if let Some(Measured { usage, watts, vms, .. }) = measured.filter(|_| pace == Some(Pace::Steady)) {
                    sequence += 1;
                    newest.offer(NodeSample {
                        node: node.clone(),
                        sequence,
                        sampled_unix_ms: now.wall_ms,
                        sent_unix_ms: now.wall_ms,
                        usage: Some(usage),
                        watts,
                        vms,
                        ..NodeSample::default()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::newest;
    use proptest::prelude::*;
    use std::sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    };

    fn after(monotonic_ms: u64, wall_ms: i64) -> Pace {
        let before = Moment { monotonic: Duration::from_secs(5), wall_ms: 1_000_000 };
        let monotonic = before.monotonic + Duration::from_millis(monotonic_ms);
        pace(before, Moment { monotonic, wall_ms: before.wall_ms + wall_ms })
    }

    #[test]
    fn only_a_second_or_so_by_both_clocks_is_a_sample() {
        assert_eq!(after(1000, 1000), Pace::Steady);
        assert_eq!(after(2900, 2950), Pace::Steady);
        assert_eq!(after(100, 100), Pace::OutOfStep);
        assert_eq!(after(60_000, 60_000), Pace::OutOfStep);
        assert_eq!(after(1000, 3_600_000), Pace::ClockJumped, "suspended, or set forward");
        assert_eq!(after(1000, -5_000), Pace::ClockJumped, "set back");
    }

    proptest! {
        #[test]
        fn no_clock_makes_it_panic(monotonic in any::<u64>(), wall in any::<i64>(), before in any::<i64>()) {
            let before = Moment { monotonic: Duration::ZERO, wall_ms: before };
            pace(before, Moment { monotonic: Duration::from_millis(monotonic), wall_ms: wall });
        }
    }

    /// Says how many cores are in use, or fails.
    struct Scripted(std::vec::IntoIter<Option<f64>>);

    impl LoadReader for Scripted {
        fn read(&mut self, _: Duration) -> Result<Option<Measured>, ReadError> {
            let next = self.0.next().unwrap_or(Some(0.0));
            let cpu_cores = next.ok_or_else(|| ReadError::NoGroups("/nowhere".into()))?;
            let usage = Usage { cpu_cores, ..Usage::default() };
            Ok(Some(Measured { usage, capacity: Capacity { cores: 1.0, memory: None }, watts: None, vms: Vec::new() }))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_reading_and_a_set_clock_leave_gaps() {
        let newest = newest();
        let mut samples = newest.reader();
        let (begun, off_by) = (Instant::now(), Arc::new(AtomicI64::new(0)));
        let clock: WallClock = {
            let off_by = Arc::clone(&off_by);
            let elapsed = move || i64::try_from(begun.elapsed().as_millis()).unwrap();
            Arc::new(move || elapsed() + off_by.load(Ordering::Relaxed))
        };
        let script = vec![Some(0.0), Some(1.0), None, Some(3.0), Some(4.0), Some(5.0)];
        let reader = Scripted(script.into_iter());
        tokio::spawn(sample_for_ever(reader, "n".to_owned(), newest, clock));
        let mut cores = Vec::new();
        while cores.len() < 3 {
            let sample = samples.next().await.unwrap();
            cores.push(sample.usage.unwrap().cpu_cores);
            if sample.sequence == 2 {
                off_by.store(7_200_000, Ordering::Relaxed);
            }
        }
        assert_eq!(cores, [1.0, 3.0, 5.0], "the first has nothing to compare with, the third failed, the clock jumped");
    }
}
