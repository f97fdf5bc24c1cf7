//! The kernel and the initramfs that guests boot.

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A kernel and an initramfs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// A Linux kernel (bzImage) with a serial console built in.
    pub kernel: PathBuf,
    /// An initramfs whose `/init` is miyako-guest.
    pub initramfs: PathBuf,
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum NoImage {
    /// The script itself.
    #[error("running {}: {source}", script.display())]
    Script {
        /// Which.
        script: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
    /// The script said why on standard error.
    #[error("{} failed ({status}): see its messages above", script.display())]
    Failed {
        /// Which.
        script: PathBuf,
        /// How.
        status: std::process::ExitStatus,
    },
}

impl Image {
    /// Makes the image with `e2e/tools/guest`, unless it is made already (some twenty seconds the first time).
    ///
    /// # Errors
    /// When it can't be made; the script's messages go to standard error.
    pub fn make() -> Result<Self, NoImage> {
        let script = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tools/guest"));
        let output = Command::new(&script).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
        let output = match output {
            Ok(output) if output.status.success() => output,
            Ok(output) => return Err(NoImage::Failed { script, status: output.status }),
            Err(source) => return Err(NoImage::Script { script, source }),
        };
        let text = String::from_utf8_lossy(&output.stdout);
        let folder = PathBuf::from(text.lines().last().unwrap_or_default());
        Ok(Self { kernel: folder.join("kernel"), initramfs: folder.join("initramfs") })
    }
}
