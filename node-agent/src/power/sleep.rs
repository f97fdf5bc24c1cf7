//! One sleep, from a machine that is ready to one that is awake again: the order of calls that the kernel's
//! documentation asks for (Documentation/ABI/testing/sysfs-power, `wakeup_count`).
//!
//! ```text
//!  deep ─▶ alarm ─▶ read wakeup_count ─▶ look again ─▶ write it back ─▶ mem ─▶ … ─▶ how long, and why awake
//!                          ▲                                │ an event came meanwhile
//!                          └────────────────────────────────┘ (a few times)
//! ```
//!
//! A write of `mem` that returns without an error proves nothing: a machine whose wake-up line is stuck "resumes" at
//! once. The proof is that CLOCK_BOOTTIME ran ahead of CLOCK_MONOTONIC.

use super::{
    host::{Host, HostError},
    preflight::Obstacle,
};
use miyako_api::node_power::WokenBy;
use std::{collections::BTreeMap, time::Duration};

/// The least that a sleep must measure to count as one. The kernel takes the length of a sleep from the machine's
/// clock, which knows whole seconds, so a sleep of nothing may measure up to one.
pub const LEAST_SLEEP: Duration = Duration::from_millis(1_500);

/// As many devices are named as could have woken the machine.
const MOST_NAMED: usize = 4;

/// As many characters are kept of what woke the machine, as the schema has it.
const LONGEST_SOURCE: usize = 256;

/// How often a suspend is tried anew because a wake-up event came in between.
const TRIES: u32 = 5;

/// A sleep that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slept {
    /// How long.
    pub asleep: Duration,
    /// What woke the machine.
    pub by: WokenBy,
    /// What the kernel knows of it.
    pub source: Option<String>,
}

/// A sleep that did not come about. The machine is awake and its alarm is off.
#[derive(Debug, thiserror::Error)]
pub enum SleepError {
    /// It was given up before `mem` was written.
    #[error("given up at the last moment: {0}")]
    GivenUp(String),
    /// Something came up before `mem` was written.
    #[error("given up at the last moment: {0}")]
    Obstacle(Obstacle),
    /// Wake-up events kept coming.
    #[error(
        "wake-up events kept coming ({TRIES} tries{}): see /sys/class/wakeup/*/event_count for the device, and disable it in /proc/acpi/wakeup if it should not wake the machine",
        .by.as_ref().map_or_else(String::new, |by| format!(", from {by}"))
    )]
    KeptAwake {
        /// The devices that reported them, if the kernel names them.
        by: Option<String>,
    },
    /// The machine refused.
    #[error("{}", .0.in_full())]
    Host(#[from] HostError),
    /// The kernel says that it slept, but no time passed.
    #[error(
        "did not sleep: the kernel reported success but only {} ms passed, so something woke it at once{}; see /sys/power/suspend_stats and /sys/class/wakeup",
        .measured.as_millis(), .by.as_ref().map_or_else(String::new, |by| format!(" ({by})"))
    )]
    DidNotSleep {
        /// What was measured.
        measured: Duration,
        /// What the kernel knows of the interrupt.
        by: Option<String>,
    },
}

impl SleepError {
    /// Whether the machine failed, rather than that the sleep was not wanted any more.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        !matches!(self, Self::GivenUp(_) | Self::Obstacle(_))
    }
}

/// Sleeps until something wakes the machine, `alarm` from now at the latest. `look_again` is asked last of all before
/// the point of no return; what it says in a refusal is passed on.
///
/// # Errors
/// When the machine did not sleep. The alarm is taken back then.
pub async fn sleep<H: Host>(
    host: &H,
    alarm: Duration,
    look_again: impl Fn() -> Result<(), SleepError>,
) -> Result<Slept, SleepError> {
    host.choose_deep()?;
    host.set_alarm(alarm)?;
    let before = host.wakeup_events();
    let slept = enter(host, look_again).await;
    let by_alarm = host.clear_alarm();
    let devices = woken(&before, &host.wakeup_events());
    let (asleep, entered) = slept.map_err(|error| match error {
        SleepError::KeptAwake { .. } => SleepError::KeptAwake { by: devices.clone() },
        other => other,
    })?;
    let said = [host.wake_source(), devices.map(|devices| format!("wake-up events of {devices}"))];
    let said: Vec<_> = said.into_iter().flatten().collect();
    let source = (!said.is_empty()).then(|| said.join("; ").chars().take(LONGEST_SOURCE).collect());
    if asleep < LEAST_SLEEP {
        entered?;
        return Err(SleepError::DidNotSleep { measured: asleep, by: source });
    }
    let by = match by_alarm {
        Ok(true) => WokenBy::Alarm,
        Ok(false) => WokenBy::Request,
        Err(_) => WokenBy::Unknown,
    };
    Ok(Slept { asleep, by, source })
}

/// How long it slept, and what the kernel said.
async fn enter<H: Host>(
    host: &H,
    look_again: impl Fn() -> Result<(), SleepError>,
) -> Result<(Duration, Result<(), HostError>), SleepError> {
    for _ in 0..TRIES {
        let count = host.wakeup_count().await?;
        look_again()?;
        let before = host.machine()?.asleep;
        if !host.confirm_wakeup_count(count)? {
            continue;
        }
        tracing::info!("writing mem: the machine sleeps");
        let entered = host.enter_mem().await;
        tracing::info!("mem has returned: the machine is awake");
        let asleep = host.machine()?.asleep.saturating_sub(before);
        return Ok((asleep, entered));
    }
    Err(SleepError::KeptAwake { by: None })
}

/// The devices that reported wake-up events meanwhile.
fn woken(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> Option<String> {
    let more = after.iter().filter(|(name, events)| before.get(*name).is_none_or(|before| before < events));
    let names: Vec<_> = more.map(|(name, _)| name.as_str()).take(MOST_NAMED).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_devices_whose_events_grew_are_named() {
        let counts = |counts: &[(&str, u64)]| counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        let before: BTreeMap<_, _> = counts(&[("LNXPWRBN:00", 2), ("0000:00:14.0", 7), ("alarmtimer", 1)]);
        assert_eq!(woken(&before, &before), None);
        let after = counts(&[("LNXPWRBN:00", 2), ("0000:00:14.0", 9), ("alarmtimer", 0), ("eno1", 1)]);
        assert_eq!(woken(&before, &after).as_deref(), Some("0000:00:14.0, eno1"));
        let error = SleepError::KeptAwake { by: Some("eno1".into()) }.to_string();
        assert!(error.starts_with("wake-up events kept coming (5 tries, from eno1): see"), "{error}");
    }
}
