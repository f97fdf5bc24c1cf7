//! A running QEMU.

use super::qmp::{Qmp, QmpError, Version};
use super::spec::{BadSpec, Spec};
use crate::child::Child;
use serde_json::json;
use std::io;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long QEMU may take until it listens. It takes a tenth of a second; the node may be slowed down.
const LISTENS_WITHIN: Duration = Duration::from_secs(60);

/// The oldest major version that will do. Without KVM, QEMU finds out by its own translation buffer which pages a guest
/// writes; until 9.0 ("physmem: Fix migration dirty bitmap coherency with TCG memory access") it forgot to watch some
/// again after a round, and about one hop in twenty of a busy guest broke it.
pub const OLDEST: u32 = 9;

/// How many lines of QEMU's own an error repeats.
const LAST_WORDS: usize = 10;

/// Why a QEMU did not come up.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The spec can't work.
    #[error(transparent)]
    Spec(#[from] BadSpec),
    /// Its folder.
    #[error("the folder of {name}: {source}")]
    Folder {
        /// The VM.
        name: String,
        /// What went wrong.
        source: io::Error,
    },
    /// The program in front of QEMU.
    #[error("starting QEMU for {name}: {reason}")]
    Start {
        /// The VM.
        name: String,
        /// What went wrong.
        reason: String,
    },
    /// It ended, for example because it is not installed (e2e/tools/apt does that), or its arguments are wrong.
    #[error("QEMU of {name} ended at once ({status}): {log}")]
    Ended {
        /// The VM.
        name: String,
        /// How.
        status: ExitStatus,
        /// Its last words.
        log: String,
    },
    /// It does not listen.
    #[error("QEMU of {name} did not listen within {} s: {log}", LISTENS_WITHIN.as_secs())]
    Deaf {
        /// The VM.
        name: String,
        /// Its last words.
        log: String,
    },
    /// It is older than [`OLDEST`].
    #[error(
        "QEMU {major}.{minor} is too old: before {OLDEST}.0 it loses writes of an emulated guest that migrates; \
         e2e/tools/apt installs a newer one"
    )]
    Old {
        /// Its version.
        major: u32,
        /// And minor version.
        minor: u32,
    },
    /// It listens, and does not speak QMP.
    #[error("QEMU of {name}: {source}")]
    Qmp {
        /// The VM.
        name: String,
        /// What went wrong.
        source: QmpError,
    },
}

/// A QEMU that was started here. Dropping it kills it.
#[derive(Debug)]
pub struct Machine {
    spec: Spec,
    process: Child,
    qmp: Qmp,
}

impl Machine {
    /// Starts QEMU and connects to it. A VM that is not `incoming` boots at once.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn launch(spec: Spec) -> Result<Self, LaunchError> {
        let program = spec.program()?;
        let name = || spec.name.clone();
        let folder = |source| LaunchError::Folder { name: spec.name.clone(), source };
        std::fs::create_dir_all(&spec.folder).map_err(folder)?;
        for socket in [spec.qmp_socket(), spec.guest_socket()] {
            // An earlier QEMU's, perhaps killed.
            remove(&socket).map_err(folder)?;
        }
        let process = program.start(&spec.folder);
        let process = process.map_err(|error| LaunchError::Start { name: name(), reason: format!("{error:#}") })?;
        let begin = Instant::now();
        loop {
            match Qmp::connect(&spec.qmp_socket()).await {
                Ok(Ok(qmp)) => {
                    let Version { major, minor, .. } = qmp.version();
                    if major < OLDEST {
                        return Err(LaunchError::Old { major, minor });
                    }
                    return Ok(Self { spec, process, qmp });
                }
                // It ended while it greeted; the process will say so.
                Ok(Err(QmpError::Gone)) | Err(_) => {}
                Ok(Err(source)) => return Err(LaunchError::Qmp { name: name(), source }),
            }
            let log = || process.tail(LAST_WORDS);
            if let Ok(Some(status)) = process.ended() {
                return Err(LaunchError::Ended { name: name(), status, log: log() });
            }
            if begin.elapsed() > LISTENS_WITHIN {
                return Err(LaunchError::Deaf { name: name(), log: log() });
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// What it was made from.
    #[must_use]
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Its process: the id, whether it ended, and ways to freeze or kill it.
    #[must_use]
    pub fn process(&self) -> &Child {
        &self.process
    }

    /// Waits until the process has ended, by itself or killed.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub async fn ended(&self) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.process.ended()? {
                return Ok(status);
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Its control connection.
    #[must_use]
    pub fn qmp(&self) -> &Qmp {
        &self.qmp
    }

    /// Whether its virtual CPUs run (`query-status`).
    ///
    /// # Errors
    /// When QEMU is gone or stands still.
    pub async fn is_running(&self) -> Result<bool, QmpError> {
        Ok(self.qmp.execute("query-status", json!({})).await?["running"] == true)
    }

    /// Pauses the guest.
    ///
    /// # Errors
    /// When QEMU refuses, is gone or stands still.
    pub async fn pause(&self) -> Result<(), QmpError> {
        self.qmp.execute("stop", json!({})).await.map(drop)
    }

    /// Lets the guest run on.
    ///
    /// # Errors
    /// When QEMU refuses, is gone or stands still.
    pub async fn resume(&self) -> Result<(), QmpError> {
        self.qmp.execute("cont", json!({})).await.map(drop)
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
