//! What the kernel says of the operator's process.

use anyhow::Context as _;
use std::time::Duration;

/// Clock ticks per second in `/proc/<pid>/stat` (`USER_HZ`, 100 on every architecture that we run on).
const TICKS_PER_SECOND: f64 = 100.0;

/// A process's CPU time and memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    cpu_seconds: f64,
    /// Bytes resident.
    pub(crate) memory: u64,
    /// The most bytes that were resident at once.
    pub(crate) peak_memory: u64,
}

/// What was used over a time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spent {
    pub(crate) cpu_seconds: f64,
    pub(crate) seconds: f64,
    /// Bytes resident at its end.
    pub(crate) memory: u64,
}

impl Usage {
    pub(crate) fn of(pid: u32) -> anyhow::Result<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("the operator is gone")?;
        // The name, in brackets, may contain anything; fields 14 and 15 are user and system time.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or_default();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or_default()
        };
        Ok(Self {
            cpu_seconds: (ticks(11) + ticks(12)) / TICKS_PER_SECOND,
            memory: kib("VmRSS:") << 10,
            peak_memory: kib("VmHWM:") << 10,
        })
    }

    pub(crate) fn since(&self, before: &Self, time: Duration) -> Spent {
        Spent { cpu_seconds: self.cpu_seconds - before.cpu_seconds, seconds: time.as_secs_f64(), memory: self.memory }
    }
}
