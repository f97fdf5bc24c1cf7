//! The real machine, through the files of Linux.

mod alarm;
mod cards;
mod files;
mod kubelet;
mod power_off;
mod processes;

use super::{
    host::{Host, HostError, Machine},
    preflight::{Alarm, Facts},
};
use alarm::RtcAlarm;
use files::Files;
use rustix::time::{ClockId, clock_gettime};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{task::spawn_blocking, time::timeout};

pub use kubelet::KubeletProbe;

const STATE: &str = "sys/power/state";
const MEM_SLEEP: &str = "sys/power/mem_sleep";
const SYSTEM_BUS: &str = "run/dbus/system_bus_socket";
const WAKEUP_COUNT: &str = "sys/power/wakeup_count";

/// So many devices that may wake the machine are looked at; a server has some dozens.
const MOST_WAKEUP_DEVICES: usize = 512;

/// How long a wake-up event may be handled before the suspend is given up.
const LONGEST_EVENT: Duration = Duration::from_secs(5);

/// A machine that runs Linux.
#[derive(Debug, Clone)]
pub struct LinuxHost {
    files: Files,
    alarm: RtcAlarm,
    kubelet: KubeletProbe,
}

impl LinuxHost {
    /// The machine whose `proc`, `sys` and `run` are below `root`: `/`, or a folder of fixtures.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>, kubelet: KubeletProbe) -> Self {
        let files = Files::new(root.into());
        Self { alarm: RtcAlarm::new(files.clone()), files, kubelet }
    }

    /// Whether the file can be opened for writing, which changes nothing.
    fn is_writable(path: &Path) -> bool {
        std::fs::OpenOptions::new().write(true).open(path).is_ok()
    }
}

impl Host for LinuxHost {
    fn machine(&self) -> Result<Machine, HostError> {
        let boot_id = self.files.read("proc/sys/kernel/random/boot_id")?;
        Ok(Machine { boot_id, asleep: asleep_since_boot() })
    }

    fn facts(&self) -> Result<Facts, HostError> {
        Ok(Facts {
            qemu: processes::of_qemu(&self.files)?,
            states: self.files.words(STATE),
            mem_sleep: self.files.words(MEM_SLEEP).iter().map(|word| unbracketed(word).to_owned()).collect(),
            pm_test: chosen(&self.files.words("sys/power/pm_test")),
            writable: Self::is_writable(&self.files.path(STATE)),
            logind: self.files.path(SYSTEM_BUS).exists(),
            alarm: self.alarm.ability(),
            network_cards: cards::network_cards(&self.files),
        })
    }

    fn choose_deep(&self) -> Result<(), HostError> {
        let before = self.files.words(MEM_SLEEP);
        if chosen(&before).as_deref() != Some("deep") {
            self.files.write(MEM_SLEEP, "deep")?;
        }
        let after = self.files.words(MEM_SLEEP);
        if chosen(&after).as_deref() == Some("deep") {
            return Ok(());
        }
        let (path, found) = (self.files.path(MEM_SLEEP), after.join(" "));
        Err(HostError::Unexpected { path, found, expected: "[deep] to be chosen".into() })
    }

    fn set_alarm(&self, after: Duration) -> Result<(), HostError> {
        if self.alarm.ability() == Alarm::MayNotWake {
            self.alarm.let_it_wake()?;
        }
        self.alarm.set(after)
    }

    fn clear_alarm(&self) -> Result<bool, HostError> {
        self.alarm.clear()
    }

    async fn wakeup_count(&self) -> Result<u64, HostError> {
        let files = self.files.clone();
        let read = timeout(LONGEST_EVENT, spawn_blocking(move || files.number(WAKEUP_COUNT)));
        match read.await {
            Ok(Ok(count)) => count,
            Ok(Err(_)) | Err(_) => {
                Err(HostError::TimedOut { what: "the handling of a wake-up event", limit: LONGEST_EVENT })
            }
        }
    }

    fn confirm_wakeup_count(&self, count: u64) -> Result<bool, HostError> {
        match self.files.write(WAKEUP_COUNT, &count.to_string()) {
            Ok(()) => Ok(true),
            // EINVAL: an event has come, or is being handled.
            Err(HostError::Write { source, .. }) if source.raw_os_error() == Some(EINVAL) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn enter_mem(&self) -> Result<(), HostError> {
        let files = self.files.clone();
        // The write returns after the resume: on a thread of its own.
        match spawn_blocking(move || files.write(STATE, "mem")).await {
            Ok(written) => written,
            Err(error) => Err(HostError::Shutdown(format!("the thread that suspends ended early: {error}"))),
        }
    }

    fn wake_source(&self) -> Option<String> {
        // Reading fails with ENODATA when it was no interrupt.
        let irq = self.files.number("sys/power/pm_wakeup_irq").ok()?;
        let device = self.files.optional(&format!("sys/kernel/irq/{irq}/actions")).filter(|device| !device.is_empty());
        Some(match device {
            Some(device) => format!("interrupt {irq}, {device}"),
            None => format!("interrupt {irq}"),
        })
    }

    fn wakeup_events(&self) -> BTreeMap<String, u64> {
        let mut events = BTreeMap::new();
        for device in self.files.names("sys/class/wakeup").into_iter().take(MOST_WAKEUP_DEVICES) {
            let file = |name: &str| format!("sys/class/wakeup/{device}/{name}");
            let Ok(count) = self.files.number(&file("event_count")) else { continue };
            let name =
                self.files.optional(&file("name")).filter(|name| !name.is_empty()).unwrap_or_else(|| device.clone());
            // Several may have the same name.
            *events.entry(name.chars().take(64).collect()).or_default() += count;
        }
        events
    }

    async fn power_off(&self) -> Result<(), HostError> {
        power_off::through_logind(&self.files.path(SYSTEM_BUS)).await
    }

    async fn kubelet(&self) -> Result<(), String> {
        let probe = self.kubelet.clone();
        // It enters the node's network, which only a thread of its own may do.
        let (tell, answer) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            // Nobody listens any more when the agent gave up waiting.
            let _ = tell.send(probe.ask());
        });
        answer.await.unwrap_or_else(|_| Err("the probe ended early".into()))
    }
}

const EINVAL: i32 = rustix::io::Errno::INVAL.raw_os_error();

fn asleep_since_boot() -> Duration {
    let nanos = |clock| {
        let time = clock_gettime(clock);
        i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
    };
    // In this order the difference errs towards less sleep.
    let boottime = nanos(ClockId::Boottime);
    let monotonic = nanos(ClockId::Monotonic);
    Duration::from_nanos(u64::try_from(boottime - monotonic).unwrap_or(0))
}

fn unbracketed(word: &str) -> &str {
    word.trim_start_matches('[').trim_end_matches(']')
}

/// The one in brackets.
fn chosen(words: &[String]) -> Option<String> {
    words.iter().find(|word| word.starts_with('[')).map(|word| unbracketed(word).to_owned())
}

#[cfg(test)]
mod tests;
