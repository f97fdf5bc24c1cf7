//! A running QEMU.

use super::process::Process;
use super::qmp::{Qmp, QmpError};
use super::spec::{BadSpec, Spec};
use serde_json::json;
use std::fs::File;
use std::io;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long QEMU may take until it listens. It takes a tenth of a second; the node may be slowed down.
const LISTENS_WITHIN: Duration = Duration::from_secs(60);

/// Why a QEMU did not come up.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The spec can't work.
    #[error(transparent)]
    Spec(#[from] BadSpec),
    /// Its folder, or the program itself.
    #[error("starting QEMU for {name}: {source} (is the package qemu-system-x86 installed?)")]
    Start {
        /// The VM.
        name: String,
        /// What went wrong.
        source: io::Error,
    },
    /// It ended, for example because its arguments are wrong.
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
    process: Process,
    qmp: Qmp,
}

impl Machine {
    /// Starts QEMU and connects to it. A VM that is not `incoming` boots at once.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn launch(spec: Spec) -> Result<Self, LaunchError> {
        let mut command = spec.command()?;
        let name = || spec.name.clone();
        let start = |source| LaunchError::Start { name: spec.name.clone(), source };
        std::fs::create_dir_all(&spec.folder).map_err(start)?;
        for socket in [spec.qmp_socket(), spec.guest_socket()] {
            // An earlier QEMU's, perhaps killed.
            remove(&socket).map_err(start)?;
        }
        let log = File::create(spec.log()).map_err(start)?;
        command.stdout(log.try_clone().map_err(start)?).stderr(log);
        let process = Process::start(command).map_err(start)?;
        let begin = Instant::now();
        loop {
            match Qmp::connect(&spec.qmp_socket()).await {
                Ok(Ok(qmp)) => return Ok(Self { spec, process, qmp }),
                // It ended while it greeted; the process will say so.
                Ok(Err(QmpError::Gone)) | Err(_) => {}
                Ok(Err(source)) => return Err(LaunchError::Qmp { name: name(), source }),
            }
            let log = || last_words(&spec.log());
            if let Some(status) = process.ended() {
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
    pub fn process(&self) -> &Process {
        &self.process
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

    /// The last lines that QEMU itself printed.
    #[must_use]
    pub fn last_words(&self) -> String {
        last_words(&self.spec.log())
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The last lines of a log, or why there are none.
fn last_words(path: &Path) -> String {
    let text = match std::fs::read(path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => return format!("(no log: {error})"),
    };
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}
