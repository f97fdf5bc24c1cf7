//! The alarm of the machine's clock: the dead man's switch of every sleep (Documentation/ABI/testing/sysfs-class-rtc).

use super::files::Files;
use crate::power::{host::HostError, preflight::Alarm};
use std::time::Duration;

const WAKE_ALARM: &str = "sys/class/rtc/rtc0/wakealarm";
const SINCE_EPOCH: &str = "sys/class/rtc/rtc0/since_epoch";
const MAY_WAKE: &str = "sys/class/rtc/rtc0/device/power/wakeup";

#[derive(Debug, Clone)]
pub(super) struct RtcAlarm {
    files: Files,
}

impl RtcAlarm {
    pub(super) fn new(files: Files) -> Self {
        Self { files }
    }

    pub(super) fn ability(&self) -> Alarm {
        if !self.files.exists(WAKE_ALARM) {
            return Alarm::Missing;
        }
        match self.files.optional(MAY_WAKE).as_deref() {
            Some("enabled") => Alarm::Armed,
            _ => Alarm::MayNotWake,
        }
    }

    pub(super) fn let_it_wake(&self) -> Result<(), HostError> {
        self.files.write(MAY_WAKE, "enabled")
    }

    /// Sets it by the clock's own time, which may be local time, and reads it back: some clocks know no date.
    pub(super) fn set(&self, after: Duration) -> Result<(), HostError> {
        // A second alarm is refused (EBUSY) before the first is cleared.
        self.files.write(WAKE_ALARM, "0")?;
        let at = self.files.number(SINCE_EPOCH)?.saturating_add(after.as_secs().max(1));
        self.files.write(WAKE_ALARM, &at.to_string())?;
        let set = self.files.read(WAKE_ALARM)?;
        if set == at.to_string() {
            return Ok(());
        }
        let (path, expected) = (self.files.path(WAKE_ALARM), format!("{at}, the alarm just set"));
        Err(HostError::Unexpected { path, found: set, expected })
    }

    /// Takes it back. True when it has gone off: then it is empty already, or the clock has passed it.
    pub(super) fn clear(&self) -> Result<bool, HostError> {
        let set = self.files.read(WAKE_ALARM)?;
        let now = self.files.number(SINCE_EPOCH)?;
        let gone_off = set.parse::<u64>().map_or(true, |at| now >= at);
        self.files.write(WAKE_ALARM, "0")?;
        Ok(gone_off)
    }
}
