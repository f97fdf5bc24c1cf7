//! Files of the kernel that are read every second.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

/// The kernel writes such a file record by record into a page (`fs/seq_file.c`), and no record of those that are read
/// here is half a page long. So a reading that leaves half a page was the last, and need not be asked whether it was.
const NEARLY_FULL: usize = 2048;

/// No file that is read here is longer; more is no file of the kernel.
const LONGEST: usize = 4 << 20;

/// A file that stays open between readings: looking its path up costs more than reading it.
#[derive(Debug)]
pub(super) struct KernelFile {
    path: PathBuf,
    file: File,
}

impl KernelFile {
    /// Opens it.
    ///
    /// # Errors
    /// Names the file.
    pub(super) fn open(path: impl Into<PathBuf>) -> Result<Self, FileError> {
        let path = path.into();
        match File::open(&path) {
            Ok(file) => Ok(Self { path, file }),
            Err(source) => Err(FileError { path, source }),
        }
    }

    /// Opens it if it is there: not every kernel has every file.
    ///
    /// # Errors
    /// When it is there and can't be opened.
    pub(super) fn open_if_there(path: impl Into<PathBuf>) -> Result<Option<Self>, FileError> {
        match Self::open(path) {
            Ok(file) => Ok(Some(file)),
            // PSI that is switched off says so when it is opened.
            Err(error) if error.vanished() || error.source.kind() == io::ErrorKind::Unsupported => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Its text from the beginning, as of now. `buffer` is where it is put.
    ///
    /// # Errors
    /// Names the file.
    pub(super) fn read<'b>(&self, buffer: &'b mut Buffer) -> Result<&'b str, FileError> {
        buffer.fill(&self.file).map_err(|source| FileError { path: self.path.clone(), source })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Memory for one file's text, used again for each.
#[derive(Debug, Default)]
pub(super) struct Buffer(Vec<u8>);

impl Buffer {
    fn fill(&mut self, file: &File) -> io::Result<&str> {
        if self.0.is_empty() {
            self.0.resize(4096, 0);
        }
        let mut length = 0;
        loop {
            if length == self.0.len() {
                if length >= LONGEST {
                    return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the file does not end"));
                }
                self.0.resize(2 * length, 0);
            }
            let offset = u64::try_from(length).map_err(io::Error::other)?;
            match file.read_at(&mut self.0[length..], offset) {
                Ok(read) => {
                    length += read;
                    if read < NEARLY_FULL && length < self.0.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        std::str::from_utf8(&self.0[..length]).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

/// A file that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("could not read {}: {source}", .path.display())]
pub struct FileError {
    /// Which.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// `ESRCH`: what reading a file of a process says after the process ended.
const NO_SUCH_PROCESS: i32 = 3;
/// `ENODEV`: what reading a file of a control group says after the group was removed.
const NO_SUCH_DEVICE: i32 = 19;

impl FileError {
    /// Whether what it belongs to is gone, which is the day's business.
    #[must_use]
    pub fn vanished(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
            || matches!(self.source.raw_os_error(), Some(NO_SUCH_PROCESS | NO_SUCH_DEVICE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_anew_each_time_whatever_its_length() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let mut buffer = Buffer::default();
        std::fs::write(&path, "long ".repeat(3000)).unwrap();
        let file = KernelFile::open(&path).unwrap();
        assert_eq!(file.read(&mut buffer).unwrap().len(), 15_000);
        std::fs::write(&path, "short").unwrap();
        assert_eq!(file.read(&mut buffer).unwrap(), "short");
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(!file.read(&mut buffer).unwrap_err().vanished());
    }

    #[test]
    fn what_is_not_there_is_told_apart_from_what_may_not_be_read() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("missing");
        let error = KernelFile::open(&missing).unwrap_err();
        assert!(error.vanished() && error.to_string().contains("missing"), "{error}");
        assert!(KernelFile::open_if_there(&missing).unwrap().is_none());
    }

    #[test]
    fn a_process_that_ended_vanished() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let file = KernelFile::open(format!("/proc/{}/schedstat", child.id())).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(file.read(&mut Buffer::default()).unwrap_err().vanished());
    }
}
