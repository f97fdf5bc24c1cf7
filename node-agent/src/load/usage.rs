//! From counters to usage: what was used between two readings. Pure; where the counters make no sense there is no
//! figure, never a guess.

use super::{
    interfaces::Interfaces,
    kernel_text::proc::{CpuTicks, Traffic},
};
use miyako_api::wire::load::Usage;
use std::time::Duration;

/// No machine gives more CPU than it has. A little more is measured now and then, because the kernel's counters
/// and our clock are not read in one instant.
const MOST_TIMES_MACHINE: f64 = 1.25;

/// CPU time used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cpu {
    /// Nanoseconds, of a control group.
    Nanos(u64),
    /// Ticks of the whole machine. Busy ones as a share of all need no clock.
    Ticks(CpuTicks),
}

/// Time that tasks were ready and waited for a core.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Waits {
    /// Nanoseconds of single tasks, by id: tasks come and go.
    OfTasks(Vec<(u32, u64)>),
    /// Nanoseconds of all tasks of the machine.
    OfAll(u64),
}

/// What the kernel counted up to a moment. A figure that it does not keep is absent.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Counters {
    pub(super) cpu: Cpu,
    /// In use now, in bytes; no counter.
    pub(super) memory: Option<u64>,
    /// Bytes of each interface.
    pub(super) network: Option<Interfaces>,
    /// Bytes of all disks.
    pub(super) disk: Option<Traffic>,
    pub(super) waits: Option<Waits>,
    /// Nanoseconds that a quota held the group back.
    pub(super) throttled: Option<u64>,
    /// Microseconds in which some task waited, for CPU, memory and disks (PSI).
    pub(super) pressure: Pressure,
}

/// PSI totals in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Pressure {
    pub(super) cpu: Option<u64>,
    pub(super) memory: Option<u64>,
    pub(super) io: Option<u64>,
}

/// What was used between two readings `elapsed` apart on a machine with `cpus`. None where the CPU figure makes no
/// sense: without it a sample is nothing. Any other figure is left out alone.
pub(super) fn usage(before: &Counters, after: &Counters, elapsed: Duration, cpus: u32) -> Option<Usage> {
    let seconds = elapsed.as_secs_f64();
    if seconds <= 0.0 {
        return None;
    }
    let rate = |before: Option<u64>, after: Option<u64>| Some(grown(before?, after?)? as f64 / seconds);
    let share = |before, after| rate(before, after).map(|micros| (micros / 1e6).min(1.0));
    let cpu_cores =
        cpu(before.cpu, after.cpu, seconds).filter(|cores| *cores <= f64::from(cpus) * MOST_TIMES_MACHINE)?;
    let cpu_pressure = share(before.pressure.cpu, after.pressure.cpu);
    let network = traffic_of_interfaces(before.network.as_deref(), after.network.as_deref());
    let disk = before.disk.zip(after.disk).and_then(|(before, after)| traffic_grown(before, after));
    let per_second = |bytes: u64| bytes as f64 / seconds;
    // Waiting tasks tell it exactly. Without them, that a quota held the group back or that some task waited says at
    // least how much it was; that no quota did says nothing.
    let throttled = rate(before.throttled, after.throttled).filter(|nanos| *nanos > 0.0).map(|nanos| nanos / 1e9);
    let at_least = throttled.into_iter().chain(cpu_pressure).reduce(f64::max);
    let waited = before.waits.as_ref().zip(after.waits.as_ref()).and_then(|(before, after)| waited(before, after));
    Some(Usage {
        cpu_cores,
        memory_bytes: after.memory,
        network_receive_bytes_per_second: network.map(|traffic| per_second(traffic.inward)),
        network_transmit_bytes_per_second: network.map(|traffic| per_second(traffic.outward)),
        disk_read_bytes_per_second: disk.map(|traffic| per_second(traffic.inward)),
        disk_write_bytes_per_second: disk.map(|traffic| per_second(traffic.outward)),
        cpu_wait_cores: waited.map(|nanos| nanos as f64 / 1e9 / seconds).or(at_least),
        cpu_pressure,
        memory_pressure: share(before.pressure.memory, after.pressure.memory),
        io_pressure: share(before.pressure.io, after.pressure.io),
    })
}

fn cpu(before: Cpu, after: Cpu, seconds: f64) -> Option<f64> {
    match (before, after) {
        (Cpu::Nanos(before), Cpu::Nanos(after)) => Some(grown(before, after)? as f64 / 1e9 / seconds),
        (Cpu::Ticks(before), Cpu::Ticks(after)) => {
            let (busy, all) = (grown(before.busy, after.busy)?, grown(before.all, after.all)?);
            (all > 0).then(|| (busy as f64 / all as f64).min(1.0) * f64::from(after.cpus))
        }
        _ => None,
    }
}

/// By how much a counter grew; none if it went back: it wrapped, or began anew.
fn grown(before: u64, after: u64) -> Option<u64> {
    after.checked_sub(before)
}

fn traffic_grown(before: Traffic, after: Traffic) -> Option<Traffic> {
    Some(Traffic { inward: grown(before.inward, after.inward)?, outward: grown(before.outward, after.outward)? })
}

/// What went through all interfaces. One that is new brings bytes from before it came here, so it counts from the
/// next reading on; one that is gone took its last bytes along.
fn traffic_of_interfaces(
    before: Option<&[(Box<str>, Traffic)]>,
    after: Option<&[(Box<str>, Traffic)]>,
) -> Option<Traffic> {
    let (before, after) = (before?, after?);
    after.iter().try_fold(Traffic::default(), |sum, (name, now)| {
        let Some((_, then)) = before.iter().find(|(known, _)| known == name) else { return Some(sum) };
        let grown = traffic_grown(*then, *now)?;
        Some(Traffic {
            inward: sum.inward.saturating_add(grown.inward),
            outward: sum.outward.saturating_add(grown.outward),
        })
    })
}

fn waited(before: &Waits, after: &Waits) -> Option<u64> {
    match (before, after) {
        (Waits::OfAll(before), Waits::OfAll(after)) => grown(*before, *after),
        (Waits::OfTasks(before), Waits::OfTasks(after)) => after.iter().try_fold(0_u64, |sum, (task, now)| {
            let Some((_, then)) = before.iter().find(|(known, _)| known == task) else { return Some(sum) };
            Some(sum.saturating_add(grown(*then, *now)?))
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
