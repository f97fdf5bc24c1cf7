//! A machine for tests and simulations: it sleeps in tokio's time, until it is woken or its alarm goes off.

use super::{
    host::{Host, HostError, Machine},
    preflight::{Alarm, Facts},
};
use std::{
    io,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// What a simulated machine does when `mem` is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mem {
    /// It sleeps.
    #[default]
    Sleeps,
    /// It claims to have slept, like a machine whose wake-up line is stuck.
    ReturnsAtOnce,
    /// The kernel refuses (EBUSY).
    Refuses,
}

/// A simulated machine.
#[derive(Debug)]
pub struct SimulatedHost {
    state: Mutex<State>,
    asleep: watch::Sender<bool>,
}

#[derive(Debug)]
struct State {
    boot: u64,
    asleep: Duration,
    facts: Facts,
    mem: Mem,
    alarm: Option<Instant>,
    wakeups: u64,
    woken_early: bool,
    kubelet: Result<(), String>,
    sleeps: u32,
    power_offs: u32,
}

impl Default for SimulatedHost {
    fn default() -> Self {
        Self::new()
    }
}

impl SimulatedHost {
    /// A machine that can sleep, awake, with nothing on it.
    #[must_use]
    pub fn new() -> Self {
        let facts = Facts {
            states: vec!["freeze".into(), "mem".into()],
            mem_sleep: vec!["s2idle".into(), "deep".into()],
            pm_test: Some("none".into()),
            writable: true,
            alarm: Alarm::Armed,
            logind: true,
            ..Facts::default()
        };
        let state = State {
            boot: 1,
            asleep: Duration::ZERO,
            facts,
            mem: Mem::Sleeps,
            alarm: None,
            wakeups: 0,
            woken_early: false,
            kubelet: Ok(()),
            sleeps: 0,
            power_offs: 0,
        };
        Self { state: Mutex::new(state), asleep: watch::Sender::new(false) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Plain values are whole at any moment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What its agent finds.
    pub fn set_facts(&self, facts: Facts) {
        self.state().facts = facts;
    }

    /// What it does when told to sleep.
    pub fn set_mem(&self, mem: Mem) {
        self.state().mem = mem;
    }

    /// How its kubelet is.
    pub fn set_kubelet(&self, kubelet: Result<(), String>) {
        self.state().kubelet = kubelet;
    }

    /// Wakes it. One that is about to sleep takes it as a wake-up event and stays awake.
    pub fn wake(&self) {
        let mut state = self.state();
        state.wakeups += 1;
        state.woken_early = true;
        drop(state);
        self.asleep.send_replace(false);
    }

    /// It boots: another boot id, and nothing in memory. The agent on it must be dropped and started anew.
    pub fn boot(&self) {
        let mut state = self.state();
        (state.boot, state.asleep, state.alarm) = (state.boot + 1, Duration::ZERO, None);
        drop(state);
        self.asleep.send_replace(false);
    }

    /// Whether it sleeps or is off now; to be followed by whatever sleeps with it.
    #[must_use]
    pub fn is_asleep(&self) -> watch::Receiver<bool> {
        self.asleep.subscribe()
    }

    /// How often it fell asleep.
    #[must_use]
    pub fn sleeps(&self) -> u32 {
        self.state().sleeps
    }

    /// How often it was told to shut down.
    #[must_use]
    pub fn power_offs(&self) -> u32 {
        self.state().power_offs
    }

    /// Whether an alarm is set.
    #[must_use]
    pub fn has_alarm(&self) -> bool {
        self.state().alarm.is_some()
    }
}

/// What is asleep is awake again when this is dropped, be it that its agent was killed.
struct Asleep<'a> {
    host: &'a SimulatedHost,
    since: Instant,
}

impl Drop for Asleep<'_> {
    fn drop(&mut self) {
        self.host.state().asleep += self.since.elapsed();
        self.host.asleep.send_replace(false);
    }
}

impl Host for SimulatedHost {
    fn machine(&self) -> Result<Machine, HostError> {
        let state = self.state();
        Ok(Machine { boot_id: format!("boot-{}", state.boot), asleep: state.asleep })
    }

    fn facts(&self) -> Result<Facts, HostError> {
        Ok(self.state().facts.clone())
    }

    fn choose_deep(&self) -> Result<(), HostError> {
        Ok(())
    }

    fn set_alarm(&self, after: Duration) -> Result<(), HostError> {
        self.state().alarm = Some(Instant::now() + after);
        Ok(())
    }

    fn clear_alarm(&self) -> Result<bool, HostError> {
        Ok(self.state().alarm.take().is_none_or(|at| Instant::now() >= at))
    }

    async fn wakeup_count(&self) -> Result<u64, HostError> {
        Ok(self.state().wakeups)
    }

    fn confirm_wakeup_count(&self, count: u64) -> Result<bool, HostError> {
        let mut state = self.state();
        state.woken_early = false;
        Ok(state.wakeups == count)
    }

    async fn enter_mem(&self) -> Result<(), HostError> {
        let (mem, alarm) = {
            let mut state = self.state();
            if state.mem == Mem::Refuses || state.woken_early {
                let source = io::Error::from_raw_os_error(rustix::io::Errno::BUSY.raw_os_error());
                return Err(HostError::Write { path: PathBuf::from("/sys/power/state"), value: "mem".into(), source });
            }
            if state.mem == Mem::Sleeps {
                state.sleeps += 1;
            }
            (state.mem, state.alarm)
        };
        if mem == Mem::ReturnsAtOnce {
            return Ok(());
        }
        let mut woken = self.asleep.subscribe();
        self.asleep.send_replace(true);
        let _asleep = Asleep { host: self, since: Instant::now() };
        let gone_off = async {
            match alarm {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            // The sender lives as long as this machine.
            _ = woken.wait_for(|asleep| !asleep) => {}
            () = gone_off => {}
        }
        Ok(())
    }

    fn wake_source(&self) -> Option<String> {
        None
    }

    async fn power_off(&self) -> Result<(), HostError> {
        self.state().power_offs += 1;
        self.asleep.send_replace(true);
        Ok(())
    }

    async fn kubelet(&self) -> Result<(), String> {
        self.state().kubelet.clone()
    }
}
