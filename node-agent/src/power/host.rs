//! The machine, behind one trait: [`super::LinuxHost`] is the real one, [`super::SimulatedHost`] one for tests and
//! simulations.

use super::preflight::Facts;
use std::{collections::BTreeMap, future::Future, io, path::PathBuf, time::Duration};

/// Which run of which machine this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// The kernel's boot id: another one means a cold boot.
    pub boot_id: String,
    /// How long it slept in all since it booted: CLOCK_BOOTTIME counts sleep, CLOCK_MONOTONIC does not
    /// (clock_gettime(2)).
    pub asleep: Duration,
}

/// What a machine can be asked for. The order of calls is the business of [`super::sleep::sleep`].
pub trait Host: Send + Sync + 'static {
    /// Which run of which machine this is.
    ///
    /// # Errors
    /// When the kernel does not say.
    fn machine(&self) -> Result<Machine, HostError>;

    /// What might keep it from suspending. What is missing is a fact too and no error.
    ///
    /// # Errors
    /// When the list of processes can't be read: no VM seen would be no proof.
    fn facts(&self) -> Result<Facts, HostError>;

    /// Lets `mem` mean S3, and checks it.
    ///
    /// # Errors
    /// When it does not stick.
    fn choose_deep(&self) -> Result<(), HostError>;

    /// Sets the machine's clock to wake it after `after`, and reads the alarm back.
    ///
    /// # Errors
    /// When the clock does not take it.
    fn set_alarm(&self, after: Duration) -> Result<(), HostError>;

    /// Takes the alarm back. True when it has gone off.
    ///
    /// # Errors
    /// When the clock can't be read or written.
    fn clear_alarm(&self) -> Result<bool, HostError>;

    /// The number of wake-up events so far. Waits while one is being handled, but not for ever.
    fn wakeup_count(&self) -> impl Future<Output = Result<u64, HostError>> + Send;

    /// Lets the next suspend fail if a wake-up event comes after `count`. False when one has come already.
    ///
    /// # Errors
    /// When the kernel refuses for another reason.
    fn confirm_wakeup_count(&self, count: u64) -> Result<bool, HostError>;

    /// Suspends to RAM. Returns after the resume, or at once; a success does not prove that the machine slept.
    fn enter_mem(&self) -> impl Future<Output = Result<(), HostError>> + Send;

    /// What the kernel knows of the interrupt that ended the last sleep.
    fn wake_source(&self) -> Option<String>;

    /// How many events each device that may wake the machine has reported, by its name in the kernel.
    fn wakeup_events(&self) -> BTreeMap<String, u64> {
        BTreeMap::new()
    }

    /// Begins an orderly shutdown. Returns when it has begun.
    fn power_off(&self) -> impl Future<Output = Result<(), HostError>> + Send;

    /// Whether the kubelet is healthy; else why not.
    fn kubelet(&self) -> impl Future<Output = Result<(), String>> + Send;
}

/// The machine refused.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// A file can't be read.
    #[error("could not read {}", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file can't be written.
    #[error("could not write {value:?} to {}", .path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// What.
        value: String,
        /// Why.
        source: io::Error,
    },
    /// A file says something else than it should.
    #[error("{} says {found:?}, expected {expected}", .path.display())]
    Unexpected {
        /// Which.
        path: PathBuf,
        /// What it says.
        found: String,
        /// What it should say.
        expected: String,
    },
    /// It did not answer in time.
    #[error("{what} did not end within {} s", .limit.as_secs())]
    TimedOut {
        /// What.
        what: &'static str,
        /// How long it may take.
        limit: Duration,
    },
    /// The system's service manager refused.
    #[error("{0}")]
    Shutdown(String),
}

impl HostError {
    /// The error with its causes, on one line.
    #[must_use]
    pub fn in_full(&self) -> String {
        match std::error::Error::source(self) {
            Some(source) => format!("{self}: {source}"),
            None => self.to_string(),
        }
    }
}
