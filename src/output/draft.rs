//! A file that is not in its place yet: a reader, also one after a crash, sees all of it or none of it.

#[cfg(feature = "h5ad")]
use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::{Error, Result};
use crate::files::{reason, sync_dir, temporary_in};

/// Bytes that are held back before they are written.
const BUFFER: usize = 1 << 18;

/// A temporary file beside its target. Dropped without [`Draft::publish`], it goes away.
#[derive(Debug)]
pub(super) struct Draft {
    temporary: NamedTempFile,
    /// Where it goes: the path itself, or what it is a link to.
    target: PathBuf,
    /// The path as the user gave it.
    path: PathBuf,
}

impl Draft {
    /// Makes an empty file beside `path`.
    pub(super) fn beside(path: &Path) -> Result<Self> {
        if path.metadata().is_ok_and(|found| !found.is_file()) {
            return Err(Error::output(path, "this is no regular file; name a file"));
        }
        let target = path.canonicalize().unwrap_or_else(|_| path.to_owned()); // fails where there is nothing yet
        let temporary = temporary_in(folder(&target)).map_err(|error| {
            let reason = reason(&error);
            Error::output(path, format!("cannot write in its directory: {reason}; name another place"))
        })?;
        Ok(Self { temporary, target, path: path.to_owned() })
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
        self.temporary.path()
    }

    /// Copies all of `from` into it. Returns the number of bytes.
    #[cfg(feature = "h5ad")]
    pub(super) fn fill(&mut self, from: &mut File) -> io::Result<u64> {
        io::copy(from, self.temporary.as_file_mut())
    }

    /// Syncs it, without a rename.
    pub(super) fn sync(&self) -> Result<()> {
        self.temporary.as_file().sync_all().map_err(|error| failed(&self.path, &error))
    }

    /// Syncs it, renames it, and syncs the rename. Returns the path.
    pub(super) fn publish(self) -> Result<PathBuf> {
        self.sync()?;
        let Self { temporary, target, path } = self;
        temporary.persist(&target).map_err(|error| failed(&path, &error.error))?;
        sync_dir(folder(&target)).map_err(|error| failed(&path, &error))?;
        Ok(path)
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.temporary.as_file_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.temporary.as_file_mut().flush()
    }
}

impl Seek for Draft {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.temporary.as_file_mut().seek(to)
    }
}

/// The error of a write to `path`.
pub(super) fn failed(path: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::output(path, format!("cannot be written: {error}"))
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
