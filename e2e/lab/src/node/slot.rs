//! Which lab on this machine is which.
//!
//! Everything of a lab that outlives a process – network namespaces, links, cgroups – carries the number of the lab's
//! slot. A slot is held by a file lock, which the kernel lets go of when its holder dies, however it dies. So whoever
//! can lock a slot knows that what still carries its number is left over, and removes it before anything else. Process
//! ids would not do: they are used again.

use super::cgroups::Cgroups;
use super::error::NodeError;
use super::network;
use std::fs::{self, File, TryLockError};
use std::io::{Seek as _, Write as _};
use std::path::{Path, PathBuf};

/// Where the lock files are; they are empty but for their last holder's process id, and stay.
const FOLDER: &str = "/run/miyako-lab";
/// More labs than one machine has cores for. A slot's number is also part of its network's address.
const SLOTS: u8 = 64;

/// A lab's place on this machine, until it is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    number: u8,
    _lock: File,
}

impl Slot {
    /// Takes the first free slot. Whatever earlier labs left on this machine is removed.
    ///
    /// # Errors
    /// When there is none, or leftovers can't be removed.
    pub(super) fn take() -> Result<Self, NodeError> {
        sweep_all()?;
        for number in 0..SLOTS {
            if let Some(mut lock) = lock(number)? {
                let told = lock.set_len(0).and_then(|()| lock.rewind());
                told.and_then(|()| writeln!(lock, "{}", std::process::id()))
                    .map_err(NodeError::file("writing", path(number)))?;
                return Ok(Self { number, _lock: lock });
            }
        }
        Err(NodeError::NoSlot(SLOTS))
    }

    /// Its number.
    pub(super) fn number(&self) -> u8 {
        self.number
    }
}

/// Removes what dead labs left: processes, cgroups, network namespaces and links.
///
/// # Errors
/// When something can't be removed.
pub fn sweep_all() -> Result<(), NodeError> {
    fs::create_dir_all(FOLDER).map_err(NodeError::file("creating", FOLDER))?;
    for number in 0..SLOTS {
        if !path(number).exists() {
            continue;
        }
        if let Some(_lock) = lock(number)? {
            sweep(number)?;
        }
    }
    Ok(())
}

/// Removes everything that carries a slot's number. Its processes go first: they hold the rest.
pub(super) fn sweep(number: u8) -> Result<(), NodeError> {
    Cgroups::find()?.group(&cgroup_name(number)).remove()?;
    network::remove(number)
}

/// The name of a lab's cgroups.
pub(super) fn cgroup_name(number: u8) -> String {
    format!("miyako-lab-{number}")
}

fn path(number: u8) -> PathBuf {
    Path::new(FOLDER).join(format!("slot-{number}"))
}

fn lock(number: u8) -> Result<Option<File>, NodeError> {
    let path = path(number);
    let file = File::options().create(true).read(true).write(true).truncate(false).open(&path);
    let file = file.map_err(NodeError::file("opening", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(NodeError::File { what: "locking", path, source }),
    }
}
