//! What can go wrong with the lab's nodes.

use std::io;
use std::path::PathBuf;
use std::process::Command;

/// Why a node is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// One of the system's tools refused.
    #[error("`{command}` failed: {message}")]
    Tool {
        /// The command line.
        command: String,
        /// What it said, or why it could not be started.
        message: String,
    },
    /// A file or folder could not be used.
    #[error("{what} {}: {source}", .path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A program could not be started or did not become ready.
    #[error("{0}")]
    Program(String),
    /// Every slot for a lab on this machine is in use.
    #[error("all {0} slots for labs on this machine are in use")]
    NoSlot(u8),
    /// This machine can't limit CPU.
    #[error("no usable cgroups: {0}")]
    NoCgroups(&'static str),
    /// A virt-handler's answer.
    #[error("the virt-handler of {node}: {message}")]
    Handler {
        /// On which node.
        node: String,
        /// What it said.
        message: String,
    },
}

impl NodeError {
    /// For `map_err` on what the file system says.
    pub(super) fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { what, path, source }
    }
}

/// Runs one of the system's tools to its end and returns what it printed.
///
/// # Errors
/// When it can't be started or fails.
pub(super) fn tool(program: &str, arguments: &[&str]) -> Result<String, NodeError> {
    let failed = |message: String| NodeError::Tool { command: format!("{program} {}", arguments.join(" ")), message };
    let output = Command::new(program).args(arguments).output().map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
