//! Schedules: whether a policy may act now, and when that changes.

use cronexpr::{Crontab, MakeTimestamp};
use miyako_api::consolidation_policy::Schedule;
use miyako_core::model::{Span, Timestamp};

/// Why a schedule can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// The expression or the time zone.
    #[error(
        "{cron:?} in time zone {zone:?} is no cron schedule ({detail}); write five fields such as 0 22 * * 1-5, and an IANA time zone such as Europe/Berlin"
    )]
    Cron {
        /// What was written.
        cron: String,
        /// The time zone.
        zone: String,
        /// What the parser says.
        detail: String,
    },
    /// The duration.
    #[error("{0:?} is no duration of a schedule; write one between 1m and 168h")]
    Duration(String),
}

/// A time in which a policy may act.
#[derive(Debug, Clone)]
pub struct Window {
    cron: Crontab,
    lasts: Span,
}

/// Whether a moment lies inside some window, and when that changes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InSchedule {
    /// It does.
    pub inside: bool,
    /// When that changes; none if it never does, as far as cron can be looked ahead.
    pub changes: Option<Timestamp>,
}

/// How many windows that touch each other are followed to find the end of their chain. One that goes on beyond is
/// looked at again when the last window found ends.
const LONGEST_CHAIN: usize = 400;

impl Window {
    /// Reads a schedule.
    ///
    /// # Errors
    /// Refuses what is no cron expression, time zone or duration.
    pub fn read(schedule: &Schedule) -> Result<Self, ScheduleError> {
        let (cron, zone) = (schedule.cron.trim(), schedule.time_zone.trim());
        let shown = |text: &str| text.chars().take(128).collect::<String>();
        let refused = |detail: String| ScheduleError::Cron { cron: shown(cron), zone: shown(zone), detail };
        if cron.len() > 128 || cron.split_whitespace().count() != 5 || zone.split_whitespace().count() != 1 {
            return Err(refused("not five fields and one time zone".into()));
        }
        let cron = cronexpr::parse_crontab(&format!("{cron} {zone}")).map_err(|error| refused(error.to_string()))?;
        let lasts = schedule.duration.get().map_err(|_| ScheduleError::Duration(shown(schedule.duration.as_str())))?;
        let allowed = Span::from_secs(60)..=Span::from_secs(168 * 3600);
        if !allowed.contains(&lasts) {
            return Err(ScheduleError::Duration(shown(schedule.duration.as_str())));
        }
        Ok(Self { cron, lasts })
    }

    fn begins_after(&self, moment: Timestamp) -> Option<Timestamp> {
        let moment = MakeTimestamp::from_millisecond(moment.millis()).ok()?;
        let next = self.cron.find_next(moment).ok()?;
        Some(Timestamp::from_millis(next.timestamp().as_millisecond()))
    }

    /// The end of the last window that has begun by `now` and is not over.
    fn open_until(&self, now: Timestamp) -> Option<Timestamp> {
        let mut last = None;
        let mut from = now - self.lasts;
        for _ in 0..LONGEST_CHAIN {
            match self.begins_after(from) {
                Some(begin) if begin <= now => {
                    last = Some(begin + self.lasts);
                    from = begin;
                }
                _ => break,
            }
        }
        last
    }
}

/// Where `now` lies among the windows. No window at all means always.
#[must_use]
pub fn evaluate(windows: &[Window], now: Timestamp) -> InSchedule {
    if windows.is_empty() {
        return InSchedule { inside: true, changes: None };
    }
    let open_until = |moment| windows.iter().filter_map(|window| window.open_until(moment)).max();
    let Some(mut end) = open_until(now) else {
        return InSchedule {
            inside: false,
            changes: windows.iter().filter_map(|window| window.begins_after(now)).min(),
        };
    };
    for _ in 0..LONGEST_CHAIN {
        match open_until(end) {
            Some(later) if later > end => end = later,
            _ => break,
        }
    }
    InSchedule { inside: true, changes: Some(end) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(cron: &str, lasts: &str, zone: &str) -> Result<Window, ScheduleError> {
        Window::read(&Schedule { name: "s".into(), cron: cron.into(), duration: lasts.into(), time_zone: zone.into() })
    }

    fn at(text: &str) -> Timestamp {
        Timestamp::from_millis(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
    }

    #[test]
    fn a_night_begins_and_ends_in_its_own_time_zone() {
        let night = [window("0 22 * * 1-5", "8h", "Europe/Berlin").unwrap()];
        let inside = |text| evaluate(&night, at(text));
        // Friday 2026-11-20 22:00 in Berlin is 21:00 UTC.
        assert_eq!(
            inside("2026-11-20T20:59:59Z"),
            InSchedule { inside: false, changes: Some(at("2026-11-20T21:00:00Z")) }
        );
        assert_eq!(
            inside("2026-11-20T21:00:00Z"),
            InSchedule { inside: true, changes: Some(at("2026-11-21T05:00:00Z")) }
        );
        assert_eq!(
            inside("2026-11-21T05:00:00Z"),
            InSchedule { inside: false, changes: Some(at("2026-11-23T21:00:00Z")) }
        );
    }

    #[test]
    fn windows_that_touch_are_one() {
        let day = [window("0 8 * * *", "2h", "UTC").unwrap(), window("0 10 * * *", "1h", "UTC").unwrap()];
        let state = evaluate(&day, at("2026-11-20T09:00:00Z"));
        assert_eq!(state, InSchedule { inside: true, changes: Some(at("2026-11-20T11:00:00Z")) });
        let always = [window("* * * * *", "1h", "UTC").unwrap()];
        assert!(evaluate(&always, at("2026-11-20T09:00:00Z")).inside);
        assert_eq!(evaluate(&[], at("2026-11-20T09:00:00Z")), InSchedule { inside: true, changes: None });
    }

    #[test]
    fn nonsense_says_what_to_write() {
        for (cron, lasts, zone) in [
            ("", "1h", "UTC"),
            ("@daily", "1h", "UTC"),
            ("61 * * * *", "1h", "UTC"),
            ("0 22 * * *", "1h", "Atlantis/Capital"),
            ("0 22 * * *", "1h", ""),
            ("0 22 * * *", "soon", "UTC"),
            ("0 22 * * *", "1s", "UTC"),
            ("0 22 * * *", "9999h", "UTC"),
        ] {
            let message = window(cron, lasts, zone).unwrap_err().to_string();
            assert!(message.contains("write"), "{message}");
        }
        // A day that never comes opens no window and never changes.
        let never = [window("0 0 30 2 *", "1h", "UTC").unwrap()];
        assert_eq!(evaluate(&never, at("2026-11-20T09:00:00Z")), InSchedule { inside: false, changes: None });
    }
}
