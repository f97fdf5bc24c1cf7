//! Page cache teleportation, as Akiyama models it (thesis, section 5.3.5): in the first round a share P of the memory is
//! read from the shared storage, and the rest is sent, at the same time.

use super::energy::WiredEnergy;
use super::input::{CostError, Guest, Rate, positive, within};
use super::precopy::{Course, PreCopy};
use super::rounds::First;
use crate::model::{Bytes, BytesPerSecond, Joules};

/// A migration by teleportation, foretold.
#[derive(Debug, Clone, PartialEq)]
pub struct TeleportCourse {
    /// Its rounds. The traffic is that of the migration network.
    pub course: Course,
    /// What was read over the storage network.
    pub read: Bytes,
}

impl TeleportCourse {
    /// What it draws: as much as if all had been sent. The thesis' energy model: teleportation moves a part of the traffic
    /// to another network and takes nothing of it away.
    #[must_use]
    pub fn energy(&self, model: &WiredEnergy) -> Joules {
        model.of(self.course.cost.traffic + self.read)
    }
}

/// P as the adaptive transfer finds it: both networks are busy to the end, so each carries according to its speed, but
/// storage no more than the page cache that can be restored from it (a share of the memory).
///
/// # Errors
/// A network that carries nothing, or a share that is not from 0 to 1.
pub fn adaptive_share(network: BytesPerSecond, storage: BytesPerSecond, restorable: f64) -> Result<f64, CostError> {
    let restorable = within("restorable share", restorable, 0.0, 1.0)?;
    let network = positive("transmission rate", network.value())?;
    let storage = positive("storage rate", storage.value())?;
    Ok((storage / (network + storage)).min(restorable))
}

/// What a migration comes to that reads a share P of the memory over the storage network. Where the speed of storage is
/// known the first round takes at least as long as reading; the thesis leaves that to the choice of P.
///
/// # Errors
/// A share that is not from 0 to 1, storage that carries nothing, and those of [`PreCopy::foretell`].
pub fn foretell_teleport(
    model: &PreCopy,
    guest: &Guest,
    rate: &Rate,
    share: f64,
    storage: Option<BytesPerSecond>,
) -> Result<TeleportCourse, CostError> {
    let share = within("teleported share", share, 0.0, 1.0)?;
    let memory = guest.memory().0 as f64;
    let read = memory * share;
    let least = match storage {
        Some(storage) => read / positive("storage rate", storage.value())?,
        None => 0.0,
    };
    let course = model.foretell_from(guest, rate, &[], First { volume: memory - read, least })?;
    Ok(TeleportCourse { course, read: Bytes::nearest(read) })
}
