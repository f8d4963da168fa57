//! The file that a download arrives in.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::wanted::Wanted;
use crate::backend::locked_file::{is_at, open_locked, Opened};
use crate::error::{Error, Result};

/// A `.part` that no other process writes to while it is open.
pub(super) struct Part {
    file: File,
    path: PathBuf,
}

impl Part {
    /// Opens `path`, with what an earlier download has left there; `None` if another process downloads into it.
    pub(super) fn open(path: &Path) -> Result<Option<Self>> {
        match open_locked(path) {
            Ok(Opened::Locked(file)) => Ok(Some(Self { file, path: path.to_owned() })),
            Ok(Opened::Busy(_)) => Ok(None),
            Err(e) => Err(Error::output(path, format!("cannot be written: {e}"))),
        }
    }

    /// Bytes so far.
    pub(super) fn len(&self) -> Result<u64> {
        Ok(self.file.metadata().map_err(|e| self.unwritable(e))?.len())
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.file.seek(SeekFrom::End(0)).and_then(|_| self.file.write_all(bytes));
        written.map_err(|e| self.unwritable(e))
    }

    /// Throws away what has arrived.
    pub(super) fn clear(&mut self) -> Result<()> {
        self.file.set_len(0).map_err(|e| self.unwritable(e))
    }

    /// Whether it is the whole of `file`; else what is wrong.
    pub(super) fn verify(&self, file: &Wanted) -> Result<(), String> {
        file.verify(&self.file)
    }

    /// Gives it its final name.
    pub(super) fn put_in_place(self, target: &Path) -> Result<()> {
        self.file.sync_all().map_err(|e| self.unwritable(e))?;
        fs::rename(&self.path, target)
            .map_err(|e| Error::output(target, format!("cannot be put in place of {}: {e}", self.path.display())))
    }

    fn unwritable(&self, e: io::Error) -> Error {
        Error::output(&self.path, format!("cannot be written: {e}"))
    }
}

impl Drop for Part {
    /// An empty `.part` is of no use to the next run.
    fn drop(&mut self) {
        if matches!(self.len(), Ok(0)) && is_at(&self.file, &self.path) {
            if let Err(e) = fs::remove_file(&self.path) {
                tracing::debug!("{}: cannot be removed: {e}", self.path.display());
            }
        }
    }
}
