//! Small files of the kernel, below a root.

use crate::power::host::HostError;
use std::{
    fs,
    path::{Path, PathBuf},
};

#[derive(Debug, Clone)]
pub(super) struct Files {
    root: PathBuf,
}

impl Files {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub(super) fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    /// The text without the spaces around it.
    pub(super) fn read(&self, below: &str) -> Result<String, HostError> {
        let path = self.path(below);
        match fs::read(&path) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).trim().to_owned()),
            Err(source) => Err(HostError::Read { path, source }),
        }
    }

    /// The text, if there is any to be read.
    pub(super) fn optional(&self, below: &str) -> Option<String> {
        self.read(below).ok()
    }

    /// The words of a file; none when there is no such file.
    pub(super) fn words(&self, below: &str) -> Vec<String> {
        self.optional(below).unwrap_or_default().split_whitespace().map(ToOwned::to_owned).collect()
    }

    pub(super) fn number(&self, below: &str) -> Result<u64, HostError> {
        let text = self.read(below)?;
        let wrong = |_| HostError::Unexpected {
            path: self.path(below),
            found: text.chars().take(64).collect(),
            expected: "a number".into(),
        };
        text.parse().map_err(wrong)
    }

    /// One write of the whole value, as sysfs wants it.
    pub(super) fn write(&self, below: &str, value: &str) -> Result<(), HostError> {
        let path = self.path(below);
        // Never created: a file of the kernel that is missing stays missing.
        let written = fs::OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(&path)
            .and_then(|mut file| std::io::Write::write_all(&mut file, value.as_bytes()));
        written.map_err(|source| HostError::Write { path, value: value.to_owned(), source })
    }

    /// The names in a folder, in order; none when there is no such folder.
    pub(super) fn names(&self, below: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(below)) else { return Vec::new() };
        let mut names: Vec<_> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    pub(super) fn exists(&self, below: impl AsRef<Path>) -> bool {
        self.root.join(below).exists()
    }
}
