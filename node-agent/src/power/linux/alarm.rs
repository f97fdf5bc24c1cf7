//! The alarm of the machine's clock: the dead man's switch of every sleep (Documentation/ABI/testing/sysfs-class-rtc).
//!
//! Machines have several clocks: many boards with a clock of their own beside the processor's name the one without an
//! alarm, or without power in sleep, `rtc0`. The clock that can wake the machine is used, whatever its number.

use super::files::Files;
use crate::power::{host::HostError, preflight::Alarm};
use std::time::Duration;

const CLOCKS: &str = "sys/class/rtc";

#[derive(Debug, Clone)]
pub(super) struct RtcAlarm {
    files: Files,
}

/// The files of one clock.
struct Clock {
    wake_alarm: String,
    since_epoch: String,
    may_wake: String,
}

impl Clock {
    fn named(name: &str) -> Self {
        let file = |below: &str| format!("{CLOCKS}/{name}/{below}");
        Self { wake_alarm: file("wakealarm"), since_epoch: file("since_epoch"), may_wake: file("device/power/wakeup") }
    }
}

impl RtcAlarm {
    pub(super) fn new(files: Files) -> Self {
        Self { files }
    }

    /// The clock whose alarm is used: of those that have one, one that may wake the machine, else one that can be allowed
    /// to, else the first.
    fn clock(&self) -> Option<Clock> {
        let number = |name: &str| name.strip_prefix("rtc").and_then(|number| number.parse::<u32>().ok());
        let names = self.files.names(CLOCKS);
        let mut numbers: Vec<_> = names.iter().filter_map(|name| number(name)).collect();
        numbers.sort_unstable();
        let clocks = numbers.into_iter().map(|number| Clock::named(&format!("rtc{number}")));
        let worth = |clock: &Clock| match self.files.optional(&clock.may_wake).as_deref() {
            Some("enabled") => 0,
            Some("disabled") => 1,
            _ => 2,
        };
        clocks.filter(|clock| self.files.exists(&clock.wake_alarm)).min_by_key(worth)
    }

    fn the_clock(&self) -> Result<Clock, HostError> {
        let path = self.files.path(CLOCKS);
        let missing = || HostError::Unexpected {
            path,
            found: "no clock with an alarm".to_owned(),
            expected: "a clock with a file wakealarm".to_owned(),
        };
        self.clock().ok_or_else(missing)
    }

    pub(super) fn ability(&self) -> Alarm {
        match self.clock() {
            None => Alarm::Missing,
            Some(clock) => match self.files.optional(&clock.may_wake).as_deref() {
                Some("enabled") => Alarm::Armed,
                _ => Alarm::MayNotWake,
            },
        }
    }

    pub(super) fn let_it_wake(&self) -> Result<(), HostError> {
        self.files.write(&self.the_clock()?.may_wake, "enabled")
    }

    /// Sets it by the clock's own time, which may be local time, and reads it back: some clocks know no date.
    pub(super) fn set(&self, after: Duration) -> Result<(), HostError> {
        let clock = self.the_clock()?;
        // A second alarm is refused (EBUSY) before the first is cleared.
        self.files.write(&clock.wake_alarm, "0")?;
        let at = self.files.number(&clock.since_epoch)?.saturating_add(after.as_secs().max(1));
        self.files.write(&clock.wake_alarm, &at.to_string())?;
        let set = self.files.read(&clock.wake_alarm)?;
        if set == at.to_string() {
            return Ok(());
        }
        let (path, expected) = (self.files.path(&clock.wake_alarm), format!("{at}, the alarm just set"));
        Err(HostError::Unexpected { path, found: set, expected })
    }

    /// Takes it back. True when it has gone off: then it is empty already, or the clock has passed it.
    pub(super) fn clear(&self) -> Result<bool, HostError> {
        let clock = self.the_clock()?;
        let set = self.files.read(&clock.wake_alarm)?;
        let now = self.files.number(&clock.since_epoch)?;
        let gone_off = set.parse::<u64>().map_or(true, |at| now >= at);
        self.files.write(&clock.wake_alarm, "0")?;
        Ok(gone_off)
    }
}
