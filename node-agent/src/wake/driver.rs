//! What every driver can do, in plain values.

use super::{DriverError, protocol_name};
use futures::future::BoxFuture;
use miyako_api::node_power_class::WakeProtocol;
use std::fmt;

/// How a machine's power is, as far as its BMC can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PowerState {
    /// Running.
    On,
    /// Suspended to RAM: ACPI S3 (or S1 and S2, which keep memory as well).
    Sleeping,
    /// Powered, the operating system in its low-power idle (S0ix, "modern standby"). Not S3: it is told apart because
    /// a power-on request does nothing to it.
    Standby,
    /// Between off and on; ask again.
    Starting,
    /// Off, or hibernated to disk.
    Off,
    /// The BMC doesn't say.
    Unknown,
}

impl fmt::Display for PowerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::On => "on",
            Self::Sleeping => "asleep",
            Self::Standby => "in modern standby",
            Self::Starting => "starting",
            Self::Off => "off",
            Self::Unknown => "unknown",
        })
    }
}

/// A power state and what it was concluded from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The state.
    pub state: PowerState,
    /// Whether `On` excludes that the machine sleeps. Many BMCs know only whether the main power is on, and what they
    /// say of a machine in S3 is their vendor's choice.
    pub excludes_sleep: bool,
    /// The BMC's own words, such as `PowerState 4`.
    pub evidence: String,
}

impl Reading {
    /// A reading by a BMC that tells sleep apart from running.
    #[must_use]
    pub fn sure(state: PowerState, evidence: impl Into<String>) -> Self {
        Self { state, excludes_sleep: true, evidence: evidence.into() }
    }

    /// A reading by a BMC that knows only of the main power.
    #[must_use]
    pub fn main_power(state: PowerState, evidence: impl Into<String>) -> Self {
        Self { state, excludes_sleep: false, evidence: evidence.into() }
    }
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.state, self.evidence)?;
        if self.state == PowerState::On && !self.excludes_sleep {
            f.write_str(", which need not exclude that it sleeps")?;
        }
        Ok(())
    }
}

/// What a machine draws, as measured by its BMC.
#[derive(Debug, Clone, PartialEq)]
pub struct WattsReading {
    /// Watts, never negative.
    pub watts: f64,
    /// Where the figure stands, such as `Power PowerControl[0].PowerConsumedWatts`.
    pub evidence: String,
}

/// One way to ask for and change the power of one machine.
///
/// No call may lose what is in a machine's memory: no driver resets, cycles or forces off. [`Careful`](super::Careful)
/// gives every call its deadline and allows one at a time.
pub trait Driver: Send + Sync {
    /// The protocol it speaks.
    fn protocol(&self) -> WakeProtocol;

    /// Where it speaks to, for messages.
    fn address(&self) -> &str;

    /// Whether [`read`](Self::read) can ever answer anything but [`PowerState::Unknown`].
    fn can_read(&self) -> bool {
        true
    }

    /// Asks how the machine is.
    fn read(&self) -> BoxFuture<'_, Result<Reading, DriverError>>;

    /// Wakes a machine that is known to be asleep. A success says that the request was taken, not that the machine
    /// is awake.
    fn wake(&self) -> BoxFuture<'_, Result<(), DriverError>>;

    /// Turns on a machine that is off; as [`wake`](Self::wake) otherwise.
    fn power_on(&self) -> BoxFuture<'_, Result<(), DriverError>>;

    /// Whether the machine is off without doubt, after an orderly shutdown.
    ///
    /// # Errors
    ///
    /// [`DriverError::NotOff`] with what the BMC says instead.
    fn verify_off(&self) -> BoxFuture<'_, Result<Reading, DriverError>> {
        Box::pin(async {
            let reading = self.read().await?;
            if reading.state == PowerState::Off { Ok(reading) } else { Err(DriverError::NotOff(reading.to_string())) }
        })
    }

    /// Asks what the machine draws.
    fn watts(&self) -> BoxFuture<'_, Result<WattsReading, DriverError>> {
        let protocol = protocol_name(self.protocol());
        Box::pin(async move { Err(DriverError::NotSupported(format!("{protocol} has no power readings"))) })
    }
}
