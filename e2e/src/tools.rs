//! The programs of the stand, built from their Go modules by `e2e/tools/build` into a folder outside the clone.

use anyhow::{Context as _, bail};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The folder with the built programs.
#[derive(Debug, Clone)]
pub struct Tools {
    folder: PathBuf,
}

impl Tools {
    /// Builds what is missing (some eleven minutes the first time, nothing afterwards) and passes the progress on to
    /// standard error.
    ///
    /// # Errors
    /// When the build fails, for example because Go is not installed; the build says what is wrong.
    pub fn build() -> anyhow::Result<Self> {
        let script = workspace_root().join("e2e/tools/build");
        let mut build = Command::new(&script)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {}", script.display()))?;
        let mut last = String::new();
        if let Some(output) = build.stdout.take() {
            for line in BufReader::new(output).lines() {
                last = line.context("reading the build's progress")?;
                eprintln!("tools: {last}");
            }
        }
        let status = build.wait().context("waiting for the build")?;
        if !status.success() {
            bail!("{} failed ({status}): see its messages above", script.display());
        }
        Ok(Self { folder: PathBuf::from(last) })
    }

    /// The path of one program, or of `stages.yaml`, kwok's description of a kubelet.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// The root of the clone.
#[must_use]
pub fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(|| PathBuf::from(".."), Path::to_path_buf)
}

/// Material that lies beside the clone and is not ours to copy, such as KubeVirt's CRDs: `../shared`, or
/// `MIYAKO_SHARED`.
#[must_use]
pub fn shared(path: &str) -> PathBuf {
    let folder = std::env::var_os("MIYAKO_SHARED").map_or_else(|| workspace_root().join("../shared"), PathBuf::from);
    folder.join(path)
}
