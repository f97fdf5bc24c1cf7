//! A certificate that somebody else renews: a Secret of cert-manager's, mounted as files.

use super::presented::{Presented, PresentedError};
use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::time::sleep;

/// How often the files are read again. Kubelets need about a minute to bring a change.
const READ_INTERVAL: Duration = Duration::from_secs(60);

/// Why the mounted certificate can't be used.
#[derive(Debug, thiserror::Error)]
pub enum MountedError {
    /// A file could not be read.
    #[error("could not read {}: {source}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The files' content can't be used.
    #[error("the certificate in {} can't be used: {source}", .directory.display())]
    Content {
        /// Where.
        directory: PathBuf,
        /// Why.
        source: PresentedError,
    },
}

/// Shows `tls.crt` and `tls.key` of `directory`, as they are now.
///
/// # Errors
/// When they can't be read or used; what was shown before stays.
pub async fn show(directory: &Path, presented: &Presented) -> Result<(), MountedError> {
    let read = async |file: &str| {
        let path = directory.join(file);
        tokio::fs::read(&path).await.map_err(|source| MountedError::File { path, source })
    };
    let (certificate, key) = (read("tls.crt").await?, read("tls.key").await?);
    presented
        .show(&certificate, &key)
        .map_err(|source| MountedError::Content { directory: directory.to_owned(), source })
}

/// Shows the files of `directory` and follows their changes, for ever.
pub async fn follow(directory: PathBuf, presented: Presented) {
    let mut last_error = None;
    loop {
        let error = show(&directory, &presented).await.err().map(|error| error.to_string());
        if let Some(text) = error.as_ref().filter(|_| error != last_error) {
            tracing::error!(error = text, "agents see the certificate from before");
        }
        last_error = error;
        sleep(READ_INTERVAL).await;
    }
}
