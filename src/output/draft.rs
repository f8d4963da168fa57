//! A table that is not in its place yet: [`files::Draft`] with the messages of this module.

#[cfg(feature = "h5ad")]
use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::files::{self, reason};

/// Bytes that are held back before they are written.
const BUFFER: usize = 1 << 18;

/// A table that is not in its place yet. Dropped without [`Draft::publish`], it goes away.
#[derive(Debug)]
pub(super) struct Draft {
    draft: files::Draft,
    /// The path as the user gave it.
    path: PathBuf,
}

impl Draft {
    /// Makes an empty file beside `path`, or beside what it is a link to.
    pub(super) fn beside(path: &Path) -> Result<Self> {
        if path.metadata().is_ok_and(|found| !found.is_file()) {
            return Err(Error::output(path, "this is no regular file; name a file"));
        }
        let target = path.canonicalize().unwrap_or_else(|_| path.to_owned()); // fails where there is nothing yet
        let draft = files::Draft::beside(&target).map_err(|error| {
            let reason = reason(&error);
            Error::output(path, format!("cannot write in its directory: {reason}; name another place"))
        })?;
        Ok(Self { draft, path: path.to_owned() })
    }

    /// Makes an empty file beside `path`, and buffers what is written.
    pub(super) fn buffered(path: &Path) -> Result<BufWriter<Self>> {
        Ok(BufWriter::with_capacity(BUFFER, Self::beside(path)?))
    }

    /// The draft behind a buffer, once everything is written.
    pub(super) fn unbuffered(buffer: BufWriter<Self>) -> Result<Self> {
        let path = buffer.get_ref().path.clone();
        buffer.into_inner().map_err(|error| failed(&path, error.error()))
    }

    /// Where it is for now.
    #[cfg(feature = "h5ad")]
    pub(super) fn place(&self) -> &Path {
        self.draft.place()
    }

    /// Copies all of `from` into it. Returns the number of bytes.
    #[cfg(feature = "h5ad")]
    pub(super) fn fill(&mut self, from: &mut File) -> io::Result<u64> {
        io::copy(from, self.draft.file_mut())
    }

    /// Syncs it.
    pub(super) fn sync(&self) -> Result<()> {
        self.draft.sync().map_err(|error| failed(&self.path, &error))
    }

    /// Renames it, once it is synced, and syncs the rename. Returns the path.
    pub(super) fn place_synced(self) -> Result<PathBuf> {
        self.draft.publish().map_err(|error| failed(&self.path, &error))?;
        Ok(self.path)
    }

    /// Both.
    pub(super) fn publish(self) -> Result<PathBuf> {
        self.sync()?;
        self.place_synced()
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.draft.file_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.draft.file_mut().flush()
    }
}

impl Seek for Draft {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.draft.file_mut().seek(to)
    }
}

/// The error of a write to `path`.
pub(super) fn failed(path: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::output(path, format!("cannot be written: {error}"))
}
